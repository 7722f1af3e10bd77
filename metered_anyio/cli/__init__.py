"""The `metered` command.

Each subcommand has a file of its own; `app` puts them together. What it needs beyond the base installation (typer
and rich) comes with the extra `cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

EXTRA = ("typer", "click", "rich", "shellingham")
"""What may be missing because the extra `cli` is not installed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `metered` with `arguments`, or with the process's own. Returns the exit code.

    0 is success, 1 a failure on the way (no connection, no acknowledgement), 2 a wrong use of the command, and 130
    or 143 that SIGINT or SIGTERM came first.
    """
    try:
        from metered_anyio.cli.app import run
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in EXTRA:
            raise
        sys.stderr.write("metered: the command needs a few more packages: pip install 'metered-sansio[cli]'\n")
        return 2
    return run(arguments)
