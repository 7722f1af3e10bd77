"""What `Backend` promises, held to on both loops: waiters, alarms, watches, tasks, and the clock."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from adapter_kit import nothing_left, until

from metered_anyio.backend import Backend, current_backend
from metered_anyio.clock import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def backend() -> Backend:
    return current_backend()


def test_outside_of_a_loop_there_is_none() -> None:
    with pytest.raises(RuntimeError):
        current_backend()


async def test_its_name_and_its_clock(backend: Backend, anyio_backend: str) -> None:
    assert backend.name == anyio_backend
    assert abs(backend.time() - anyio.current_time()) < 0.1
    clock = Clock(backend.time)
    assert 0 <= clock.now() < 100_000
    await anyio.sleep(0.02)
    assert 19_000 < clock.now() < 500_000
    assert abs(clock.loop_time(clock.now()) - backend.time()) < 0.1


# --- waiters ---


async def test_a_waiter_that_is_settled_before_and_after_it_is_awaited(backend: Backend) -> None:
    early = backend.waiter()
    early.set_result("early")
    assert early.done()
    assert await early == "early"
    late = backend.waiter()
    backend.call_soon(lambda: late.set_result("late"))
    assert not late.done()
    with anyio.fail_after(1):
        assert await late == "late"


async def test_a_waiter_that_is_given_up_is_done(backend: Backend) -> None:
    waiter = backend.waiter()
    with anyio.move_on_after(0.01) as scope:
        await waiter
    assert scope.cancelled_caught
    assert waiter.done()


# --- callbacks and tasks ---


async def test_call_soon_keeps_the_order(backend: Backend) -> None:
    seen: list[int] = []
    for number in range(5):
        backend.call_soon(lambda number=number: seen.append(number))
    assert seen == []
    await until(lambda: len(seen) == 5)
    assert seen == [0, 1, 2, 3, 4]


async def test_tasks_run_in_the_context_the_backend_was_made_in(backend: Backend) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    seen: list[str] = []

    async def run() -> None:
        seen.append(variable.get())
        variable.set("of another task")

    token = variable.set("at the spawning")
    async with nothing_left():
        backend.spawn(run)
        backend.spawn(run)
        await until(lambda: len(seen) == 2)
    variable.reset(token)
    assert seen == ["outside", "outside"]
    current_backend().alarm(lambda: seen.append(variable.get())).set(backend.time())
    await until(lambda: len(seen) == 3)
    assert seen[2] == "outside"


async def test_what_fails_in_the_background_is_logged_and_the_loop_lives(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    if anyio_backend == "asyncio":
        pytest.skip("asyncio reports it by itself")
    backend = current_backend()

    async def fail() -> None:
        raise ValueError("in a task")

    def fail_at_once() -> None:
        raise ValueError("in a callback")

    backend.spawn(fail)
    backend.call_soon(fail_at_once)
    backend.alarm(fail_at_once).set(backend.time())
    await until(lambda: len(caplog.records) == 3)
    assert {record.name for record in caplog.records} == {"metered_anyio"}
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    caplog.clear()  # they were expected


async def test_what_is_a_failure_and_what_an_order_to_end(backend: Backend, anyio_backend: str) -> None:
    assert backend.is_failure(ValueError())
    assert not backend.is_failure(KeyboardInterrupt())
    outcomes: list[bool] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as error:
            outcomes.append(backend.is_failure(error))
            raise
    assert outcomes == [False]
    if anyio_backend == "asyncio":
        assert backend.is_failure(asyncio.CancelledError())


# --- alarms ---


async def rings(backend: Backend, at: list[float | None]) -> list[float]:
    """Set an alarm to one time after the other, and say when it rang, in seconds from now."""
    started = backend.time()
    rung: list[float] = []
    alarm = backend.alarm(lambda: rung.append(backend.time() - started))
    for moment in at:
        alarm.set(None if moment is None else started + moment)
    await anyio.sleep(0.15)
    alarm.set(None)
    return rung


async def test_an_alarm_rings_once_and_not_late(backend: Backend) -> None:
    async with nothing_left():
        (rung,) = await rings(backend, [0.05])
        assert 0.04 < rung < 0.12


async def test_an_alarm_that_is_moved_earlier(backend: Backend) -> None:
    rung = await rings(backend, [10, 0.05])
    assert 0.04 < rung[0] < 0.12


async def test_an_alarm_that_is_moved_later_may_ring_early_but_not_at_the_wrong_end(backend: Backend) -> None:
    rung = await rings(backend, [0.02, 0.1])
    assert rung
    assert len(rung) <= 2
    assert await rings(backend, [0.02, 10]) in ([], pytest.approx([0.02], abs=0.05))


async def test_an_alarm_at_rest_does_not_ring(backend: Backend) -> None:
    async with nothing_left():
        assert await rings(backend, [0.03, None]) == []
        assert await rings(backend, [None]) == []


async def test_an_alarm_that_is_set_again_after_rest(backend: Backend) -> None:
    async with nothing_left():
        assert len(await rings(backend, [0.01, None, 0.03])) == 1
        assert len(await rings(backend, [0.03, None, 0.01])) == 1
        started = backend.time()
        rung: list[float] = []
        alarm = backend.alarm(lambda: rung.append(backend.time() - started))
        alarm.set(started + 5)
        await anyio.sleep(0.01)
        alarm.set(None)
        alarm.set(started + 0.05)
        await until(lambda: rung)
        assert 0.04 < rung[0] < 0.2


async def test_an_alarm_that_sets_itself_again(backend: Backend) -> None:
    rung: list[float] = []

    def ring() -> None:
        rung.append(backend.time())
        if len(rung) < 3:
            alarm.set(backend.time() + 0.01)

    alarm = backend.alarm(ring)
    async with nothing_left():
        alarm.set(backend.time() + 0.01)
        await until(lambda: len(rung) == 3)
        await anyio.sleep(0.03)
    assert len(rung) == 3
    assert rung[2] - rung[0] > 0.018


async def test_a_time_that_has_passed_rings_at_once(backend: Backend) -> None:
    assert len(await rings(backend, [-5])) == 1


async def test_moving_an_alarm_a_thousand_times_leaves_one_task(backend: Backend) -> None:
    async with nothing_left():
        rung: list[Any] = []
        alarm = backend.alarm(lambda: rung.append(None))
        started = backend.time()
        for number in range(1000):
            alarm.set(started + 0.05 + number / 100_000)
        await until(lambda: rung)
        assert backend.time() - started < 0.5
        alarm.set(None)


# --- watches ---


async def test_watching_a_socket(backend: Backend) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        got: list[bytes] = []
        async with nothing_left():
            watch = backend.watch_readable(ours, lambda: got.append(ours.recv(100)))
            await anyio.sleep(0.01)
            assert got == []
            for word in (b"one", b"two"):
                theirs.send(word)
                await until(lambda word=word: got and got[-1] == word)
            watch.cancel()
            watch.cancel()
            theirs.send(b"three")
            await anyio.sleep(0.01)
            assert got == [b"one", b"two"]


async def test_a_watch_that_is_cancelled_in_its_own_callback_or_before_it_began(backend: Backend) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        calls: list[str] = []

        def once() -> None:
            calls.append("writable")
            watch.cancel()

        async with nothing_left():
            watch = backend.watch_writable(ours, once)
            backend.watch_writable(theirs, lambda: calls.append("never")).cancel()
            await until(lambda: calls)
            await anyio.sleep(0.01)
        assert calls == ["writable"]


async def test_a_descriptor_that_is_used_again_right_after_a_watch_ended(backend: Backend) -> None:
    """Sockets come and go quickly, and their numbers with them."""
    for _ in range(20):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        watch = backend.watch_readable(ours, lambda: None)
        await anyio.lowlevel.checkpoint()
        watch.cancel()
        number = ours.fileno()
        ours.close()
        theirs.close()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert number in (ours.fileno(), theirs.fileno())
            ours.setblocking(False)
            got: list[bytes] = []
            watch = backend.watch_readable(ours, lambda ours=ours, got=got: got.append(ours.recv(10)))
            theirs.send(b"x")
            await until(lambda got=got: got)
            watch.cancel()
