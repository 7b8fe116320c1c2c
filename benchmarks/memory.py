"""What this process has needed of memory."""

import re
from pathlib import Path


def peak_bytes() -> int:
    """The most that lay in memory since the program started (Linux).

    Not `getrusage`: that begins with the peak of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found, "every Linux tells"
    return int(found[1]) * 1024
