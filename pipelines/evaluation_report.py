"""What `evaluate --report` writes: one page with figures, charts and pictures."""

import dataclasses
import datetime
import platform
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import deepmac
from deepmac.commands import command_line
from deepmac.data.files import is_folder
from deepmac.data.image_source import ImageSource
from deepmac.errors import OptionError
from deepmac.evaluation.summary import Evaluation
from deepmac.evaluation_page.page import Produced, render_report
from pipelines.evaluation_gallery import (
    ImageFiles,
    Pictures,
    RecordImages,
    draw_pictures,
)
from pipelines.storage import Output

if TYPE_CHECKING:
    from pipelines.evaluate import Options
    from pipelines.evaluation_inputs import Task

REPORT = "report.html"


def check_report(options: "Options") -> None:
    """Looks at the options of the report before anything is computed.

    Raises:
        OptionError: they contradict each other.
        DataError: there is no such directory of images.
    """
    if options.gallery < 0:
        raise OptionError(f"--gallery must not be negative, got {options.gallery}")
    if options.images is None:
        return
    if not options.report:
        raise OptionError(
            "--images is for the report, which --no_report leaves out; give one of them"
        )
    if is_folder(options.ground_truth):
        raise OptionError(
            "--images is for a ground truth of COCO annotations; records hold their images"
        )
    ImageSource(options.images)


def write_report(
    output: Output,
    tasks: Sequence["Task"],
    evaluations: Mapping[str, Evaluation],
    document: Mapping[str, Any],
    options: "Options",
    beam_args: Sequence[str],
    started: float,
) -> None:
    """Writes `report.html`. What it needs besides the figures is read again.

    Args:
        output: of the job.
        tasks, evaluations: what was evaluated, and the outcome by kind.
        document: what metrics.json holds.
        options, beam_args, started: of the run.
    """
    drawn, note = Pictures({}, ()), ""
    source = _images(options)
    if source is None:
        note = (
            "There are none: the ground truth is a file of annotations. Give the directory of its "
            "images with --images DIR."
        )
    elif options.gallery:
        drawn = draw_pictures(tasks, evaluations, source, options.gallery)
        if not any(gallery for gallery in drawn.galleries.values()):
            note = "There are none to show."
    else:
        note = "There are none, as --gallery 0 asks."
    page = render_report(
        document,
        evaluations,
        {name: list(ids) for name, ids in tasks[0].groups.items()},
        Produced(
            options.ground_truth,
            options.predictions,
            command_line("deepmac evaluate", options, beam_args),
            _facts(started),
            _values(options),
        ),
        galleries=drawn.galleries,
        not_shown=drawn.not_shown,
        note=note,
    )
    # Ids and names may hold halves of surrogate pairs.
    output.write(REPORT, page.encode("utf-8", "backslashreplace"))


def _images(options: "Options") -> ImageFiles | RecordImages | None:
    if is_folder(options.ground_truth):
        return RecordImages(options.ground_truth, options.label_map)
    if options.images is None:
        return None
    return ImageFiles(options.ground_truth, options.images)


def _values(options: "Options") -> list[tuple[str, str]]:
    values = dataclasses.asdict(options).items()
    return [(name, _told(v)) for name, v in values if v is not None]


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _facts(started: float) -> list[tuple[str, str]]:
    moment = datetime.datetime.fromtimestamp(started, datetime.UTC)
    return [
        ("deepmac", deepmac.__version__),
        ("Python", platform.python_version()),
        ("started", f"{moment:%Y-%m-%d %H:%M:%S} UTC"),
        ("took", f"{time.time() - started:.1f} s, without this page"),
    ]
