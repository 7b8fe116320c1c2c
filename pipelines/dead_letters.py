"""Elements that failed: kept with stage and reason, counted at the end of the job."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from deepmac.instances import AnnotationId, ImageId
from pipelines.observation import COMMITTED

if TYPE_CHECKING:
    from pipelines.units import Totals

TOO_MANY_FAILED = 3
"""Exit status of a job that finished, with too many failures to be a success."""

_IMAGES = ("images_in", "images_out", "images_failed")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An image or an annotation that did not make it, and why.

    Attributes:
        job, unit, stage: where it failed; the stage is a word such as `read` or `mask`.
        image_id: None where the input does not say.
        annotation_id: None if the whole image failed.
        reason: a short stable name to count by, such as `image_missing`.
        exception: type of the error.
        message: the error in a sentence.
    """

    job: str
    unit: str
    stage: str
    image_id: ImageId | None
    annotation_id: AnnotationId | None
    reason: str
    exception: str
    message: str

    def __post_init__(self) -> None:
        # File names may hold bytes that are no Unicode; JSON cannot.
        for name in ("image_id", "annotation_id", "message"):
            value = getattr(self, name)
            if isinstance(value, str):
                clean = value.encode("utf-8", "backslashreplace").decode()
                object.__setattr__(self, name, clean)


def conclude(
    totals: "Totals",
    max_failed_fraction: float,
    *,
    out: str,
    console: Console | None = None,
) -> int:
    """Prints what failed and why, what took how long, and what came out; returns the exit status.

    Args:
        totals: of the job.
        max_failed_fraction: of the images; more than that is a failure of the job. That no
            annotation could be used is one too.
        out: the output directory, named in the last line.
        console: where to print; default standard output.
    """
    console = console or Console(highlight=False, soft_wrap=True, markup=False)
    if totals.reasons:
        console.print(_table(totals.reasons))
    if (times := totals.observed.table()) is not None:
        console.print(times)
        told = totals.observed.counters.get(COMMITTED, 0)
        if told < (num_done := len(totals.units) - totals.num_resumed):
            console.print(
                f"The times are of {told} of {num_done} units: the runner lost what was told of "
                f"the others. The counts below are whole."
            )
    counts = totals.counts
    total, num_out, failed = (counts.get(name, 0) for name in _IMAGES)
    console.print(
        f"{total} images in, {num_out} out, {failed} failed; "
        f"{len(totals.units)} units ({totals.num_resumed} done before), "
        f"{totals.seconds:.1f} s: {out}"
    )
    others = [name for name in counts if name not in _IMAGES and counts[name]]
    if others:
        said = (f"{counts[name]} {name.replace('_', ' ')}" for name in others)
        console.print(", ".join(said))
    if total and failed / total > max_failed_fraction:
        problem = (
            f"{failed / total:.1%} of the images failed, more than "
            f"--max_failed_fraction={max_failed_fraction:g}"
        )
    elif counts.get("annotations_failed") and not _num_instances(counts):
        problem = (
            f"none of the {counts['annotations_failed']} annotations could be used"
        )
    else:
        return 0
    console.print(f"{problem}; see {out}/dead_letters.jsonl")
    return TOO_MANY_FAILED


def _num_instances(counts: Mapping[str, int]) -> int:
    """Instances of `build` or masks of `label` that came out."""
    return counts.get("instances_out", 0) + counts.get("masks_out", 0)


def _table(reasons: dict[tuple[str, str], int]) -> Table:
    table = Table("dead letters", "stage", "reason", title_justify="left")
    for (stage, reason), number in sorted(reasons.items(), key=lambda r: -r[1]):
        table.add_row(str(number), stage, reason)
    return table
