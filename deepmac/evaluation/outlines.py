"""Masks that are still polygons: drawn when they are needed, where they are needed."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from deepmac.evaluation.run_lengths import RunLengths, decode_counts
from deepmac.instances import RLE
from deepmac.masks import rles_from_polygons


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """N masks of which some are polygons, checked and not drawn yet.

    Drawing is most of what reading a ground truth costs. Left to whoever needs the masks, it is
    shared out with everything else.

    Attributes:
        ready: masks that are run lengths.
        ready_rows: int64 [N], which of them a mask is; -1 for polygons.
        polygons: N; float64 [P], x, y, x, y, ... in pixels of each polygon of a mask; None for a
            mask that is ready.
        sizes: int64 [N, 2], (height, width) in pixels.
    """

    ready: RunLengths
    ready_rows: np.ndarray
    polygons: Sequence[Sequence[np.ndarray] | None]
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, rows: np.ndarray) -> "Outlines":
        """Some of the masks, int [M], in any order."""
        polygons = [self.polygons[i] for i in rows.tolist()]
        return Outlines(self.ready, self.ready_rows[rows], polygons, self.sizes[rows])

    def rle(self, row: int) -> RLE:
        """One mask in the compressed form."""
        return self.take(np.array([row])).drawn().rle(0)

    def drawn(self) -> RunLengths:
        """The masks as run lengths, polygons as pycocotools draws them."""
        of_size: dict[tuple[int, int], list[int]] = {}
        for row, (size, polygons) in enumerate(
            zip(self.sizes.tolist(), self.polygons, strict=True)
        ):
            if polygons is not None:
                of_size.setdefault(tuple(size), []).append(row)
        counts: list[bytes] = []
        rows: list[int] = []
        for (height, width), some in of_size.items():
            masks = [[p.tolist() for p in self.polygons[row] or ()] for row in some]
            drawn = rles_from_polygons(masks, height, width)
            counts += [rle["counts"] for rle in drawn]
            rows += some
        every = [self.ready, decode_counts(counts, self.sizes[rows])]
        order = self.ready_rows.copy()
        order[rows] = len(self.ready) + np.arange(len(rows))
        return RunLengths.concatenate(every).take(order)
