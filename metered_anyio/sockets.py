"""A link: one TCP socket, perhaps TLS, and the WebSocket byte layer, driven by callbacks.

Reading: the loop says that the socket can be read; one read's worth goes through the byte layer, and what it means
goes to the driver in the same call. Writing: frames collect in a list, the driver has them flushed together, and
what the kernel does not take waits until the socket can be written.

Closing is orderly if the other end plays along, and over within `LINGER` seconds if it does not.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Protocol

from metered_anyio.backend import Alarm, Backend, Watch, Wire
from metered_anyio.tls import READ_SIZE, TlsPipe
from metered_proto.facts import Fact, Heard, LinkBlocked, LinkDown, LinkDrained, LinkUp, Received
from metered_proto.websocket import State, WebSocket
from metered_proto.websocket_events import (
    Closed,
    Event,
    Messages,
    Opened,
    PlainRequest,
    Refused,
    Reply,
    Requested,
)
from metered_proto.websocket_events import Heard as ControlFrame

WRITE_SIZE = 65_536
"""Bytes up to which small pieces are joined to one write."""

SMALL = 512
SHORT_READ_SIZE = 16_384
"""While the messages of a guest are small, a server reads few of them at once: the answers to some are under way while
it reads the next. A guest with hundreds in flight would otherwise take turns with it, instead of working beside it.
Larger messages come few at a time anyway, and short reads would cut them up."""

LINGER = 1.0
"""Seconds that a closing link waits for the other end."""

# Close codes with which the byte layer ends a connection whose other end may still be talking (RFC 6455, 7.4.1).
_OUR_VERDICTS = (1002, 1007, 1009)


class Driver(Protocol):
    """What a link needs of whoever drives it."""

    backend: Backend
    bytes_in: int
    bytes_out: int

    def feed(self, fact: Fact) -> None:
        """Take in a fact."""
        ...

    def want_flush(self, link: Link) -> None:
        """Call `link.flush()` soon; it has something to write."""
        ...

    def knocked(self, link: Link, request: Requested | PlainRequest) -> None:
        """Server: a request came. To be answered by `accept` or `respond`."""
        ...

    def gone(self, link: Link) -> None:
        """The socket is closed. The `LinkDown` has been fed."""
        ...


class Link:
    """One socket, from its connecting to its closing. `number` is how the machine knows it."""

    __slots__ = (
        "_closing",
        "_driver",
        "_knocked",
        "_linger",
        "_out",
        "_owed",
        "_read_size",
        "_reader",
        "_reported",
        "_sock",
        "_texts",
        "_tls",
        "_wants_flush",
        "_writer",
        "_ws",
        "address",
        "number",
    )

    def __init__(
        self,
        number: int,
        driver: Driver,
        sock: socket.socket | Wire,
        ws: WebSocket,
        tls: TlsPipe | None = None,
        *,
        guest: str | None = None,
    ) -> None:
        """`guest` is the address of whom a server lets in; the machine hears of a guest only once it has knocked."""
        self.number = number
        self.address = guest or ""
        self._driver = driver
        self._read_size = READ_SIZE
        self._sock: socket.socket | Wire | None = sock
        self._ws = ws
        self._tls = tls
        self._out: list[bytes | memoryview] = []
        self._texts: list[bytes] = []  # messages that have not been framed
        self._owed = b""  # the latest reply that waits until the socket can be written
        self._wants_flush = False
        self._closing = False
        self._reported = guest is not None
        self._knocked = False
        self._linger: Alarm | None = None
        self._writer: Watch | None = None
        hello = b"" if tls is None else tls.start()
        self._reader: Watch | None = driver.backend.watch_readable(sock, self._on_readable)
        self._put(hello)

    @property
    def has_knocked(self) -> bool:
        """Server: whether a request came (or nothing is left to come)."""
        return self._knocked or self._sock is None

    @property
    def queued_bytes(self) -> int:
        """What waits to be written; messages that have no frame yet without it."""
        return sum(map(len, self._out)) + sum(map(len, self._texts))

    # --- what the driver asks ---

    def open(self, early: bytes = b"") -> None:
        """Client: ask for the upgrade. `LinkUp` or `LinkDown` follows.

        `early` is what came from the socket before it was ours, behind a proxy's answer.
        """
        self.write(self._ws.open())
        self.flush()
        if early:
            self._read(early)

    def accept(self) -> None:
        """Server: grant the upgrade that was asked for. `LinkUp` is fed before this returns."""
        answer, events = self._ws.accept()
        self.write(answer)
        self._driver.feed(LinkUp(self.number))
        self._take(events)

    def respond(self, status: int, reason: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> None:
        """Server: answer with plain HTTP instead, and close."""
        if self._sock is None:
            return
        self.write(self._ws.respond(status, reason, headers=headers, body=body))
        self._closing = self._reported = True
        self._linger_on()
        self._say_goodbye()

    def send(self, payload: bytes) -> None:
        """Write one text message."""
        if self._sock is None:
            return
        self._texts.append(payload)
        if not self._wants_flush and self._writer is None:  # `_want_flush`, without the call
            self._wants_flush = True
            self._driver.want_flush(self)

    def ping(self) -> None:
        """Write a ping."""
        self.write(self._ws.ping())

    def write(self, data: bytes) -> None:
        """Write bytes, with whatever else is to be written in this pass of the loop."""
        if not data or self._sock is None:
            return
        self._frame_texts()
        self._put(data if self._tls is None else self._tls.encrypt(data))

    def post(self, frame: bytes) -> None:
        """Write a frame that was made for many: `write` without its detours, a thousand times a broadcast."""
        if self._tls is not None or self._texts or self._sock is None:
            self.write(frame)
            return
        self._out.append(frame)
        if not self._wants_flush and self._writer is None:
            self._wants_flush = True
            self._driver.want_flush(self)

    def close(self, code: int, reason: str, *, abort: bool) -> None:
        """Close. What was written before is still delivered, unless the link is aborted."""
        if self._sock is None or (self._closing and not abort):
            return
        self._closing = True
        if abort or self._ws.state is not State.OPEN:
            self._shut(1006, "")
            return
        self._frame_texts()  # while frames can still be made
        self.write(self._ws.close(code, reason))
        self._linger_on()

    # --- writing ---

    def _put(self, data: bytes) -> None:
        if not data:
            return
        self._out.append(data)
        self._want_flush()

    def _want_flush(self) -> None:
        if self._writer is None and not self._wants_flush:
            self._wants_flush = True
            self._driver.want_flush(self)

    def _frame_texts(self) -> None:
        """Frame the messages of this pass, all together; whatever else is to be written comes behind them."""
        if self._texts:
            data = self._ws.frames(self._texts)
            self._texts.clear()
            if data:
                self._out.append(data if self._tls is None else self._tls.encrypt(data))

    def flush(self) -> None:
        """Hand the kernel what was written."""
        self._wants_flush = False
        if self._texts:
            self._frame_texts()
        if self._writer is None and not self._push() and self._sock is not None:
            self._writer = self._driver.backend.watch_writable(self._sock, self._on_writable)
            self._driver.feed(LinkBlocked(self.number, self.queued_bytes))

    def _push(self) -> bool:
        """Hand the kernel what it takes; says whether that was all."""
        sock, out, at = self._sock, self._out, 0
        if sock is None or not out:
            return True
        if len(out) > 1 and sum(map(len, out)) <= WRITE_SIZE:
            out[:] = [b"".join(out)]
        if len(out) == 1:
            return self._push_one(sock, out[0])
        try:
            while at < len(out):
                # Join what is small, but never all of what is large: what the kernel leaves would be copied again
                # and again.
                data, end = out[at], at + 1
                size = len(data)
                while end < len(out) and size + len(out[end]) <= WRITE_SIZE:
                    size += len(out[end])
                    end += 1
                if end > at + 1:
                    data = b"".join(out[at:end])
                sent = sock.send(data)
                self._driver.bytes_out += sent
                at = end
                if sent < size:
                    at -= 1
                    out[at] = memoryview(data)[sent:]
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._shut(1006, _describe(error))
            return True
        del out[:at]
        return not out

    def _push_one(self, sock: socket.socket | Wire, data: bytes | memoryview) -> bool:
        # As nearly always, and a thousand times a broadcast.
        try:
            sent = sock.send(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._shut(1006, _describe(error))
            return True
        self._driver.bytes_out += sent
        if sent == len(data):
            self._out.clear()
            return True
        self._out[0] = memoryview(data)[sent:]
        return False

    def _on_writable(self) -> None:
        if self._sock is None or self._writer is None:
            return
        self._frame_texts()
        if not self._push() or self._sock is None:
            return
        if self._owed:
            owed, self._owed = self._owed, b""
            self.write(owed)
            return
        self._writer.cancel()
        self._writer = None
        if not self._reported:
            self._driver.feed(LinkDrained(self.number))
        if self._reader is None:
            self._shut(1006, "")

    # --- reading ---

    def _on_readable(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(self._read_size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._shut(1006, _describe(error))
            return
        self._driver.bytes_in += len(data)
        if data and self._tls is None:
            self._take(self._ws.receive(data))
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        ended = not data
        if self._tls is not None:
            try:
                data, answer, ended = self._tls.decrypt(data)
            except ssl.SSLError as error:
                self._put(self._tls.pending())
                self.flush()
                self._shut(1006, f"TLS: {getattr(error, 'verify_message', None) or error.reason or 'failed'}")
                return
            self._put(answer)
        if data:
            self._take(self._ws.receive(data))
        if ended:
            self._take(self._ws.receive(b""))
            self._shut(1006, "the connection was lost")

    def _take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Messages(payloads):
                    if self.address:
                        self._read_size = SHORT_READ_SIZE if len(payloads[0]) < SMALL else READ_SIZE
                    if not self._closing:
                        self._driver.feed(Received(self.number, payloads))
                case ControlFrame():
                    if not self._closing:
                        self._driver.feed(Heard(self.number))
                case Reply(data):
                    self._reply(data)
                case Opened():
                    self._driver.feed(LinkUp(self.number))
                case Requested() | PlainRequest():
                    self._knocked = True
                    self._reported = isinstance(event, PlainRequest)
                    self._driver.knocked(self, event)
                case Refused(status, reason):
                    self._report(status, reason)
                    self._shut(status, reason)
                case Closed(code, reason):
                    self._report(code, reason)
                    self._closing = True
                    if code in _OUR_VERDICTS:
                        self._linger_on()
                    self._say_goodbye()
                case _:
                    pass

    def _reply(self, data: bytes) -> None:
        # Whoever pings without end and reads nothing must not fill our memory with pongs. To answer only the latest
        # of several pings is enough (RFC 6455, section 5.5.3).
        if self._writer is None:
            self.write(data)
        else:
            self._owed = data

    # --- ending ---

    def _say_goodbye(self) -> None:
        """Nothing more is to be written: let what was written out, then close."""
        self.flush()
        if self._sock is None:
            return
        if self._linger is not None and self._writer is None:
            # The other end still talks. To close on it now would make the kernel reset the connection, and
            # throw away our last words; so say that we are done, and read on until it is too.
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._shut(1006, "")
        elif self._writer is None:
            self._shut(1006, "")
        else:
            self._stop_reading()
            self._linger_on()

    def _linger_on(self) -> None:
        if self._linger is None:
            self._linger = self._driver.backend.alarm(self._on_lingered)
            self._linger.set(self._driver.backend.time() + LINGER)

    def _on_lingered(self) -> None:
        self._shut(1006, "the other end did not close in time")

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def _report(self, code: int, reason: str) -> None:
        if not self._reported:
            self._reported = True
            self._driver.feed(LinkDown(self.number, code, reason))

    def _shut(self, code: int, reason: str) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._closing = True
        self._stop_reading()
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        if self._linger is not None:
            self._linger.set(None)
            self._linger = None
        self._out.clear()
        self._texts.clear()
        self._owed = b""
        sock.close()
        self._report(code, reason)
        self._driver.gone(self)


def _describe(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
