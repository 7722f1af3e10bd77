"""When a lost source is tried again, and how long each try may take. No clock and no socket, only arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from metered_proto.entropy import Entropy

FIRST: Final = 0.25
LONGEST: Final = 1.0
"""Seconds between two tries: the first, and the most. Something that is back is noticed soon."""

DENIED: Final = 15.0
"""Seconds after the credentials were refused: cameras lock out whoever asks too often."""

QUICK: Final = 2.5
"""Seconds that most tries may take. A host that is down answers nothing, and the try after it may find it back."""

PATIENT: Final = 4
"""Every so many tries one gets its full time, for a camera that is slow to answer."""


@dataclass(frozen=True, slots=True)
class Try:
    """Wait `after` seconds, then open for up to `timeout` seconds. It is number `number` since the loss, from 1."""

    number: int
    after: float
    timeout: float


class Healing:
    """The tries after one loss after the other. `timeout` is what opening may take at most."""

    def __init__(self, entropy: Entropy, timeout: float) -> None:
        self._entropy = entropy
        self._timeout = timeout
        self.number = 0

    def next(self, *, denied: bool = False) -> Try:
        """The next try. `denied`: the last one had the wrong credentials."""
        self.number += 1
        after = DENIED if denied else min(LONGEST, FIRST * 2.0 ** min(self.number - 1, 10))
        patient = self.number % PATIENT == 0
        timeout = self._timeout if patient else min(QUICK, self._timeout)
        return Try(self.number, after * self._entropy.uniform(0.8, 1.2), timeout)

    def found(self) -> int:
        """It is open again. Returns how many tries that took; the next loss counts anew."""
        number, self.number = self.number, 0
        return number
