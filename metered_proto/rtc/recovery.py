"""How often, and how soon, a lost connection is rebuilt."""

from __future__ import annotations

from metered_proto.machine import SECOND, Micros, micros

STEADY: Micros = 10 * SECOND
"""A connection that lasted so long was a good one: the next loss starts with the first delay again."""


class Recovery:
    """Counts the rebuilds since a connection was last up, and says how long each waits.

    A connection that comes up earns the whole budget anew. The delays, though, start again only after one that
    lasted for a while: two sides that come together to fall apart at once would otherwise do nothing else.
    """

    __slots__ = ("_delays", "_rung", "_up_at", "attempts")

    def __init__(self, delays: tuple[float, ...]) -> None:
        self._delays = tuple(micros(delay) for delay in delays)
        self._rung = 0
        self._up_at: Micros | None = None
        self.attempts = 0

    def came_up(self, now: Micros) -> None:
        """A connection is up."""
        self._up_at = now
        self.attempts = 0

    def reset(self) -> None:
        """Begin anew: whatever was tried so far no longer counts."""
        self.attempts = self._rung = 0
        self._up_at = None

    def climb(self, now: Micros) -> Micros | None:
        """The delay before the next rebuild, or None where there will be none."""
        if self._up_at is not None and now - self._up_at >= STEADY:
            self._rung = 0
        self._up_at = None
        if self.attempts == len(self._delays):
            return None
        delay = self._delays[min(self._rung, len(self._delays) - 1)]
        self.attempts += 1
        self._rung += 1
        return delay
