"""How long things took, in a few numbers."""

from __future__ import annotations

import math

from metered_proto.latency import Latencies
from metered_proto.machine import micros


class Timings:
    """Of durations in seconds: how many, the least, the mean, the most, and quantiles that are up to 12.5 % high."""

    def __init__(self) -> None:
        self._latencies = Latencies()
        self._total = 0.0
        self._least = math.inf
        self._most = 0.0

    def __len__(self) -> int:
        return self._latencies.count

    def add(self, duration: float) -> None:
        """One more."""
        self._latencies.add(micros(duration))
        self._total += duration
        self._least = min(self._least, duration)
        self._most = max(self._most, duration)

    def in_ms(self, *names: str) -> dict[str, float | None]:
        """What is asked for (`min`, `avg`, `max`, `p50`, `p99` and so on) in milliseconds; None before the first."""
        return {name: None if not len(self) else round(self._seconds(name) * 1000, 3) for name in names}

    def _seconds(self, name: str) -> float:
        match name:
            case "min":
                return self._least
            case "avg":
                return self._total / len(self)
            case "max":
                return self._most
            case _:
                quantile = self._latencies.quantile(int(name[1:]) / 100)
                assert quantile is not None
                return min(max(quantile, self._least), self._most)
