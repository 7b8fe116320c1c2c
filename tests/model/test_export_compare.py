"""What counts as the same network: equal up to rounding and the order of ties, nothing else."""

import numpy as np
import pytest

from deepmac.instances import BoxMasks

pytest.importorskip("tensorflow")

IMAGE = np.zeros((40, 80, 3), np.uint8)
TRUE_SHAPE = (32, 64)


def network_says(scores, classes, boxes, masks):
    """A predictor that detects this, whatever it sees; boxes in fractions of the image."""

    def predict(images, given):
        in_pixels = boxes * np.tile(images[0].shape[:2], 2)
        return [BoxMasks(in_pixels.astype(np.float32), masks, scores, classes)]

    return predict


def export_says(scores, classes, boxes, masks, length):
    """The outputs of a signature for these detections, filled up to `length`."""
    count = len(scores)
    outputs = {
        "detection_scores": np.zeros(length, np.float32),
        "detection_classes": np.ones(length, np.float32),
        "detection_boxes": np.zeros((length, 4), np.float32),
        "detection_masks": np.zeros((length, 2, 2), np.float32),
        "detection_multiclass_scores": np.zeros((length, 3), np.float32),
        "num_detections": np.float32(count),
    }
    outputs["detection_scores"][:count] = scores
    outputs["detection_classes"][:count] = classes
    outputs["detection_boxes"][:count] = boxes
    outputs["detection_masks"][:count] = masks
    rows = np.arange(count)
    outputs["detection_multiclass_scores"][rows, np.asarray(classes) - 1] = scores
    cells = outputs["detection_boxes"] * np.tile(TRUE_SHAPE, 2) / 4
    outputs["detection_boxes_strided"] = cells
    return outputs


@pytest.fixture
def detections():
    rng = np.random.default_rng(0)
    corners = rng.random((4, 2)) / 2
    return {
        "scores": np.array([0.9, 0.5, 0.5, 0.1], np.float32),
        "classes": np.array([1, 2, 2, 3], np.int32),
        "boxes": np.concatenate([corners, corners + 0.4], axis=1).astype(np.float32),
        "masks": rng.random((4, 2, 2)).astype(np.float32),
    }


def largest(detections, exported) -> tuple[str, float]:
    from deepmac.export.compare import differences

    predict = network_says(**detections)
    found = differences(exported, IMAGE, predict, False, TRUE_SHAPE)
    assert set(found) == set(exported)
    return max(found.items(), key=lambda item: item[1])


def reordered(detections, order):
    return {name: values[order] for name, values in detections.items()}


@pytest.mark.parametrize("length", [4, 6])
def test_the_same(detections, length):
    assert largest(detections, export_says(**detections, length=length))[1] < 1e-6


def test_ties_may_change_places(detections):
    swapped = reordered(detections, [0, 2, 1, 3])
    assert largest(detections, export_says(**swapped, length=4))[1] < 1e-6


def test_where_the_list_ends_one_may_stand_for_another(detections):
    other = reordered(detections, [0, 1, 2, 3])
    other["classes"] = np.array([1, 2, 2, 1], np.int32)
    assert largest(detections, export_says(**other, length=4))[1] < 1e-6


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("scores", ([0], 0.01), ("detection_scores", 0.01)),
        ("boxes", ([1, 2], 0.02), ("detection_boxes", 0.02)),
        ("masks", ([2, 0, 1], -0.3), ("detection_masks", 0.3)),
        ("classes", ([0], 1), ("detection_classes", 1.0)),
    ],
)
def test_what_differs_is_named(detections, name, change, expected):
    where, difference = change
    other = reordered(detections, [0, 1, 2, 3])
    other[name][tuple(where)] += difference
    output, found = largest(detections, export_says(**other, length=4))
    assert output == expected[0]
    assert found == pytest.approx(expected[1], rel=1e-3)


def test_a_missing_detection_is_named(detections):
    other = reordered(detections, [0, 1, 2])
    output, found = largest(detections, export_says(**other, length=6))
    assert (output, found) == ("detection_scores", pytest.approx(0.1))


@pytest.mark.parametrize(
    "output",
    ["detection_boxes_strided", "detection_multiclass_scores", "num_detections"],
)
def test_outputs_that_the_network_does_not_return_must_agree_with_those_it_does(
    detections, output
):
    exported = export_says(**detections, length=4)
    exported[output] = exported[output] + 1
    assert largest(detections, exported)[0] == output


@pytest.mark.parametrize("input_type", ["image_tensor", "tf_example"])
def test_not_a_number_is_a_difference(detections, input_type):
    from deepmac.config.schema import FixedShapeResizerConfig, ImageResizerConfig
    from deepmac.errors import DeepmacError
    from deepmac.export.compare import compare

    exported = export_says(**detections, length=4)
    exported["detection_masks"][0] = np.nan
    resizer = FixedShapeResizerConfig(height=64, width=64)
    with pytest.raises(DeepmacError, match="detection_masks differs by nan on image 1"):
        compare(
            lambda image: {name: values[None] for name, values in exported.items()},
            network_says(**detections),
            input_type,
            ImageResizerConfig(fixed_shape_resizer=resizer),
        )


@pytest.mark.parametrize("side", [64, 512, 1024])
def test_no_centre_of_a_box_lies_between_two_cells(side):
    from deepmac.config.schema import ImageResizerConfig, KeepAspectRatioResizerConfig
    from deepmac.export.compare import BOXES, sample_images
    from deepmac.resize import geometry

    resizer = KeepAspectRatioResizerConfig(
        min_dimension=side, max_dimension=side, pad_to_max_dimension=True
    )
    for image in sample_images(side, side):
        size = geometry(
            *image.shape[:2], ImageResizerConfig(keep_aspect_ratio_resizer=resizer)
        )
        centres = (BOXES[:, :2] + BOXES[:, 2:]) / 2 * np.array(size[:2]) / 4
        # The last bit of float32 is worth 1e-5 of a cell there.
        assert np.abs(centres - np.round(centres)).min() > 5e-4
