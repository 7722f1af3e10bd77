"""Takes two pieces of code that do comparable work and times them in turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median

import msgspec


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """`ours` and `theirs` each do `units` units of work a call, where a unit is what `unit` says."""

    name: str
    unit: str
    units: int
    ours: Callable[[], object]
    against: str
    theirs: Callable[[], object]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds a unit, both sides, and the median of the rounds' ratios: ours divided by theirs."""

    name: str
    unit: str
    ours: float
    against: str
    theirs: float
    ratio: float


def measure(case: Case, *, rounds: int, sample: float) -> Result:
    """Time a case in `rounds` rounds; a side takes about `sample` seconds of CPU time in each."""
    gc.collect()
    gc.disable()  # a collection belongs to nobody's microseconds
    try:
        case.ours()
        case.theirs()
        ours_loops = _calibrate(case.ours, sample)
        theirs_loops = _calibrate(case.theirs, sample)
        pairs = [
            (
                _time(case.ours, ours_loops) / (ours_loops * case.units),
                _time(case.theirs, theirs_loops) / (theirs_loops * case.units),
            )
            for _ in range(rounds)
        ]
    finally:
        gc.enable()
    return Result(
        name=case.name,
        unit=case.unit,
        ours=median(ours for ours, _ in pairs) * 1e6,
        against=case.against,
        theirs=median(theirs for _, theirs in pairs) * 1e6,
        ratio=median(ours / theirs for ours, theirs in pairs),
    )


def _calibrate(work: Callable[[], object], sample: float) -> int:
    """How many calls take about `sample` seconds."""
    loops = 1
    while (took := _time(work, loops)) < sample / 4:
        loops *= 2
    return max(1, round(loops * sample / took))


def _time(work: Callable[[], object], loops: int) -> float:
    start = time.process_time()
    for _ in range(loops):
        work()
    return time.process_time() - start
