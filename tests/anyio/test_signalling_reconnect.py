"""A connection that is lost in every way a connection can be, and comes back: over real sockets."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from adapter_kit import (
    KEY,
    QUICK,
    SECRET,
    Cable,
    FakeServer,
    Guest,
    make_client,
    make_relay,
    mute,
    nothing_left,
    obedient,
    told,
    until,
    warm_relay,
)

from metered_anyio import (
    Connected,
    Disconnected,
    DisconnectedError,
    GoingAway,
    Message,
    NotConnectedError,
    Presence,
    ReconnectOptions,
    ServerError,
    SignallingConnectError,
    StateChange,
    SubscribeOptions,
    TokenProviderError,
)
from metered_anyio.relay import RelayServer
from metered_proto.client import subscriptions
from metered_proto.wire.tokens import mint

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def restarted(port: int) -> AsyncIterator[RelayServer]:
    async with make_relay(port=port) as relay:
        yield relay


async def test_a_relay_that_dies_and_comes_back_on_the_same_port() -> None:
    relay = make_relay()
    await relay.start()
    port = relay.port
    client = make_client(relay.url)
    events = told(client)
    await client.connect()
    await client.subscribe("room")
    await client.subscribe("fleet/*/telemetry")
    await until(lambda: any(isinstance(event, Presence) for event in events))
    events.clear()
    await relay.close()
    await until(lambda: client.state == "reconnecting")
    async with restarted(port) as relay:
        await until(lambda: client.state == "connected")
        await until(lambda: relay.stats().channels == 1)
        await relay.publish("room", "one")
        await relay.publish("fleet/7/telemetry", "two")
        await until(lambda: sum(isinstance(event, Message) for event in events) == 2)
        kinds = [type(event) for event in events]
        assert kinds == [StateChange, Disconnected, StateChange, Connected, Presence, Message, Message]
        assert events[0] == StateChange("connected", "reconnecting")
        assert (events[1].code, events[1].will_reconnect) == (1006, True)
        assert events[2] == StateChange("reconnecting", "connected")
        assert events[3].is_reconnect is True
        assert [event.data for event in events[5:]] == ["one", "two"]
        await client.close()


async def test_a_drain_tells_and_is_obeyed() -> None:
    relay = make_relay()
    await relay.start()
    port = relay.port
    client = make_client(relay.url)
    events = told(client, GoingAway, Disconnected, Connected)
    await client.connect()
    assert await relay.drain(retry_after_ms=300) == 1
    gone = time.monotonic()
    await until(lambda: client.state == "reconnecting")
    async with restarted(port):
        await until(lambda: client.state == "connected")
        # The wait began when going_away came, a moment before the drain was over.
        assert 0.25 < time.monotonic() - gone < 0.6
        assert [type(event) for event in events] == [Connected, GoingAway, Disconnected, Connected]
        assert events[1] == GoingAway(300)
        assert events[2].code == 1001
        await client.close()


async def test_a_connection_that_is_reset() -> None:
    async with make_relay() as relay, Cable(relay.port) as cable:
        client = make_client(cable.url)
        lost = told(client, Disconnected)
        messages = told(client, Message)
        await client.connect()
        await client.subscribe("room")
        for number in range(3):
            await cable.cut()
            await until(lambda number=number: len(lost) == number + 1)
            await until(lambda: client.state == "connected")
            await until(lambda: relay.stats().channels == 1 and relay.stats().connections == 1)
            await relay.publish("room", number)
            await until(lambda number=number: len(messages) == number + 1)
        assert {event.code for event in lost} == {1006}
        await client.close()


async def test_a_connection_that_goes_dead_without_a_word() -> None:
    async with make_relay() as relay, Cable(relay.port) as cable:
        client = make_client(cable.url, inactivity_timeout=0.3)
        lost = told(client, Disconnected)
        await client.connect()
        await client.subscribe("room")
        cable.dead = True
        in_flight: list[Exception] = []

        async def publish() -> None:
            try:
                await client.publish("room", 1)
            except DisconnectedError as error:
                in_flight.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(publish)
            started = time.monotonic()
            await until(lambda: lost)
            assert 0.2 < time.monotonic() - started < 0.8
        assert lost == [Disconnected(4000, "nothing arrived in time", will_reconnect=True)]
        assert [error.code for error in in_flight] == [4000]  # type: ignore[attr-defined]
        with pytest.raises(NotConnectedError) as caught:
            await client.publish("room", 1)
        assert caught.value.state == "reconnecting"
        cable.dead = False
        # The attempt that the dead cable swallowed would only time out after 10 s.
        await cable.cut()
        await until(lambda: client.state == "connected")
        await until(lambda: relay.stats().channels == 1)
        await client.close()


async def test_a_quiet_connection_is_kept_alive_by_pings() -> None:
    pings: list[Any] = []

    async def script(guest: Guest) -> None:
        await guest.enter()
        while True:
            pings.append(await guest.receive())
            answer: dict[str, Any] = {"type": "pong"}
            if len(pings) % 2:  # as an older server puts it
                answer = {"type": "error", "code": "unknown_type"}
            await guest.send(answer)

    async with FakeServer(script) as server, make_client(server.url, inactivity_timeout=0.15) as client:
        events = told(client, Disconnected, ServerError)
        await until(lambda: len(pings) >= 6)
        assert pings[0] == {"type": "ping"}
        assert events == []


@pytest.mark.parametrize("timeout", [0, -1.0, float("inf")])
async def test_without_a_keepalive_silence_is_no_news(timeout: float) -> None:
    frames: list[Any] = []

    async def script(guest: Guest) -> None:
        await guest.enter()
        while True:
            frames.append(await guest.receive())

    async with FakeServer(script) as server, make_client(server.url, inactivity_timeout=timeout) as client:
        await anyio.sleep(0.1)
        assert client.state == "connected"
        assert frames == []


RELAY_PROCESS = """
import anyio, sys
from metered_anyio.relay import Limits, RelayServer
async def main():
    async with RelayServer(keys=[sys.argv[1]], limits=Limits(connects_per_minute=None)) as relay:
        print(relay.url, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


async def test_a_relay_process_that_is_frozen() -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - started once, and nothing else runs meanwhile
        [sys.executable, "-c", RELAY_PROCESS, KEY], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = await anyio.to_thread.run_sync(process.stdout.readline)
        client = make_client(url.strip(), inactivity_timeout=0.4)
        lost = told(client, Disconnected)
        messages = told(client, Message)
        await client.connect()
        await client.subscribe("room")
        process.send_signal(signal.SIGSTOP)
        await until(lambda: lost)
        assert lost[0].code == 4000
        # Its kernel accepts connections all the same; nobody answers on them.
        await anyio.sleep(0.1)
        assert client.state == "reconnecting"
        process.send_signal(signal.SIGCONT)
        await until(lambda: client.state == "connected")
        async with make_client(url.strip()) as other:
            while not messages:
                await other.publish("room", "again")
                await anyio.sleep(0.01)
        await client.close()
    finally:
        process.kill()
        process.communicate()


# --- what the end of a connection decides ---


@pytest.mark.parametrize("code", [4001, 4002, 4003, 4012, 4020])
async def test_close_codes_that_are_final(code: int) -> None:
    async def script(guest: Guest) -> None:
        await guest.enter()
        await guest.receive()
        await guest.close(code, "for good")

    async with FakeServer(script) as server, nothing_left():
        client = make_client(server.url)
        lost = told(client, Disconnected)
        await client.connect()
        stream = client.events(Message)
        with pytest.raises(DisconnectedError):
            await client.publish("room", 1)
        assert client.state == "closed"
        assert lost == [Disconnected(code, "for good", will_reconnect=False)]
        with anyio.fail_after(1):
            assert [event async for event in stream] == []
        await client.close()
        assert len(server.guests) == 1


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1009, 1011, 4000, 4011, 4999])
async def test_close_codes_after_which_it_comes_back(code: int) -> None:
    async def script(guest: Guest) -> None:
        await guest.enter()
        if len(server.guests) == 1:
            await guest.receive()
            await guest.close(code, "for now")
        await guest.obey()

    async with FakeServer(script) as server:
        client = make_client(server.url)
        lost = told(client, Disconnected)
        await client.connect()
        with pytest.raises(DisconnectedError):
            await client.publish("room", 1)
        await until(lambda: client.state == "connected")
        assert lost == [Disconnected(code, "for now", will_reconnect=True)]
        await client.publish("room", 2)
        await client.close()


