"""What time a frame has: how fast a source may be read (`Pace`), what its sender says (`Timeline`), and how many there
may be (`Cap`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

VIDEO_CLOCK: Final = 90_000
AUDIO_CLOCK: Final = 48_000
SAMPLES: Final = 960  # 20 ms, which is what one packet holds

AHEAD: Final = 0.5
"""Seconds that a source may run ahead of its own time before it is held back."""

LEAP: Final = 1.0
LATE: Final = 0.5
"""Seconds by which what a source says may be before our own time, and behind it."""

_JUMP: Final = 5.0  # seconds that no source is ahead of its time: it counts anew
_AT_ONCE: Final = 0.001  # seconds; a source that takes longer for a frame waits for something
_SHORTEST: Final = 1 / 240  # seconds that a picture is taken to last, where the source does not know


class Pace:
    """Holds back a source that does not keep to its own time, and would otherwise take all of ours.

    `now` gives seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._origin: float | None = None  # the time on our clock of the source's zero
        self._lead = 0.0  # how far it was ahead at the last frame
        self._waited = 0.0  # how long its frames took to come lately
        self._unstamped = 0.0  # how long everything without a time of its own has lasted so far

    def ahead(self, item: Any, waited: float) -> float:
        """How many seconds to wait before the next frame is asked for. `waited`: how long this one took to come."""
        origin = self._now() - self._own(item)
        lead = 0.0 if self._origin is None else self._origin - origin
        # Not by this frame alone: one that we were late to ask for is there at once.
        self._waited = max(waited, self._waited * 0.8)
        leapt = lead > _JUMP or (lead - self._lead > AHEAD and self._waited > _AT_ONCE)
        if self._origin is None or lead < 0 or leapt:
            # The first one, one that is late, or a jump of a source that keeps time: it begins anew.
            self._origin, self._lead = origin, 0.0
            return 0.0
        self._lead = min(lead, AHEAD)
        return max(0.0, lead - AHEAD)

    def _own(self, item: Any) -> float:
        if item.pts is not None and item.time_base is not None:
            own: float = item.pts * item.time_base.numerator / item.time_base.denominator
            return own
        samples, rate = getattr(item, "samples", 0), getattr(item, "sample_rate", 0)
        self._unstamped += samples / rate if samples and rate else _SHORTEST
        return self._unstamped


class Timeline:
    """One steady time for a sender, through sources that are swapped, start again or jump.

    A receiver takes a step back for a frame that is too old, and a VP8 encoder refuses it for good. Away from our own
    time, sound and picture would not be together any more. `now` gives seconds.
    """

    __slots__ = ("_began", "_clock", "_last", "_now", "_offset", "_step")

    def __init__(self, clock: int, step: int, now: Callable[[], float]) -> None:
        self._clock = clock
        self._step = step  # between two frames of which nothing better is known
        self._now = now
        self._offset: int | None = None
        self._last: int | None = None
        self._began = 0.0

    def cut(self) -> None:
        """What follows comes from elsewhere."""
        self._offset = None

    def stamp(self, pts: int | None, time_base: Any) -> int:
        """The time of a frame, in units of the clock, from what its source says."""
        return self.place(None if pts is None or time_base is None else _ticks(pts, time_base, self._clock))

    def place(self, own: int | None) -> int:
        """The time of a frame, if what its source says is in units of the clock already; None: it says nothing."""
        if self._last is None:
            self._began = self._now()
            at = 0
        else:
            ours = round((self._now() - self._began) * self._clock)
            at = max(self._last + self._step, ours)
            if own is not None and self._offset is not None:
                # The source knows better than we when its frame was, unless that is against all reason.
                told = own + self._offset
                if self._last < told and -LATE * self._clock <= told - ours <= LEAP * self._clock:
                    at = told
        self._offset = None if own is None else at - own
        self._last = at
        return at


class Cap:
    """Lets through no more than `fps` frames a second, evenly. `clock` is in Hz."""

    __slots__ = ("_due", "_step")

    def __init__(self, fps: float, clock: int) -> None:
        self._step = clock / fps
        self._due: float | None = None

    def lets_through(self, at: int) -> bool:
        """Whether the frame at this time may pass. Times grow."""
        if self._due is not None and at < self._due - self._step * 0.1:
            return False
        late = self._due is None or at - self._due > self._step
        self._due = at + self._step if late or self._due is None else self._due + self._step
        return True


def _ticks(pts: int, time_base: Any, clock: int) -> int:
    return pts * clock * int(time_base.numerator) // int(time_base.denominator)
