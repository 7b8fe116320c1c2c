"""What the shapes of a checkpoint tell about the network they belong to.

Everything here is about reference names, and nothing about values: the same questions asked of
the shapes of a file and of the shapes of a model built from a configuration show which fields
of the configuration do not fit the file.
"""

import itertools
import re
from collections.abc import Mapping
from typing import Any

from deepmac.config.schema import PipelineConfig, cond_inst_parameters
from deepmac.model.hourglass import BACKBONES, HourglassSpec, hourglass_spec
from deepmac.model.mask_head import HOURGLASSES

Shapes = Mapping[str, tuple[int, ...]]

BACKBONE = "_feature_extractor/_network/"
MASK_NETWORK = "_mask_net/_net/"
HEADS = "_prediction_head_dict/"

_CENTER_NET = "model.center_net."
_MASK = _CENTER_NET + "deepmac_mask_estimation."
_HEAD_PARAMS = {
    "object_center": _CENTER_NET + "object_center_params.center_head_params.",
    "box.Sscale": _CENTER_NET + "object_detection_task.scale_head_params.",
    "box.Soffset": _CENTER_NET + "object_detection_task.offset_head_params.",
}
_OUT_CHANNELS = {
    "object_center": _CENTER_NET + "num_classes",
    "INSTANCE_EMBEDDING": _MASK + "dim",
    "PIXEL_EMBEDDING": _MASK + "pixel_embedding_dim",
}

# Layers of the conditional networks that are considered: published ones have three.
_MOST_LAYERS = 4

# Number of the last layer -> network_type: six layers with weights in the first block of a
# stack, five in the others.
_RESNETS = {
    10: "resnet4",
    20: "resnet8",
    30: "resnet12",
    40: "resnet16",
    51: "resnet20",
}


def infer_settings(shapes: Shapes) -> dict[str, Any]:
    """The values of configuration fields that follow from the shapes of a model's variables.

    Args:
        shapes: by reference name (`_feature_extractor/_network/...`). Parts may be missing.

    Returns:
        Values by path (`model.center_net.num_classes`), for what can be told. A network that no
        field value names is described in words instead.
    """
    shapes = _plausible(shapes)
    settings: dict[str, Any] = {}
    backbone = infer_hourglass(shapes, BACKBONE)
    if backbone is not None:
        settings[_CENTER_NET + "feature_extractor.type"] = _backbone_name(backbone)
    settings |= _head_settings(shapes)
    settings |= _mask_settings(shapes)
    width = _input_width(shapes)
    if width is not None:
        settings |= _inputs(width, settings)
    elif not any(name.startswith("_mask_net/") for name in shapes):
        settings |= _parameter_free_settings(settings)
    return settings


def disagreements(settings: Mapping[str, Any], config: PipelineConfig) -> list[str]:
    """The paths whose value in a configuration is another than in `settings`."""
    return [path for path, v in settings.items() if configured(config, path) != v]


def configured(config: PipelineConfig, path: str) -> Any:
    """The value of a field in a configuration, as `infer_settings` would tell it."""
    value: Any = config
    for name in path.split("."):
        if value is None:  # the message of a head is left out: one hidden layer
            return {"num_filters": (256,), "kernel_sizes": (3,)}[name]
        value = getattr(value, name)
    return value


def infer_embedding_kernel(shapes: Shapes) -> tuple[int, int] | None:
    """(height, width) of the first kernel of the embedding heads; None without such heads."""
    name = HEADS + "PIXEL_EMBEDDING/0/layer_with_weights-0/kernel"
    kernel = _plausible(shapes).get(name)
    return None if kernel is None else (kernel[0], kernel[1])


def infer_hourglass(shapes: Shapes, prefix: str) -> HourglassSpec | None:
    """The dimensions of the hourglass network whose names start with `prefix`.

    None where there is none, or where too much of it is missing.
    """
    for stem in ("downsample_input", "conv_input"):
        if prefix + stem + "/conv_block/conv/kernel" in shapes:
            try:
                return _hourglass(shapes, prefix, stem)
            except KeyError:
                return None
    return None


def _hourglass(shapes: Shapes, prefix: str, stem: str) -> HourglassSpec:
    channels = [shapes[f"{prefix}{stem}/residual_block/conv/kernel"][-1]]
    blocks, strided = [], []
    stage = f"{prefix}hourglass_network/0/"
    while True:
        down = f"{stage}encoder_block2/"
        blocks.append(_length(shapes, down))
        first, last = f"{down}0/", f"{down}{blocks[-1] - 1}/"
        channels.append(shapes[f"{last}conv/kernel"][-1])
        # A first block whose width stays the same has a skip convolution for its stride only.
        if channels[-1] == channels[-2] or blocks[-1] == 1:
            strided.append(f"{first}skip/conv/kernel" in shapes)
        if not _length(shapes, f"{stage}inner_block/0/encoder_block2/"):
            blocks.append(_length(shapes, f"{stage}inner_block/"))
            break
        stage = f"{stage}inner_block/0/"
    return HourglassSpec(
        stem_channels=shapes[f"{prefix}{stem}/conv_block/conv/kernel"][-1],
        channels=tuple(channels),
        blocks=tuple(blocks),
        num_hourglasses=_length(shapes, f"{prefix}hourglass_network/"),
        downsample=all(strided),
        shortcut=_length(shapes, f"{prefix}hourglass_network/0/encoder_block1/") > 0,
    )


