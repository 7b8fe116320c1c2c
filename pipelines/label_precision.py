"""Which type the network of a `label` job computes in, settled once, on the job's first images."""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from deepmac.backend import bfloat16_units
from deepmac.data.decode import decode_rgb
from deepmac.data.files import Unreachable, join, read_file
from deepmac.errors import DataError
from deepmac.instances import Example, Precision
from deepmac.precision import SAME_ENOUGH, Comparison, compare
from deepmac.predictors.checked import CheckedPredictor
from deepmac.terminal import announce
from pipelines.json_lines import load_line
from pipelines.unit_files import JOB

REQUESTS = ("float32", "bfloat16", "auto")
NUM_IMAGES = 8
"""Images that run in both types before a job may use bfloat16."""


def settle(
    request: str,
    open_predictor: Callable[[str], CheckedPredictor],
    first_examples: Callable[[], Iterable[Example]],
    *,
    detect: bool,
    mask_threshold: float,
    max_pixels: int,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """The type for a job, with the reasons, as JSON.

    bfloat16 rounds the inputs of every multiplication to 8 bits; what that does to masks depends on
    the weights. So before it is used, the first images run in both types. `auto` takes it
    where the processor gains by it and the masks stay the same.

    Args:
        request: one of `REQUESTS`.
        open_predictor: opens the predictor in the type that it is given.
        first_examples: the first images of the job, taken as far as needed.
        detect: masks for what the network detects, not for the boxes of the examples.
        mask_threshold, max_pixels: see `deepmac.label.Settings`.
        environment: of the process.

    Returns:
        `precision`: `float32` or `bfloat16`; `because`: the reason; `comparison`: the attributes of
        a `Comparison`, None where there was none; `summary`: a line or two for people.
    """
    if request == "float32":
        return _settled("float32", "asked for")
    exact = open_predictor("float32")
    if exact.precision is None:
        return _settled("float32", "only networks of configurations have a choice")
    if request == "auto" and not bfloat16_units(environment):
        return _settled("float32", "there are no matrix units for bfloat16")
    images, boxes = _first(first_examples(), detect, max_pixels)
    with announce(f"comparing bfloat16 with float32 on {len(images)} images"):
        comparison = compare(
            exact,
            open_predictor("bfloat16"),
            images,
            None if detect else boxes,
            mask_threshold,
        )
    if request == "bfloat16":
        return _settled("bfloat16", "asked for", comparison)
    if comparison.num_masks == comparison.num_empty:
        return _settled("float32", "there was no mask to compare", comparison)
    if comparison.is_same_enough:
        return _settled("bfloat16", "the masks are those of float32", comparison)
    because = f"the masks differ: mean IoU or detections below {SAME_ENOUGH}"
    return _settled("float32", because, comparison)


def settled_before(out: str) -> Precision:
    """What the network computes in, as an earlier run into this directory settled it."""
    try:
        job = load_line(read_file(join(out, JOB)) or b"")
        settled = job["plan"]["context"]["precision"]["precision"]
    except (Unreachable, ValueError, KeyError, TypeError):
        return (
            "float32"  # a new job, or none of ours: whoever opens the directory tells
        )
    return "bfloat16" if settled == "bfloat16" else "float32"


def _settled(
    precision: Precision, because: str, comparison: Comparison | None = None
) -> dict[str, Any]:
    summary = f"precision: {precision} ({because})"
    if comparison is not None:
        summary += f"; bfloat16 against float32: {comparison.in_words()}"
        if precision == "bfloat16" and comparison.num_masks == comparison.num_empty:
            summary += "\nwarning: what bfloat16 does to the masks is not known"
        elif precision == "bfloat16" and not comparison.is_same_enough:
            summary += (
                f"\nwarning: masks in bfloat16 are not those in float32 (below "
                f"{SAME_ENOUGH}); look at them, or use --precision=float32"
            )
    return {
        "precision": precision,
        "because": because,
        "comparison": comparison and comparison.as_json(),
        "summary": summary,
    }


def _first(
    examples: Iterable[Example], detect: bool, max_pixels: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The first images that can be used, uint8 [H, W, 3] each, with their boxes [N, 4]."""
    images, all_boxes = [], []
    for example in itertools.islice(examples, 4 * NUM_IMAGES):
        boxes = np.array([i.box for i in example.instances if not i.is_crowd])
        if example.encoded is None or not (detect or len(boxes)):
            continue
        try:
            image = decode_rgb(example.encoded, max_pixels)
        except DataError:
            continue  # a dead letter when its turn comes
        if image.shape[:2] == (example.height, example.width):
            images.append(image)
            all_boxes.append(boxes)
        if len(images) == NUM_IMAGES:
            break
    return images, all_boxes
