"""A predictor that takes its time, for jobs that are to be disturbed."""

import os
import time
from collections.abc import Sequence

import numpy as np

from deepmac.instances import ImageMasks
from deepmac.predictors.yardsticks import BoxByBox, ellipse_mask

STEPS, STEP_SECONDS = 30, 0.01  # of a call


class Unhurried:
    """Ellipses, each call noted as a line of a file before it is begun.

    It naps in steps: a process that is stopped for nine tenths of the time takes ten times as long.
    """

    can_detect = False
    in_image_frame = True

    def __init__(self, log: str):
        self._log = log
        self._predict = BoxByBox("ellipse", ellipse_mask)

    def __call__(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None
    ) -> list[ImageMasks]:
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        os.close(descriptor)
        for _ in range(STEPS):
            time.sleep(STEP_SECONDS)
        return self._predict(images, boxes)


def predictor(checkpoint: str) -> Unhurried:
    """For `--model=chaos.unhurried:predictor --checkpoint=FILE`: that file is the log."""
    return Unhurried(checkpoint)
