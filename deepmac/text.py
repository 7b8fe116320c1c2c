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
    """`repr` in one line, cut where it is long."""
    try:
        text = repr(value)
    except RecursionError:
        return "a value nested too deeply to be shown"
    if "\n" in text:  # of an array
        text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def one_line(text: str) -> str:
    """Text as it can be shown in a sentence: line ends and the like as Python writes them."""
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return "".join(escaped)
