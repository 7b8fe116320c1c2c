"""Loading: what fits is loaded exactly, what does not is told and changes nothing."""

from pathlib import Path

import numpy as np
import pytest

from deepmac.checkpoint import native
from deepmac.checkpoint.load import load_backbone, load_weights, open_weights
from deepmac.checkpoint.names import reference_name
from deepmac.checkpoint.native import save_weights
from deepmac.checkpoint.reader import VALUE_SUFFIX
from deepmac.checkpoint.report import Status
from deepmac.errors import CheckpointError
from deepmac.model.deepmac import DeepMAC
from deepmac.model.variables import named_variables

PROJECTION = "_mask_net/project_out/kernel"


@pytest.fixture(scope="module")
def model(small_config) -> DeepMAC:
    return DeepMAC(small_config())


@pytest.fixture(scope="module")
def arrays(model) -> dict[str, np.ndarray]:
    """A value for every variable of the model, by key."""
    rng = np.random.default_rng(7)
    return {
        f"model/{reference_name(path)}{VALUE_SUFFIX}": rng.normal(
            size=variable.shape
        ).astype(np.float32)
        for path, variable in named_variables(model).items()
    }


@pytest.fixture
def write(arrays, write_flat, tmp_path):
    """A reference checkpoint of `arrays`, some of them changed or (None) left out."""

    def write(**changes) -> str:
        changed = arrays | {
            f"model/{name}{VALUE_SUFFIX}": value for name, value in changes.items()
        }
        kept = {key: value for key, value in changed.items() if value is not None}
        return write_flat(tmp_path / "ckpt-1", kept)

    return write


def values_of(model) -> dict[str, np.ndarray]:
    return {
        path: np.array(variable) for path, variable in named_variables(model).items()
    }


def by_reference_name(model) -> dict[str, np.ndarray]:
    return {
        reference_name(path) or path: value for path, value in values_of(model).items()
    }


def assert_holds(model, arrays) -> None:
    for path, value in values_of(model).items():
        key = f"model/{reference_name(path)}{VALUE_SUFFIX}"
        np.testing.assert_array_equal(value, arrays[key], err_msg=path)


def test_every_variable_is_loaded(model, arrays, write):
    report = load_weights(model, open_weights(write()))
    assert report.counts[Status.LOADED] == len(arrays) == len(report.entries)
    assert_holds(model, arrays)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({PROJECTION: None}, "1 missing"),
        ({PROJECTION: np.zeros((1, 1, 3, 1), np.float32)}, "1 shape differs"),
        ({"_mask_net/more": np.zeros(2, np.float32)}, "1 unused"),
    ],
)
def test_what_does_not_fit_is_an_error_and_changes_nothing(
    model, write, change, status
):
    before = values_of(model)
    weights = open_weights(write(**change))
    with pytest.raises(CheckpointError, match=status) as caught:
        load_weights(model, weights)
    (name,) = change
    assert name in str(caught.value)
    after = values_of(model)
    assert all(np.array_equal(before[path], after[path]) for path in before)


def test_what_is_accepted_by_name_keeps_its_value(model, arrays, write):
    kernel = named_variables(model)["mask_head/project_out/kernel"]
    kernel.assign(np.full(kernel.shape, 3.0))
    weights = open_weights(write(**{PROJECTION: None}))
    report = load_weights(model, weights, accept=["_mask_net/project_out/*"])
    assert report.counts[Status.MISSING] == 1
    np.testing.assert_array_equal(np.array(kernel), 3.0)
    bias = named_variables(model)["mask_head/project_out/bias"]
    np.testing.assert_array_equal(
        np.array(bias), arrays[f"model/_mask_net/project_out/bias{VALUE_SUFFIX}"]
    )


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"num_classes": 7}, r"model\.center_net\.num_classes: 4 \(it has 7\)"),
        ({"dim": 9}, r"deepmac_mask_estimation\.dim: 5 \(it has 9\)"),
        (
            {"network_type": "hourglass20"},
            r'network_type: "hourglass10" \(it has "hourglass20"\)',
        ),
        ({"num_init_channels": 6}, r"num_init_channels: 4 \(it has 6\)"),
        ({"use_xy": False}, r"use_xy: true \(it has false\)"),
        ({"use_instance_embedding": False}, r"use_instance_embedding: true"),
    ],
)
def test_the_field_that_would_fit_is_named(small_config, write, fields, remedy):
    other = DeepMAC(small_config(**fields))
    with pytest.raises(CheckpointError, match=remedy):
        load_weights(other, open_weights(write()))


def test_another_embedding_kernel_is_named(small_config, write):
    other = DeepMAC(small_config(), embedding_head_kernel=(1, 3))
    with pytest.raises(CheckpointError, match=r"embedding_head_kernel: \[3, 3\]"):
        load_weights(other, open_weights(write()))


def test_the_backbone_alone_loads_into_a_model_with_other_heads(
    small_config, arrays, write
):
    other = DeepMAC(small_config(num_classes=7, network_type="hourglass20"))
    load_backbone(other, open_weights(write()))
    for path, value in values_of(other).items():
        if path.startswith("backbone/"):
            key = f"model/{reference_name(path)}{VALUE_SUFFIX}"
            np.testing.assert_array_equal(value, arrays[key])


