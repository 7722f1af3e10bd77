"""How often pictures may leave. Arithmetic over a clock that is given."""

from __future__ import annotations

from collections.abc import Callable


class VideoPacing:
    """No more than `fps` pictures a second, each due one period after the one before.

    One that is a little late does not delay those after it, so that the average is kept; but two never follow each
    other in less than half a period. After one that is late by more than a period, time counts anew. `now` gives
    seconds.
    """

    def __init__(self, fps: float, now: Callable[[], float]) -> None:
        self._period = 1 / fps
        self._now = now
        self._due: float | None = None
        self._left = 0.0

    def wait(self) -> float:
        """How many seconds are left until the next picture may leave; not positive when it may leave now."""
        if self._due is None:
            return 0.0
        return max(self._due, self._left + self._period / 2) - self._now()

    def leave(self) -> float:
        """A picture leaves now: the time that it was due, on the clock."""
        self._left = self._now()
        if self._due is None or self._left - self._due > self._period:
            self._due = self._left
        due = self._due
        self._due += self._period
        return due
