"""The options of the `label` job: what they are, what decides the results, what they name."""

import dataclasses
import posixpath
from typing import Any

from deepmac.commands import option
from deepmac.data.coco import OUT_OF_BOUNDS
from deepmac.data.decode import MAX_PIXELS
from deepmac.data.directory import RecordDirectory
from deepmac.data.files import absolute
from deepmac.data.foreign import open_with_categories
from deepmac.data.manifest import file_sha256
from deepmac.paste import THRESHOLD
from deepmac.predictors.checked import CheckedPredictor
from pipelines.label_plan import records_digest
from pipelines.label_precision import REQUESTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Makes a mask for every box, or for everything that the model detects.

    Input is a COCO annotation file with its images, or records. A job that was stopped goes on
    where it was when the same command is given again.
    """

    annotations: str | None = option(
        "COCO annotation file with the boxes (JSON).", metavar="FILE", default=None
    )
    images: str | None = option(
        "Directory of the image files, or a pattern of directories or files.",
        metavar="DIR|GLOB",
        default=None,
    )
    records: str | None = option(
        "Directory of records instead of annotations and images.",
        metavar="DIR",
        default=None,
    )
    label_map: str | None = option(
        "Ids of the categories, for --records that other programs wrote without ids.",
        metavar="FILE",
        default=None,
    )
    out: str = option("Directory to write to.", metavar="DIR")
    model: str = option(
        "A configuration, by name or path; the directory of a SavedModel; grabcut, box or "
        "ellipse; or package.module:factory.",
        metavar="NAME|PATH",
    )
    checkpoint: str | None = option(
        "Weights of the model.", metavar="PATH", default=None
    )
    model_on_workers: bool = option(
        "The model and its weights are paths on the workers, such as in their container's image: "
        "this machine does not open them.",
        default=False,
    )
    accelerator: str | None = option(
        "Accelerator of the machines that predict, where the runner chooses machines (Dataflow): "
        "nvidia-tesla-t4 for one of that type with its driver, or type:TYPE;count:NUMBER and more.",
        metavar="TYPE",
        default=None,
    )
    worker_min_ram: str | None = option(
        "The least memory of the machines that predict, where the runner chooses machines.",
        metavar="16GB",
        default=None,
    )
    set: tuple[str, ...] = option(
        "Changes a value of the configuration; may be given several times.",
        metavar="FIELD=VALUE",
        default=(),
    )
    accept: tuple[str, ...] = option(
        "Variables of the model, by name or pattern, that the checkpoint need not fit.",
        metavar="PATTERN",
        default=(),
    )
    precision: str = option(
        "What a network computes in. bfloat16 is several times faster where the processor has matrix "
        "units for it, and is compared with float32 on the first images; auto takes it where it is "
        "both faster and the same.",
        default="float32",
        choices=REQUESTS,
    )
    boxes: str = option(
        "Masks for the boxes of the input, or for those that the model detects.",
        default="given",
        choices=("given", "detect"),
    )
    mask_threshold: float = option(
        "A pixel belongs to the object when its probability is above this.",
        default=THRESHOLD,
    )
    min_score: float = option(
        "Detections with a lower score are left out.", default=0.0
    )
    max_detections: int = option("Detections of an image that are kept.", default=100)
    out_of_bounds: str = option(
        "Boxes that reach beyond the image: cut them, or let them fail.",
        default="clip",
        choices=OUT_OF_BOUNDS,
    )
    reference_quirks: bool = option(
        "Do everything as the reference does, also what it does wrongly.", default=False
    )
    unit_images: int | None = option(
        "Images in one output file, and the most that a stop can cost. By default a thirty-second "
        "of them, from 4 to 256.",
        default=None,
    )
    micro_batch: int = option("Images predicted together.", default=4)
    max_pixels: int = option("Images with more pixels fail.", default=MAX_PIXELS)
    write_coco_results: bool = option(
        "Write predictions.json too, a plain COCO results file.", default=False
    )
    write_annotations: bool = option(
        "Write annotations.json too: the input with its missing segmentations filled in.",
        default=False,
    )
    review: bool = option(
        "Write review.html too: pictures of the lowest-scored twentieth of the masks and of a "
        "random sample, with ids.",
        default=False,
    )
    review_max: int = option(
        "The most of the lowest-scored masks that --review shows.", default=200
    )
    max_failed_fraction: float = option(
        "Exit with status 3 when more of the images fail.", default=0.01
    )
    verbose: bool = option("Show what Beam logs.", default=False)


def identity_of(options: Options, predictor: CheckedPredictor | None) -> dict[str, Any]:
    """The options that decide the results, with files as their digests.

    A model that only workers open (None) is found out when they have: see `infer.make_manifest`.

    Not among them: `micro_batch`, so that a job that ran out of memory can go on with less. Sums
    in another order move a probability by 1e-6 or so.
    """
    identity: dict[str, Any] = {
        "model": posixpath.basename(options.model.rstrip("/")),
        "model_fingerprint": predictor and predictor.fingerprint,
        "boxes": options.boxes,
        "precision": options.precision,
        "mask_threshold": options.mask_threshold,
        "reference_quirks": options.reference_quirks,
        "max_pixels": options.max_pixels,
    }
    # A predictor of the user's own may not tell by its fingerprint what it was given.
    if options.set:
        identity["set"] = list(options.set)
    if options.accept:
        identity["accept"] = sorted(options.accept)
    if options.boxes == "detect":
        identity["min_score"] = options.min_score
        identity["max_detections"] = options.max_detections
    if options.records is not None:
        identity["records_sha256"] = records_digest(open_records(options))
        if options.label_map is not None:
            identity["label_map_sha256"] = file_sha256(options.label_map)
    elif options.annotations is not None:
        identity["annotations_sha256"] = file_sha256(options.annotations)
        identity["out_of_bounds"] = options.out_of_bounds
        identity["unit_images"] = options.unit_images
    return identity


def inputs_of(options: Options) -> dict[str, Any]:
    """Where the input lies that the identity does not cover."""
    names = ("images", "records", "checkpoint")
    paths = {name: getattr(options, name) for name in names}
    return {name: absolute(p) for name, p in paths.items() if p is not None}


def model_options(options: Options, precision: str) -> tuple[tuple[str, Any], ...]:
    """The options of the predictor that are set."""
    given = {
        "checkpoint": options.checkpoint,
        "overrides": options.set,
        "accept": options.accept,
        "reference_quirks": options.reference_quirks,
        "precision": None if precision == "float32" else precision,
    }
    return tuple((name, value) for name, value in given.items() if value)


def open_records(options: Options) -> RecordDirectory:
    assert options.records
    return open_with_categories(options.records, options.label_map)