async def test_the_concurrent_limit_is_given_time() -> None:
    async def script(guest: Guest) -> None:
        await guest.enter()
        await guest.close(4010, "concurrent_limit")

    async with FakeServer(script) as server, nothing_left():
        client = make_client(server.url)
        await client.connect()
        await until(lambda: client.state == "reconnecting")
        await anyio.sleep(0.1)
        assert len(server.guests) == 1
        await client.close()


async def test_an_expired_token_is_replaced() -> None:
    asked = 0

    async def provide() -> str:
        nonlocal asked
        asked += 1
        now = int(time.time())
        # The first one is over soon: whole seconds are cut off, and the relay keeps a margin.
        return mint(key_id=SECRET.id, secret=SECRET.secret, peer_id="dev", now=now, expires_in=2 if asked == 1 else 60)

    async with make_relay() as relay:
        client = make_client(relay.url, token_provider=provide)
        events = told(client, Disconnected, Connected)
        await client.connect()
        await client.subscribe("room")
        await until(lambda: len(events) == 3)
        assert events[1] == Disconnected(4002, "token_expired", will_reconnect=True)
        assert [event.peer_id for event in (events[0], events[2])] == ["dev", "dev"]
        assert asked == 2
        await until(lambda: relay.stats().channels == 1)
        await client.close()


