"""The DeepMAC network as a `MaskPredictor`: many images and boxes, few shapes, bounded memory.

Each image passes the backbone once, however many boxes it has. What the boxes cut from its
features is pooled over images into batches for the mask head. Everything that is compiled has one
of a few shapes: images are grouped by their padded size, and batches are filled up.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepmac.backend import compiled, repeatable_weights
from deepmac.boxes import denormalise
from deepmac.checkpoint.facts import infer_embedding_kernel
from deepmac.checkpoint.load import load_weights, open_weights
from deepmac.config.load import load_config, shipped_weights
from deepmac.config.printing import lines_of
from deepmac.config.schema import CenterNetConfig
from deepmac.errors import CheckpointError, DataError
from deepmac.instances import BoxMasks, Precision
from deepmac.model.decode import boxes_in_image
from deepmac.model.deepmac import DeepMAC, Embeddings
from deepmac.model.folding import fold
from deepmac.model.hourglass import HourglassSpec
from deepmac.model.tensors import ops
from deepmac.model.variables import named_variables
from deepmac.paste import mean_foreground
from deepmac.predictors.full_resolution import FullResolutionMasks
from deepmac.predictors.inputs import check_boxes, check_image
from deepmac.predictors.pool import MaskPool, chunks
from deepmac.resize import Geometry, resize_image

PIXELS_PER_BATCH = 4 * 512 * 512
"""Images that pass the backbone together: four of 512 x 512 share the work of reading the weights,
one of 1024 x 1024 is enough to do alone."""


def open_deepmac(
    name_or_path: str | Path, *, precision: Precision = "float32", **options: Any
) -> "DeepmacPredictor":
    """A predictor with the network of a configuration, folded. See `deepmac.load`.

    Args:
        name_or_path, options: see `load_network`.
        precision: see `DeepmacPredictor`.
    """
    network = load_network(name_or_path, **options)
    return DeepmacPredictor(network, precision=precision)


def load_network(
    name_or_path: str | Path,
    *,
    checkpoint: str | Path | None = None,
    overrides: Iterable[str] = (),
    random_weights: bool = False,
    accept: Sequence[str] = (),
    backbone: HourglassSpec | None = None,
    reference_quirks: bool | None = None,
) -> DeepMAC:
    """The network of a configuration, with its weights. See `deepmac.load` for the arguments."""
    config = load_config(name_or_path, overrides, cross_check=backbone is None)
    build = functools.partial(
        _build,
        config.model.center_net,
        backbone=backbone,
        reference_quirks=reference_quirks,
    )
    if checkpoint is None and not random_weights:
        checkpoint = shipped_weights(name_or_path)
    if checkpoint is None:
        if not random_weights:
            raise CheckpointError(
                f"{name_or_path}: no checkpoint is given, and without one there is nothing "
                f"learnt to predict with; name one (--checkpoint path/to/ckpt-51, or checkpoint=... "
                f"in Python)"
            )
        return build()
    weights = open_weights(checkpoint)
    shapes = {name: stored.shape for name, stored in weights.variables.items()}
    kernel = infer_embedding_kernel(shapes)
    model = build(embedding_head_kernel=kernel) if kernel else build()
    load_weights(model, weights, accept=accept)
    return model


def _build(config: CenterNetConfig, **options: Any) -> DeepMAC:
    # Variables that may be missing keep their fresh values, which must be those of every worker.
    with repeatable_weights():
        return DeepMAC(config, **options)


def fingerprint(network: DeepMAC) -> str:
    """Changes with the weights of a network that is not folded, and with its settings."""
    digest = hashlib.sha256(repr(network.reference_quirks).encode())
    for line in lines_of(network.config, with_defaults=True):
        digest.update(line.text.encode())
    for path, variable in named_variables(network).items():
        digest.update(path.encode())
        digest.update(np.asarray(variable).tobytes())
    return digest.hexdigest()


class DeepmacPredictor:
    """See `deepmac.instances.MaskPredictor`.

    Attributes:
        model: the network.
        fingerprint: see `fingerprint`.
        precision: `float32` or `bfloat16`.
        can_detect: True.
        in_image_frame: False: masks are in the frames of their boxes.
    """

    can_detect = True
    in_image_frame = False

    def __init__(
        self,
        model: DeepMAC,
        *,
        precision: Precision | None = None,
        pixels_per_batch: int = PIXELS_PER_BATCH,
        compile: Callable[[Callable, Any], Callable] = compiled,
    ):
        """A predictor with this network.

        Args:
            model: with its weights.
            precision: makes the model ready for it, in place: see `deepmac.model.folding`. None
                leaves the model alone.
            pixels_per_batch: of padded input in a call of the backbone, unless one image alone
                has more.
            compile: makes the functions that are run from plain ones.
        """
        self.model = model
        self.precision = precision or "float32"
        # Of the weights as they were trained: the same in every precision
        self.fingerprint = fingerprint(model)
        if precision is not None:
            for part in (model.backbone, *model.heads, model.mask_head):
                fold(part, precision)
        self._pixels_per_batch = pixels_per_batch
        self._full_resolution = None
        if model.config.deepmac_mask_estimation.predict_full_resolution_masks:
            self._full_resolution = FullResolutionMasks(model, compile)
        self._embed = compile(lambda images: model.embed(model.features(images)), model)
        self._detect = compile(self._detect_and_embed, model)
        self._cut = compile(lambda maps, boxes: model.cut(maps, boxes), model)
        self._mask = compile(
            lambda rois, instance: ops.sigmoid(model.mask_head(rois, instance)), model
        )

    def prepare(self, image: np.ndarray) -> "Prepared":
        """An image in the size that the network takes, which may stand for it in a call.

        Not needed; it lets another thread resize images while the network is busy.

        Args:
            image: uint8 [H, W, 3] RGB.

        Raises:
            DataError: the image cannot be used.
        """
        check_image(image)
        return self._resized(image, "image")

    def __call__(
        self,
        images: Sequence["np.ndarray | Prepared"],
        boxes: Sequence[np.ndarray | Sequence] | None,
    ) -> list[BoxMasks]:
        """Masks for the boxes of images, or for what the network detects there.

        The score of a given box is the mean probability inside its mask, its category id -1.
        A detection has the probability of its centre, and its class, counted from 1. As in the
        reference, its mask is cut for the box as predicted, and its box then ends at the border
        of the image: the two differ where a box reaches into the padding.

        Args:
            images: uint8 [H, W, 3] RGB each, or what `prepare` made of it.
            boxes: for each image [N, 4], (ymin, xmin, ymax, xmax) in its pixels; None: detect.

        Raises:
            DataError: an image or a box that cannot be used; says which.
        """
        for number, image in enumerate(images):
            if not isinstance(image, Prepared):
                check_image(image, f"image {number}")
        if boxes is None:
            found = dict(self._detections(images))
        else:
            found = dict(self._given(images, boxes))
        return [found[number] for number in range(len(images))]

    def _given(
        self,
        images: Sequence["np.ndarray | Prepared"],
        boxes: Sequence[np.ndarray | Sequence],
    ) -> Iterator[tuple[int, BoxMasks]]:
        if len(boxes) != len(images):
            raise DataError(f"{len(images)} images, but boxes for {len(boxes)}")
        checked = []
        for number, (image, given) in enumerate(zip(images, boxes, strict=True)):
            height, width = image.shape[:2]
            where = f"image {number}, boxes"
            checked.append(check_boxes(given, height, width, where))
        with_boxes = [number for number in range(len(images)) if len(checked[number])]
        pool = MaskPool(self._mask, self.model.mask_size)
        for batch in self._batches(images, with_boxes):
            embeddings = self._embed(batch.inputs)
            for row, number in enumerate(batch.numbers):
                inside = _in_padded_input(
                    checked[number], images[number].shape, batch.sizes[row]
                )
                every = np.ones(len(inside), bool)
                self._put(pool, number, _row(embeddings, row), inside, every)
        masks = pool.finish()
        for number, of_image in enumerate(checked):
            probs = masks.get(number, pool.empty)
            yield (
                number,
                BoxMasks(
                    boxes=of_image.astype(np.float32),
                    mask_probs=probs,
                    scores=mean_foreground(probs),
                    category_ids=np.full(len(of_image), -1, np.int32),
                ),
            )

    def _detections(
        self, images: Sequence["np.ndarray | Prepared"]
    ) -> Iterator[tuple[int, BoxMasks]]:
        pool = MaskPool(self._mask, self.model.mask_size)
        found = {}
        for batch in self._batches(images, range(len(images))):
            true_shapes = np.array([size[:2] for size in batch.sizes], np.int32)
            embeddings, *detected = self._detect(batch.inputs, true_shapes)
            detected = [np.asarray(part) for part in detected]
            for row, number in enumerate(batch.numbers):
                inside, in_image, scores, class_indices = (d[row] for d in detected)
                kept = scores > 0
                self._put(pool, number, _row(embeddings, row), inside, kept)
                pixels = denormalise(in_image[kept], *images[number].shape[:2])
                found[number] = (pixels, scores[kept], class_indices[kept])
        masks = pool.finish()
        for number, (pixels, scores, class_indices) in found.items():
            yield (
                number,
                BoxMasks(
                    boxes=pixels.astype(np.float32),
                    mask_probs=masks.get(number, pool.empty),
                    scores=scores.astype(np.float32),
                    category_ids=(class_indices + 1).astype(np.int32),
                ),
            )

    def _detect_and_embed(self, images: Any, true_shapes: Any) -> tuple:
        features = self.model.features(images)
        found = self.model.detect(features, true_shapes)
        in_image = boxes_in_image(found.boxes_cells, true_shapes)
        embeddings = self.model.embed(features)
        return embeddings, found.boxes_norm, in_image, found.scores, found.class_indices

    def _put(
        self,
        pool: MaskPool,
        number: int,
        embeddings: Embeddings,
        boxes: np.ndarray,
        kept: np.ndarray,
    ) -> None:
        """Cuts boxes of one image into the pool.

        Args:
            pool, number: where they go, and the image's number there.
            embeddings: of the image.
            boxes: [N, 4] in fractions of its padded input.
            kept: bool [N], for which of them masks are wanted.
        """
        if self._full_resolution:
            if kept.any():
                pool.add(number, self._full_resolution(embeddings, boxes, kept))
            return
        boxes = boxes[kept]
        for start, stop, size in chunks(len(boxes)):
            filled = np.zeros((1, size, 4), np.float32)
            filled[0, : stop - start] = boxes[start:stop]
            rois, instance = self._cut(embeddings, filled)
            pool.put(
                number,
                np.asarray(rois)[0, : stop - start],
                np.asarray(instance)[0, : stop - start],
            )

    def _batches(
        self, images: Sequence["np.ndarray | Prepared"], numbers: Iterable[int]
    ) -> Iterator["_Batch"]:
        """The inputs of the backbone: full batches of one size, and what is left in smaller ones."""
        waiting: dict[tuple[int, ...], list[tuple[int, Prepared]]] = {}
        for number in numbers:
            image = images[number]
            if not isinstance(image, Prepared):
                image = self._resized(image, f"image {number}")
            group = waiting.setdefault(image.pixels.shape, [])
            group.append((number, image))
            if len(group) >= max(
                1, self._pixels_per_batch // image.pixels[..., 0].size
            ):
                yield _batch(group)
                group.clear()
        for group in waiting.values():
            while group:  # in powers of two: few shapes
                size = 1 << (len(group).bit_length() - 1)
                yield _batch(group[:size])
                del group[:size]

    def _resized(self, image: np.ndarray, where: str) -> "Prepared":
        pixels, size = resize_image(image, self.model.config.image_resizer)
        divisor = self.model.size_divisor
        if size.padded_height % divisor or size.padded_width % divisor:
            raise DataError(
                f"{where}: the resizer of the configuration makes it "
                f"{size.padded_height} x {size.padded_width} pixels, the network takes multiples "
                f"of {divisor}; use pad_to_max_dimension: true"
            )
        return Prepared(image.shape, pixels, size)


class Prepared(NamedTuple):
    """An image as the network takes it.

    Attributes:
        shape: (H, W, 3) of the image as it was.
        pixels: float32 [padded height, padded width, 3], RGB from 0 to 255.
        size: where the image lies in it.
    """

    shape: tuple[int, ...]
    pixels: np.ndarray
    size: Geometry


class _Batch(NamedTuple):
    """Images of one padded size: their numbers, float32 [B, H, W, 3], and their sizes."""

    numbers: list[int]
    inputs: np.ndarray
    sizes: list[Geometry]


def _batch(group: Sequence[tuple[int, Prepared]]) -> _Batch:
    return _Batch(
        numbers=[number for number, _ in group],
        inputs=np.stack([image.pixels for _, image in group]),
        sizes=[image.size for _, image in group],
    )


def _row(embeddings: Embeddings, row: int) -> Embeddings:
    """The embeddings of one image of a batch: [1, h, w, channels] each."""
    return Embeddings(*(part[row : row + 1] for part in embeddings))


def _in_padded_input(
    boxes: np.ndarray, shape: tuple[int, ...], size: Geometry
) -> np.ndarray:
    """Boxes [N, 4] in pixels of an image as fractions of the padded input."""
    height, width = shape[:2]
    rows = size.height / (height * size.padded_height)
    cols = size.width / (width * size.padded_width)
    return boxes * [rows, cols, rows, cols]
