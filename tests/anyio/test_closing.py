"""`close` returns within two seconds whatever the other end does, and leaves no task, thread, socket or descriptor."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import anyio
import pytest
from adapter_kit import FakeServer, Guest, make_client, nothing_left, until

from metered_anyio import Message, NotConnectedError, SignallingError, dial

pytestmark = pytest.mark.anyio


async def ignores_the_close(guest: Guest) -> None:
    await guest.enter()
    await anyio.sleep_forever()


async def floods(guest: Guest) -> None:
    await guest.enter()
    flood = guest.ws.frame(json.dumps({"type": "message", "channel": "c", "from": "x", "data": "y" * 400}).encode())
    while True:
        await guest.raw(flood * 100)


async def reads_nothing(guest: Guest) -> None:
    raw = guest.stream.extra(anyio.abc.SocketAttribute.raw_socket)  # type: ignore[attr-defined]
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await guest.enter()
    await anyio.sleep_forever()


async def hangs_up(guest: Guest) -> None:
    await guest.enter()
    await guest.receive()


async def answers_the_close_and_stays(guest: Guest) -> None:
    await guest.enter()
    while guest.ended is None:
        await guest.read()
    await anyio.sleep_forever()


async def half_closes(guest: Guest) -> None:
    await guest.enter()
    await guest.stream.send_eof()
    await anyio.sleep_forever()


async def never_upgrades(guest: Guest) -> None:
    await guest.asked()
    await anyio.sleep_forever()


async def never_welcomes(guest: Guest) -> None:
    await guest.upgrade()
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    "script",
    [
        ignores_the_close,
        floods,
        reads_nothing,
        hangs_up,
        answers_the_close_and_stays,
        half_closes,
        never_upgrades,
        never_welcomes,
    ],
)
async def test_close_is_bounded(script: object, request: pytest.FixtureRequest) -> None:
    if script is not ignores_the_close:  # the one that has to wait as long as it ever gets
        request.getfixturevalue("hurry")
    before = len(os.listdir("/proc/self/fd"))
    async with FakeServer(script) as server:  # type: ignore[arg-type]
        threads = threading.active_count()
        async with nothing_left():
            client = make_client(server.url)
            client.on(Message, lambda event: None)
            async with anyio.create_task_group() as group:

                async def publish() -> None:
                    try:
                        await client.publish("room", "x" * 60_000)
                    except SignallingError:
                        pass

                async def use() -> None:
                    try:
                        await client.connect()
                    except SignallingError:
                        return
                    for _ in range(30):
                        group.start_soon(publish)

                group.start_soon(use)
                await until(lambda: server.guests)
                await anyio.sleep(0.1)
                started = time.monotonic()
                await client.close()
                took = time.monotonic() - started
            assert took < 2.0
            assert client.state == "closed"
            with pytest.raises(NotConnectedError):
                await client.publish("room", 1)
        # A loop keeps a few threads for names, whoever uses it; clients add none of their own.
        assert threading.active_count() <= threads + 2
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 3)


async def test_close_while_a_name_is_being_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = anyio.Event()

    async def never(*_: object, **__: object) -> None:
        asked.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(dial.anyio, "getaddrinfo", never)
    async with nothing_left(), anyio.create_task_group() as group:
        client = make_client("ws://127.0.0.1:1")

        async def connect() -> None:
            with pytest.raises(SignallingError):
                await client.connect()

        group.start_soon(connect)
        await asked.wait()
        with anyio.fail_after(0.5):
            await client.close()


async def test_close_while_the_token_provider_runs() -> None:
    asked = anyio.Event()
    ended: list[str] = []

    async def provide() -> str:
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")
        raise AssertionError

    client = make_client("ws://127.0.0.1:1", token_provider=provide)
    async with nothing_left(), anyio.create_task_group() as group:

        async def connect() -> None:
            with pytest.raises(SignallingError):
                await client.connect()

        group.start_soon(connect)
        await asked.wait()
        with anyio.fail_after(0.5):
            await client.close()
        assert ended == ["cancelled"]


@pytest.mark.usefixtures("hurry")
async def test_close_does_not_wait_for_a_token_provider_that_refuses_to_end() -> None:
    gate = anyio.Event()
    asked = anyio.Event()

    async def stubborn() -> str:
        asked.set()
        with anyio.CancelScope(shield=True):
            await gate.wait()
        return "token"

    client = make_client("ws://127.0.0.1:1", token_provider=stubborn)
    async with nothing_left(within=0.5), anyio.create_task_group() as group:

        async def connect() -> None:
            with pytest.raises(SignallingError):
                await client.connect()

        group.start_soon(connect)
        await asked.wait()
        started = time.monotonic()
        await client.close()
        assert time.monotonic() - started < 0.8
        gate.set()


async def test_a_hundred_lives_leave_nothing(anyio_backend: str) -> None:
    async with FakeServer() as server:
        async with make_client(server.url) as client:
            await client.publish("room", 1)
        before = len(os.listdir("/proc/self/fd"))
        async with nothing_left():
            for _ in range(50):
                async with make_client(server.url) as client:
                    await client.publish("room", 1)
                server.guests.clear()
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_pongs_do_not_pile_up_for_a_remote_that_never_reads() -> None:
    """It pings without end and reads nothing: what we owe it must not fill our memory."""
    pinged = 0

    async def script(guest: Guest) -> None:
        nonlocal pinged
        raw = guest.stream.extra(anyio.abc.SocketAttribute.raw_socket)  # type: ignore[attr-defined]
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await guest.enter()
        pings = guest.ws.ping(b"p" * 125) * 500
        while True:
            await guest.raw(pings)
            pinged += len(pings)

    async with FakeServer(script) as server, make_client(server.url) as client:
        assert client._pump is not None
        (link,) = client._pump.links.values()
        await until(lambda: pinged > 8_000_000, timeout=10)
        held = sum(len(piece) for piece in link._out) + len(link._owed)
        assert held < 300_000
        assert client.state == "connected"
