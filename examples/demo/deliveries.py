"""What the backend has of one device: each reading once, and how they came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

NUMBERS = ("load", "memory", "disk", "sending", "receiving", "temperature")


class Deliveries:
    """What came from one device. Time is that of any monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.readings: set[int] = set()
        """The times of the readings that are here, in unix milliseconds: no two of a device have the same."""
        self.missed = 0
        """Messages that went by while nobody listened. The readings in them come again."""
        self.longest_gap = 0.0
        self.last_at: float | None = None
        self.latest: dict[str, Any] = {}
        self.peer_id = ""
        """Who the device is to the relay. A device that was reconnected has a new one."""

    def take(self, peer_id: str, reading: Any, now: float) -> bool:
        """Take in a telemetry message from `peer_id`; returns False for one that makes no sense."""
        if not _is_reading(reading):
            return False
        self.peer_id = peer_id
        self.readings.add(reading["at"])
        if reading["at"] >= self.latest.get("at", 0):
            self.latest = reading
        if self.last_at is not None:
            self.longest_gap = max(self.longest_gap, now - self.last_at)
        self.last_at = now
        return True

    def missing(self, have: Iterable[int]) -> list[int]:
        """Which of the readings that the device has are not here?"""
        return [at for at in have if at not in self.readings]


def _is_reading(reading: Any) -> bool:
    return (
        isinstance(reading, dict)
        and isinstance(reading.get("at"), int)
        and all(isinstance(reading.get(name), int | float | None) for name in NUMBERS)
    )
