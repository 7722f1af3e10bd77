"""A device's side of "no reading is lost": the readings that the backend has not confirmed yet."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


class Buffer:
    """Readings in the order they were taken, each kept until it is confirmed.

    It holds at most `limit`; over it, the oldest goes and is counted as `discarded`. A reading that was sent and is
    not confirmed within `patience` seconds is due again. Time is that of any monotonic clock, in seconds.
    """

    def __init__(self, limit: int = 10_000, patience: float = 3.0) -> None:
        self._limit = limit
        self._patience = patience
        self._readings: dict[int, dict[str, Any]] = {}
        self._due: dict[int, float] = {}
        self.discarded = 0
        self.fullest = 0

    def __len__(self) -> int:
        return len(self._readings)

    def add(self, seq: int, reading: dict[str, Any]) -> None:
        """Take in a new reading; it is due at once. `seq` is its number, never used before."""
        self._readings[seq] = {"seq": seq, **reading}
        self._due[seq] = -math.inf
        if len(self._readings) > self._limit:
            self.confirm([next(iter(self._readings))])
            self.discarded += 1
        self.fullest = max(self.fullest, len(self._readings))

    def due(self, now: float, most: int) -> list[dict[str, Any]]:
        """Up to `most` readings that are to be sent now, oldest first."""
        ready = (seq for seq in self._readings if self._due[seq] <= now)
        return [self._readings[seq] for seq, _ in zip(ready, range(most), strict=False)]

    def sent(self, readings: Iterable[dict[str, Any]], now: float) -> None:
        """These are on their way: give the backend time to confirm them."""
        for reading in readings:
            if reading["seq"] in self._due:  # a confirmation can be faster than the relay's acknowledgement
                self._due[reading["seq"]] = now + self._patience

    def confirm(self, seqs: Iterable[int]) -> None:
        """The backend has these. Numbers that are not in the buffer are ignored."""
        for seq in seqs:
            self._readings.pop(seq, None)
            self._due.pop(seq, None)

    def connection_lost(self) -> None:
        """What was on its way may not have arrived: all of it is due again."""
        self._due = dict.fromkeys(self._due, -math.inf)
