"""Transforms for graphs of your own: see docs/transforms.md.

`pipelines.model_handler` has the handler for `RunInference`, of which `LabelImages` is made.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.typehints.decorators import with_input_types

from deepmac.boxed_images import BoxedImage, LabelledImage
from deepmac.data.failures import Failure
from deepmac.label import Settings
from pipelines.model_handler import DeepmacModelHandler, SplitLabelled

__all__ = ["BoxedImage", "Failure", "LabelImages", "LabelledImage", "Settings"]


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
