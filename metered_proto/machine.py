"""What a machine is, and how several of them make one.

Everything in this package that *decides* is a `Machine`: it is told what happened (a fact), and says what to
do (orders). It reads no clock, owns no socket, draws no randomness of its own and never waits. Whoever drives
it carries the orders out, and wakes it when its deadline has come.

    orders = machine.handle(now, fact)

Time is `now`: integer microseconds since the machine was born. It never goes backwards; waking a machine
early, late or twice is harmless, because a machine compares `now` with what it wants instead of trusting the
alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from metered_proto.facts import Fact, Woken
from metered_proto.orders import Order

Micros: TypeAlias = int
"""A point in time or a span of it, in microseconds."""

SECOND: Micros = 1_000_000


def micros(seconds: float) -> Micros:
    """A duration given in float seconds (as every public option is) in whole microseconds."""
    return round(seconds * SECOND)


class Deadline(msgspec.Struct, frozen=True, gc=False):
    """When a machine wants to be woken, and the name of the timer that asks for it."""

    at: Micros
    why: str


class Machine(Protocol):
    """Facts in, orders out."""

    @property
    def deadline(self) -> Deadline | None:
        """When to hand the machine a `Woken`, or None when nothing is due."""
        ...

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Take in one fact; return what is to be done, in the order it is to be done in.

        Raises `LocalProtocolError` for a mistake of the caller's own, and then has changed nothing. What a
        remote does wrong never raises.
        """
        ...


def soonest(deadlines: Iterable[Deadline | None]) -> Deadline | None:
    """The earliest of several deadlines; of two at the same time, the one named first."""
    best: Deadline | None = None
    for deadline in deadlines:
        if deadline is not None and (best is None or deadline.at < best.at):
            best = deadline
    return best


class Composite:
    """A machine made of machines: its deadline is its parts' soonest, and a `Woken` reaches the parts that are due.

    Subclasses name their parts once, in the order in which they are to be woken when several are due at the
    same time, and hand other facts down as they see fit.
    """

    parts: Sequence[Machine] = ()

    @property
    def deadline(self) -> Deadline | None:
        """The soonest deadline of any part."""
        return soonest([part.deadline for part in self.parts])

    def wake(self, now: Micros) -> list[Order]:
        """Hand `Woken` to each part whose deadline has come."""
        orders: list[Order] = []
        for part in self.parts:
            due = part.deadline
            if due is not None and due.at <= now:
                orders += part.handle(now, Woken())
        return orders
