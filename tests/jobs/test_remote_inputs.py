"""The jobs with all of their input in Google Cloud Storage, which has good days and bad ones."""

import gzip
import json

import numpy as np
import orjson
import pytest
from small_dataset import SmallDataset

gcs = pytest.importorskip("google.cloud.storage")

from google.api_core.retry import Retry  # noqa: E402
from storage_emulator import Faults  # noqa: E402

from deepmac.cli import main as deepmac  # noqa: E402
from deepmac.data import google_storage  # noqa: E402
from deepmac.data.files import Unreachable  # noqa: E402
from deepmac.data.image_source import ImageSource  # noqa: E402
from deepmac.errors import DataError  # noqa: E402
from pipelines import build_dataset, evaluate, infer  # noqa: E402

BAD_DAY = Faults(
    errors=0.2, lost_answers=0.05, hangs=0.03, cut_short=0.05, hang_seconds=0.05
)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Pauses between tries as they are, but a hundred times shorter."""

    def policy():
        return Retry(
            google_storage._may_pass, initial=0.005, maximum=0.05, timeout=PATIENCE[0]
        )

    monkeypatch.setattr(google_storage, "_policy", policy)
    PATIENCE[0] = 20.0
    yield
    google_storage.close()


PATIENCE = [20.0]  # seconds that something is tried again


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    dataset = SmallDataset(tmp_path_factory.mktemp("set")).write()
    (dataset.folder / "split.txt").write_text("person\n# none\ndog\n")
    return dataset


@pytest.fixture(scope="module")
def made(dataset, tmp_path_factory):
    """What the jobs make of local input."""
    out = tmp_path_factory.mktemp("made")
    folder = str(dataset.folder)
    assert build(folder, dataset.path.name, out / "records") == 0
    assert label(folder, dataset.path.name, out / "labels") == 0
    assert infer.main(of_records(out / "records", out / "of_records")) == 0
    return out


def build(root, annotations, out, *more):
    words = [f"--annotations={root}/{annotations}", f"--images={root}/images"]
    words += [f"--split=@{root}/split.txt", "--num_shards=3", f"--out={out}"]
    return build_dataset.main([*words, *more])


def label(root, annotations, out, *more):
    words = [f"--annotations={root}/{annotations}", f"--images={root}/images"]
    words += ["--model=ellipse", f"--out={out}", "--unit_images=4"]
    return infer.main([*words, *more])


def of_records(records, out):
    return [f"--records={records}", "--model=ellipse", f"--out={out}"]


@pytest.fixture
def remote(storage, dataset):
    """The data set in a bucket."""
    return storage.upload(dataset.folder, "data/set")


def contents(out):
    """What a job has made, without the facts of the run."""
    named = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return {
        n: data for n, data in named.items() if n.name not in ("run.json", "job.json")
    }


def reads_of(storage, part):
    return [
        r.name for r in storage.proxy.requests if r.kind == "read" and part in r.name
    ]


def test_build_reads_each_image_once(storage, remote, dataset, made, tmp_path, capsys):
    storage.proxy.forget()
    assert build(remote, dataset.path.name, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == contents(made / "records")
    images = reads_of(storage, "/images/")
    assert len(images) == len(dataset.images) + 1  # the one that is looked at before
    assert set(images) == {f"data/set/images/{name}" for name in dataset.files}
    assert storage.proxy.counts()["list"] <= 4  # whether there is a folder


def test_label_from_images_and_from_records(
    storage, remote, dataset, made, tmp_path, capsys
):
    assert label(remote, dataset.path.name, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == contents(made / "labels")
    records = storage.upload(made / "records", "made/records")
    storage.proxy.forget()
    assert infer.main(of_records(records, tmp_path / "two")) == 0
    assert contents(tmp_path / "two") == contents(made / "of_records")
    assert len(reads_of(storage, ".tfrecord")) == 3  # of a shard one piece is the whole


def test_a_bad_day_changes_nothing(storage, remote, dataset, made, tmp_path, capsys):
    storage.proxy.faults = BAD_DAY
    assert (
        build(
            remote, dataset.path.name, tmp_path / "records", "--max_failed_fraction=0"
        )
        == 0
    )
    assert (
        label(remote, dataset.path.name, tmp_path / "labels", "--max_failed_fraction=0")
        == 0
    )
    faults = [request.fault for request in storage.proxy.requests]
    assert {"errors", "lost_answers", "hangs", "cut_short"} <= set(faults)
    assert contents(tmp_path / "records") == contents(made / "records")
    assert contents(tmp_path / "labels") == contents(made / "labels")


@pytest.mark.parametrize("status", [503, 403])
def test_a_store_that_fails_for_good_stops_the_job(
    storage, remote, dataset, made, tmp_path, capsys, status
):
    """And leaves no dead letter: it says nothing of the image."""
    PATIENCE[0] = 0.2
    storage.proxy.refusals = {r"images/größe 7\.": status}
    assert build(remote, dataset.path.name, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "gs://bucket/data/set/images/größe 7.jpeg: cannot be read: " in told
    assert str(status) in told
    assert "the same command goes on from there" in told
    assert not list(tmp_path.glob("out/manifest.json"))
    storage.proxy.refusals = {}
    assert build(remote, dataset.path.name, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == contents(made / "records")


def test_an_image_that_is_not_there_is_a_dead_letter(storage, tmp_path, capsys):
    local = SmallDataset(tmp_path / "set")
    local.images[0]["file_name"] = "x" * 1100  # no object can be called so
    local.images[1]["file_name"] = "../set.json"
    local.write()
    missing = local.folder / "images" / local.images[3]["file_name"]
    missing.unlink()
    remote = storage.upload(local.folder, "s")
    for root, out in ((local.folder, "here"), (remote, "there")):
        words = [f"--annotations={root}/{local.path.name}", f"--images={root}/images"]
        assert build_dataset.main([*words, f"--out={tmp_path / out}"]) == 3
    letters = [
        {(a["image_id"], a["reason"]) for a in map(orjson.loads, lines.splitlines())}
        for lines in (
            (tmp_path / out / "dead_letters.jsonl").read_bytes()
            for out in ("here", "there")
        )
    ]
    expected = {(101, "file_name_malformed"), (103, "image_missing")}
    assert letters[0] == expected | {(100, "image_unreadable")}  # of a file system
    assert letters[1] == expected | {(100, "image_missing")}


def test_everything_wrong_is_told_at_once(storage, tmp_path, capsys):
    words = [
        "--annotations=gs://bucket/data/set/annotation.json",
        "--images=gs://bukket/images",
    ]
    words += ["--split=@gs://bucket/none.txt", f"--out={tmp_path / 'out'}"]
    assert build_dataset.main(words) == 2
    told = capsys.readouterr().err
    assert "gs://bucket/data/set/annotation.json: cannot be read: No such file" in told
    assert "gs://bukket/images: cannot be read: there is no such bucket" in told
    assert "split @FILE: gs://bucket/none.txt: cannot be read: No such file" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("set", "a/x.jpg", b"1"),
        ("set/", "./a//x.jpg", b"1"),
        ("set", "none.jpg", None),
        ("set/*", "x.jpg", "image_ambiguous"),
        ("set/[b-c]", "x.jpg", b"2"),
        ("set/*/y*", "set/c/y.png", b"4"),
        ("set/**/*.jpg", "z.jpg", b"3"),
        ("s*/b", "deep/z.jpg", b"3"),
        ("set", "../other/x.jpg", "file_name_malformed"),
    ],
)
def test_patterns_mean_what_they_mean_here(storage, tmp_path, pattern, name, found):
    files = {"set/a/x.jpg": b"1", "set/b/x.jpg": b"2", "set/b/deep/z.jpg": b"3"}
    files |= {"set/c/y.png": b"4", "set/c/.hidden.jpg": b"5", "other/x.jpg": b"6"}
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    remote = storage.upload(tmp_path, "place")

    def read(root):
        source = ImageSource(f"{root}/{pattern}")
        (data,) = source.read_each([(name,)])
        return data if isinstance(data, bytes) else data.reason

    assert read(tmp_path) == read(remote) == (found or "image_missing")


def test_evaluate_and_compare(storage, remote, dataset, made, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    rows = [
        row
        for path in sorted((made / "labels").glob("*.jsonl.gz"))
        for row in gzip.decompress(path.read_bytes()).splitlines()
    ]
    (tmp_path / "in" / "dt.json").write_bytes(b"[%b]" % b",".join(rows))
    (tmp_path / "in" / "ids.txt").write_text("100\n101\n102\n105\n")
    (tmp_path / "in" / "groups.json").write_text(json.dumps({"pets": ["dog"]}))
    here = {"files": tmp_path / "in", "set": dataset.folder, "labels": made / "labels"}
    here["records"] = made / "records"
    there = {name: storage.upload(path, f"in/{name}") for name, path in here.items()}

    def run(places, out):
        truth = f"--ground_truth={places['set']}/{dataset.path.name}"
        more = [f"--images={places['set']}/images", "--draws=0"]
        more += [
            f"--image_ids=@{places['files']}/ids.txt",
            f"--seen=@{places['set']}/split.txt",
        ]
        more += [f"--group=@{places['files']}/groups.json"]
        results = f"--predictions={places['files']}/dt.json"
        assert evaluate.main([truth, results, *more, f"--out={out}/a"]) == 0
        results = f"--predictions={places['labels']}"
        arrays = f"--arrays={out}/arrays.npz"
        more = ["--iou_type=bbox", "--no_report", "--draws=0"]
        truth = f"--ground_truth={places['records']}"
        assert evaluate.main([truth, results, *more, arrays, f"--out={out}/b"]) == 0
        with np.load(f"{out}/arrays.npz") as arrays:
            precision = arrays["precision"]
        figures = [(out / n / "metrics.json").read_bytes() for n in ("a", "b")]
        return figures, precision.tobytes()

    capsys.readouterr()
    expected = run(here, tmp_path / "here")
    storage.proxy.faults = BAD_DAY
    assert run(there, tmp_path / "there") == expected
    runs = [storage.upload(tmp_path / p / "a", f"runs/{p}") for p in ("here", "there")]
    capsys.readouterr()
    assert deepmac(["compare", *runs, "--draws=10"]) == 0
    assert runs[0] in capsys.readouterr().out


def test_records_are_looked_at(storage, made, capsys):
    records = storage.upload(made / "records", "made/records")
    for words in (["show"], ["stats"]):
        assert deepmac(["data", *words, str(made / "records")]) == 0
        expected = capsys.readouterr().out
        assert deepmac(["data", *words, records]) == 0
        assert capsys.readouterr().out == expected
    assert deepmac(["data", "stats", f"{records}-not"]) == 2
    assert "no such directory" in capsys.readouterr().err


def test_a_disk_that_fails_is_no_dead_letter(tmp_path):
    (tmp_path / "x.jpg").symlink_to(
        "/proc/self/mem"
    )  # cannot be read from its beginning
    with pytest.raises(
        Unreachable, match=r"x\.jpg: cannot be read: Input/output error"
    ):
        list(ImageSource(str(tmp_path)).read_each([("x.jpg",)]))


def test_stores_that_nobody_knows(capsys):
    with pytest.raises(
        DataError, match="ftp:// is not available here; name a local path"
    ):
        ImageSource("ftp://host/images")
