"""`python -m metered_anyio.cli`: the `metered` command by another door."""

import sys

from metered_anyio.cli import main

if __name__ == "__main__":
    sys.exit(main())
