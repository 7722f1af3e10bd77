"""How long to wait before the next attempt: exponential back-off with jitter."""

from __future__ import annotations

from metered_proto.entropy import Entropy
from metered_proto.machine import Micros, micros
from metered_proto.settings import ReconnectOptions


class Ladder:
    """Counts attempts since the last success and says how long each waits; None when they are used up.

    A connection that comes up ends the count, but only one that lasts for a while leads back to the bottom: a server
    that lets everybody in, to fall down right after, is not to be run against twice a second by all.
    """

    def __init__(self, options: ReconnectOptions, entropy: Entropy) -> None:
        self._options = options
        self._entropy = entropy
        self._rung = 0
        self.attempts = 0

    def arrived(self) -> None:
        """A connection came up: what was tried for it is no longer counted."""
        self.attempts = 0

    def reset(self) -> None:
        """The next failure starts at the bottom again."""
        self.attempts = self._rung = 0

    def climb(self, floor: Micros = 0) -> Micros | None:
        """The delay before the next attempt, in microseconds, or None where no attempt is left.

        `floor` is what the server asked for; it is spread upwards by the same jitter, or a whole fleet that was
        told the same number would come back in the same instant.
        """
        options = self._options
        if self.attempts >= options.max_attempts:
            return None
        self.attempts += 1
        self._rung += 1
        try:
            delay = min(options.initial_delay * options.multiplier ** (self._rung - 1), options.max_delay)
        except OverflowError:  # far beyond any max_delay
            delay = options.max_delay
        spread = options.jitter_ratio
        chosen = micros(delay * self._entropy.uniform(1 - spread, 1 + spread))
        if chosen < floor:
            chosen = round(floor * self._entropy.uniform(1, 1 + spread))
        return chosen
