"""When the frames of a source of sound are due, and what time they bear. Arithmetic over a clock that is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

RATE: Final = 48_000
SAMPLES: Final = 960
"""A frame is 20 ms at 48 kHz: what one packet of Opus holds (RFC 7587, 4.2)."""

CLOSEST: Final = 0.01
"""Seconds between two frames, at the least: one that was late is followed by the next sooner, but not at once."""

LATEST: Final = 0.06
"""Seconds that a frame may be late and still be caught up on. Beyond, the time in between is left out."""


class AudioPacing:
    """Frame n is due n · 20 ms after the first, and bears that time: nothing adds up, however long it runs.

    Small delays are made good: after a late frame the next ones follow each other in no less than `CLOSEST` until
    time is caught up with. After a stall of more than `LATEST` (the loop was blocked, the machine slept, nobody read)
    the frames that should have left meanwhile are skipped: time stamps jump by as many whole frames, so they stay
    true, and no burst follows. No sound is lost by that, it comes later. `now` gives seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began: float | None = None
        self._left = 0.0
        self._next = 0
        self.skipped = 0
        """Frames that were left out after stalls."""

    def wait(self) -> float:
        """How many seconds are left until the next frame may leave; not positive when it may leave now."""
        if self._began is None:
            return 0.0
        due = self._began + self._next / RATE
        return max(due, self._left + CLOSEST) - self._now()

    def leave(self) -> int:
        """The next frame leaves now: its time, in samples since the first."""
        self._left = self._now()
        if self._began is None:
            self._began = self._left
        late = self._left - self._began - self._next / RATE
        if late > LATEST:
            frames = int(late * RATE) // SAMPLES
            self.skipped += frames
            self._next += frames * SAMPLES
        pts = self._next
        self._next += SAMPLES
        return pts
