"""The training loop around an engine that only pretends: what it saves, says, stops at."""

import collections
import io
import itertools
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import small_training

from deepmac.checkpoint.locate import TRAINED, locate, training_checkpoints
from deepmac.config.load import load_config
from deepmac.config.training_schema import ConstantRateConfig, LearningRateConfig
from deepmac.data.tfrecord import read_frames
from deepmac.errors import CheckpointError
from deepmac.model.deepmac import DeepMAC
from deepmac.train.checkpoints import (
    latest_checkpoint,
    open_checkpoint,
    remove_partial,
    restore_checkpoint,
    sole_writer,
)
from deepmac.train.loop import Diverged, Loop, Plan
from deepmac.train.model_dir import ModelDir
from deepmac.train.monitor import Monitor
from deepmac.train.optimizer import keras_optimizer
from deepmac.train.progress import Progress
from deepmac.train.step import TrainState
from deepmac.train.validation import Scores

RATE = LearningRateConfig(constant_learning_rate=ConstantRateConfig(learning_rate=0.5))


class PretendingEngine:
    """Adds the learning rate to every variable at each step; `losses` by step, else 1."""

    num_devices = num_compiled = 1
    compiles_beforehand = True

    def __init__(self, state: TrainState, losses: dict[int, float] | None = None):
        self.state = state
        self.losses = losses or {}
        self.steps: list[tuple[int, float, float]] = []

    def trace(self, example): ...
    def compile(self): ...
    def to_variables(self): ...

    def step(self, parts, step, learning_rate, decay):
        self.steps.append((step, learning_rate, decay))
        loss = self.losses.get(step, 1.0)
        if math.isfinite(loss):
            for variable in self.state.model.variables:
                variable.assign(variable + learning_rate)
        return {"Loss/total_loss": loss, "gradient_norm": 1.0}


@pytest.fixture(scope="module")
def config():
    return load_config(small_training.CONFIG, small_training.OVERRIDES)


@pytest.fixture(scope="module")
def state(config) -> TrainState:
    model = DeepMAC(config.model.center_net)
    optimizer = keras_optimizer(config.train_config.optimizer)
    return TrainState.fresh(model, optimizer, with_averages=True)


@pytest.fixture
def loop(state, tmp_path):
    """Makes a loop of `num_steps`; keywords are those of `Plan` and `Loop`."""

    def make(
        num_steps: int, losses=None, *, evaluate=None, step=0, monitor=None, **plan
    ):
        batches = (([None], [f"image {k}"]) for k in itertools.count(step))
        return Loop(
            plan=Plan(num_steps=num_steps, rate=RATE, average_decay=0.9, **plan),
            engine=PretendingEngine(state, losses),
            state=state,
            model_dir=ModelDir(tmp_path, str(tmp_path)),
            facts={"seed": 0},
            step=step,
            batches=batches,
            evaluate=evaluate,
            progress=Progress(1, stream=io.StringIO()),
            monitor=monitor,
            counts=collections.Counter(),
        )

    return make


def said(loop: Loop) -> str:
    return loop.progress._stream.getvalue()


def steps_kept(model_dir: Path) -> list[int]:
    return [int(p.name[5:]) for p in training_checkpoints(model_dir)]


def test_checkpoints_come_as_often_as_asked_and_the_newest_stay(loop, tmp_path):
    assert loop(7, checkpoint_every=2, keep=3).run()
    assert steps_kept(tmp_path) == [4, 6, 7]
    checkpoint = latest_checkpoint(tmp_path)
    assert (checkpoint.step, checkpoint.facts) == (7, {"seed": 0})


def test_a_run_begins_with_a_checkpoint_and_goes_on_from_any(loop, tmp_path):
    loop(2, checkpoint_every=1).run()
    assert steps_kept(tmp_path) == [0, 1, 2]
    later = loop(4, checkpoint_every=1, step=2)
    later.run()
    assert [step for step, _, _ in later.engine.steps] == [2, 3]


def test_a_loss_that_is_not_finite_stops_the_run_with_its_images(loop, tmp_path):
    run = loop(9, {3: math.nan}, checkpoint_every=2)
    with pytest.raises(Diverged, match=r"step 4: Loss/total_loss .*image 3;") as told:
        run.run()
    assert "--on_non_finite skip" in str(told.value)
    assert f"begin another --model_dir from {tmp_path}/step-00000002" in str(told.value)
    assert "\n" not in str(told.value)
    assert steps_kept(tmp_path) == [0, 2]  # nothing is saved after it


def test_or_is_left_out_and_counted(loop, tmp_path):
    run = loop(4, {1: math.inf, 2: math.nan}, skip_non_finite=True)
    assert run.run()
    assert run.counts["steps_skipped"] == 2
    assert "image 1: left out, 1 in all" in said(run)
    assert latest_checkpoint(tmp_path).counts == {"steps_skipped": 2}


def test_a_run_that_skips_every_step_ends(loop):
    run = loop(300, dict.fromkeys(range(50, 300), math.nan), skip_non_finite=True)
    with pytest.raises(Diverged, match=r"step 150: .* 100 such steps have followed"):
        run.run()
    others = {k: math.nan for k in range(300) if k % 100}
    assert loop(300, others, skip_non_finite=True).run()  # 99 in a row at most


