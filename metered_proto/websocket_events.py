"""What the byte layer of a WebSocket reports to whoever drives it.

Reprs leave out everything that can hold a credential: query strings, header values, bodies.
"""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, gc=False):
    """The base of everything `WebSocket.receive` can return."""


class Requested(Event, frozen=True):
    """Server: a valid upgrade request came, and waits for `accept` or `respond`.

    `target` is the request target as sent, so it may hold a credential; `host` the `Host` header, `origin` the
    `Origin` header if there was one. `headers` has all of them by lower-case name, repeated ones joined by ", ".
    """

    target: str
    host: str
    origin: str | None
    headers: dict[str, str]

    def __repr__(self) -> str:
        return f"Requested(target={path_of(self.target)!r}, host={self.host!r}, origin={self.origin!r})"


class PlainRequest(Event, frozen=True):
    """Server: an HTTP request that wants no upgrade came whole, and waits for `respond`. Fields as in `Requested`."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"PlainRequest(method={self.method!r}, target={path_of(self.target)!r}, {len(self.body)} bytes)"


class Opened(Event, frozen=True):
    """Client: the server agreed; messages can flow."""


class Refused(Event, frozen=True):
    """Client: the server, or something before it, answered with plain HTTP. Nothing more will come.

    A redirect is a refusal too. `body` is what was kept of the body: at most its first 4 KiB.
    """

    status: int
    reason: str
    body: bytes

    def __repr__(self) -> str:
        return f"Refused(status={self.status}, reason={self.reason!r}, {len(self.body)} bytes)"


class Reply(Event, frozen=True):
    """Bytes that the protocol owes the other end: a pong, the answering close frame, an HTTP error. Write them."""

    data: bytes


class Heard(Event, frozen=True):
    """A ping or a pong came. Pings are answered already, in the `Reply` before this."""


class Messages(Event, frozen=True):
    """Whole messages, in order: all that one `receive` completed. Text is `str`, binary `bytes`."""

    payloads: list[str | bytes]


class Closed(Event, frozen=True):
    """Nothing more will come.

    `code` is the code of the other end's close frame; 1005 if its frame had none, 1006 if the stream ended
    without one. Where the other end broke the protocol it is the code we failed it with: 1002, 1007 or 1009.
    """

    code: int
    reason: str


def path_of(target: str) -> str:
    """A request target without its query, fit to be shown."""
    return target.partition("?")[0]
