"""Reading HTTP/1.1 through h11, under a limit.

h11 bounds what it holds, but a read that brings everything at once passes unchecked. Here the limit is on the
bytes themselves, so the verdict does not depend on how the network cut them.
"""

from __future__ import annotations

from collections.abc import Iterable

import h11

HEAD_LIMIT = 32 * 1024
"""Bytes that the start line and the headers of a request or a response may have together."""


class OverLimitError(Exception):
    """What is being read is longer than it may be."""


class HttpReader:
    """An h11 connection that is fed at most `limit` bytes in all."""

    __slots__ = ("_beyond", "_room", "connection")

    def __init__(self, role: type[h11.CLIENT] | type[h11.SERVER], limit: int = HEAD_LIMIT) -> None:
        # The room is what bounds it; h11's own limit only has to stay out of the way.
        self.connection = h11.Connection(role, max_incomplete_event_size=1 << 62)
        self._room = limit
        self._beyond = b""

    def feed(self, data: bytes) -> None:
        """Take in bytes; `next` says what they mean."""
        within = data[: self._room]
        if within:
            self._room -= len(within)
            self.connection.receive_data(within)
        self._beyond += data[len(within) :]

    def next(self) -> h11.Event | None:
        """The next h11 event, or None where more bytes, or an answer of ours, have to come first.

        Raises `h11.RemoteProtocolError` for what is not HTTP, and `OverLimitError`.
        """
        event = self.connection.next_event()
        if event is h11.NEED_DATA:
            if self._room == 0:
                raise OverLimitError
            return None
        if event is h11.PAUSED:
            return None
        assert isinstance(event, h11.Event)
        return event

    def extend(self, limit: int) -> None:
        """Allow `limit` bytes more: the head is read, and a body is to follow."""
        beyond, self._beyond = self._beyond, b""
        self._room += limit
        self.feed(beyond)

    @property
    def trailing(self) -> bytes:
        """What came after the last event: after an upgrade, the first bytes of the new protocol."""
        return self.connection.trailing_data[0] + self._beyond


def header_map(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; those that repeat are joined by ", " (RFC 9110 section 5.3)."""
    mapping: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        mapping[key] = f"{mapping[key]}, {text}" if key in mapping else text
    return mapping


def tokens(value: str) -> list[str]:
    """The elements of a comma-separated, case-insensitive header, in lower case."""
    return [token.strip() for token in value.lower().split(",")]
