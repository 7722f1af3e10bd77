"""Connecting, being sent away, tokens that end, and a relay that goes: the published SDK and ours, at our relay."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from metered_anyio.relay import RelayServer, SecretKey
from metered_proto.wire.tokens import mint

pytestmark = pytest.mark.anyio


async def test_connects_with_a_key(stage: Any, library: str) -> None:
    visitor = stage.invite(library)
    assert visitor.client.state == "idle"
    await visitor.client.connect()

    assert visitor.client.state == "connected"
    assert visitor.states == ["idle", "connecting", "connected"]
    (connected,) = visitor.all("Connected")
    assert visitor.told[-1] is connected  # the state has changed by then
    assert connected.peer_id.startswith("peer_")
    assert connected.expires_at is None
    assert not connected.is_reconnect
    assert connected.max_message_size == 65_536
    assert not connected.ice_servers
    assert abs(connected.server_time - time.time() * 1000) < 60_000

    await visitor.client.close()
    assert visitor.client.state == "closed"


async def test_leaves_at_once_when_it_closes(stage: Any, pair: tuple[str, str]) -> None:
    stays, goes = [await stage.visit(name) for name in pair]
    await stays.client.subscribe("room")
    await goes.client.subscribe("room")
    await goes.client.close(4321, "enough")
    await stays.until(lambda: ("room", [], [goes.peer_id]) in stays.presence, "left")
    assert stage.relay.stats().connections == 1


@pytest.mark.parametrize(
    ("key", "code", "reason"),
    [
        ("pk_live_unknown", 4001, "invalid_token"),
        ("pk_live_suspended", 4012, "account_suspended"),
        ("pk_live_website", 403, None),  # before the upgrade: neither client sends the Origin that it wants
    ],
)
async def test_is_told_why_it_may_not_come_in(
    stage: Any, library: str, key: str, code: int, reason: str | None
) -> None:
    visitor = stage.invite(library, api_key=key)
    with pytest.raises(visitor.library.SignallingConnectError) as caught:
        await visitor.client.connect()
    assert caught.value.close_code == code
    assert reason is None or caught.value.close_reason == reason
    assert key not in str(caught.value)
    assert not visitor.all("Connected")
    assert not visitor.all("Disconnected")  # what was never connected is not disconnected


async def test_a_bad_token_is_refused(stage: Any, library: str, token: Any) -> None:
    forged = token("me")[:-4] + "AAAA"

    async def provider() -> str:
        return forged

    visitor = stage.invite(library, token_provider=provider)
    with pytest.raises(visitor.library.SignallingConnectError) as caught:
        await visitor.client.connect()
    assert caught.value.close_code == 4001
    assert forged not in str(caught.value)


async def test_a_token_that_is_over_is_refused(stage: Any, library: str, token: Any) -> None:
    stale = token("me", expires_in=1)
    await asyncio.sleep(1.05)  # tokens count whole seconds

    async def provider() -> str:
        return stale

    visitor = stage.invite(library, token_provider=provider)
    with pytest.raises(visitor.library.SignallingConnectError) as caught:
        await visitor.client.connect()
    assert caught.value.close_code == 4002


async def test_a_token_may_not_ask_for_more_than_its_key_has(stage: Any, library: str, token: Any) -> None:
    narrow = SecretKey("sk_id_narrow", "sk_secret_narrow_0123456789abcdef", patterns=("room/*",))
    async with RelayServer(secrets=[narrow]) as relay:

        async def provider() -> str:
            return mint(
                key_id=narrow.id, secret=narrow.secret, peer_id="me", now=int(time.time()), channels=["elsewhere"]
            )

        visitor = stage.invite(library, token_provider=provider, url=relay.url)
        with pytest.raises(visitor.library.SignallingConnectError) as caught:
            await visitor.client.connect()
    assert caught.value.close_code == 4003


async def test_too_many_connections_are_refused(stage: Any, library: str) -> None:
    await stage.open(max_connections=1)
    await stage.visit(library)
    visitor = stage.invite(library)
    with pytest.raises(visitor.library.SignallingConnectError) as caught:
        await visitor.client.connect()
    assert caught.value.close_code == 4010


async def test_too_many_attempts_are_refused_before_the_upgrade(stage: Any, library: str) -> None:
    await stage.open(connects_per_minute=1)
    await stage.visit(library)
    visitor = stage.invite(library)
    with pytest.raises(visitor.library.SignallingConnectError) as caught:
        await visitor.client.connect()
    assert caught.value.close_code == 429


async def test_the_same_client_may_try_again_after_a_failure(stage: Any, library: str) -> None:
    visitor = stage.invite(library)
    port = stage.relay.port
    await stage.relay.close()
    with pytest.raises(visitor.library.SignallingConnectError) as caught:
        await visitor.client.connect()
    assert caught.value.close_code == 1006
    await stage.open(port=port)
    await visitor.client.connect()
    (connected,) = visitor.all("Connected")  # its handlers were kept
    assert not connected.is_reconnect


# --- tokens -------------------------------------------------------------------------------------------------


async def test_a_token_says_who_one_is(stage: Any, library: str) -> None:
    servers = [
        {"urls": "stun:stun.example:3478"},
        {"urls": ["turn:turn.example:3478"], "username": "u", "credential": "c"},
    ]
    before = time.time()
    visitor = await stage.known_as(library, "alice", claims={"metadata": {"iceServers": servers}, "expires_in": 600})
    (connected,) = visitor.all("Connected")
    assert connected.peer_id == "alice"
    assert before + 598 < connected.expires_at < before + 602
    stun, turn = connected.ice_servers
    assert stun.urls in ("stun:stun.example:3478", ("stun:stun.example:3478",))
    assert list(turn.urls) == ["turn:turn.example:3478"]
    assert (turn.username, turn.credential) == ("u", "c")


async def test_a_token_that_the_relay_minted_works(stage: Any, library: str, secret_header: dict[str, str]) -> None:
    async def provider() -> str:
        async with httpx.AsyncClient(trust_env=False) as http:
            asked = {"peerId": "bob", "channels": ["room/*"], "permissions": ["subscribe"], "expiresInSec": 60}
            base = stage.relay.url.replace("ws:", "http:")
            reply = await http.post(f"{base}/v1/tokens", json=asked, headers=secret_header)
        assert reply.status_code == 200
        return str(reply.json()["token"])

    visitor = await stage.visit(library, token_provider=provider)
    assert visitor.peer_id == "bob"
    await visitor.client.subscribe("room/1")
    with pytest.raises(visitor.library.ServerRequestError) as caught:
        await visitor.client.subscribe("elsewhere")
    assert caught.value.code == "channel_not_authorized"
    with pytest.raises(visitor.library.ServerRequestError) as caught:
        await visitor.client.publish("room/1", "hi")
    assert caught.value.code == "action_not_permitted"


async def test_a_token_that_ends_is_replaced_and_nothing_is_lost(stage: Any, library: str, token: Any) -> None:
    await stage.open(token_margin=1.5)
    lifetimes = iter([3, 600])  # the first is over after 0.5 to 1.5 s

    async def provider() -> str:
        return token("alice", expires_in=next(lifetimes))

    visitor = await stage.visit(library, token_provider=provider)
    await visitor.client.subscribe("room")
    (lost,) = await visitor.heard("Disconnected")
    assert (lost.code, lost.reason, lost.will_reconnect) == (4002, "token_expired", True)

    first, second = await visitor.heard("Connected", 2)
    assert second.is_reconnect
    assert second.peer_id == "alice"
    assert second.expires_at > first.expires_at
    assert visitor.states == ["idle", "connecting", "connected", "reconnecting", "connected"]
    await visitor.until(lambda: len(visitor.presence) == 2, "a snapshot for each connection")
    assert await stage.relay.publish("room", "still here?", sender="usher") == 1
    await visitor.heard("Message")


async def test_a_token_provider_that_fails_for_a_while(stage: Any, library: str, token: Any) -> None:
    await stage.open(token_margin=1.5)
    asked = 0

    async def provider() -> str:
        nonlocal asked
        asked += 1
        if 2 <= asked <= 5:
            raise RuntimeError("the identity service is down")
        return token("alice", expires_in=2 if asked == 1 else 600)

    visitor = await stage.visit(library, token_provider=provider)
    await visitor.heard("Connected", 2)
    failures = visitor.all("TokenProviderError")
    assert [failure.consecutive_failures for failure in failures] == [3, 4]
    assert {str(failure.err) for failure in failures} == {"the identity service is down"}
    assert asked == 6


# --- being sent away in the middle of it --------------------------------------------------------------------


async def test_an_administrator_s_kick_is_final(stage: Any, library: str) -> None:
    visitor = await stage.known_as(library, "rude")
    messages = visitor.client.events(visitor.library.Message)
    assert await stage.relay.kick("rude") == 1
    (lost,) = await visitor.heard("Disconnected")
    assert (lost.code, lost.reason, lost.will_reconnect) == (4020, "admin_disconnect", False)
    await visitor.in_state("closed")
    assert [event async for event in messages] == []  # the stream has come to its end
    with pytest.raises(visitor.library.NotConnectedError):
        await visitor.client.publish("room", "but…")
    assert len(visitor.all("Connected")) == 1


async def test_a_kick_by_http_reaches_all_sockets_of_a_peer(
    stage: Any, pair: tuple[str, str], secret_header: dict[str, str]
) -> None:
    visitors = [await stage.known_as(name, "rude guest") for name in pair]
    async with httpx.AsyncClient(trust_env=False) as http:
        base = stage.relay.url.replace("ws:", "http:")
        reply = await http.delete(f"{base}/v1/peers/rude%20guest", headers=secret_header)
    assert reply.json() == {"closed": 2}
    for visitor in visitors:
        (lost,) = await visitor.heard("Disconnected")
        assert (lost.code, lost.will_reconnect) == (4020, False)


async def test_talking_too_fast_ends_the_connection_and_it_comes_back(stage: Any, library: str) -> None:
    await stage.open(message_rate=1, message_burst=10)
    visitor = await stage.visit(library)
    outcomes = await asyncio.gather(
        *(visitor.client.publish("room", number) for number in range(20)), return_exceptions=True
    )
    assert outcomes[:10] == [None] * 10
    assert {type(outcome) for outcome in outcomes[10:]} == {visitor.library.DisconnectedError}
    (lost,) = await visitor.heard("Disconnected")
    assert (lost.code, lost.reason, lost.will_reconnect) == (4011, "message_rate", True)
    await visitor.heard("Connected", 2)
    await visitor.client.publish("room", "slower now")


async def test_too_much_in_one_message(stage: Any, library: str) -> None:
    """The published SDK leaves it to the relay to find out; ours does not send it."""
    await stage.open(max_message_size=1000)
    visitor = await stage.visit(library)
    assert visitor.all("Connected")[0].max_message_size == 1000
    await visitor.client.publish("room", "x" * 998)  # and the quotes
    if library == "ours":
        with pytest.raises(visitor.library.OversizedPayloadError) as caught:
            await visitor.client.publish("room", "x" * 999)
        assert (caught.value.size, caught.value.cap) == (1001, 1000)
        assert visitor.client.state == "connected"
    else:
        with pytest.raises(visitor.library.DisconnectedError):
            await visitor.client.publish("room", "x" * 999)
        (lost,) = await visitor.heard("Disconnected")
        assert (lost.code, lost.will_reconnect) == (1009, True)
        await visitor.heard("Connected", 2)


# --- a relay that goes and comes ----------------------------------------------------------------------------


async def test_what_was_subscribed_is_restored_after_the_relay_died(stage: Any, library: str) -> None:
    visitor = await stage.known_as(library, "alice")
    with_metadata = visitor.library.SubscribeOptions(include_sender_metadata=True)
    await visitor.client.subscribe("room", with_metadata)
    await visitor.client.subscribe("fleet/*/telemetry")
    await visitor.client.subscribe("dropped")
    await visitor.client.unsubscribe("dropped")
    await stage.restart(down_for=0.15)

    (lost,) = await visitor.heard("Disconnected")
    assert lost.will_reconnect
    await visitor.heard("Connected", 2)
    speaker = await stage.known_as(library, "bob", claims={"peer_metadata": {"name": "Bob"}})
    # The snapshot of the literal channel comes behind the replayed frames of both.
    await visitor.until(lambda: len(visitor.presence) == 3, "the snapshots of room, dropped and room")
    await visitor.caught_up(stage.relay)
    await speaker.client.publish("dropped", 0)
    await speaker.client.publish("room", 1)
    await speaker.client.publish("fleet/7/telemetry", 2)
    await visitor.heard("Message", 2)
    assert visitor.messages == [("room", "bob", 1), ("fleet/7/telemetry", "bob", 2)]
    assert [event.sender_metadata for event in visitor.all("Message")] == [{"name": "Bob"}, None]


async def test_nothing_is_restored_where_that_is_not_wanted(stage: Any, library: str) -> None:
    visitor = await stage.visit(library, auto_resubscribe=False)
    await visitor.client.subscribe("room")
    await stage.restart()
    await visitor.heard("Connected", 2)
    await visitor.caught_up(stage.relay)
    assert await stage.relay.publish("room", "anybody?") == 0


async def test_what_was_unsubscribed_while_away_is_not_restored(stage: Any, library: str) -> None:
    visitor = await stage.visit(library)
    await visitor.client.subscribe("kept")
    await visitor.client.subscribe("dropped")
    port = stage.relay.port
    await stage.relay.close()
    await visitor.in_state("reconnecting")
    for attempt in (
        visitor.client.unsubscribe("dropped"),
        visitor.client.subscribe("never"),
        visitor.client.publish("room", 1),
        visitor.client.send("bob", 1),
    ):
        with pytest.raises(visitor.library.NotConnectedError):
            await attempt
    await stage.open(port=port)
    await visitor.heard("Connected", 2)
    await visitor.caught_up(stage.relay)
    assert [await stage.relay.publish(channel, 1) for channel in ("kept", "dropped", "never")] == [1, 0, 0]


async def test_a_relay_that_drains_says_so_first(stage: Any, library: str) -> None:
    visitor = await stage.visit(library)
    await visitor.client.subscribe("room")
    port = stage.relay.port
    assert await stage.relay.drain(retry_after_ms=50) == 1

    (notice,) = await visitor.heard("GoingAway")
    assert notice.retry_after_ms == 50
    (lost, *_) = await visitor.heard("Disconnected")
    assert (lost.code, lost.will_reconnect) == (1001, True)
    assert visitor.told.index(notice) < visitor.told.index(lost)
    await stage.open(port=port)
    await visitor.heard("Connected", 2)
    await visitor.caught_up(stage.relay)
    assert await stage.relay.publish("room", "back") == 1


async def test_without_reconnecting_the_end_is_final(stage: Any, library: str) -> None:
    visitor = await stage.visit(library, reconnect=False)
    await stage.relay.close()
    (lost,) = await visitor.heard("Disconnected")
    assert not lost.will_reconnect
    await visitor.in_state("closed")


async def test_attempts_are_counted(stage: Any, library: str, libraries: Any) -> None:
    options = libraries[library].ReconnectOptions(initial_delay=0.01, max_delay=0.01, jitter_ratio=0, max_attempts=3)
    visitor = await stage.visit(library, reconnect=options)
    await stage.relay.close()
    await visitor.in_state("closed")
    assert visitor.all("Disconnected")[0].will_reconnect
    if library == "ours":  # the published SDK does not say that it has given up where nobody listens any more
        assert [lost.will_reconnect for lost in visitor.all("Disconnected")] == [True, False]


# --- staying connected --------------------------------------------------------------------------------------


async def test_a_quiet_connection_is_kept_alive_by_the_client(stage: Any, library: str) -> None:
    visitor = await stage.visit(library, inactivity_timeout=1.5)  # the published SDK pings once a second at most
    await asyncio.sleep(1.8)
    assert stage.relay.stats().frames_in >= 1  # pings, and they were answered
    assert visitor.client.state == "connected"
    assert not visitor.all("Disconnected")
    assert not visitor.all("ServerError")


async def test_a_quiet_connection_is_kept_alive_by_the_relay(stage: Any, library: str) -> None:
    await stage.open(ping_interval=0.1, pong_timeout=0.1)
    visitor = await stage.visit(library)
    await asyncio.sleep(0.5)
    assert stage.relay.stats().frames_in == 0
    assert visitor.client.state == "connected"
    await visitor.client.publish("room", "still here")
