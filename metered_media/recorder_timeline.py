"""Where in a file each frame belongs: arithmetic over times of arrival and time stamps, without a clock.

Nothing says when a remote's time stamps began, nor that its clock runs as ours does. What is known is when each frame
came. A frame can be late, by what it waited on the way, but never early; so the least delay seen lately tells how time
stamps and our clock belong together (`Mapping`). All tracks of a file are mapped to one clock, and so are together.

Sound is written `LOOKAHEAD` after it came: by then it is known whether a gap was only a traffic jam, after which
everything comes at once, or a pause, which is to be silence. A picture is written when it comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

LOOKAHEAD: Final = 1.0
"""Seconds that sound is kept before it is written."""

_LATE: Final = 0.3  # a frame later than the one before by more than that: perhaps there was a pause
_EARLY: Final = 0.5  # earlier by more: its time stamps began anew, or somebody left a part out
_WINDOW: Final = 3.0  # over which the least delay is looked for
_SLACK: Final = 0.02  # by which the least delay may grow before it is followed

_SHORT: Final = 0.2  # a track whose end is so close to that of its file is not filled up

_MOST: Final = 500  # frames that wait, however small they are

_EXACT: Final = 0.004  # sound that is off by less is put where the last one ended
_SOFT: Final = 0.1  # off by less: stretched or squeezed, which nobody hears; by more: silence, or cut
_STRETCH: Final = 0.02  # the part by which a frame is stretched at the most


class Mapping:
    """How one track's time stamps belong to the clock, over a stretch in which they went on evenly.

    A position is a time stamp and `offset`. The offset of a mapping may still change while its frames wait.
    """

    __slots__ = ("_lately", "offset")

    def __init__(self, delay: float) -> None:
        self.offset = delay
        self._lately: deque[tuple[float, float]] = deque()  # arrival and delay, both growing

    def saw(self, arrival: float, delay: float) -> None:
        """Another frame of it came so late."""
        lately = self._lately
        while lately and lately[-1][1] >= delay:
            lately.pop()
        lately.append((arrival, delay))
        while lately[0][0] < arrival - _WINDOW:
            lately.popleft()
        least = lately[0][1]
        if least < self.offset or least > self.offset + _SLACK:
            self.offset = least


class Alignment:
    """The mappings of one track, one after the other. Times are in seconds."""

    def __init__(self) -> None:
        self._mapping: Mapping | None = None
        self._stamp = 0.0
        self._delay = 0.0

    def mapping(self, arrival: float, stamp: float) -> Mapping:
        """The mapping of a frame that came at `arrival` with the time stamp `stamp`."""
        delay = arrival - stamp
        mapping = self._mapping
        if (
            mapping is None
            or stamp <= self._stamp
            or delay > self._delay + _LATE
            or delay < min(self._delay, mapping.offset) - _EARLY
        ):
            mapping = self._mapping = Mapping(delay)
        mapping.saw(arrival, delay)
        self._stamp, self._delay = stamp, delay
        return mapping


@dataclass(frozen=True, slots=True)
class Silence:
    """So many samples of silence are to be written."""

    samples: int


@dataclass(frozen=True, slots=True)
class Sound:
    """A frame is to be written: without its first `skip` samples, and what is left as `samples` samples."""

    frame: Any
    skip: int
    samples: int


class AudioTimeline:
    """What to write when of one file's sound, at `rate` samples a second, without a gap from `began` on.

    With `alone` there is nothing else in the file: then it begins when its first frame should have come.
    """

    def __init__(self, rate: int, began: float, *, alone: bool = False) -> None:
        self._rate = rate
        self._began = began
        self._alone = alone
        self._alignment = Alignment()
        self._waiting: deque[tuple[float, float, Mapping, int, Any]] = deque()
        self.written = 0
        """Samples so far."""

    def put(self, arrival: float, stamp: float, samples: int, frame: Any) -> None:
        """A frame of so many samples came. `stamp` is that of its first one, in seconds."""
        # A frame is there when it is over: so its end belongs to the time at which it came.
        mapping = self._alignment.mapping(arrival - samples / self._rate, stamp)
        self._waiting.append((arrival, stamp, mapping, samples, frame))

    def due(self, now: float) -> Iterator[Silence | Sound]:
        """What is to be written by now, in order. All of it counts as written."""
        while self._waiting and (self._waiting[0][0] <= now - LOOKAHEAD or len(self._waiting) > _MOST):
            yield from self._place()
        # What has not come by now is silence. What comes late comes within the next lookahead.
        yield from self._fill(now - 2 * LOOKAHEAD if self._waiting else now - 1.2 * LOOKAHEAD, 0.1)

    def rest(self, end: float) -> Iterator[Silence | Sound]:
        """The same for all that is left, and silence up to the end of the file at `end`, if that is farther."""
        while self._waiting:
            yield from self._place()
        yield from self._fill(end, _SHORT)

    def _place(self) -> Iterator[Silence | Sound]:
        _, stamp, mapping, samples, frame = self._waiting.popleft()
        if self._alone and not self.written:
            self._began = min(self._began, stamp + mapping.offset)
        start = round((stamp + mapping.offset - self._began) * self._rate)
        gap = start - self.written
        if gap > _SOFT * self._rate:
            yield self._silence(gap)
            gap = 0
        elif -gap > _SOFT * self._rate:
            # It overlaps what is written. What sticks out is still to be heard.
            if samples + gap > 0:
                yield self._sound(frame, -gap, samples + gap)
            return
        elif abs(gap) <= _EXACT * self._rate:
            gap = 0
        most = int(samples * _STRETCH)
        yield self._sound(frame, 0, samples + max(-most, min(gap, most)))

    def _fill(self, until: float, least: float) -> Iterator[Silence]:
        missing = round((until - self._began) * self._rate) - self.written
        if missing > least * self._rate:
            yield self._silence(missing)

    def _silence(self, samples: int) -> Silence:
        self.written += samples
        return Silence(samples)

    def _sound(self, frame: Any, skip: int, samples: int) -> Sound:
        self.written += samples
        return Sound(frame, skip, samples)


class VideoTimeline:
    """When each picture of one file is shown, in ticks of `rate` a second since `began`, and when one is repeated.

    While none come the last one is repeated each `STILL` seconds, so that the file goes on.
    """

    STILL: Final = 1.0

    def __init__(self, rate: int, began: float) -> None:
        self._rate = rate
        self._began = began
        self._alignment = Alignment()
        self.shown: int | None = None
        """The latest picture's time; None before the first."""

    def lead(self) -> int:
        """The time of a picture at the very beginning, where the first one comes later."""
        return self._next(self._began)

    def place(self, arrival: float, stamp: float) -> int:
        """The time of a picture that came at `arrival` with the time stamp `stamp`, both in seconds."""
        mapping = self._alignment.mapping(arrival, stamp)
        return self._next(stamp + mapping.offset)

    def still(self, now: float) -> int | None:
        """The time at which to repeat the last picture by now; None if there is no need."""
        if self.shown is None or now - self._began < self.shown / self._rate + 1.5 * self.STILL:
            return None
        return self._next(self._began + self.shown / self._rate + self.STILL)

    def last(self, end: float) -> int | None:
        """The time at which to repeat the last picture, for it to be seen until about `end`; None if it is already."""
        if self.shown is None or end - self._began < self.shown / self._rate + _SHORT:
            return None
        return self._next(end - _SHORT / 2)

    def _next(self, at: float) -> int:
        # Two pictures never have one time, not even in milliseconds, however jammed they come.
        first = 0 if self.shown is None else self.shown + max(1, self._rate // 500)
        self.shown = max(first, round((at - self._began) * self._rate))
        return self.shown
