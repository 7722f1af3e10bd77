"""`SignallingClient` against a relay: every member, every event with its fields, every error of a call."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
from adapter_kit import (
    KEY,
    SECRET,
    FakeServer,
    Guest,
    make_client,
    make_relay,
    nothing_left,
    obedient,
    told,
    until,
    warm_relay,
)

from metered_anyio import (
    AckTimeoutError,
    Connected,
    Direct,
    Disconnected,
    DisconnectedError,
    Event,
    GoingAway,
    IceServer,
    Message,
    NotConnectedError,
    OversizedPayloadError,
    Presence,
    PresencePeer,
    ReconnectOptions,
    ServerError,
    ServerRequestError,
    SignallingClient,
    SignallingConnectError,
    SignallingError,
    StateChange,
    SubscribeOptions,
    signalling_client,
)
from metered_anyio.relay import Limits, PublishableKey, RelayServer
from metered_proto.settings import ClientSettings
from metered_proto.wire.tokens import mint

pytestmark = pytest.mark.anyio


def token(peer_id: str, **more: Any) -> str:
    now = int(time.time())
    return mint(key_id=SECRET.id, secret=SECRET.secret, peer_id=peer_id, now=now, **more)


def token_client(url: str, peer_id: str, **more: Any) -> SignallingClient:
    async def provide() -> str:
        return token(peer_id, **more)

    return make_client(url, token_provider=provide)


# --- members ---


async def test_as_a_context_manager() -> None:
    async with warm_relay() as relay, nothing_left():
        client = make_client(relay.url)
        states = told(client, StateChange)
        async with client as entered:
            assert entered is client
            assert client.state == "connected"
            assert client.peer_id is not None
            assert client.peer_id.startswith("peer_")
        assert client.state == "closed"
        assert states == [
            StateChange("idle", "connecting"),
            StateChange("connecting", "connected"),
            StateChange("connected", "closed"),
        ]


async def test_connect_and_close_from_different_tasks() -> None:
    async with warm_relay() as relay, nothing_left():
        client = make_client(relay.url)
        async with anyio.create_task_group() as group:
            group.start_soon(client.connect)
        await client.publish("room", 1)
        async with anyio.create_task_group() as group:
            group.start_soon(client.close)
        assert client.state == "closed"


async def test_connect_while_connecting_or_connected_joins_in() -> None:
    async with make_relay() as relay, make_client(relay.url) as warm:
        await warm.connect()
        client = make_client(relay.url)
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(client.connect)
        assert client.state == "connected"
        assert relay.stats().welcomed == 2
        await client.close()


async def test_close_is_idempotent_and_ends_streams() -> None:
    async with warm_relay() as relay, nothing_left():
        client = make_client(relay.url)
        await client.connect()
        stream = client.events(Message)
        ends: list[str] = []

        async def read() -> None:
            async for _ in stream:
                pass
            ends.append("ended")

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(client.close)
            group.start_soon(client.close)
            await client.close()
        await client.close()
        assert ends == ["ended"]
        assert [event async for event in client.events(Message)] == []


async def test_close_tells_the_server_code_and_reason() -> None:
    seen: list[Any] = []

    async def script(guest: Guest) -> None:
        await guest.enter()
        while guest.ended is None:
            await guest.read()
        seen.append(guest.ended)

    async with FakeServer(script) as server:
        client = make_client(server.url)
        disconnected = told(client, Disconnected)
        await client.connect()
        await client.close(4321, "that is all")
        await until(lambda: seen)
        assert (seen[0].code, seen[0].reason) == (4321, "that is all")
        assert disconnected == [Disconnected(4321, "that is all", will_reconnect=False)]


@pytest.mark.parametrize(("code", "reason"), [(1001, ""), (2999, ""), (5000, ""), (1000, "x" * 124)])
async def test_close_with_a_bad_code_or_reason_changes_nothing(code: int, reason: str) -> None:
    async with make_relay() as relay, make_client(relay.url) as client:
        with pytest.raises(ValueError, match=r"code|reason"):
            await client.close(code, reason)
        await client.publish("room", 1)


async def test_close_of_a_client_that_never_connected() -> None:
    async with nothing_left():
        client = make_client("ws://127.0.0.1:1")
        seen = told(client)
        await client.close()
        assert client.state == "closed"
        assert seen == [StateChange("idle", "closed"), Disconnected(1000, "", will_reconnect=False)]
        with pytest.raises(NotConnectedError):
            await client.connect()


async def test_calls_that_need_a_connection_say_so() -> None:
    client = make_client("ws://127.0.0.1:1")
    for _ in range(2):
        for call in (
            client.publish("room", 1),
            client.send("peer", 1),
            client.subscribe("room"),
            client.unsubscribe("room"),
        ):
            with pytest.raises(NotConnectedError) as caught:
                await call
            assert caught.value.state == client.state
        await client.close()


async def test_subscribe_publish_unsubscribe() -> None:
    async with make_relay() as relay, make_client(relay.url) as one, make_client(relay.url) as two:
        messages = told(one, Message)
        await one.subscribe("fleet/*/telemetry")
        await one.subscribe("fleet/7/telemetry")
        for value in (1, None, [1.5, "é"], {"a": {}}):
            await two.publish("fleet/7/telemetry", value)
        await two.publish("fleet/8/telemetry", "eight")
        await until(lambda: len(messages) == 5)
        assert [message.data for message in messages] == [1, None, [1.5, "é"], {"a": {}}, "eight"]
        assert messages[-1] == Message("fleet/8/telemetry", two.peer_id, "eight", None)  # type: ignore[arg-type]
        await one.unsubscribe("fleet/*/telemetry")
        await two.publish("fleet/8/telemetry", "unheard")
        await two.publish("fleet/7/telemetry", "heard")
        await until(lambda: len(messages) == 6)
        assert messages[-1].data == "heard"


async def test_a_publisher_does_not_hear_itself() -> None:
    async with make_relay() as relay, make_client(relay.url) as client:
        messages = told(client, Message)
        await client.subscribe("room")
        await client.publish("room", 1)
        await client.publish("room", 2)
        assert messages == []


async def test_answers_find_their_callers() -> None:
    async with make_relay() as relay, make_client(relay.url) as one, make_client(relay.url) as two:
        await one.subscribe("room")
        messages = told(one, Message)
        outcomes: list[tuple[int, str]] = []

        async def call(number: int) -> None:
            try:
                if number % 3:
                    await two.publish("room", number)
                else:
                    await two.send("nobody", number)
            except ServerRequestError as error:
                outcomes.append((number, error.code))
            else:
                outcomes.append((number, "done"))

        async with anyio.create_task_group() as group:
            for number in range(300):
                group.start_soon(call, number)
        assert sorted(outcomes) == [(n, "done" if n % 3 else "peer_not_found") for n in range(300)]
        await until(lambda: len(messages) == 200)
        assert sorted(message.data for message in messages) == [n for n in range(300) if n % 3]


# --- errors of calls ---


async def test_bad_names_and_data_are_refused_at_the_call() -> None:
    async with make_relay() as relay, make_client(relay.url) as client:
        before = relay.stats().frames_in
        bad: list[tuple[type[Exception], Any]] = [
            (TypeError, client.subscribe(7)),  # type: ignore[arg-type]
            (ValueError, client.subscribe("")),
            (ValueError, client.subscribe("a\x00b")),
            (TypeError, client.subscribe("room", True)),  # type: ignore[arg-type]
            (TypeError, client.unsubscribe(None)),  # type: ignore[arg-type]
            (ValueError, client.unsubscribe("é" * 200)),
            (ValueError, client.publish("", 1)),
            (TypeError, client.publish("room", object())),
            (ValueError, client.publish("room", float("nan"))),
            (ValueError, client.publish("room", [float("inf")])),
            (ValueError, client.publish("room", "\ud800")),
            (TypeError, client.send(7, 1)),  # type: ignore[arg-type]
            (ValueError, client.send("", 1)),
            (ValueError, client.send("é", 1)),
            (ValueError, client.send("x" * 129, 1)),
        ]
        for error, call in bad:
            with pytest.raises(error):
                await call
        await client.publish("room", 1)
        assert relay.stats().frames_in == before + 1


async def test_server_request_error() -> None:
    key = PublishableKey(KEY, patterns=("open/*",), permissions=("publish", "subscribe"))
    async with RelayServer(keys=[key]) as relay, make_client(relay.url) as client:
        with pytest.raises(ServerRequestError) as caught:
            await client.subscribe("closed/1")
        assert caught.value.code == "channel_not_authorized"
        assert isinstance(caught.value.message, str)
        assert caught.value.request_id is not None
        with pytest.raises(ServerRequestError) as caught:
            await client.send("somebody", 1)
        assert caught.value.code == "action_not_permitted"
        await client.publish("open/1", 1)


async def test_oversized_payload_error_and_nothing_sent() -> None:
    async with make_relay(limits=Limits(max_message_size=1000)) as relay, make_client(relay.url) as client:
        assert client.max_message_size == 1000
        await client.publish("room", "x" * 998)
        before = relay.stats().frames_in
        for call in (client.publish("room", "x" * 999), client.send("peer", "é" * 500)):
            with pytest.raises(OversizedPayloadError) as caught:
                await call
            assert caught.value.size in (1001, 1002)
            assert caught.value.cap == 1000
        await client.publish("room", 1)
        assert relay.stats().frames_in == before + 1


async def test_ack_timeout_error(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, ack_timeout=0.05)

    async def script(guest: Guest) -> None:
        await guest.enter()
        while True:
            frame = await guest.receive()
            if frame.get("data") == "answer":
                await guest.send({"type": "ack", "requestId": frame["requestId"]})

    async with FakeServer(script) as server, make_client(server.url) as client:
        with pytest.raises(AckTimeoutError) as caught:
            await client.publish("room", 1)
        assert caught.value.timeout == 0.05
        await client.publish("room", "answer")


async def test_disconnected_error() -> None:
    async def script(guest: Guest) -> None:
        await guest.enter()
        await guest.receive()
        await guest.close(1011, "sorry")

    async with FakeServer(script) as server:
        client = make_client(server.url)
        await client.connect()
        with pytest.raises(DisconnectedError) as caught:
            await client.publish("room", 1)
        assert (caught.value.code, caught.value.reason) == (1011, "sorry")
        await client.close()


@pytest.mark.usefixtures("hurry")
async def test_close_releases_whoever_waits() -> None:
    async def script(guest: Guest) -> None:
        await guest.enter()
        await anyio.sleep_forever()

    async with FakeServer(script) as server:
        client = make_client(server.url)
        await client.connect()
        outcomes: list[Exception] = []

        async def publish() -> None:
            try:
                await client.publish("room", 1)
            except SignallingError as error:
                outcomes.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(publish)
            await anyio.wait_all_tasks_blocked()
            await client.close(1000, "done")
        assert outcomes == [DisconnectedError(1000, "done")] * 3


@pytest.mark.usefixtures("hurry")
async def test_close_releases_whoever_waits_in_connect() -> None:
    async def script(guest: Guest) -> None:
        await guest.upgrade()
        await anyio.sleep_forever()

    async with FakeServer(script) as server, nothing_left():
        client = make_client(server.url)
        errors: list[SignallingConnectError] = []

        async def connect() -> None:
            with pytest.raises(SignallingConnectError) as caught:
                await client.connect()
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            group.start_soon(connect)
            await until(lambda: server.guests)
            await client.close()
        assert errors[0].close_code == 1000


# --- events, each with its fields ---


async def test_event_connected() -> None:
    ice = [{"urls": "turn:turn.example:3478", "username": "u", "credential": "secret"}]
    async with make_relay() as relay:
        client = token_client(relay.url, "dev-1", expires_in=600, metadata={"iceServers": ice})
        connected = told(client, Connected)
        async with client:
            (event,) = connected
            assert event.peer_id == client.peer_id == "dev-1"
            assert abs(event.server_time - time.time() * 1000) < 5000
            assert abs(event.expires_at - time.time() - 600) < 5
            assert event.is_reconnect is False
            assert event.max_message_size == 65_536
            assert event.ice_servers == client.ice_servers
            assert event.ice_servers == (IceServer(("turn:turn.example:3478",), "u", "secret"),)
            assert "secret" not in repr(event)


async def test_event_disconnected_and_statechange() -> None:
    async with make_relay() as relay:
        client = make_client(relay.url)
        events = told(client, Disconnected, StateChange)
        await client.connect()
        assert client.peer_id is not None
        events.clear()
        await relay.kick(client.peer_id)
        await until(lambda: client.state == "closed")
        assert events == [
            StateChange("connected", "closed"),
            Disconnected(4020, "admin_disconnect", will_reconnect=False),
        ]
        assert events[0].from_ == "connected"
        assert events[0].to == "closed"
        assert (events[1].code, events[1].reason, events[1].will_reconnect) == (4020, "admin_disconnect", False)
        await client.close()


async def test_event_message_with_sender_metadata() -> None:
    async with make_relay() as relay:
        sender = token_client(relay.url, "sender", peer_metadata={"name": "S"})
        async with sender, make_client(relay.url) as curious, make_client(relay.url) as plain:
            seen, unstamped = told(curious, Message), told(plain, Message)
            await curious.subscribe("room", SubscribeOptions(include_sender_metadata=True))
            await plain.subscribe("room")
            await sender.publish("room", {"x": 1})
            await until(lambda: seen and unstamped)
            assert seen == [Message("room", "sender", {"x": 1}, {"name": "S"})]
            assert unstamped == [Message("room", "sender", {"x": 1}, None)]


async def test_event_direct() -> None:
    async with make_relay() as relay:
        sender = token_client(relay.url, "sender", peer_metadata={"name": "S"})
        async with sender, token_client(relay.url, "target") as target:
            seen = told(target, Direct)
            await sender.send("target", [1])
            await until(lambda: seen)
            assert seen == [Direct("sender", [1], {"name": "S"})]


async def test_event_presence() -> None:
    async with make_relay() as relay, token_client(relay.url, "one") as one:
        seen = told(one, Presence)
        await one.subscribe("room")
        async with token_client(relay.url, "two", peer_metadata={"n": 2}) as two:
            other = told(two, Presence)
            await two.subscribe("room")
            await until(lambda: other)
            assert other == [Presence("room", (PresencePeer("one"),), ())]
        await until(lambda: len(seen) == 3)
        assert seen == [
            Presence("room", (), ()),
            Presence("room", (PresencePeer("two", {"n": 2}),), ()),
            Presence("room", (), (PresencePeer("two", {"n": 2}),)),
        ]


async def test_event_server_error_and_going_away() -> None:
    async def script(guest: Guest) -> None:
        await guest.enter()
        await guest.send({"type": "error", "code": "internal_error", "message": "oh", "requestId": "zz"})
        await guest.send({"type": "error", "code": "brand_new"})
        await guest.send({"type": "going_away", "retryAfterMs": 1500})
        await guest.obey()

    async with FakeServer(script) as server:
        client = make_client(server.url)
        seen = told(client, ServerError, GoingAway)
        async with client:
            await until(lambda: len(seen) == 3)
        assert seen == [ServerError("internal_error", "oh", "zz"), ServerError("brand_new", "", None), GoingAway(1500)]


async def test_every_event_is_frozen_slotted_and_an_event() -> None:
    async with make_relay() as relay:
        client = make_client(relay.url)
        seen = told(client)
        async with client:
            await client.subscribe("room")
        assert {type(event) for event in seen} == {StateChange, Connected, Presence, Disconnected}
        for event in seen:
            assert isinstance(event, Event)
            assert not hasattr(event, "__dict__")
            with pytest.raises(AttributeError):
                event.code = 1


# --- a first connect that fails ---


def shorten(monkeypatch: pytest.MonkeyPatch, **timeouts: float) -> None:
    """Machines with other timeouts than the public options can set."""
    monkeypatch.setattr(signalling_client, "ClientSettings", lambda **given: ClientSettings(**given, **timeouts))


async def expect_failure(client: SignallingClient, code: int) -> SignallingConnectError:
    async with nothing_left():
        with pytest.raises(SignallingConnectError) as caught, anyio.fail_after(3):
            await client.connect()
        assert caught.value.close_code == code
        assert client.state == "idle"
        assert KEY not in str(caught.value)
    return caught.value


async def test_connect_refused_port() -> None:
    async with FakeServer() as server:
        url = server.url
    error = await expect_failure(make_client(url), 1006)
    assert error.close_reason == "connection refused"


async def test_connect_bad_key() -> None:
    async with warm_relay() as relay:
        error = await expect_failure(make_client(relay.url, api_key="pk_live_other"), 4001)
        assert error.close_reason == "invalid_token"


@pytest.mark.parametrize("status", [302, 403, 429, 503])
async def test_connect_http_refusal(status: int) -> None:
    async def script(guest: Guest) -> None:
        await guest.asked()
        await guest.raw(guest.ws.respond(status, headers=[("Location", "/elsewhere")], body=KEY.encode()))

    async with FakeServer(script) as server:
        await expect_failure(make_client(server.url), status)


async def test_connect_no_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, welcome_timeout=0.1)

    async def script(guest: Guest) -> None:
        await guest.upgrade()
        await anyio.sleep_forever()

    async with FakeServer(script) as server:
        error = await expect_failure(make_client(server.url), 1006)
        assert error.close_reason == "no welcome came"


async def test_connect_no_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, open_timeout=0.1)

    async def script(guest: Guest) -> None:
        await anyio.sleep_forever()

    async with FakeServer(script) as server:
        await expect_failure(make_client(server.url), 1006)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"\x00" * 40_000]
)
async def test_connect_something_that_is_no_websocket(answer: bytes) -> None:
    async def script(guest: Guest) -> None:
        await guest.asked()
        await guest.raw(answer)

    async with FakeServer(script) as server:
        with pytest.raises(SignallingConnectError) as caught, anyio.fail_after(3):
            await make_client(server.url).connect()
        assert caught.value.close_code in (1002, 1006)


async def test_connect_lost_before_the_welcome() -> None:
    async def script(guest: Guest) -> None:
        await guest.upgrade()

    async with FakeServer(script) as server:
        await expect_failure(make_client(server.url), 1006)


async def test_connect_where_the_token_provider_fails() -> None:
    async def fail() -> str:
        raise LookupError(KEY)

    async def nonsense() -> str:
        return 7  # type: ignore[return-value]

    def no_coroutine() -> str:
        return "token"

    async with warm_relay() as relay:
        error = await expect_failure(make_client(relay.url, token_provider=fail), 1006)
        assert isinstance(error.__cause__, LookupError)
        assert "LookupError" in error.close_reason
        await expect_failure(make_client(relay.url, token_provider=nonsense), 1006)
        await expect_failure(make_client(relay.url, token_provider=no_coroutine), 1006)
        assert relay.stats().welcomed == 0


async def test_connect_where_the_token_provider_takes_too_long() -> None:
    ended: list[bool] = []

    async def slow() -> str:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)
        raise AssertionError

    client = make_client("ws://127.0.0.1:1", token_provider=slow, token_provider_timeout=0.05)
    error = await expect_failure(client, 1006)
    assert isinstance(error.__cause__, TimeoutError)
    await until(lambda: ended)


async def test_a_failed_client_connects_again_with_its_handlers() -> None:
    async def refuse(guest: Guest) -> None:
        await guest.upgrade()
        await guest.close(4001, "invalid_token")

    async with FakeServer(refuse) as server:
        client = make_client(server.url)
        seen = told(client, Connected, Message)
        stream = client.events(Message)
        for _ in range(3):
            await expect_failure(client, 4001)

        async def greet(guest: Guest) -> None:
            await guest.enter()
            await guest.send({"type": "message", "channel": "room", "from": "x", "data": 1})
            await guest.obey()

        server.script = greet
        await client.connect()
        with anyio.fail_after(2):
            assert (await anext(stream)).data == 1
        assert [type(event) for event in seen] == [Connected, Message]
        assert seen[0].is_reconnect is False
        await client.close()


async def test_the_first_connect_never_retries_unless_told_to() -> None:
    attempts = 0

    async def refuse_twice(guest: Guest) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            return
        await obedient(guest)

    async with FakeServer(refuse_twice) as server:
        await expect_failure(make_client(server.url), 1006)
        assert attempts == 1
        patient = ReconnectOptions(initial_delay=0.01, jitter_ratio=0, retry_first=True)
        async with make_client(server.url, reconnect=patient) as client:
            assert attempts == 3
            assert client.state == "connected"


async def test_connect_failed_by_everybody_fails_everybody() -> None:
    async with FakeServer() as server:
        url = server.url
    client = make_client(url)
    failures: list[int] = []

    async def connect() -> None:
        try:
            await client.connect()
        except SignallingConnectError as error:
            failures.append(error.close_code)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(connect)
    assert failures == [1006] * 4
