"""An exported SavedModel as a `MaskPredictor`: any graph with the reference's inputs and outputs.

Resizing, normalising and everything after it are in the graph; it takes one image at a time.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deepmac.backend import import_tensorflow_quietly
from deepmac.boxes import denormalise, normalise
from deepmac.checkpoint.locate import find_saved_model
from deepmac.errors import CheckpointError, DataError, OptionError, one_of
from deepmac.instances import BoxMasks
from deepmac.paste import mean_foreground
from deepmac.predictors.inputs import check_boxes, check_image

BOXES_PER_CALL = 256
"""Boxes in a call of the graph: bounds its memory. Each call runs the backbone again."""

MASKS = "detection_masks"
DETECTIONS = ("detection_boxes", "detection_classes", "detection_scores")
"""Outputs of the reference that are used, by name."""

ACCEPTED = (
    "an image (uint8 or float32 [1, None, None, 3], or string [None] for encoded ones), and boxes "
    "(float32 [1, None, 4]) or none"
)
_WHOLE_IMAGE = np.array([[0, 0, 1, 1]], np.float32)


def open_saved_model(path: str | os.PathLike[str]) -> "SavedModelPredictor":
    """A predictor that runs a SavedModel as it is.

    Args:
        path: its directory, the `saved_model.pb` in it, or an export directory, whose
            `saved_model/` is meant.

    Raises:
        CheckpointError: there is none, it cannot be read, TensorFlow is missing, or no signature
            of it has the reference's inputs and outputs: says what was found.
    """
    folder = find_saved_model(path)
    if folder is None:
        raise CheckpointError(
            f"{os.fspath(path)}: no SavedModel (looked for saved_model.pb and for "
            f"saved_model/saved_model.pb)"
        )
    return SavedModelPredictor(folder, _find_graph(_load(folder), folder))


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """A function of a SavedModel that turns an image, and boxes if it takes any, into masks.

    Attributes:
        name: what errors call it.
        run: the image as `image_type` wants it, with a batch axis of 1, and float32 [1, N, 4] if
            `takes_boxes`, else None -> outputs by name.
        image_type: `uint8`, `float32`, or `string` for the bytes of an encoded image.
        takes_boxes: masks are for given boxes; otherwise for the graph's own detections.
        outputs: name -> shape, as far as it is known beforehand.
    """

    name: str
    run: Callable[[Any, Any], Mapping[str, Any]]
    image_type: str
    takes_boxes: bool
    outputs: Mapping[str, tuple[int | None, ...] | None]


class SavedModelPredictor:
    """See `deepmac.instances.MaskPredictor`.

    Attributes:
        folder: of the SavedModel.
        graph: the function of it that runs.
        can_detect: the graph has a detector's outputs.
        takes_boxes: it can be given boxes.
        in_image_frame: False: masks are in the frames of their boxes.
    """

    in_image_frame = False

    def __init__(self, folder: Path, graph: Graph):
        self.folder = folder
        self.graph = graph
        self.takes_boxes = graph.takes_boxes
        self.can_detect = all(name in graph.outputs for name in DETECTIONS)
        shape = graph.outputs[MASKS] or ()
        self._mask_shape = tuple(side or 2 for side in shape[2:]) or (2, 2)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The digest of the files of the SavedModel: its graph and its variables."""
        digest = hashlib.sha256()
        parts = [self.folder / "saved_model.pb"]
        for name in ("variables", "assets"):
            parts += sorted((self.folder / name).rglob("*"))
        for part in parts:
            if part.is_file():
                digest.update(str(part.relative_to(self.folder)).encode())
                with part.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def __call__(
        self,
        images: Sequence[np.ndarray],
        boxes: Sequence[np.ndarray | Sequence] | None,
    ) -> list[BoxMasks]:
        """Masks for the boxes of images, or for what the graph detects there.

        Boxes are cut at the border of the image, since the reference's graph refuses boxes far
        outside: the mask is that of the part inside, and so is the box that comes back with it.
        The score of a given box is the mean probability inside its mask, its category id -1. A
        detection has the probability of its centre, and its class, counted from 1.

        A graph that takes boxes is asked for detections first and for the masks of these then:
        twice the work, and masks are cut for the detected boxes as they end at the image's border.

        Args:
            images: uint8 [H, W, 3] RGB each.
            boxes: for each image [N, 4], (ymin, xmin, ymax, xmax) in its pixels; None: detect.

        Raises:
            OptionError: the graph takes no boxes, or does not detect.
            DataError: an image or a box that cannot be used, or one that the graph fails on; says
                which.
        """
        for number, image in enumerate(images):
            check_image(image, f"image {number}")
        if boxes is None:
            if not self.can_detect:
                raise OptionError(
                    f"{self.folder}: {self.graph.name} does not detect: it gives no "
                    f"{one_of(n for n in DETECTIONS if n not in self.graph.outputs)}"
                )
            return [self._detected(image, n) for n, image in enumerate(images)]
        if not self.takes_boxes:
            raise OptionError(
                f"{self.folder}: {self.graph.name} takes no boxes, it only detects; use "
                f"--boxes=detect, or export with image_and_boxes_tensor"
            )
        if len(boxes) != len(images):
            raise DataError(f"{len(images)} images, but boxes for {len(boxes)}")
        checked = [
            check_boxes(given, *image.shape[:2], where=f"image {number}, boxes")
            for number, (image, given) in enumerate(zip(images, boxes, strict=True))
        ]
        return [
            self._given(image, of_image, number)
            for number, (image, of_image) in enumerate(
                zip(images, checked, strict=True)
            )
        ]

    def _given(self, image: np.ndarray, boxes: np.ndarray, number: int) -> BoxMasks:
        height, width = image.shape[:2]
        boxes = np.clip(boxes, 0, [height, width, height, width])
        probs = self._masks(image, normalise(boxes, height, width), number)
        return BoxMasks(
            boxes=boxes.astype(np.float32),
            mask_probs=probs,
            scores=mean_foreground(probs),
            category_ids=np.full(len(boxes), -1, np.int32),
        )

    def _detected(self, image: np.ndarray, number: int) -> BoxMasks:
        found = self._run(image, _WHOLE_IMAGE if self.takes_boxes else None, number)
        boxes_norm, classes, scores = (found[name] for name in DETECTIONS)
        kept = scores > 0
        if self.takes_boxes:
            probs = self._masks(image, boxes_norm[kept], number)
        else:
            probs = found[MASKS][kept]
        return BoxMasks(
            boxes=denormalise(boxes_norm[kept], *image.shape[:2]).astype(np.float32),
            mask_probs=probs,
            scores=scores[kept].astype(np.float32),
            category_ids=classes[kept].astype(np.int32),
        )

    def _masks(
        self, image: np.ndarray, boxes_norm: np.ndarray, number: int
    ) -> np.ndarray:
        """float32 [N, S, S] for boxes [N, 4] in fractions of the image."""
        boxes_norm = np.clip(boxes_norm, 0, 1).astype(np.float32)
        parts = [
            self._run(image, boxes_norm[start : start + BOXES_PER_CALL], number)[MASKS]
            for start in range(0, len(boxes_norm), BOXES_PER_CALL)
        ]
        if not parts:
            return np.zeros((0, *self._mask_shape), np.float32)
        return np.concatenate(parts)

    def _run(
        self, image: np.ndarray, boxes_norm: np.ndarray | None, number: int
    ) -> dict[str, np.ndarray]:
        """The outputs that are used for one image, without their batch axis."""
        import tensorflow as tf

        pixels = _as_input(image, self.graph.image_type)
        try:
            outputs = self.graph.run(
                pixels, None if boxes_norm is None else boxes_norm[None]
            )
        except tf.errors.ResourceExhaustedError:
            raise
        except tf.errors.OpError as e:
            raise DataError(
                f"image {number}: {self.folder} fails on it: {_first_line(e)}"
            ) from e
        used = (MASKS, *DETECTIONS)
        return {name: np.asarray(outputs[name])[0] for name in used if name in outputs}