async def test_without_reconnect_it_stays_down() -> None:
    async def script(guest: Guest) -> None:
        await guest.enter()

    async with FakeServer(script) as server, nothing_left():
        client = make_client(server.url, reconnect=False)
        lost = told(client, Disconnected)
        await client.connect()
        await until(lambda: client.state == "closed")
        assert [event.will_reconnect for event in lost] == [False]
        await client.close()


async def test_attempts_run_out() -> None:
    async def script(guest: Guest) -> None:
        if len(server.guests) == 1:
            await guest.enter()

    async with FakeServer(script) as server, nothing_left():
        options = ReconnectOptions(initial_delay=0.01, max_delay=0.01, max_attempts=3, jitter_ratio=0)
        client = make_client(server.url, reconnect=options)
        lost = told(client, Disconnected)
        await client.connect()
        stream = client.events(Message)
        await until(lambda: client.state == "closed")
        assert [event.will_reconnect for event in lost] == [True, False]
        assert len(server.guests) == 4
        assert [event async for event in stream] == []
        await client.close()


# --- the token provider ---


async def test_the_provider_is_asked_before_every_attempt_and_its_failures_are_told() -> None:
    asked = 0

    async def provide() -> str:
        nonlocal asked
        asked += 1
        if 2 <= asked <= 6:
            raise ValueError(f"failure {asked - 1}")
        return f"token-{asked}"

    async def script(guest: Guest) -> None:
        await guest.enter()
        if len(server.guests) == 1:
            return
        await guest.obey()

    async with FakeServer(script) as server:
        client = make_client(server.url, token_provider=provide)
        failures = told(client, TokenProviderError)
        await client.connect()
        await until(lambda: len(server.guests) == 2 and client.state == "connected")
        assert [guest.target for guest in server.guests] == ["/v1?token=token-1", "/v1?token=token-7"]
        assert [event.consecutive_failures for event in failures] == [3, 4, 5]
        assert [str(event.err) for event in failures] == ["failure 3", "failure 4", "failure 5"]
        await client.close()


async def test_failures_of_the_provider_are_not_kept_in_memory() -> None:
    class Failure(Exception):
        pass

    async def provide() -> str:
        raise Failure

    client = make_client("ws://127.0.0.1:1", token_provider=provide)
    for _ in range(20):
        with pytest.raises(SignallingConnectError):
            await client.connect()
    await client.close()
    gc.collect()
    # An error of connect() that is still there keeps its cause: counting causes counts both.
    left = [found for found in gc.get_objects() if isinstance(found, Failure)]
    assert len(left) <= 2  # the last one, and what pytest keeps


# --- subscriptions ---


