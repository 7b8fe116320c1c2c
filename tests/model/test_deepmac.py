"""The whole network by its laws. The reference's numbers: tests/golden."""

import dataclasses

import numpy as np
import pytest

from deepmac.checkpoint.native import save_weights
from deepmac.config.load import load_config
from deepmac.model.deepmac import DeepMAC, Embeddings
from deepmac.model.hourglass import HourglassSpec
from deepmac.model.variables import named_variables

TWO_HOURGLASSES = HourglassSpec(
    stem_channels=4, channels=(8, 8), blocks=(1, 1), num_hourglasses=2
)
SHAPES = np.array([[64, 48, 3], [40, 64, 3]], np.int32)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def boxes() -> np.ndarray:
    corners = np.random.default_rng(1).random((2, 5, 2, 2))
    return np.sort(corners, axis=2).reshape(2, 5, 4).astype(np.float32)


@pytest.fixture(scope="module")
def model(small_config, images, boxes) -> DeepMAC:
    """With the moving statistics of a batch, so that inference is about something."""
    import keras

    keras.utils.set_random_seed(0)
    model = DeepMAC(small_config(), backbone=TWO_HOURGLASSES)
    model(images, boxes, training=True)
    return model


def masks(model, images, boxes) -> np.ndarray:
    embeddings = model.embed(model.features(images))
    return np.asarray(model.masks_for_boxes(embeddings, boxes))


def test_one_mask_for_each_box(model, images, boxes):
    probs = masks(model, images, boxes)
    assert probs.shape == (2, 5, 8, 8)
    assert probs.min() >= 0
    assert probs.max() <= 1
    assert probs.std() > 0


def test_a_box_has_the_same_mask_alone_as_among_others(model, images, boxes):
    probs = masks(model, images, boxes)
    alone = masks(model, images[1:], boxes[1:, 3:4])
    np.testing.assert_allclose(alone[0, 0], probs[1, 3], atol=1e-5)  # float32 sums
    order = [4, 2, 0, 1, 3]
    swapped = masks(model, images, boxes[:, order])
    np.testing.assert_allclose(swapped, probs[:, order], atol=1e-5)


def test_boxes_of_several_images_can_share_a_batch_of_the_mask_head(
    model, images, boxes
):
    probs = masks(model, images, boxes)
    parts = [
        [np.asarray(part)[0] for part in model.cut(_embed(model, image), given)]
        for image, given in zip(images[:, None], boxes[:, None], strict=True)
    ]
    rois, instance = (np.concatenate(part) for part in zip(*parts, strict=True))
    logits = np.asarray(model.mask_head(rois, instance)).reshape(probs.shape)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), probs, atol=1e-5)


def _embed(model, images) -> Embeddings:
    return model.embed(model.features(images))


def test_training_and_inference_see_the_same_network(model, images, boxes):
    outputs = model(images, boxes)
    assert len(outputs) == 2  # one for each hourglass
    last = outputs[-1]
    embeddings = _embed(model, images)
    np.testing.assert_array_equal(embeddings.pixel, last.heads.pixel_embedding)
    np.testing.assert_array_equal(embeddings.instance, last.heads.instance_embedding)
    logits = model.mask_logits(embeddings, boxes)
    np.testing.assert_allclose(logits, last.mask_logits, atol=1e-5)


def test_only_the_last_output_has_masks_if_so_configured(small_config, images, boxes):
    config = small_config(use_only_last_stage=True)
    first, last = DeepMAC(config, backbone=TWO_HOURGLASSES)(images, boxes)
    assert first.mask_logits is None
    assert last.mask_logits.shape == (2, 5, 8, 8)
    assert first.heads.center_logits.shape == (2, 16, 16, 4)


def test_bytes_do_as_images(model, images):
    as_bytes = model.features(images.astype(np.uint8))
    np.testing.assert_array_equal(as_bytes, model.features(images))


def test_detections_are_ordered_and_inside_the_frame(model, images):
    found = model.detect(model.features(images), SHAPES)
    scores, boxes = np.asarray(found.scores), np.asarray(found.boxes_norm)
    assert scores.shape == (2, 6)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (boxes >= 0).all()
    assert (boxes <= 1).all()
    assert np.asarray(found.class_indices).max() < 4


