"""Exported networks, opened again, against what the reference's own exports returned."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

COMMITTED = Path(__file__).parent / "full_hg10_roialign"

# From the README of the recordings: float32 sums in another order, amplified by the mask head.
MASK_TOLERANCE = {"atol": 3e-3, "rtol": 1e-4}
BOX_TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


class Case:
    """A recorded network, exported."""

    def __init__(self, recorded: Path, out: Path, input_type: str, monkeypatch=None):
        from deepmac.config.load import load_config
        from deepmac.export.saved_model import export_saved_model
        from deepmac.model.hourglass import HourglassSpec
        from deepmac.predictors.deepmac import load_network

        backbone = None
        if (recorded / "overrides.json").exists():
            given = json.loads((recorded / "overrides.json").read_text())["backbone"]
            backbone = HourglassSpec(
                stem_channels=given["input_channel_dims"],
                channels=tuple(given["channel_dims_per_stage"]),
                blocks=tuple(given["blocks_per_stage"]),
                num_hourglasses=given["num_hourglasses"],
            )
        config_path = recorded / "pipeline.config"
        self.config = load_config(config_path, cross_check=backbone is None)
        self.network = load_network(
            config_path,
            checkpoint=recorded / "checkpoint",
            backbone=backbone,
            reference_quirks=True,
        )
        self.out = out
        self.comparison = export_saved_model(
            self.network, self.config, out, input_type=input_type
        )
        self.call = tf.saved_model.load(str(out / "saved_model"))
        inputs = np.load(recorded / "inputs.npz")
        self.expected = np.load(recorded / "outputs.npz")
        self.images = [inputs["image/0"], inputs["image/1"]]
        self.boxes = list(inputs["user_boxes"])


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> Case:
    out = tmp_path_factory.mktemp("committed") / "export"
    return Case(COMMITTED, out, "image_and_boxes_tensor")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> Case:
    out = tmp_path_factory.mktemp("encoded") / "export"
    return Case(COMMITTED, out, "encoded_image_and_boxes")


@pytest.fixture(
    scope="module", params=["full_2stack_roialign", "full_2stack_laststage_3x3"]
)
def shared(request, shared_golden, tmp_path_factory) -> Case:
    out = tmp_path_factory.mktemp(request.param) / "export"
    return Case(shared_golden / request.param, out, "image_and_boxes_tensor")


def assert_as_recorded(case: Case) -> None:
    """The reference's outputs, through the signature and through the object itself."""
    signature = case.call.signatures["serving_default"]
    image, boxes = case.images[0][None], case.boxes[0][None]
    assert_close(
        case,
        signature(input_tensor=tf.constant(image), boxes=tf.constant(boxes)),
        case.expected,
        prefix="export_image0",
    )
    for number, (image, boxes) in enumerate(zip(case.images, case.boxes, strict=True)):
        outputs = case.call(image[None], boxes[None])
        expected = {
            "detection_masks": case.expected["user_boxes/detection_masks"],
            "detection_classes": case.expected["postprocess/detection_classes"] + 1.0,
        }
        for name in ("boxes", "boxes_strided", "scores", "multiclass_scores"):
            key = f"detection_{name}"
            expected[key] = case.expected[f"postprocess/{key}"]
        expected["num_detections"] = case.expected["postprocess/num_detections"]
        of_image = {name: array[number][None] for name, array in expected.items()}
        assert set(of_image) == set(outputs)
        assert_close(case, outputs, of_image)


def assert_close(case, outputs, expected, prefix=None) -> None:
    for name, values in outputs.items():
        assert values.dtype == tf.float32
        key = f"{prefix}/{name}" if prefix else name
        if key not in expected:  # the recorded signature had no more
            assert name in ("detection_boxes_strided", "detection_multiclass_scores")
            continue
        tolerance = MASK_TOLERANCE if "masks" in name else BOX_TOLERANCE
        np.testing.assert_allclose(values, expected[key], **tolerance, err_msg=name)


def test_committed_recording(committed):
    assert_as_recorded(committed)


def test_shared_recording(shared):
    assert_as_recorded(shared)


def test_the_signature_is_the_reference_s(committed):
    signature = committed.call.signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    assert inputs["input_tensor"] == tf.TensorSpec(
        (1, None, None, 3), tf.uint8, "input_tensor"
    )
    assert inputs["boxes"] == tf.TensorSpec((1, None, 4), tf.float32, "boxes")
    shapes = {k: v.shape.as_list() for k, v in signature.structured_outputs.items()}
    assert shapes == {
        "detection_boxes": [1, 8, 4],
        "detection_boxes_strided": [1, 8, 4],
        "detection_classes": [1, 8],
        "detection_masks": [1, None, 16, 16],
        "detection_multiclass_scores": [1, 8, 4],
        "detection_scores": [1, 8],
        "num_detections": [1],
    }


