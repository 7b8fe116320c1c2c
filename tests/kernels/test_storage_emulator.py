"""The emulators and the proxy before them, as Google's own client and Beam see them."""

import pytest

gcs = pytest.importorskip("google.cloud.storage")

from storage_emulator import Faults  # noqa: E402

DATA = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(params=["storage", "strict_storage"])
def store(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def bucket(store):
    client = gcs.Client()
    yield client.bucket("bucket")
    client.close()


def test_what_is_written_is_read_and_counted(store, bucket):
    bucket.blob("a/x y.bin").upload_from_string(DATA)
    large = bucket.blob("large", chunk_size=1 << 18)
    with large.open("wb") as file:  # in pieces
        file.write(DATA)
    assert store.names() == ["a/x y.bin", "large"]
    assert store.get("a/x y.bin") == store.get("large") == DATA
    assert bucket.blob("large").download_as_bytes(start=5, end=9) == DATA[5:10]
    bucket.copy_blob(large, bucket, "b/copy")
    assert store.get("b/copy") == DATA
    bucket.blob("b/copy").delete()
    found = {blob.name: blob for blob in bucket.client.list_blobs(bucket)}
    assert list(found) == ["a/x y.bin", "large"]
    found["large"].download_as_bytes()  # where the list says that it is
    asked = [(r.kind, r.name) for r in store.proxy.requests if r.kind != "facts"]
    assert asked == [
        ("write", "a/x y.bin"),
        *[("write", "large")] * 6,
        ("read", "large"),
        ("copy", "large"),
        ("remove", "b/copy"),
        ("list", ""),
        ("read", "large"),
    ]


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(errors=1.0), "429|500|503"),
        (Faults(hangs=1.0, hang_seconds=0.1), "Remote end closed|Connection"),
        (Faults(lost_answers=1.0), "Remote end closed|Connection"),
        (Faults(cut_short=1.0), "IncompleteRead|bytes read|Connection"),
    ],
)
def test_faults(storage, faults, error):
    storage.put("x", DATA)
    client = gcs.Client()
    storage.proxy.faults = faults
    with pytest.raises(Exception, match=error):
        client.bucket("bucket").blob("x").download_as_bytes(retry=None)
    storage.proxy.faults = Faults()
    assert client.bucket("bucket").blob("x").download_as_bytes() == DATA
    client.close()


def test_an_answer_is_lost_after_the_work(storage):
    client = gcs.Client()
    storage.proxy.faults = Faults(lost_answers=1.0)
    with pytest.raises(Exception, match=r"Remote end closed|Connection"):
        client.bucket("bucket").blob("x").upload_from_string(b"done", retry=None)
    assert storage.get("x") == b"done"
    client.close()


def test_the_same_requests_fail_in_every_run(storage):
    def run():
        storage.proxy.forget()
        for number in range(20):
            with pytest.raises(Exception, match=r"404|429|500|503"):
                client.bucket("bucket").blob(f"{number}").download_as_bytes(retry=None)
        return [r.fault for r in storage.proxy.requests if r.kind == "read"]

    client = gcs.Client()
    storage.proxy.faults = Faults(errors=0.3)
    first = run()
    assert 2 < first.count("errors") < 12
    assert run() == first
    client.close()


def test_a_precondition_is_kept(strict_storage):
    client = gcs.Client()
    blob = client.bucket("bucket").blob("x")
    blob.upload_from_string(b"first", if_generation_match=0)
    with pytest.raises(Exception, match="412"):
        blob.upload_from_string(b"second", if_generation_match=0)
    assert strict_storage.get("x") == b"first"
    client.close()


def test_beam_reads_and_writes(storage):
    filesystems = pytest.importorskip("apache_beam.io.filesystems").FileSystems
    with filesystems.create("gs://bucket/a/b.txt") as file:
        file.write(DATA)
    assert storage.get("a/b.txt") == DATA
    (found,) = filesystems.match(["gs://bucket/a/*"])
    assert [m.path for m in found.metadata_list] == ["gs://bucket/a/b.txt"]
