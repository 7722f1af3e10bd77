"""Many publishes on one socket: in flight by the hundreds, without acknowledgements, in one call."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from adapter_kit import KEY, FakeServer, Guest, make_client, make_relay, nothing_left, told, until

from metered_anyio import (
    DisconnectedError,
    Message,
    NotConnectedError,
    OversizedPayloadError,
    PublishManyError,
    ServerError,
    ServerRequestError,
    SignallingClient,
)
from metered_anyio.relay import Limits, PublishableKey, RelayServer

pytestmark = pytest.mark.anyio


class Ledger:
    """A server that acknowledges when it is told to."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.frames: list[dict[str, Any]] = []
        self.keeps = keeps
        self.guest: Guest

    async def script(self, guest: Guest) -> None:
        self.guest = guest
        await guest.enter()
        while True:
            frame = await guest.receive()
            self.frames.append(frame)
            if not self.keeps:
                await self.ack(frame)

    async def ack(self, *frames: dict[str, Any]) -> None:
        acks = [{"type": "ack", "requestId": frame["requestId"]} for frame in frames]
        await self.guest.raw(b"".join(self.guest.ws.frame(msgspec.json.encode(ack)) for ack in acks))


class TestInFlight:
    async def test_hundreds_at_a_time_answered_in_any_order(self) -> None:
        ledger = Ledger()
        async with FakeServer(ledger.script) as server, nothing_left(), make_client(server.url) as client:
            done: list[int] = []

            async def publish(number: int) -> None:
                await client.publish("room", number)
                done.append(number)

            async with anyio.create_task_group() as group:
                for number in range(500):
                    group.start_soon(publish, number)
                await until(lambda: len(ledger.frames) == 500)
                assert done == []
                assert client.stats().in_flight == 500
                order = [frame["data"] for frame in ledger.frames]
                assert sorted(order) == list(range(500))
                await ledger.ack(*reversed(ledger.frames[1:]))
                await until(lambda: len(done) == 499)
                assert sorted([*done, order[0]]) == list(range(500))
                await ledger.ack(ledger.frames[0])
            assert client.stats().in_flight == 0

    async def test_they_leave_in_the_order_of_their_calls(self) -> None:
        async with make_relay() as relay, make_client(relay.url) as listener, make_client(relay.url) as client:
            messages = told(listener, Message)
            await listener.subscribe("room")
            order: list[int] = []

            async def publish(number: int) -> None:
                order.append(number)
                await client.publish("room", number)

            async with anyio.create_task_group() as group:
                for number in range(300):
                    group.start_soon(publish, number)
            await until(lambda: len(messages) == 300)
            assert [message.data for message in messages] == order

    @pytest.mark.parametrize("which", [0, 1, 37, 98, 99])
    async def test_cancelling_one_disturbs_no_other(self, which: int) -> None:
        """After any number of passes: before it is sent, while it is in flight, when its answer is on the way."""
        ledger = Ledger()
        async with FakeServer(ledger.script) as server, nothing_left(), make_client(server.url) as client:
            errors = told(client, ServerError)
            for passes in range(6):
                ledger.frames.clear()
                done: list[int] = []
                scope = anyio.CancelScope()

                async def publish(number: int, scope: anyio.CancelScope = scope, done: list[int] = done) -> None:
                    with scope if number == which else anyio.CancelScope():
                        await client.publish("room", number)
                        done.append(number)

                async with anyio.create_task_group() as group:
                    for number in range(100):
                        group.start_soon(publish, number)
                    for _ in range(passes):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
                    await until(lambda: len(ledger.frames) >= 99)
                    await anyio.sleep(0.005)
                    await ledger.ack(*ledger.frames)
                assert set(done) >= set(range(100)) - {which}
                assert client.stats().in_flight == 0
            assert errors == []

    async def test_a_task_that_is_cancelled_the_asyncio_way(self, anyio_backend: str) -> None:
        if anyio_backend == "trio":
            pytest.skip("trio has no tasks to cancel")
        ledger = Ledger()
        async with FakeServer(ledger.script) as server, make_client(server.url) as client:
            tasks = [asyncio.create_task(client.publish("room", number)) for number in range(100)]
            await until(lambda: len(ledger.frames) == 100)
            for task in tasks[::3]:
                task.cancel()
            await ledger.ack(*ledger.frames)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [
                number % 3 == 0 for number in range(100)
            ]
            assert client.stats().in_flight == 0

    async def test_a_lost_connection_ends_all_of_them(self) -> None:
        ledger = Ledger()
        async with FakeServer(ledger.script) as server, make_client(server.url) as client:
            lost: list[DisconnectedError] = []

            async def publish(number: int) -> None:
                with pytest.raises(DisconnectedError) as caught:
                    await client.publish("room", number)
                lost.append(caught.value)

            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(publish, number)
                await until(lambda: len(ledger.frames) == 200)
                await ledger.guest.stream.aclose()
            assert len(lost) == 200


