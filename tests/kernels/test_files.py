"""Files on disks, in stores and in what Beam knows: one set of functions, one behaviour."""

import io
import os
import random
import threading
from pathlib import Path

import pytest
from storage_emulator import Faults

from deepmac.data import files, google_storage
from deepmac.data.files import Unreachable, join
from deepmac.data.local_files import LocalFiles
from deepmac.errors import DataError

DATA = random.Random(0).randbytes(100_000)


@pytest.fixture(params=["local", "lenient", "strict", "beam"])
def place(request, tmp_path, monkeypatch):
    """A folder that is empty, or not there yet, in each kind of place."""
    monkeypatch.setattr(google_storage, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 10.0)
    if request.param == "local":
        yield str(tmp_path / "folder")
        return
    fixture = "strict_storage" if request.param == "strict" else "storage"
    request.getfixturevalue(fixture)
    if request.param == "beam":
        beam_files = pytest.importorskip("pipelines.beam_files")
        monkeypatch.setitem(files._makers, "gs", beam_files.BeamFiles)
        files._store_of.cache_clear()
    yield "gs://bucket/folder"
    files._store_of.cache_clear()
    google_storage.close()


@pytest.fixture
def strict(strict_storage, monkeypatch):
    monkeypatch.setattr(google_storage, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 10.0)
    yield strict_storage
    google_storage.close()


def test_what_is_written_is_read(place, tmp_path):
    path = join(place, "a", "x y.bin")
    assert files.read_file(path) is None
    assert files.file_size(path) is None
    assert not files.is_folder(place)
    files.write_file(path, b"old")
    files.write_file(path, DATA)
    assert files.read_file(path) == DATA
    assert files.file_size(path) == len(DATA)
    assert files.exists(path)
    assert not files.exists(join(place, "a"))
    assert files.is_folder(join(place, "a"))
    for start, end in ((0, 5), (7, 7), (99_990, 200_000), (200_000, 300_000)):
        assert files.read_range(path, start, end) == DATA[start:end]
    (tmp_path / "mine").write_bytes(DATA[:10])
    files.upload(str(tmp_path / "mine"), path)
    assert files.read_file(path) == DATA[:10]
    files.copy_file(path, join(place, "copy"))
    assert files.read_file(join(place, "copy")) == DATA[:10]
    files.remove_file(path)
    files.remove_file(path)
    assert not files.exists(path)


def test_listing(place):
    names = ["x1", "x2", "y", "sub/x1", "sub/deep/z"]
    for name in names:
        files.write_file(join(place, name), name.encode())
    assert files.list_folder(place) == {"x1": 2, "x2": 2, "y": 1}
    assert files.list_folder(f"{place}/") == {"x1": 2, "x2": 2, "y": 1}
    assert files.list_tree(place) == {name: len(name) for name in names}
    assert files.list_entries(place) == ["sub", "x1", "x2", "y"]
    assert files.list_folder(join(place, "nothing")) == {}
    assert files.list_entries(join(place, "nothing")) == []
    for pattern, found in (
        ("*", ["x1", "x2", "y"]),
        ("x?", ["x1", "x2"]),
        ("*/x*", ["sub/x1"]),
        ("s*/*/z", ["sub/deep/z"]),
        ("y", ["y"]),
        ("n*", []),
    ):
        paths = [join(place, name) for name in found]
        assert list(files.find_files(join(place, pattern))) == paths
    files.remove_folder(join(place, "sub"))
    files.remove_folder(join(place, "sub"))
    assert files.list_tree(place) == {"x1": 2, "x2": 2, "y": 1}


def test_the_name_of_a_folder_is_no_pattern(place):
    files.write_file(join(place, "[ab]*?", "x"), b"1")
    files.write_file(join(place, "a", "y"), b"2")
    assert files.list_folder(join(place, "[ab]*?")) == {"x": 1}
    assert files.list_entries(place) == ["[ab]*?", "a"]
    assert files.list_tree(join(place, "[ab]*?")) == {"x": 1}


def test_what_goes_while_a_folder_is_listed_is_left_out(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(b"1")
    listing = LocalFiles().list(f"{tmp_path}/", deep=False)
    first, _ = next(listing)
    for path in set(tmp_path.iterdir()) - {Path(first)}:
        path.unlink()
    assert list(listing) == []


# The lenient emulator does not keep to conditions.
@pytest.mark.parametrize("place", ["local", "strict", "beam"], indirect=True)
def test_a_file_is_created_once_and_replaced_only_as_it_was_known(place):
    path = join(place, "x")
    assert files.create_file(path, b"mine")
    assert files.create_file(path, b"mine")  # as when an answer was lost
    assert not files.create_file(path, b"theirs")
    assert files.replace_file(path, b"mine", b"new")
    assert not files.replace_file(path, b"mine", b"newer")
    assert files.read_file(path) == b"new"


def test_an_open_file_is_like_any_other(place):
    path = join(place, "x")
    files.write_file(path, DATA)
    rng = random.Random(1)
    with files.open_file(path, chunk_bytes=4096) as file:
        ours, theirs = file, io.BytesIO(DATA)
        for _ in range(30):
            offset, size = rng.randrange(len(DATA)), rng.choice([1, 12, 5000, 30_000])
            whence = rng.choice([io.SEEK_SET, io.SEEK_END])
            place_at = offset if whence == io.SEEK_SET else -offset
            assert ours.seek(place_at, whence) == theirs.seek(place_at, whence)
            assert ours.read(size) == theirs.read(size)
            assert ours.tell() == theirs.tell()
        ours.seek(0)
        assert ours.read() == DATA
    with pytest.raises(FileNotFoundError):
        files.open_file(join(place, "nothing"))


def test_of_many_who_create_a_file_one_does(strict):
    barrier, made = threading.Barrier(8), []

    def create(number):
        barrier.wait()
        made.append(files.create_file("gs://bucket/x", b"%d" % number))

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]


