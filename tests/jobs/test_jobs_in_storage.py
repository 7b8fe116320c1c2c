"""Whole jobs that write to a store: the same bytes as on a disk, and the same errors."""

import errno

import pytest
from doubling import NUM_UNITS, run
from small_dataset import SmallDataset

from deepmac.data import files, google_storage
from deepmac.data.verify import verify
from pipelines import build_dataset, evaluate, infer
from pipelines.beam_files import BeamFiles

OUT = "gs://bucket/jobs"


@pytest.fixture
def dataset(tmp_path):
    return SmallDataset(tmp_path / "data").write()


@pytest.fixture(autouse=True)
def _let_go():
    yield
    google_storage.close()


def build(dataset, out, *more):
    return build_dataset.main([*dataset.flags, f"--out={out}", *more])


def label(dataset, out, *more):
    given = [f"--annotations={dataset.path}", f"--images={dataset.path.parent}/images"]
    extra = ["--write_coco_results", "--write_annotations", "--review"]
    return infer.main([*given, f"--out={out}", "--model=ellipse", *extra, *more])


def local(out):
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def stored(storage, name):
    found = storage.contents(f"jobs/{name}")
    found.pop("run.json")
    return found


@pytest.mark.parametrize("job", [build, label])
def test_what_a_job_writes_to_a_store_is_what_it_writes_to_a_disk(
    storage, dataset, tmp_path, job, capsys
):
    name = job.__name__
    assert job(dataset, tmp_path / name) == 0
    assert job(dataset, f"{OUT}/{name}") == 0
    expected = local(tmp_path / name)
    assert stored(storage, name) == expected
    # Again: nothing to do. One unit lost: that one again.
    shard = next(n for n in expected if n.endswith((".tfrecord", ".jsonl.gz")))
    storage.remove(f"jobs/{name}/{shard}")
    capsys.readouterr()
    assert job(dataset, f"{OUT}/{name}") == 0
    units = sum(n.startswith("units/") for n in expected)
    assert f"{units} units ({units - 1} done before)" in capsys.readouterr().out
    assert stored(storage, name) == expected


def test_other_options_are_refused(storage, dataset, capsys):
    assert build(dataset, f"{OUT}/build") == 0
    before = stored(storage, "build")
    assert build(dataset, f"{OUT}/build", "--num_shards=3") == 2
    said = capsys.readouterr().err
    assert "gs://bucket/jobs/build was begun with num_shards = " in said
    assert said.count("\n") == 1
    assert stored(storage, "build") == before


def test_an_evaluation_in_a_store(storage, dataset, tmp_path):
    assert label(dataset, f"{OUT}/label") == 0
    results = tmp_path / "results.json"
    results.write_bytes(storage.get("jobs/label/predictions.json"))
    given = [f"--ground_truth={dataset.path}", f"--predictions={results}"]
    names = ("metrics.json", "metrics.md", "groups.csv", "evaluation-segm.npz")
    for out, beam in (
        (tmp_path / "here", []),
        (f"{OUT}/there", []),
        (f"{OUT}/beam", ["--runner=FnApiRunner", "--unit_images=2"]),
    ):
        assert evaluate.main([*given, f"--out={out}", *beam]) == 0
    expected = {n: (tmp_path / "here" / n).read_bytes() for n in names}
    for folder in ("there", "beam"):
        found = storage.contents(f"jobs/{folder}")
        assert {n: found[n] for n in names} == expected
        assert not [n for n in found if n.startswith(".unfinished")]


def test_a_bucket_that_is_not_there_is_one_line(storage, dataset, capsys):
    assert build(dataset, "gs://no-such-bucket/x") == 2
    said = capsys.readouterr().err
    assert "gs://no-such-bucket/x" in said
    assert "there is no such bucket" in said
    assert said.count("\n") == 1


def test_a_directory_in_a_store_is_verified(storage, dataset):
    assert build(dataset, f"{OUT}/build") == 0
    assert not verify(f"{OUT}/build").findings
    name = next(n for n in stored(storage, "build") if n.endswith(".tfrecord"))
    whole = storage.get(f"jobs/build/{name}")
    storage.put(f"jobs/build/{name}", whole[:-1] + b"?")
    (finding,) = verify(f"{OUT}/build").findings
    assert name in finding.problem


def test_a_store_that_is_away_proves_nothing(storage, dataset, monkeypatch):
    """Least of all that its data is damaged, and is to be made again."""
    assert build(dataset, f"{OUT}/build") == 0

    def fail(path, *_):
        if not path.endswith(".tfrecord"):
            return files.open_file(path)
        raise OSError(errno.EIO, "503 Service Unavailable", path)

    monkeypatch.setattr("deepmac.data.verify.open_file", fail)
    told = r"/build/\S+: cannot be read, so nothing is proved: 503 Service Unavailable"
    with pytest.raises(files.Unreachable, match=told):
        verify(f"{OUT}/build")


def test_units_in_a_store_that_beam_alone_knows(storage, tmp_path, inline, monkeypatch):
    monkeypatch.setitem(files._makers, "gs", BeamFiles)
    files._store_of.cache_clear()
    try:
        run(tmp_path / "here")
        run("gs://bucket/jobs/there")
        assert stored(storage, "there") == local(tmp_path / "here")
        storage.remove("jobs/there/u1.txt")
        assert run("gs://bucket/jobs/there").num_resumed == NUM_UNITS - 1
        assert stored(storage, "there") == local(tmp_path / "here")
    finally:
        files._store_of.cache_clear()


def test_beams_stores_say_what_they_need(dataset, capsys):
    assert build(dataset, "s3://bucket/x") == 2
    assert (
        "s3:// needs boto3: pip install 'apache-beam[aws]'" in capsys.readouterr().err
    )
