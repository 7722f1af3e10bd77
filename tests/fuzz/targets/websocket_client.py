"""A client's end takes any bytes after the upgrade, as a server's does: see `websocket_server`."""

from __future__ import annotations

from collections.abc import Hashable

from tests.fuzz.targets.websocket_server import check_role


def frame(first: int, payload: bytes) -> bytes:
    return bytes((first, len(payload))) + payload


WORDS = (
    *(
        frame(first, payload)
        for first in (0x81, 0x01, 0x80, 0x82, 0x89, 0x8A, 0x00)
        for payload in (b"hi", b"\xff", b"")
    ),
    frame(0x88, b"\x03\xe8bye"),
    frame(0x88, b""),
    frame(0x88, b"\x03"),
    b"\x81\x7e\x01\x00",
    b"\x81\x7f" + b"\0" * 8,
)


def check(data: bytes) -> Hashable:
    return check_role("client", data)