def test_a_file_without_a_backbone_has_none_to_load(model, write_flat, tmp_path):
    path = write_flat(
        tmp_path / "ckpt-1",
        {f"model/{PROJECTION}{VALUE_SUFFIX}": np.zeros(1, np.float32)},
    )
    with pytest.raises(CheckpointError, match="holds no backbone"):
        load_backbone(model, open_weights(path))


def test_values_that_are_not_finite_are_refused(model, write):
    weights = open_weights(write(**{PROJECTION: np.full((1, 1, 8, 1), np.nan, "f")}))
    with pytest.raises(CheckpointError, match=f"{PROJECTION} holds .* not finite"):
        load_weights(model, weights)


def test_a_cut_off_file_is_told(model, write):
    path = write()
    weights = open_weights(path)
    data = Path(path + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        load_weights(model, weights)


@pytest.mark.parametrize("kind", ["reference index", "reference data", "native"])
def test_random_damage_is_told_or_did_no_harm(
    model, small_config, write, tmp_path, kind
):
    native_path = tmp_path / "model.weights.h5"
    save_weights(model, str(native_path))
    prefix = write(**by_reference_name(model))
    path = Path(prefix) if kind != "native" else native_path
    damaged = {
        "reference index": Path(prefix + ".index"),
        "reference data": Path(prefix + ".data-00000-of-00001"),
        "native": native_path,
    }[kind]
    other = DeepMAC(small_config())
    whole, rng = damaged.read_bytes(), np.random.default_rng(3)
    told = 0
    for attempt in range(12):
        content = bytearray(whole)
        if attempt % 2:
            content = content[: rng.integers(len(content))]
        for place in rng.integers(len(content), size=20):
            content[place] ^= 1 << rng.integers(8)
        damaged.write_bytes(content)
        try:
            load_weights(other, open_weights(path))
        except CheckpointError:
            told += 1
        else:
            held, loaded = values_of(model), values_of(other)
            assert all(np.array_equal(held[name], loaded[name]) for name in held)
    assert told >= 11  # bytes that mean nothing may change


class TestOurOwnFormat:
    def test_what_was_saved_is_loaded_exactly(self, model, small_config, tmp_path):
        path = str(tmp_path / "run" / "model.weights.h5")
        save_weights(model, path)
        other = DeepMAC(small_config())
        report = load_weights(other, open_weights(path))
        assert set(report.counts) - {s for s, n in report.counts.items() if not n} == {
            Status.LOADED
        }
        saved, loaded = values_of(model), values_of(other)
        assert all(np.array_equal(saved[path], loaded[path]) for path in saved)
        assert [p.name for p in (tmp_path / "run").iterdir()] == ["model.weights.h5"]

    def test_keras_alone_reads_it_too(self, model, small_config, tmp_path):
        path = str(tmp_path / "model.weights.h5")
        save_weights(model, path)
        other = DeepMAC(small_config())
        other.load_weights(path)
        saved, loaded = values_of(model), values_of(other)
        assert all(np.array_equal(saved[path], loaded[path]) for path in saved)

    def test_it_is_compared_as_a_reference_checkpoint_is(
        self, model, small_config, tmp_path
    ):
        path = str(tmp_path / "model.weights.h5")
        save_weights(model, path)
        other = DeepMAC(small_config(dim=9))
        with pytest.raises(CheckpointError, match=r"dim: 5 \(it has 9\)"):
            load_weights(other, open_weights(path))

    def test_a_name_without_the_suffix_is_refused(self, model, tmp_path):
        with pytest.raises(CheckpointError, match=r"must end in \.weights\.h5"):
            save_weights(model, str(tmp_path / "model.ckpt"))

    def test_a_path_that_cannot_be_written_is_told(self, model, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(CheckpointError, match="cannot be written"):
            save_weights(model, str(tmp_path / "file" / "model.weights.h5"))

    def test_a_file_of_keras_alone_is_told_apart(self, model, tmp_path):
        path = str(tmp_path / "model.weights.h5")
        model.save_weights(path)
        with pytest.raises(CheckpointError, match="without deepmac's index"):
            open_weights(path)

    def test_a_cut_off_file_is_told(self, model, tmp_path):
        path = tmp_path / "model.weights.h5"
        save_weights(model, str(path))
        path.write_bytes(path.read_bytes()[:20_000])
        with pytest.raises(CheckpointError, match="damaged or cut off"):
            open_weights(str(path))

    def test_a_changed_value_is_noticed(self, model, tmp_path):
        path = tmp_path / "model.weights.h5"
        save_weights(model, str(path))
        content = bytearray(path.read_bytes())
        value = np.array(model.mask_head.project_out.kernel).tobytes()
        content[content.index(value) + 1] ^= 1
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{PROJECTION}: damaged .*checksum"):
            load_weights(model, open_weights(path))

    def test_a_changed_index_is_noticed(self, model, tmp_path):
        path = tmp_path / "model.weights.h5"
        save_weights(model, str(path))
        content = path.read_bytes()
        path.write_bytes(
            content.replace(b'"mask_head/project_out/', b'"mask_head/project_in_/')
        )
        with pytest.raises(CheckpointError, match="checksum of the index"):
            open_weights(path)

    def test_a_file_of_a_later_format_is_refused(self, model, tmp_path, monkeypatch):
        path = str(tmp_path / "model.weights.h5")
        monkeypatch.setattr(native, "_FORMAT", 2)
        save_weights(model, path)
        monkeypatch.undo()
        with pytest.raises(CheckpointError, match="in format 2; this is deepmac"):
            open_weights(path)
