"""A WebSocket as a pure byte layer (RFC 6455), for both roles: bytes in, messages and bytes to write out.

    ws = WebSocket.client("rms.metered.ca", "/v1?key=…", random=MaskKeys(os.urandom))
    stream.send(ws.open())
    for event in ws.receive(stream.receive()): ...
    stream.send(ws.frame(b'{"type": "ping"}'))

Theory of operation. The handshake belongs to `upgrade`. After it, a stream is almost nothing but *plain* frames:
unfragmented text, masked as it should be, without extension bits. Those are peeled off here, in a tight loop.
Every other frame (control, binary, fragments, whatever breaks a rule) goes to a wsproto connection, which
judges it. This layer reads the header of such a frame itself, so it hands over that frame and not a byte more;
once it is dealt with, and no message is left in fragments, plain frames are peeled again. The wsproto
connection is made when it is needed and dropped after, so that a quiet WebSocket is small.

What is said here depends on the bytes that came, never on how the network cut them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from struct import Struct

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from metered_proto.errors import LocalProtocolError
from metered_proto.masking import Masker, MaskKeys, RandomBytes, mask, xor
from metered_proto.upgrade import ClientUpgrade, ServerUpgrade
from metered_proto.websocket_events import (
    Closed,
    Event,
    Heard,
    Messages,
    Opened,
    PlainRequest,
    Refused,
    Reply,
    Requested,
)

__all__ = [
    "TRANSITIONS",
    "Closed",
    "Event",
    "Heard",
    "MaskKeys",
    "Messages",
    "Opened",
    "PlainRequest",
    "Refused",
    "Reply",
    "Requested",
    "State",
    "WebSocket",
    "server_text_frame",
]

MAX_MESSAGE_SIZE = 1 << 20
MAX_BODY = 32 * 1024


class State(Enum):
    """Where a connection is in its life (RFC 6455 sections 4 and 7)."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


TRANSITIONS: dict[tuple[State, str], State] = {
    (State.CONNECTING, "handshake done"): State.OPEN,
    (State.CONNECTING, "handshake failed"): State.CLOSED,
    (State.CONNECTING, "end of stream"): State.CLOSED,
    (State.OPEN, "close frame sent"): State.CLOSING,
    (State.OPEN, "close frame received"): State.CLOSED,  # answered with one of ours
    (State.OPEN, "rule broken"): State.CLOSED,  # and said so in a close frame
    (State.OPEN, "end of stream"): State.CLOSED,
    (State.CLOSING, "close frame received"): State.CLOSED,
    (State.CLOSING, "rule broken"): State.CLOSED,
    (State.CLOSING, "end of stream"): State.CLOSED,
}

_CONNECTING, _OPEN, _CLOSED = State.CONNECTING, State.OPEN, State.CLOSED

# First bytes of a frame, section 5.2: FIN and an opcode.
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A

# Codes that an endpoint may put on the wire: section 7.4 and its registry, as far as wsproto knows it.
_CODES = frozenset({*range(1000, 1004), *range(1007, 1014), *range(3000, 5000)})


