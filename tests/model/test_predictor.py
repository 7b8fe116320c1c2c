"""The network as a predictor: one backbone pass an image, few shapes, the same masks in any batch."""

import random
from pathlib import Path

import numpy as np
import pytest

import deepmac
from deepmac.backend import compiled
from deepmac.checkpoint.native import save_weights
from deepmac.config.printing import to_text
from deepmac.config.schema import ModelConfig, PipelineConfig
from deepmac.errors import CheckpointError, ConfigError, DataError
from deepmac.model.deepmac import DeepMAC
from deepmac.paste import mean_foreground
from deepmac.predictors.deepmac import DeepmacPredictor

SIZES = [(45, 64), (64, 37), (20, 30), (100, 80), (64, 64)]


class Counting(DeepMAC):
    """Counts the images that pass its backbone; run without compiling."""

    passed = 0

    def features(self, images):
        self.passed += len(images)
        return super().features(images)


@pytest.fixture(scope="module")
def predictor(small_config) -> DeepmacPredictor:
    model = DeepMAC(small_config())
    sharpen(model)
    return DeepmacPredictor(model, pixels_per_batch=2 * 64 * 64)


def sharpen(model: DeepMAC) -> None:
    """Spreads the logits of fresh weights, so that masks and scores differ from each other."""
    for conv in (model.mask_head.project_out, model.heads[-1].center.convs[-1]):
        conv.kernel.assign(conv.kernel * 20.0)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def boxes_in(image: np.ndarray, count: int, seed: int = 1) -> np.ndarray:
    """Random boxes [count, 4] in pixels, some of them overhanging."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    centres = rng.uniform(0.1, 0.9, (count, 2)) * [height, width]
    halves = rng.uniform(0.05, 0.4, (count, 2)) * [height, width]
    return np.concatenate([centres - halves, centres + halves], axis=1)


def boxes_in_each(images, counts: list[int]) -> list[np.ndarray]:
    return [boxes_in(image, n) for image, n in zip(images, counts, strict=True)]


def assert_same(one, other, atol=1e-5):  # float32 sums in batches of another size
    assert one.boxes.shape == other.boxes.shape
    np.testing.assert_allclose(one.mask_probs, other.mask_probs, atol=atol)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    np.testing.assert_array_equal(one.category_ids, other.category_ids)


def test_a_batch_equals_single_images(predictor, images):
    boxes = boxes_in_each(images, [3, 0, 20, 1, 70])
    together = predictor(images, boxes)
    for image, given, result in zip(images, boxes, together, strict=True):
        (alone,) = predictor([image], [given])
        assert_same(alone, result)
        np.testing.assert_array_equal(result.boxes, given.astype(np.float32))
    assert np.ptp(together[0].mask_probs) > 0.1  # they are not all the same


def test_detections_of_a_batch_equal_those_of_single_images(predictor, images):
    for image, result in zip(images, predictor(images, None), strict=True):
        (alone,) = predictor([image], None)
        assert_same(alone, result)
        np.testing.assert_allclose(alone.boxes, result.boxes, atol=1e-3)


def test_detections_lie_in_the_image_best_first(predictor, images):
    for image, result in zip(images, predictor(images, None), strict=True):
        height, width = image.shape[:2]
        assert 0 < len(result.boxes) <= 6
        assert (result.boxes >= 0).all()
        assert (result.boxes <= np.array([height, width] * 2) * (1 + 1e-6)).all()
        assert (np.diff(result.scores) <= 0).all()
        assert set(result.category_ids) <= {1, 2, 3, 4}


@pytest.mark.parametrize("count", [1, 3000])
def test_one_backbone_pass_however_many_boxes(small_config, images, count):
    model = Counting(small_config())
    predictor = DeepmacPredictor(model, compile=lambda function, _: function)
    boxes = boxes_in(images[0], count)
    (result,) = predictor([images[0]], [boxes])
    assert model.passed == 1
    assert result.mask_probs.shape == (count, 8, 8)
    some = boxes[[0, count // 2, count - 1]]
    (few,) = predictor([images[0]], [some])
    np.testing.assert_allclose(
        few.mask_probs, result.mask_probs[[0, count // 2, -1]], atol=1e-5
    )


def test_an_image_without_boxes_costs_no_pass(small_config, images):
    model = Counting(small_config())
    predictor = DeepmacPredictor(model, compile=lambda function, _: function)
    results = predictor(images[:2], [np.zeros((0, 4)), boxes_in(images[1], 2)])
    assert model.passed == 1
    assert [len(result.scores) for result in results] == [0, 2]


def test_no_shape_is_compiled_twice(small_config, images):
    traced = []

    def counting(function, model):
        def once_per_shape(*arguments):
            traced.append(function)
            return function(*arguments)

        return compiled(once_per_shape, model)

    predictor = DeepmacPredictor(
        DeepMAC(small_config()), pixels_per_batch=2 * 64 * 64, compile=counting
    )
    predictor(
        images[:3], boxes_in_each(images[:3], [70, 1, 1])
    )  # both sizes of both batches
    after_first = len(traced)
    predictor(images, boxes_in_each(images, [1, 2, 17, 64, 9]))
    assert len(traced) == after_first


def test_the_score_of_a_given_box_is_the_mean_inside_its_mask(predictor, images):
    (result,) = predictor(images[:1], [boxes_in(images[0], 9)])
    np.testing.assert_array_equal(result.scores, mean_foreground(result.mask_probs))
    assert (result.category_ids == -1).all()


@pytest.mark.parametrize(
    ("number", "box", "message"),
    [
        (0, [[0, 0, 5, 5], [3, 3, 3, 9]], r"image 0, boxes\[1\] .* ymax must be above"),
        (1, [[0, 40, 5, 60]], r"image 1, boxes\[0\] .* outside the image of 64 x 37"),
    ],
)
def test_a_box_that_cannot_be_used_is_named(predictor, images, number, box, message):
    boxes = [boxes_in(image, 2) for image in images]
    boxes[number] = np.array(box, float)
    with pytest.raises(DataError, match=message):
        predictor(images, boxes)


def test_an_image_that_cannot_be_used_is_named(predictor, images):
    with pytest.raises(DataError, match="image 1: must be uint8"):
        predictor([images[0], images[1] / 255], None)


def test_boxes_for_another_number_of_images_are_refused(predictor, images):
    with pytest.raises(DataError, match="5 images, but boxes for 1"):
        predictor(images, [boxes_in(images[0], 1)])


def test_the_fingerprint_follows_the_weights(small_config):
    model = DeepMAC(small_config())
    before = DeepmacPredictor(model).fingerprint
    assert DeepmacPredictor(model).fingerprint == before
    model.mask_head.project_out.bias.assign([0.5])
    assert DeepmacPredictor(model).fingerprint != before


@pytest.fixture(scope="module")
def config_path(small_config, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.config"
    config = PipelineConfig(model=ModelConfig(center_net=small_config()))
    path.write_text(to_text(config))
    return path


@pytest.fixture(scope="module")
def weights_path(small_config, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    model = DeepMAC(small_config(), embedding_head_kernel=(1, 3))
    sharpen(model)
    save_weights(model, str(path))
    return path


def test_fresh_weights_are_the_same_each_time_and_leave_the_users_numbers_alone(
    config_path,
):
    state = random.getstate()
    first = deepmac.load(config_path, random_weights=True).batch.fingerprint
    assert random.getstate() == state
    random.random()
    second = deepmac.load(config_path, random_weights=True).batch.fingerprint
    assert first == second


class TestLoad:
    def test_an_image_with_boxes(self, config_path, weights_path, images):
        predictor = deepmac.load(config_path, weights_path)
        boxes = boxes_in(images[0], 3)
        result = predictor(images[0], boxes=boxes)
        assert result.masks.shape == (3, 45, 64)
        assert result.masks.dtype == bool
        outside = np.ones((45, 64), bool)
        top, left, bottom, right = boxes[0].clip(0)
        outside[int(top) : int(bottom) + 2, int(left) : int(right) + 2] = False
        assert not result.masks[0][outside].any()
        assert result.mask_probs.shape == (3, 8, 8)
        assert len(result.scores) == len(result.category_ids) == 3

    def test_a_box_that_is_none_is_told(self, config_path, weights_path, images):
        predictor = deepmac.load(config_path, weights_path)
        with pytest.raises(DataError, match="must be numbers"):
            predictor(images[0], boxes=[[1, 2, 3, 4], [1, 2]])
        with pytest.raises(DataError, match="must be a NumPy array, got list"):
            predictor(images[0].tolist())

    def test_boxes_are_optional(self, config_path, weights_path, images):
        result = deepmac.load(config_path, weights_path)(images[0])
        assert result.masks.shape == (len(result.boxes), 45, 64)
        assert (result.category_ids > 0).all()

    def test_without_weights_there_is_nothing_to_load(self, config_path):
        with pytest.raises(CheckpointError, match="no checkpoint is given"):
            deepmac.load(config_path)

    def test_random_weights_are_to_be_asked_for(self, config_path, images):
        predictor = deepmac.load(config_path, random_weights=True)
        assert predictor(images[0], boxes=[[1, 1, 9, 9]]).masks.shape == (1, 45, 64)

    def test_weights_that_do_not_fit(self, config_path, weights_path):
        overrides = ["model.center_net.num_classes=7"]
        with pytest.raises(CheckpointError, match=r"num_classes: 4 \(it has 7\)"):
            deepmac.load(config_path, weights_path, overrides=overrides)
        center = "_prediction_head_dict/object_center/*"
        deepmac.load(config_path, weights_path, overrides=overrides, accept=[center])

    def test_a_resizer_whose_result_does_not_fit_the_network(
        self, config_path, weights_path, images
    ):
        image_resizer = "model.center_net.image_resizer={ identity_resizer {} }"
        predictor = deepmac.load(config_path, weights_path, overrides=[image_resizer])
        with pytest.raises(DataError, match=r"45 x 64 pixels, .* multiples of 8"):
            predictor(images[0])

    def test_a_configuration_that_is_not_there(self):
        with pytest.raises(ConfigError, match="no such file"):
            deepmac.load("nowhere/at_all.config", "ckpt-1")
