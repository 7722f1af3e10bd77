"""TLS between a socket and a byte layer, without waiting for anything.

`ssl` can work on memory instead of a socket. So a TLS connection is a pipe: what was read goes in, plain bytes
come out, and the other way round.
"""

from __future__ import annotations

import ssl
from functools import cache

import anyio.to_thread

READ_SIZE = 65_536
"""As much as is read at once: larger buffers cost a mapping and an unmapping each time."""


@cache
def _default_context() -> ssl.SSLContext:
    return ssl.create_default_context()


async def default_context() -> ssl.SSLContext:
    """The system's trust store, loaded once a process, in a thread: reading it takes tens of milliseconds."""
    return await anyio.to_thread.run_sync(_default_context)


class TlsPipe:
    """One TLS connection over memory."""

    __slots__ = ("_incoming", "_outgoing", "_ready", "_tls", "_waiting")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, hostname)
        self._ready = False
        self._waiting: list[bytes] = []  # plain bytes that wait for the handshake

    def start(self) -> bytes:
        """The first bytes to write: a client's hello, nothing for a server."""
        self._shake_hands()
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        """Bytes to write for the plain `data`; while the handshake lasts they are kept and come out later."""
        if self._ready:
            self._tls.write(data)
        else:
            self._waiting.append(data)
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Take in what was read, b"" for the end. Returns plain bytes, bytes to write, and whether this is the end.

        Raises `ssl.SSLError` when the other end cannot be trusted or understood; `pending` then has the alert.
        """
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        plain: list[bytes] = []
        ended = not data
        if self._ready or self._shake_hands():
            try:
                while chunk := self._tls.read(READ_SIZE):
                    plain.append(chunk)
                ended = True
            except ssl.SSLWantReadError:
                pass
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                ended = True
        return b"".join(plain), self._outgoing.read(), ended

    def pending(self) -> bytes:
        """Bytes that should still be written, such as the alert that says why a handshake failed."""
        return self._outgoing.read()

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._ready = True
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self._tls.write(data)
        return True