class WebSocket:
    """One connection, from the first byte of its handshake to its last.

    `receive` never raises for what the other end sends. Everything else raises `LocalProtocolError` when called
    in the handshake where it has no meaning; on a connection that is closing or closed, which may not have been
    noticed yet, it says nothing and returns b"".
    """

    __slots__ = ("_buffer", "_client", "_limit", "_mask", "_need", "_odd", "_random", "_state", "_upgrade")

    def __init__(
        self, upgrade: ClientUpgrade | ServerUpgrade, random: RandomBytes | None, max_message_size: int, mask: Masker
    ) -> None:
        self._upgrade: ClientUpgrade | ServerUpgrade | None = upgrade
        self._client = random is not None
        self._random = random
        self._limit = max_message_size
        self._mask = mask
        self._state = _CONNECTING
        self._odd: _Odd | None = None
        self._buffer: bytearray | None = None
        """The start of a frame that is not all there. Nothing can be said before it has `_need` bytes."""
        self._need = 0

    @classmethod
    def client(
        cls,
        host: str,
        target: str,
        *,
        random: RandomBytes,
        origin: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        max_message_size: int = MAX_MESSAGE_SIZE,
        mask: Masker = mask,
    ) -> WebSocket:
        """The client's end. `host` is the `Host` header, `target` path and query, credential and all.

        `random` gives the handshake's nonce and a mask key for each frame; a `MaskKeys`, shared by all clients of
        a process, makes that cheap. Raises `ValueError` for what cannot stand in an HTTP request.
        """
        upgrade = ClientUpgrade(host, target, random=random, origin=origin, headers=headers)
        return cls(upgrade, random, max_message_size, mask)

    @classmethod
    def server(
        cls, *, max_message_size: int = MAX_MESSAGE_SIZE, max_body: int = MAX_BODY, mask: Masker = mask
    ) -> WebSocket:
        """The server's end. `max_body` bounds the body of a request that turns out to be plain HTTP."""
        return cls(ServerUpgrade(max_body=max_body), None, max_message_size, mask)

    @property
    def state(self) -> State:
        """Where the connection is in its life."""
        return self._state

    @property
    def closed(self) -> bool:
        """Whether it is over: nothing more will be read, nothing more is to be written, the stream can go."""
        return self._state is _CLOSED

    def __repr__(self) -> str:
        return f"<WebSocket {'client' if self._client else 'server'} {self._state.value}>"

    # The handshake

    def open(self) -> bytes:
        """Client: the upgrade request."""
        if not isinstance(self._upgrade, ClientUpgrade):
            raise LocalProtocolError("only a client that has not opened yet can open")
        return self._upgrade.open()

    def accept(self) -> tuple[bytes, list[Event]]:
        """Server, after `Requested`: the response that opens the WebSocket, and what followed the request already.

        The events are those of bytes that the client sent ahead, so there are usually none.
        """
        if self._state is _CLOSED:
            return b"", []
        upgrade = self._waiting()
        answer = upgrade.accept()
        self._upgrade = None
        self._go("handshake done")
        return answer, self._read(bytes(upgrade.trailing))

    def respond(
        self, status: int, reason: str = "", *, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> bytes:
        """Server, after `PlainRequest`, or to refuse a `Requested`: a whole HTTP response.

        It is the last thing to be written: close the stream after it. `reason` defaults to the status's own
        phrase; `Content-Length` and `Connection: close` are added. Raises `ValueError` for a status outside 200
        to 599 and for text that cannot stand in a header.
        """
        if self._state is _CLOSED:
            return b""
        answer = self._waiting().respond(status, reason, headers, body)
        self._go("handshake failed")
        return answer

    # Sending

    def frame(self, payload: bytes) -> bytes:
        """One text message in one frame. `payload` is UTF-8."""
        if self._state is not _OPEN:
            return self._unsaid()
        if self._random is None:
            return server_text_frame(payload)
        key = self._random(4)
        return _header(_TEXT, 0x80, len(payload)) + key + self._mask(payload, key)

    def frames(self, payloads: Sequence[bytes]) -> bytes:
        """Text messages, each in a frame of its own: the same bytes as from `frame`, but for the keys.

        Without a compiled masker, small ones are masked many in one stroke, which halves what they cost. Large ones
        gain nothing by it, and numbers of a megabyte would cost more than they save.
        """
        if len(payloads) == 1:
            return self.frame(payloads[0])
        if self._state is not _OPEN:
            return self._unsaid()
        if self._random is None:
            return b"".join(map(server_text_frame, payloads))
        if self._mask is not mask or max(map(len, payloads), default=0) > _SMALL:
            return self._mask_each(payloads, self._random)
        if len(payloads) > _STROKE:
            rows = range(0, len(payloads), _STROKE)
            return b"".join([self._mask_together(payloads[row : row + _STROKE], self._random) for row in rows])
        return self._mask_together(payloads, self._random)

    def _mask_each(self, payloads: Sequence[bytes], random: RandomBytes) -> bytes:
        keys, mask = _KEY.iter_unpack(random(4 * len(payloads))), self._mask
        frames: list[bytes] = []
        for payload, (key,) in zip(payloads, keys, strict=True):
            size = len(payload)
            header = _SMALL_TEXT[size] if size <= _SMALL else _header(_TEXT, 0x80, size)
            frames += (header, key, mask(payload, key))
        return b"".join(frames)

    def _mask_together(self, payloads: Sequence[bytes], random: RandomBytes) -> bytes:
        keys = random(4 * len(payloads))
        plain: list[bytes] = []
        pads: list[bytes] = []
        for at, payload in enumerate(payloads):
            key = keys[4 * at : 4 * at + 4]
            size = len(payload)
            plain += (_SMALL_TEXT[size], key, payload)
            pads += (_SHORT_GAP if size < 126 else _LONG_GAP, (key * ((size >> 2) + 1))[:size])
        return xor(b"".join(plain), b"".join(pads))

    def ping(self, payload: bytes = b"") -> bytes:
        """A ping; its pong comes back as `Heard`. Raises `ValueError` for over 125 bytes (section 5.5)."""
        if len(payload) > 125:
            raise ValueError("a ping carries at most 125 bytes")
        if self._state is not _OPEN:
            return self._unsaid()
        return self._control(_PING, payload)

    def close(self, code: int, reason: str = "") -> bytes:
        """Start the closing handshake; messages still come until the other end answers with its `Closed`.

        `reason` is cut to what a close frame holds, 123 bytes of UTF-8. A connection that is not open yet is over
        at once: nothing is said, and nothing more will come. Raises `ValueError` for a code that may not go on
        the wire (section 7.4).
        """
        if code not in _CODES:
            raise ValueError(f"{code} is no code that a close frame can carry")
        if self._state is _CONNECTING:
            self._go("handshake failed")
        if self._state is not _OPEN:
            return b""
        self._go("close frame sent")
        return self._control(_CLOSE, _close_payload(code, reason))

    # Receiving

    def receive(self, data: bytes) -> list[Event]:
        """Take in what was read from the stream, b"" for its end; say what it means.

        In a handshake that is what the events say. After it there is at most one each of `Opened`, `Reply`,
        `Heard`, `Messages` and `Closed`, in this order. After `Closed` or `Refused` nothing comes.
        """
        if self._state is _CLOSED:
            return []
        if self._upgrade is not None:
            return self._shake_hands(self._upgrade, data)
        if not data:
            self._go("end of stream")
            return [Closed(1006, "the connection was lost")]
        return self._read(data)

    def _shake_hands(self, upgrade: ClientUpgrade | ServerUpgrade, data: bytes) -> list[Event]:
        if isinstance(upgrade, ServerUpgrade):
            if not data:
                self._go("end of stream")
                return [Closed(1006, "the connection was lost during the handshake")]
            events = upgrade.receive(data)
            if events and isinstance(events[-1], Closed):
                self._go("handshake failed")
            return events
        outcome = upgrade.receive(data)
        if outcome is None:
            return []
        if not isinstance(outcome, Opened):
            self._go("handshake failed" if data else "end of stream")
            return [outcome]
        self._upgrade = None
        self._go("handshake done")
        return [outcome, *self._read(upgrade.trailing)]

    def _read(self, data: bytes) -> list[Event]:
        """Take in bytes of an open connection."""
        if self._buffer is not None:
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
            self._buffer = None
        batch = _Batch()
        try:
            position = 0
            if self._odd is None:
                position = self._peel(data, position, batch.payloads)
                if 0 < position == len(data):  # as nearly always
                    return [Messages(batch.payloads)]
            position = self._read_frames(data, position, batch)
        except _EndError as end:
            self._end(end.happening, end.code, end.reason, batch)
        except UnicodeDecodeError:
            self._end("rule broken", 1007, _NOT_UTF8, batch)
        else:
            if position < len(data):
                self._buffer = bytearray(data[position:])
            if self._odd is not None and self._odd.at_rest:
                self._odd = None
        return batch.events()

    def _read_frames(self, data: bytes, position: int, batch: _Batch) -> int:
        """Read frames as far as they go. What is left from the position returned on waits for `_need` bytes."""
        end = len(data)
        expected_mask = 0x00 if self._client else 0x80
        while True:
            odd = self._odd
            at_rest = odd is None or odd.at_rest
            if at_rest:
                position = self._peel(data, position, batch.payloads)
                if position == end:
                    return position
            elif odd is not None and odd.left:
                piece = data[position : position + odd.left]
                position += len(piece)
                odd.left -= len(piece)
                self._judge(odd, piece, batch)
                if odd.left:
                    return position
                continue

            # What stands at `position` is no plain frame, or not a whole one.
            start, size = _parse_header(data, position)
            if end < start:
                self._need = start - position
                return position
            if (
                at_rest
                and data[position] == _TEXT
                and data[position + 1] & 0x80 == expected_mask
                and size <= self._limit
                and end < start + size
            ):
                self._need = start + size - position
                return position
            if odd is None:
                odd = self._odd = _Odd(self._client)
            odd.left = size
            # wsproto sees the header first: a broken rule counts for more than the size.
            self._judge(odd, data[position:start], batch)
            odd.check_size(data[position], size, self._limit)
            position = start

    def _peel(self, data: bytes, position: int, payloads: list[str | bytes]) -> int:
        """Take the plain frames off; return where they end."""
        if self._client:
            return _peel_unmasked(data, position, self._limit, payloads)
        return _peel_masked(data, position, self._limit, payloads, self._mask)

    def _judge(self, odd: _Odd, piece: bytes, batch: _Batch) -> None:
        """Hand a piece of one frame to wsproto, and carry out what it says."""
        odd.connection.receive_data(piece)
        for event in odd.connection.events():
            if isinstance(event, TextMessage | BytesMessage):
                payload = odd.join(event)
                if payload is not None:
                    batch.payloads.append(payload)
            elif isinstance(event, CloseConnection):
                # A broken rule looks the same, but then wsproto's state has not changed.
                if odd.connection.state is ConnectionState.REMOTE_CLOSING:
                    raise _EndError("close frame received", int(event.code), event.reason or "")
                # What wsproto says about text tells where in the piece it was handed the fault lies.
                reason = _NOT_UTF8 if event.code == 1007 else event.reason or ""
                raise _EndError("rule broken", int(event.code), reason)
            else:
                batch.heard = True
                if isinstance(event, Ping):
                    batch.reply += self._control(_PONG, bytes(event.payload))

    def _end(self, happening: str, code: int, reason: str, batch: _Batch) -> None:
        if self._state is _OPEN:
            # Section 5.5.1: who has not sent a close frame yet answers with one, usually with the same code.
            batch.reply += self._control(_CLOSE, b"" if code == 1005 else _close_payload(code, reason))
        self._go(happening)
        batch.closed = Closed(code, reason)

    # Details

    def _go(self, happening: str) -> None:
        self._state = TRANSITIONS[self._state, happening]
        if self._state is _CLOSED:
            self._upgrade = self._odd = self._buffer = None

    def _waiting(self) -> ServerUpgrade:
        upgrade = self._upgrade
        if not isinstance(upgrade, ServerUpgrade) or upgrade.asked is None:
            raise LocalProtocolError("there is no request to answer")
        return upgrade

    def _unsaid(self) -> bytes:
        if self._state is _CONNECTING:
            raise LocalProtocolError("nothing can be sent before the WebSocket is open")
        return b""

    def _control(self, first: int, payload: bytes) -> bytes:
        if self._random is None:
            return _header(first, 0, len(payload)) + payload
        key = self._random(4)
        return _header(first, 0x80, len(payload)) + key + mask(payload, key)


def server_text_frame(payload: bytes) -> bytes:
    """One text message as a server frames it: the same bytes for every client, so a broadcast is framed once."""
    return _header(_TEXT, 0, len(payload)) + payload


_NOT_UTF8 = "the text is not UTF-8"


class _EndError(Exception):
    """The connection ends here: a close frame came, or a rule was broken that fails it (section 7.1.7)."""

    def __init__(self, happening: str, code: int, reason: str) -> None:
        super().__init__()
        self.happening = happening
        self.code = code
        self.reason = reason


class _Batch:
    """What one read brought."""

    __slots__ = ("closed", "heard", "payloads", "reply")

    def __init__(self) -> None:
        self.payloads: list[str | bytes] = []
        self.reply = bytearray()
        self.heard = False
        self.closed: Closed | None = None

    def events(self) -> list[Event]:
        events: list[Event] = []
        if self.reply:
            events.append(Reply(bytes(self.reply)))
        if self.heard:
            events.append(Heard())
        if self.payloads:
            events.append(Messages(self.payloads))
        if self.closed is not None:
            events.append(self.closed)
        return events


class _Odd:
    """The frames that are not plain: a wsproto connection, and the message whose fragments came so far."""

    __slots__ = ("_message", "_size", "connection", "left")

    def __init__(self, client: bool) -> None:
        self.connection = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self.left = 0
        """Bytes that the frame in progress still lacks."""
        self._message: bytearray | None = None
        self._size = 0

    @property
    def at_rest(self) -> bool:
        """Between two messages, where a plain frame may stand."""
        return not self.left and self._message is None

    def check_size(self, first: int, size: int, limit: int) -> None:
        """Hold the frame that begins to the limit, together with the fragments before it."""
        if first & 0x08:
            return  # a control frame, and wsproto has seen that it is a small one
        self._size += size
        if self._size > limit:
            raise _EndError("rule broken", 1009, f"a message may have {limit} bytes")

    def join(self, event: TextMessage | BytesMessage) -> str | bytes | None:
        """The message that `event` completes, or None. wsproto gives a part for each piece it was fed.

        Parts are kept as one run of bytes: a list of them would let a remote buy much memory with few bytes.
        """
        part = event.data
        if event.message_finished:
            self._size = 0
        if self._message is None:
            if event.message_finished:
                return part if isinstance(part, str) else bytes(part)
            self._message = bytearray()
        self._message += part.encode() if isinstance(part, str) else part
        if not event.message_finished:
            return None
        whole, self._message = bytes(self._message), None
        return whole.decode() if isinstance(part, str) else whole


def _peel_unmasked(data: bytes, position: int, limit: int, payloads: list[str | bytes]) -> int:
    """Append the plain frames of a server from `position` on; return where they end."""
    end = len(data)
    append, unpack, text = payloads.append, _START, _TEXT
    while position + 4 <= end:
        first, size, long = unpack(data, position)
        if first != text:
            break
        if size < 126:
            start = position + 2
        elif size == 126:  # a reading and its envelope: too common for a call
            start, size = position + 4, long
            if size < 126:
                break
        else:
            start, size = _parse_long(data, position, size)
        stop = start + size
        if stop > end or size > limit:
            break
        append(data[start:stop].decode())
        position = stop
    return position


def _peel_masked(data: bytes, position: int, limit: int, payloads: list[str | bytes], mask: Masker) -> int:
    """Append the plain frames of a client from `position` on; return where they end."""
    end = len(data)
    while position + 6 <= end and data[position] == _TEXT:
        size = data[position + 1] - 0x80
        start = position + 6
        if size == 126:
            size = data[position + 2] << 8 | data[position + 3]
            start += 2
            if size < 126:
                break
        elif size > 125:
            start, size = _parse_long(data, position, size)
            start += 4
        stop = start + size
        if size < 0 or stop > end or size > limit:
            break
        payloads.append(mask(data[start:stop], data[start - 4 : start]).decode())
        position = stop
    return position


_START = Struct(">BBH").unpack_from
"""The two bytes that every frame has, and the two that are the length of many, or else the start of what follows."""

_KEY = Struct("4s")

_NOT_PLAIN = 1 << 64


def _parse_long(data: bytes, position: int, size: int) -> tuple[int, int]:
    """Where a payload length of 8 bytes ends, and the length: a huge one if it is not all there, or not minimal."""
    if size == 127:
        length = int.from_bytes(data[position + 2 : position + 10])
        return position + 10, length if length > 0xFFFF else _NOT_PLAIN
    return position + 2, _NOT_PLAIN  # masked where it should not be


def _parse_header(data: bytes, position: int) -> tuple[int, int]:
    """Where the header of the frame at `position` ends, as far as can be told, and its payload length if it is all
    there (section 5.2)."""
    if len(data) < position + 2:
        return position + 2, 0
    second = data[position + 1]
    size = second & 0x7F
    extended = position + 2
    start = extended + (2 if size == 126 else 8 if size == 127 else 0)
    if size > 125:
        size = int.from_bytes(data[extended:start])
    return start + (4 if second & 0x80 else 0), size


_SMALL = 1024
"""Payloads up to this many bytes are worth masking together, ..."""

_STROKE = 256
"""... up to this many at once."""

_SHORT_GAP, _LONG_GAP = bytes(2 + 4), bytes(4 + 4)
"""Pads that leave a header, with and without an extended length, and the key behind it as they are."""


def _header(first: int, masked: int, size: int) -> bytes:
    """The header of a frame up to its mask key (section 5.2); `masked` is 0x80 or 0."""
    if size < 126:
        return bytes((first, masked | size))
    if size < 1 << 16:
        return bytes((first, masked | 126)) + size.to_bytes(2)
    return bytes((first, masked | 127)) + size.to_bytes(8)


_SMALL_TEXT = [_header(_TEXT, 0x80, size) for size in range(_SMALL + 1)]
"""By size, the headers of small masked messages, ready-made."""


def _close_payload(code: int, reason: str) -> bytes:
    text = reason.encode(errors="replace")[:123].decode(errors="ignore")
    return code.to_bytes(2) + text.encode()
