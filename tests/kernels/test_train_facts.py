"""What of a configuration may change in the middle of a run, and what may not."""

import pytest

from deepmac.config.load import load_config
from deepmac.errors import CheckpointError
from deepmac.train.facts import check_same, facts_of

NAME = "center_net_deepmac_512x512_voc_only"


def facts(*overrides: str, **others):
    return facts_of(load_config(NAME, overrides), seed=0, **others)


@pytest.mark.parametrize(
    "override",
    [
        "train_config.num_steps=7",
        "train_config.fine_tune_checkpoint=elsewhere/ckpt-1",
        "train_input_reader.tf_record_input_reader.input_path=elsewhere",
        "eval_config.batch_size=2",
    ],
)
def test_what_does_not_touch_the_trajectory_may_change(override):
    check_same(facts(), facts(override), "run")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "train_config.batch_size=64",
            "train_config.batch_size was 128 and is 64",
        ),
        (
            "model.center_net.deepmac_mask_estimation.dim=64",
            "deepmac_mask_estimation.dim was 32 and is 64",
        ),
        (
            "train_config.data_augmentation_options={random_horizontal_flip: {}}",
            "data_augmentation_options",
        ),
    ],
)
def test_what_does_is_refused_by_name(override, told):
    with pytest.raises(CheckpointError, match=told) as refusal:
        check_same(facts(), facts(override), "run")
    assert "\n" not in str(refusal.value)


def test_another_seed_is_another_run():
    before, now = {**facts(), "input": "a"}, {**facts(), "input": "b", "seed": 1}
    with pytest.raises(CheckpointError, match="settings: seed was 0 and is 1; give"):
        check_same(before, now, "run")


def test_other_records_are_another_run():
    with pytest.raises(CheckpointError, match="the records, their order or the label"):
        check_same({**facts(), "input": "a"}, {**facts(), "input": "b"}, "run")


def test_a_field_that_a_later_version_adds_changes_nothing():
    """Fields that have their defaults are not noted, so there is nothing that could be missing."""
    assert "train_config.add_regularization_loss" not in facts()
    changed = facts("train_config.gradient_clipping_by_norm=3")
    with pytest.raises(CheckpointError, match="by_norm was not set and is 3"):
        check_same(facts(), changed, "run")


def test_facts_survive_json():
    import orjson

    assert orjson.loads(orjson.dumps(facts())) == facts()
