"""What a valid configuration says that is not acted on, or not ready to be."""

import dataclasses
from collections.abc import Iterator

from deepmac.config.message import Field, Message, Unused, fields_of
from deepmac.config.schema import PipelineConfig

PLACEHOLDER = "PATH_TO_BE_CONFIGURED"
"""Stands in shipped configurations where a path of the user's must go."""


@dataclasses.dataclass(frozen=True)
class UnusedField:
    """A field that was set and is not acted on.

    Attributes:
        path: of the field.
        marked: path of the field or of the message around it for which the reason is given.
        unused: the reason.
    """

    path: str
    marked: str
    unused: Unused


def set_fields(
    value: Message, prefix: str = ""
) -> Iterator[tuple[str, Field, Message]]:
    """Every field that was set, messages before what is in them: path, field, its message."""
    for field in fields_of(type(value)):
        name = value.spelling_of(field)
        if name not in value.set_fields:
            continue
        content = getattr(value, field.name)
        yield prefix + name, field, value
        if field.is_message and field.shape == "one":
            yield from set_fields(content, f"{prefix}{name}.")
        elif field.is_message and field.shape == "repeated":
            for i, element in enumerate(content):
                yield from set_fields(element, f"{prefix}{name}[{i}].")


def unused_fields(config: PipelineConfig) -> list[UnusedField]:
    """The innermost fields that were set and are not acted on.

    A reason given for a message holds for what is in it, unless that has its own.
    """
    found: list[UnusedField] = []
    paths = [path for path, _, _ in set_fields(config)]
    marks = {path: f.unused for path, f, _ in set_fields(config) if f.unused}
    for path in paths:
        if any(_is_within(other, path) for other in paths):
            continue
        around = [p for p in marks if p == path or _is_within(path, p)]
        if around:
            marked = max(around, key=len)
            found.append(UnusedField(path, marked, marks[marked]))
    return found


def _is_within(path: str, message_path: str) -> bool:
    return path.startswith((f"{message_path}.", f"{message_path}["))


def placeholders(config: PipelineConfig) -> list[tuple[str, str]]:
    """Paths and values of the fields in which a path of the user's is still missing."""
    return [
        (path, text)
        for path, field, value in set_fields(config)
        if field.kind is str
        for text in _texts(getattr(value, field.name))
        if PLACEHOLDER in text
    ]


def _texts(content: str | tuple[str, ...]) -> tuple[str, ...]:
    return (content,) if isinstance(content, str) else content


def rereadings(config: PipelineConfig) -> list[tuple[str, str]]:
    """Paths of the fields whose value is taken for another one, and how."""
    if config.train_config.fine_tune_checkpoint_type != "fine_tune":
        return []
    return [
        ("train_config.fine_tune_checkpoint_type", "fine_tune is read as detection")
    ]


def idle_class_ids(config: PipelineConfig) -> tuple[int, ...]:
    """`allowed_masked_classes_ids` beyond the classes there are: they match nothing.

    No error: a change of `num_classes`, to fit a checkpoint, must not need another change.
    """
    net = config.model.center_net
    allowed = net.deepmac_mask_estimation.allowed_masked_classes_ids
    return tuple(i for i in allowed if i > net.num_classes)
