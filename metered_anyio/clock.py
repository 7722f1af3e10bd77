"""The only reader of the clock: an event loop's own time as a machine's microseconds since birth."""

from __future__ import annotations

from collections.abc import Callable

from metered_proto.machine import SECOND, Micros


class Clock:
    """Counts from 0 at its making. Never runs backwards, as loop clocks do not."""

    __slots__ = ("_birth", "_time")

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._birth = time()

    def now(self) -> Micros:
        """Microseconds since birth, to the nearest: at the `loop_time` of a moment it is that moment, and no less."""
        return round((self._time() - self._birth) * SECOND)

    def loop_time(self, at: Micros) -> float:
        """The loop's time, in seconds, of a moment of the machine's."""
        return self._birth + at / SECOND
