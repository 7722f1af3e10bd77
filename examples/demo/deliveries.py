"""The backend's side of "no reading is lost": what came from each device, each reading counted once."""

from __future__ import annotations

from typing import Any

NUMBERS = ("load", "memory", "disk", "sending", "receiving", "temperature")


class Deliveries:
    """What came from one device. Time is that of any monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.seqs: set[int] = set()
        self.repeats = 0
        self.longest_gap = 0.0
        self.last_at: float | None = None
        self.latest: dict[str, Any] = {}
        self.peer_id = ""
        self._to_confirm: set[int] = set()

    def take(self, peer_id: str, data: Any, now: float) -> bool:
        """Take in a telemetry message; returns False for one that makes no sense, of which nothing was taken.

        `peer_id` is the relay's word for who sent it, and where the confirmation goes. A device that was
        reconnected has a new one.
        """
        readings = data.get("readings") if isinstance(data, dict) else None
        if not isinstance(readings, list) or not all(_is_reading(reading) for reading in readings):
            return False
        self.peer_id = peer_id
        for reading in readings:
            seq = reading["seq"]
            self._to_confirm.add(seq)  # a repeat too: it came because the confirmation was lost
            if seq in self.seqs:
                self.repeats += 1
                continue
            self.seqs.add(seq)
            if reading["seq"] >= self.latest.get("seq", 0):
                self.latest = reading
            if self.last_at is not None:
                self.longest_gap = max(self.longest_gap, now - self.last_at)
            self.last_at = now
        return True

    def confirmations(self) -> list[int]:
        """The numbers of what came since the last call."""
        seqs, self._to_confirm = sorted(self._to_confirm), set()
        return seqs


def _is_reading(reading: Any) -> bool:
    return (
        isinstance(reading, dict)
        and isinstance(reading.get("seq"), int)
        and all(isinstance(reading.get(name), int | float | None) for name in NUMBERS)
    )
