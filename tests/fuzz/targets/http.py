"""A server takes any bytes before the upgrade: it asks, refuses or waits, the same however they are cut.

The first byte says how the rest is cut.
"""

from __future__ import annotations

from collections.abc import Hashable

from metered_proto.websocket import State, WebSocket

WORDS = (
    b"GET /v1?key=x HTTP/1.1\r\n",
    b"Host: h\r\n",
    b"Upgrade: websocket\r\n",
    b"Connection: Upgrade\r\n",
    b"\r\n\r\n",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Sec-WebSocket-Version: 13\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"POST ",
    b"HTTP/1.0",
    b"Expect: 100-continue\r\n",
    b"5\r\nhello\r\n0\r\n",
    b"\x00",
    b": ",
)


def outcome_of(ws: WebSocket, pieces: list[bytes]) -> tuple[Hashable, ...]:
    events = [event for piece in pieces if not ws.closed for event in ws.receive(piece)]
    return (*(repr(event) for event in events), ws.state is State.CLOSED)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def check(data: bytes) -> Hashable:
    if len(data) < 2:
        return None
    size, rest = data[0] % 61 + 1, data[1:]
    whole = outcome_of(WebSocket.server(max_body=1024), [rest])
    assert outcome_of(WebSocket.server(max_body=1024), cut(rest, size)) == whole
    return tuple(str(each)[:40] for each in whole)
