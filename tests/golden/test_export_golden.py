"""Exported networks, opened again, against what the reference's own exports returned."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import recorded_networks
from PIL import Image
from recorded_networks import COMMITTED

from deepmac.data.tf_example import encode

tf = pytest.importorskip("tensorflow")

# From the README of the recordings: float32 sums in another order, amplified by the mask head.
MASK_TOLERANCE = {"atol": 3e-3, "rtol": 1e-4}
BOX_TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


class Case:
    """A recorded network, exported and opened again."""

    def __init__(self, recorded: Path, out: Path):
        self.out = out
        self.call = tf.saved_model.load(str(out / "saved_model"))
        inputs = np.load(recorded / "inputs.npz")
        self.expected = np.load(recorded / "outputs.npz")
        self.images = [inputs["image/0"], inputs["image/1"]]
        self.boxes = list(inputs["user_boxes"])


@pytest.fixture(scope="module")
def committed(exported) -> Case:
    return Case(COMMITTED, exported("image_and_boxes_tensor"))


@pytest.fixture(scope="module")
def encoded(exported) -> Case:
    return Case(COMMITTED, exported("encoded_image_and_boxes"))


@pytest.fixture(
    scope="module", params=["full_2stack_roialign", "full_2stack_laststage_3x3"]
)
def shared(request, shared_golden, tmp_path_factory) -> Case:
    recorded = shared_golden / request.param
    out = tmp_path_factory.mktemp(request.param) / "export"
    return Case(
        recorded, recorded_networks.export(recorded, out, "image_and_boxes_tensor")
    )


def as_recorded(case: Case, number: int) -> dict[str, np.ndarray]:
    """What is recorded of an image, under the names of the signature, but for masks."""
    names = ("boxes", "boxes_strided", "scores", "multiclass_scores", "classes")
    recorded = {
        f"detection_{name}": case.expected[f"postprocess/detection_{name}"][number]
        for name in names
    }
    recorded["detection_classes"] = recorded["detection_classes"] + 1
    recorded["num_detections"] = case.expected["postprocess/num_detections"][number]
    return recorded


def assert_close(outputs, expected) -> None:
    assert set(outputs) == set(expected)
    for name, values in outputs.items():
        assert values.dtype == tf.float32
        tolerance = MASK_TOLERANCE if "masks" in name else BOX_TOLERANCE
        np.testing.assert_allclose(values, expected[name], **tolerance, err_msg=name)


def assert_as_recorded(case: Case) -> None:
    """The reference's outputs, through the signature and through the object itself."""
    for number, (image, boxes) in enumerate(zip(case.images, case.boxes, strict=True)):
        masks = case.expected["user_boxes/detection_masks"][number]
        outputs = case.call(image[None], boxes[None])
        first = {name: values[0] for name, values in outputs.items()}
        assert_close(first, as_recorded(case, number) | {"detection_masks": masks})
    signature = case.call.signatures["serving_default"]
    outputs = signature(
        input_tensor=tf.constant(case.images[0][None]),
        boxes=tf.constant(case.boxes[0][None]),
    )
    exported = {
        key.removeprefix("export_image0/"): case.expected[key]
        for key in case.expected
        if key.startswith("export_image0/")
    }
    assert len(exported) == 5
    assert_close({name: outputs[name] for name in exported}, exported)


def test_committed_recording(committed):
    assert_as_recorded(committed)


@pytest.mark.slow
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
    assert names == {"saved_model", "checkpoint", "pipeline.config", "export.json"}
    written = load_config(committed.out / "pipeline.config")
    assert written == load_config(COMMITTED / "pipeline.config")
    facts = json.loads((committed.out / "export.json").read_text())
    assert facts["inputs"]["input_tensor"] == "uint8 [1, None, None, 3]"
    assert facts["comparison"]["images"] == 3
    differences = facts["comparison"]["largest_differences"]
    assert set(differences) == set(facts["outputs"])
    assert 0 < differences["detection_masks"] < 1e-5


def test_the_checkpoint_beside_it_holds_the_weights(committed):
    from deepmac.checkpoint.load import open_weights

    written = open_weights(committed.out)
    source = open_weights(COMMITTED / "checkpoint")
    assert written.path.endswith("ckpt-0")
    assert written.variables.keys() == source.variables.keys()
    for name in source.variables:
        np.testing.assert_array_equal(written.read(name), source.read(name))


def test_no_weight_is_a_constant_of_the_graph(committed):
    from tensorflow.core.protobuf import saved_model_pb2

    data = (committed.out / "saved_model" / "saved_model.pb").read_bytes()
    (meta,) = saved_model_pb2.SavedModel.FromString(data).meta_graphs
    nodes = [n for f in meta.graph_def.library.function for n in f.node_def]
    constants = [n.attr["value"].tensor for n in nodes if n.op == "Const"]
    numbers = [tensor for tensor in constants if tensor.dtype != tf.string]
    assert len(numbers) > 100
    assert max(tensor.ByteSize() for tensor in numbers) < 200  # no kernel, no norm


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


def test_every_image_needs_its_boxes(encoded):
    files = np.array([file_of(image, "PNG") for image in encoded.images], object)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"must be \[images, N, 4\]"
    ):
        encoded.call(files, encoded.boxes[0][None])


def test_bytes_that_are_no_image_are_an_error(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError):
        encoded.call(np.array([b"no image"], object), encoded.boxes[0][None])


def test_keras_opens_it_as_a_layer(committed):
    import keras

    layer = keras.layers.TFSMLayer(
        str(committed.out / "saved_model"), call_endpoint="__call__"
    )
    outputs = layer(committed.images[0][None], boxes=committed.boxes[0][None])
    expected = committed.expected["export_image0/detection_masks"]
    np.testing.assert_allclose(outputs["detection_masks"], expected, **MASK_TOLERANCE)


@pytest.fixture(scope="module")
def detectors() -> dict:
    """What the types without boxes export, before it is written."""
    from deepmac.export import INPUT_TYPES, WITH_BOXES
    from deepmac.export.module import exported_module

    network = recorded_networks.network(COMMITTED)
    names = [name for name in INPUT_TYPES if name not in WITH_BOXES]
    return {name: exported_module(network, name).__call__ for name in names}


def test_detections_from_pixels_and_from_files(committed, detectors):
    assert len(detectors) == 4
    for number, image in enumerate(committed.images):
        png = file_of(image, "PNG")
        example = encode({"image/encoded": [png], "image/height": np.array([3])})
        inputs = {
            "image_tensor": image[None],
            "float_image_tensor": np.repeat(image[None].astype(np.float32), 2, 0),
            "encoded_image_string_tensor": tf.constant([png, png]),
            "tf_example": tf.constant([example, example]),
        }
        for name, detect in detectors.items():
            for row in range(len(inputs[name])):
                outputs = {k: v[row] for k, v in detect(inputs[name]).items()}
                expected = as_recorded(committed, number)
                masks = committed.expected["postprocess/detection_masks"][number]
                assert_close(outputs, expected | {"detection_masks": masks})


def test_an_example_without_an_image_is_an_error(detectors):
    example = encode({"image/height": np.array([3])})
    with pytest.raises(tf.errors.InvalidArgumentError, match="image/encoded"):
        detectors["tf_example"](tf.constant([example]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "input_type", ["image_tensor", "float_image_tensor", "tf_example"]
)
def test_detectors_can_be_written_and_opened_again(exported, detectors, input_type):
    loaded = tf.saved_model.load(str(exported(input_type) / "saved_model"))
    written = loaded.signatures["serving_default"].structured_input_signature[1]
    assert tuple(written.values()) == detectors[input_type].input_signature
