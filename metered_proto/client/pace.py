"""How fast publishes go out: a rate with a burst (a token bucket, kept as one number)."""

from __future__ import annotations

from math import ceil

from metered_proto.machine import SECOND, Micros


class Pace:
    """Each thing taken costs `1 / rate` seconds; at most `burst` of them may be owed at a time. None: no limit."""

    __slots__ = ("_cost", "_paid_at", "_slack")

    def __init__(self, rate: float | None, burst: int) -> None:
        self._cost = 0.0 if rate is None else SECOND / rate
        # Half a cost more, so that rounding never keeps back the last one of a burst.
        self._slack = (burst - 0.5) * self._cost
        self._paid_at = 0.0

    @property
    def free_at(self) -> Micros:
        """The earliest time at which one more may be taken."""
        return ceil(self._paid_at - self._slack)

    def take(self, now: Micros) -> None:
        """Take one; `free_at` has come."""
        self._paid_at = max(self._paid_at, now) + self._cost
