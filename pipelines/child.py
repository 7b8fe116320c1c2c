"""Runs a command that ends with the process that started it: PARENT_ID COMMAND [ARGUMENT ...].

What an engine starts in other programs (job servers, workers) would go on for hours after the
launcher was killed.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with(parent: int) -> None:
    """Asks for this process to be killed when the thread that started it ends (on Linux).

    Args:
        parent: id of the process of that thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # killed before it could be watched
            sys.exit(f"process {parent}, which started this one, has gone")


def main() -> None:
    parent, *command = sys.argv[1:]
    die_with(int(parent))
    try:
        os.execvp(command[0], command)
    except OSError as e:
        sys.exit(f"{command[0]}: {e.strerror}")


if __name__ == "__main__":
    main()