def _plausible(shapes: Shapes) -> Shapes:
    """The shapes that a layer's kernel or bias can have: of others nothing can be told."""
    ranks = {"kernel": (2, 4), "bias": (1,)}
    return {
        name: shape
        for name, shape in shapes.items()
        if len(shape) in ranks.get(name.split("/")[-1], (len(shape),))
    }


def _length(shapes: Shapes, prefix: str) -> int:
    """Members of the list whose names start with `prefix`."""
    members = {
        name.removeprefix(prefix).split("/")[0]
        for name in shapes
        if name.startswith(prefix)
    }
    return sum(member.isdigit() for member in members)


def _backbone_name(spec: HourglassSpec) -> str:
    for name, (depth, stem_channels) in BACKBONES.items():
        if spec == hourglass_spec(depth, stem_channels):
            return name
    return _describe(spec)


def _describe(spec: HourglassSpec) -> str:
    return (
        f"hourglass with a stem of {spec.stem_channels} channels, channels "
        f"{list(spec.channels)}, blocks {list(spec.blocks)}, {spec.num_hourglasses} in a row"
    )


def _head_settings(shapes: Shapes) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for head in (*_HEAD_PARAMS, "INSTANCE_EMBEDDING", "PIXEL_EMBEDDING"):
        layer = f"{HEADS}{head}/0/layer_with_weights-"
        kernels = []
        while f"{layer}{len(kernels)}/kernel" in shapes:
            kernels.append(shapes[f"{layer}{len(kernels)}/kernel"])
        if not kernels:
            continue
        if head in _OUT_CHANNELS:
            settings[_OUT_CHANNELS[head]] = kernels[-1][-1]
        if head in _HEAD_PARAMS:
            hidden = kernels[:-1]
            settings[_HEAD_PARAMS[head] + "num_filters"] = tuple(k[-1] for k in hidden)
            settings[_HEAD_PARAMS[head] + "kernel_sizes"] = tuple(k[0] for k in hidden)
    return settings


def _mask_settings(shapes: Shapes) -> dict[str, Any]:
    spec = infer_hourglass(shapes, MASK_NETWORK)
    if spec is not None:
        return {
            _MASK + "network_type": _mask_hourglass_name(spec),
            _MASK + "num_init_channels": spec.stem_channels,
        }
    first = shapes.get(MASK_NETWORK + "input_layer/kernel")
    if first is None:
        return {}
    settings: dict[str, Any] = {_MASK + "num_init_channels": first[-1]}
    if MASK_NETWORK + "fc2/bias" in shapes:
        (cells,) = shapes[MASK_NETWORK + "fc2/bias"]
        settings[_MASK + "network_type"] = "fully_connected"
        settings[_MASK + "mask_size"] = round(cells**0.5)
        return settings
    pattern = re.compile(re.escape(MASK_NETWORK) + r"model/layer_with_weights-(\d+)/.*")
    numbers = [int(match[1]) for name in shapes if (match := pattern.match(name))]
    last = max(numbers, default=-1)
    settings[_MASK + "network_type"] = _RESNETS.get(
        last, f"resnet of {last + 1} layers with weights"
    )
    return settings


def _parameter_free_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a mask network whose weights are the instance embedding, as far as its size tells.

    Several small networks may have as many weights; then only what they have in common is told.
    """
    pixel = settings.get(_MASK + "pixel_embedding_dim")
    dim = settings.get(_MASK + "dim")
    if pixel is None or dim is None:
        return {}
    fitting: list[dict[str, Any]] = []
    if dim == pixel:
        fitting.append({"network_type": "embedding_projection", "use_xy": False})
    for use_xy, depth in itertools.product((False, True), range(1, _MOST_LAYERS + 1)):
        inputs = pixel + 2 * use_xy
        for hidden in range(1, dim) if depth > 1 else (inputs,):
            if cond_inst_parameters(depth, inputs, hidden) == dim:
                kind = f"cond_inst{depth}"
                fitting.append(
                    {
                        "network_type": kind,
                        "num_init_channels": hidden,
                        "use_xy": use_xy,
                    }
                )
    if not fitting:
        return {}
    first, *others = fitting
    common = {
        name: value
        for name, value in first.items()
        if all(other.get(name) == value for other in others)
    }
    common["use_instance_embedding"] = False
    return {_MASK + name: value for name, value in common.items()}


def _mask_hourglass_name(spec: HourglassSpec) -> str:
    for name, (depth, variant) in HOURGLASSES.items():
        if spec == hourglass_spec(depth, spec.stem_channels, **variant):
            return name
    return _describe(spec)


def _input_width(shapes: Shapes) -> int | None:
    """Channels that the mask network takes."""
    for first in ("conv_input/conv_block/conv/kernel", "input_layer/kernel"):
        if MASK_NETWORK + first in shapes:
            return shapes[MASK_NETWORK + first][2]
    return None


def _inputs(width: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Which inputs make up the width of the mask network's input, if one choice does."""
    pixel = settings.get(_MASK + "pixel_embedding_dim")
    instance = settings.get(_MASK + "dim")
    if pixel is None or instance is None:
        return {}
    fitting = [
        {_MASK + "use_xy": use_xy, _MASK + "use_instance_embedding": use_instance}
        for use_xy, use_instance in itertools.product((True, False), repeat=2)
        if width == 2 * use_xy + pixel + instance * use_instance
    ]
    return fitting[0] if len(fitting) == 1 else {}
