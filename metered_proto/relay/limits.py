"""How often something may happen, as plain arithmetic on the machine's time.

Three shapes of "how often": a `Meter` for a steady rate with bursts (messages of one guest), a `Doorman` for
attempts that everybody makes under an address of his own choosing, and an `Allowance` for a sum that starts
afresh with every period (messages of a whole relay).
"""

from __future__ import annotations

import math
from collections import OrderedDict

from metered_proto.machine import SECOND, Micros, micros

MAX_ADDRESSES = 16_384
"""Addresses remembered at once. Over it the one whose minute ends first is forgotten."""


class Meter:
    """A rate with a burst: the token bucket, kept as one number.

    Each thing taken costs `1 / rate` seconds, and the costs queue up behind each other. What is refused is what
    would make the queue longer than `burst` costs. The one number is the time when the queue will be paid off.
    """

    __slots__ = ("_cost", "_paid_at", "_slack")

    def __init__(self, rate: float, burst: int) -> None:
        self._cost = SECOND / rate
        # A microsecond more, so that rounding in a long queue of odd costs never refuses the last one of a burst.
        self._slack = (burst - 1) * self._cost + 1
        self._paid_at = 0.0

    def take(self, now: Micros) -> bool:
        """Take one, if there is one to take. Being refused costs nothing."""
        paid_at = self._paid_at
        if paid_at <= now:
            self._paid_at = now + self._cost
            return True
        if paid_at - now > self._slack:
            return False
        self._paid_at = paid_at + self._cost
        return True

    def wait(self, now: Micros) -> Micros:
        """How long until `take` would succeed."""
        return max(0, math.ceil(self._paid_at - now - self._slack))


class Doorman:
    """Attempts a minute for each address, refused ones included. The first one of an address starts its minute."""

    __slots__ = ("_limit", "_minutes")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        # All minutes are equally long, so the order in which they began is the order in which they end.
        self._minutes: OrderedDict[str, tuple[Micros, int]] = OrderedDict()

    def knock(self, address: str, now: Micros) -> tuple[int, Micros]:
        """Count an attempt. Returns by how many the address is over its limit, and how long its minute still lasts."""
        if self._limit is None:
            return 0, 0
        while self._minutes and next(iter(self._minutes.values()))[0] <= now:
            self._minutes.popitem(last=False)
        end, count = self._minutes.get(address, (now + 60 * SECOND, 0))
        self._minutes[address] = end, count + 1
        if len(self._minutes) > MAX_ADDRESSES:
            self._minutes.popitem(last=False)
        return max(0, count + 1 - self._limit), end - now

    def __len__(self) -> int:
        return len(self._minutes)


class Allowance:
    """So many a period, periods counted from the machine's birth. Without a limit it only counts."""

    __slots__ = ("_count", "_limit", "_period", "_span")

    def __init__(self, limit: int | None, period: float) -> None:
        self._limit = limit
        self._span = micros(period)
        self._period = 0
        self._count = 0

    def take(self, now: Micros) -> bool:
        """Take one, if this period has one left."""
        count = self.used(now)
        if self._limit is not None and count >= self._limit:
            return False
        self._count = count + 1
        return True

    def used(self, now: Micros) -> int:
        """How many were taken in this period."""
        period = now // self._span
        if period != self._period:
            self._period, self._count = period, 0
        return self._count

    def wait(self, now: Micros) -> Micros:
        """How long until the next period."""
        return self._span - now % self._span
