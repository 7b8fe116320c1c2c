"""TFRecord files, the messages in them, and the directories around them."""

import contextlib
import gzip
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from deepmac.data import tf_example
from deepmac.data.assemble import Assembly
from deepmac.data.coco import InstanceReader
from deepmac.data.directory import open_records
from deepmac.data.foreign import open_with_categories
from deepmac.data.image_header import read_header
from deepmac.data.predictions import open_predictions, read_unit
from deepmac.data.records import decode_example, encode_example, stored_categories
from deepmac.data.splits import Split
from deepmac.data.tfrecord import frame, read_frames
from deepmac.data.truth_records import as_coco
from deepmac.data.verify import verify
from deepmac.errors import DataError, DeepmacError
from deepmac.evaluation.ground_truth import read_ground_truth
from deepmac.evaluation.parameters import Parameters
from deepmac.instances import Example
from fuzzing.mutation import json_values, mutate_bytes, mutate_json, mutate_kinds
from fuzzing.target import Target, require_one_line
from fuzzing.targets import GOLDEN
from pipelines.label_work import read_shard

_SHARD, _MESSAGE, _MANIFEST, _JOB, _COMMIT, _PREDICTIONS, _LINES, _PACKED = range(8)
_FEATURES = (
    *(
        "image/height",
        "image/width",
        "image/filename",
        "image/source_id",
        "image/encoded",
    ),
    *("image/object/bbox/ymin", "image/object/bbox/xmin", "image/object/bbox/ymax"),
    *("image/object/bbox/xmax", "image/object/class/text", "image/object/class/label"),
    *("image/object/is_crowd", "image/object/area", "image/object/annotation_id"),
    *(
        "image/object/annotation_id/text",
        "image/object/mask",
        "image/object/mask/weight",
    ),
)
_KEYS = (
    *(
        "kind",
        "schema",
        "split",
        "supervised_category_ids",
        "categories",
        "counts",
        "shards",
        "units",
    ),
    *(
        "name",
        "bytes",
        "sha256",
        "images",
        "instances",
        "masks",
        "id",
        "options",
        "plan",
        "data",
    ),
    *(
        "num_items",
        "context",
        "image_id",
        "category_id",
        "score",
        "segmentation",
        "box_xywh",
    ),
)
_TOKENS = (
    *tuple(key.encode() for key in _FEATURES),
    b"\n\x00",
    b"\x12\x00",
    b"\x1a\x00",
)
_INTEGERS = (0, -1, 1, 5, 90, 2**31, 2**32, 2**62, -(2**62), 2**63 - 1)
_FRACTIONS = (0.0, -0.5, 0.25, 1.0, 1.5, 300.0, 1e30, -1e30, float("nan"), float("inf"))
_READER = InstanceReader(frozenset(), Split("none", frozenset()), "clip")


