"""Records in any order: local files, and a store over a real connection."""

import gc
import http.server
import json
import re
import threading
import urllib.parse
import warnings
from pathlib import Path
from typing import ClassVar

import pytest
from small_records import example, record, small_set, write_shards

from deepmac.data import google_storage, record_set
from deepmac.data.record_set import index_records, open_each
from deepmac.data.records import decode_columns
from deepmac.data.tfrecord import read_frames
from deepmac.errors import DataError


def stored(folder) -> list[bytes]:
    """All records of a directory, read from front to back."""
    data = []
    for path in sorted(Path(folder).glob("*-of-*")):
        with path.open("rb") as file:
            data += [record for _, record in read_frames(file, str(path))]
    return data


def read_all(patterns, kept_in=None) -> list[bytes]:
    records = index_records(open_each(patterns), kept_in)
    return [records.read(number) for number in range(len(records))]


@pytest.mark.parametrize("with_offsets", [True, False])
def test_records_by_number_are_those_in_the_files(tmp_path, with_offsets):
    folder = small_set(tmp_path / "set", with_offsets=with_offsets)
    assert read_all([str(folder)]) == read_all([f"{folder}/"]) == stored(folder)
    some = index_records(open_each([f"{folder}/*-0000[12]-of-*"])).every(2)
    ids = [decode_columns(some.read(n)).image_id for n in range(len(some))]
    assert ids == [1, 7, 5]  # of 1, 4, 7, 2, 5, 8
    assert some.where(1).startswith(f"{folder}/records-00001-of-00003.tfrecord: record")


def test_offsets_are_taken_from_the_commit_records(tmp_path, monkeypatch):
    folder = small_set(tmp_path)
    monkeypatch.setattr(record_set, "frame_offsets", None)
    assert len(read_all([str(folder)])) == 10


def test_commit_records_that_do_not_fit_are_not_believed(tmp_path):
    folder = small_set(tmp_path, num_shards=1)
    path = folder / "units" / "records-00000-of-00001.json"
    commit = json.loads(path.read_text())
    for offsets in ([], [0] * 10, [5, *commit["details"]["offsets"][1:]], "x"):
        path.write_text(json.dumps(commit | {"details": {"offsets": offsets}}))
        assert read_all([str(folder)]) == stored(folder)
    path.write_text("not JSON")
    assert read_all([str(folder)]) == stored(folder)


def test_the_manifest_beside_files_tells_of_them(tmp_path):
    folder = small_set(tmp_path)
    (source,) = open_each([f"{folder}/records-00001-*"])
    assert [file.num_images for file in source.files] == [3]
    assert source.categories[0].name == "person"
    write_shards(folder, {"other-00000-of-00001": [record(example(0))]})
    with pytest.raises(DataError, match=r"manifest.json does not list other-00000-of-"):
        open_each([f"{folder}/*-of-*"])


def test_damaged_files(tmp_path):
    folder = small_set(tmp_path, num_shards=1, with_offsets=False)
    (shard,) = folder.glob("*.tfrecord")
    whole = shard.read_bytes()
    for data, says in (
        (whole[:-5], "the file ends within the record"),
        (b"x" + whole[1:], "record 0 at byte 0: the checksum of its length differs"),
        (whole + whole, "holds 20 images, 10 were written"),
    ):
        shard.write_bytes(data)
        with pytest.raises(DataError, match=says):
            read_all([str(folder)])
    shard.unlink()
    with pytest.raises(DataError, match="is missing; run the same build command"):
        read_all([str(folder)])


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(small_set(tmp_path))
    assert read_all(["."]) == read_all(["records-*"]) == stored(".")


# A store over a real connection


