"""`DataChannel` around a channel that follows a script: order, bounds, waiting, ends."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from adapter_kit import nothing_left, until
from channel_kit import ScriptedHandle
from pyee import EventEmitter

from metered_anyio import (
    DataChannel,
    DataChannelClosedError,
    DataChannelOverflowError,
    DataChannelOversizedError,
    DCClose,
    DCError,
    DCMessage,
    DCOpen,
    Event,
    NoopLogger,
)

pytestmark = pytest.mark.anyio


def told(channel: DataChannel) -> list[Event]:
    events: list[Event] = []
    channel.on(Event, events.append)
    return events


async def settle() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_what_it_shows() -> None:
    handle = ScriptedHandle()
    channel = DataChannel(handle)
    assert (channel.label, channel.protocol, channel.ready_state) == ("chat", "", "open")
    assert (channel.buffered_amount, channel.queued_sends) == (0, 0)
    await channel.send("four")
    assert channel.buffered_amount == 4
    assert handle.sent == ["four"]
    assert repr(channel) == "<DataChannel 'chat' open>"


async def test_bytes_like_data_and_nothing_else() -> None:
    handle = ScriptedHandle()
    channel = DataChannel(handle)
    for data in (b"one", bytearray(b"two"), memoryview(b"three"), "vier"):
        await channel.send(data)  # type: ignore[arg-type]
    assert handle.sent == [b"one", b"two", b"three", "vier"]
    for other in (5, None, ["x"]):
        with pytest.raises(TypeError, match="data must be str or bytes"):
            await channel.send(other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data must not hold a lone surrogate"):
        await channel.send("\ud800")


async def test_an_open_channel_says_so_to_handlers_that_come_right_after_it() -> None:
    events = told(DataChannel(ScriptedHandle()))
    await settle()
    assert events == [DCOpen()]


async def test_sends_wait_for_the_channel_to_open() -> None:
    handle = ScriptedHandle("connecting")
    channel = DataChannel(handle)
    events = told(channel)
    async with anyio.create_task_group() as group:
        for text in ("a", "b", "c"):
            group.start_soon(channel.send, text)
            await settle()
        assert channel.queued_sends == 3
        assert not handle.sent
        handle.open()
    assert handle.sent == ["a", "b", "c"]
    assert events == [DCOpen()]


async def test_sends_wait_for_room_first_in_first_out() -> None:
    handle = ScriptedHandle()
    channel = DataChannel(handle, max_buffered_amount=10, buffered_amount_low_threshold=4)
    done: list[str] = []

    async def send(text: str) -> None:
        await channel.send(text)
        done.append(text)

    async with anyio.create_task_group() as group:
        for text in ("12345678", "abcdefghij", "x", "y"):  # the last would fit, but not past the one before them
            group.start_soon(send, text)
            await settle()
        assert done == ["12345678"]
        handle.drain(5)
        await settle()
        assert done == ["12345678"]  # 3 in the buffer, 10 to come
        handle.drain(3)
        await settle()
        assert done == ["12345678", "abcdefghij"]
        handle.drain(9)
    assert handle.sent == ["12345678", "abcdefghij", "x", "y"]


async def test_the_threshold_is_half_the_cap_unless_given() -> None:
    handle = ScriptedHandle()
    DataChannel(handle, max_buffered_amount=100)
    assert handle.low_threshold == 50
    DataChannel(handle, max_buffered_amount=100, buffered_amount_low_threshold=7)
    assert handle.low_threshold == 7


async def test_a_message_that_never_fits_is_refused_at_once() -> None:
    channel = DataChannel(ScriptedHandle(), max_buffered_amount=10)
    with pytest.raises(DataChannelOversizedError) as caught:
        await channel.send("é" * 6)  # 12 bytes
    assert caught.value == DataChannelOversizedError(12, 10)


async def test_too_many_waiting_sends() -> None:
    handle = ScriptedHandle("connecting")
    channel = DataChannel(handle, max_queued_sends=2)
    async with anyio.create_task_group() as group:
        for text in ("a", "b"):
            group.start_soon(channel.send, text)
            await settle()
        with pytest.raises(DataChannelOverflowError) as caught:
            await channel.send("c")
        assert caught.value == DataChannelOverflowError(2, 2)
        handle.open()
    assert handle.sent == ["a", "b"]


async def test_a_cancelled_send_sends_nothing_and_lets_others_pass() -> None:
    handle = ScriptedHandle()
    channel = DataChannel(handle, max_buffered_amount=10, buffered_amount_low_threshold=0)
    await channel.send("1234567")
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(cancel_soon, scope)
            await channel.send("0123456789")
        assert scope.cancelled_caught
        assert channel.queued_sends == 0
        await channel.send("abc")
    assert handle.sent == ["1234567", "abc"]


async def test_a_send_that_is_cancelled_already_sends_nothing() -> None:
    handle = ScriptedHandle()
    channel = DataChannel(handle)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await channel.send("x")
    assert scope.cancelled_caught
    assert not handle.sent


async def cancel_soon(scope: anyio.CancelScope) -> None:
    await settle()
    scope.cancel()


async def test_a_send_behind_a_cancelled_one_goes_as_soon_as_it_fits() -> None:
    handle = ScriptedHandle()
    channel = DataChannel(handle, max_buffered_amount=10)
    await channel.send("1234567")
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def large() -> None:
            with scope:
                await channel.send("0123456789")

        group.start_soon(large)
        await settle()
        group.start_soon(channel.send, "abc")
        await settle()
        assert channel.queued_sends == 2
        scope.cancel()
    assert handle.sent == ["1234567", "abc"]


@pytest.mark.parametrize("who", ["the remote", "we"])
async def test_closing_releases_whoever_waits(who: str) -> None:
    handle = ScriptedHandle("connecting")
    channel = DataChannel(handle)
    events = told(channel)
    errors: list[Exception] = []

    async def send() -> None:
        with pytest.raises(DataChannelClosedError) as caught:
            await channel.send("x")
        errors.append(caught.value)

    with anyio.fail_after(2):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(send)
            await settle()
            if who == "we":
                channel.close()
                channel.close()
            handle.closed()
    assert len(errors) == 3
    assert events == [DCClose()]
    with pytest.raises(DataChannelClosedError):
        await channel.send("x")
    assert not handle.sent


async def test_a_closed_channel_from_the_start() -> None:
    channel = DataChannel(ScriptedHandle("closed"))
    events = told(channel)
    await settle()
    assert events == [DCClose()]
    async with channel.events(DCMessage) as stream:
        assert [event async for event in stream] == []


async def test_streams_end_with_the_channel() -> None:
    handle = ScriptedHandle()
    channel = DataChannel(handle)
    stream = channel.events(DCMessage)
    await settle()
    handle.receive("a")
    handle.receive(b"b")
    handle.closed()
    handle.closed()
    with anyio.fail_after(2):
        assert [event.data async for event in stream] == ["a", b"b"]


async def test_messages_wait_for_the_first_listener() -> None:
    handle = ScriptedHandle()
    channel = DataChannel(handle)
    handle.receive("early")
    opened: list[DCOpen] = []
    channel.on(DCOpen, opened.append)  # who is no listener for messages
    await settle()
    handle.receive("later")
    first: list[str | bytes] = []
    second: list[str | bytes] = []
    channel.on(DCMessage, lambda event: first.append(event.data))
    channel.once(DCMessage, lambda event: second.append(event.data))
    assert not first
    await settle()
    assert (first, second) == (["early", "later"], ["early"])
    handle.receive("now")
    assert first == ["early", "later", "now"]


async def test_messages_just_ahead_of_the_end_are_told_ahead_of_it() -> None:
    handle = ScriptedHandle()
    handle.receive("last words")
    channel = DataChannel(handle)
    events = told(channel)
    handle.closed()
    assert events == [DCMessage("last words"), DCClose()]
    await settle()
    assert events == [DCMessage("last words"), DCClose()]


async def test_an_error_of_the_channel_is_told() -> None:
    handle = ScriptedHandle()
    channel = DataChannel(handle)
    events = told(channel)
    error = OSError("broken")
    assert handle.on_error is not None
    handle.on_error(error)
    assert events == [DCError(error)]


async def test_what_the_channel_raises_reaches_the_one_who_sends() -> None:
    handle = ScriptedHandle("connecting")
    channel = DataChannel(handle)
    handle.refuses = ValueError("not today")
    async with anyio.create_task_group() as group:

        async def send() -> None:
            with pytest.raises(ValueError, match="not today"):
                await channel.send("x")

        group.start_soon(send)
        await settle()
        handle.open()
    with pytest.raises(ValueError, match="not today"):
        await channel.send("x")


async def test_async_handlers_run_in_order() -> None:
    async with nothing_left(1):
        handle = ScriptedHandle()
        channel = DataChannel(handle)
        seen: list[str | bytes] = []

        @channel.on(DCMessage)
        async def keep(event: DCMessage) -> None:
            await settle()
            seen.append(event.data)

        await settle()
        for text in "abc":
            handle.receive(text)
        handle.closed()
        await until(lambda: len(seen) == 3)
        assert seen == ["a", "b", "c"]
        channel.off(DCMessage, keep)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_buffered_amount": 0}, ValueError),
        ({"max_buffered_amount": "1"}, TypeError),
        ({"max_queued_sends": 0}, ValueError),
        ({"buffered_amount_low_threshold": -1}, ValueError),
        ({"buffered_amount_low_threshold": 2 << 20}, ValueError),
        ({"buffered_amount_low_threshold": 1.5}, TypeError),
        ({"logger": object()}, TypeError),
    ],
)
async def test_bad_options(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        DataChannel(ScriptedHandle(), **options)


async def test_what_is_no_channel() -> None:
    with pytest.raises(TypeError, match="channel must be a data channel, not str"):
        DataChannel("chat", logger=NoopLogger())


# --- a channel of aiortc's own ---


class RawDouble(EventEmitter):
    """The members of aiortc's RTCDataChannel that count."""

    label, protocol, ordered, id = "raw", "p", True, 3
    maxRetransmits = maxPacketLifeTime = None

    def __init__(self) -> None:
        super().__init__()
        self.readyState = "open"
        self.bufferedAmount = 0
        self.bufferedAmountLowThreshold = 0
        self.sent: list[str | bytes] = []

    def send(self, data: str | bytes) -> None:
        self.sent.append(data)
        self.bufferedAmount += len(data)

    def close(self) -> None:
        self.readyState = "closed"
        self.emit("close")


async def test_a_channel_of_aiortc() -> None:
    raw = RawDouble()
    channel = DataChannel(raw, max_buffered_amount=8)
    raw.emit("message", "early")
    await settle()
    events = told(channel)
    await settle()
    assert (channel.label, channel.protocol, channel.ready_state) == ("raw", "p", "open")
    await channel.send(b"12345678")
    async with anyio.create_task_group() as group:
        group.start_soon(channel.send, "next")
        await settle()
        assert raw.sent == [b"12345678"]
        assert raw.bufferedAmountLowThreshold == 4
        raw.bufferedAmount = 4
        raw.emit("bufferedamountlow")
    assert raw.sent == [b"12345678", "next"]
    error = OSError("broken")
    raw.emit("error", error)
    raw.emit("open")
    channel.close()
    assert events == [DCMessage("early"), DCError(error), DCClose()]
    channel.close()
