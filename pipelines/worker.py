"""Entry of the local runner's worker processes: Beam's own, without its logs on the terminal.

The launcher gives its process id as the only argument. What is logged still goes to the launcher, which shows it with `--verbose`; errors reach the
launcher as errors.
"""

import ctypes
import logging
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> None:
    _die_with_launcher(int(sys.argv[1]))
    # Beam logs while it is being imported, and then installs a handler if there is none.
    logging.getLogger().addHandler(logging.NullHandler())
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])


def _die_with_launcher(launcher: int) -> None:
    """A worker whose launcher was killed would go on with its unit beside the next run's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:  # killed before it could be watched
            sys.exit(f"the launcher, process {launcher}, has gone")


if __name__ == "__main__":
    main()
