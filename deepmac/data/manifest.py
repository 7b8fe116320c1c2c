"""What a directory of records or predictions says of itself, and where it says so."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import orjson

from deepmac.data.files import exists, join, read_file, reading
from deepmac.data.json_shape import misfit
from deepmac.errors import DataError
from deepmac.text import short

JOB = "job.json"  # which job this is, and its plan
MANIFEST = "manifest.json"  # what the directory holds; there when it is complete
COMMITS = "units"  # folder of commit records, one for each unit that is done
DEAD_LETTERS = "dead_letters.jsonl"
RUNS = "run.json"  # facts of each run
PLAN = "plan"  # folder of what each unit needs, until the job has finished
IN_FLIGHT = "in_flight"  # folder of marks: who does which unit, until it is done


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of directory that a job makes.

    Attributes:
        name: of the kind, in the manifest.
        schema: version of the manifest.
        command: that makes such directories.
        files: the manifest's list of data files.
        counts: what an entry of that list counts -> its name among the counts of the unit.
        keys: what else the manifest must have; see `deepmac.data.json_shape`.
        ending: of the data files' names, behind that of the unit.
        exports: further files that the command makes on request.
    """

    name: str
    schema: int
    command: str
    files: str
    counts: Mapping[str, str]
    keys: Mapping[str, Any]
    ending: str
    exports: tuple[str, ...] = ()

    def head(self) -> dict[str, Any]:
        """The beginning of a manifest."""
        return {"kind": self.name, "schema": self.schema}

    def entry(
        self, name: str, num_bytes: int, sha256: str, counts: Mapping[str, int]
    ) -> dict[str, Any]:
        """A data file in the manifest; `counts` are those of its unit."""
        numbers = {key: counts.get(of_unit, 0) for key, of_unit in self.counts.items()}
        return {"name": name, "bytes": num_bytes, "sha256": sha256, **numbers}

    def read(self, folder: str) -> dict[str, Any]:
        """The manifest of a directory.

        Raises:
            DataError: the job has not finished, the directory holds something else, or the
                manifest is damaged.
        """
        path = join(folder, MANIFEST)
        data = read_file(path)
        if data is None:
            raise DataError(
                unfinished(folder)
                or f"{folder}: no {MANIFEST}, so this is no directory of {self.name}"
            )
        return self.parse(data, path)

    def parse(self, data: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
        """The manifest in the bytes of a file.

        Args:
            data: of the file.
            path: of the file, for errors.

        Raises:
            DataError: it is that of something else, or damaged.
        """
        try:
            manifest = orjson.loads(data)
        except orjson.JSONDecodeError as e:
            raise DataError(f"{path}: not valid JSON: {e}") from None
        found = manifest.get("kind") if isinstance(manifest, dict) else None
        if found != self.name:
            is_other = isinstance(found, str) and found in [
                k.name for k in OF_JOB.values()
            ]
            what = f"a directory of {found}" if is_other else "no manifest of ours"
            raise DataError(
                f"{path}: this is {what}; {self.name} (`{self.command}`) are needed"
            )
        if manifest.get("schema") != self.schema:
            raise DataError(
                f"{path}: schema {short(manifest.get('schema'))}, this version reads {self.schema}"
            )
        if wrong := self._misfit(manifest):
            raise DataError(
                f"{path}: damaged, {wrong}; run the same `{self.command}` command again"
            )
        return manifest

    def _misfit(self, manifest: Any) -> str | None:
        """What is wrong with a manifest, in words."""
        numbers = dict.fromkeys(("bytes", *self.counts), int)
        entry = {"name": str, "sha256": str, **numbers}
        if wrong := misfit(manifest, {self.files: [entry], **self.keys}):
            return wrong
        for position, entry in enumerate(manifest[self.files]):
            if not is_file_name(entry["name"]):
                return f"{self.files}[{position}].name is {short(entry['name'])}, no file's name"
        return None


RECORDS = Kind(
    name="records",
    schema=1,
    command="deepmac build",
    files="shards",
    counts={
        "images": "images_out",
        "instances": "instances_out",
        "masks": "masks_kept",
    },
    keys={
        "split": object,  # a text, or a list of names
        "supervised_category_ids": [int],
        "categories": [{"id": int, "name": str}],
        "counts": {str: int},
    },
    ending=".tfrecord",
)
PREDICTIONS = Kind(
    name="predictions",
    schema=1,
    command="deepmac label",
    files="units",
    counts={"images": "images_out", "masks": "masks_out"},
    keys={"counts": {str: int}},
    ending=".jsonl.gz",
    exports=("predictions.json", "annotations.json", "review.html"),
)
JOB_SHAPE = {
    "job": str,
    "version": str,
    "options": dict,
    "inputs": dict,
    "plan": {
        "num_items": {str: int},
        "num_images": {str: int},
        "context": {"categories": [(int, str)]},
    },
}
"""Of job.json, once its plan is made; see `deepmac.data.json_shape`."""
COMMIT_SHAPE = {
    "fingerprint": str,
    "data": {"name": str, "bytes": int, "sha256": str},
    "counts": {str: int},
    "dead_letters": [{"stage": str, "reason": str}],
}
"""Of a commit record."""
OF_JOB = {"build": RECORDS, "label": PREDICTIONS}
"""Name of a job, as in job.json -> the kind of directory it makes."""


def is_file_name(name: str) -> bool:
    """Whether a name is that of a file in the directory itself, and can be shown."""
    return name.isprintable() and "/" not in name and name not in ("", ".", "..")


def unfinished(folder: str) -> str | None:
    """Says of a directory without a manifest that its job has not finished, if that is so."""
    return unfinished_text(folder) if exists(join(folder, JOB)) else None


def unfinished_text(folder: str) -> str:
    """Says that the job of a directory has not finished."""
    return (
        f"{folder}: no {MANIFEST}, so the job that writes this directory has not finished; the "
        f"same command goes on from where it was"
    )


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Checksum of a file, as it stands in manifests.

    Raises:
        Unreachable: it cannot be read.
    """
    with reading(os.fspath(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