def _as_input(image: np.ndarray, image_type: str) -> np.ndarray:
    if image_type == "string":
        # PNG keeps every value; its decoder is in every graph that takes encoded images.
        _, encoded = cv2.imencode(".png", image[..., ::-1])
        return np.array([encoded.tobytes()], object)
    return image[None].astype(image_type, copy=False)


def _load(folder: Path) -> Any:
    try:
        import_tensorflow_quietly()
        import tensorflow as tf
    except ImportError:
        raise CheckpointError(
            f"{folder}: running a SavedModel needs TensorFlow (pip install tensorflow)"
        ) from None
    try:
        return tf.saved_model.load(str(folder))
    except (
        Exception
    ) as e:  # TensorFlow raises what its parts do: OSError, KeyError, OpError, ...
        raise CheckpointError(
            f"{folder}: not a SavedModel that can be loaded, or damaged ({_first_line(e)})"
        ) from None


def _find_graph(loaded: Any, folder: Path) -> Graph:
    """The function to run: rather one that takes boxes, rather a signature."""
    found, graphs = [], []
    for name, function in _functions(loaded):
        found.append(_describe(name, function))
        graph = _graph(name, function)
        if graph is not None:
            graphs.append(graph)
    if not graphs:
        raise CheckpointError(
            f"{folder}: no signature takes what the reference's do: {ACCEPTED}; "
            + (f"found {one_of(found, limit=4)}" if found else "it has no signature")
        )
    graph = next((g for g in graphs if g.takes_boxes), graphs[0])
    wanted = (MASKS,) if graph.takes_boxes else (MASKS, *DETECTIONS)
    if missing := [name for name in wanted if name not in graph.outputs]:
        raise CheckpointError(
            f"{folder}: {graph.name} gives no {one_of(missing)}; it gives "
            f"{one_of(sorted(graph.outputs)) or 'nothing by name'}"
        )
    return graph


