"""Many simulated runs, on several processors: what each did, summed up, and what broke.

Runs do not depend on each other, and what a run does depends on nothing but its scenario and its seed. So the result is
the same however many processes share the work, but for the order in which the parts of it come.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice

import msgspec

from metered_proto.machine import Micros
from metered_proto.sim import SCENARIOS, Plan, Violation, simulate

AT_ONCE = 10
"""Runs that a process is given at a time."""


class Task(msgspec.Struct, frozen=True):
    """Some seeds of one scenario. `until` leaves out what would happen later."""

    scenario: str
    seeds: range
    until: Micros | None = None


class Totals(msgspec.Struct):
    """What so many runs did. `back_after` is the longest of any."""

    runs: int = 0
    simulated: Micros = 0
    steps: int = 0
    reconnects: int = 0
    faults: int = 0
    back_after: Micros = 0
    broken: list[tuple[int, tuple[Violation, ...]]] = []

    def add(self, other: Totals) -> None:
        """Put two together."""
        self.runs += other.runs
        self.simulated += other.simulated
        self.steps += other.steps
        self.reconnects += other.reconnects
        self.faults += other.faults
        self.back_after = max(self.back_after, other.back_after)
        self.broken = sorted([*self.broken, *other.broken])


def plan_of(scenario: str, seed: int, until: Micros | None = None) -> Plan:
    """A plan as its scenario draws it, as far as it is to happen."""
    plan = SCENARIOS[scenario](seed)
    if until is None:
        return plan
    return msgspec.structs.replace(plan, script=tuple(act for act in plan.script if act.at <= until))


def work(task: Task) -> tuple[str, Totals]:
    """Do one task."""
    totals = Totals()
    for seed in task.seeds:
        _, run = simulate(plan_of(task.scenario, seed, task.until))
        broken = [(seed, run.violations)] if run.violations else []
        totals.add(Totals(1, run.simulated, run.steps, run.reconnects, run.faults, run.back_after, broken))
    return task.scenario, totals


def tasks(scenarios: Iterable[str], seeds: range, until: Micros | None = None) -> Iterator[Task]:
    """All of it in small pieces, the scenarios taking turns, so that whoever watches sees something of each."""
    names = list(scenarios)
    for start in range(0, len(seeds), AT_ONCE):
        for name in names:
            yield Task(name, seeds[start : start + AT_ONCE], until)


def endless(scenarios: Iterable[str], first: int, until: Micros | None = None) -> Iterator[Task]:
    """All seeds from the first on."""
    names = list(scenarios)
    while True:
        yield from tasks(names, range(first, first + AT_ONCE), until)
        first += AT_ONCE


def run_all(work_to_do: Iterator[Task], jobs: int, stop_at: float | None = None) -> Iterator[tuple[str, Totals]]:
    """Have `jobs` processes do the work; what each task did, as it is done. No task begins after `stop_at`
    (`time.monotonic`)."""

    def more() -> Iterator[Task]:
        for task in work_to_do:
            if stop_at is not None and time.monotonic() >= stop_at:
                return
            yield task

    todo = more()
    if jobs == 1:
        yield from map(work, todo)
        return
    # A process of its own each, not a copy of this one with its threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting: set[Future[tuple[str, Totals]]] = {pool.submit(work, task) for task in islice(todo, 2 * jobs)}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                waiting |= {pool.submit(work, task) for task in islice(todo, len(done))}
        finally:
            for future in waiting:
                future.cancel()
