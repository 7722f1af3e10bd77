"""What a relay counts."""

from __future__ import annotations

from typing import TypeVar

import msgspec

_Key = TypeVar("_Key")


class Stats(msgspec.Struct):
    """What a relay counted since its birth; the first three are how things stand now."""

    connections: int = 0
    peers: int = 0
    channels: int = 0
    welcomed: int = 0
    """Guests that became members."""
    refused: dict[int, int] = msgspec.field(default_factory=dict)
    """Upgrades answered with an HTTP error, by status."""
    closed: dict[int, int] = msgspec.field(default_factory=dict)
    """Guests that the relay itself closed, by close code."""
    frames_in: int = 0
    messages_in: int = 0
    """Publishes and directs that were let through."""
    bytes_in: int = 0
    """Bytes of their data."""
    messages_out: int = 0
    """What became of them: one for each socket that got one."""
    bytes_out: int = 0
    """Bytes of those frames."""
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    """Error frames, by code."""
    malformed: int = 0
    slow_consumers: int = 0

    def count(self, tally: dict[_Key, int], key: _Key) -> None:
        """Add one to an entry of one of the tables above."""
        tally[key] = tally.get(key, 0) + 1
