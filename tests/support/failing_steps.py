"""Steps that fail, for the workers of a cluster: they import them by name."""

from pipelines.launch import telling_why


def fill_disk(_: object) -> None:
    """What a unit says of a full disk."""
    with telling_why("unit x"):
        raise OSError(28, "No space left on device")
