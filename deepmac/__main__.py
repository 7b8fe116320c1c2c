"""`python -m deepmac`: the same as the `deepmac` command."""

import sys


def main() -> int:
    """Runs the command line, if what it is made of is there; returns the exit status."""
    try:
        from deepmac.cli import main as run
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        print(
            f"error: the Python package '{e.name}' is not installed; for what else is missing: "
            f"{sys.executable} -m pip install click rich packaging && deepmac doctor",
            file=sys.stderr,
        )
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
