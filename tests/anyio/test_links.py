"""One link over a pair of sockets: what is reported to whoever drives it, how writing waits, and how it ends."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from adapter_kit import nothing_left, until

from metered_anyio import sockets
from metered_anyio.backend import current_backend
from metered_anyio.sockets import Link
from metered_proto.facts import Fact, Heard, LinkBlocked, LinkDown, LinkDrained, LinkUp, Received
from metered_proto.websocket import WebSocket
from metered_proto.websocket_events import Messages, PlainRequest, Reply, Requested

pytestmark = pytest.mark.anyio


class Driver:
    """Writes down what a link reports, and accepts whoever knocks."""

    def __init__(self) -> None:
        self.backend = current_backend()
        self.facts: list[Fact] = []
        self.over: list[Link] = []
        self.requests: list[Any] = []
        self.bytes_in = self.bytes_out = 0
        self.answer: Callable[[Link], object] = lambda link: link.accept()

    def feed(self, fact: Fact) -> None:
        self.facts.append(fact)

    def want_flush(self, link: Link) -> None:
        self.backend.call_soon(link.flush)

    def knocked(self, link: Link, request: Requested | PlainRequest) -> None:
        self.requests.append(request)
        self.answer(link)

    def gone(self, link: Link) -> None:
        self.over.append(link)


class FarEnd:
    """The client at the other end: a socket that reads only when it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.ws = WebSocket.client("host", "/v1?key=pk", random=os.urandom)
        self.got: list[str | bytes] = []
        self.ended = False
        self.bytes_in = self.bytes_out = 0

    def write(self, data: bytes) -> None:
        self.bytes_out += self.sock.send(data)

    def read(self) -> None:
        """Read what is there."""
        try:
            while not self.ended:
                data = self.sock.recv(65536)
                self.bytes_in += len(data)
                self.ended = not data
                for event in self.ws.receive(data):
                    if isinstance(event, Messages):
                        self.got += event.payloads
                    elif isinstance(event, Reply):
                        self.write(event.data)
        except BlockingIOError:
            pass

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@contextmanager
def connected() -> Iterator[tuple[Driver, Link, FarEnd]]:
    """A link and its far end over TCP, with as little room between them as the kernel allows."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        far.connect(listener.getsockname())
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        near, _ = listener.accept()
    far.setblocking(False)
    near.setblocking(False)
    driver = Driver()
    link = Link(7, driver, near, WebSocket.server(), guest="127.0.0.1")
    try:
        yield driver, link, FarEnd(far)
    finally:
        link.close(1001, "", abort=True)
        far.close()


async def shake_hands(driver: Driver, far: FarEnd) -> None:
    far.write(far.ws.open())
    await until(lambda: driver.facts)
    assert driver.facts == [LinkUp(7)]
    driver.facts.clear()
    await anyio.sleep(0.005)
    far.read()


async def test_from_the_first_byte_to_the_last() -> None:
    async with nothing_left():
        with connected() as (driver, link, far):
            assert link.address == "127.0.0.1"
            assert not link.has_knocked
            await shake_hands(driver, far)
            assert link.has_knocked
            assert driver.requests[0].target == "/v1?key=pk"
            far.write(far.ws.frame(b"one") + far.ws.frame(b"two"))
            far.write(far.ws.ping(b"?"))
            await until(lambda: Heard(7) in driver.facts)
            messages = [payload for fact in driver.facts if isinstance(fact, Received) for payload in fact.payloads]
            assert messages == ["one", "two"]
            link.send(b"three")
            link.ping()
            link.send(b"four")
            await until(lambda: far.read() or far.got == ["three", "four"])
            driver.facts.clear()
            far.write(far.ws.close(1000, "enough"))
            await until(lambda: driver.over)
            assert driver.facts == [Heard(7), LinkDown(7, 1000, "enough")]  # a pong, and the end
            assert driver.over == [link]
            await until(lambda: far.read() or far.ended)
            assert driver.bytes_in == far.bytes_out
            assert driver.bytes_out == far.bytes_in
            # Nothing that is asked of it now does anything.
            link.send(b"five")
            link.ping()
            link.respond(200, "")
            link.close(1000, "", abort=False)
            link.flush()
            assert len(driver.facts) == 2


async def test_writing_waits_and_order_is_kept() -> None:
    with connected() as (driver, link, far):
        await shake_hands(driver, far)
        sent = [f"{number}:".encode() + b"x" * 20_000 for number in range(40)]
        for payload in sent:
            link.send(payload)
        await until(lambda: driver.facts)
        (blocked,) = driver.facts
        assert isinstance(blocked, LinkBlocked)
        assert blocked.link == 7
        assert 400_000 < blocked.queued <= 40 * 20_020
        link.ping()
        link.send(b"last")
        await until(lambda: far.read() or len(far.got) == 41)
        assert far.got == [payload.decode() for payload in sent] + ["last"]
        await until(lambda: len(driver.facts) == 2)
        assert driver.facts[1] == LinkDrained(7)


async def test_the_latest_ping_is_answered_when_there_is_room_again() -> None:
    with connected() as (driver, link, far):
        await shake_hands(driver, far)
        link.send(b"x" * 400_000)
        await until(lambda: driver.facts)
        for number in range(50):
            far.write(far.ws.ping(str(number).encode()))
        await until(lambda: link._owed.endswith(b"\x8a\x0249"))
        tail = b""
        while not tail.endswith(b"\x8a\x0249"):
            try:
                tail = (tail + far.sock.recv(65536))[-100:]
            except BlockingIOError:
                await anyio.sleep(0.001)
        assert driver.facts.count(Heard(7)) > 0


@pytest.mark.parametrize("patience", [0.1, 1.0])
async def test_a_goodbye_behind_what_waits(monkeypatch: pytest.MonkeyPatch, patience: float) -> None:
    """A whole HTTP answer is delivered if it is read in time; if nobody reads, the link is gone all the same."""
    monkeypatch.setattr(sockets, "LINGER", patience)
    with connected() as (driver, link, far):
        driver.answer = lambda link: link.respond(200, "", [("x-test", "1")], b"y" * 300_000)
        far.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: driver.requests)
        assert link.has_knocked
        if patience < 1:
            with anyio.fail_after(1):
                await until(lambda: driver.over)
            assert driver.facts[1:] == []
            return
        answer = b""
        while True:
            try:
                piece = far.sock.recv(65536)
            except BlockingIOError:
                await anyio.sleep(0.001)
                continue
            if not piece:
                break
            answer += piece
        assert answer.endswith(b"y" * 300_000)
        await until(lambda: driver.over)
        # A plain request is no link of the machine's: it never hears of its end.
        assert not any(isinstance(fact, LinkDown) for fact in driver.facts)


async def test_closing_while_blocked_delivers_what_was_written() -> None:
    with connected() as (driver, link, far):
        await shake_hands(driver, far)
        for _ in range(20):
            link.send(b"z" * 20_000)
        link.close(1001, "bye", abort=False)
        link.close(1001, "again", abort=False)
        link.send(b"too late")
        await until(lambda: far.read() or len(far.got) == 20)
        await until(lambda: far.read() or LinkDown(7, 1001, "bye") in driver.facts)
        assert "too late" not in far.got


async def test_an_abort_throws_away_what_waits() -> None:
    with connected() as (driver, link, far):
        await shake_hands(driver, far)
        for _ in range(20):
            link.send(b"z" * 20_000)
        link.close(1001, "bye", abort=False)
        link.close(1008, "now", abort=True)
        assert driver.over == [link]
        assert driver.facts[-1] == LinkDown(7, 1006, "")


@pytest.mark.parametrize("writing", [False, True])
async def test_a_far_end_that_resets(writing: bool) -> None:
    with connected() as (driver, link, far):
        await shake_hands(driver, far)
        if writing:
            link.send(b"x" * 400_000)
            await until(lambda: driver.facts)
        driver.facts.clear()
        far.reset()
        await until(lambda: driver.over)
        assert driver.facts == [LinkDown(7, 1006, "connection reset by peer")]


async def test_a_far_end_that_is_gone_when_we_write() -> None:
    with connected() as (driver, link, far):
        await shake_hands(driver, far)
        link._stop_reading()  # so that only writing can notice
        far.reset()
        await anyio.sleep(0.02)
        link.send(b"hello?")
        await until(lambda: driver.over)
        (down,) = driver.facts
        assert isinstance(down, LinkDown)
        assert (down.code, down.reason) in ((1006, "connection reset by peer"), (1006, "broken pipe"))


async def test_a_far_end_that_never_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "LINGER", 0.1)
    async with nothing_left():
        with connected() as (driver, link, far):
            await shake_hands(driver, far)
            link.close(1001, "bye", abort=False)
            far.write(far.ws.frame(b"I am still talking") + far.ws.ping())
            with anyio.fail_after(1):
                await until(lambda: driver.over)
            assert driver.facts == [LinkDown(7, 1006, "the other end did not close in time")]


async def test_a_broken_rule_is_said_before_the_socket_is_closed() -> None:
    with connected() as (driver, _, far):
        await shake_hands(driver, far)
        far.write(b"\x81\x00" + b"and more of it" * 100)
        await until(lambda: driver.facts)
        (down,) = driver.facts
        assert isinstance(down, LinkDown)
        assert down.code == 1002
        await until(lambda: far.read() or far.ended)
        far.sock.close()
        await until(lambda: driver.over)
        assert driver.facts == [down]
