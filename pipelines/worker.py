"""Entry of the worker processes that we start: Beam's own, without its logs on the terminal.

The process that starts it gives its id as the only argument. What is logged still goes to the
runner, and with `--verbose` to the terminal; errors reach the launcher as errors.
"""

import logging
import sys

from pipelines.child import die_with


def main() -> None:
    # A worker whose launcher was killed would go on with its unit beside the next run's.
    die_with(int(sys.argv[1]))
    # Beam logs while it is being imported, and then installs a handler if there is none.
    logging.getLogger().addHandler(logging.NullHandler())
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])


if __name__ == "__main__":
    main()