async def test_subscriptions_are_restored_in_order_and_those_dropped_meanwhile_are_not() -> None:
    heard: list[list[str]] = []

    async def script(guest: Guest) -> None:
        await guest.enter()
        frames: list[str] = []
        heard.append(frames)
        while True:
            frame = await guest.receive()
            frames.append(f"{frame['type']} {frame['channel']} {frame.get('includeSenderMetadata', False)}")
            await guest.send({"type": "ack", "requestId": frame["requestId"]})
            if frame["channel"] == "hang up":
                await guest.close(1001)

    async with FakeServer(script) as server:
        client = make_client(server.url)
        await client.connect()
        for channel in ("a", "b/*", "c", "d"):
            await client.subscribe(channel, SubscribeOptions(include_sender_metadata=channel == "c"))
        await client.unsubscribe("a")
        server.script = mute
        await client.publish("hang up", 1)
        await until(lambda: client.state == "reconnecting")
        with pytest.raises(NotConnectedError):
            await client.unsubscribe("d")
        with pytest.raises(NotConnectedError):
            await client.subscribe("refused for lack of a connection")
        server.script = script
        for guest in server.guests[1:]:
            await anyio.aclose_forcefully(guest.stream)
        await until(lambda: len(heard) == 2 and len(heard[1]) >= 2)
        assert heard[1] == ["subscribe b/* False", "subscribe c True"]
        await client.close()


async def test_auto_resubscribe_off() -> None:
    async with make_relay() as relay, Cable(relay.port) as cable:
        client = make_client(cable.url, auto_resubscribe=False)
        await client.connect()
        await client.subscribe("room")
        await cable.cut()
        await until(lambda: client.state == "reconnecting")
        await until(lambda: client.state == "connected")
        await client.publish("elsewhere", 1)
        assert relay.stats().channels == 0
        await client.close()


@pytest.mark.parametrize("refusals", [3, 4])
async def test_a_failed_replay_is_tried_three_more_times(monkeypatch: pytest.MonkeyPatch, refusals: int) -> None:
    monkeypatch.setattr(subscriptions, "RETRY_AFTER", 30_000)
    subscribes = 0

    async def refuse(guest: Guest) -> None:
        nonlocal subscribes
        await guest.enter()
        while True:
            frame = await guest.receive()
            subscribes += 1
            if subscribes <= refusals:
                await guest.send({"type": "error", "code": "backend_error", "requestId": frame["requestId"]})
            else:
                await guest.send({"type": "ack", "requestId": frame["requestId"]})

    async def first(guest: Guest) -> None:
        await guest.enter()
        frame = await guest.receive()
        await guest.send({"type": "ack", "requestId": frame["requestId"]})
        server.script = refuse
        await guest.close(1001)

    async with FakeServer(first) as server:
        client = make_client(server.url)
        errors = told(client, ServerError)
        await client.connect()
        await client.subscribe("room")
        await until(lambda: subscribes == 4)
        await anyio.sleep(0.08)
        assert subscribes == 4
        assert [error.code for error in errors] == (["backend_error"] if refusals == 4 else [])
        assert client.state == "connected"
        await client.close()


# --- closing and connecting meanwhile ---


async def test_close_while_reconnecting() -> None:
    async with FakeServer() as server:
        client = make_client(server.url)
        await client.connect()
    # Nobody listens now.
    async with nothing_left():
        await until(lambda: client.state == "reconnecting")
        await client.close()
        assert client.state == "closed"


async def test_close_while_an_attempt_is_under_way() -> None:
    async def script(guest: Guest) -> None:
        if len(server.guests) == 1:
            await guest.enter()
        else:
            await mute(guest)

    async with FakeServer(script) as server:
        client = make_client(server.url)
        await client.connect()
        await until(lambda: len(server.guests) == 2)
        started = time.monotonic()
        await client.close()
        assert time.monotonic() - started < 0.5


async def test_connect_while_reconnecting_waits_for_the_outcome() -> None:
    async with FakeServer() as server:
        client = make_client(server.url, reconnect=QUICK)
        await client.connect()
        server.script = mute
        await anyio.aclose_forcefully(server.guests[0].stream)
        await until(lambda: len(server.guests) == 2)

        async def relent() -> None:
            await anyio.sleep(0.02)
            server.script = obedient
            await anyio.aclose_forcefully(server.guests[1].stream)

        async with anyio.create_task_group() as group:
            group.start_soon(relent)
            with anyio.fail_after(2):
                await client.connect()
            assert client.state == "connected"
        await client.close()


async def test_what_was_running_before_a_reconnect_is_gone_after_it() -> None:
    async with warm_relay() as relay, Cable(relay.port) as cable:
        client = make_client(cable.url)
        await client.connect()
        async with nothing_left(within=0.5):
            for _ in range(5):
                await cable.cut()
                await until(lambda: client.state == "reconnecting")
                await until(lambda: client.state == "connected")
            await client.close()
