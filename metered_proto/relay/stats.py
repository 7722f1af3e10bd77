"""What a relay counts."""

from __future__ import annotations

from typing import TypeVar

import msgspec

_Key = TypeVar("_Key")


class Stats(msgspec.Struct):
    """What a relay counted since its birth; the first five are how things stand now."""

    connections: int = 0
    peers: int = 0
    channels: int = 0
    blocked: int = 0
    """Guests that read more slowly than they are written to."""
    queued_bytes: int = 0
    """What waits for them, at most."""
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
    wire_bytes_in: int = 0
    """Bytes on the sockets, with all framing, HTTP and TLS; only whoever has the sockets can count them."""
    wire_bytes_out: int = 0
    ping_p50: float | None = None
    """Seconds from a ping to its answer: what half of them stay below, None before the first, ..."""
    ping_p99: float | None = None
    """... and what 99 % do."""
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    """Error frames, by code."""
    malformed: int = 0
    slow_consumers: int = 0

    def count(self, tally: dict[_Key, int], key: _Key) -> None:
        """Add one to an entry of one of the tables above."""
        tally[key] = tally.get(key, 0) + 1
