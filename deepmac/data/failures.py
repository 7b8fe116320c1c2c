"""One image or annotation that cannot be used: raised, caught where it happens, and kept."""

import dataclasses

from deepmac.errors import DataError
from deepmac.instances import AnnotationId, ImageId


class Unusable(DataError):
    """An image or annotation cannot be used. `reason` is a short stable name to count by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """What could not be used, and why.

    Attributes:
        image_id: None where the input has none.
        annotation_id: None if the whole image failed.
        stage: where it failed, a word.
        reason: a short stable name to count by.
        exception: type of the error.
        message: the error in a sentence.
    """

    image_id: ImageId | None
    annotation_id: AnnotationId | None
    stage: str
    reason: str
    exception: str
    message: str
