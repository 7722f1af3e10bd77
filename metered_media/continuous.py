"""One time for all passes of a source, and when each thing of it is due. Arithmetic alone; seconds throughout.

A pass is what lies between opening a source and its end. A loop is several passes of one file, a camera that was lost
has a pass for each time it was there. Each pass has times of its own, and what viewers get must go on.
"""

from __future__ import annotations

from typing import Final

LEAP: Final = 10.0
"""A live source whose times jump by more than this has set its clock."""

BACK: Final = 0.5
"""Times that run back by more than this begin anew; by less, they are out of order."""

STEP: Final = 0.001
"""What a time goes on by at least."""

BEHIND: Final = 0.25
"""How far sound may be behind pictures, or they behind it, before what is late is left out."""

LATE: Final = 0.1
"""How late the foremost may be before playing is taken to have been held up. Less is caught up with."""


class Continuous:
    """Places the times of each pass behind those before it. `live` sources follow the clock in the gaps."""

    def __init__(self, *, live: bool = False) -> None:
        self._live = live
        self._begin = 0.0
        self._base: float | None = None
        self._shift: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._end: dict[str, float] = {}

    @property
    def end(self) -> float:
        """Where everything so far ends."""
        return max(self._end.values(), default=0.0)

    def begin(self, at: float | None = None, base: float | None = None) -> None:
        """A pass begins, at `at` (not before the end of what there was; None: there). Its own first time is `base`,
        None: the first that comes."""
        self._begin = self.end if at is None else max(at, self.end)
        self._base = base
        self._shift.clear()

    def place(self, kind: str, own: float | None, lasts: float) -> float:
        """When something that the pass has at `own` (None: right behind the last) is, in the time of all passes."""
        if own is None:
            return self._keep(kind, self._end.get(kind, self._begin), lasts)
        if self._base is None:
            self._base = own
        shift = self._shift.setdefault(kind, self._begin - self._base)
        end = self._end.get(kind, self._begin)
        leapt = self._live and own + shift > end + LEAP
        if own + shift < min(end, self._last.get(kind, end)) - BACK or leapt:
            self._shift[kind] = shift = end - own
        return self._keep(kind, max(own + shift, self._begin), lasts)

    def _keep(self, kind: str, at: float, lasts: float) -> float:
        last = self._last.get(kind)
        if last is not None and at <= last:
            at = last + STEP
        self._last[kind] = at
        self._end[kind] = max(self._end.get(kind, 0.0), at + max(lasts, 0.0))
        return at


class Playing:
    """When each thing of a file is due, for sound and pictures together.

    Whoever reads late is waited for, so nothing is lost; but if one of the two is far behind the other, what is late
    of it is left out, and they are together again.
    """

    def __init__(self) -> None:
        self._origin: float | None = None
        self._front = 0.0

    def due(self, at: float, now: float, *, may_skip: bool = True) -> float | None:
        """When on the clock of `now` the thing at `at` is due; None: leave it out."""
        if self._origin is None:
            self._origin = now - at
        due = self._origin + at
        if at >= self._front:
            self._front = at
            if now - due > LATE:  # the foremost is late: we all were held up
                self._origin += now - due
                due = now
        elif may_skip and self._front - at > BEHIND and now - due > BEHIND:
            return None
        return due

    def rest(self) -> None:
        """Nobody reads. Whenever somebody does again, it goes on from there."""
        self._origin = None