def test_what_lies_beside_it(committed):
    from deepmac.config.load import load_config

    names = {path.name for path in committed.out.iterdir()}
    assert names == {"saved_model", "pipeline.config", "export.json"}
    written = load_config(committed.out / "pipeline.config")
    assert written == committed.config
    facts = json.loads((committed.out / "export.json").read_text())
    assert facts["inputs"]["input_tensor"] == "uint8 [1, None, None, 3]"
    assert facts["comparison"]["images"] == 3
    differences = facts["comparison"]["largest_differences"]
    assert differences == committed.comparison.differences
    assert 0 < differences["detection_masks"] < 1e-5


def test_no_weight_is_a_constant_of_the_graph(committed):
    from tensorflow.core.protobuf import saved_model_pb2

    data = (committed.out / "saved_model" / "saved_model.pb").read_bytes()
    (meta,) = saved_model_pb2.SavedModel.FromString(data).meta_graphs
    nodes = [n for f in meta.graph_def.library.function for n in f.node_def]
    sizes = [n.attr["value"].tensor.ByteSize() for n in nodes if n.op == "Const"]
    assert len(sizes) > 100
    assert max(sizes) < 1000  # the smallest 3x3 kernel has 2304 bytes


def test_its_variables_are_a_checkpoint_by_the_reference_s_names(committed):
    from deepmac.checkpoint.reader import ReferenceCheckpoint

    original = ReferenceCheckpoint(str(COMMITTED / "checkpoint" / "ckpt-1"))
    variables = committed.out / "saved_model" / "variables" / "variables"
    exported = ReferenceCheckpoint(str(variables))
    assert set(exported.variables) == set(original.variables)
    for name in exported.variables:
        np.testing.assert_array_equal(exported.read(name), original.read(name))


def test_no_boxes_give_no_masks(committed):
    outputs = committed.call(committed.images[0][None], np.zeros((1, 0, 4), np.float32))
    assert outputs["detection_masks"].shape == (1, 0, 16, 16)
    expected = committed.expected["export_image0/detection_scores"]
    np.testing.assert_allclose(outputs["detection_scores"], expected, **BOX_TOLERANCE)


def test_boxes_may_overhang_by_a_tenth(committed):
    boxes = np.array([[[0.5, 0.5, 1.1, 1.0]]], np.float32)
    outputs = committed.call(committed.images[0][None], boxes)
    assert np.isfinite(outputs["detection_masks"]).all()


@pytest.mark.parametrize("value", [-0.01, 1.11, 64.0, np.nan])
def test_boxes_that_are_no_fractions_are_refused(committed, value):
    boxes = np.array([[[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, value]]], np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="divide pixels by its"):
        committed.call(committed.images[0][None], boxes)


def test_another_type_or_shape_is_refused(committed):
    image, boxes = committed.images[0][None], committed.boxes[0][None]
    for wrong in [
        (tf.cast(image, tf.float32), boxes),
        (image[0], boxes),
        (np.concatenate([image, image]), np.concatenate([boxes, boxes])),
        (image, boxes[..., :3]),
    ]:
        with pytest.raises((ValueError, TypeError)):
            committed.call(*wrong)


def file_of(image: np.ndarray | Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, form, **options)
    return file.getvalue()


def test_encoded_images_give_what_their_pixels_give(committed, encoded):
    from deepmac.data.decode import decode_rgb

    grey = Image.fromarray(committed.images[1]).convert("L")
    for data in [
        file_of(committed.images[0], "PNG"),
        file_of(committed.images[0], "JPEG"),
        file_of(grey, "JPEG"),
        file_of(grey, "PNG"),
    ]:
        boxes = committed.boxes[0][None]
        outputs = encoded.call(np.array([data], object), boxes)
        expected = committed.call(decode_rgb(data)[None], boxes)
        for name, values in outputs.items():
            np.testing.assert_allclose(values, expected[name], atol=1e-5, err_msg=name)


def test_encoded_images_come_in_batches_of_any_sizes(encoded):
    files = [file_of(image, "PNG") for image in encoded.images]
    outputs = encoded.call(np.array(files, object), np.stack(encoded.boxes))
    np.testing.assert_allclose(
        outputs["detection_masks"],
        encoded.expected["user_boxes/detection_masks"],
        **MASK_TOLERANCE,
    )


def test_bytes_that_are_no_image_are_an_error(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError):
        encoded.call(np.array([b"no image"], object), encoded.boxes[0][None])


def test_keras_opens_it_as_a_layer(committed):
    import keras

    layer = keras.layers.TFSMLayer(
        str(committed.out / "saved_model"), call_endpoint="serving_default"
    )
    outputs = layer(
        input_tensor=committed.images[0][None], boxes=committed.boxes[0][None]
    )
    expected = committed.expected["export_image0/detection_masks"]
    np.testing.assert_allclose(outputs["detection_masks"], expected, **MASK_TOLERANCE)
