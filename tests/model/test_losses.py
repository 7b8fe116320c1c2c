"""The losses of pixels, boxes and masks against Keras's, by eye and by laws. The reference's:
tests/golden."""

import keras
import numpy as np
import pytest

from deepmac.config.schema import ConsistencyComparison, MaskHeadConfig
from deepmac.config.textproto import read
from deepmac.config.training_schema import (
    ClassificationLossConfig,
    LocalizationLossConfig,
    LossNormalize,
    SelfSupervisionLoss,
)
from deepmac.train import losses, targets, weak_losses

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (2, 3, 40)).astype(np.float32)
TARGETS = RNG.uniform(0, 1, LOGITS.shape).astype(np.float32)

PIXEL_LOSSES = [
    "weighted_sigmoid {}",
    "weighted_sigmoid_focal { gamma: 2.0 alpha: 0.25 }",
    "penalty_reduced_logistic_focal_loss { alpha: 2.0 beta: 4.0 }",
    "weighted_dice_classification_loss {}",
    "weighted_dice_classification_loss { squared_normalization: true }",
]


def pixel_loss(text: str) -> ClassificationLossConfig:
    return read(text, ClassificationLossConfig, "test").build()


def classification_loss(text: str, logits=LOGITS, wanted=TARGETS, **options):
    return np.asarray(
        losses.classification_loss(pixel_loss(text), logits, wanted, **options)
    )


def test_cross_entropy_is_that_of_keras():
    expected = keras.ops.binary_crossentropy(TARGETS, LOGITS, from_logits=True)
    np.testing.assert_allclose(
        classification_loss("weighted_sigmoid {}"), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_loss_is_that_of_keras(alpha):
    is_centre = (TARGETS > 0.5).astype(np.float32)  # Keras's alpha is for whole targets
    peer = keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=alpha is not None,
        alpha=alpha or 0.5,
        gamma=2.0,
        from_logits=True,
        reduction=None,
    )
    expected = peer(is_centre[..., None], LOGITS[..., None])
    text = (
        f"weighted_sigmoid_focal {{ gamma: 2.0 {f'alpha: {alpha}' if alpha else ''} }}"
    )
    np.testing.assert_allclose(
        classification_loss(text, wanted=is_centre), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("l1_localization_loss {}", np.abs),
        ("weighted_l2 {}", lambda d: d**2 / 2),
        (
            "weighted_smooth_l1 { delta: 0.5 }",
            lambda d: np.asarray(
                keras.losses.Huber(delta=0.5, reduction=None)(
                    np.zeros_like(d)[..., None], d[..., None]
                )
            ),
        ),
    ],
)
def test_localization_losses(text, peer):
    config = read(text, LocalizationLossConfig, "test").build()
    loss = losses.localization_loss(config, LOGITS, TARGETS)
    np.testing.assert_allclose(loss, peer(LOGITS - TARGETS), rtol=1e-5, atol=1e-6)


def test_dice_seen_by_eye():
    probs = np.array([1, 1, 0, 0], np.float32)
    text = "weighted_dice_classification_loss { is_prediction_probability: true }"
    for wanted, expected in (
        ([1, 1, 0, 0], 0.0),
        ([0, 0, 1, 1], 1.0),
        ([1, 0, 0, 0], 1 - 2 / 3),
        ([0, 0, 0, 0], 1.0),
    ):
        loss = classification_loss(text, probs, np.array(wanted, np.float32))
        assert loss == pytest.approx(expected)
    nothing = np.zeros(4, np.float32)
    assert classification_loss(text, nothing, nothing) == 1  # and not 0 / 0


@pytest.mark.parametrize("text", PIXEL_LOSSES)
def test_logits_may_be_bfloat16_and_huge(text):
    import tensorflow as tf

    exact = classification_loss(text)
    rough = losses.classification_loss(
        pixel_loss(text), tf.cast(LOGITS, tf.bfloat16), TARGETS
    )
    assert rough.dtype == tf.float32
    np.testing.assert_allclose(rough, exact, rtol=0.1, atol=0.1)
    huge = tf.constant([[-1e4, 1e4, 0.0, 1e4]])
    with tf.GradientTape() as tape:
        tape.watch(huge)
        loss = losses.classification_loss(
            pixel_loss(text), huge, [[0.0, 1.0, 1.0, 0.0]]
        )
    assert np.isfinite(loss).all()
    assert np.isfinite(tape.gradient(loss, huge)).all()


def test_masks_at_another_size_are_resized_logits():
    config = MaskHeadConfig(classification_loss=pixel_loss(PIXEL_LOSSES[0]))
    flat = (
        np.ones((1, 2, 4, 4), np.float32) * np.array([1.5, -2.0])[None, :, None, None]
    )
    masks = np.ones((1, 2, 16, 8), np.uint8)
    loss = losses.mask_loss(config, flat, masks)
    np.testing.assert_allclose(loss, [np.log1p(np.exp([-1.5, 2.0]))], rtol=1e-6)