class Records(Target):
    """A kind, and one file: of a shard, or of a directory that was whole without it.

    What a message is put into has checksums that fit, so that it is read at all.
    """

    name = "records"

    @classmethod
    def prepare(cls, folder: Path) -> None:
        from pipelines import build_dataset, infer

        source = GOLDEN / "coco_records"
        read = [
            f"--annotations={source / 'annotations.json'}",
            f"--images={source / 'images'}",
        ]
        build = [f"--out={folder / 'records'}", "--split=all", "--num_shards=2"]
        label = [f"--out={folder / 'predictions'}", "--model=box", "--unit_images=4"]
        with contextlib.redirect_stdout(None):
            for main, more in ((build_dataset.main, build), (infer.main, label)):
                assert main([*read, *more, "--max_failed_fraction=1"]) == 0

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._foreign = folder / f"foreign-{id(self)}"
        self._foreign.mkdir(exist_ok=True)
        self._shard = self._foreign / "a-00000-of-00001.tfrecord"
        for name in ("records", "predictions"):
            if (folder / name).is_dir():
                shutil.copytree(folder / name, self._foreign / name, dirs_exist_ok=True)
        self._records = self._foreign / "records"
        self._predictions = self._foreign / "predictions"

    def seeds(self) -> list[bytes]:
        seeds = []
        for path in sorted((GOLDEN / "coco_records" / "records").iterdir()):
            content = path.read_bytes()
            messages = [data for _, data in read_frames(io.BytesIO(content), "")]
            seeds.append(bytes([_SHARD]) + content)
            seeds += [bytes([_MESSAGE]) + data for data in messages]
        whole = sorted((self._records).glob("*.tfrecord"))
        for path in whole:
            with path.open("rb") as file:
                seeds += [bytes([_MESSAGE]) + data for _, data in read_frames(file, "")]
        for kind in (_MANIFEST, _JOB, _COMMIT, _PREDICTIONS):
            seeds += [bytes([kind]) + self._file_of(kind).read_bytes()] * 8
        (unit, *_) = sorted(self._predictions.glob("*.jsonl.gz"))
        lines = gzip.decompress(unit.read_bytes()).splitlines()
        rows = [json.loads(line) for line in lines[:3]]
        seeds += [bytes([_LINES]) + json.dumps(rows).encode()] * 8
        return [*seeds, bytes([_PACKED]) + unit.read_bytes()]

    def mutate(self, rng: random.Random, data: bytes, other: bytes) -> bytes:
        def of_bytes(rng: random.Random, data: bytes, other: bytes) -> bytes:
            return mutate_bytes(rng, data, other, _TOKENS)

        def of_json(rng: random.Random, data: bytes, other: bytes) -> bytes:
            return mutate_json(rng, data, other, _KEYS)

        def of_message(rng: random.Random, data: bytes, other: bytes) -> bytes:
            if rng.random() < 0.4:
                return of_bytes(rng, data, other)
            return _change_features(rng, data)

        kinds = [of_bytes, of_message, *[of_json] * 5, of_bytes]
        return mutate_kinds(rng, data, other, kinds)

    def examples(self) -> st.SearchStrategy[bytes]:
        numbers = st.lists(
            st.integers(-(2**63), 2**63 - 1) | st.integers(0, 20), max_size=3
        )
        fractions = st.lists(
            st.floats(width=32) | st.floats(0, 1, width=32), max_size=3
        )
        texts = st.lists(st.binary(max_size=8), max_size=3)
        features = st.dictionaries(
            st.sampled_from(_FEATURES), st.one_of(numbers, fractions, texts)
        )
        messages = features.map(lambda f: bytes([_MESSAGE]) + _encode(f))
        shards = st.lists(st.binary(max_size=20), max_size=3).map(
            lambda f: b"".join(map(frame, f))
        )
        others = st.tuples(st.integers(_MANIFEST, _LINES), json_values())
        return st.one_of(
            messages,
            shards.map(lambda data: bytes([_SHARD]) + data),
            st.binary(max_size=40).map(lambda data: bytes([_SHARD]) + data),
            others.map(lambda v: bytes([v[0]]) + json.dumps(v[1]).encode()),
        )

    def check(self, data: bytes) -> str:
        kind, content = (data[0] if data else 0) % 8, data[1:]
        if kind == _SHARD:
            self._read_shard(content)
        elif kind == _MESSAGE:
            self._read_shard(frame(content))
            _check_message(content)
        elif kind in (_LINES, _PACKED):
            packed = content if kind == _PACKED else _lines(content)
            self._with(self._file_of(kind), packed, self._read_predictions)
        else:
            read = (
                self._read_predictions if kind == _PREDICTIONS else self._read_records
            )
            self._with(self._file_of(kind), content, read)
        return f"accepted, kind {kind}"

    def _file_of(self, kind: int) -> Path:
        match kind:
            case 2:
                return self._records / "manifest.json"
            case 3:
                return self._records / "job.json"
            case 4:
                return sorted((self._records / "units").iterdir())[0]
            case 5:
                return self._predictions / "manifest.json"
        return sorted(self._predictions.glob("*.jsonl.gz"))[0]

    @staticmethod
    def _with(path: Path, content: bytes, read: Callable[[], None]) -> None:
        """Reads while a file holds something else."""
        whole = path.read_bytes()
        path.write_bytes(content)
        try:
            read()
        finally:
            path.write_bytes(whole)

    def _read_shard(self, content: bytes) -> None:
        """A shard as each command meets it."""
        self._shard.write_bytes(content)
        path = str(self._shard)
        verify(path)
        assembly = Assembly()
        labelled = list(read_shard(path, None, _READER, {}, assembly))
        counts = assembly.counts
        assert counts["images_in"] == len(labelled) + counts["images_failed"]
        for failure in assembly.failures:
            assert len(failure.message.splitlines()) == 1
        records = open_with_categories(path)
        examples = list(records.examples())
        for example in examples:
            _check_example(example)
        for with_masks in (False, True):
            dataset = as_coco(records, with_masks=with_masks)
            parameters = Parameters(iou_type="segm" if with_masks else "bbox")
            try:
                read_ground_truth(dataset, parameters, "records")
            except DataError as e:
                require_one_line(e)

    def _read_records(self) -> None:
        path = str(self._records)
        found = verify(path)
        for finding in found.findings:
            assert len(finding.problem.splitlines()) == 1
        records = open_records(path)
        list(records.examples())
        if not found.findings:
            assert len(list(records.examples())) == found.num_images
        open_with_categories(path)
        as_coco(records, with_masks=False)

    def _read_predictions(self) -> None:
        path = str(self._predictions)
        verify(path)
        directory = open_predictions(path)
        for unit in directory.units:
            read_unit(unit, for_boxes=False)
            read_unit(unit, for_boxes=True)


