"""`python -m moe_core`: the command line."""

import sys

from moe_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
