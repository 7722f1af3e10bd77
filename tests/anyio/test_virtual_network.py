"""The parts of the box by themselves: the clock that jumps, the timetable, and connections in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from metered_anyio.backend import current_backend
from metered_anyio.testing import VirtualEventLoop, virtual_backend
from metered_anyio.testing.virtual_network import WINDOW, MemoryListener, MemoryWire, Timetable

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return virtual_backend(request.param)


def pair(timetable: Timetable, latency: Callable[[], float] = lambda: 0.1) -> tuple[MemoryWire, MemoryWire, list[bool]]:
    """Two ends, and whether everything is held back between them."""
    held = [False]
    one, other = (MemoryWire(timetable, latency, lambda: held[0], lambda size: None) for _ in range(2))
    one.join(other)
    return one, other, held


# --- time ---


async def test_what_is_due_happens_in_order_and_never_at_once() -> None:
    timetable = Timetable(current_backend())
    began, done = timetable.now(), []
    for number, after in enumerate((5.0, 1.0, 1.0, 0.0)):
        timetable.after(after, lambda number=number: done.append((number, round(timetable.now() - began, 3))))
    assert done == []
    await anyio.sleep(10)
    assert done == [(3, 0.0), (1, 1.0), (2, 1.0), (0, 5.0)]


async def test_one_that_adds_for_ever_does_not_hold_up_the_loop() -> None:
    timetable = Timetable(current_backend())
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        timetable.after(0.01, again)
        timetable.after(0, lambda: None)

    again()
    await anyio.sleep(1)
    assert 95 < count < 105
    timetable.close()
    timetable.after(0, again)
    before = count
    await anyio.sleep(1)
    assert count == before


def test_a_loop_without_timers_waits_for_the_outside() -> None:
    loop = VirtualEventLoop()
    try:
        started = time.monotonic()
        assert loop.run_until_complete(loop.run_in_executor(None, time.sleep, 0.05)) is None
        assert time.monotonic() - started >= 0.04
        assert loop.time() < 0.001
        loop.run_until_complete(asyncio.sleep(86_400 * 400))
        assert 86_400 * 400 <= loop.time() < 86_400 * 400 + 1
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def test_a_timer_that_looks_at_the_clock_and_waits_on_comes_to_an_end() -> None:
    loop = VirtualEventLoop()
    done = loop.create_future()
    at = 1 / 3

    def look() -> None:
        if loop.time() >= at:
            done.set_result(None)
        else:
            loop.call_at(at, look)

    try:
        loop.call_at(at - 1e-12, look)
        loop.run_until_complete(asyncio.wait_for(done, 10))
        assert loop.time() == pytest.approx(at, abs=1e-6)
    finally:
        loop.close()


# --- connections ---


async def test_bytes_arrive_in_order_after_the_latency_and_then_the_end() -> None:
    timetable = Timetable(current_backend())
    delays = iter((0.3, 0.1, 0.1))
    one, other, _ = pair(timetable, lambda: next(delays))
    came: list[tuple[float, bytes]] = []

    def read() -> None:
        data = other.recv(3)
        came.append((round(timetable.now() - began, 3), data))
        if not data:
            watch.cancel()  # the end can be read again and again

    watch = other.watch_readable(read)
    began = timetable.now()
    with pytest.raises(BlockingIOError):
        other.recv(1)
    assert one.send(b"abcd") == 4
    assert one.send(memoryview(b"ef")) == 2
    one.shutdown(1)
    with pytest.raises(BrokenPipeError):
        one.send(b"x")
    await anyio.sleep(2)
    assert [data for _, data in came] == [b"abc", b"d", b"ef", b""], "the second is not ahead of the first"
    assert came[0][0] == 0.3


async def test_more_than_the_window_waits_for_whoever_reads() -> None:
    timetable = Timetable(current_backend())
    one, other, _ = pair(timetable)
    assert one.send(bytes(WINDOW + 10)) == WINDOW
    with pytest.raises(BlockingIOError):
        one.send(b"x")
    told: list[float] = []
    watch = one.watch_writable(lambda: (told.append(timetable.now()), watch.cancel()))
    await anyio.sleep(1)
    assert not told
    assert len(other.recv(100)) == 100
    await anyio.sleep(0.1)
    assert len(told) == 1
    assert one.send(bytes(200)) == 100


async def test_what_is_held_back_arrives_once_it_flows() -> None:
    timetable = Timetable(current_backend())
    one, other, held = pair(timetable)
    held[0] = True
    one.send(b"late")
    await anyio.sleep(100)
    with pytest.raises(BlockingIOError):
        other.recv(10)
    held[0] = False
    one.flow()
    await anyio.sleep(0.001)
    assert other.recv(10) == b"late"


async def test_a_connection_that_breaks_breaks_at_both_ends() -> None:
    timetable = Timetable(current_backend())
    one, other, _ = pair(timetable)
    other.send(b"lost")
    assert one.open
    one.break_off()
    assert not one.open
    assert not other.open
    for end in (one, other):
        with pytest.raises(ConnectionResetError):
            end.recv(1)
        with pytest.raises(ConnectionResetError):
            end.send(b"x")
        end.close()
        end.close()
        with pytest.raises(OSError, match="closed"):
            end.recv(1)


async def test_whoever_writes_to_a_closed_end_learns_of_it() -> None:
    timetable = Timetable(current_backend())
    one, other, _ = pair(timetable)
    other.send(b"goodbye")
    other.close()
    one.send(b"anybody there?")
    await anyio.sleep(1)
    assert one.recv(100) == b"goodbye"
    assert one.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        one.send(b"x")


async def test_a_listener_gives_whom_it_let_wait() -> None:
    timetable = Timetable(current_backend())
    closed: list[bool] = []
    listener = MemoryListener(timetable, lambda: closed.append(True))
    with pytest.raises(BlockingIOError):
        listener.accept()
    with pytest.raises(OSError, match="not written"):
        listener.watch_writable(lambda: None)
    one, other, _ = pair(timetable)
    accepted: list[Any] = []
    listener.watch_readable(lambda: accepted.append(listener.accept()))
    listener.knock(other, "192.0.2.1")
    await anyio.sleep(0.1)
    assert accepted == [(other, ("192.0.2.1", 443))]
    late, _, _ = pair(timetable)
    listener.knock(late, "192.0.2.1")
    listener.close()
    assert closed == [True]
    assert one.open
    assert not late.open
