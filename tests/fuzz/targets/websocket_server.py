"""A server's end takes any bytes after the upgrade, and says the same of them however they are cut. No message is
larger than it may be, and nothing is said after the end.

The first byte says how the rest is cut.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Hashable

from metered_proto.masking import mask
from metered_proto.websocket import WebSocket
from metered_proto.websocket_events import Closed, Heard, Messages, Reply

LIMIT = 300
SOURCE = random.Random(1)


def handshake() -> dict[str, WebSocket]:
    """Both ends, open."""
    client = WebSocket.client("h", "/", random=SOURCE.randbytes, max_message_size=LIMIT)
    server = WebSocket.server(max_message_size=LIMIT)
    server.receive(client.open())
    client.receive(server.accept()[0])
    return {"client": client, "server": server}


OPEN = handshake()


def make(role: str) -> WebSocket:
    """The end of that role, open: it holds nothing yet that a copy could share."""
    return copy.copy(OPEN[role])


def masked(first: int, payload: bytes) -> bytes:
    key = b"\x11\x80\x00\xff"
    return bytes((first, 0x80 | len(payload))) + key + mask(payload, key)


WORDS = (
    *(
        masked(first, payload)
        for first in (0x81, 0x01, 0x80, 0x82, 0x89, 0x8A, 0x00)
        for payload in (b"hi", b"\xff", b"")
    ),
    masked(0x88, b"\x03\xe8bye"),
    masked(0x88, b""),
    masked(0x88, b"\x03"),
    b"\x81\xfe\x01\x00",
    b"\x81\xff" + b"\0" * 8,
)


def summary(ws: WebSocket, pieces: list[bytes]) -> tuple[Hashable, ...]:
    payloads: list[str | bytes] = []
    replies = b""
    heard = False
    end: Hashable = None
    for piece in pieces:
        if ws.closed:
            break
        for event in ws.receive(piece):
            assert end is None, "something was said after the end"
            match event:
                case Messages():
                    payloads += event.payloads
                case Reply():
                    replies += event.data
                case Heard():
                    heard = True
                case Closed():
                    end = (event.code, event.reason)
                case _:
                    raise AssertionError(f"what is {event!r}?")
    assert all(len(payload if isinstance(payload, bytes) else payload.encode()) <= LIMIT for payload in payloads)
    return (tuple(payloads), replies, heard, end)


def check_role(role: str, data: bytes) -> Hashable:
    if len(data) < 2:
        return None
    size, rest = data[0] % 61 + 1, data[1:]
    whole = summary(make(role), [rest])
    assert _comparable(summary(make(role), [rest[at : at + size] for at in range(0, len(rest), size)])) == _comparable(
        whole
    )
    return (len(whole[0]), len(whole[1]), whole[2], whole[3])  # type: ignore[arg-type]


def _comparable(said: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    # A client's replies are masked with fresh keys each time, so only their length can be compared.
    return (said[0], len(said[1]), said[2], said[3])  # type: ignore[arg-type]


def check(data: bytes) -> Hashable:
    return check_role("server", data)
