"""What this process may take of its machine: processors and memory."""

import contextlib
import ctypes
import os

_KEPT = 256 << 20  # bytes of freed memory that each of malloc's arenas may keep
_MAPPED = 32 << 20  # the largest that glibc allows
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def num_processors() -> int:
    """Those that it is confined to, where the system tells, and not all of the machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Lets malloc keep what is freed, for work that makes an array of megabytes after the other.

    Left to itself, glibc gives the pixels of each image back to the system, which has to fill the
    pages of the next one with zeros: 300 page faults for a picture of 640 x 480.

    Returns:
        Whether it was done: it is for glibc alone, which Linux nearly always has.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another libc, another system
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, _KEPT)
    return bool(mallopt(_M_MMAP_THRESHOLD, _MAPPED) and kept)


def give_back_freed_memory() -> None:
    """Has malloc return what is free, after work that needed much more than what comes next."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