def test_without_the_quirk_nothing_is_detected_in_the_padding(small_config, images):
    import keras

    shapes = np.array([[20, 24, 3]], np.int32)  # more pixels than the map's 16 cells
    for quirks, num_cells in ((None, 16 * 16), (True, 16 * 16), (False, 5 * 6)):
        keras.utils.set_random_seed(0)
        params = dataclasses.replace(
            small_config().object_center_params,
            max_box_predictions=16 * 16 * 4,
            peak_max_pool_kernel_size=1,
        )
        config = dataclasses.replace(small_config(), object_center_params=params)
        model = DeepMAC(config, reference_quirks=quirks)
        found = model.detect(model.features(images[:1]), shapes)
        assert int(found.num_detections[0]) == num_cells * 4


def test_one_graph_serves_every_number_of_boxes(model, images, boxes):
    import tensorflow as tf

    features = model.features(images)
    embeddings = Embeddings(*(tf.constant(e) for e in model.embed(features)))

    @tf.function(input_signature=[tf.TensorSpec((2, None, 4), tf.float32)])
    def run(boxes):
        return model.masks_for_boxes(embeddings, boxes)

    probs = masks(model, images, boxes)
    for num_boxes in (1, 3, 5):
        some = run(tf.constant(boxes[:, :num_boxes]))
        np.testing.assert_allclose(some, probs[:, :num_boxes], atol=1e-5)
    assert run.experimental_get_tracing_count() == 1


def test_inference_leaves_the_weights_alone(model, images, boxes):
    before = {name: np.array(v) for name, v in named_variables(model).items()}
    model(images, boxes)
    masks(model, images, boxes)
    for name, variable in named_variables(model).items():
        np.testing.assert_array_equal(variable, before[name], err_msg=name)


def test_a_fresh_heatmap_expects_a_centre_in_every_tenth_cell(model):
    named = named_variables(model)
    np.testing.assert_allclose(named["heads/0/center/convs/1/bias"], -2.19)
    assert not np.asarray(named["heads/1/size/convs/1/bias"]).any()


def test_weights_can_be_saved_and_loaded(model, small_config, images, boxes, tmp_path):
    path = tmp_path / "small.weights.h5"
    model.save_weights(path)
    other = DeepMAC(small_config(), backbone=TWO_HOURGLASSES)
    other.load_weights(path)
    np.testing.assert_array_equal(
        masks(other, images, boxes), masks(model, images, boxes)
    )


def test_the_kernel_of_the_embedding_heads_is_an_option(small_config):
    shapes = {
        kernel: named_variables(DeepMAC(small_config(), embedding_head_kernel=kernel))[
            "heads/0/pixel_embedding/convs/0/kernel"
        ].shape
        for kernel in ((3, 3), (1, 3))
    }
    assert shapes == {(3, 3): (3, 3, 64, 256), (1, 3): (1, 3, 64, 256)}


@pytest.mark.slow
def test_the_published_network_has_its_published_size():
    config = load_config("center_net_deepmac_1024x1024_coco").model.center_net
    model = DeepMAC(config)

    def count(layer) -> int:
        return sum(int(np.prod(v.shape)) for v in layer.trainable_variables)

    heads = model.heads[0]
    assert count(model.backbone) == 187_700_352
    assert count(model.mask_head) == 47_220_992 + 129
    assert count(heads.center) == 613_210
    assert count(heads.size) == count(heads.offset) == 590_594
    assert count(heads.instance_embedding) == 598_304
    assert count(heads.pixel_embedding) == 594_192
    assert count(model) == 240_895_261
    statistics = sum(int(np.prod(v.shape)) for v in model.non_trainable_variables)
    assert statistics == 172_928
    named = named_variables(model)
    assert len(named) == len(model.variables) == 1_582


def test_the_weights_of_the_tiny_network_are_small_enough_to_ship(tmp_path):
    path = tmp_path / "tiny.weights.h5"
    tiny = DeepMAC(load_config("center_net_deepmac_tiny").model.center_net)
    save_weights(tiny, str(path))
    assert path.stat().st_size < 5_000_000
