"""`deepmac.train.run` in this process: what it starts from, evaluates, refuses; real steps."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import small_training

from deepmac.checkpoint.native import save_weights
from deepmac.config.load import load_config
from deepmac.data.decode import decode_rgb
from deepmac.data.directory import open_records
from deepmac.data.input import training_input
from deepmac.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DeepmacError,
    OptionError,
)
from deepmac.instances import BoxMasks
from deepmac.model.deepmac import DeepMAC
from deepmac.model.variables import named_variables
from deepmac.train import run as run_module
from deepmac.train import validation as validation_module
from deepmac.train.checkpoints import latest_checkpoint
from deepmac.train.loop import EVALUATIONS
from deepmac.train.objective import normalisers
from deepmac.train.optimizer import keras_optimizer
from deepmac.train.run import RunOptions, train
from deepmac.train.step import MicroBatch, TrainState, open_engine, split

SGD = (
    "train_config.optimizer={momentum_optimizer: {momentum_optimizer_value: 0 learning_rate: "
    "{constant_learning_rate: {learning_rate: 1}}} use_moving_average: false}"
)


@pytest.fixture(scope="module")
def overrides(tmp_path_factory) -> list[str]:
    return small_training.write_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def trained(overrides, tmp_path_factory) -> Path:
    """A run of two steps with an evaluation."""
    model_dir = tmp_path_factory.mktemp("trained")
    config = load_config(small_training.CONFIG, overrides)
    assert train(config, RunOptions(model_dir=model_dir, num_steps=2))
    return model_dir


def test_an_evaluation_is_what_label_and_evaluate_say(overrides, trained, tmp_path):
    from pipelines import evaluate, infer

    records = overrides[-1].partition("=")[2]
    words = [w for override in small_training.OVERRIDES for w in ("--set", override)]
    argv = ["--records", records, "--model", small_training.CONFIG, *words]
    argv += ["--checkpoint", str(trained), "--out", str(tmp_path / "masks")]
    assert infer.main(argv) == 0
    seen = Path(records).parent / "shapes_val" / "seen.txt"
    argv = ["--ground_truth", records, "--predictions", str(tmp_path / "masks")]
    argv += ["--out", str(tmp_path / "metrics"), "--seen", f"@{seen}"]
    assert evaluate.main(argv) == 0
    metrics = json.loads((tmp_path / "metrics" / "metrics.json").read_bytes())["segm"]
    (line,) = (trained / EVALUATIONS).read_text().splitlines()
    values = json.loads(line)
    assert values.pop("step") == 2
    for group in ("seen", "unseen"):
        # `label` folds norms into convolutions, which rounds otherwise.
        for ours, theirs in (("mean_iou_at_gt_boxes",) * 2, ("AP_at_gt_boxes", "AP")):
            assert values[f"{group}/{ours}"] == pytest.approx(
                metrics["groups"][group][theirs], abs=2e-3
            )


class DetectsTheTruth:
    """Finds every object of some records, and fills its box."""

    def __init__(self, records: str):
        self._found = {}
        for example in open_records(records).examples():
            objects = [i for i in example.instances if not i.is_crowd]
            boxes = np.array([i.box for i in objects], np.float32).reshape(-1, 4)
            ids = np.array([i.category_id for i in objects], np.int32)
            self._found[decode_rgb(example.encoded).tobytes()] = boxes, ids

    def __call__(self, images, boxes):
        found = [self._found[image.tobytes()] for image in images]
        return [
            BoxMasks(
                boxes=some,
                mask_probs=np.ones((len(ids), 2, 2), np.float32),
                scores=np.ones(len(ids), np.float32),
                category_ids=ids,
            )
            for some, ids in found
        ]


def test_where_detection_trains_detections_are_evaluated(overrides, monkeypatch):
    val = overrides[-1].partition("=")[2]
    monkeypatch.setattr(
        validation_module, "DeepmacPredictor", lambda model: DetectsTheTruth(val)
    )
    no_detection = "model.center_net.object_detection_task.task_loss_weight=0"
    for changes, detects in (([], True), ([no_detection], False)):
        config = load_config(small_training.CONFIG, [*overrides, *changes])
        options = RunOptions(model_dir=Path("unused"))
        validation = run_module._validation(config, options, {1, 2, 3})
        values = validation(object()).values
        for group in ("all", "seen", "unseen"):
            assert 0 < values[f"{group}/AP_at_gt_boxes"] < 1
            if detects:
                mask_ap = values[f"{group}/mask_AP"]
                assert mask_ap == values[f"{group}/AP_at_gt_boxes"]
                assert values[f"{group}/box_AP"] == pytest.approx(1)
        assert ("all/box_AP" in values) == detects


def test_seen_are_the_categories_whose_masks_the_records_hold(overrides, tmp_path):
    """Whatever the configuration allows: here, all of them."""
    path = "train_input_reader.tf_record_input_reader.input_path"
    all_masks = overrides[-1].partition("=")[2]
    for records, groups in (
        (None, {"all", "seen", "unseen"}),
        (all_masks, {"all", "seen"}),
    ):
        changes = [f"{path}={records}"] if records else []
        changes += [
            "model.center_net.deepmac_mask_estimation.allowed_masked_classes_ids=[]"
        ]
        config = load_config(small_training.CONFIG, [*overrides, *changes])
        options = RunOptions(model_dir=tmp_path / "run")
        with training_input(config, seed=0) as source:
            validation = run_module._validation(config, options, source.supervised_ids)
        assert {name for name, ids in validation._groups.items() if ids} == groups


def test_epochs_that_end_before_the_steps_do_end_the_run(overrides, tmp_path, capsys):
    epochs = [*overrides, "train_input_reader.num_epochs=1"]
    config = load_config(small_training.CONFIG, epochs)
    options = RunOptions(model_dir=tmp_path / "run", num_steps=9, evaluate_every=0)
    assert train(config, options)
    said = capsys.readouterr().err
    assert "train_input_reader.num_epochs is 1: there are batches for 4 steps" in said
    assert "step 4 of 4:" in said


def test_hidden_masks_are_no_ground_truth(overrides, tmp_path):
    hidden = overrides[-2].partition("=")[2]
    path = "eval_input_reader[0].tf_record_input_reader.input_path"
    config = load_config(small_training.CONFIG, [*overrides, f"{path}={hidden}"])
    with pytest.raises(DataError, match="are hidden or missing") as refusal:
        train(config, RunOptions(model_dir=tmp_path / "run", num_steps=1))
    assert "--split all" in str(refusal.value)


# What a run starts from


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    config = load_config(small_training.CONFIG, small_training.OVERRIDES)
    model = DeepMAC(config.model.center_net)
    for variable in model.variables:
        variable.assign(variable * 0 + 0.5)
    path = tmp_path_factory.mktemp("weights") / "start.weights.h5"
    save_weights(model, str(path))
    return path


@pytest.mark.parametrize(
    ("kind", "loads_heads"),
    [("detection", False), ("fine_tune", False), ("full", True)],
)
def test_fine_tuning_takes_the_backbone_or_everything(weights, kind, loads_heads):
    config = load_config(
        small_training.CONFIG,
        [
            *small_training.OVERRIDES,
            f"train_config.fine_tune_checkpoint={weights}",
            f"train_config.fine_tune_checkpoint_type={kind}",
        ],
    )
    options = RunOptions(model_dir=Path("unused"))
    weights = run_module._weights_to_fine_tune(config)
    state = run_module._fresh_state(config, options, None, weights)
    for path, variable in named_variables(state.model).items():
        is_loaded = bool((np.asarray(variable.value) == 0.5).all())
        expected = loads_heads or path.startswith("backbone/")
        assert is_loaded == expected, path


@pytest.mark.parametrize(
    ("fields", "error", "told"),
    [
        (
            {"fine_tune_checkpoint": "PATH_TO_BE_CONFIGURED/ckpt-1"},
            ConfigError,
            "is still",
        ),
        (
            {"fine_tune_checkpoint": "{weights}"},
            ConfigError,
            "_type is not given; set it",
        ),
        (
            {
                "fine_tune_checkpoint": "{weights}",
                "fine_tune_checkpoint_type": "classification",
            },
            ConfigError,
            "hourglasses do not have",
        ),
        (
            {
                "fine_tune_checkpoint": "no/such/ckpt-1",
                "fine_tune_checkpoint_type": "full",
            },
            CheckpointError,
            "no/such/ckpt-1: no such checkpoint",
        ),
    ],
)
def test_what_cannot_be_started_from_is_told_before_anything(
    weights, tmp_path, fields, error, told
):
    assignments = [
        f"train_config.{name}={value.format(weights=weights)}"
        for name, value in fields.items()
    ]
    config = load_config(
        small_training.CONFIG, [*small_training.OVERRIDES, *assignments]
    )
    with pytest.raises(error, match=told) as refusal:
        train(config, RunOptions(model_dir=tmp_path / "run", num_steps=1))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"accumulation_steps": 4},
            "cannot be cut into 4 accumulation steps on 1 device;",
        ),
        ({"normaliser_groups": 3}, "--normaliser_groups=3: must divide"),
        ({"num_devices": 9}, "--num_devices=9: TensorFlow has 1 here"),
        ({"mask_slots": 7}, "--mask_slots must be in 1..6"),
        ({"rematerialise": True}, "--rematerialise: not on tensorflow"),
    ],
)
def test_options_that_do_not_fit_are_refused(overrides, tmp_path, options, told):
    options = {"model_dir": tmp_path / "run", "num_steps": 1, **options}
    config = load_config(small_training.CONFIG, overrides)
    with pytest.raises(OptionError, match=told):
        train(config, RunOptions(**options))


def test_a_path_object_cannot_name_a_place_in_a_store(overrides):
    config = load_config(small_training.CONFIG, overrides)
    options = RunOptions(model_dir=Path("gs://bucket/run"), num_steps=1)
    with pytest.raises(DeepmacError, match=r"as gs://bucket/run;"):
        train(config, options)


def test_a_run_goes_on_with_its_own_settings_alone(overrides, trained):
    config = load_config(small_training.CONFIG, overrides)
    for options, told in (
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"normaliser_groups": 2}, "normaliser_groups was 1 and is 2"),
    ):
        with pytest.raises(CheckpointError, match=told):
            train(config, RunOptions(model_dir=trained, num_steps=4, **options))


# Real steps


@pytest.fixture(scope="module")
def network():
    config = load_config(small_training.CONFIG, [*small_training.OVERRIDES, SGD])

    def make():
        from deepmac.backend import repeatable_weights

        with repeatable_weights():
            model = DeepMAC(config.model.center_net)
        optimizer = keras_optimizer(config.train_config.optimizer)
        state = TrainState.fresh(model, optimizer, with_averages=True)
        return state, open_engine(state)

    return config.model.center_net, make


def values(state: TrainState) -> list[np.ndarray]:
    variables = [*state.model.variables, *state.averages]
    return [np.array(v.value) for v in variables]


def test_a_step_that_is_not_finite_changes_nothing(network):
    net, make = network
    state, engine = make()
    batch = small_training.made_up(net, 2)
    part = MicroBatch(batch, normalisers(batch, net, 1))
    part.normalisers.mask[0] = np.nan
    before = values(state)
    losses = engine.step([part], 0, 1.0, 0.5)
    engine.to_variables()
    assert not math.isfinite(float(losses["Loss/total_loss"]))
    for ours, value in zip(values(state), before, strict=True):
        np.testing.assert_array_equal(ours, value)


def test_the_parts_of_an_accumulated_step_add_up(network):
    """With a rate of 1 a weight moves by its gradient; norms see a part at a time."""
    net, make = network
    batch = small_training.made_up(net, 2)
    parts = split(MicroBatch(batch, normalisers(batch, net, 1)), 2)

    def moved(*some: MicroBatch):
        state, engine = make()
        before = [np.array(v.value) for v in state.model.trainable_variables]
        losses = engine.step(some, 0, 1.0, 0.5)
        engine.to_variables()
        after = state.model.trainable_variables
        return [
            np.array(v.value) - value for v, value in zip(after, before, strict=True)
        ], {name: float(value) for name, value in losses.items()}

    together, losses = moved(*parts)
    first, losses_of_first = moved(parts[0])
    second, losses_of_second = moved(parts[1])
    for whole, a, b in zip(together, first, second, strict=True):
        # Weights are near 1, gradients are what float32 leaves of the difference.
        np.testing.assert_allclose(whole, a + b, rtol=1e-3, atol=1e-4)
    for name in losses_of_first:
        if name.startswith("Loss/"):
            total = losses_of_first[name] + losses_of_second[name]
            assert losses[name] == pytest.approx(total, rel=1e-5)


def test_a_gradient_is_clipped_to_the_norm_asked_for(network):
    net, make = network
    batch = small_training.made_up(net, 2)
    part = MicroBatch(batch, normalisers(batch, net, 1))
    state, engine = make()
    state.clip_norm = 0.125
    before = [np.array(v.value, np.float64) for v in state.model.trainable_variables]
    losses = engine.step([part], 0, 1.0, 0.5)
    engine.to_variables()
    after = [np.array(v.value, np.float64) for v in state.model.trainable_variables]
    moved = math.sqrt(
        sum(((a - b) ** 2).sum() for a, b in zip(after, before, strict=True))
    )
    assert float(losses["gradient_norm"]) > 1  # before clipping
    assert moved == pytest.approx(0.125, rel=1e-3)


def test_plans_are_those_of_the_configuration():
    config = load_config("center_net_deepmac_512x512_voc_only")
    options = RunOptions(model_dir=Path("unused"))
    plan = run_module._plan(config, options, 50000, None)
    assert dataclasses.asdict(plan) | {"rate": None} == {
        "num_steps": 50000,
        "rate": None,
        "average_decay": None,
        "checkpoint_every": 1000,
        "keep": 7,
        "evaluate_every": 0,
        "skip_non_finite": False,
    }


def test_checkpoints_say_what_was_counted(trained):
    counts = latest_checkpoint(trained).counts
    assert counts["images"] == 4
    assert counts["masks"] > 0
