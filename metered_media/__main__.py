"""`python -m metered_media`: the `metered` command by another door."""

import sys

from metered_anyio.cli import main

if __name__ == "__main__":
    sys.exit(main())
