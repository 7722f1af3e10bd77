"""A proxy may answer anything: the tunnel is open, refused, or not decided, the same however the answer is cut.

The first byte says how the rest is cut. The same holds for a server that answers a client's upgrade.
"""

from __future__ import annotations

from collections.abc import Hashable

from metered_proto.http_tunnel import HttpTunnel, TunnelOpen, TunnelRefused
from metered_proto.websocket import WebSocket
from metered_proto.websocket_events import Event

WORDS = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"407",
    b"Upgrade: websocket\r\n",
    b"Connection: Upgrade\r\n",
    b"Sec-WebSocket-Accept: ",
    b"Content-Length: 3\r\n",
    b"\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\x81\x02hi",
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
    b"Sec-WebSocket-Protocol: x\r\n",
)


def tunnel(pieces: list[bytes]) -> TunnelOpen | TunnelRefused | None:
    opening = HttpTunnel("h", 443)
    opening.open()
    for number, piece in enumerate(pieces):
        if (outcome := opening.receive(piece)) is not None:
            rest = b"".join(pieces[number + 1 :])
            return TunnelOpen(outcome.trailing + rest) if isinstance(outcome, TunnelOpen) else outcome
    return None


def client(pieces: list[bytes]) -> tuple[list[Event], bool]:
    ws = WebSocket.client("h", "/v1?key=x", random=bytes)
    ws.open()
    events = [event for piece in pieces if not ws.closed for event in ws.receive(piece)]
    return events[:1], ws.closed


def check(data: bytes) -> Hashable:
    if len(data) < 2:
        return None
    size, rest = data[0] % 61 + 1, data[1:]
    pieces = [rest[at : at + size] for at in range(0, len(rest), size)]
    whole = tunnel([rest])
    assert repr(tunnel(pieces)) == repr(whole)
    asked = client([rest])
    assert repr(client(pieces)) == repr(asked)
    return (repr(whole)[:50], repr(asked)[:60])