class Stalled:
    """A server that reads nothing for as long as it is told to, and counts what it reads after that."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.read: list[Any] = []

    async def script(self, guest: Guest) -> None:
        sock = guest.stream.extra(anyio.abc.SocketAttribute.raw_socket)  # type: ignore[attr-defined]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        await guest.enter()
        await self.gate.wait()
        while True:
            self.read.append((await guest.receive())["data"][0])


def queued(client: SignallingClient) -> int:
    """The bytes that wait in our own memory."""
    return client.stats().queued_bytes


class TestWithoutAcks:
    async def test_all_arrive_in_order_as_long_as_the_connection_lives(self) -> None:
        async with make_relay() as relay, make_client(relay.url) as listener, make_client(relay.url) as client:
            messages = told(listener, Message)
            await listener.subscribe("room")
            for number in range(2000):
                await client.publish("room", number, ack=False)
            await until(lambda: len(messages) == 2000)
            assert [message.data for message in messages] == list(range(2000))
            assert client.stats().in_flight == 0

    async def test_a_loop_of_them_lets_others_have_their_turn(self) -> None:
        ledger = Ledger()
        async with FakeServer(ledger.script) as server, make_client(server.url) as client:
            turns = 0

            async def others() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as group:
                group.start_soon(others)
                for number in range(200):
                    await client.publish("room", number, ack=False)
                group.cancel_scope.cancel()
            assert turns > 100

    @pytest.mark.parametrize("publishers", [1, 40])
    async def test_against_a_reader_that_stalls(self, publishers: int) -> None:
        """Who publishes waits, memory does not grow, and it all goes on where it stopped."""
        stalled = Stalled()
        payload = "x" * 20_000
        async with FakeServer(stalled.script) as server, make_client(server.url) as client:
            sent = [0] * publishers
            each = 600 // publishers

            async def publish(number: int) -> None:
                for count in range(each):
                    await client.publish("room", [[number, count], payload], ack=False)
                    sent[number] += 1

            async with anyio.create_task_group() as group:
                for number in range(publishers):
                    group.start_soon(publish, number)
                before = -1
                while sum(sent) != before:
                    before = sum(sent)
                    await anyio.sleep(0.05)
                assert sum(sent) < publishers * each, "nothing held them up"
                assert queued(client) <= (publishers + 4) * (len(payload) + 100)
                assert client.stats().in_flight == 0
                stalled.gate.set()
            assert sum(sent) == publishers * each
            await until(lambda: len(stalled.read) == publishers * each)
            for number in range(publishers):
                own = [count for sender, count in stalled.read if sender == number]
                assert own == list(range(each)), "nothing is lost, and nobody overtakes himself"
            assert queued(client) == 0

    async def test_a_connection_that_is_lost_while_they_wait(self) -> None:
        stalled = Stalled()
        async with FakeServer(stalled.script) as server, make_client(server.url) as client:
            lost: list[DisconnectedError] = []

            async def publish() -> None:
                try:
                    while True:
                        await client.publish("room", "x" * 20_000, ack=False)
                except DisconnectedError as error:
                    lost.append(error)

            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(publish)
                await until(lambda: len(client._session._unacked) == 5)
                await server.guests[0].stream.aclose()
            assert len(lost) == 5

    async def test_one_that_is_cancelled_while_it_waits(self) -> None:
        stalled = Stalled()
        async with FakeServer(stalled.script) as server, make_client(server.url) as client:
            with anyio.move_on_after(0.3) as scope:
                while True:
                    await client.publish("room", [0, "x" * 20_000], ack=False)
            assert scope.cancelled_caught
            assert len(client._session._unacked) == 0
            stalled.gate.set()
            with anyio.fail_after(5):
                await client.publish("room", ["the last"], ack=False)
            await until(lambda: "the last" in stalled.read)

    async def test_not_connected_or_too_large(self) -> None:
        client = make_client("ws://127.0.0.1:1")
        with pytest.raises(NotConnectedError):
            await client.publish("room", 1, ack=False)
        await client.close()
        ledger = Ledger()
        async with FakeServer(ledger.script) as server, make_client(server.url) as client:
            with pytest.raises(OversizedPayloadError):
                await client.publish("room", "x" * 70_000, ack=False)


class TestMany:
    async def test_in_order_with_one_wake(self) -> None:
        async with make_relay() as relay, make_client(relay.url) as listener, make_client(relay.url) as client:
            messages = told(listener, Message)
            await listener.subscribe("*")
            pump = client._pump
            assert pump is not None
            made: list[object] = []
            waiter = pump._waiter
            pump._waiter = lambda: made.append(1) or waiter()
            await client.publish_many((f"room-{number % 3}", number) for number in range(500))
            assert len(made) == 1
            await until(lambda: len(messages) == 500)
            assert [(message.channel, message.data) for message in messages] == [
                (f"room-{number % 3}", number) for number in range(500)
            ]
            assert client.stats().in_flight == 0

    async def test_some_fail(self) -> None:
        key = PublishableKey(KEY, patterns=("mine/*",))
        limits = Limits(connects_per_minute=None, message_rate=None)
        async with RelayServer(keys=[key], limits=limits) as relay, make_client(relay.url) as client:
            items = [("mine/1" if number % 4 else "yours/1", number) for number in range(20)]
            with pytest.raises(PublishManyError) as caught:
                await client.publish_many(items)
            assert [index for index, _ in caught.value.failed] == [0, 4, 8, 12, 16]
            for _, error in caught.value.failed:
                assert isinstance(error, ServerRequestError)
                assert error.code == "channel_not_authorized"
            assert relay.stats().messages_in == 15
            await client.publish_many(items[1:4])

    async def test_the_connection_is_lost_in_the_middle(self) -> None:
        ledger = Ledger()
        async with FakeServer(ledger.script) as server, make_client(server.url) as client:

            async def answer() -> None:
                await until(lambda: len(ledger.frames) == 10)
                await ledger.ack(*ledger.frames[:4])
                await anyio.sleep(0.01)
                await ledger.guest.stream.aclose()

            async with anyio.create_task_group() as group:
                group.start_soon(answer)
                with pytest.raises(PublishManyError) as caught:
                    await client.publish_many(("room", number) for number in range(10))
            assert [index for index, _ in caught.value.failed] == [4, 5, 6, 7, 8, 9]
            assert all(isinstance(error, DisconnectedError) for _, error in caught.value.failed)

    async def test_nothing_is_sent_where_one_is_wrong(self) -> None:
        ledger = Ledger(keeps=False)
        async with FakeServer(ledger.script) as server, make_client(server.url) as client:
            wrong: list[tuple[type[Exception], Any]] = [
                (OversizedPayloadError, [("room", 1), ("room", "x" * 70_000)]),
                (ValueError, [("room", 1), ("", 1)]),
                (ValueError, [("room", 1), ("room", float("inf"))]),
                (TypeError, [("room", 1), (7, 1)]),
                (TypeError, [("room", 1), 7]),
                (ValueError, [("room", 1), ("room",)]),
            ]
            for error, items in wrong:
                with pytest.raises(error):
                    await client.publish_many(items)
            await client.publish_many([])
            await client.publish("room", "the only one")
            assert [frame["data"] for frame in ledger.frames] == ["the only one"]

    async def test_not_connected(self) -> None:
        client = make_client("ws://127.0.0.1:1")
        with pytest.raises(NotConnectedError):
            await client.publish_many([("room", 1)])
        await client.close()

    async def test_cancelled_it_leaves_others_alone(self) -> None:
        ledger = Ledger()
        async with FakeServer(ledger.script) as server, nothing_left(), make_client(server.url) as client:
            errors = told(client, ServerError)
            for passes in range(8):
                ledger.frames.clear()
                done: list[str] = []

                async def publish(done: list[str] = done) -> None:
                    await client.publish("room", "single")
                    done.append("single")

                async with anyio.create_task_group() as group:
                    group.start_soon(publish)
                    async with anyio.create_task_group() as inner:
                        inner.start_soon(client.publish_many, [("room", number) for number in range(20)])
                        for _ in range(passes):
                            await anyio.lowlevel.checkpoint()
                        inner.cancel_scope.cancel()
                    await until(lambda: any(frame["data"] == "single" for frame in ledger.frames))
                    await anyio.sleep(0.005)
                    await ledger.ack(*ledger.frames)
                assert done == ["single"]
                assert client.stats().in_flight == 0
            assert errors == []
