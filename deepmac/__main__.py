"""`python -m deepmac`: the same as the `deepmac` command."""

import sys

from deepmac.cli import main

sys.exit(main())
