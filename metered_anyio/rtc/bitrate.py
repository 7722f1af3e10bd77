"""How many bit/s an encoder is to make, from what its viewers can take. Pure: times are arguments, in seconds."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final

HEADROOM: Final = 0.95
"""The part of a viewer's estimate that is used. The rest is for sound, repairs and headers."""

RISE: Final = 1.08
"""By what the bitrate grows in a second, at most."""

PER_PIXEL: Final = {"VP8": 1_700_000, "H264": 1_400_000}
"""Bit/s for 640x480. Larger pictures get more, but not in proportion: by the power `_GROWTH` of their pixels."""

_GROWTH: Final = 0.6
_MEASURE: Final = 640 * 480
_LEAST: Final = 150_000  # bit/s for a picture of that size, below which there is not much to be seen
_SETTLED: Final = 5.0  # seconds between two raises of an encoder that has to be made anew for each


def usual_bitrate(codec: str, width: int, height: int) -> int:
    """What a picture of that size gets when nothing else is asked for."""
    return round(PER_PIXEL.get(codec, PER_PIXEL["VP8"]) * math.pow(width * height / _MEASURE, _GROWTH))


def least_bitrate(width: int, height: int) -> int:
    """What a picture of that size needs."""
    return round(_LEAST * math.pow(width * height / _MEASURE, _GROWTH))


class Governor:
    """Says what one encoder is to make: what the slowest of its viewers can take, within bounds.

    It falls at once and rises slowly. A viewer that cannot even take half of the least is not asked: for the others'
    sake it has to do with some of the frames (see `Ration`). `most` is what the application allows, in bit/s, None
    if it said nothing. `live`: the encoder can be told in mid-stream. One that cannot is made anew for it, which costs
    a key frame, so it is told of large steps only, and of raises rarely.
    """

    def __init__(self, codec: str, most: int | None, *, live: bool) -> None:
        self._codec = codec
        self._asked = most
        self._live = live
        self._most = self._least = 0
        self._estimates: dict[Hashable, float] = {}
        self._wanted = 0.0  # before hysteresis
        self._applied = 0
        self._changed_at = self._at = 0.0
        self._size = (0, 0)
        self._held = False

    @property
    def is_held(self) -> bool:
        """Whether it is a viewer that keeps the bitrate below what the application allows."""
        return self._held

    @property
    def most(self) -> int:
        """The bound from above for pictures of this size, 0 before there was one."""
        return self._most

    def estimate(self, viewer: Hashable, bitrate: float) -> None:
        """A viewer has said what it can take."""
        self._estimates[viewer] = max(0.0, bitrate)

    def forget(self, viewer: Hashable) -> None:
        """A viewer is gone."""
        self._estimates.pop(viewer, None)

    def is_short(self, viewer: Hashable) -> bool:
        """Whether this viewer can take so little that the others do not wait for it."""
        estimate = self._estimates.get(viewer)
        return estimate is not None and estimate < self._least / 2

    def target(self, width: int, height: int, now: float) -> int:
        """What to make of a picture of this size, in bit/s."""
        if (width, height) != self._size:
            self._resize(width, height, now)
        limits = [each * HEADROOM for each in self._estimates.values() if each >= self._least / 2]
        bound = min(self._most, max(self._least, min(limits, default=self._most)))
        elapsed, self._at = min(1.0, max(0.0, now - self._at)), now
        self._wanted = min(bound, max(self._wanted, self._least) * RISE**elapsed)
        self._held = self._wanted == bound < self._most
        if self._is_worth_it(now):
            self._applied, self._changed_at = round(self._wanted), now
        return self._applied

    def _resize(self, width: int, height: int, now: float) -> None:
        usual = usual_bitrate(self._codec, width, height)
        self._size = (width, height)
        self._most = usual if self._asked is None else self._asked
        self._least = min(self._most, least_bitrate(width, height))
        # Of what the application allows, no more at first than is usual: nobody knows yet what the way can carry.
        self._wanted = min(self._most, usual)
        self._applied, self._changed_at, self._at = round(self._wanted), now, now

    def _is_worth_it(self, now: float) -> bool:
        if self._live:
            return abs(self._wanted - self._applied) >= 0.05 * self._applied or self._wanted == self._most
        if self._wanted < self._applied * 0.85:
            return True
        enough = 1.25 if self._wanted < self._most else 1.1
        return self._wanted > self._applied * enough and now - self._changed_at >= _SETTLED


class Ration:
    """The frames that a viewer gets which can take less than is sent: as many bytes as it says, in whole frames.

    Once a frame was left out, nothing can be shown before the next key frame. So it is asked for when enough is saved
    up for one.
    """

    SAVED: Final = 2.0
    """Seconds of its bitrate that can be saved up."""

    def __init__(self, bitrate: float, now: float) -> None:
        self._rate = max(bitrate, 8_000) / 8
        self._left = self._rate * self.SAVED
        self._at = now

    def change(self, bitrate: float, now: float) -> None:
        """The viewer says something else."""
        self._earn(now)
        self._rate = max(bitrate, 8_000) / 8

    def allows(self, size: int, now: float) -> bool:
        """Whether a frame of so many bytes may be sent; it is counted if so."""
        self._earn(now)
        if self._left <= 0:
            return False
        self._left -= size
        return True

    def is_full(self, now: float) -> bool:
        """Whether there is enough for a key frame."""
        self._earn(now)
        return self._left >= self._rate * self.SAVED * 0.75

    def _earn(self, now: float) -> None:
        self._left = min(self._rate * self.SAVED, self._left + self._rate * max(0.0, now - self._at))
        self._at = now