def _functions(loaded: Any) -> Iterator[tuple[str, Any]]:
    """(name, concrete function): the signatures, then what calling the object would run."""
    signatures = getattr(loaded, "signatures", {})
    for name in sorted(signatures, key=lambda n: (n != "serving_default", n)):
        yield f"signature '{name}'", signatures[name]
    call = vars(loaded).get("__call__")
    for function in getattr(call, "concrete_functions", ()):
        yield "its call", function


def _graph(name: str, function: Any) -> Graph | None:
    """The function as a `Graph`; None where its inputs are others."""
    positional, named = function.structured_input_signature
    specs: list[Any] = [*positional, *named.values()]
    roles = [_role(spec) for spec in specs]
    if sorted(roles, key=str) not in (["image"], ["boxes", "image"]):
        return None
    image_type: str = specs[roles.index("image")].dtype.name
    if image_type == "string" and _parses_examples(function):
        return None

    def run(image: Any, boxes: Any) -> Mapping[str, Any]:
        import tensorflow as tf

        values = {"image": image, "boxes": boxes}
        arguments = [
            tf.constant(values[str(role)], spec.dtype)
            for role, spec in zip(roles, specs, strict=True)
        ]
        count = len(positional)
        by_name = dict(zip(named, arguments[count:], strict=True))
        return function(*arguments[:count], **by_name)

    return Graph(name, run, image_type, "boxes" in roles, _output_shapes(function))


def _role(spec: Any) -> str | None:
    """What an input is for, told from its type and shape: `image`, `boxes`, or None."""
    shape, kind = getattr(spec, "shape", None), getattr(spec, "dtype", None)
    if shape is None or kind is None or shape.rank is None:
        return None
    sides = tuple(shape)
    if sides[:1] not in ((None,), (1,)):
        return None
    if kind.name == "string" and len(sides) == 1:
        return "image"
    if kind.name in ("uint8", "float32") and sides[1:] == (None, None, 3):
        return "image"
    if kind.name == "float32" and sides[1:] == (None, 4):
        return "boxes"
    return None


def _parses_examples(function: Any) -> bool:
    """Whether a graph takes serialised tf.Examples, whose signature is that of encoded images."""
    graph = function.graph.as_graph_def()
    nodes = [
        *graph.node,
        *(n for inner in graph.library.function for n in inner.node_def),
    ]
    return any(n.op.startswith("Parse") and "Example" in n.op for n in nodes)


def _output_shapes(function: Any) -> dict[str, tuple[int | None, ...] | None]:
    outputs = function.structured_outputs
    if not isinstance(outputs, Mapping):
        return {}
    return {
        name: None if spec.shape.rank is None else tuple(spec.shape)
        for name, spec in outputs.items()
    }


def _describe(name: str, function: Any) -> str:
    """`signature 'x' (image: float32 [1, None, None, 3])`."""
    positional, named = function.structured_input_signature
    inputs = [(getattr(spec, "name", None), spec) for spec in positional]
    texts = []
    for label, spec in [*inputs, *sorted(named.items())]:
        kind = getattr(getattr(spec, "dtype", None), "name", repr(spec))
        texts.append(f"{label or '?'}: {kind} {getattr(spec, 'shape', '')}".rstrip())
    if any("string" in t for t in texts) and _parses_examples(function):
        texts.append("serialised tf.Examples")
    return f"{name} ({', '.join(texts) or 'no inputs'})"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
