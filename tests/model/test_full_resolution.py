"""Masks of whole feature maps: seen by eye, by laws, and against OpenCV. The reference's:
tests/golden."""

import cv2
import numpy as np
import pytest

from deepmac.errors import ConfigError
from deepmac.model.deepmac import DeepMAC, Embeddings
from deepmac.model.roi import (
    cut_from_own_maps,
    whole_maps,
    with_offsets_from_centres,
)
from deepmac.predictors.deepmac import DeepmacPredictor
from deepmac.predictors.full_resolution import batches

RNG = np.random.default_rng(0)
CELLS = 16  # of a map of 64 x 64 pixels


def boxes_norm(*shape: int) -> np.ndarray:
    """float32 [..., 4], some of them overhanging."""
    corners = np.sort(RNG.uniform(-0.2, 1.2, (*shape, 2, 2)), axis=-2)
    return corners.reshape(*shape, 4).astype(np.float32)


@pytest.fixture(scope="module")
def config(small_config):
    return small_config(
        network_type="resnet4",
        predict_full_resolution_masks=True,
        postprocess_crop_size=12,
    )


@pytest.fixture(scope="module")
def model(config) -> DeepMAC:
    import keras

    keras.utils.set_random_seed(0)
    model = DeepMAC(config)
    kernel = model.mask_head.project_out.kernel
    kernel.assign(kernel * 5.0)  # masks that differ from each other
    return model


@pytest.fixture(scope="module")
def embeddings() -> Embeddings:
    """Of two images."""
    maps = RNG.normal(size=(2, CELLS, CELLS, 3 + 5)).astype(np.float32)
    return Embeddings(maps[..., :3], maps[..., 3:])


def masks(model, embeddings, boxes) -> np.ndarray:
    return np.asarray(model.masks_for_boxes(embeddings, boxes))


def test_every_box_gets_the_whole_map():
    features = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    maps = np.asarray(whole_maps(features, boxes_norm(2, 6)))
    np.testing.assert_array_equal(maps, np.repeat(features[:, None], 6, axis=1))


def test_the_offsets_count_from_the_centre_of_the_box():
    box = np.array([[[0.0, 0.5, 0.5, 1.0]]], np.float32)
    ones = np.ones((1, 1, 3, 5, 1), np.float32)
    maps = np.asarray(with_offsets_from_centres(ones, box))
    assert maps[0, 0, :, 0, 0].tolist() == [-0.25, 0.25, 0.75]
    assert maps[0, 0, 0, :, 1].tolist() == [-0.75, -0.5, -0.25, 0.0, 0.25]
    assert (maps[..., 2] == 1).all()


def test_maps_are_resized_and_cut_as_by_opencv_and_numpy():
    maps = RNG.normal(size=(1, 3, 6, 5)).astype(np.float32)
    boxes = np.sort(RNG.random((1, 3, 2, 2)), axis=2).reshape(1, 3, 4)
    boxes = boxes.astype(np.float32)
    ours = np.asarray(cut_from_own_maps(maps, boxes, 7, 24, 20))
    for plane, box, cut in zip(maps[0], boxes[0], ours[0], strict=True):
        large = cv2.resize(plane, (20, 24), interpolation=cv2.INTER_LINEAR)
        rows, cols = (
            np.linspace(low, high, 7) * (side - 1)
            for low, high, side in ((box[0], box[2], 24), (box[1], box[3], 20))
        )
        across = [np.interp(cols, np.arange(20), row) for row in large]
        expected = [np.interp(rows, np.arange(24), col) for col in np.transpose(across)]
        np.testing.assert_allclose(cut, np.transpose(expected), atol=1e-5)


def test_one_mask_for_each_box_in_its_frame(model, embeddings):
    probs = masks(model, embeddings, boxes_norm(2, 5))
    assert probs.shape == (2, 5, 12, 12)
    assert np.ptp(probs) > 0.1


def test_training_sees_the_logits_of_the_map(model):
    images = RNG.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    (output,) = model(images, boxes_norm(2, 3))
    assert output.mask_logits.shape == (2, 3, CELLS, CELLS)


def test_a_single_sample_is_the_centre_of_the_box(config, embeddings, small_config):
    one = small_config(
        network_type="embedding_projection",
        use_xy=False,
        use_instance_embedding=False,
        dim=3,
        predict_full_resolution_masks=True,
        postprocess_crop_size=1,
    )
    pixel = np.zeros((1, CELLS, CELLS, 3), np.float32)
    pixel[:, :8] = 100.0  # the upper half is foreground
    boxes = np.array([[[0.0, 0.0, 0.6, 1.0], [0.4, 0.0, 1.0, 1.0]]], np.float32)
    probs = masks(DeepMAC(one), Embeddings(pixel, np.ones_like(pixel)), boxes)
    assert probs.ravel().tolist() == [1.0, 0.5]


