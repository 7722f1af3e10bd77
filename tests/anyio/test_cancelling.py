"""Cancelling any call after any number of passes of the loop: the client stays whole, and nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from adapter_kit import FakeServer, Guest, make_client, nothing_left, told, until, warm_relay

from metered_anyio import Connected, Disconnected, Message, ServerError, dial

pytestmark = pytest.mark.anyio

PASSES = 40
"""More than any call here takes on a quick machine, so that the last ones are not cancelled at all."""


@pytest.fixture(params=["scope", "task"])
def how(request: pytest.FixtureRequest, anyio_backend: str) -> str:
    if request.param == "task" and anyio_backend == "trio":
        pytest.skip("trio cancels by scopes alone")
    return str(request.param)


@pytest.fixture(autouse=True)
def names_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve names at once: how many passes a thread takes is anybody's guess."""

    async def resolve(host: str, port: int, **_: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return [(2, 1, 6, "", (host, port))]

    monkeypatch.setattr(dial.anyio, "getaddrinfo", resolve)


async def cancelled_after(passes: int, call: Callable[[], Awaitable[object]], how: str) -> bool:
    """Run `call`, cancel it after so many passes; say whether that kept it from returning."""
    outcome = "running"

    async def run() -> None:
        nonlocal outcome
        try:
            await call()
        except anyio.get_cancelled_exc_class():
            outcome = "cancelled"
            raise
        outcome = "returned"

    if how == "task":
        task = asyncio.create_task(run())
        for _ in range(passes):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            for _ in range(passes):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    return outcome != "returned"


async def test_connect(how: str) -> None:
    async with warm_relay() as relay:
        cancelled = 0
        for passes in range(PASSES):
            async with nothing_left():
                client = make_client(relay.url)
                errors = told(client, ServerError, Disconnected)
                was_cancelled = await cancelled_after(passes, client.connect, how)
                cancelled += was_cancelled
                assert client.state in (("idle", "connected") if was_cancelled else ("connected",))
                if client.state == "idle":
                    async with nothing_left():
                        for _ in range(4):
                            await anyio.lowlevel.checkpoint()
                assert errors == []
                with anyio.fail_after(2):
                    await client.connect()
                    await client.publish("room", passes)
                    await client.close()
        assert 3 < cancelled < PASSES
        await until(lambda: relay.stats().connections == 0)


async def test_entering_the_context(how: str) -> None:
    async with warm_relay() as relay:
        for passes in range(PASSES):
            async with nothing_left(within=0.5):
                client = make_client(relay.url)

                async def use(client: Any = client) -> None:
                    async with client:
                        await client.publish("room", 1)

                await cancelled_after(passes, use, how)
                assert client.state in ("idle", "closed")


@pytest.mark.parametrize("name", ["publish", "send", "subscribe", "unsubscribe"])
async def test_a_request(how: str, name: str) -> None:
    async with warm_relay() as relay, nothing_left(), make_client(relay.url) as client, make_client(relay.url) as other:
        errors = told(client, ServerError, Disconnected)
        heard = told(client, Message)
        await client.subscribe("room")
        assert other.peer_id is not None
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "publish": lambda: client.publish("elsewhere", 1),
            "send": lambda: client.send(str(other.peer_id), 1),
            "subscribe": lambda: client.subscribe("room"),
            "unsubscribe": lambda: client.unsubscribe("room"),
        }
        cancelled = 0
        for passes in range(PASSES // 2):
            cancelled += await cancelled_after(passes, calls[name], how)
            with anyio.fail_after(2):
                await client.subscribe("room")
                await other.publish("room", passes)
                await client.publish("elsewhere", 2)
            assert client._session.in_flight == 0
        assert cancelled > 1
        await until(lambda: len(heard) == PASSES // 2)
        assert [message.data for message in heard] == list(range(PASSES // 2))
        assert errors == []


async def test_many_publishes_in_flight(how: str) -> None:
    async def script(guest: Guest) -> None:
        await guest.enter()
        held = []
        while True:
            frame = await guest.receive()
            held.append(frame["requestId"])
            if frame["data"] == "now":
                for request_id in held:
                    await guest.send({"type": "ack", "requestId": request_id})
                held.clear()

    async with FakeServer(script) as server, nothing_left(), make_client(server.url) as client:
        errors = told(client, ServerError)

        async def publish_many() -> None:
            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(client.publish, "room", number)

        for passes in range(8):
            assert await cancelled_after(passes + 2, publish_many, how)
            with anyio.fail_after(2):
                await client.publish("room", "now")
        assert client._session.in_flight == 0
        assert errors == []


async def test_close(how: str) -> None:
    async with warm_relay() as relay:
        cancelled = 0
        for passes in range(PASSES // 2):
            async with nothing_left():
                client = make_client(relay.url)
                lost = told(client, Disconnected)
                await client.connect()
                cancelled += await cancelled_after(passes, client.close, how)
                with anyio.fail_after(2):
                    await client.close()
                assert client.state == "closed"
                assert len(lost) == 1
        assert cancelled > 1


async def test_reading_a_stream(how: str) -> None:
    async with warm_relay() as relay, nothing_left(), make_client(relay.url) as client, make_client(relay.url) as other:
        await client.subscribe("room")
        got: list[Any] = []
        async with client.events(Message) as stream:

            async def read() -> None:
                async for message in stream:
                    got.append(message.data)

            for number in range(PASSES // 2):
                await other.publish("room", number)
                await cancelled_after(number, read, how)
            with anyio.fail_after(2):
                while len(got) < PASSES // 2:
                    got.append((await anext(stream)).data)
        assert got == list(range(PASSES // 2))


async def test_connect_while_the_token_provider_runs(how: str) -> None:
    running = 0
    asked = 0

    async def provide() -> str:
        nonlocal running, asked
        asked += 1
        running += 1
        try:
            if asked % 2:
                await anyio.sleep_forever()
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
        finally:
            running -= 1
        return "token"

    async with FakeServer() as server:
        for passes in range(12):
            async with nothing_left():
                client = make_client(server.url, token_provider=provide)
                asked = 0
                assert await cancelled_after(passes, client.connect, how)
                await until(lambda: not running)
                asked = 1
                with anyio.fail_after(2):
                    await client.connect()
                assert asked == 2
                await client.close()


async def test_one_of_several_that_wait_for_the_connection(how: str) -> None:
    async with warm_relay() as relay:
        for passes in range(12):
            client = make_client(relay.url)
            connected = told(client, Connected)
            async with anyio.create_task_group() as group:
                group.start_soon(client.connect)
                await cancelled_after(passes, client.connect, how)
            assert client.state == "connected"
            assert len(connected) == 1
            await client.close()


@pytest.mark.usefixtures("hurry")
async def test_a_cancelled_close_still_winds_down(how: str) -> None:
    async with warm_relay() as relay, nothing_left(within=1.5):
        client = make_client(relay.url)
        ended: list[str] = []

        @client.on(Message)
        async def slow(_: Message) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("cancelled")

        await client.connect()
        await client.subscribe("room")
        await relay.publish("room", 1)
        await anyio.sleep(0.02)
        assert await cancelled_after(5, client.close, how)
        assert ended == []
        with anyio.fail_after(2):
            await client.close()
        assert ended == ["cancelled"]
