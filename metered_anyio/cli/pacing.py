"""Going no faster than the server likes."""

from __future__ import annotations

import math

import anyio

from metered_anyio.clock import Clock
from metered_proto.client.pace import Pace
from metered_proto.machine import SECOND


class Pacer:
    """Lets `rate` callers a second pass, `burst` of them at once, in the order in which they came. None: all."""

    def __init__(self, rate: float | None, burst: int) -> None:
        self._pace = None if rate is None else Pace(rate, burst)
        self._clock = Clock(anyio.current_time)
        self._line = anyio.Lock()

    async def turn(self, until: float = math.inf) -> bool:
        """Wait until it is one's turn. False if that would be later than `until`, in the loop's time."""
        if self._pace is None:
            return anyio.current_time() < until
        async with self._line:
            delay = (self._pace.free_at - self._clock.now()) / SECOND
            late = anyio.current_time() + max(delay, 0) >= until
            if late:
                await anyio.sleep_until(until)
            elif delay > 0:
                await anyio.sleep(delay)
            if not late:
                self._pace.take(self._clock.now())
            return not late