class Bucket(http.server.BaseHTTPRequestHandler):
    """The part of Google's JSON API that is asked of it, over a directory; fails as it is told."""

    root: Path
    failures: ClassVar[list[int]]
    requests: ClassVar[list[str]]
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        type(self).requests.append(self.path)
        # Google's client also asks for the bucket itself, in a thread of its own.
        if self.failures and self.path.startswith("/download/"):
            return self._answer(self.failures.pop(), b"{}")
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/storage/v1/b/bucket/o":
            (prefix,) = urllib.parse.parse_qs(url.query).get("prefix", [""])
            files = (p for p in sorted(self.root.rglob("*")) if p.is_file())
            names = {
                p.relative_to(self.root).as_posix(): p.stat().st_size for p in files
            }
            items = [
                {"name": name, "bucket": "bucket", "size": str(size)}
                for name, size in names.items()
                if name.startswith(prefix)
            ]
            return self._answer(200, json.dumps({"items": items}).encode())
        if url.path.startswith("/storage/v1/b/bucket/o/"):
            name = urllib.parse.unquote(url.path.rpartition("/")[2])
            if not (self.root / name).is_file():
                return self._answer(404, b"{}")
            found = {"name": name, "size": str((self.root / name).stat().st_size)}
            return self._answer(200, json.dumps(found).encode())
        name = urllib.parse.unquote(
            url.path.removeprefix("/download/storage/v1/b/bucket/o/")
        )
        path = self.root / name
        if not path.is_file():
            return self._answer(404, b"{}")
        data = path.read_bytes()
        if span := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = int(span[1]), min(int(span[2]), len(data) - 1)
            return self._answer(
                206, data[first : last + 1], f"bytes {first}-{last}/{len(data)}"
            )
        return self._answer(200, data)

    def _answer(self, status, data, content_range=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    pytest.importorskip("google.cloud.storage")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    server.handle_error = lambda *_: None  # clients may hang up
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    google_storage.close()
    Bucket.root, Bucket.failures, Bucket.requests = tmp_path / "bucket", [], []
    before = set(threading.enumerate())
    yield Bucket
    google_storage.close()
    server.shutdown()
    server.server_close()
    for other in set(threading.enumerate()) - before:
        if "process_request" not in other.name:  # the server's own wait for more
            other.join(2)
    thread.join()
    # The client leaves connections open: found later, they would fail whatever test runs then.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_remote_records(bucket):
    folder = small_set(bucket.root / "data" / "set")
    expected = stored(folder)
    assert read_all(["gs://bucket/data/set"]) == expected
    assert read_all(["gs://bucket/data/set/*-of-00003.tfrecord"]) == expected
    assert read_all(["gs://bucket/data/*/records-00000-of-*"]) == expected[:4]


def test_offsets_of_remote_files_are_kept(bucket, tmp_path):
    write_shards(
        bucket.root, {"x-00000-of-00001": [record(example(n)) for n in (1, 2)]}
    )
    pattern, kept_in = ["gs://bucket/x-*"], str(tmp_path / "kept")
    assert read_all(pattern, kept_in) == stored(bucket.root)
    bucket.requests.clear()
    assert read_all(pattern, kept_in) == stored(bucket.root)
    spans = [path for path in bucket.requests if path.startswith("/download/")]
    assert sum("x-00000" in path for path in spans) == 2  # the records alone
    (tmp_path / "kept" / "record_offsets.npz").write_bytes(b"damaged")
    assert read_all(pattern, kept_in) == stored(bucket.root)


def test_a_store_that_fails_is_asked_again(bucket):
    small_set(bucket.root / "set")
    records = index_records(open_each(["gs://bucket/set"]))
    bucket.failures.append(503)
    assert decode_columns(records.read(0)).image_id == 0
    bucket.failures.append(403)
    with pytest.raises(
        DataError,
        match=r"gs://bucket/set/records-00000-of-00003.*cannot be read: .*403",
    ):
        records.read(0)


def test_what_is_not_there(bucket):
    bucket.root.mkdir()
    with pytest.raises(
        DataError, match=r"gs://bucket/nothing: no directory of records"
    ):
        open_each(["gs://bucket/nothing"])
    with pytest.raises(DataError, match="ftp:// is not available here"):
        open_each(["ftp://bucket/x"])


def test_without_the_extra_it_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google.cloud", None)
    google_storage.close()
    with pytest.raises(
        DataError,
        match=r"gs:// needs google-cloud-storage: pip install 'deepmac\[gcp\]'",
    ):
        open_each(["gs://bucket/x"])
