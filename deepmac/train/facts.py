"""What the trajectory of a run depends on, by name, and where two runs differ in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from deepmac.config.message import Message, fields_of
from deepmac.config.schema import PipelineConfig
from deepmac.errors import CheckpointError
from deepmac.text import short

_FREE = (
    "train_config.num_steps",
    "train_config.keep_checkpoint_every_n_hours",
    "train_config.fine_tune_checkpoint",  # read once, before the first step
    "train_config.run_fine_tune_checkpoint_dummy_computation",
    "train_input_reader.label_map_path",  # what it says is in the fingerprint of the input
    "train_input_reader.tf_record_input_reader",
)
"""Fields that may change in the middle of a run."""


def facts_of(config: PipelineConfig, **others: Any) -> dict[str, Any]:
    """The settings that decide what a run does, flat, as JSON holds them.

    Fields that have their default values are left out, so that a run goes on when a later version
    knows more fields.

    Args:
        config: of the run; what concerns evaluation is left out.
        others: settings that are not in it.
    """
    facts: dict[str, Any] = dict(others)
    for name in ("model", "train_config", "train_input_reader"):
        for path, value in _flat(getattr(config, name), name):
            if not path.startswith(_FREE):
                facts[path] = value
    return facts


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Refuses to go on with a run under other settings than it began with.

    Raises:
        CheckpointError: they differ; names up to three settings, with both values.
    """
    names = sorted(n for n in {*before, *now} if before.get(n) != now.get(n))
    # The input's digest follows from the seed and others, which say more.
    if names == ["input"]:
        raise CheckpointError(
            f"{where}: the records, their order or the label map are not those that the run began "
            f"with; give them again, or another --model_dir"
        )
    names = [n for n in names if n != "input"]
    if not names:
        return
    listed = "; ".join(
        f"{n} was {_value(n, before)} and is {_value(n, now)}" for n in names[:3]
    )
    more = f" (and {len(names) - 3} more)" if len(names) > 3 else ""
    raise CheckpointError(
        f"{where}: a run with other settings: {listed}{more}; give these values again, or another "
        f"--model_dir"
    )


def _value(name: str, facts: Mapping[str, Any]) -> str:
    return short(facts[name]) if name in facts else "not set"


def _flat(value: Message, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in fields_of(type(value)):
        content, path = getattr(value, field.name), f"{prefix}.{field.name}"
        if not field.is_message and content == field.default:
            continue
        if field.is_message and field.shape == "one":
            if content is not None:
                yield path, True  # which of a oneof is set
                yield from _flat(content, path)
        elif field.is_message and field.shape == "repeated":
            for i, element in enumerate(content):
                yield from _flat(element, f"{path}[{i}]")
        else:
            yield path, _plain(content)


def _plain(content: Any) -> Any:
    if isinstance(content, tuple):
        return [_plain(c) for c in content]
    return content if isinstance(content, str | float | bool) else _number(content)


def _number(content: Any) -> Any:
    if isinstance(content, Mapping):
        return dict(content)
    return None if content is None else int(content)