def test_two_processes_cannot_train_in_one_directory(tmp_path):
    with sole_writer(tmp_path):
        told = f"^{tmp_path}: another process trains there; wait"
        with pytest.raises(CheckpointError, match=told), sole_writer(tmp_path):
            pass
    with sole_writer(tmp_path):
        pass


def test_evaluation_sees_the_averages_and_leaves_the_weights(loop, state):
    seen = []

    def evaluate() -> Scores:
        seen.append([np.array(v.value) for v in state.model.variables])
        return Scores({"unseen/mean_iou_at_gt_boxes": 0.5}, {})

    for average in state.averages:
        average.assign(average * 0 + 7)
    run = loop(4, evaluate=evaluate, evaluate_every=3)
    run.run()
    assert len(seen) == 2  # after step 3, and after the last
    assert all((value == 7).all() for value in seen[0])
    assert not any((np.array(v.value) == 7).all() for v in state.model.variables)
    assert "step 3: unseen/mean_iou_at_gt_boxes 0.5000" in said(run)


def test_a_signal_stops_after_the_step_and_saves(loop, tmp_path):
    run = loop(100)
    step = run.engine.step

    def interrupted(*args):
        if args[1] == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    run.engine.step = interrupted
    assert not run.run()
    assert steps_kept(tmp_path) == [0, 5]


def test_tensorboard_gets_scalars_and_pictures(loop, tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    scores = Scores({"seen/mean_iou_at_gt_boxes": 0.25}, {"17": picture})
    monitor = Monitor(tmp_path / "board", 0)
    run = loop(2, evaluate=lambda: scores, evaluate_every=2, monitor=monitor)
    run.run()
    monitor.close()
    trained, evaluated = (
        events(tmp_path / "board" / name) for name in ("train", "eval")
    )
    assert trained["Loss/total_loss"] == {1: 1.0, 2: 1.0}
    assert trained["learning_rate"] == {1: 0.5, 2: 0.5}
    assert {"gradient_norm", "images_per_second", "waiting_for_input"} <= set(trained)
    assert evaluated["seen/mean_iou_at_gt_boxes"] == {2: 0.25}
    assert evaluated["masks/17"] == {2: "image"}


def events(folder: Path) -> dict[str, dict[int, object]]:
    """What the files of a folder hold, by name and step."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, object]] = {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            for _, data in read_frames(file, str(path)):
                event = Event.FromString(data)
                for value in event.summary.value:
                    is_image = value.HasField("image")
                    content = "image" if is_image else value.simple_value
                    found.setdefault(value.tag, {})[event.step] = content
    return found


# Checkpoints


def test_a_checkpoint_brings_everything_back(loop, state, tmp_path):
    loop(1).run()
    variables = [*state.model.variables, *state.optimizer.variables, *state.averages]
    before = [np.array(v.value) for v in variables]
    for variable in variables:
        variable.assign(variable.value * 0)
    restore_checkpoint(state, latest_checkpoint(tmp_path))
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable.value), value)


def test_a_model_dir_stands_for_its_newest_weights(loop, tmp_path):
    loop(3, checkpoint_every=2).run()
    for path in (tmp_path, tmp_path / "step-00000003"):
        location = locate(path)
        assert location.kind == "native"
        assert location.path == str(tmp_path / "step-00000003" / TRAINED)


def test_what_was_being_written_when_a_run_was_killed_is_not_a_checkpoint(tmp_path):
    (tmp_path / ".partial-step-00000004").mkdir()
    assert latest_checkpoint(tmp_path) is None
    remove_partial(tmp_path)
    assert not any(tmp_path.iterdir())


def damage_state(folder: Path) -> None:
    data = bytearray((folder / "state.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "state.npz").write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (damage_state, "state.npz: missing or damaged; remove"),
        (lambda f: (f / "state.npz").unlink(), "state.npz: missing or damaged; remove"),
        (lambda f: (f / "run.json").write_text("{"), "run.json: cannot be read"),
        (lambda f: (f / "run.json").write_text("{}"), "run.json: damaged, it has no"),
        (lambda f: (f / "run.json").unlink(), "run.json: cannot be read"),
        (
            lambda f: (f / "run.json").write_text('{"format": 9}'),
            "of format 9; this is deepmac",
        ),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_named(loop, state, tmp_path, spoil, told):
    loop(1).run()
    spoil(tmp_path / "step-00000001")
    with pytest.raises(CheckpointError, match=told) as refusal:
        restore_checkpoint(state, open_checkpoint(tmp_path / "step-00000001"))
    assert "step-00000001" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_state_of_another_network_is_refused(loop, config, tmp_path):
    loop(1).run()
    override = "model.center_net.deepmac_mask_estimation.network_type=resnet4"
    other = load_config(small_training.CONFIG, [*small_training.OVERRIDES, override])
    state = TrainState.fresh(
        DeepMAC(other.model.center_net),
        keras_optimizer(other.train_config.optimizer),
        with_averages=True,
    )
    with pytest.raises(CheckpointError, match=r"is only in the (checkpoint|run's)"):
        restore_checkpoint(state, latest_checkpoint(tmp_path))