@pytest.mark.parametrize("quirks", [None, False])
def test_a_box_has_the_same_mask_alone_as_among_others(config, embeddings, quirks):
    model = DeepMAC(config, reference_quirks=quirks)
    boxes = boxes_norm(2, 5)
    probs = masks(model, embeddings, boxes)
    alone = masks(model, embeddings, boxes[:, 3:4])
    np.testing.assert_allclose(alone[:, 0], probs[:, 3], atol=1e-5)


def test_the_quirk_resizes_by_the_number_of_boxes(model, config, embeddings):
    quirky = DeepMAC(config, reference_quirks=True)
    quirky.set_weights(model.get_weights())
    as_many_as_rows = boxes_norm(2, CELLS)  # the sizes coincide, on a square map
    right = masks(model, embeddings, as_many_as_rows)
    same = masks(quirky, embeddings, as_many_as_rows)
    np.testing.assert_array_equal(same, right)
    fewer = masks(quirky, embeddings, as_many_as_rows[:, :5])
    assert np.abs(fewer - right[:, :5]).max() > 1e-3


@pytest.mark.parametrize("quirks", [None, True])
def test_one_graph_serves_every_number_of_boxes_but_with_the_quirk(
    model, config, embeddings, quirks
):
    import tensorflow as tf

    network = DeepMAC(config, reference_quirks=quirks)
    network.set_weights(model.get_weights())

    @tf.function(input_signature=[tf.TensorSpec((2, None, 4), tf.float32)])
    def run(boxes):
        return network.masks_for_boxes(embeddings, boxes)

    boxes = boxes_norm(2, 3)
    if quirks:
        with pytest.raises(ConfigError, match="depend on the number of boxes"):
            run(boxes)
        return
    for num_boxes in (1, 3):
        some = run(boxes[:, :num_boxes])
        expected = masks(model, embeddings, boxes[:, :num_boxes])
        np.testing.assert_allclose(some, expected, atol=1e-5)
    assert run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("quirks", [None, True])
@pytest.mark.parametrize("count", [1, 7])
def test_the_predictor_gives_the_same_masks_in_batches(
    model, config, embeddings, quirks, count
):
    network = DeepMAC(config, reference_quirks=quirks)
    network.set_weights(model.get_weights())
    sizes = []

    def noting(function, _):
        def run(first, boxes):
            sizes.append(boxes.shape[1])
            return function(first, boxes)

        return run

    predictor = DeepmacPredictor(network, compile=noting)
    small = predictor._full_resolution
    assert small is not None
    small._cells_per_batch = 5 * CELLS**2
    boxes, kept = boxes_norm(count), np.arange(count) % 3 < 2
    one = Embeddings(*(part[:1] for part in embeddings))
    probs = small(one, boxes, kept)
    expected = masks(network, one, boxes[None])[0, kept]
    np.testing.assert_allclose(probs, expected, atol=1e-5)
    # With the quirk every box counts, and all at once in the end.
    if count == 7:
        assert sizes == ([4, 4, 7] if quirks else [4, 1])


@pytest.mark.parametrize(
    ("count", "largest", "sizes"),
    [
        (1, 1, [1]),
        (3, 1, [1, 1, 1]),
        (11, 4, [4, 4, 4]),
        (13, 7, [4, 4, 4, 1]),
        (70, 64, [64, 8]),
    ],
)
def test_boxes_are_run_in_few_sizes(count, largest, sizes):
    parts = list(batches(count, largest))
    assert [size for _, _, size in parts] == sizes
    edges = [0, *(stop for _, stop, _ in parts)]
    assert [start for start, _, _ in parts] == edges[:-1]
    assert edges[-1] == count


def test_predictions_of_whole_images(model):
    predictor = DeepmacPredictor(model)
    images = [RNG.integers(0, 256, (40, 64, 3), np.uint8) for _ in range(2)]
    boxes = [np.array([[4.0, 5, 30, 60], [-5, 1, 20, 70], [1, 1, 9, 9]]), []]
    first, second = predictor(images, boxes)
    assert first.mask_probs.shape == (3, 12, 12)
    assert second.mask_probs.shape == (0, 12, 12)
    for result in predictor(images, None):
        assert result.mask_probs.shape == (len(result.boxes), 12, 12)
