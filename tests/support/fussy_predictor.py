"""A predictor that fails on some images, for the sake of what is done about it."""

import numpy as np

from deepmac.instances import BoxMasks


class FussyPredictor:
    """Full masks, but none for an image whose first pixel is 13: it fails there, and with the batch.

    Attributes:
        opened: how many of these this process has made.
    """

    opened = 0
    can_detect = False

    def __init__(self, checkpoint="fussy"):
        FussyPredictor.opened += 1
        self.fingerprint = checkpoint

    def __call__(self, images, boxes):
        if any(image[0, 0, 0] == 13 for image in images):
            raise RuntimeError("this image is\nnot for me")
        return [
            BoxMasks(
                boxes=np.asarray(some, np.float32),
                mask_probs=np.ones((len(some), 2, 2), np.float32),
                scores=np.full(len(some), 0.5, np.float32),
                category_ids=np.full(len(some), -1, np.int32),
            )
            for some in boxes
        ]
