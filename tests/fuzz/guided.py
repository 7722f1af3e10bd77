"""`python -m tests.fuzz.guided TARGET [OPTION…] [FOLDER…]`: one target under atheris.

Options and folders are libFuzzer's. Which lines of `metered_proto` an input runs through decides whether further ones
are made of it. An escape, a hang and too much memory end the run, and leave the input behind; libFuzzer's options say
how long and how much that is. Here only the objects are counted that inputs leave behind: a slow leak shows in them
long before it does in bytes.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Hashable

import atheris

GROWTH = 40_000
"""Objects that inputs may leave behind, caches of the libraries included."""

WARM = 1_000
"""Inputs after which objects are counted for the first time."""

COUNTED_EVERY = 20_000
"""Inputs between two counts."""


def watched(check: Callable[[bytes], Hashable], growth: int = GROWTH) -> Callable[[bytes], None]:
    """The check, and now and then a look at how many objects there are. Raises `MemoryError` if they grow."""
    done = before = 0

    def one(data: bytes) -> None:
        nonlocal done, before
        check(data)
        done += 1
        if done == WARM:
            before = _objects()
        elif done % COUNTED_EVERY == 0 and _objects() - before > growth:
            raise MemoryError(f"{_objects() - before} objects are left behind by {done - WARM} inputs")

    return one


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def main() -> None:
    name = sys.argv[1]
    module = name if "." in name else f"tests.fuzz.targets.{name}"
    with atheris.instrument_imports(include=["metered_proto"]):
        check = importlib.import_module(module).check
    atheris.Setup([sys.argv[0], *sys.argv[2:]], watched(check))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
