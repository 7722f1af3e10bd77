"""The queue between threads and event loops."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

from metered_anyio.rtc.mailbox import Mailbox

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_keeps_the_newest_or_refuses() -> None:
    box: Mailbox[int] = Mailbox(2)
    assert [box.put(number) for number in range(3)] == [True, True, False]
    assert not box.offer(3)
    assert (len(box), box.dropped) == (2, 1)
    assert [await box.take(), await box.take()] == [1, 2]
    assert box.take_nowait() is None
    assert box.offer(4)
    assert box.take_nowait() == 4


async def test_after_the_end_what_is_kept_can_be_taken() -> None:
    box: Mailbox[int] = Mailbox(2)
    box.put(1)
    assert box.end()
    assert not box.end()
    assert not box.put(2)
    assert not box.offer(2)
    assert not box.put_wait(2)
    assert not await box.send(2)
    assert await box.take() == 1
    with pytest.raises(anyio.EndOfStream):
        await box.take()


async def test_the_end_wakes_everybody() -> None:
    box: Mailbox[int] = Mailbox(1)
    full: Mailbox[int] = Mailbox(1)
    full.put(1)
    woken: list[str] = []

    async def taker() -> None:
        with pytest.raises(anyio.EndOfStream):
            await box.take()
        woken.append("taker")

    async def sender() -> None:
        assert not await full.send(2)
        woken.append("sender")

    async def thread() -> None:
        assert not await anyio.to_thread.run_sync(full.put_wait, 2)
        woken.append("thread")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for run in (taker, taker, sender, sender, thread):
                group.start_soon(run)
            await anyio.sleep(0.05)
            box.end()
            full.end()
    assert sorted(woken) == ["sender", "sender", "taker", "taker", "thread"]


async def test_a_thread_waits_for_room_and_loses_nothing() -> None:
    box: Mailbox[int] = Mailbox(3)

    def produce() -> None:
        for number in range(200):
            assert box.put_wait(number)
        box.end()

    thread = threading.Thread(target=produce)
    thread.start()
    with anyio.fail_after(20):
        took = [number async for number in box]
    thread.join()
    assert took == list(range(200))
    assert box.dropped == 0


async def test_a_thread_gives_up_in_time() -> None:
    box: Mailbox[int] = Mailbox(1)
    box.put(1)
    assert not await anyio.to_thread.run_sync(box.put_wait, 2, 0.01)


async def test_a_task_waits_for_room() -> None:
    box: Mailbox[int] = Mailbox(1)

    async def produce() -> None:
        for number in range(20):
            assert await box.send(number)
        box.end()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            took = [number async for number in box]
    assert took == list(range(20))


async def test_clearing_makes_room_and_is_no_drop() -> None:
    box: Mailbox[int] = Mailbox(1)
    box.put(1)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(box.send, 2)
            await anyio.wait_all_tasks_blocked()
            assert box.clear() == 1
    assert box.dropped == 0
    assert await box.take() == 2


async def test_a_sender_that_gives_up_leaves_its_room_to_the_next() -> None:
    box: Mailbox[int] = Mailbox(1)
    box.put(1)
    scope = anyio.CancelScope()

    async def first() -> None:
        with scope:
            await box.send(2)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(box.send, 3)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            assert await box.take() == 1
            taken = await box.take()
            if taken == 2:  # it got in, in its last moment
                taken = await box.take()
            assert taken == 3


def test_a_reader_whose_loop_has_ended_is_nobody(anyio_backend: str) -> None:
    box: Mailbox[int] = Mailbox(1)

    async def leave() -> None:
        with anyio.move_on_after(0.01):
            await box.take()

    anyio.run(leave, backend=anyio_backend)
    assert box.put(1)
    assert box.take_nowait() == 1


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        Mailbox(0)
