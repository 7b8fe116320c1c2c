"""Reference variable name <-> our layer path, as data.

Our paths are those of `deepmac.model.variables`: attribute names from the model down. Reference
names are the paths of child names in its object graph, as keys write them (`box.Sscale` is the
child `box/scale`), without the root (`model/`). Inside a block both are the same.
"""

import re
from collections.abc import Callable, Sequence

# `{rest}` is any path, every other field one name. The first row that matches counts.
_ROWS = (
    ("backbone/stem/{rest}", "_feature_extractor/_network/downsample_input/{rest}"),
    (
        "backbone/hourglasses/{rest}",
        "_feature_extractor/_network/hourglass_network/{rest}",
    ),
    ("backbone/{rest}", "_feature_extractor/_network/{rest}"),
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
