"""What a training run writes for TensorBoard; TensorFlow is not needed for it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from deepmac.train.progress import Pace


class Monitor:
    """Writes scalars and pictures to MODEL_DIR/train and MODEL_DIR/eval, by step.

    Args:
        model_dir: of the run.
        step: after which the run goes on: what was written for later steps is hidden.
    """

    def __init__(self, model_dir: Path, step: int):
        self._train, self._eval = (
            SummaryWriter(str(model_dir / name), purge_step=step + 1)
            for name in ("train", "eval")
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Losses, learning rate, gradient norm."""
        for name, value in values.items():
            self._train.add_scalar(name, value, step)

    def pace(self, step: int, pace: Pace) -> None:
        """How fast steps are, and what they wait for."""
        self._train.add_scalar("images_per_second", pace.images_per_second, step)
        self._train.add_scalar("waiting_for_input", pace.waiting, step)

    def evaluation(
        self,
        step: int,
        values: Mapping[str, float],
        pictures: Mapping[str, np.ndarray],
    ) -> None:
        """What the network scores, and images [H, W, 3] with what it says of them."""
        for name, value in values.items():
            self._eval.add_scalar(name, value, step)
        for name, picture in pictures.items():
            self._eval.add_image(f"masks/{name}", picture, step, dataformats="HWC")

    def flush(self) -> None:
        """Writes what is held back."""
        self._train.flush()
        self._eval.flush()

    def close(self) -> None:
        """Writes what is still held back."""
        self._train.close()
        self._eval.close()
