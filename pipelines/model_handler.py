"""Any predictor of masks in Beam's `RunInference`: see docs/transforms.md."""

import dataclasses
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.ml.inference.base import ModelHandler, PredictionResult
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.resources import parse_resource_hints

from deepmac.boxed_images import BoxedImage, LabelledImage, label_boxed_images
from deepmac.data.coco import OUT_OF_BOUNDS
from deepmac.data.failures import Failure
from deepmac.errors import OptionError, one_of
from deepmac.label import Settings
from deepmac.predictors import open_predictor
from deepmac.predictors.checked import CheckedPredictor

NAMESPACE = "deepmac"
"""Of the counters."""

DEAD_LETTERS = "dead_letters"
"""Tag of what has failed."""


class DeepmacModelHandler(ModelHandler[BoxedImage, PredictionResult, CheckedPredictor]):
    """Makes `RunInference` label images: BoxedImage -> PredictionResult of a LabelledImage.

    For (key, BoxedImage) put it into Beam's `KeyedModelHandler`. An image that cannot be read, or
    on which the predictor fails, costs nothing but itself: the images of its batch are predicted
    one by one, and its own result says that it has failed and why; `SplitLabelled` takes these
    apart. The model is opened once in each process, on the workers alone.
    """

    def __init__(
        self,
        model: str,
        model_options: Mapping[str, Any] | None = None,
        *,
        settings: Settings = Settings(),  # noqa: B008  # frozen
        out_of_bounds: str = "clip",
        max_batch_size: int = 16,
        resource_hints: Mapping[str, str] | None = None,
        **options: Any,
    ):
        """A handler for a predictor.

        Args:
            model, model_options: see `deepmac.predictors.open_predictor`; `checkpoint` is the
                option of most networks. Paths are those of the workers.
            settings: how to label. `micro_batch` images are in the predictor at one time.
            out_of_bounds: `clip` cuts boxes that overhang their image, `drop` lets them fail.
            max_batch_size: images that are handed over together, and in memory.
            resource_hints: of the step, such as {"accelerator": ..., "min_ram": "16GB"}.
            options: of Beam's `ModelHandler`, such as `large_model`.

        Raises:
            OptionError: an option cannot be.
        """
        if max_batch_size < 1:
            raise OptionError(f"max_batch_size must be positive, got {max_batch_size}")
        if out_of_bounds not in OUT_OF_BOUNDS:
            raise OptionError(
                f"out_of_bounds is one of {one_of(OUT_OF_BOUNDS)}, got {out_of_bounds!r}"
            )
        hints = dict(resource_hints or {})
        try:
            parse_resource_hints(hints)
        except ValueError as e:
            raise OptionError(f"resource_hints: {e}") from None
        # The same number twice: batches that grow by themselves have grown out of memory.
        super().__init__(
            min_batch_size=max_batch_size, max_batch_size=max_batch_size, **options
        )
        self._model = model
        self._options = dict(model_options or {})
        self._settings = settings
        self._out_of_bounds = out_of_bounds
        self._hints = hints

    def load_model(self) -> CheckedPredictor:
        """The predictor.

        Raises:
            OptionError: it takes no boxes, or finds none, as the settings want it to.
            DeepmacError: from opening it.
        """
        predictor = open_in_process(self._model, self._options)
        if self._settings.detect and not predictor.can_detect:
            raise OptionError(
                f"detect: '{self._model}' has no detector of its own; give boxes"
            )
        if not self._settings.detect and not predictor.takes_boxes:
            raise OptionError(
                f"'{self._model}' takes no boxes; use Settings(detect=True)"
            )
        return predictor

    def run_inference(
        self,
        batch: Sequence[BoxedImage],
        model: CheckedPredictor,
        inference_args: dict[str, Any] | None = None,
    ) -> list[PredictionResult]:
        """A result for each image, in order; `inference` is a `LabelledImage`.

        Raises:
            MemoryError: it does not even suffice for one image; Beam tries the batch again.
        """
        labelled = label_boxed_images(
            batch, model, self._settings, out_of_bounds=self._out_of_bounds
        )
        return [
            PredictionResult(image, done, model.fingerprint)
            for image, done in zip(batch, labelled, strict=True)
        ]

    def get_num_bytes(self, batch: Sequence[BoxedImage]) -> int:
        """Bytes of the images."""
        return sum(image.num_bytes for image in batch)

    def get_metrics_namespace(self) -> str:
        """Where Beam counts batches, latency and the memory of the model."""
        return NAMESPACE

    def get_resource_hints(self) -> dict[str, str]:
        return dict(self._hints)

    def validate_inference_args(self, inference_args: dict[str, Any] | None) -> None:
        """Raises OptionError if there are any: settings say how to label."""
        if inference_args:
            raise OptionError(
                f"inference_args: there are none, got {one_of(inference_args)}; "
                f"use settings=Settings(...)"
            )

    def update_model_path(self, model_path: str | None = None) -> None:
        """Takes another checkpoint from now on: Beam's automatic refresh of a model."""
        if model_path:
            self._options["checkpoint"] = model_path


@dataclasses.dataclass(eq=False)
class SplitLabelled(beam.PTransform):
    """PCollection[PredictionResult] -> `labelled` PCollection[LabelledImage] and `dead_letters`
    PCollection[Failure].

    Attributes:
        keyed: it is (key, PredictionResult) -> (key, LabelledImage) and (key, Failure).

    Counters: `images_in`, `images_out`, `images_failed`, `masks_out`, `masks_empty`,
    `dead_letters.STAGE.REASON`.
    """

    keyed: bool = False

    def expand(self, results):
        def typed(element: Any) -> Any:
            return tuple[Any, element] if self.keyed else element

        split = beam.ParDo(_Split(self.keyed)).with_output_types(
            typed(LabelledImage), **{DEAD_LETTERS: typed(Failure)}
        )
        return results | "Split" >> split.with_outputs(DEAD_LETTERS, main="labelled")


class _Split(beam.DoFn):
    def __init__(self, keyed: bool):
        self._keyed = keyed

    def process(self, element: Any) -> Iterator[Any]:
        key, result = element if self._keyed else (None, element)
        done = result.inference
        _count(done)
        for failure in done.failures:
            value = (key, failure) if self._keyed else failure
            yield TaggedOutput(DEAD_LETTERS, value)
        if not done.has_failed:
            yield (key, done) if self._keyed else done


def _count(done: LabelledImage) -> None:
    counts = {
        "images_in": 1,
        "images_out": not done.has_failed,
        "images_failed": done.has_failed,
        "masks_out": len(done.results),
        "masks_empty": done.num_empty,
    }
    for name, value in counts.items():
        Metrics.counter(NAMESPACE, name).inc(int(value))
    for failure in done.failures:
        Metrics.counter(
            NAMESPACE, f"dead_letters.{failure.stage}.{failure.reason}"
        ).inc()


_open: weakref.WeakValueDictionary[str, CheckedPredictor] = (
    weakref.WeakValueDictionary()
)
_opening = threading.Lock()


def open_in_process(model: str, options: Mapping[str, Any]) -> CheckedPredictor:
    """The process's one copy of a predictor, as long as anybody holds it; see `open_predictor`."""
    key = repr((model, sorted(options.items())))
    with _opening:
        found = _open.get(key)
        if found is None:
            found = open_predictor(model, **options)
            _open[key] = found
        return found
