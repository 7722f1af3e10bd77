"""An offer that the engine could not make on a connection that is up: a few more tries, each after a longer wait.

The call goes on meanwhile with what was agreed on before, but what is new does not reach the remote. What is wanted
may change; then the new wish has tries of its own, the first at once.
"""

from __future__ import annotations

from metered_proto.machine import Micros, micros


class OfferRetries:
    """What could not be offered, how often, and when it is tried again: `at`, or None where it is not.

    A wish is whatever compares equal as long as the same offer would be made.
    """

    __slots__ = ("_delays", "_holds", "_tries", "_wish", "at")

    def __init__(self, delays: tuple[float, ...]) -> None:
        self._delays = tuple(micros(delay) for delay in delays)
        self._wish: object = None
        self._tries = 0
        self._holds = False
        self.at: Micros | None = None

    def failed(self, now: Micros, wish: object) -> bool:
        """It could not be offered. Returns whether it will be tried again."""
        if wish != self._wish:
            self._wish, self._tries = wish, 0
        self._holds = True
        self.at = now + self._delays[self._tries] if self._tries < len(self._delays) else None
        self._tries += 1
        return self.at is not None

    def due(self) -> None:
        """The wait is over: the wish may be offered, now or as soon as can be."""
        self._holds, self.at = False, None

    def holds_back(self, wish: object) -> bool:
        """Whether this is not to be offered: it waits for its next try, or has none left."""
        return self._holds and wish == self._wish

    def forget(self) -> None:
        """Nothing is lacking any more, or the connection is another one. What failed may be tried at once."""
        self._wish, self._tries, self._holds, self.at = None, 0, False, None
