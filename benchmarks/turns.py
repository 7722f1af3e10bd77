"""Taking turns: every side does a bit of its work in every round, and medians count."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import TypeAlias

import msgspec

Side: TypeAlias = Callable[[], float]
"""Does some work, and returns what one unit of it took (or how many of them it did in a second)."""


class Samples(msgspec.Struct, frozen=True):
    """What the sides returned, round by round."""

    rounds: list[dict[str, float]]

    def median(self, side: str) -> float:
        """The median of a side."""
        return median(found[side] for found in self.rounds)

    def ratio(self, of: str, to: str) -> float:
        """The median of the rounds' own ratios: what slows a whole round down changes none of them."""
        return median(found[of] / found[to] for found in self.rounds)


def take_turns(sides: Mapping[str, Side], rounds: int) -> Samples:
    """Have every side work once in each round, a different one first each time, after one round that does not count."""
    names = list(sides)
    found: list[dict[str, float]] = []
    for number in range(-1, rounds):
        first = number % len(names)
        costs = {name: sides[name]() for name in names[first:] + names[:first]}
        if number >= 0:
            found.append(costs)
    return Samples(found)


def in_process(work: Callable[[], object], units: int, sample: float) -> Side:
    """A side that calls `work`, which does `units` units, for about `sample` seconds: microseconds of CPU a unit."""
    work()
    loops = 1
    while (took := _time(work, loops)) < sample / 4:
        loops *= 2
    loops = max(1, round(loops * sample / took))
    return lambda: _time(work, loops) / (loops * units) * 1e6


@contextmanager
def no_collections() -> Iterator[None]:
    """Without garbage collections, which would hit whoever has its turn."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _time(work: Callable[[], object], loops: int) -> float:
    start = time.process_time()
    for _ in range(loops):
        work()
    return time.process_time() - start
