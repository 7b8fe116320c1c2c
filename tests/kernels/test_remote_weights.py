"""Remote weights: found as local ones are, and kept on this machine once for each version."""

import concurrent.futures
from pathlib import Path

import pytest

pytest.importorskip("google.cloud.storage")

from google.api_core.retry import Retry
from storage_emulator import Faults

from deepmac.checkpoint.locate import find_saved_model, locate
from deepmac.config.label_map import load_label_map
from deepmac.config.load import load_config, open_config
from deepmac.data import google_storage
from deepmac.data.files import Unreachable
from deepmac.errors import CheckpointError, ConfigError

CKPT = ("ckpt-51.index", "ckpt-51.data-00000-of-00002", "ckpt-51.data-00001-of-00002")
SAVED = ("saved_model.pb", "variables/variables.index", "assets/x")
SAVED += ("variables/variables.data-00000-of-00001",)
HDF5 = b"\x89HDF\r\n\x1a\n"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPMAC_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    google_storage.close()


@pytest.fixture
def stored(storage):
    """Puts files, each holding its own name, into the bucket."""

    def put(*names, content=None):
        for name in names:
            storage.put(name, name.encode() if content is None else content)
        return storage.url

    return put


@pytest.mark.parametrize(
    ("present", "given", "kind", "copied"),
    [
        ([f"m/{n}" for n in CKPT], "m/ckpt-51", "reference", CKPT),
        ([f"m/{n}" for n in (*CKPT, "big.bin")], "m", "reference", CKPT),
        ([f"m/{n}" for n in CKPT], "m/ckpt-51.index", "reference", CKPT),
        ([f"m/saved_model/{n}" for n in SAVED], "m/", "saved_model", SAVED),
        ([f"m/{n}" for n in SAVED], "m/saved_model.pb", "saved_model", SAVED),
        ([f"m/checkpoint/{n}" for n in CKPT], "m", "reference", CKPT),
    ],
)
def test_what_belongs_together_comes_together(
    stored, cache, present, given, kind, copied
):
    url = stored(*present)
    location = locate(f"{url}/{given}")
    assert location.kind == kind
    folder = Path(location.path)
    folder = folder if kind == "saved_model" else folder.parent
    assert folder.is_relative_to(cache)
    made = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    assert sorted(made) == sorted(copied)
    assert all(path.read_text().endswith(name) for name, path in made.items())


def test_the_newest_whole_checkpoint_of_a_run_is_meant(stored):
    url = stored("run/step-00000010/run.json", "run/step-00000020/state.npz")
    stored("run/step-00000010/model.weights.h5", content=HDF5 + b"10")
    stored("run/step-00000020/model.weights.h5", content=HDF5 + b"20")
    location = locate(f"{url}/run")  # the upload of step 20 was cut off
    assert (location.kind, Path(location.path).read_bytes()) == ("native", HDF5 + b"10")
    stored("run/step-00000020/run.json")
    assert Path(locate(f"{url}/run").path).read_bytes() == HDF5 + b"20"


def test_a_version_is_fetched_once(storage, stored):
    url = stored("w.weights.h5", content=HDF5)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = set(pool.map(locate, [f"{url}/w.weights.h5"] * 6))
    assert len(found) == 1
    whole = len(HDF5)
    storage.proxy.forget()
    locate(f"{url}/w.weights.h5")
    reads = [r for r in storage.proxy.requests if r.kind == "read"]
    assert len(reads) == 1  # the first 8 bytes, which tell what it is
    stored("w.weights.h5", content=HDF5 + b"new")
    (before,), after = found, locate(f"{url}/w.weights.h5")
    assert Path(after.path).read_bytes() == HDF5 + b"new"
    assert len(Path(before.path).read_bytes()) == whole  # who uses it, can


def test_through_a_bad_day_whole(storage, stored, monkeypatch):
    def policy():
        return Retry(google_storage._may_pass, initial=0.005, maximum=0.05, timeout=20)

    monkeypatch.setattr(google_storage, "_policy", policy)
    data = HDF5 + bytes(range(256)) * 100_000  # four pieces
    url = stored("w.weights.h5", content=data)
    storage.proxy.faults = Faults(errors=0.2, lost_answers=0.1, cut_short=0.2)
    assert Path(locate(f"{url}/w.weights.h5").path).read_bytes() == data


def test_a_copy_that_stops_in_the_middle_leaves_none(
    storage, stored, cache, monkeypatch
):
    monkeypatch.setattr(
        google_storage, "_policy", lambda: Retry(google_storage._may_pass, timeout=0.1)
    )
    url = stored(*CKPT)
    storage.proxy.refusals = {"of-00002": 503}
    with pytest.raises(Unreachable, match=r"ckpt-51.data-0000\d-of-00002: cannot be"):
        locate(f"{url}/ckpt-51")
    assert not [p for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"]
    storage.proxy.refusals = {}
    assert locate(f"{url}/ckpt-51").kind == "reference"


@pytest.mark.parametrize(
    ("present", "given", "message"),
    [
        (
            [CKPT[0]],
            "ckpt-51",
            r"gs://bucket/ckpt-51\.index is there, but its data file",
        ),
        (
            CKPT,
            "ckpt-15",
            r"gs://bucket/ckpt-15: no such checkpoint; did you mean 'ckpt-51'",
        ),
        (["x/notes"], "x", r"gs://bucket/x: no checkpoint in this directory"),
        ([], "a/b", r"the directory gs://bucket/a does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(stored, present, given, message):
    url = stored(*present)
    with pytest.raises(CheckpointError, match=message) as caught:
        locate(f"{url}/{given}")
    assert "\n" not in str(caught.value)


def test_where_nothing_can_be_kept(stored, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEEPMAC_CACHE", str(tmp_path / "file"))
    url = stored("w.weights.h5", content=HDF5)
    with pytest.raises(CheckpointError, match="DEEPMAC_CACHE can name another place"):
        locate(f"{url}/w.weights.h5")


def test_no_saved_model(stored):
    assert find_saved_model(f"{stored('a/b')}/a") is None


def test_configurations_and_label_maps(storage):
    name = "center_net_deepmac_512x512_voc_only"
    text = Path(__file__).parents[2].joinpath(f"configs/{name}.config").read_bytes()
    storage.put("c/my.config", text.replace(b"\n", b"\r\n"))
    storage.put("c/map", b'item { id: 1 name: "cat" }')
    assert load_config("gs://bucket/c/my.config") == load_config(name)
    assert load_label_map("gs://bucket/c/map")[0].name == "cat"
    with pytest.raises(ConfigError, match=r"^gs://bucket/c/mi.config: no such file$"):
        open_config("gs://bucket/c/mi.config")