# Boxes, colours, views, points


def maps_of(boxes, size=12) -> np.ndarray:
    return np.array(targets.spans_in_image(boxes, size, size).fill())


BOXES = np.array(
    [[[0.2, 0.2, 0.7, 0.8], [0, 0, 1, 1], [0.3, 0.3, 0.3, 0.3]]], np.float32
)


def box_loss(logits, boxes=BOXES, loss=PIXEL_LOSSES[0], quirks=None, **fields):
    config = MaskHeadConfig(classification_loss=pixel_loss(loss), **fields)
    return np.asarray(
        weak_losses.box_consistency_loss(
            config, logits, maps_of(boxes), reference_quirks=quirks
        )
    )


@pytest.mark.parametrize("normalize", list(LossNormalize))
@pytest.mark.parametrize("tightness", [False, True])
def test_a_mask_as_wide_and_high_as_its_box_costs_nothing(normalize, tightness):
    # corners alone throw the shadow of the whole box, if there is one in each row and column
    fields = {
        "box_consistency_tightness": tightness,
        "box_consistency_loss_normalize": normalize,
    }
    inside = np.where(maps_of(BOXES) > 0, 30.0, -30.0).astype(np.float32)
    np.testing.assert_allclose(box_loss(inside, **fields), 0, atol=1e-6)
    assert box_loss(-inside, **fields)[0, :2].min() > 1


def test_a_box_without_a_pixel_costs_something_finite():
    count = {
        "box_consistency_loss_normalize": LossNormalize.NORMALIZE_GROUNDTRUTH_COUNT
    }
    zeros = np.zeros((1, 3, 12, 12), np.float32)
    assert np.isfinite(box_loss(zeros, **count)).all()
    assert box_loss(zeros, **count)[0, 2] == pytest.approx(24 * np.log(2))
    assert np.isinf(box_loss(zeros, quirks=True, **count)[0, 2])
    assert np.isfinite(box_loss(zeros, quirks=True, **count)[0, :2]).all()


def colour_loss(logits, features, **fields) -> np.ndarray:
    config = MaskHeadConfig(**({"color_consistency_dilation": 1} | fields))
    maps = maps_of(BOXES[:, :2], logits.shape[-1])
    return np.asarray(
        weak_losses.colour_consistency_loss(config, logits, features, maps)
    )


def test_masks_along_edges_of_colour_cost_nothing():
    is_right = np.arange(12) >= 6
    features = np.where(is_right, 90.0, 10.0)[None, None, :, None]
    features = np.broadcast_to(features, (1, 12, 12, 3)).astype(np.float32)
    along = np.where(is_right, 20.0, -20.0)[None, None, None].astype(np.float32)
    along = np.broadcast_to(along, (1, 2, 12, 12))
    across = np.swapaxes(along, 2, 3)
    assert colour_loss(along, features)[0, 0] == pytest.approx(0, abs=1e-5)
    assert colour_loss(across, features)[0, 0] > 1
    # nothing is alike enough
    assert colour_loss(across, features, color_consistency_threshold=1.0).max() == 0
    dots = {
        "feature_consistency_comparison": ConsistencyComparison.COMPARISON_NORMALIZED_DOTPROD,
        "color_consistency_threshold": 0.9,
    }
    sign = np.where(is_right, 1.0, -1.0)[None, None, :, None] * np.ones((1, 12, 12, 3))
    sign = sign.astype(np.float32)
    assert colour_loss(along, sign, **dots)[0, 0] == pytest.approx(0, abs=1e-5)
    assert colour_loss(across, sign, **dots)[0, 0] > 1


def test_lab_is_that_of_opencv():
    import cv2

    rgb = RNG.uniform(0, 1, (40, 30, 3)).astype(np.float32)
    expected = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)
    # OpenCV interpolates a table
    np.testing.assert_allclose(weak_losses.rgb_to_lab(rgb), expected, atol=0.5)
    np.testing.assert_allclose(
        weak_losses.rgb_to_lab(np.array([[1, 1, 1], [0, 0, 0]], np.float32)),
        [[100, 0, 0], [0, 0, 0]],
        atol=0.02,
    )


def smooth_maps(size=64) -> np.ndarray:
    y, x = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    maps = [np.sin(4 * y + 1) * np.cos(3 * x), x**2 - y, np.exp(-((x - 0.4) ** 2) * 9)]
    return np.stack([maps, maps]).astype(np.float32)


