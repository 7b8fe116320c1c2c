"""What the public archive of the reference proves about our reading of it.

`deepmac_1024x1024_coco17.tar.gz` of the reference's README holds a SavedModel. Its variables go into
our network, the SavedModel itself runs as a predictor, and both see the same picture.
"""

import dataclasses
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

import deepmac
from deepmac.boxes import normalise
from deepmac.checkpoint.differences import differences
from deepmac.checkpoint.facts import (
    disagreements,
    infer_embedding_kernel,
    infer_settings,
)
from deepmac.checkpoint.load import open_weights
from deepmac.checkpoint.locate import find_saved_model
from deepmac.config.load import load_config
from deepmac.paste import paste_masks
from deepmac.predictors.saved_model import SavedModelPredictor, open_saved_model


def unpack(archive: Path, folder: Path) -> Path:
    """The unpacked archive; a directory is taken as it is. Nothing is written outside `folder`."""
    if archive.is_dir():
        return archive
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def find_export(folder: Path) -> Path:
    """The directory around `saved_model/`, wherever in the archive it is."""
    (graph,) = folder.rglob("saved_model.pb")
    return graph.parent.parent if graph.parent.name == "saved_model" else graph.parent


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found out, for assertions and as lines to read."""

    variables: int
    parameters: int
    kernel: tuple[int, int] | None
    misfits: tuple[str, ...]  # fields of the configuration
    checkpoint_differs: bool | None  # None: there is none beside it
    inputs: str
    outputs: tuple[str, ...]
    mask_shape: tuple[int, ...]
    mask_distance: float
    mask_iou: float  # of the worst box
    detection_distance: float | None  # of scores; None: it does not detect
    same_classes: float | None

    def lines(self) -> Iterator[str]:
        height, width = self.kernel or (0, 0)
        yield f"variables: {self.variables:,}, of {self.parameters:,} parameters"
        yield f"first kernel of the embedding heads: {height}x{width}"
        yield f"fields of the configuration that do not fit: {list(self.misfits) or 'none'}"
        beside = {None: "there is none", True: "differs", False: "holds the same"}
        yield f"checkpoint beside it: {beside[self.checkpoint_differs]}"
        yield f"inputs of its graph: {self.inputs}"
        yield f"outputs of its graph: {', '.join(self.outputs)}"
        yield f"masks: {' x '.join(map(str, self.mask_shape))}"
        yield (
            f"the graph and our network with its variables: probabilities at most "
            f"{self.mask_distance:.2g} apart, IoU of masks at least {self.mask_iou:.4f}"
        )
        if self.detection_distance is not None and self.same_classes is not None:
            yield (
                f"detections: scores at most {self.detection_distance:.2g} apart, "
                f"{self.same_classes:.0%} of the classes the same"
            )


def examine(
    export: Path, config: str | Path, image: np.ndarray, boxes: np.ndarray
) -> Findings:
    """Reads an export both ways and compares.

    Args:
        export: a directory with `saved_model/` in it, or the SavedModel.
        config: that it should fit.
        image: uint8 [H, W, 3].
        boxes: float [N, 4], (ymin, xmin, ymax, xmax) in its pixels, inside.
    """
    folder = find_saved_model(export)
    assert folder is not None
    weights = open_weights(folder)
    shapes = {name: stored.shape for name, stored in weights.variables.items()}
    center_net = load_config(config)
    checkpoint = export / "checkpoint"
    differs = None
    if checkpoint.is_dir():
        differs = bool(differences(weights, open_weights(checkpoint)))

    graph = open_saved_model(folder)
    network = deepmac.load(config, checkpoint=folder)
    (theirs,) = graph([image], [boxes])
    ours = network(image, boxes)
    size = image.shape[:2]
    a, b = (
        paste_masks(probs, normalise(boxes, *size), *size)
        for probs in (theirs.mask_probs, ours.mask_probs)
    )
    union = np.maximum((a | b).sum((1, 2)), 1)
    empty = ~(a | b).any((1, 2))
    scores = classes = None
    if graph.can_detect:
        (found,), expected = graph([image], None), network(image)
        count = min(len(found.scores), len(expected.scores))
        scores = float(
            np.abs(found.scores[:count] - expected.scores[:count]).max(initial=0)
        )
        same = found.category_ids[:count] == expected.category_ids[:count]
        classes = float(same.mean()) if count else 1.0
    return Findings(
        variables=len(shapes),
        parameters=sum(int(np.prod(shape)) for shape in shapes.values()),
        kernel=infer_embedding_kernel(shapes),
        misfits=tuple(disagreements(infer_settings(shapes), center_net)),
        checkpoint_differs=differs,
        inputs=_inputs(folder),
        outputs=_outputs(graph),
        mask_shape=theirs.mask_probs.shape[1:],
        mask_distance=float(np.abs(theirs.mask_probs - ours.mask_probs).max()),
        mask_iou=float(np.where(empty, 1, (a & b).sum((1, 2)) / union).min()),
        detection_distance=scores,
        same_classes=classes,
    )


def _inputs(folder: Path) -> str:
    signatures = tf.saved_model.load(str(folder)).signatures
    texts = []
    for name, function in signatures.items():
        specs = sorted(function.structured_input_signature[1].items())
        inputs = ", ".join(f"{key}: {s.dtype.name} {s.shape}" for key, s in specs)
        texts.append(f"{name} ({inputs})")
    return "; ".join(texts)


def _outputs(graph: SavedModelPredictor) -> tuple[str, ...]:
    return tuple(sorted(graph.graph.outputs))
