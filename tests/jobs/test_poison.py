"""A twentieth of a data set is broken in every way: each breakage ends as a dead letter with a name, and
all that is sound comes out as if nothing else had been there."""

import collections
import gzip
import json

import pytest
from own_modules import importable
from poison import IMAGES, Poisoned

from deepmac.data.directory import open_records
from deepmac.data.tfrecord import read_frames
from deepmac.data.verify import verify
from pipelines import build_dataset, infer

PREDICTOR = """
import numpy as np
from deepmac import BoxMasks


def make():
    def predict(images, boxes):
        if any(image.min() == 255 for image in images):
            raise RuntimeError("this image is too much")
        return [
            BoxMasks(
                boxes=some.astype(np.float32),
                mask_probs=np.full((len(some), 4, 4), image.mean() / 255, np.float32),
                scores=np.full(len(some), image.std() / 255, np.float32),
                category_ids=np.full(len(some), -1, np.int32),
            )
            for image, some in zip(images, boxes)
        ]

    predict.can_detect = False
    return predict
"""


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """The data sets, and what both jobs made of them: [job][which] -> directory; and status."""
    folder = tmp_path_factory.mktemp("poison")
    poisoned = Poisoned(folder, 20 * len(IMAGES))
    (folder / "choking.py").write_text(PREDICTOR)
    jobs = {
        "build": (build_dataset.main, ["--num_shards=4", "--verify_images"]),
        "label": (infer.main, ["--model=choking:make", "--unit_images=64"]),
    }
    sets = {"broken": poisoned.data, "clean": poisoned.clean}
    status = {}
    with importable(folder):
        for job, (main, flags) in jobs.items():
            for which, data in sets.items():
                out = folder / job / which
                flags = [*flags[:2], *data.flags, f"--out={out}"]
                status[job, which] = main(flags)

        def again(job, *more):
            main, flags = jobs[job]
            out = folder / job / "broken"
            return main([*flags, *poisoned.data.flags, f"--out={out}", *more])

        yield poisoned, folder, status, again


pytestmark = pytest.mark.parametrize("job", ["build", "label"])


def letters(out):
    lines = (out / "dead_letters.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_breakage_is_a_dead_letter_with_its_name_and_reason(case, job):
    poisoned, folder, _, _ = case
    found = letters(folder / job / "broken")
    names = [(x["image_id"], x["annotation_id"], x["reason"]) for x in found]
    assert collections.Counter(names) == collections.Counter(poisoned.expected(job))
    assert all(x["unit"] and x["stage"] and x["message"] for x in found)
    assert letters(folder / job / "clean") == []


def records(out):
    """Image id -> bytes of its record."""
    stored = {}
    for shard in open_records(str(out)).shards:
        ids = json.loads((out / "units" / f"{shard.path.stem}.json").read_text())
        with shard.path.open("rb") as file:
            frames = [data for _, data in read_frames(file, "")]
        stored |= zip(ids["details"]["image_ids"], frames, strict=True)
    return stored


def rows(out):
    """Image id -> its lines."""
    stored = collections.defaultdict(list)
    for path in sorted(out.glob("*.jsonl.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            stored[json.loads(line)["image_id"]].append(line)
    return stored


def test_what_is_sound_comes_out_as_if_nothing_else_had_been_there(case, job):
    poisoned, folder, _, _ = case
    read = {"build": records, "label": rows}[job]
    broken, clean = (read(folder / job / which) for which in ("broken", "clean"))
    # To `build` an image on which a predictor will fail is as good as any.
    extra = {
        x.image_id
        for x in poisoned.letters
        if job not in x.jobs and x.annotation_id is None
    }
    assert broken.keys() - extra == clean.keys()
    counts = json.loads((folder / job / "clean" / "manifest.json").read_text())[
        "counts"
    ]
    assert counts["images_out"] == len(poisoned.data.images) * 19 // 20
    assert {k: v for k, v in broken.items() if k not in extra} == clean


def stamps(out):
    """Identity of data and commit records: one that was written again would have another."""
    return {p: (p.stat().st_ino, p.read_bytes()) for p in out.rglob("*-of-*")}


def test_too_many_are_status_3_and_the_work_is_kept(case, job, capsys):
    _, folder, status, again = case
    assert (status[job, "broken"], status[job, "clean"]) == (3, 0)
    out = folder / job / "broken"
    before = stamps(out)
    units = len(list(out.glob("units/*.json")))
    capsys.readouterr()
    assert again(job) == 3
    printed = capsys.readouterr().out
    assert "image_truncated" in printed
    assert "of the images failed, more than --max_failed_fraction=0.01" in printed
    assert again(job, "--max_failed_fraction=0.1") == 0
    assert f"{units} units ({units} done before)" in capsys.readouterr().out
    assert stamps(out) == before


def test_what_was_made_is_complete(case, job):
    poisoned, folder, _, _ = case
    found = verify(str(folder / job / "broken"))
    assert found.findings == []
    assert found.num_images + found.num_failed == len(poisoned.data.images)
    assert found.num_failed == len(IMAGES) - (job == "build")  # the predictor's