def view(flipped: float, scale=1.5) -> weak_losses.View:
    return weak_losses.View(
        shifts=np.array([[0.1, -0.05], [-0.07, 0.08]], np.float32),
        scales=np.array([[scale, 1.3], [1.2, scale]], np.float32),
        is_flipped=np.full(2, flipped, np.float32),
    )


@pytest.mark.parametrize("flipped", [0.0, 1.0])
def test_a_view_is_undone(flipped):
    """Views that show everything: what is restored is the original, up to interpolation."""
    maps, seen = smooth_maps(), view(flipped)
    planes = np.moveaxis(maps, 1, -1)
    shown = np.moveaxis(np.asarray(weak_losses.seen_images(planes, seen)), -1, 1)
    restored = np.asarray(weak_losses.restored(shown, seen))
    np.testing.assert_allclose(
        restored[..., 3:-3, 3:-3], maps[..., 3:-3, 3:-3], atol=0.01
    )
    missed = np.asarray(weak_losses.restored(shown, seen, reference_quirks=True))
    assert np.abs(missed - maps)[..., 16:48, 16:48].max() > 0.05


@pytest.mark.parametrize("flipped", [0.0, 1.0])
def test_boxes_move_with_what_is_in_them(flipped):
    size, boxes = 65, np.array([[[0.25, 0.125, 0.5, 0.75]]] * 2, np.float32)
    corners = boxes[0, 0] * (size - 1)
    ymin, xmin, ymax, xmax = corners.astype(int)
    image = np.zeros((2, size, size, 1), np.float32)
    image[:, ymin : ymax + 1, xmin : xmax + 1] = 1
    shown = np.asarray(weak_losses.seen_images(image, view(flipped)))[..., 0] > 0.5
    found = np.asarray(weak_losses.seen_boxes(boxes, view(flipped)))[:, 0] * (size - 1)
    for one, box in zip(shown, found, strict=True):
        rows, cols = np.nonzero(one.any(1))[0], np.nonzero(one.any(0))[0]
        np.testing.assert_allclose(
            [rows[0], cols[0], rows[-1], cols[-1]], box, atol=1.0
        )


def test_draws_fill_the_ranges_of_a_view():
    config = MaskHeadConfig(
        augmented_self_supervision_max_translation=0.2,
        augmented_self_supervision_scale_min=0.5,
        augmented_self_supervision_scale_max=2.0,
        augmented_self_supervision_flip_probability=0.5,
    )
    draws = np.array([[0, 1, 0, 1, 0.4], [0.5, 0.5, 0.5, 0, 0.6]], np.float32)
    drawn = weak_losses.drawn_view(config, draws)
    np.testing.assert_allclose(drawn.shifts, [[-0.2, 0.2], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(drawn.scales, [[0.5, 2.0], [1.25, 0.5]], atol=1e-6)
    np.testing.assert_allclose(drawn.is_flipped, [1, 0])


@pytest.mark.parametrize("kind", list(SelfSupervisionLoss)[1:])
def test_equal_masks_of_two_views_cost_nothing(kind):
    config = MaskHeadConfig(augmented_self_supervision_loss=kind)
    logits = RNG.choice([-30.0, 30.0], (1, 3, 12, 12)).astype(np.float32)
    maps = maps_of(BOXES)
    maps[0, 2, 4, 4] = 1
    logits[0, :, 4, 4] = 30  # a box of no foreground would cost 1
    loss = weak_losses.self_supervision_loss(config, logits, logits, maps)
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    loss = weak_losses.self_supervision_loss(config, logits, -logits, maps)
    assert np.asarray(loss).min() > 0.5


def test_points_are_read_where_they_are():
    config = MaskHeadConfig(classification_loss=pixel_loss(PIXEL_LOSSES[0]))
    logits = np.full((1, 1, 4, 8), -20.0, np.float32)
    logits[0, 0, 2, 5] = logits[0, 0, 3, 7] = 20
    points = np.array(
        [[[[0.5, 0.63], [1.2, 1.0], [0.1, 0.1], [np.nan, 0.5]]]], np.float32
    )
    depths = np.array([[[1, 1, -1, 1]]], np.float32)
    loss = float(weak_losses.point_loss(config, logits, points, depths)[0, 0])
    assert loss == pytest.approx(0, abs=1e-6)
    wrong = float(weak_losses.point_loss(config, logits, points, -depths)[0, 0])
    assert wrong == pytest.approx(
        3 * 20 / 4
    )  # the point that is none counts among the four


def test_warm_up_rises_from_its_start():
    rise = weak_losses.warm_up(np.array([0, 100, 150, 200, 999]), 100, 100)
    np.testing.assert_allclose(rise, [0, 0, 0.5, 1, 1])
    assert weak_losses.warm_up(0, 100, 0) == 1
