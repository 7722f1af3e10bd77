"""Handlers and streams: order, bounds, isolation, and what becomes of them at the end."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Mapping
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import pytest
from adapter_kit import FakeServer, Guest, make_client, nothing_left, told, until

from metered_anyio import Connected, Direct, Disconnected, Event, GoingAway, Message, SignallingClient, StateChange
from metered_anyio import emitter as emitter_module
from metered_anyio.backend import current_backend
from metered_anyio.emitter import Emitter

pytestmark = pytest.mark.anyio


class Log:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def _write(self, level: str, msg: str, ctx: Mapping[str, Any] | None) -> None:
        self.lines.append((level, msg, dict(ctx or {})))

    def debug(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        self._write("debug", msg, ctx)

    def info(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        self._write("info", msg, ctx)

    def warning(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        self._write("warning", msg, ctx)

    def error(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        self._write("error", msg, ctx)


def make_emitter() -> tuple[Emitter, Log]:
    log = Log()
    emitter = Emitter(log)
    emitter.bind(current_backend())
    return emitter, log


def message(number: int) -> Message:
    return Message("room", "peer", number)


# --- sync handlers ---


async def test_sync_handlers_run_inline_in_the_order_of_registration() -> None:
    emitter, _ = make_emitter()
    seen: list[str] = []
    emitter.on(Message, lambda event: seen.append(f"first {event.data}"))
    emitter.on(Event, lambda event: seen.append("any event"))
    emitter.on(Direct, lambda event: seen.append("direct"))
    emitter.on(Message, lambda event: seen.append(f"second {event.data}"))
    emitter.emit(message(1))
    assert seen == ["first 1", "any event", "second 1"]


async def test_the_decorators() -> None:
    emitter, _ = make_emitter()
    seen: list[Any] = []

    @emitter.on(Message)
    def on_message(event: Message) -> None:
        seen.append(("on", event.data))

    @emitter.once(Message)
    def once_message(event: Message) -> None:
        seen.append(("once", event.data))

    @emitter.on(Message, concurrent=True)
    async def later(event: Message) -> None:
        seen.append(("later", event.data))

    emitter.emit(message(1))
    emitter.emit(message(2))
    assert seen == [("on", 1), ("once", 1), ("on", 2)]
    await emitter.finish()
    assert sorted(seen[3:]) == [("later", 1), ("later", 2)]
    assert callable(on_message)
    assert callable(once_message)


class Arrival(Event, frozen=True):
    """Something that a handler stays with."""

    lasting: ClassVar[bool] = True

    number: int


async def test_an_async_handler_that_stays_with_one_thing_gets_the_next_one_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("metered_anyio.emitter.SIDE_BY_SIDE", 2)
    emitter, _ = make_emitter()
    busy: list[int] = []
    one_after_the_other: list[int] = []
    leave = [anyio.Event() for _ in range(3)]

    @emitter.on(Arrival)
    async def stay(event: Arrival) -> None:
        busy.append(event.number)
        await leave[event.number].wait()
        busy.remove(event.number)

    @emitter.on(Arrival, concurrent=False)
    async def in_order(event: Arrival) -> None:
        one_after_the_other.append(event.number)
        await leave[event.number].wait()

    for number in range(3):
        emitter.emit(Arrival(number))
    await anyio.wait_all_tasks_blocked()
    assert (busy, one_after_the_other) == ([0, 1], [0])
    leave[1].set()
    await anyio.wait_all_tasks_blocked()
    assert (busy, one_after_the_other) == ([0, 2], [0])  # there is no room for more than two
    for each in leave:
        each.set()
    await emitter.finish()
    assert (busy, one_after_the_other) == ([], [0, 1, 2])
    assert emitter.dropped == 0


async def test_off() -> None:
    emitter, _ = make_emitter()
    seen: list[Any] = []
    emitter.on(Message, seen.append)
    emitter.on(Event, seen.append)
    emitter.off(Message, seen.append)
    emitter.off(Message, seen.append)
    emitter.off(Direct, print)
    emitter.emit(message(1))
    assert len(seen) == 1


async def test_off_from_inside_a_handler_counts_at_once() -> None:
    emitter, _ = make_emitter()
    seen: list[str] = []

    def first(event: Message) -> None:
        seen.append("first")
        emitter.off(Message, first)
        emitter.off(Message, second)
        emitter.on(Message, third)

    def second(event: Message) -> None:
        seen.append("second")

    def third(event: Message) -> None:
        seen.append("third")

    emitter.on(Message, first)
    emitter.on(Message, second)
    emitter.emit(message(1))
    assert seen == ["first"]
    emitter.emit(message(2))
    assert seen == ["first", "third"]


async def test_once_even_if_the_handler_emits() -> None:
    emitter, _ = make_emitter()
    seen: list[int] = []

    def handler(event: Message) -> None:
        seen.append(event.data)
        emitter.emit(message(2))

    emitter.once(Message, handler)
    emitter.emit(message(1))
    emitter.emit(message(3))
    assert seen == [1]


async def test_a_handler_that_raises_is_logged_and_isolated() -> None:
    emitter, log = make_emitter()
    seen: list[Any] = []

    def bad(event: Message) -> None:
        raise ValueError("token=abcdefghijklmnop")

    async def worse(event: Message) -> None:
        raise KeyError("x")

    async def parted(event: Message, more: int) -> None:
        raise AssertionError

    emitter.on(Message, bad)
    emitter.on(Message, worse)
    emitter.on(Message, worse, concurrent=True)
    emitter.on(Message, parted)  # type: ignore[arg-type]
    emitter.on(Message, seen.append)
    emitter.emit(message(1))
    await emitter.finish()
    assert seen == [message(1)]
    assert [(level, text) for level, text, _ in log.lines] == [("error", "a handler raised")] * 4
    errors = [context["error"].partition("(")[0] for _, _, context in log.lines]
    assert sorted(errors) == ["KeyError", "KeyError", "TypeError", "ValueError"]
    assert log.lines[0][2]["event"] == "Message"
    assert log.lines[0][2]["handler"].endswith("bad")
    assert "abcdefghijklmnop" not in str(log.lines)


async def test_what_a_sync_function_returns_is_awaited() -> None:
    emitter, log = make_emitter()
    seen: list[int] = []

    async def work(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        if number == 2:
            raise ValueError
        seen.append(number)

    emitter.on(Message, lambda event: work(event.data))
    for number in range(4):
        emitter.emit(message(number))
    await emitter.finish()
    assert sorted(seen) == [0, 1, 3]
    assert len(log.lines) == 1


# --- several events at once ---


async def test_several_events_reach_everybody_one_after_the_other() -> None:
    emitter, _ = make_emitter()
    seen: list[str] = []
    emitter.on(Message, lambda event: seen.append(f"first {event.data}"))
    emitter.emit_all([message(1), message(2), message(3)])
    assert seen == ["first 1", "first 2", "first 3"]
    seen.clear()
    emitter.on(Event, lambda event: seen.append(f"second {event.data}"))
    emitter.emit_all([message(1), message(2)])
    assert seen == ["first 1", "second 1", "first 2", "second 2"]
    emitter.emit_all([])
    assert len(seen) == 4


async def test_of_several_events_all_reach_an_async_handler_and_a_stream() -> None:
    emitter, _ = make_emitter()
    seen: list[int] = []

    async def handler(event: Message) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(event.data)

    emitter.on(Message, handler)
    emitter.emit_all([message(1), message(2), message(3)])
    emitter.off(Direct, handler)
    await emitter.finish()
    assert seen == [1, 2, 3]

    emitter, _ = make_emitter()
    stream = emitter.events(Message, maxsize=2)
    emitter.emit_all([message(1), message(2), message(3)])
    assert stream.dropped == 1
    emitter.end_streams()
    assert [event.data async for event in stream] == [2, 3]


async def test_who_comes_and_goes_between_several_events() -> None:
    emitter, log = make_emitter()
    seen: list[tuple[str, int]] = []

    def first(event: Message) -> object:
        seen.append(("first", event.data))
        if event.data == 2:
            emitter.on(Message, second)
        if event.data == 3:
            raise RuntimeError("no")
        if event.data == 4:
            emitter.off(Message, first)
            emitter.off(Message, second)
        if event.data == 1:
            return later()
        return None

    def second(event: Message) -> None:
        seen.append(("second", event.data))

    async def later() -> None:
        seen.append(("later", 0))

    emitter.on(Message, first)
    emitter.emit_all([message(number) for number in (0, 1, 2, 3, 4, 5)])
    assert seen == [("first", 0), ("first", 1), ("first", 2), ("first", 3), ("second", 3), ("first", 4)]
    assert [line[1] for line in log.lines] == ["a handler raised"]
    await emitter.finish()
    assert seen[-1] == ("later", 0)


async def test_a_handler_alone_that_raises_gets_the_next_of_several() -> None:
    emitter, log = make_emitter()
    seen: list[int] = []

    def handler(event: Message) -> None:
        seen.append(event.data)
        raise RuntimeError("no")

    emitter.on(Message, handler)
    emitter.emit_all([message(1), message(2), message(3)])
    assert seen == [1, 2, 3]
    assert len(log.lines) == 3


@pytest.mark.parametrize("is_async", [False, True])
async def test_once_is_for_the_first_of_several(is_async: bool) -> None:
    emitter, _ = make_emitter()
    seen: list[int] = []

    async def later(event: Message) -> None:
        seen.append(event.data)

    def once(event: Message) -> None:
        seen.append(event.data)
        emitter.once(Message, again)

    def again(event: Message) -> None:
        seen.append(-event.data)

    emitter.once(Message, later if is_async else once)
    emitter.emit_all([message(1), message(2), message(3)])
    await emitter.finish()
    assert seen == ([1] if is_async else [1, -2])


# --- async handlers ---


async def test_async_handlers_get_one_event_after_the_other() -> None:
    emitter, _ = make_emitter()
    seen: list[Any] = []

    async def handler(event: Message) -> None:
        seen.append(("in", event.data))
        await anyio.sleep(0.001 * (3 - event.data))
        seen.append(("out", event.data))

    emitter.on(Message, handler)
    for number in range(3):
        emitter.emit(message(number))
    assert seen == []
    await emitter.finish()
    assert seen == [(step, number) for number in range(3) for step in ("in", "out")]


async def test_a_slow_handler_holds_up_nobody_else() -> None:
    emitter, _ = make_emitter()
    quick: list[int] = []
    slow_ones: list[int] = []
    gate = anyio.Event()

    async def slow(event: Message) -> None:
        slow_ones.append(event.data)
        await gate.wait()

    class Callable_:
        async def __call__(self, event: Message) -> None:
            quick.append(event.data)

    emitter.on(Message, slow)
    emitter.on(Message, Callable_())
    emitter.on(Message, functools.partial(lambda given, event: given.append(event.data), quick))
    for number in range(10):
        emitter.emit(message(number))
    await until(lambda: len(quick) == 20)
    assert slow_ones == [0]
    gate.set()
    await emitter.finish()
    assert slow_ones == list(range(10))


async def test_concurrent_handlers_do_not_wait_for_each_other() -> None:
    emitter, _ = make_emitter()
    running = 0
    gate = anyio.Event()

    async def handler(event: Message) -> None:
        nonlocal running
        running += 1
        await gate.wait()

    emitter.on(Message, handler, concurrent=True)
    for number in range(5):
        emitter.emit(message(number))
    await until(lambda: running == 5)
    gate.set()
    await emitter.finish()


async def test_the_queue_of_a_handler_is_bounded_and_each_burst_of_drops_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(emitter_module, "HANDLER_QUEUE", 10)
    emitter, log = make_emitter()
    seen: list[int] = []
    gate = anyio.Event()

    async def handler(event: Message) -> None:
        await gate.wait()
        seen.append(event.data)

    emitter.on(Message, handler)
    emitter.emit(message(0))
    await anyio.wait_all_tasks_blocked()  # it has taken the first
    for number in range(1, 26):
        emitter.emit(message(number))
    assert emitter.dropped == 15
    assert [(level, context) for level, _, context in log.lines] == [("warning", {"event": "Message"})]
    gate.set()
    await until(lambda: len(seen) == 11)
    assert seen == [0, *range(16, 26)]
    await until(lambda: len(log.lines) == 2)
    assert log.lines[1][2] == {"event": "Message", "dropped": 15}
    for number in range(12):
        emitter.emit(message(number))
    assert emitter.dropped == 17
    await emitter.finish()
    assert [context.get("dropped") for _, _, context in log.lines] == [None, 15, None, 2]


async def test_off_drops_what_waits_for_the_handler() -> None:
    emitter, _ = make_emitter()
    seen: list[int] = []

    async def handler(event: Message) -> None:
        seen.append(event.data)
        emitter.off(Message, handler)
        await anyio.lowlevel.checkpoint()

    emitter.on(Message, handler)
    for number in range(3):
        emitter.emit(message(number))
    await emitter.finish()
    assert seen == [0]


async def test_an_async_handler_that_is_wanted_once() -> None:
    emitter, _ = make_emitter()
    seen: list[int] = []

    async def handler(event: Message) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(event.data)

    emitter.once(Message, handler)
    for number in range(3):
        emitter.emit(message(number))
    await emitter.finish()
    assert seen == [0]


async def test_a_cancellation_that_comes_out_of_a_handler_is_a_failure_like_others(anyio_backend: str) -> None:
    if anyio_backend == "trio":
        pytest.skip("trio has no cancellation without a scope")
    emitter, log = make_emitter()
    seen: list[int] = []

    async def handler(event: Message) -> None:
        if event.data == 0:
            task = asyncio.ensure_future(asyncio.sleep(10))
            task.cancel()
            await task
        seen.append(event.data)

    emitter.on(Message, handler)
    for number in range(3):
        emitter.emit(message(number))
    await until(lambda: seen == [1, 2])
    assert [context["error"] for _, _, context in log.lines] == ["CancelledError()"]
    await emitter.finish()


async def test_contexts_do_not_grow_from_handler_to_handler() -> None:
    """What a handler sets going must not inherit a longer and longer chain of handlers."""
    emitter, _ = make_emitter()
    lengths: list[int] = []

    async def handler(event: Message) -> None:
        lengths.append(len(emitter_module._handling.get()))
        if event.data < 5:
            emitter.emit(message(event.data + 1))

    emitter.on(Message, handler, concurrent=True)
    emitter.emit(message(0))
    await until(lambda: len(lengths) == 6)
    assert lengths == [1] * 6
    await emitter.finish()


# --- finishing ---


async def test_finish_waits_a_second_and_then_cancels() -> None:
    emitter, _ = make_emitter()
    seen: list[str] = []

    async def endless(event: Message) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    async def brief(event: Message) -> None:
        await anyio.sleep(0.05)
        seen.append("done")

    emitter.on(Message, endless)
    emitter.on(Message, brief)
    emitter.emit(message(1))
    started = anyio.current_time()
    async with nothing_left():
        await emitter.finish()
    assert 0.9 < anyio.current_time() - started < 1.4
    assert seen == ["done", "cancelled"]
    emitter.emit(message(2))
    assert seen == ["done", "cancelled"]


# --- streams ---


async def test_two_streams_each_get_everything() -> None:
    emitter, _ = make_emitter()
    got: dict[str, list[int]] = {"a": [], "b": []}

    async def read(name: str) -> None:
        async with emitter.events(Message) as stream:
            async for event in stream:
                got[name].append(event.data)

    async with anyio.create_task_group() as group:
        group.start_soon(read, "a")
        group.start_soon(read, "b")
        await anyio.wait_all_tasks_blocked()
        for number in range(5):
            emitter.emit(message(number))
            emitter.emit(GoingAway(1))
        await anyio.wait_all_tasks_blocked()
        emitter.end_streams()
    assert got == {"a": [0, 1, 2, 3, 4], "b": [0, 1, 2, 3, 4]}


async def test_a_stream_is_bounded_and_its_drops_are_counted() -> None:
    emitter, log = make_emitter()
    stream = emitter.events(Message, maxsize=3)
    for number in range(10):
        emitter.emit(message(number))
    assert stream.dropped == emitter.dropped == 7
    assert len(log.lines) == 1
    assert [(await anext(stream)).data for _ in range(3)] == [7, 8, 9]
    assert [context.get("dropped") for _, _, context in log.lines] == [None, 7]
    emitter.emit(message(10))
    assert (await anext(stream)).data == 10
    assert stream.dropped == 7


async def test_the_default_bound_and_no_bound() -> None:
    emitter, _ = make_emitter()
    bounded, unbounded = emitter.events(Message), emitter.events(Message, maxsize=0)
    for number in range(5000):
        emitter.emit(message(number))
    assert bounded.dropped == 5000 - 4096
    assert unbounded.dropped == 0
    assert (await anext(bounded)).data == 904
    assert (await anext(unbounded)).data == 0


@pytest.mark.parametrize(
    ("maxsize", "error"), [(-1, ValueError), (True, TypeError), (1.5, TypeError), ("1", TypeError)]
)
async def test_a_bad_maxsize(maxsize: Any, error: type[Exception]) -> None:
    emitter, _ = make_emitter()
    with pytest.raises(error):
        emitter.events(Message, maxsize=maxsize)


async def test_a_stream_ends_after_what_waits_in_it_has_been_read() -> None:
    emitter, _ = make_emitter()
    stream = emitter.events(Message)
    emitter.emit(message(1))
    emitter.end_streams()
    assert [event.data async for event in stream] == [1]
    assert [event async for event in emitter.events(Message)] == []


async def test_leaving_a_stream_unsubscribes() -> None:
    emitter, _ = make_emitter()
    async with emitter.events(Message) as stream:
        emitter.emit(message(1))
        assert len(emitter._entries) == 1
    assert emitter._entries == []
    emitter.emit(message(2))
    assert [event async for event in stream] == []


async def test_a_stream_that_is_closed_while_an_event_is_handed_out_gets_no_more() -> None:
    emitter, _ = make_emitter()
    streams: list[Any] = []

    def close(event: Message) -> None:
        streams[0].end()

    emitter.on(Message, close)
    streams.append(emitter.events(Message))
    emitter.emit(message(1))
    assert [event async for event in streams[0]] == []


async def test_an_abandoned_stream_is_not_fed_for_ever() -> None:
    emitter, _ = make_emitter()

    async def read_one() -> None:
        async for _ in emitter.events(Message):
            break

    async with anyio.create_task_group() as group:
        group.start_soon(read_one)
        await anyio.wait_all_tasks_blocked()
        emitter.emit(message(1))
    gc.collect()
    assert emitter._entries == []
    emitter.emit(message(2))


async def test_a_stream_has_one_reader() -> None:
    emitter, _ = make_emitter()
    stream = emitter.events(Message)
    async with anyio.create_task_group() as group:
        group.start_soon(stream.__anext__)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="another task"):
            await anext(stream)
        emitter.emit(message(1))


async def test_a_stream_is_created_and_filled_before_it_is_read() -> None:
    emitter, _ = make_emitter()
    stream = emitter.events(Event)
    emitter.emit(message(1))
    emitter.emit(GoingAway(5))
    assert await anext(stream) == message(1)
    assert await anext(stream) == GoingAway(5)


# --- registration ---


@pytest.mark.parametrize("wrong", ["message", int, None, Message("a", "b", 1)])
async def test_events_are_named_by_their_class(wrong: Any) -> None:
    emitter, _ = make_emitter()
    for call in (
        lambda: emitter.on(wrong, print),
        lambda: emitter.once(wrong),
        lambda: emitter.off(wrong, print),
        lambda: emitter.events(wrong),
    ):
        with pytest.raises(TypeError, match="named by their class"):
            call()
    with pytest.raises(TypeError, match="callable"):
        emitter.on(Message, 7)  # type: ignore[call-overload]


# --- handlers of a client that closes ---


async def talkative(guest: Guest) -> None:
    await guest.enter()
    for number in range(3):
        await guest.send({"type": "message", "channel": "room", "from": "x", "data": number})
    await guest.obey()


async def test_close_from_inside_an_async_handler() -> None:
    async with FakeServer(talkative) as server, nothing_left():
        client = make_client(server.url)
        seen: list[str] = []
        lost = told(client, Disconnected)
        arrived = told(client, Message)

        @client.on(Message)
        async def handler(event: Message) -> None:
            await until(lambda: len(arrived) == 3)
            with anyio.fail_after(0.5):
                await client.close()
                await client.close()
            seen.append(f"returned {event.data}")

        @client.on(Disconnected)
        async def goodbye(event: Disconnected) -> None:
            with anyio.fail_after(0.5):
                await client.close()
            seen.append("goodbye")

        await client.connect()
        await until(lambda: "goodbye" in seen)
        with anyio.fail_after(1.5):
            await client.close()
        # What waited when the client was closed is still handled, within the second of grace.
        assert sorted(seen) == ["goodbye", "returned 0", "returned 1", "returned 2"]
        assert len(lost) == 1


async def test_close_from_a_child_of_an_async_handler() -> None:
    async with FakeServer(talkative) as server, nothing_left():
        client = make_client(server.url)
        seen: list[str] = []

        @client.once(Message)
        async def handler(event: Message) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(client.close)
            seen.append("returned")

        await client.connect()
        with anyio.fail_after(0.5):
            await until(lambda: seen)
        await client.close()


async def test_close_from_inside_a_sync_handler() -> None:
    async with FakeServer(talkative) as server, nothing_left(within=0.5):
        client = make_client(server.url)
        lost = told(client, Disconnected)
        async with anyio.create_task_group() as group:
            client.on(Message, lambda event: group.start_soon(client.close))
            client.on(StateChange, lambda event: group.start_soon(client.close) if event.to == "closed" else None)
            await client.connect()
            await until(lambda: client.state == "closed")
        assert len(lost) == 1


async def test_a_handler_that_returns_a_task_is_not_waited_for() -> None:
    emitter, _ = make_emitter()
    ended: list[str] = []

    async def long() -> None:
        await anyio.sleep(0.1)
        ended.append("ended")

    async with anyio.create_task_group() as group:
        emitter.on(Message, lambda event: group.start_soon(long))
        emitter.emit(message(1))
        await emitter.finish()
        assert ended == []
    assert ended == ["ended"]


async def test_a_client_that_is_closed_when_it_connects() -> None:
    async with FakeServer(talkative) as server, nothing_left(within=0.5):
        client = make_client(server.url)

        @client.on(Connected)
        async def handler(event: Connected) -> None:
            await client.close()

        await client.connect()
        await until(lambda: client.state == "closed")
        await client.close()


async def test_handlers_are_removed_at_close_and_may_be_kept_over_failures() -> None:
    async with FakeServer(talkative) as server:
        client = make_client(server.url)
        told(client)
        await client.connect()
        await client.close()
        assert client._emitter._entries == []


async def test_close_gives_async_handlers_a_second() -> None:
    async with FakeServer(talkative) as server, nothing_left():
        client = make_client(server.url)
        seen: list[str] = []

        @client.on(Message)
        async def handler(event: Message) -> None:
            try:
                await anyio.sleep(0.3 if event.data == 0 else 10)
                seen.append("done")
            except BaseException:
                seen.append("cancelled")
                raise

        arrived = told(client, Message)
        await client.connect()
        await until(lambda: len(arrived) == 3)
        started = anyio.current_time()
        await client.close()
        assert 0.9 < anyio.current_time() - started < 1.5
        assert seen == ["done", "cancelled"]


async def test_close_does_not_wait_for_a_handler_that_refuses_to_end() -> None:
    async with FakeServer(talkative) as server:
        client = make_client(server.url)
        gate = anyio.Event()

        @client.once(Message)
        async def stubborn(event: Message) -> None:
            with anyio.CancelScope(shield=True):
                await gate.wait()

        await client.connect()
        await anyio.sleep(0.05)
        started = anyio.current_time()
        await client.close()
        assert anyio.current_time() - started < 2.0
        gate.set()
        await until(lambda: not client._emitter._scopes)


async def test_dropped_events_are_counted_by_the_client() -> None:
    async with FakeServer(talkative) as server:
        client = make_client(server.url)
        streams = [client.events(Message, maxsize=1) for _ in range(2)]
        async with client:
            await until(lambda: client.dropped_events == 4)
            assert [stream.dropped for stream in streams] == [2, 2]


async def test_on_off_once_and_events_of_the_client_itself() -> None:
    async with FakeServer(talkative) as server:
        client: SignallingClient = make_client(server.url)
        on, once, gone = [], [], []
        client.on(Message)(on.append)
        client.once(Message)(once.append)
        client.on(Message, gone.append)
        client.off(Message, gone.append)
        stream = client.events(Message)
        async with client:
            await until(lambda: len(on) == 3)
        assert [event.data for event in once] == [0]
        assert gone == []
        assert [event.data async for event in stream] == [0, 1, 2]
