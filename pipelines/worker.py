"""Entry of the local runner's worker processes: Beam's own, without its logs on the terminal.

What is logged still goes to the launcher, which shows it with `--verbose`; errors reach the
launcher as errors.
"""

import logging


def main() -> None:
    # Beam logs while it is being imported, and then installs a handler if there is none.
    logging.getLogger().addHandler(logging.NullHandler())
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])


if __name__ == "__main__":
    main()
