"""When to make a key frame (`KeyFrames`), and the frames since the last one (`Group`). Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

INTERVAL: Final = 0.5
"""Seconds between two key frames that viewers ask for, at least. What is asked for meanwhile is made at their end."""


class KeyFrames:
    """Gathers what viewers ask for. A key frame is large, and any viewer may ask as often as it likes."""

    __slots__ = ("_asked", "_interval", "_last")

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._asked = False
        self._last: float | None = None

    def ask(self) -> None:
        """Somebody cannot go on without one."""
        self._asked = True

    def is_due(self, now: float) -> bool:
        """Whether to make the next frame one. `made` or `asked_on` follows, if it was done."""
        return self._asked and (self._last is None or now - self._last >= self._interval)

    def made(self, now: float) -> None:
        """There was one, whoever wanted it."""
        self._asked = False
        self._last = now


class Grouped(Protocol):
    """A frame as `Group` looks at it: `pts` is in units of its clock."""

    @property
    def key(self) -> bool: ...
    @property
    def pts(self) -> int: ...
    @property
    def size(self) -> int: ...


class Group:
    """The frames from the last key frame on: with them a viewer that comes late can start at once.

    One that grows beyond its bounds is forgotten, and there is none until the next key frame. `clock` is in Hz.
    """

    def __init__(self, clock: int, *, seconds: float, size: int, count: int) -> None:
        self._ticks = seconds * clock
        self._most = size
        self._count = count
        self._frames: list[Any] = []
        self._size = 0

    @property
    def frames(self) -> Sequence[Any]:
        """In their order, the first being the key frame. Empty if there is no way to start before the next one."""
        return self._frames

    def add(self, frame: Grouped) -> None:
        """The next frame."""
        if frame.key:
            self.clear()
        elif not self._frames:
            return
        self._frames.append(frame)
        self._size += frame.size
        too_long = frame.pts - self._frames[0].pts > self._ticks
        if too_long or self._size > self._most or len(self._frames) > self._count:
            self.clear()

    def clear(self) -> None:
        """Forget them."""
        # A list of its own each time: the one before may be on its way to somebody.
        self._frames = []
        self._size = 0
