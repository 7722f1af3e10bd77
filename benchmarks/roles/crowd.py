"""A thousand connections that cost as little as they can: bare sockets that read and forget, or publish by rote.

    python -m benchmarks.roles.crowd URL

What they send is masked with a key of four zeros, which RFC 6455 allows and which changes nothing. What they get is
not looked at; it is only counted how often `workload.MARK` is in it.
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from benchmarks.children import obey_blocking
from benchmarks.workload import KEY, MARK

AT_ONCE = 100
"""Connections that are opened together."""

PATIENCE = 30.0
"""Seconds until what should arrive counts as lost."""


class Crowd:
    """The commands."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._sockets: list[socket.socket] = []
        self._counts: list[int] = []
        self._total = 0
        self._awaited = 0
        self._complete = threading.Event()
        self._lost = 0
        self._selector = selectors.DefaultSelector()

    def connect(self, count: int, channel: str | None = None) -> None:
        """Open so many more connections, and subscribe each if there is a channel."""
        for begun in range(0, count, AT_ONCE):
            self._connect_some(min(AT_ONCE, count - begun), channel)

    def _connect_some(self, count: int, channel: str | None) -> None:
        some = [socket.create_connection(self._address, timeout=30) for _ in range(count)]
        for sock in some:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(_UPGRADE)
        for sock in some:
            _read_until(sock, b'"welcome"')
            if channel is not None:
                sock.sendall(text_frame({"type": "subscribe", "channel": channel, "requestId": "s"}))
        for sock in some:
            if channel is not None:
                _read_until(sock, b'"ack"')
            sock.setblocking(False)
            self._sockets.append(sock)
            self._counts.append(0)
            self._selector.register(sock, selectors.EVENT_READ, len(self._counts) - 1)

    def expect(self, each: int) -> None:
        """Begin to count, up to so many marks on each connection."""
        self._awaited = each * len(self._counts)
        self._counts[:] = [0] * len(self._counts)
        self._total = 0
        self._complete.clear()  # last: until here, `drain` may have found the old total to be enough

    def arrived(self) -> Any:
        """Wait until all has arrived."""
        self._complete.wait(PATIENCE)
        return self.count()

    def count(self) -> Any:
        """What has arrived: on all connections, on the one with the least and on the one with the most."""
        counts = self._counts
        return {"total": sum(counts), "least": min(counts), "most": max(counts), "connections_lost": self._lost}

    def publish(self, channel: str, rate: float, seconds: float, already: int = 0) -> int:
        """Publish from each connection in turn, so many a second each, numbered from 0; returns how many in all.

        `already` is how many were published before.

        The acknowledgements bear the mark.
        """
        sockets, sent = self._sockets, 0
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            due = round(passed * rate * len(sockets))
            for number in range(sent, due):
                turn, who = divmod(already + number, len(sockets))
                frame = {"type": "publish", "channel": channel, "data": {"n": turn}, "requestId": MARK.decode()}
                sockets[who].send(text_frame(frame))
            sent = due
            time.sleep(0.005)
        return sent

    def drain(self) -> None:
        """Read and forget, in a thread."""
        while True:
            if not self._sockets:
                time.sleep(0.01)  # nothing to select
                continue
            for key, _ in self._selector.select(0.1):
                sock, index = key.fileobj, key.data
                assert isinstance(sock, socket.socket)
                data = _receive(sock)
                if not data:
                    self._lost += 1
                    self._selector.unregister(sock)
                found = data.count(MARK)
                self._counts[index] += found
                self._total += found
            if self._total >= self._awaited:
                self._complete.set()


def text_frame(message: Any) -> bytes:
    """One masked text frame."""
    payload = msgspec.json.encode(message)
    size = len(payload)
    header = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    return header + b"\0\0\0\0" + payload


_UPGRADE = (
    f"GET /v1?key={KEY} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


def _read_until(sock: socket.socket, text: bytes) -> None:
    seen = b""
    while text not in seen:
        data = sock.recv(4096)
        if not data:
            raise ConnectionError(f"closed while {text!r} was awaited, after {seen!r}")
        seen += data


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 16)
    except OSError:
        return b""


if __name__ == "__main__":
    crowd = Crowd(sys.argv[1])
    threading.Thread(target=crowd.drain, daemon=True).start()
    names = ("connect", "expect", "arrived", "count", "publish")
    commands: dict[str, Callable[..., Any]] = {name: getattr(crowd, name) for name in names}
    obey_blocking(commands)
