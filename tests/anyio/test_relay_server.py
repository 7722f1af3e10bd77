"""The relay over sockets: its REST plane, its limits, its end, and guests that misbehave."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Any

import anyio
import anyio.abc
import httpx
import pytest
from adapter_kit import (
    BROKEN,
    KEY,
    SECRET,
    Stranger,
    make_client,
    make_relay,
    nothing_left,
    told,
    until,
    warm_relay,
)

from metered_anyio import (
    Direct,
    Disconnected,
    GoingAway,
    Message,
    PresencePeer,
    ServerRequestError,
    SignallingConnectError,
)
from metered_anyio.relay import Limits, PublishableKey, RelayServer, SecretKey, server
from metered_proto.websocket_events import Closed, Refused

pytestmark = pytest.mark.anyio

NO_LIMITS = {"connects_per_minute": None, "message_rate": None}
AUTHORIZED = {"Authorization": f"Bearer {SECRET.id}:{SECRET.secret}"}


def rest(relay: RelayServer, headers: Any = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=relay.url.replace("ws:", "http:") + "/v1",
        headers=AUTHORIZED if headers is None else headers,
        timeout=3,
    )


# --- its life ---


async def test_what_can_be_told_of_a_relay() -> None:
    relay = make_relay()
    assert repr(relay) == "<RelayServer not listening>"
    for ask in (lambda: relay.port, lambda: relay.url, relay.stats):
        with pytest.raises(RuntimeError):
            ask()
    with pytest.raises(RuntimeError):
        await relay.kick("peer")
    async with relay:
        assert repr(relay) == f"<RelayServer {relay.url}>"
        assert relay.url == f"ws://127.0.0.1:{relay.port}"
        with pytest.raises(RuntimeError, match="once"):
            await relay.start()
        assert KEY not in repr(relay)
        assert SECRET.secret not in repr(relay)
    await relay.close()


async def test_any_address() -> None:
    async with make_relay(host="0.0.0.0") as relay:
        assert relay.url == f"ws://127.0.0.1:{relay.port}"
        async with make_client(relay.url) as client:
            await client.publish("room", 1)
    async with make_relay(host="::") as relay:
        assert relay.url == f"ws://[::1]:{relay.port}"


async def test_an_address_that_is_taken() -> None:
    async with make_relay() as relay:
        other = make_relay(port=relay.port)
        with pytest.raises(OSError, match="in use"):
            await other.start()
        await other.close()


async def test_a_relay_that_was_never_started_closes() -> None:
    await make_relay().close()


# --- the REST plane ---


async def test_rest_mints_a_token_that_lets_in() -> None:
    async with make_relay() as relay, rest(relay) as http:
        asked = {"peerId": "dev-1", "channels": ["fleet/*"], "permissions": ["publish"], "expiresInSec": 60}
        reply = await http.post("/tokens", json=asked)
        assert reply.status_code == 200
        assert abs(reply.json()["expiresAt"] - time.time() - 60) < 3

        async def provide() -> str:
            return str(reply.json()["token"])

        async with make_client(relay.url, token_provider=provide) as client:
            assert client.peer_id == "dev-1"
            await client.publish("fleet/7", 1)
            with pytest.raises(ServerRequestError, match="channel_not_authorized"):
                await client.publish("elsewhere", 1)
            with pytest.raises(ServerRequestError, match="action_not_permitted"):
                await client.subscribe("fleet/7")


async def test_rest_peers_publish_kick_and_usage() -> None:
    async with make_relay() as relay, rest(relay) as http, make_client(relay.url) as client:
        messages, lost = told(client, Message), told(client, Disconnected)
        await client.subscribe("a room/7")
        reply = await http.get("/channels/a%20room%2F7/peers")
        assert (reply.status_code, reply.json()) == (
            200,
            {"channel": "a room/7", "peers": [{"peerId": client.peer_id}]},
        )
        reply = await http.post("/channels/a%20room%2F7/publish", json={"data": {"x": "é"}, "from": "backend"})
        assert (reply.status_code, reply.json()) == (200, {"delivered": 1})
        await until(lambda: messages)
        assert messages == [Message("a room/7", "backend", {"x": "é"})]
        reply = await http.get("/usage")
        assert reply.status_code == 200
        assert reply.json()["connections"] == 1
        assert reply.json()["messages"] == 1
        reply = await http.delete(f"/peers/{client.peer_id}")
        assert (reply.status_code, reply.json()) == (200, {"closed": 1})
        await until(lambda: lost)
        assert (lost[0].code, lost[0].will_reconnect) == (4020, False)
        assert (await http.delete(f"/peers/{client.peer_id}")).json() == {"closed": 0}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer sk_id_tests:wrong"},
        {"Authorization": f"Bearer sk_id_other:{SECRET.secret}"},
        {"Authorization": f"Basic {SECRET.id}:{SECRET.secret}"},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"Bearer {SECRET.id}"},
    ],
)
async def test_rest_401_is_the_same_whatever_was_wrong(headers: dict[str, str]) -> None:
    async with make_relay() as relay, rest(relay, headers) as http:
        for reply in (await http.get("/usage"), await http.post("/tokens", json={}), await http.get("/nowhere")):
            assert reply.status_code == 401
            assert reply.json() == {"error": "unauthorized", "message": "a valid secret key is needed"}


async def test_rest_errors() -> None:
    async with make_relay() as relay, rest(relay) as http:
        for reply, status, error in (
            (await http.get("/nowhere"), 404, "not_found"),
            (await http.put("/usage"), 404, "not_found"),
            (await http.post("/tokens", content=b"{"), 400, "invalid_request"),
            (await http.post("/tokens", json={"peerId": "é"}), 400, "invalid_request"),
            (await http.post("/channels/_system%2Fx/publish", json={"data": 1}), 400, "channel_reserved"),
            (await http.post("/channels/room/publish", content=b" " * 40_000), 413, "invalid_request"),
        ):
            assert (reply.status_code, reply.json()["error"]) == (status, error)
            assert isinstance(reply.json()["message"], str)


async def test_rest_forbids_what_is_beyond_the_key() -> None:
    narrow = SecretKey("sk_id_narrow", "sk_secret_narrow", patterns=("open/*",), permissions=("publish",))
    async with RelayServer(secrets=[narrow]) as relay:
        async with rest(relay, {"Authorization": "Bearer sk_id_narrow:sk_secret_narrow"}) as http:
            reply = await http.post("/channels/closed%2F1/publish", json={"data": 1})
            assert (reply.status_code, reply.json()["error"]) == (403, "channel_not_authorized")
            reply = await http.get("/channels/open%2F1/peers")
            assert (reply.status_code, reply.json()["error"]) == (403, "action_not_permitted")
            assert (await http.post("/channels/open%2F1/publish", json={"data": 1})).json() == {"delivered": 0}


async def test_rest_rate() -> None:
    async with make_relay(limits=Limits(control_rate=0.1, control_burst=2)) as relay, rest(relay) as http:
        replies = [await http.get("/usage") for _ in range(3)]
        assert [reply.status_code for reply in replies] == [200, 200, 429]
        assert int(replies[-1].headers["retry-after"]) >= 1


async def test_rest_while_draining() -> None:
    async with make_relay() as relay, rest(relay) as http, make_client(relay.url, reconnect=False):
        async with anyio.create_task_group() as group:
            group.start_soon(relay.drain, 0, 0.3)
            await anyio.sleep(0.05)
            assert (await http.get("/usage")).status_code == 503


async def test_rest_in_small_pieces_and_pipelined_rubbish() -> None:
    async with make_relay() as relay:
        async with await anyio.connect_tcp("127.0.0.1", relay.port) as stream:
            request = (
                f"GET /v1/usage HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTHORIZED['Authorization']}\r\n\r\n".encode()
            )
            for byte in request:
                await stream.send(bytes([byte]))
            await stream.send(b"\x00" * 1000)
            answer = b""
            with anyio.fail_after(2):
                try:
                    while True:
                        answer += await stream.receive()
                except BROKEN:
                    pass
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"onnection: close" in answer
        await until(lambda: not relay._running().links)


# --- what its operator can do ---


async def test_rest_answers_whoever_has_closed_its_own_half() -> None:
    async with make_relay() as relay:
        stream = await anyio.connect_tcp("127.0.0.1", relay.port)
        async with stream:
            await stream.send(b"GET /v1/usage HTTP/1.1\r\nHost: h\r\n\r\n")
            await stream.send_eof()
            with anyio.fail_after(5):
                assert (await stream.receive()).startswith(b"HTTP/1.1 401 ")


async def test_the_operators_own_calls() -> None:
    async with make_relay() as relay, make_client(relay.url) as client:
        messages, directs = told(client, Message), told(client, Direct)
        await client.subscribe("room")
        assert client.peer_id is not None
        assert await relay.peers("room") == (PresencePeer(client.peer_id),)
        assert await relay.publish("room", [1], sender="me") == 1
        assert await relay.publish("empty", [1]) == 0
        await until(lambda: messages)
        assert messages == [Message("room", "me", [1])]
        assert directs == []
        usage = await relay.usage()
        assert (usage.connections, usage.messages) == (1, 2)
        stats = relay.stats()
        assert (stats.connections, stats.peers, stats.channels, stats.welcomed) == (1, 1, 1, 1)
        for bad in (relay.kick(""), relay.publish("*", 1), relay.publish("room", float("nan")), relay.peers("")):
            with pytest.raises(ValueError, match=r"."):
                await bad


async def test_kick() -> None:
    async with make_relay() as relay:
        client = make_client(relay.url)
        lost = told(client, Disconnected)
        await client.connect()
        assert client.peer_id is not None
        assert await relay.kick(client.peer_id) == 1
        assert await relay.kick(client.peer_id) == 0
        await until(lambda: lost)
        assert lost == [Disconnected(4020, "admin_disconnect", will_reconnect=False)]
        await client.close()


async def test_drain_with_going_away() -> None:
    async with warm_relay() as relay:
        clients = [make_client(relay.url, reconnect=False) for _ in range(3)]
        events = [told(client, GoingAway, Disconnected) for client in clients]
        for client in clients:
            await client.connect()
            await client.subscribe("room")
        with anyio.fail_after(3):
            assert await relay.drain(retry_after_ms=1234) == 3
        await until(lambda: all(len(seen) == 2 for seen in events))
        for seen in events:
            assert seen == [GoingAway(1234), Disconnected(1001, "going_away", will_reconnect=False)]
        with pytest.raises(SignallingConnectError):
            await make_client(f"ws://127.0.0.1:{relay._port or 1}").connect()
        for client in clients:
            await client.close()


async def test_drain_serves_during_its_grace_and_lets_nobody_in() -> None:
    async with make_relay() as relay, make_client(relay.url, reconnect=False) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(relay.drain, 5000, 0.3)
            await anyio.sleep(0.05)
            await client.publish("room", 1)
            with pytest.raises(SignallingConnectError) as caught:
                await make_client(relay.url).connect()
            assert caught.value.close_code == 503
        await until(lambda: client.state == "closed")


@pytest.mark.usefixtures("hurry")
async def test_a_drain_waits_for_no_silent_connection_and_for_none_that_does_not_read() -> None:
    async with make_relay() as relay:
        silent = await anyio.connect_tcp("127.0.0.1", relay.port)
        stranger = await Stranger.connect(relay.url)
        await stranger.receive()
        await until(lambda: relay._links == 2)
        with anyio.fail_after(2.5):
            assert await relay.drain() == 1
        assert not relay._running().links
        await silent.aclose()
        await stranger.aclose()


async def test_close_tells_nobody_and_leaves_nothing() -> None:
    relay = make_relay()
    async with nothing_left(within=0.5):
        await relay.start()
        clients = [make_client(relay.url, reconnect=False) for _ in range(3)]
        lost = [told(client, GoingAway, Disconnected) for client in clients]
        for client in clients:
            await client.connect()
        silent = await anyio.connect_tcp("127.0.0.1", relay.port)
        await relay.close()
        await relay.close()
        await until(lambda: all(lost))
        assert [[event.code for event in seen] for seen in lost] == [[1006]] * 3
        for client in clients:
            await client.close()
        await silent.aclose()


async def test_an_error_in_the_body_closes_at_once() -> None:
    relay = await make_relay().__aenter__()
    client = make_client(relay.url, reconnect=False)
    events = told(client, GoingAway)
    await client.connect()
    await relay.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert events == []
    await until(lambda: client.state == "closed")
    await client.close()


# --- guests that misbehave ---


def narrow(stranger: Stranger) -> None:
    raw = stranger.stream.extra(anyio.abc.SocketAttribute.raw_socket)  # type: ignore[attr-defined]
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


async def test_a_slow_consumer_is_closed_and_the_memory_it_takes_is_bounded() -> None:
    limits = Limits(**NO_LIMITS, max_queue=300_000)
    async with (
        make_relay(limits=limits) as relay,
        make_client(relay.url) as publisher,
        make_client(relay.url) as other,
    ):
        slow = await Stranger.connect(relay.url)
        narrow(slow)
        await slow.receive()
        await slow.send({"type": "subscribe", "channel": "room", "requestId": "1"})
        await until(lambda: relay.stats().channels == 1)
        messages = told(other, Message)
        await other.subscribe("room")
        largest = 0
        published = 0
        with anyio.fail_after(10):
            while relay.stats().slow_consumers == 0:
                await publisher.publish("room", "x" * 60_000)
                published += 1
                held = [sum(map(len, link._out)) for link in relay._running().links.values()]
                largest = max(largest, *held)
        assert largest < 450_000
        assert relay.stats().closed == {1008: 1}
        await until(lambda: len(messages) == published)
        assert relay.stats().connections == 2
        await publisher.publish("room", "on it goes")
        await slow.aclose()


async def test_a_guest_that_pings_and_reads_nothing_takes_no_memory() -> None:
    async with make_relay(limits=Limits(**NO_LIMITS)) as relay:
        stranger = await Stranger.connect(relay.url)
        narrow(stranger)
        pings = stranger.ws.ping(b"p" * 125) * 500
        (link,) = relay._running().links.values()
        sent = 0
        with anyio.fail_after(10):
            while sent < 8_000_000:
                await stranger.raw(pings)
                sent += len(pings)
        assert sum(map(len, link._out)) + len(link._owed) < 300_000
        await stranger.aclose()


async def test_silent_connections_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT", 0.15)
    async with make_relay() as relay, make_client(relay.url) as client:
        started = time.monotonic()
        streams = [await anyio.connect_tcp("127.0.0.1", relay.port) for _ in range(3)]
        await streams[1].send(b"GET /v1?key=")
        with anyio.fail_after(2):
            for stream in streams:
                with pytest.raises(BROKEN):
                    await stream.receive()
                await stream.aclose()
        assert 0.1 < time.monotonic() - started < 0.6
        assert len(relay._running().links) == 1
        await until(lambda: not relay._silent)
        await client.publish("room", 1)


async def test_out_of_file_descriptors_it_takes_a_breath(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_relay() as relay:
        assert relay._listener is not None
        accept = relay._listener.accept
        tries = 0

        class Exhausted:
            """The listener, in a process that has no descriptor left for a while."""

            def accept(self) -> Any:
                nonlocal tries
                tries += 1
                if tries <= 2:
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                return accept()

            def __getattr__(self, name: str) -> Any:
                return getattr(listener, name)

        listener = relay._listener
        monkeypatch.setattr(relay, "_listener", Exhausted())
        started = time.monotonic()
        async with make_client(relay.url) as client:
            assert 0.15 < time.monotonic() - started < 1
            await client.publish("room", 1)
        assert tries < 10
        monkeypatch.setattr(relay, "_listener", listener)


async def test_connection_rate() -> None:
    async with make_relay(limits=Limits(connects_per_minute=3)) as relay:
        for _ in range(3):
            async with make_client(relay.url) as client:
                await client.publish("room", 1)
        for _ in range(2):
            stranger = await Stranger.connect(relay.url)
            assert isinstance(stranger.ended, Refused)
            assert stranger.ended.status == 429
            await stranger.aclose()
        with pytest.raises(SignallingConnectError) as caught:
            await make_client(relay.url).connect()
        assert caught.value.close_code == 429
        assert relay.stats().refused == {429: 3}


async def test_message_rate() -> None:
    async with make_relay(limits=Limits(message_rate=1, message_burst=5, connects_per_minute=None)) as relay:
        client = make_client(relay.url)
        lost = told(client, Disconnected)
        await client.connect()
        async with anyio.create_task_group() as group:

            async def publish() -> None:
                try:
                    await client.publish("room", 1)
                except Exception:
                    pass

            for _ in range(6):
                group.start_soon(publish)
        await until(lambda: lost)
        assert (lost[0].code, lost[0].reason, lost[0].will_reconnect) == (4011, "message_rate", True)
        await client.close()


async def test_concurrent_limit() -> None:
    async with make_relay(limits=Limits(max_connections=1, connects_per_minute=None)) as relay:
        async with make_client(relay.url):
            with pytest.raises(SignallingConnectError) as caught:
                await make_client(relay.url).connect()
            assert caught.value.close_code == 4010


async def test_a_suspended_key_a_bad_path_and_a_foreign_origin() -> None:
    keys = [
        PublishableKey("pk_live_suspended", suspended=True),
        PublishableKey("pk_live_web", origins=("https://a.b",)),
    ]
    async with RelayServer(keys=keys) as relay:
        for target, expected in (
            ("/v1?key=pk_live_suspended", Closed(4012, "account_suspended")),
            ("/v1?key=pk_live_unknown", Closed(4001, "invalid_token")),
            ("/v1", Closed(4001, "invalid_token")),
        ):
            stranger = await Stranger.connect(relay.url, target)
            with anyio.fail_after(2):
                assert await stranger.drained() == expected
            await stranger.aclose()
        for target, status in (("/v2?key=pk_live_web", 404), ("/v1?key=pk_live_web", 403)):
            stranger = await Stranger.connect(relay.url, target)
            assert isinstance(stranger.ended, Refused)
            assert stranger.ended.status == status
            await stranger.aclose()


async def test_a_message_over_the_limit_ends_the_connection_with_1009() -> None:
    async with make_relay() as relay:
        stranger = await Stranger.connect(relay.url)
        await stranger.receive()
        frame = {"type": "publish", "channel": "room", "data": "x" * 80_000, "requestId": "1"}
        await stranger.send(frame)
        with anyio.fail_after(2):
            ended = await stranger.drained()
        assert isinstance(ended, Closed)
        assert ended.code == 1009
        await stranger.aclose()


async def test_a_guest_that_does_not_answer_pings_is_cut() -> None:
    async with make_relay(limits=Limits(**NO_LIMITS, ping_interval=0.1, pong_timeout=0.1)) as relay:
        async with make_client(relay.url) as client:
            dead = await Stranger.connect(relay.url)
            await until(lambda: relay.stats().connections == 2)
            await until(lambda: relay.stats().connections == 1, timeout=1)
            assert client.state == "connected"
            await client.publish("room", 1)
            await dead.aclose()


async def test_a_hundred_guests_come_and_go() -> None:
    async with warm_relay() as relay, nothing_left(within=0.5):

        async def visit(number: int) -> None:
            async with make_client(relay.url) as client:
                await client.subscribe("room")
                await client.publish(f"room/{number}", number)

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(visit, number)
        assert relay.stats().welcomed == 100
        await until(lambda: relay.stats().connections == 0 and not relay._running().links)