def test_a_creation_whose_answer_was_lost_is_ours(strict):
    for seed in range(20):
        strict.proxy.faults = Faults(lost_answers=0.6, seed=seed)
        assert files.create_file(f"gs://bucket/{seed}", b"mine")
        assert not files.create_file(f"gs://bucket/{seed}", b"theirs")
    faults = [request.fault for request in strict.proxy.requests]
    assert faults.count("lost_answers") > 10


def test_a_bad_day_changes_nothing(strict, tmp_path):
    strict.proxy.faults = Faults(
        errors=0.2, lost_answers=0.1, hangs=0.05, cut_short=0.2, hang_seconds=0.01
    )
    for number in range(10):
        path = f"gs://bucket/bad/{number}"
        files.write_file(path, DATA)
        assert files.read_file(path) == DATA
        with files.open_file(path, chunk_bytes=30_000) as file:
            assert file.read() == DATA
        files.copy_file(path, f"{path}-copy")
    assert len(files.list_folder("gs://bucket/bad")) == 20
    files.remove_folder("gs://bucket/bad")
    assert strict.names() == []


def test_a_large_upload_goes_on_after_a_failure(strict, tmp_path, monkeypatch):
    monkeypatch.setattr(google_storage, "_UPLOAD_BYTES", 1 << 20)
    large = tmp_path / "large"
    large.write_bytes(os.urandom(9 << 20))
    strict.proxy.faults = Faults(errors=0.2, seed=1)
    files.upload(str(large), "gs://bucket/large")
    assert strict.get("large") == large.read_bytes()
    assert any(r.fault for r in strict.proxy.requests)


def test_a_request_that_hangs_is_sent_again(strict, monkeypatch):
    monkeypatch.setattr(google_storage, "REQUEST_SECONDS", 0.2)
    strict.put("x", DATA)
    strict.proxy.faults = Faults(hangs=0.5, hang_seconds=2.0)
    for _ in range(6):
        assert files.read_file("gs://bucket/x") == DATA
    assert "hangs" in {request.fault for request in strict.proxy.requests}


def test_a_store_that_refuses_is_one_line(strict, monkeypatch):
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 0.05)
    for status in (403, 429, 503):
        strict.proxy.refusals = {"x": status}
        with pytest.raises(
            Unreachable, match=rf"^gs://bucket/x: cannot be read: .*{status}"
        ):
            files.read_file("gs://bucket/x")
        with pytest.raises(OSError, match=str(status)) as caught:
            files.write_file("gs://bucket/x", b"")
        assert "\n" not in caught.value.strerror
        assert caught.value.filename == "gs://bucket/x"


def test_what_is_damaged_on_the_way_is_noticed(strict, monkeypatch):
    strict.put("x", DATA)
    ask = google_storage._download

    def damaged(blob, **span):
        data = ask(blob, **span)
        return data[:5] + b"?" + data[6:]

    with files.open_file("gs://bucket/x", chunk_bytes=30_000) as file:
        monkeypatch.setattr(google_storage, "_download", damaged)
        with pytest.raises(OSError, match="does not have the checksum"):
            file.read()


def test_a_file_that_is_replaced_while_it_is_read(strict):
    strict.put("x", DATA)
    with files.open_file("gs://bucket/x", chunk_bytes=1000) as file:
        file.read(10)
        strict.put("x", DATA[::-1])
        with pytest.raises(OSError, match="replaced or removed while it was being"):
            file.read()


def test_paths_that_are_none():
    with pytest.raises(DataError, match=r"gs:///x: must be gs://BUCKET/NAME"):
        files.read_file("gs:///x")
    with pytest.raises(DataError, match=r"ftp:// is not available here; name a local"):
        files.write_file("ftp://x/y", b"")
    with pytest.raises(DataError, match="two slashes, as gs://x/y; for a local direct"):
        files.read_file("gs:/x/y")
    assert files.read_file("./gs:/x/y") is None


def test_requests_in_parallel_keep_their_order_and_few_results():
    running, most = [], []

    def work(number):
        running.append(number)
        return number

    taken = files.map_requests(work, range(1000), at_a_time=4)
    for number in range(1000):
        assert next(taken) == number
        most.append(len(running) - number)
    assert max(most) <= 9

    def fail(number):
        raise OSError(number)

    with pytest.raises(OSError, match="0"):
        list(files.map_requests(fail, range(10)))


@pytest.mark.parametrize("place", ["beam"], indirect=True)
def test_what_a_client_raises_as_beam_reads_is_told_of_the_store(place, monkeypatch):
    from apache_beam.io.gcp.gcsfilesystem import GCSFileSystem

    client_error = type("ClientError", (Exception,), {"__module__": "messages"})

    class Failing(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise client_error("503 Slow Down")

    path = join(place, "x")
    files.write_file(path, b"1")
    monkeypatch.setattr(GCSFileSystem, "open", lambda *_, **__: Failing())
    with pytest.raises(Unreachable, match="folder/x: cannot be read: 503 Slow Down"):
        files.read_file(path)
    with pytest.raises(Unreachable, match="503 Slow Down"), files.reading(path) as file:
        file.read(1)
