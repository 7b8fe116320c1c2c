"""Small questions about text, and how values are shown in sentences."""


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8.

    JSON can hold halves of surrogate pairs, and Python keeps bytes of file names and arguments
    that are no UTF-8 in such halves.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def short(value: object) -> str:
    """`repr`, cut where it is long."""
    try:
        text = repr(value)
    except RecursionError:
        return "a value nested too deeply to be shown"
    return text if len(text) <= 60 else text[:57] + "..."


def one_line(text: str) -> str:
    """Text as it is where that can be shown in a sentence, otherwise as `short` has it."""
    return text if text.isprintable() else short(text)
