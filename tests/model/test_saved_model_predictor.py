"""SavedModels as predictors: graphs with masks known by formula, a real one, and odd ones."""

import sys
from pathlib import Path

import numpy as np
import pytest
import saved_models
import tensorflow as tf

import deepmac
from deepmac.errors import CheckpointError, DataError, DeepmacError, OptionError
from deepmac.predictors import open_predictor, saved_model
from deepmac.predictors.deepmac import load_network

GOLDEN = Path(__file__).parents[1] / "golden" / "full_hg10_roialign"
IMAGE, BOXES = saved_models.IMAGE, saved_models.BOXES
ENCODED = tf.TensorSpec([None], tf.string, name="input_tensor")
FLOATS = tf.TensorSpec([None, None, None, 3], tf.float32, name="input_tensor")
SIDE = 3
FOUND = np.array([[[0.0, 0.0, 0.5, 1.0], [0.25, 0.5, 1.0, 1.0], [0, 0, 0, 0]]], "f")


def masks_of(image, boxes):
    """Every sample of a mask is the mean of its box's coordinates, times the image's brightness."""
    brightness = tf.reduce_max(tf.cast(image, tf.float32)) / 255
    values = tf.reduce_mean(boxes, axis=2) * brightness
    return tf.tile(values[..., None, None], [1, 1, SIDE, SIDE])


def detections():
    return {
        "detection_boxes": tf.constant(FOUND),
        "detection_scores": tf.constant([[0.75, 0.25, 0.0]]),
        "detection_classes": tf.constant([[3.0, 90.0, 1.0]]),
        "num_detections": tf.constant([2.0]),
    }


def with_boxes(input_tensor, boxes):
    tf.debugging.assert_greater_equal(boxes, 0.0)
    tf.debugging.assert_less_equal(boxes, 1.1)
    return detections() | {"detection_masks": masks_of(input_tensor, boxes)}


def image_only(input_tensor):
    boxes = tf.constant(FOUND)
    return detections() | {"detection_masks": masks_of(input_tensor, boxes)}


