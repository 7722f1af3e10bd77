"""A network camera whose pictures tell the time, so that whoever sees one knows how old it is.

It speaks as much RTSP (RFC 2326) as a player needs, with RTP in the same TCP connection, and H.264 in it. Each visitor
gets a stream of its own that begins with a key frame. It can be killed and come back at the same port.
"""

from __future__ import annotations

import contextlib
import fractions
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, Self

import av

from testbed.clips import BITS, number_of, picture

RATE: Final = 30
CLOCK: Final = 90_000
PAYLOAD: Final = 1_200
"""Bytes of a packet, at most."""

TYPE: Final = 96
FU_A: Final = 28


def age(frame: av.VideoFrame, at: float) -> float:
    """How many seconds old a picture was at a moment in Unix time. Half an hour is told from none."""
    behind = (round(at * RATE) - number_of(frame)) % (1 << BITS)
    return (behind - (1 << BITS) if behind >= 1 << (BITS - 1) else behind) / RATE


class ClockCamera:
    """Serves in threads of its own, from the `with` on. `size` is that of its pictures."""

    def __init__(self, size: tuple[int, int] = (320, 240)) -> None:
        self._size = size
        self._port = 0
        self._socket: socket.socket | None = None
        self._visitors: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.visits = 0
        """How often somebody connected."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Where it is, the same after it was away."""
        return f"rtsp://127.0.0.1:{self._port}/clock"

    def start(self) -> None:
        """Be there (again)."""
        self._socket = socket.create_server(("127.0.0.1", self._port))
        self._port = self._socket.getsockname()[1]
        self._thread(self._accept, self._socket)

    def kill(self) -> None:
        """Be gone, without a word to anybody."""
        server, self._socket = self._socket, None
        if server is None:
            return
        for each in (server, *self._visitors):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it
            each.close()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def _thread(self, work: Any, *words: object) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                visitor, _ = server.accept()
            except OSError:
                return
            self.visits += 1
            self._visitors.add(visitor)
            self._thread(self._serve, visitor)

    def _serve(self, visitor: socket.socket) -> None:
        visit = _Visit(visitor, self.url, self._size)
        with contextlib.suppress(OSError, ValueError):
            visit.run()
        self._visitors.discard(visitor)
        visitor.close()


class _Visit:
    """One player's connection."""

    def __init__(self, visitor: socket.socket, url: str, size: tuple[int, int]) -> None:
        self._socket = visitor
        self._url = url
        self._size = size
        self._received = b""
        self._playing = False
        self._sequence = 0

    def run(self) -> None:
        """Answer, and send pictures once that was asked for, until the player goes."""
        frames = self._frames()
        due = time.time()
        while True:
            wait = max(0.0, due - time.time()) if self._playing else None
            if select.select([self._socket], [], [], wait)[0]:
                data = self._socket.recv(1 << 16)
                if not data or not self._answer_all(data):
                    return
            if self._playing and time.time() >= due:
                self._send(*next(frames))
                due = max(due + 1 / RATE, time.time() - 1 / RATE)

    # --- RTSP ---

    def _answer_all(self, data: bytes) -> bool:
        self._received += data
        while self._received:
            if self._received[:1] == b"$":  # RFC 2326, section 10.12: a report of the player's
                if len(self._received) < 4:
                    return True
                length = 4 + int.from_bytes(self._received[2:4], "big")
                if len(self._received) < length:
                    return True
                self._received = self._received[length:]
                continue
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return True
            self._received = rest
            if not self._answer(head.decode()):
                return False
        return True

    def _answer(self, request: str) -> bool:
        first, *lines = request.split("\r\n")
        method = first.partition(" ")[0]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        more, body, status = ["Session: 1"], "", "200 OK"
        match method:
            case "OPTIONS":
                more = ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"]
            case "DESCRIBE":
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=clock\r\nt=0 0\r\na=control:*\r\n"
                    f"m=video 0 RTP/AVP {TYPE}\r\n"
                    f"a=rtpmap:{TYPE} H264/{CLOCK}\r\na=fmtp:{TYPE} packetization-mode=1\r\na=control:track\r\n"
                )
                more = ["Content-Type: application/sdp", f"Content-Base: {self._url}/"]
            case "SETUP" if "TCP" in headers.get("transport", ""):
                more.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
            case "SETUP":
                status = "461 Unsupported Transport"
            case "PLAY":
                self._playing = True
            case "TEARDOWN" | "GET_PARAMETER" | "SET_PARAMETER":
                pass
            case _:
                status = "501 Not Implemented"
        head = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}", *more, f"Content-Length: {len(body)}"]
        self._socket.sendall("\r\n".join([*head, "", body]).encode())
        return method != "TEARDOWN"

    # --- RTP ---

    def _frames(self) -> Iterator[tuple[bytes, int]]:
        """A picture of each moment at which one is asked for, encoded, and its timestamp."""
        coder = av.CodecContext.create("libx264", "w")
        coder.width, coder.height = self._size
        coder.pix_fmt = "yuv420p"
        coder.time_base = fractions.Fraction(1, CLOCK)
        coder.gop_size = RATE
        coder.options = {"preset": "ultrafast", "tune": "zerolatency"}
        began = time.time()
        while True:
            now = time.time()
            frame = picture(round(now * RATE) % (1 << BITS), self._size)
            frame.pts, frame.time_base = round((now - began) * CLOCK), coder.time_base
            for packet in coder.encode(frame):
                yield bytes(packet), frame.pts

    def _send(self, frame: bytes, timestamp: int) -> None:
        units = [unit.rstrip(b"\0") for unit in frame.split(b"\0\0\1")]
        payloads = [payload for unit in units if unit for payload in _payloads(unit)]
        for payload in payloads:
            marker = 0x80 if payload is payloads[-1] else 0
            self._sequence = (self._sequence + 1) % (1 << 16)
            head = struct.pack("!BBHII", 0x80, marker | TYPE, self._sequence, timestamp % (1 << 32), 1)
            self._socket.sendall(b"$\0" + (len(head) + len(payload)).to_bytes(2, "big") + head + payload)


def _payloads(unit: bytes) -> list[bytes]:
    """One NAL unit in as many packets as it needs (RFC 6184, sections 5.6 and 5.8)."""
    if len(unit) <= PAYLOAD:
        return [unit]
    parts = [unit[at : at + PAYLOAD] for at in range(1, len(unit), PAYLOAD)]
    starts, ends = [0x80] + [0] * (len(parts) - 1), [0] * (len(parts) - 1) + [0x40]
    return [
        bytes([unit[0] & 0xE0 | FU_A, start | end | unit[0] & 0x1F]) + part
        for part, start, end in zip(parts, starts, ends, strict=True)
    ]
