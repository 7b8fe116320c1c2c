"""Reference variable name <-> our layer path, as data.

Our paths are those of `deepmac.model.variables`: attribute names from the model down. Reference
names are the paths of child names in its object graph, as keys write them (`box.Sscale` is the
child `box/scale`), without the root (`model/`). Inside a block both are the same.
"""

import re
from collections.abc import Callable, Iterator, Sequence


def _resnet_rows() -> Iterator[tuple[str, str]]:
    """The blocks of the `resnet` mask heads, whose layers the reference numbers all through.

    Of the ten blocks of the deepest one the shallower ones have the first few. The first block
    of a stack ends with a convolution on the way around.
    """
    number = 0
    for block in range(10):
        layers = ["pre_norm", "conv1", "norm1", "conv2", "norm2"]
        if block in (0, 8):
            layers.append("shortcut")
        for layer in layers:
            yield (
                f"mask_head/blocks/{block}/{layer}/{{leaf}}",
                f"_mask_net/_net/model/layer_with_weights-{number}/{{leaf}}",
            )
            number += 1


# `{rest}` is any path, every other field one name. The first row that matches counts.
_ROWS = (
    ("backbone/stem/{rest}", "_feature_extractor/_network/downsample_input/{rest}"),
    (
        "backbone/hourglasses/{rest}",
        "_feature_extractor/_network/hourglass_network/{rest}",
    ),
    ("backbone/{rest}", "_feature_extractor/_network/{rest}"),
    *_resnet_rows(),
    *(
        (f"mask_head/{layer}/{{leaf}}", f"_mask_net/_net/{layer}/{{leaf}}")
        for layer in ("input_layer", "fc1", "fc2")
    ),
    ("mask_head/net/stem/{rest}", "_mask_net/_net/conv_input/{rest}"),
    ("mask_head/net/hourglasses/{rest}", "_mask_net/_net/hourglass_network/{rest}"),
    ("mask_head/net/{rest}", "_mask_net/_net/{rest}"),
    ("mask_head/project_out/{leaf}", "_mask_net/project_out/{leaf}"),
    *(
        (
            f"heads/{{stack}}/{ours}/convs/{{layer}}/{{leaf}}",
            f"_prediction_head_dict/{theirs}/{{stack}}/layer_with_weights-{{layer}}/{{leaf}}",
        )
        for ours, theirs in (
            ("center", "object_center"),
            ("size", "box.Sscale"),
            ("offset", "box.Soffset"),
            ("instance_embedding", "INSTANCE_EMBEDDING"),
            ("pixel_embedding", "PIXEL_EMBEDDING"),
        )
    ),
)


def _translation(
    rows: Sequence[tuple[str, str]],
) -> Callable[[str], str | None]:
    """The function that rewrites what matches the left side of a row as its right side."""

    def pattern(template: str) -> str:
        parts = re.split(r"\{(\w+)\}", template)
        for i, part in enumerate(parts):
            field = ".+" if part == "rest" else "[^/]+"
            parts[i] = f"(?P<{part}>{field})" if i % 2 else re.escape(part)
        return "".join(parts)

    compiled = [(re.compile(pattern(left)), right) for left, right in rows]

    def translate(name: str) -> str | None:
        for left, right in compiled:
            if match := left.fullmatch(name):
                return right.format(**match.groupdict())
        return None

    return translate


reference_name = _translation(_ROWS)
"""Our path -> the reference's name; None where the reference has no such variable."""

our_path = _translation([(theirs, ours) for ours, theirs in _ROWS])
"""The reference's name -> our path; None where we have no such variable."""
