"""The whole `build` job, on a handful of small images."""

import contextlib
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from gates import PATIENCE, Gate, wait_until
from small_dataset import SmallDataset

from deepmac.data.directory import open_records
from deepmac.data.records import decode_example
from deepmac.data.tfrecord import read_frame_at
from deepmac.data.verify import verify
from deepmac.masks import rle_area
from pipelines.build_dataset import main
from pipelines.shards import shard_index

DEEPMAC = Path(sys.executable).parent / "deepmac"


@pytest.fixture
def dataset(tmp_path):
    return SmallDataset(tmp_path / "data").write()


def build(dataset, out, *flags):
    assert main([*dataset.flags, f"--out={out}", "--num_shards=4", *flags]) == 0
    return out


def contents(out, *without):
    """Every file but the facts of the runs: name -> bytes."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(Path(out).rglob("*"))
        if path.is_file() and path.name not in ("run.json", *without)
    }


def examples(out):
    return {e.image_id: e for e in open_records(str(out)).examples()}


def test_two_runs_write_the_same_bytes(dataset, tmp_path):
    first = contents(build(dataset, tmp_path / "a"))
    assert contents(build(dataset, tmp_path / "b")) == first
    assert len([name for name in first if name.endswith(".tfrecord")]) == 4
    assert not verify(str(tmp_path / "a")).findings


def test_manifests_and_data_hold_no_path_and_no_host(dataset, tmp_path):
    out = build(dataset, tmp_path / "a")
    # job.json says where the images lie, for the next run; it is no part of the data.
    for name, data in contents(out, "job.json").items():
        assert str(tmp_path).encode() not in data, name
        assert os.uname().nodename.encode() not in data, name


def test_the_order_of_the_file_does_not_matter(dataset, tmp_path):
    first = contents(build(dataset, tmp_path / "a"))
    by_image = sorted(dataset.annotations, key=lambda a: -a["image_id"])
    document = {
        "categories": dataset.categories[::-1],
        "annotations": by_image,  # before the images that they belong to
        "images": dataset.images[::-1],
    }
    dataset.path.write_text(json.dumps(document))
    second = contents(build(dataset, tmp_path / "b"))
    records = {name for name in first if name.endswith(".tfrecord")}
    assert {n: second[n] for n in records} == {n: first[n] for n in records}


def test_images_stay_in_their_shards():
    # `printf 397133 | b2sum -l 64`, read as a little-endian number, modulo 64.
    ids = [0, 1, 397133, 2**62, "a", "größe", "007"]
    assert [shard_index(i, 64) for i in ids] == [4, 54, 18, 36, 0, 52, 9]


def test_records_hold_the_input(dataset, tmp_path):
    out = build(dataset, tmp_path / "a")
    found = examples(out)
    assert found.keys() == {image["id"] for image in dataset.images}
    for image in dataset.images:
        example = found[image["id"]]
        assert example.file_name == image["file_name"]
        assert example.encoded == dataset.files[image["file_name"]]
        mine = [a for a in dataset.annotations if a["image_id"] == image["id"]]
        for annotation, instance in zip(mine, example.instances, strict=True):
            x, y, width, height = annotation["bbox"]
            np.testing.assert_allclose(
                instance.box, (y, x, y + height, x + width), rtol=1e-6
            )
            assert instance.category_id == annotation["category_id"]
            assert instance.annotation_id == annotation["id"]
            assert (instance.area, instance.is_crowd) == (25.5, annotation["iscrowd"])
            assert rle_area(instance.mask_rle) == (
                100 if annotation["id"] % 2 else width * height
            )
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"]["instances_out"] == 24
    assert sum(shard["images"] for shard in manifest["shards"]) == 12
    assert sum(shard["masks"] for shard in manifest["shards"]) == 24
    ids_in_order = [e.image_id for e in open_records(str(out)).examples()]
    for shard in range(4):
        of_shard = [i for i in ids_in_order if shard_index(i, 4) == shard]
        assert of_shard == sorted(of_shard)


def test_commit_records_tell_where_each_image_is(dataset, tmp_path):
    out = build(dataset, tmp_path / "a")
    seen = set()
    for path in (out / "units").glob("*.json"):
        record = json.loads(path.read_text())
        details = record["details"]
        with (out / record["data"]["name"]).open("rb") as file:
            for image_id, offset in zip(
                details["image_ids"], details["offsets"], strict=True
            ):
                data = read_frame_at(file, offset, "f")
                assert decode_example(data).image_id == image_id
                seen.add(image_id)
    assert len(seen) == 12


@pytest.mark.parametrize(
    ("split", "supervised", "name"),
    [
        ("voc", {1, 18}, "voc"),
        ("non_voc", {90}, "non_voc"),
        ("all", {1, 18, 90}, "all"),
        ("dog,toothbrush", {18, 90}, "dog,toothbrush"),
        ("@names", {18}, ["dog"]),
    ],
)
def test_a_split_hides_masks_and_nothing_else(
    dataset, tmp_path, monkeypatch, split, supervised, name
):
    monkeypatch.chdir(tmp_path)
    Path("names").write_text("# seen\ndog\n")
    out = build(dataset, tmp_path / "a", f"--split={split}")
    records = open_records(str(out))
    assert records.supervised_ids == supervised
    assert json.loads((out / "manifest.json").read_text())["split"] == name
    instances = [i for e in records.examples() for i in e.instances]
    assert len(instances) == 24
    for instance in instances:
        keeps = instance.category_id in supervised
        assert instance.mask_weight == float(keeps)
        assert (instance.mask_rle is not None) == keeps
    counts = records.manifest["counts"]
    hidden = sum(i.category_id not in supervised for i in instances)
    assert counts.get("masks_hidden", 0) == hidden
    assert counts["masks_kept"] == 24 - hidden


def test_a_split_file_may_not_change_between_runs(
    dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("names").write_text("dog\n")
    build(dataset, tmp_path / "a", "--split=@names")
    Path("names").write_text("person\n")
    flags = [*dataset.flags, "--out=a", "--num_shards=4", "--split=@names"]
    assert main(flags) == 2
    assert (
        'was begun with split = ["dog"], now it is ["person"]'
        in capsys.readouterr().err
    )


def test_options_that_change_no_byte_may_change(dataset, tmp_path):
    out = build(dataset, tmp_path / "a")
    build(
        dataset, out, "--max_failed_fraction=0.5", "--verbose", "--direct_num_workers=2"
    )
    assert len(json.loads((out / "run.json").read_text())["runs"]) == 1


def test_the_annotation_file_may_move_but_not_change(dataset, tmp_path, capsys):
    out = build(dataset, tmp_path / "a")
    dataset.path.rename(tmp_path / "moved.json")
    flags = [*dataset.flags[1:], f"--out={out}", "--num_shards=4"]
    assert main([f"--annotations={tmp_path}/moved.json", *flags]) == 0
    dataset.annotations.pop()
    dataset.write()
    assert main([*dataset.flags, f"--out={out}", "--num_shards=4"]) == 2
    assert "was begun with other contents of --annotations; " in capsys.readouterr().err


def test_masks_need_not_be_stored(dataset, tmp_path):
    out = build(dataset, tmp_path / "a", "--no_masks")
    assert all(i.mask_rle is None for e in examples(out).values() for i in e.instances)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"]["masks_hidden"] == 24
    assert [shard["masks"] for shard in manifest["shards"]] == [0] * 4


def test_images_may_lie_in_several_directories(dataset, tmp_path):
    whole = contents(build(dataset, tmp_path / "a"), "job.json")
    images = dataset.folder / "images"
    (dataset.folder / "more").mkdir()
    for name in sorted(dataset.files)[::2]:
        (images / name).rename(dataset.folder / "more" / name)
    for pattern in (f"{dataset.folder}/*", f"{dataset.folder}/*/*.*"):
        out = tmp_path / f"b{len(pattern)}"
        flags = [
            dataset.flags[0],
            f"--images={pattern}",
            f"--out={out}",
            "--num_shards=4",
        ]
        assert main(flags) == 0
        assert contents(out, "job.json") == whole


def test_workers_and_a_decoy_do_not_matter(dataset, tmp_path):
    one = contents(build(dataset, tmp_path / "one"))
    decoy = tmp_path / "elsewhere"
    (decoy / "pipelines").mkdir(parents=True)
    (decoy / "pipelines" / "__init__.py").write_text(
        "raise SystemExit('the decoy was imported')"
    )
    flags = [*dataset.flags, f"--out={tmp_path / 'two'}", "--num_shards=4"]
    done = subprocess.run(
        [DEEPMAC, "build", *flags, "--", "--direct_num_workers=2"],
        cwd=decoy,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing of what Beam and its workers log
    assert "12 images in, 12 out, 0 failed; 4 units" in done.stdout
    assert contents(tmp_path / "two") == one


def test_building_imports_no_tensorflow(dataset, tmp_path):
    code = (
        "import sys; from pipelines.build_dataset import main; status = main(sys.argv[1:]);"
        "print({m for m in ('tensorflow', 'keras', 'jax') if m in sys.modules}, status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *dataset.flags, f"--out={tmp_path / 'a'}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "set() 0", done.stderr


def gated(tmp_path, num_images, num_gates):
    """A data set whose last images are gates, and the flags to build a shard for each image.

    No two gates lie in one shard. The first images are none: the job looks at them beforehand.
    """
    dataset = SmallDataset(tmp_path / "data", num_images=num_images).write()
    gates, shards = [], set()
    for image in reversed(dataset.images[1:]):
        shard = shard_index(image["id"], num_images)
        if len(gates) < num_gates and shard not in shards:
            gates.append(Gate(dataset.folder / "images" / image["file_name"]))
            shards.add(shard)
    assert len(gates) == num_gates
    return gates, [*dataset.flags, f"--num_shards={num_images}"]


@contextlib.contextmanager
def started(*flags, **streams):
    """`deepmac build`, which does not outlive the block."""
    with subprocess.Popen([DEEPMAC, "build", *flags], text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_with_one_line(tmp_path, number):
    (gate,), flags = gated(tmp_path, num_images=6, num_gates=1)
    out = tmp_path / "out"
    with started(*flags, f"--out={out}", stderr=subprocess.PIPE) as process:
        wait_until(process, lambda: gate.has_reader)
        done = len(stamps(out))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=PATIENCE)
    gate.forget()
    assert process.returncode == 128 + number
    assert stderr == (
        f"interrupted: {done} of 6 units are done; the same command goes on from there\n"
    )


def test_a_worker_that_dies_ends_the_job_with_one_line(tmp_path):
    (gate,), flags = gated(tmp_path, num_images=6, num_gates=1)
    flags.append(f"--out={tmp_path / 'out'}")
    workers = ["--", "--direct_num_workers=2"]
    with started(*flags, *workers, stderr=subprocess.PIPE) as process:
        wait_until(process, lambda: gate.has_reader)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    (line,) = stderr.strip().splitlines()
    assert line.startswith("a worker process died, perhaps for want of memory: ")
    assert line.endswith("of 6 units are done; the same command goes on from there")
    gate.remove()
    assert main(flags) == 0
    assert not verify(str(tmp_path / "out")).findings


def children(process_id):
    tasks = Path(f"/proc/{process_id}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_a_terminal_shows_a_bar_with_rate_and_remaining_time(tmp_path):
    gates, flags = gated(tmp_path, num_images=6, num_gates=2)
    ours, theirs = pty.openpty()
    shown = bytearray()
    reader = threading.Thread(target=read_all, args=(ours, shown))
    with started(*flags, f"--out={tmp_path / 'out'}", stderr=theirs) as process:
        os.close(theirs)
        reader.start()
        # One image passes, so that a unit is done; the other keeps the job from ending.
        wait_until(process, lambda: any(gate.has_reader for gate in gates))
        first, other = sorted(gates, key=lambda gate: not gate.has_reader)
        first.let_pass()
        wait_until(process, lambda: other.has_reader)
        rate = rb"[0-9.e+-]+ images/s, \d+:\d\d:\d\d left"
        wait_until(process, lambda: re.search(rate, shown))
        other.let_pass()
        assert process.wait(timeout=PATIENCE) == 0
    reader.join()
    assert b"/6" in shown


def read_all(terminal, into):
    # An error is how a terminal says that the other end has gone.
    with contextlib.suppress(OSError):
        while block := os.read(terminal, 4096):
            into += block
    os.close(terminal)


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
    """SIGKILL of the launcher of two workers at random moments, each time on what the one before left.

    At most one gate opens before each kill, so the job can never end before the last one.
    """
    num, kills = 120, 20
    ungated = SmallDataset(tmp_path / "data", num_images=num).write()
    whole_flags = [*ungated.flags, f"--num_shards={num}"]
    assert main([*whole_flags, f"--out={tmp_path / 'whole'}"]) == 0
    whole = contents(tmp_path / "whole")
    gates, flags = gated(tmp_path, num, num_gates=kills + 1)
    out, rng = tmp_path / "out", random.Random(2)
    done: dict[str, tuple[int, int]] = {}
    for _ in range(kills):
        process = subprocess.Popen(
            [
                sys.executable, "-m", "pipelines.build_dataset", *flags, f"--out={out}",
                "--direct_num_workers=2",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for_work(process, out)
        if rng.random() < 0.7:  # else at the plan, or at the first units
            wait_until(process, lambda: any(gate.has_reader for gate in gates))
            next(gate for gate in gates if gate.has_reader).let_pass()
        time.sleep(rng.uniform(0, 0.05))
        assert process.poll() is None
        process.kill()
        process.wait()
        for gate in gates:
            gate.forget()
        now = stamps(out)
        assert now.items() >= done.items(), "a unit was done again after its commit"
        done = now
    assert 0 < len(done) < num
    for gate in gates:
        gate.remove()
    assert main([*flags, f"--out={out}"]) == 0
    assert stamps(out).items() >= done.items()
    assert contents(out) == whole


def wait_for_work(process, out):
    """Until the job has begun to plan or to work again."""

    def found():  # `rglob` fails where a file goes away meanwhile
        return {(folder, *names) for folder, _, names in os.walk(out)}

    before = found()
    wait_until(process, lambda: found() != before)


def stamps(out):
    """Identity and time of the commit records: a unit done again would have another one."""
    return {
        p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.glob("units/r*")
    }
