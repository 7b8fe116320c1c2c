"""What is compared in the cases that are parts of the network, fed with the recorded inputs."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.backends import (
    as_run,
    input_gradients,
    on_jax,
    sum_of_sines,
    train_once,
)
from benchmarks.parity_training import compare_losses
from benchmarks.recordings import Difference, Recording
from deepmac import resize
from deepmac.checkpoint.load import open_weights
from deepmac.checkpoint.names import reference_name
from deepmac.config.schema import (
    FeatureExtractorConfig,
    ImageResizerConfig,
    MaskHeadConfig,
)
from deepmac.config.textproto import read
from deepmac.model import decode, preprocess
from deepmac.model.hourglass import HourglassNetwork, HourglassSpec, hourglass_spec
from deepmac.model.layers import take_variance_of_squares
from deepmac.model.mask_head import ConditionalMaskHead, mask_head
from deepmac.model.roi import cut_rois
from deepmac.model.variables import named_variables
from deepmac.paste import paste_mask

# Norms of gradients, relative: where the sign of a value within rounding of 0 is another one on
# JAX before a ReLU. docs/parity.md has the values.
_KINKS_ON_JAX = {"backbones/hourglass_10": 2e-2, "backbones/hourglass_20": 5e-2}


def compare_preprocess(folder: Path, case: str) -> list[Difference]:
    """Resizers: images, sizes and masks."""
    recording = Recording(folder, case)
    resizers = json.loads((recording.folder / "resizers.json").read_text())
    for name, text in resizers.items():
        config = read(text, ImageResizerConfig, name).build()
        for image_name in (n for n in recording.inputs if n.startswith("image/")):
            i = image_name.removeprefix("image/")
            image, size = resize.resize_image(recording.inputs[image_name], config)
            masks = resize.resize_masks(recording.inputs[f"masks/{i}"], config)
            prefix, group = f"{name}/{i}", name
            recording.compare(f"{prefix}/resized", image, group, atol=2e-3)
            recording.compare(f"{prefix}/true_shape", [*size[:2], 3], group)
            recording.compare(f"{prefix}/resized_masks", masks, group)
    return recording.finish()


def compare_cores(folder: Path, case: str) -> list[Difference]:
    """Cropping, decoding, pasting and losses on their own."""
    recording = Recording(folder, case)
    given, close = recording.inputs, {"atol": 1e-5, "rtol": 1e-5}
    if "crop/image" in given:
        _compare_crops(recording, given["crop/image"], given["crop/boxes"])
    if "decode/heatmap" in given:
        _compare_decoding(recording)
    for name in ("depth1_channels5", "depth2_channels4", "depth3_channels3"):
        if f"condconv/{name}/input" in given:
            depth, width = map(int, re.findall(r"\d+", name))
            features = given[f"condconv/{name}/input"]
            channels = (features.shape[-1], *(width,) * (depth - 1), 1)
            run = as_run(ConditionalMaskHead(channels))
            logits = run(features, given[f"condconv/{name}/params"])
            recording.compare(
                f"condconv/{name}", logits[..., None], "conditional layers", **close
            )
    if "paste/masks" in given:
        masks, boxes = given["paste/masks"], given["paste/boxes"]
        for size in ((37, 53), (14, 14), (100, 64)):
            name = "{}x{}".format(*size)
            pasted = [
                paste_mask(m, b, *size, reference_quirks=True)
                for m, b in zip(masks, boxes, strict=True)
            ]
            recording.compare(f"paste/bilinear_{name}", pasted, "pasting", **close)
            pasted = [
                paste_mask((m > 0.5).astype(np.uint8), b, *size, reference_quirks=True)
                for m, b in zip(masks, boxes, strict=True)
            ]
            recording.compare(f"paste/uint8_nearest_{name}", pasted, "pasting")
    compare_losses(recording)
    return recording.finish("jitter/", "schedule/lr")  # not of the network


def _compare_crops(recording: Recording, image: np.ndarray, boxes: np.ndarray) -> None:
    def cut(values, height, width):
        return as_run(lambda v, b: cut_rois(v, b, height, width))(values, boxes)

    group, close = "cropping", {"atol": 1e-5, "rtol": 1e-5}
    for height, width in ((8, 8), (16, 16), (5, 7), (32, 32), (1, 1), (2, 3)):
        name = f"crop/size_{height}x{width}"
        recording.compare(name, cut(image, height, width), group, **close)
    # what lies outside counts as 0; as -1 it does after a shift of the values
    outside = cut(image + 1, 8, 8) - 1
    recording.compare("crop/extrapolation_minus1_8x8", outside, group, **close)
    (gradient,) = input_gradients(lambda v: [cut_rois(v, boxes, 6, 6)], image)
    recording.compare("crop/grad_image_of_sum_sin_6x6", gradient, group, **close)
    masks = recording.inputs.get("masks/masks")
    if masks is not None:
        planes = masks.reshape(-1, *masks.shape[2:], 1).astype(np.float32)
        each = recording.inputs["masks/boxes"].reshape(-1, 1, 4)
        crops = as_run(lambda v, b: cut_rois(v, b, 16, 16))(planes, each)
        crops = np.asarray(crops).reshape(*masks.shape[:2], 16, 16)
        recording.compare("masks/crop_and_resize_16", crops, group, **close)


def _compare_decoding(recording: Recording) -> None:
    given, group, close = recording.inputs, "decoding", {"atol": 1e-5, "rtol": 1e-5}
    maps = [given[f"decode/{name}"] for name in ("heatmap", "height_width", "offset")]
    shapes = given["decode/true_image_shapes"]

    def decoded(kernel_size):
        def run(heatmap, sizes, offsets, shapes):
            peaks = decode.find_peaks(heatmap, 12, kernel_size)
            boxes = decode.boxes_at(peaks.rows, peaks.cols, sizes, offsets)
            return peaks, boxes, decode.boxes_in_image(boxes, shapes)

        return as_run(run)

    for kernel_size in (1, 3, 5):
        peaks, boxes, in_image = decoded(kernel_size)(*maps, shapes)
        name = f"decode/pool{kernel_size}"
        recording.compare(f"{name}/scores", peaks.scores, group, **close)
        recording.compare(f"{name}/y", peaks.rows, group)
        recording.compare(f"{name}/x", peaks.cols, group)
        recording.compare(f"{name}/classes", peaks.class_indices, group)
        recording.compare(f"{name}/boxes_absolute", boxes, group, **close)
        recording.compare(f"{name}/boxes_normalized", in_image, group, **close)
    _, height, width, _ = given["decode/heatmap"].shape
    for name, sizes in (
        ("decode/center_mask_from_true_shape", shapes),
        (
            "decode/center_mask_from_small_true_shape",
            given["decode/small_true_image_shapes"],
        ),
    ):
        mask = decode.true_image_mask(height, width, sizes, in_cells=False)
        recording.compare(name, mask, group)


def compare_backbone(folder: Path, case: str) -> list[Difference]:
    """Features in both modes, gradients, and the moving statistics after one training step."""
    recording = Recording(folder, case)
    spec, extractor = _backbone_of(recording.folder / "backbone.json")
    net = HourglassNetwork(spec, in_channels=3, stem_stride=4)
    take_variance_of_squares(net)
    _load(net, "backbone", recording.folder)
    images = preprocess.normalise(
        recording.inputs["image"].astype(np.float32), extractor
    )
    recording.compare("preprocessed", images, "input", atol=1e-4, rtol=1e-5)
    close = {"group": "features", "atol": 5e-5, "rtol": 1e-5}
    stem, hourglass, outputs = as_run(layers_of(net), net)(images)
    recording.compare("eval/input_block", stem, **close)
    recording.compare("eval/hourglass0", hourglass, **close)
    for i, features in enumerate(outputs):
        recording.compare(f"eval/features/{i}", features, **close)

    _compare_training(recording, net, images)
    return recording.finish("train/grad_names", "train/bn_names")


def layers_of(net: HourglassNetwork) -> Callable[[Any], tuple[Any, Any, list[Any]]]:
    """From images to what the stem, the first hourglass and all of the network return."""

    def run(images):
        stem = net.stem(images)
        return stem, net.hourglasses[0](stem), net(images)

    return run


def _compare_training(
    recording: Recording, net: HourglassNetwork, images: np.ndarray
) -> None:
    spec = net.spec
    is_deep = spec.num_stages >= 5 or (spec.num_hourglasses > 1 and spec.num_stages > 2)
    outputs, gradients = _train_on_sines(net, lambda: net(images, training=True))
    for i, features in enumerate(outputs):
        recording.compare(
            f"train/features/{i}",
            features,
            "features, training",
            atol=5e-3 if is_deep else 2e-4,
        )
    rtol = 5e-2 if is_deep else 1e-3
    if on_jax():
        rtol = max(rtol, _KINKS_ON_JAX.get(recording.case, 0))
    _compare_gradients(recording, "backbone", gradients, rtol)
    named = named_variables(net)
    paths = {_reference_name(f"backbone/{path}"): path for path in named}
    for statistic in ("moving_mean", "moving_variance"):
        ours = [
            np.asarray(named[paths[f"{_below_root(name)}/{statistic}"]])
            for name in recording.outputs["train/bn_names"]
        ]
        recording.compare(
            f"train/bn_{statistic}_after_concat",
            np.concatenate(ours),
            "moving statistics",
            atol=1e-4,
            rtol=1e-2 if is_deep else 1e-3,
        )


def _train_on_sines(
    layer: keras.layers.Layer, forward: Callable[[], Sequence[Any]]
) -> tuple[Sequence[Any], dict[str, float]]:
    """`train_once` for the sum of the sines of the outputs: those, and norms of gradients."""

    def run():
        outputs = forward()
        return sum_of_sines(outputs), outputs

    outputs, gradients = train_once(layer, run)
    return outputs, {name: float(np.linalg.norm(g)) for name, g in gradients.items()}


def compare_mask_head(folder: Path, case: str) -> list[Difference]:
    """Logits in both modes, gradients, and the moving statistics after one training step."""
    recording = Recording(folder, case)
    settings = json.loads((recording.folder / "head.json").read_text())
    kind = settings["network_type"]
    config = MaskHeadConfig(
        network_type=kind,
        mask_size=settings["mask_size"],
        num_init_channels=settings["num_init_channels"],
        pixel_embedding_dim=settings["pixel_embedding_channels"],
        dim=settings["instance_embedding_dim"],
        use_xy=False,  # what is recorded as pixels holds whatever goes in
        use_instance_embedding=settings["use_instance_embedding"],
    )
    head = mask_head(config)
    take_variance_of_squares(head)
    _load(head, "mask_head", recording.folder)
    inputs = ("pixel_embedding_crops", "instance_embedding")
    given = [recording.inputs[name] for name in inputs]
    logits = as_run(head, head)(*given)
    recording.compare("eval/mask_logits", logits, "logits", atol=2e-5, rtol=1e-5)
    _compare_head_gradients(
        recording, kind, head, dict(zip(inputs, given, strict=True))
    )
    return recording.finish("train/grad_names")


def _compare_head_gradients(
    recording: Recording,
    kind: str,
    head: keras.layers.Layer,
    inputs: dict[str, np.ndarray],
) -> None:
    is_deep = kind in ("hourglass52", "hourglass100")
    given = list(inputs.values())
    gradients = input_gradients(lambda *tensors: [head(*tensors)], *given)
    for name, gradient in zip(inputs, gradients, strict=True):
        recording.compare(
            f"eval/grad_sum_sin_wrt_{name}",
            gradient,
            "input gradients",
            rtol=0.3 if kind == "hourglass100" else 1e-4,
        )
    (logits,), gradients = _train_on_sines(head, lambda: [head(*given, training=True)])
    recording.compare(
        "train/mask_logits", logits, "logits, training", atol=2e-3 if is_deep else 1e-4
    )
    # ReLUs of the deepest flip under rounding: with another convolution library than the one that
    # was recorded some norms change by 40 %, the whole gradient's by 0.4 %
    rtol = {"hourglass100": 0.5, "hourglass52": 5e-2}.get(kind, 1e-3)
    if gradients:
        _compare_gradients(recording, "mask_head", gradients, rtol)
    # the recordings say 1e-3 here; for backbones of this depth they say 1e-2
    rtol = 1e-2 if is_deep else 1e-3
    compare_statistics(recording, head, "mask_head", "after_one_call", 1e-4, rtol)


def hourglass_dimensions(settings: dict[str, Any]) -> HourglassSpec:
    return HourglassSpec(
        stem_channels=settings["input_channel_dims"],
        channels=tuple(settings["channel_dims_per_stage"]),
        blocks=tuple(settings["blocks_per_stage"]),
        num_hourglasses=settings["num_hourglasses"],
    )


def _backbone_of(path: Path) -> tuple[HourglassSpec, FeatureExtractorConfig]:
    settings = json.loads(path.read_text())
    if "function" in settings:
        depth = int(settings["function"].removeprefix("hourglass_"))
        spec = hourglass_spec(depth, settings["num_channels"])
    else:
        spec = hourglass_dimensions(settings)
    extractor = FeatureExtractorConfig(
        type="hourglass_10",  # any: only the normalisation is used
        channel_means=tuple(settings["channel_means"]),
        channel_stds=tuple(settings["channel_stds"]),
        bgr_ordering=settings["bgr_ordering"],
    )
    return spec, extractor


def _load(layer: keras.layers.Layer, path: str, folder: Path) -> None:
    """Fills a part of a network, which lies at `path` in a whole one."""
    named = named_variables(layer)
    if not named:  # then the recorded checkpoint has none either
        return
    weights = open_weights(str(folder / "checkpoint" / "ckpt-1"))
    for name, variable in named.items():
        variable.assign(weights.read(_reference_name(f"{path}/{name}")))


def _compare_gradients(
    recording: Recording, path: str, norms: dict[str, float], rtol: float
) -> None:
    """Each norm relative to its own size; 1e-4 of the norm of the whole gradient is rounding."""
    ours = {_reference_name(f"{path}/{name}"): norm for name, norm in norms.items()}
    names = [_below_root(name) for name in recording.outputs["train/grad_names"]]
    recorded = recording.outputs["train/grad_norms"]
    errors = np.abs([ours[name] for name in names] - recorded)
    errors = np.maximum(errors - 1e-4 * np.linalg.norm(recorded), 0) / recorded
    recording.add("train/grad_norms", "gradient norms, relative", errors.max(), rtol)


def compare_statistics(
    recording: Recording,
    layer: keras.layers.Layer,
    path: str,
    when: str,
    atol: float,
    rtol: float,
) -> None:
    """Moving means and variances, after as many training steps as were recorded."""
    for name, variable in named_variables(layer).items():
        if not variable.trainable:
            reference = _reference_name(f"{path}/{name}" if path else name)
            array = f"train_bn_{when}/model/{reference}"
            recording.compare(array, variable, "moving statistics", atol, rtol)


def _below_root(name: str) -> str:
    return str(name).removeprefix("model/")


def _reference_name(path: str) -> str:
    name = reference_name(path)
    assert name is not None, path
    return name