def encoded_only(input_tensor):
    return image_only(tf.io.decode_image(input_tensor[0], expand_animations=False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A SavedModel that takes boxes; a network that draws no picture."""
    folder = tmp_path_factory.mktemp("export") / "saved_model"
    return saved_models.save_function(with_boxes, folder, IMAGE, BOXES)


@pytest.fixture(scope="module")
def predictor(folder):
    return open_predictor(str(folder))


def picture(height=20, width=40, brightest=255) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[3, 4] = (10, 20, brightest)
    return image


def test_masks_belong_to_the_boxes_in_the_order_given(predictor):
    boxes = np.array([[0, 0, 20, 40], [10, 20, 20, 40], [0, 0, 10, 10]], float)
    (result,) = predictor([picture()], [boxes])
    means = np.array([0.5, 0.75, 0.1875])  # of (0, 0, 1, 1), (.5, .5, 1, 1), ...
    expected = np.broadcast_to(means[:, None, None], (3, SIDE, SIDE))
    np.testing.assert_allclose(result.mask_probs, expected, rtol=1e-6)  # float32
    np.testing.assert_array_equal(result.boxes, boxes)
    np.testing.assert_allclose(result.scores, [0, 0.75, 0], rtol=1e-6)  # 0.5 is outside
    assert result.category_ids.tolist() == [-1, -1, -1]


def test_each_image_has_its_own_boxes_and_size(predictor):
    images = [picture(20, 40), picture(30, 10, brightest=51), picture(5, 5)]
    boxes = [np.array([[0, 0, 20, 20.0]]), np.array([[15, 0, 30, 10.0]] * 2), []]
    results = predictor(images, boxes)
    assert [r.mask_probs.shape for r in results] == [(1, 3, 3), (2, 3, 3), (0, 3, 3)]
    np.testing.assert_allclose(results[0].mask_probs, 0.375, rtol=1e-6)
    np.testing.assert_allclose(results[1].mask_probs, 0.625 * 0.2, rtol=1e-6)


def test_boxes_are_cut_at_the_border_which_the_graph_would_refuse(predictor):
    (result,) = predictor([picture()], [np.array([[-5, 10, 10, 400.0]])])
    np.testing.assert_array_equal(result.boxes, [[0, 10, 10, 40]])
    np.testing.assert_allclose(result.mask_probs, (0 + 0.25 + 0.5 + 1) / 4, rtol=1e-6)


def test_more_boxes_than_a_call_takes(predictor, monkeypatch):
    monkeypatch.setattr(saved_model, "BOXES_PER_CALL", 4)
    boxes = np.array([[0, 0, 20, x] for x in range(1, 12)], float)
    (result,) = predictor([picture()], [boxes])
    expected = (1 + boxes[:, 3] / 40) / 4
    np.testing.assert_allclose(result.mask_probs[:, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "specs"),
    [
        (with_boxes, [IMAGE, BOXES]),
        (image_only, [IMAGE]),
        (image_only, [FLOATS]),
        (encoded_only, [ENCODED]),
    ],
)
def test_detections_in_pixels_with_classes_from_one(tmp_path, function, specs):
    folder = saved_models.save_function(function, tmp_path, *specs)
    predictor = open_predictor("saved_model", checkpoint=folder)
    assert predictor.can_detect
    (result,) = predictor([picture(brightest=51)], None)
    np.testing.assert_array_equal(result.boxes, [[0, 0, 10, 40], [5, 20, 20, 40]])
    assert result.category_ids.tolist() == [3, 90]
    np.testing.assert_allclose(result.scores, [0.75, 0.25])
    expected = FOUND[0, :2].mean(axis=1) / 5
    np.testing.assert_allclose(result.mask_probs[:, 1, 2], expected, rtol=1e-6)


def test_what_only_detects_takes_no_boxes(tmp_path):
    predictor = open_predictor(
        str(saved_models.save_function(image_only, tmp_path, IMAGE))
    )
    assert not predictor.takes_boxes
    with pytest.raises(OptionError, match=r"takes no boxes, .* --boxes=detect"):
        predictor([picture()], [np.array([[0, 0, 5, 5.0]])])


def test_masks_alone_are_enough_for_given_boxes(tmp_path):
    def masks_only(input_tensor, boxes):
        return {"detection_masks": masks_of(input_tensor, boxes)}

    folder = saved_models.save_function(masks_only, tmp_path, IMAGE, BOXES)
    predictor = open_predictor(str(folder))
    assert not predictor.can_detect
    predictor([picture()], [np.array([[0, 0, 5, 5.0]])])
    with pytest.raises(OptionError, match="gives no detection_boxes, detection_cla"):
        predictor([picture()], None)


def test_an_object_that_is_called_needs_no_signature(tmp_path):
    module = tf.Module()
    module.__call__ = tf.function(
        with_boxes, input_signature=[IMAGE, BOXES], autograph=False
    )
    tf.saved_model.save(module, str(tmp_path))
    (result,) = open_predictor(str(tmp_path))([picture()], [[[0, 0, 20, 40]]])
    np.testing.assert_allclose(result.mask_probs, 0.5, rtol=1e-6)


def test_the_signature_that_takes_boxes_goes_before_one_that_does_not(tmp_path):
    module = tf.Module()
    one = tf.function(image_only, input_signature=[IMAGE], autograph=False)
    two = tf.function(with_boxes, input_signature=[IMAGE, BOXES], autograph=False)
    signatures = {
        "serving_default": one.get_concrete_function(),
        "boxes": two.get_concrete_function(),
    }
    tf.saved_model.save(module, str(tmp_path), signatures=signatures)
    assert open_predictor(str(tmp_path)).takes_boxes


def test_the_fingerprint_is_that_of_graph_and_variables(tmp_path):
    def save(name: str, value: float):
        offset = tf.Variable(value)

        def shifted(input_tensor, boxes):
            return {"detection_masks": masks_of(input_tensor, boxes) * offset}

        return saved_models.save_function(
            shifted, tmp_path / name, IMAGE, BOXES, offset=offset
        )

    first = save("first", 0.5)
    digests = [open_predictor(str(first)).fingerprint for _ in range(2)]
    digests.append(open_predictor(str(save("second", 0.25))).fingerprint)
    assert digests[0] == digests[1] != digests[2]
    moved = first.rename(tmp_path / "moved")
    assert open_predictor(str(moved)).fingerprint == digests[0]


# A real network.


@pytest.fixture(scope="module")
def ours():
    return deepmac.load(GOLDEN / "pipeline.config", checkpoint=GOLDEN / "checkpoint")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network") / "saved_model"
    network = load_network(GOLDEN / "pipeline.config", checkpoint=GOLDEN / "checkpoint")
    return saved_models.save_network(network, folder)


@pytest.fixture(scope="module")
def network(exported):
    return open_predictor(str(exported.parent))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(5).integers(0, 256, (75, 110, 3), np.uint8)


def test_masks_for_boxes_are_those_of_the_network(ours, network, image):
    boxes = np.array([[3, 4, 60, 100], [0, 0, 75, 110], [20.5, 30, 44, 51.25]])
    (theirs,) = network([image], [boxes])
    expected = ours(image, boxes)
    # float32 sums of one graph and of several
    np.testing.assert_allclose(theirs.mask_probs, expected.mask_probs, atol=1e-4)
    np.testing.assert_allclose(theirs.scores, expected.scores, atol=1e-3)


def test_detections_are_those_of_the_network(ours, network, image):
    (theirs,) = network([image], None)
    expected = ours(image)
    np.testing.assert_allclose(theirs.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(theirs.scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(theirs.category_ids, expected.category_ids)


def test_the_recorded_export_of_the_reference(network):
    inputs, outputs = np.load(GOLDEN / "inputs.npz"), np.load(GOLDEN / "outputs.npz")
    recorded = {
        name: outputs[f"export_image0/{name}"][0]
        for name in ("detection_masks", *saved_model.DETECTIONS)
    }
    image = inputs["image/0"]
    size = np.tile(image.shape[:2], 2)
    (given,) = network([image], [inputs["user_boxes"][0] * size])
    tolerance = {"rtol": 1e-4, "atol": 3e-3}  # those that the folder states
    np.testing.assert_allclose(
        given.mask_probs, recorded["detection_masks"], **tolerance
    )
    (found,) = network([image], None)
    boxes = recorded["detection_boxes"] * size
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(found.scores, recorded["detection_scores"], atol=1e-4)
    np.testing.assert_array_equal(found.category_ids, recorded["detection_classes"])


def test_as_weights_it_is_the_network_too(ours, exported, image):
    again = deepmac.load(GOLDEN / "pipeline.config", checkpoint=exported)
    boxes = np.array([[3, 4, 60, 100.0]])
    np.testing.assert_array_equal(
        again(image, boxes).mask_probs, ours(image, boxes).mask_probs
    )


def not_boxes(x, y):
    return {"detection_masks": x[..., 0] + tf.reduce_sum(y)}


def tf_example(serialized):
    features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
    parsed = tf.io.parse_example(serialized, features)
    return encoded_only(parsed["image/encoded"])


def without_masks(input_tensor, boxes):
    return {"detection_scores": tf.reduce_sum(boxes, 2), "logits": boxes}


@pytest.mark.parametrize(
    ("function", "specs", "message"),
    [
        (
            not_boxes,
            [IMAGE, tf.TensorSpec([5], tf.uint8)],
            r"no signature takes .*image \(uint8 or .*; found signature 'serving_default' "
            r"\(.*y: uint8 \(5,\)",
        ),
        (
            lambda image: {"x": image[..., 0]},
            [tf.TensorSpec([1, 512, 512, 3], tf.uint8)],
            r"found .*uint8 \(1, 512, 512, 3\)",
        ),
        (
            lambda image, boxes: {"x": boxes},
            [IMAGE, tf.TensorSpec([1, 10, 4])],
            r"found .*float32 \(1, 10, 4\)",
        ),
        (tf_example, [ENCODED], r"found .*serialised tf\.Examples"),
        (without_masks, [IMAGE, BOXES], r"gives no detection_masks; it gives dete"),
        (
            lambda image: {"detection_masks": image},
            [IMAGE],
            r"gives no detection_boxes, detection_classes, detection_scores; it gives",
        ),
    ],
)
def test_a_graph_of_another_kind_is_told_by_what_it_takes_and_gives(
    tmp_path, function, specs, message
):
    folder = saved_models.save_function(function, tmp_path, *specs)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_predictor(str(folder))
    assert "\n" not in str(caught.value)


def test_no_signature_at_all(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(CheckpointError, match="it has no signature"):
        open_predictor(str(tmp_path))


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("saved_model", {}, r"needs the directory of a SavedModel: --checkpoint DIR"),
        ("saved_model", {"checkpoint": "nowhere"}, r"nowhere: no SavedModel \(looked"),
        ("{}", {"checkpoint": "x"}, r"is a SavedModel, with weights of its own"),
        ("{}", {"overrides": ("a=1",)}, r"a SavedModel, takes no overrides"),
        ("{}", {"accept": ("a",)}, r"a SavedModel, takes no accept"),
        ("saved_mdel", {}, r"did you mean 'saved_model'\?"),
    ],
)
def test_wrong_options(folder, tmp_path, monkeypatch, spec, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeepmacError, match=message) as caught:
        open_predictor(spec.format(folder), **options)
    assert "\n" not in str(caught.value)


def test_the_words_of_label_that_concern_pasting_are_no_business_of_it(folder):
    open_predictor(str(folder), reference_quirks=True)


def test_without_tensorflow_the_remedy_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(CheckpointError, match="pip install tensorflow"):
        open_predictor(str(folder))


def test_an_image_that_the_graph_fails_on_is_told(tmp_path):
    def picky(input_tensor, boxes):
        tf.debugging.assert_less(tf.shape(input_tensor)[1], 10)
        return {"detection_masks": masks_of(input_tensor, boxes)}

    folder = saved_models.save_function(picky, tmp_path, IMAGE, BOXES)
    predictor = open_predictor(str(folder))
    images = [picture(5, 5), picture(20, 5)]
    with pytest.raises(DataError, match=r"^image 1: .* fails on it: ") as caught:
        predictor(images, [np.array([[0, 0, 5, 5.0]])] * 2)
    assert "\n" not in str(caught.value)


def test_images_and_boxes_are_checked_first(predictor):
    with pytest.raises(DataError, match="image 0: must be RGB"):
        predictor([np.zeros((4, 4), np.uint8)], [[[0, 0, 1, 1]]])
    with pytest.raises(DataError, match=r"image 0, boxes\[0\] .* ymax must be above"):
        predictor([picture()], [[[5, 0, 5, 1]]])
    with pytest.raises(DataError, match="1 images, but boxes for 2"):
        predictor([picture()], [[[0, 0, 5, 1]]] * 2)
