"""How many processors this process may use."""

import os


def num_processors() -> int:
    """Those that it is confined to, where the system tells, and not all of the machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