def _lines(content: bytes) -> bytes:
    """A list of rows as a packed file of lines; other content as one line."""
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError):
        rows = None
    lines = [content]
    if isinstance(rows, list):
        lines = [json.dumps(row).encode() for row in rows]
    return gzip.compress(b"\n".join(lines), 1)


def _check_message(content: bytes) -> None:
    """Laws of one message."""
    try:
        stored_categories(content)
    except DeepmacError as e:
        require_one_line(e)
    example = decode_example(content)
    bare = decode_example(content, with_masks=False)
    assert len(bare.instances) == len(example.instances)
    names = {i.category_id: "a" for i in example.instances}
    try:
        header = read_header(example.encoded or b"")
        if (header.height, header.width) != (example.height, example.width):
            return
        again = decode_example(encode_example(example, names))
    except DataError as e:  # such as an image that is neither JPEG nor PNG
        require_one_line(e)
        return
    assert str(again.image_id) == str(example.image_id)
    assert [i.mask_rle for i in again.instances] == [
        i.mask_rle if i.mask_weight > 0 else None for i in example.instances
    ]


def _check_example(example: Example) -> None:
    assert example.height > 0
    assert example.width > 0
    for instance in example.instances:
        if instance.mask_rle is not None:
            assert instance.mask_rle["size"] == [example.height, example.width]


def _encode(features: dict[str, list]) -> bytes:
    import numpy as np

    def array(values: list):
        if values and isinstance(values[0], bytes):
            return values
        return np.array(
            values, np.int64 if values and isinstance(values[0], int) else np.float32
        )

    return tf_example.encode({name: array(values) for name, values in features.items()})


def _change_features(rng: random.Random, data: bytes) -> bytes:
    """Another message of the same features, but for some values."""
    import numpy as np

    try:
        features = dict(tf_example.decode(data))
    except DataError:
        return data
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice(_FEATURES)
        values = features.get(name, [])
        match rng.randrange(6):
            case 0:
                features.pop(name, None)
            case 1:
                features[name] = values[: len(values) // 2]
            case 2 if isinstance(values, np.ndarray) and len(values):
                values = values.copy()
                odd = _INTEGERS if values.dtype.kind == "i" else _FRACTIONS
                values[rng.randrange(len(values))] = rng.choice(odd)
                features[name] = values
            case 2 | 3 if not isinstance(values, np.ndarray) and len(values):
                changed = list(values)
                at = rng.randrange(len(changed))
                changed[at] = mutate_bytes(rng, changed[at], changed[0])
                features[name] = changed
            case 4:
                features[name] = features.get(rng.choice(_FEATURES), [])
            case _:
                features[name] = np.array(
                    [rng.randrange(-3, 100) for _ in range(rng.randrange(4))]
                )
    return tf_example.encode(features)
