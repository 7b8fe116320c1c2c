"""All losses of a batch together: laws. The reference's numbers: tests/golden."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepmac.config.schema import CenterNetConfig, ConsistencyType, JitterMode
from deepmac.config.textproto import read
from deepmac.config.training_schema import (
    ClassificationLossConfig,
    LocalizationLossConfig,
    LossNormalize,
    SelfSupervisionLoss,
)
from deepmac.errors import ConfigError, DataError
from deepmac.model.deepmac import DeepMAC
from deepmac.model.hourglass import HourglassSpec
from deepmac.train import objective
from deepmac.train.batch import Batch, Normalisers

NUM_IMAGES, NUM_SLOTS, NUM_POINTS = 4, 5, 3
DICE = "weighted_dice_classification_loss {}"
WEAK = {
    "box_consistency_loss_weight": 0.5,
    "augmented_self_supervision_loss_weight": 0.7,
    "augmented_self_supervision_max_translation": 0.1,
    "augmented_self_supervision_flip_probability": 0.5,
}
FULL = {
    "predict_full_resolution_masks": True,
    "network_type": "resnet4",
    "color_consistency_loss_weight": 0.3,
    "pointly_supervised_keypoint_loss_weight": 0.2,
    "ignore_per_class_box_overlap": True,
} | WEAK
TINY = HourglassSpec(stem_channels=2, channels=(4, 4), blocks=(1, 1), num_hourglasses=2)
NAMES = [
    "Loss/object_center",
    "Loss/box/scale",
    "Loss/box/offset",
    objective.MASK,
    objective.BOX,
    objective.COLOUR,
    objective.VIEW,
    objective.POINT,
    objective.TOTAL,
]


def pixel_loss(text: str) -> ClassificationLossConfig:
    return read(text, ClassificationLossConfig, "test").build()


@pytest.fixture(scope="module")
def trainable(small_config) -> Callable[..., CenterNetConfig]:
    """`small_config` with losses; arguments are fields of its mask head."""

    def config(**fields) -> CenterNetConfig:
        loss = {"classification_loss": pixel_loss("weighted_sigmoid {}")}
        config = small_config(**(loss | fields))
        focal = "penalty_reduced_logistic_focal_loss { alpha: 2.0 beta: 4.0 }"
        l1 = read("l1_localization_loss {}", LocalizationLossConfig, "test").build()
        return dataclasses.replace(
            config,
            object_center_params=dataclasses.replace(
                config.object_center_params, classification_loss=pixel_loss(focal)
            ),
            object_detection_task=dataclasses.replace(
                config.object_detection_task, localization_loss=l1
            ),
        )

    return config


@pytest.fixture(scope="module")
def network(trainable) -> Callable[..., DeepMAC]:
    """A network of `trainable`; those of equal arguments are one."""
    made: dict[str, DeepMAC] = {}

    def make(reference_quirks=None, **fields) -> DeepMAC:
        key = repr((reference_quirks, sorted(fields.items())))
        if key not in made:
            keras.utils.set_random_seed(1)
            made[key] = DeepMAC(
                trainable(**fields),
                backbone=TINY,
                reference_quirks=reference_quirks,
            )
        return made[key]

    return make


def random_batch(model: DeepMAC, seed: int = 0, num_images: int = NUM_IMAGES) -> Batch:
    rng = np.random.default_rng(seed)
    shape = (num_images, NUM_SLOTS)
    corners = np.sort(rng.uniform(0, 1, (*shape, 2, 2)), axis=-2)
    boxes = corners.reshape(*shape, 4).astype(np.float32)
    classes = rng.integers(0, 4, shape).astype(np.int32)
    weights = rng.choice([0.5, 1.0], shape).astype(np.float32)
    empty = rng.uniform(size=shape) < 0.3
    boxes[empty], classes[empty], weights[empty] = 0, -1, 0
    params = model.config.deepmac_mask_estimation
    size = 64 if params.predict_full_resolution_masks else params.mask_size
    masks = rng.integers(0, 2, (*shape, size, size)).astype(np.uint8)
    return Batch(
        images=rng.uniform(100, 110, (num_images, 64, 64, 3)).astype(np.float32),
        true_shapes=rng.integers(30, 65, (num_images, 2)).astype(np.int32),
        boxes=boxes,
        classes=classes,
        weights=weights,
        roi_boxes=boxes,
        target_boxes=boxes,
        roi_classes=classes,
        roi_weights=weights,
        mask_weights=rng.choice([0.0, 1.0], shape, p=[0.2, 0.8]).astype(np.float32),
        masks=masks,
        view=rng.uniform(size=(num_images, 5)).astype(np.float32),
        keypoints=rng.uniform(size=(*shape, NUM_POINTS, 2)).astype(np.float32),
        point_depths=rng.choice([-1.0, 1.0], (*shape, NUM_POINTS)).astype(np.float32),
    )


def taken(batch: Batch, which) -> Batch:
    """Some of the images."""
    return Batch(*(array[which] for array in batch))


def losses_of(
    model, batch, normalisers=None, step=0, training=False
) -> dict[str, float]:
    if normalisers is None:
        normalisers = objective.normalisers(batch, model.config, 1)
    found = objective.compute_losses(model, batch, normalisers, step, training=training)
    assert all(loss.dtype == tf.float32 and loss.shape == () for loss in found.values())
    return {name: float(loss) for name, loss in found.items()}


def assert_equal(ours: dict[str, float], expected: dict[str, float], rtol=1e-5) -> None:
    assert ours.keys() == expected.keys()
    for name, loss in expected.items():
        assert ours[name] == pytest.approx(loss, rel=rtol, abs=1e-6), name


KINDS = pytest.mark.parametrize(
    "fields",
    [
        pytest.param(WEAK, id="rois"),
        pytest.param(FULL, id="full"),
        pytest.param(FULL | {"classification_loss": pixel_loss(DICE)}, id="full, dice"),
    ],
)


@KINDS
def test_the_order_of_images_and_instances_does_not_count(network, fields):
    model = network(**fields)
    batch = random_batch(model)
    expected = losses_of(model, batch)
    assert all(np.isfinite(loss) and loss > 0 for loss in expected.values())
    assert_equal(losses_of(model, taken(batch, [2, 0, 3, 1])), expected)
    order = np.array([4, 1, 3, 0, 2])
    of_images = {"images", "true_shapes", "view"}
    shuffled = {
        name: array if name in of_images else array[:, order]
        for name, array in batch._asdict().items()
    }
    assert_equal(losses_of(model, Batch(**shuffled)), expected)


@KINDS
def test_parts_of_a_batch_add_up_with_the_normalisers_of_the_whole(network, fields):
    model = network(**fields)
    batch = random_batch(model)
    whole = objective.normalisers(batch, model.config, 1)
    expected = losses_of(model, batch, whole)
    parts = [
        losses_of(model, taken(batch, which), Normalisers(*(a[which] for a in whole)))
        for which in ([0], [1, 2], [3])
    ]
    assert_equal({n: sum(p[n] for p in parts) for n in expected}, expected)


@KINDS
def test_groups_are_means_of_batches_that_are_normalised_on_their_own(network, fields):
    model = network(**fields)
    batch = random_batch(model)
    grouped = losses_of(model, batch, objective.normalisers(batch, model.config, 2))
    parts = [losses_of(model, taken(batch, which)) for which in ([0, 1], [2, 3])]
    assert_equal(grouped, {n: (parts[0][n] + parts[1][n]) / 2 for n in grouped})


def test_normalisers_count_boxes_masks_and_instances(network):
    model = network(allowed_masked_classes_ids=(1, 3))
    batch = random_batch(model, num_images=2)._replace(
        weights=np.array([[0.5, 1, 0], [1, 1, 1]], np.float32),
        roi_weights=np.array([[0.5, 1, 0], [1, 1, 1]], np.float32),
        roi_classes=np.array([[0, 1, -1], [2, 2, 0]], np.int32),
        mask_weights=np.array([[1, 1, 1], [1, 1, 0]], np.float32),
    )
    found = objective.normalisers(batch, model.config, 1)
    np.testing.assert_allclose(found.detection, [1 / 5] * 2)
    np.testing.assert_allclose(found.mask, [1 / 2.5] * 2)
    np.testing.assert_allclose(found.weak, [1 / 4.5] * 2)
    found = objective.normalisers(batch, model.config, 2)
    np.testing.assert_allclose(found.detection, [1 / 4, 1 / 6])
    np.testing.assert_allclose(found.mask, [1 / 2, 1 / 4])  # less than 1 counts as 1
    with pytest.raises(ConfigError, match="must be a multiple of the 3 parts"):
        objective.normalisers(batch, model.config, 3)


@KINDS
@pytest.mark.parametrize("quirks", [None, True])
def test_a_batch_without_instances_costs_nothing_but_its_background(
    network, fields, quirks
):
    model = network(quirks, **fields)
    batch = random_batch(model, num_images=1)
    nothing = batch._replace(
        **{
            name: np.zeros_like(getattr(batch, name))
            for name in ("boxes", "weights", "roi_boxes", "target_boxes", "roi_weights")
        },
        classes=np.full_like(batch.classes, -1),
        roi_classes=np.full_like(batch.classes, -1),
    )
    found = losses_of(model, nothing, training=True)
    background = found.pop("Loss/object_center")
    assert np.isfinite(background)
    assert background == found.pop(objective.TOTAL)
    assert set(found.values()) == {0.0}


def gradients(model: DeepMAC, batch: Batch) -> dict[str, np.ndarray]:
    normalisers = objective.normalisers(batch, model.config, 1)
    with tf.GradientTape() as tape:
        found = objective.compute_losses(model, batch, normalisers, 0)
        loss = found[objective.TOTAL]
    weights = [v.value for v in model.trainable_variables]
    found = tape.gradient(loss, weights, unconnected_gradients="zero")
    paths = [v.path for v in model.trainable_variables]
    return {
        path: np.asarray(tf.convert_to_tensor(gradient))
        for path, gradient in zip(paths, found, strict=True)
    }


@KINDS
def test_degenerate_boxes_have_finite_gradients(network, fields):
    count = {
        "box_consistency_loss_normalize": LossNormalize.NORMALIZE_GROUNDTRUTH_COUNT
    }
    model = network(**(fields | count))
    batch = random_batch(model, num_images=1)
    boxes = np.array(
        [
            [0.3, 0.3, 0.3, 0.3],
            [1, 1, 1, 1],
            [0, 0, 0, 0],
            [0.51, 0.51, 0.52, 0.52],
            [-0.1, -0.1, 1.1, 1.1],
        ],
        np.float32,
    )[None]
    batch = batch._replace(
        boxes=boxes,
        roi_boxes=boxes,
        target_boxes=boxes,
        classes=np.zeros((1, 5), np.int32),
        roi_classes=np.zeros((1, 5), np.int32),
        weights=np.ones((1, 5), np.float32),
        roi_weights=np.ones((1, 5), np.float32),
    )
    found = gradients(model, batch)
    assert all(np.isfinite(gradient).all() for gradient in found.values())
    assert any(np.abs(gradient).max() > 0 for gradient in found.values())


@pytest.mark.parametrize("what", ["unseen", "hidden"])
def test_instances_whose_masks_do_not_count_train_the_detector_alone(network, what):
    model = network(allowed_masked_classes_ids=(1,), ignore_per_class_box_overlap=True)
    batch = random_batch(model, num_images=2)
    if what == "unseen":
        batch = batch._replace(roi_classes=np.maximum(batch.roi_classes, 1))
    else:
        batch = batch._replace(
            roi_classes=np.zeros_like(batch.roi_classes),
            mask_weights=np.zeros_like(batch.mask_weights),
        )
    mask_head = {v.path for v in model.mask_head.trainable_variables}
    found = gradients(model, batch)
    assert mask_head <= found.keys()
    for path, gradient in found.items():
        if path in mask_head:
            assert not gradient.any()
    assert any(gradient.any() for gradient in found.values())
    seen = batch._replace(
        roi_classes=np.zeros_like(batch.roi_classes),
        mask_weights=np.ones_like(batch.mask_weights),
    )
    assert any(g.any() for p, g in gradients(model, seen).items() if p in mask_head)


def test_the_network_may_compute_in_bfloat16(network):
    model = network(**FULL)
    batch = random_batch(model)
    normalisers = objective.normalisers(batch, model.config, 1)
    outputs = model(batch.images, batch.roi_boxes)
    rough = tf.nest.map_structure(lambda x: tf.cast(x, tf.bfloat16), outputs)
    exact, found = (
        objective.losses_of(model, said, batch, normalisers, 0, training=False)
        for said in (outputs, rough)
    )
    assert {loss.dtype for loss in found.values()} == {tf.float32}
    for name, loss in exact.items():
        np.testing.assert_allclose(found[name], loss, rtol=0.05, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [WEAK, FULL], ids=["rois", "full"])
def test_xla_compiles_the_losses(network, fields):
    model = network(**(fields | {"augmented_self_supervision_loss_weight": 0.0}))
    batch = random_batch(model, num_images=2)
    normalisers = objective.normalisers(batch, model.config, 1)
    outputs = model(batch.images, batch.roi_boxes)

    def losses(outputs, *batch):
        batch = Batch(*batch)
        return objective.losses_of(
            model, outputs, batch, normalisers, 0, training=False
        )

    compiled = tf.function(losses, jit_compile=True, autograph=False)
    found = {name: float(loss) for name, loss in compiled(outputs, *batch).items()}
    assert_equal(found, losses_of(model, batch), rtol=1e-4)


def test_losses_of_weight_0_are_not_there(network):
    model = network(**FULL)
    assert list(losses_of(model, random_batch(model))) == NAMES
    model = network(task_loss_weight=0.0)
    assert list(losses_of(model, random_batch(model))) == [
        *NAMES[:3],
        objective.TOTAL,
    ]


def test_losses_that_warm_up_do_so_in_training(network):
    fields = {
        "predict_full_resolution_masks": True,
        "network_type": "resnet4",
        "task_loss_weight": 0.0,
        "color_consistency_loss_weight": 0.3,
        "augmented_self_supervision_loss_weight": 0.7,
        "color_consistency_warmup_start": 10,
        "color_consistency_warmup_steps": 10,
        "augmented_self_supervision_warmup_steps": 40,
    }
    model = network(**fields)
    batch = random_batch(model, num_images=1)
    before, midway, after = (
        losses_of(model, batch, step=step, training=True) for step in (0, 15, 99)
    )
    assert before[objective.COLOUR] == before[objective.VIEW] == 0
    assert midway[objective.COLOUR] == pytest.approx(after[objective.COLOUR] / 2)
    assert midway[objective.VIEW] == pytest.approx(after[objective.VIEW] * 15 / 40)
    for name in (objective.COLOUR, objective.VIEW):
        assert losses_of(model, batch, step=0)[name] > 0


def test_features_may_be_compared_in_place_of_colours(network):
    kind = {"feature_consistency_type": ConsistencyType.CONSISTENCY_FEATURE_MAP}
    of_colours, of_features = network(**FULL), network(**(FULL | kind))
    found = [
        losses_of(model, random_batch(model))[objective.COLOUR]
        for model in (of_colours, of_features)
    ]
    assert found[0] != found[1]
    assert np.isfinite(found).all()


def test_quirks_change_what_is_compared_in_rois_alone(network):
    for fields, differs in ((WEAK, True), (FULL, False)):
        ours, reference = network(None, **fields), network(True, **fields)
        batch = random_batch(ours)
        # no view moves: undoing one is another quirk
        batch = batch._replace(view=np.tile(np.float32([0.5, 0.5, 0, 0, 1]), (4, 1)))
        found = [losses_of(model, batch) for model in (ours, reference)]
        assert (found[0][objective.BOX] != found[1][objective.BOX]) == differs
        # but for how norms round
        assert found[0][objective.MASK] == pytest.approx(
            found[1][objective.MASK], rel=1e-5
        )


def test_with_jitter_the_boxes_are_those_of_the_instances(network):
    jitter = {"max_roi_jitter_ratio": 0.1, "jitter_mode": JitterMode.EXPAND}
    model = network(**(WEAK | jitter))
    batch = random_batch(model)
    expected = losses_of(model, batch)[objective.BOX]
    larger = batch.boxes + np.array([-0.1, -0.1, 0.1, 0.1], np.float32)
    rois = np.where(batch.weights[..., None] > 0, larger, 0).astype(np.float32)
    moved = losses_of(model, batch._replace(roi_boxes=rois, target_boxes=rois))
    assert moved[objective.BOX] > 0
    assert moved[objective.BOX] != expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classification_loss": None}, "classification_loss: training needs it"),
        (
            {"color_consistency_loss_weight": 1.0},
            "color_consistency_loss_weight: needs predict_full_resolution_masks",
        ),
        (
            {"pointly_supervised_keypoint_loss_weight": 1.0},
            "keypoint_loss_weight: needs predict_full_resolution_masks",
        ),
        (
            {
                "classification_loss": pixel_loss(DICE),
                "box_consistency_loss_weight": 1.0,
                "box_consistency_loss_normalize": LossNormalize.NORMALIZE_BALANCED,
            },
            "box_consistency_loss_normalize: NORMALIZE_BALANCED needs a loss of each",
        ),
        (
            {
                "augmented_self_supervision_loss_weight": 1.0,
                "augmented_self_supervision_loss": SelfSupervisionLoss.LOSS_UNSET,
            },
            "augmented_self_supervision_loss: must be LOSS_DICE",
        ),
        (
            {
                "box_consistency_loss_weight": 1.0,
                "mask_num_subsamples": 3,
                "max_roi_jitter_ratio": 0.1,
            },
            "max_roi_jitter_ratio: cannot be combined with mask_num_subsamples",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_by_field(trainable, fields, message):
    with pytest.raises(ConfigError, match=message):
        objective.check_trainable(trainable(**fields))


def test_losses_of_the_detector_are_checked_as_well(trainable, small_config):
    config = trainable()

    def check(message, **fields):
        with pytest.raises(ConfigError, match=message):
            objective.check_trainable(dataclasses.replace(config, **fields))

    untrained = small_config()
    check(
        "object_center_params.classification_loss: training needs it",
        object_center_params=untrained.object_center_params,
    )
    check(
        "object_detection_task.localization_loss: training needs it",
        object_detection_task=untrained.object_detection_task,
    )
    check(
        "use_labeled_classes: records do not say",
        object_center_params=dataclasses.replace(
            config.object_center_params, use_labeled_classes=True
        ),
    )
    with pytest.raises(ConfigError, match="nothing is trained"):
        objective.check_trainable(
            dataclasses.replace(
                trainable(task_loss_weight=0.0),
                object_center_params=dataclasses.replace(
                    config.object_center_params, object_center_loss_weight=0.0
                ),
                object_detection_task=dataclasses.replace(
                    config.object_detection_task, task_loss_weight=0.0
                ),
            )
        )


def test_a_colour_loss_without_full_resolution_is_0_in_the_reference(network):
    model = network(True, color_consistency_loss_weight=1.0)
    assert losses_of(model, random_batch(model))[objective.COLOUR] == 0


def test_a_loss_of_points_needs_points(network):
    model = network(**FULL)
    batch = random_batch(model)._replace(keypoints=None)
    with pytest.raises(DataError, match="there are no keypoints with depths"):
        losses_of(model, batch)
