"""Transforms for graphs of your own, and all that they take and give: see docs/transforms.md."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.ml.inference.base import RunInference
from apache_beam.typehints.decorators import with_input_types

from deepmac.boxed_images import BoxedImage, LabelledImage
from deepmac.data.failures import Failure
from deepmac.errors import DataError, OptionError, one_of
from deepmac.evaluation.detections import Form
from deepmac.evaluation.engine import figures
from deepmac.evaluation.image_rows import (
    UNIT,
    Frame,
    ImageRows,
    contribute,
    facts_of,
    frame_of,
    ids_by_number,
    in_order,
)
from deepmac.evaluation.parameters import Parameters, check_draws
from deepmac.evaluation.report import metrics
from deepmac.evaluation.state import Partial
from deepmac.evaluation_result import EvaluationResult
from deepmac.label import Settings
from deepmac.text import short
from pipelines.evaluation_graph import MergePartials
from pipelines.model_handler import DeepmacModelHandler, SplitLabelled

__all__ = [
    "BoxedImage",
    "DeepmacModelHandler",
    "EvaluateMasks",
    "EvaluationResult",
    "Failure",
    "LabelImages",
    "LabelledImage",
    "Parameters",
    "Settings",
    "SplitLabelled",
]

_BATCH = 200  # images whose matching shares the cost of a call
_FANOUT = 8  # parts in which all is merged first


@with_input_types(BoxedImage)
@dataclasses.dataclass(eq=False)
class LabelImages(beam.PTransform):
    """PCollection[BoxedImage] -> `labelled` PCollection[LabelledImage], `dead_letters`
    PCollection[Failure].

    Does what `deepmac label` does, in memory. What fails comes out as a dead letter: a whole
    image, which then is not among the labelled, or a single box. Want of memory is no fault of an
    image: Beam tries again.

    Attributes:
        model: a configuration, by name or path; the directory of a SavedModel; grabcut, box or
            ellipse; or package.module:factory. Opened on the workers, once in each process.
        model_options: such as {"checkpoint": path}, see `deepmac.predictors.open_predictor`.
        settings: how to label.
        out_of_bounds: `clip` cuts boxes that overhang their image, `drop` lets them fail.
        max_batch_size: images that are in memory together.

    Counters: see `SplitLabelled`; and those of `RunInference`, in the same namespace.
    """

    model: str
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Settings = dataclasses.field(default_factory=Settings)
    out_of_bounds: str = "clip"
    max_batch_size: int = 16

    def expand(self, images):
        handler = DeepmacModelHandler(
            self.model,
            self.model_options,
            settings=self.settings,
            out_of_bounds=self.out_of_bounds,
            max_batch_size=self.max_batch_size,
        )
        return images | "Label" >> RunInference(handler) | "Sort" >> SplitLabelled()


@dataclasses.dataclass(eq=False)
class EvaluateMasks(beam.PTransform):
    """{"images", "annotations", "predictions": PCollection[dict | list[dict]]} ->
    PCollection[EvaluationResult], of one element.

    The figures are those of `deepmac.evaluate`, bit by bit, in whatever order the rows come: an
    image's annotations are sorted by id; its predictions, which matters where scores are equal, as
    text, or given together as one list in their order. The rows meet by image, in one shuffle;
    after that nothing travels but at most 16 bytes a detection. Every worker knows id and size of
    all images. A row that cannot be used is an error, as figures without it would be others.

    The elements are what COCO's files hold: images with id, height and width; annotations;
    results. Lists are of one image each.

    Attributes:
        categories: entries of the data set, with id and name.
        parameters: of the evaluation: what is compared, thresholds and so on.
        form: what sizes are taken from, `box` or `mask`. By default the predictions' boxes for
            `bbox`, their masks for `segm`; pycocotools takes the boxes of results that have both.
        groups: ids of categories to average over, by name.
        draws, seed: of the bootstrap that gives the intervals.
    """

    categories: Sequence[Mapping[str, Any]]
    parameters: Parameters = dataclasses.field(default_factory=Parameters)
    form: Form | None = None
    groups: Mapping[str, Collection[Any]] = dataclasses.field(default_factory=dict)
    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_draws(self.draws, self.seed)
        if self.form not in (None, "box", "mask"):
            raise OptionError(f"form is 'box' or 'mask', got {short(self.form)}")
        known = {category.get("id") for category in self.categories}
        for name, ids in self.groups.items():
            if unknown := [i for i in ids if i not in known]:
                raise OptionError(
                    f"groups['{name}']: there is no category {one_of(map(short, unknown))}"
                )

    def expand(self, rows):
        if set(rows) != {"images", "annotations", "predictions"}:
            raise OptionError(
                f"EvaluateMasks takes images, annotations and predictions, got {one_of(rows)}"
            )
        keys = {"images": "id", "annotations": "image_id", "predictions": "image_id"}
        by_image = {
            name: rows[name] | f"Key {name}" >> beam.FlatMap(_keyed, name, key)
            for name, key in keys.items()
        } | "By image" >> beam.CoGroupByKey()
        images = by_image | "In order" >> beam.MapTuple(_in_order)
        frame = (
            images
            | "Facts" >> beam.FlatMap(facts_of)
            | "All images" >> beam.combiners.ToList()
            | "Frame" >> beam.Map(frame_of, self.categories, self.parameters)
        )
        contributed = (
            images
            | "Batch" >> beam.BatchElements(_BATCH, _BATCH)
            | "Match"
            >> beam.ParDo(_Contribute(self), pvalue.AsSingleton(frame))
            .with_output_types(Partial, ids=tuple[int, Any])
            .with_outputs("ids", main="partials")
        )
        merge = beam.CombineGlobally(MergePartials()).without_defaults()
        return (
            contributed.partials
            | "Merge" >> merge.with_fanout(_FANOUT)
            | "Conclude"
            >> beam.Map(
                self._conclude,
                pvalue.AsSingleton(frame),
                pvalue.AsIter(contributed.ids),
            ).with_output_types(EvaluationResult)
        )

    @property
    def form_of_results(self) -> Form:
        if self.form is not None:
            return self.form
        return "box" if self.parameters.iou_type == "bbox" else "mask"

    def _conclude(
        self, partial: Partial, frame: Frame, numbered: Iterable[tuple[int, Any]]
    ) -> EvaluationResult:
        ids = ids_by_number(numbered, self.parameters)
        evaluation = figures(partial, self.parameters, frame.scope, [UNIT])
        groups = {name: list(ids) for name, ids in self.groups.items()}
        document = metrics(
            {self.parameters.iou_type: evaluation},
            groups,
            ids,
            num_draws=self.draws,
            seed=self.seed,
        )
        return EvaluationResult(evaluation, document, groups)


def _keyed(element: Any, name: str, key: str) -> Iterator[tuple[Any, Any]]:
    """(image id, element) of a row, or of rows of one image."""
    rows = element if isinstance(element, list) else [element]
    try:
        ids = {row[key] for row in rows}
    except (TypeError, KeyError):
        raise DataError(
            f"{name}: {short(element)} is no row of COCO data with '{key}'"
        ) from None
    if len(ids) > 1:
        raise DataError(f"{name}: a list has rows of {len(ids)} images, not of one")
    if rows:
        yield ids.pop(), element


def _in_order(image_id: Any, rows: Mapping[str, Iterable[Any]]) -> ImageRows:
    return in_order(image_id, rows["images"], rows["annotations"], rows["predictions"])


class _Contribute(beam.DoFn):
    def __init__(self, job: EvaluateMasks):
        self._job = job

    def process(self, rows: list[ImageRows], frame: Frame) -> Iterator[Any]:
        job = self._job
        partial, ids = contribute(
            rows, frame, job.categories, job.parameters, job.form_of_results
        )
        yield partial
        for pair in ids:
            yield pvalue.TaggedOutput("ids", pair)
