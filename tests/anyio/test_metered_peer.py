"""`MeteredPeer` against a relay: coming and going, who is there, messages, states, ends. No media."""

from __future__ import annotations

import inspect
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from adapter_kit import (
    KEY,
    Cable,
    FakeServer,
    Guest,
    make_client,
    make_relay,
    nothing_left,
    obedient,
    until,
    warm_relay,
)
from room_kit import ROOM, Log, ScriptedTrack, make_peer, make_token, meeting, remote, token_peer, told

from metered_anyio import (
    Data,
    DisconnectedError,
    Event,
    FatalError,
    Joined,
    Left,
    MeteredPeer,
    MeteredPeerOversizedError,
    MeteredPeerSendError,
    MeteredPeerStateError,
    OversizedPayloadError,
    PeerJoined,
    PeerLeft,
    RemotePeer,
    RoomStats,
    ServerRequestError,
    SignallingClientOptions,
    SignallingConnectError,
    StateChange,
)

pytestmark = pytest.mark.anyio


# --- coming and going ---


async def test_join_and_close() -> None:
    async with warm_relay() as relay, nothing_left():
        peer = make_peer(relay.url)
        events = told(peer)
        assert (peer.state, peer.peer_id, peer.channel, peer.remote_peers) == ("idle", None, None, [])
        await peer.join(ROOM)
        assert peer.state == "joined"
        assert peer.peer_id is not None
        assert peer.channel == ROOM
        assert repr(peer) == f"<MeteredPeer {peer.peer_id} joined>"
        await peer.close("user logged out")
        assert peer.state == "closed"
        assert events == [
            StateChange("idle", "joining"),
            StateChange("joining", "joined"),
            Joined(peer.peer_id, ROOM),
            StateChange("joined", "leaving"),
            StateChange("leaving", "closed"),
            Left(peer.peer_id, ROOM, "user logged out"),
        ]


async def test_handlers_see_the_state_that_they_are_told() -> None:
    async with warm_relay() as relay, nothing_left():
        peer = make_peer(relay.url)
        seen: list[tuple[str, str]] = []
        peer.on(StateChange, lambda event: seen.append((event.to, peer.state)))
        await peer.join(ROOM)
        await peer.close()
        assert seen == [(state, state) for state in ("joining", "joined", "leaving", "closed")]


async def test_one_peer_is_for_one_event_loop(anyio_backend: str) -> None:
    async def use_elsewhere(peer: MeteredPeer) -> None:
        for call in (peer.join(ROOM), peer.close(), peer.replace_track(ScriptedTrack(), None)):
            with pytest.raises(RuntimeError, match="in use on another event loop"):
                await call

    async with warm_relay() as relay:
        peer = make_peer(relay.url)
        await peer.join(ROOM)
        await anyio.to_thread.run_sync(lambda: anyio.run(use_elsewhere, peer, backend=anyio_backend))
        assert peer.state == "joined"
        await peer.send("still here")
        await peer.close()
        await anyio.to_thread.run_sync(lambda: anyio.run(peer.close, backend=anyio_backend))


async def test_joined_is_a_context_manager() -> None:
    async with warm_relay() as relay, nothing_left():
        peer = make_peer(relay.url)
        async with peer.joined(ROOM) as entered:
            assert entered is peer
            assert peer.state == "joined"
            await peer.send({"type": "hello"})
        assert peer.state == "closed"


async def test_a_peer_is_a_context_manager() -> None:
    async with warm_relay() as relay, nothing_left():
        async with make_peer(relay.url) as peer:
            assert peer.state == "idle"
            await peer.join(ROOM)
        assert peer.state == "closed"


async def test_joined_that_fails_leaves_the_peer_idle() -> None:
    async with FakeServer() as server:
        url = server.url
    async with nothing_left():
        peer = make_peer(url)
        with pytest.raises(SignallingConnectError):
            async with peer.joined(ROOM):
                raise AssertionError("not reached")
        assert peer.state == "idle"


async def test_joined_that_is_refused_leaves_the_room_as_it_is() -> None:
    async with warm_relay() as relay, nothing_left():
        peer = make_peer(relay.url)
        async with peer.joined(ROOM):
            for channel, error in (("another", MeteredPeerStateError), ("_system/x", MeteredPeerSendError)):
                with pytest.raises(error):
                    async with peer.joined(channel):
                        raise AssertionError("not reached")
                assert (peer.state, peer.channel) == ("joined", ROOM)
        assert peer.state == "closed"


async def test_joined_that_is_cancelled_at_any_moment_leaves_nothing() -> None:
    async with warm_relay() as relay, nothing_left(2):
        for passes in range(0, 40, 2):
            peer = make_peer(relay.url)
            async with anyio.create_task_group() as group:

                async def stay(peer: MeteredPeer = peer) -> None:
                    async with peer.joined(ROOM):
                        await anyio.sleep_forever()

                group.start_soon(stay)
                for _ in range(passes):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert peer.state in ("idle", "closed")


async def test_close_without_ever_joining() -> None:
    async with nothing_left():
        peer = make_peer("ws://127.0.0.1:9")
        events = told(peer, Left)
        await peer.close()
        await peer.close()
        assert peer.state == "closed"
        assert events == [Left(None, None, None)]


async def test_close_is_idempotent_ends_streams_and_removes_handlers() -> None:
    async with warm_relay() as relay, nothing_left():
        peer = make_peer(relay.url)
        await peer.join(ROOM)
        stream = peer.events(Event)
        async with anyio.create_task_group() as group:
            group.start_soon(peer.close)
            group.start_soon(peer.close)
        last = [event async for event in stream][-1]
        assert last == Left(peer.peer_id, ROOM, None)
        await peer.close("again")
        assert peer._emitter._entries == []


async def test_nothing_works_after_close() -> None:
    async with warm_relay() as relay:
        peer = make_peer(relay.url)
        await peer.close()
        with pytest.raises(MeteredPeerStateError) as caught:
            await peer.join(ROOM)
        assert caught.value == MeteredPeerStateError("invalid_state", "join", "closed")
        with pytest.raises(MeteredPeerSendError, match="not_joined"):
            await peer.send(1)


async def test_join_while_joining_or_joined() -> None:
    async with make_relay() as relay, make_peer(relay.url) as peer:
        async with anyio.create_task_group() as group:
            group.start_soon(peer.join, ROOM)
            while peer.state == "idle":
                await anyio.lowlevel.checkpoint()
            with pytest.raises(MeteredPeerStateError) as caught:
                await peer.join(ROOM)
            assert caught.value.current_state == "joining"
        with pytest.raises(MeteredPeerStateError) as caught:
            await peer.join(ROOM)
        assert caught.value == MeteredPeerStateError("invalid_state", "join", "joined")


@pytest.mark.parametrize("channel", ["_metered/x", "_INTERNAL/x", "_system/"])
async def test_reserved_channels(channel: str) -> None:
    async with make_peer("ws://127.0.0.1:9") as peer:
        with pytest.raises(MeteredPeerSendError) as caught:
            await peer.join(channel)
        assert caught.value.code == "reserved_channel"
        assert peer.state == "idle"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((5,), TypeError), ((None,), TypeError), (("",), ValueError), (("fleet/*",), ValueError), (("x\n",), ValueError)],
)
async def test_bad_channel_names(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    async with make_peer("ws://127.0.0.1:9") as peer:
        with pytest.raises(error):
            await peer.join(*arguments)
        with pytest.raises(TypeError):
            await peer.join(ROOM, include_sender_metadata=1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="reason must be a str"):
            await peer.close(5)  # type: ignore[arg-type]
        assert peer.state == "idle"


async def test_a_join_that_fails_can_be_tried_again() -> None:
    async with FakeServer() as server:
        url, port = server.url, server.port
    async with nothing_left():
        peer = make_peer(url)
        events = told(peer, StateChange)
        with pytest.raises(SignallingConnectError):
            await peer.join(ROOM)
        assert peer.state == "idle"
        async with make_relay(port=port):
            await peer.join(ROOM)
            assert peer.state == "joined"
            await peer.close()
        assert [event.to for event in events] == ["joining", "idle", "joining", "joined", "leaving", "closed"]


async def test_a_connection_lost_while_joining_fails_the_join() -> None:
    async def hang_up(guest: Guest) -> None:
        await guest.enter()
        await guest.receive()
        await guest.close(1011)

    async with FakeServer(hang_up) as server, nothing_left(1):
        peer = make_peer(server.url)
        with pytest.raises(DisconnectedError), anyio.fail_after(3):
            await peer.join(ROOM)
        assert peer.state == "idle"
        assert len(server.guests) == 1
        server.script = obedient
        await peer.join(ROOM)
        assert peer.state == "joined"
        await peer.close()


async def test_a_cancelled_join_leaves_the_peer_idle() -> None:
    async def silent(guest: Guest) -> None:
        await guest.enter()
        await anyio.sleep_forever()

    async with FakeServer(silent) as server, nothing_left(1):
        peer = make_peer(server.url)
        with anyio.move_on_after(0.2):
            await peer.join(ROOM)
        assert peer.state == "idle"
        server.script = obedient
        await peer.join(ROOM)
        await peer.close()


async def test_a_join_cancelled_at_any_moment_leaves_nothing() -> None:
    async with warm_relay() as relay, nothing_left(2):
        for passes in range(0, 40, 2):
            peer = make_peer(relay.url)
            async with anyio.create_task_group() as group:
                group.start_soon(peer.join, ROOM)
                for _ in range(passes):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert peer.state in ("idle", "joined")
            if peer.state == "idle":
                assert peer.channel is None
                await peer.join(ROOM)
            await peer.close()


async def test_a_subscribe_that_is_refused_fails_the_join() -> None:
    async def refuse(guest: Guest) -> None:
        await guest.enter()
        frame = await guest.receive()
        error = {"code": "channel_limit_exceeded", "message": "no more"}
        await guest.send({"type": "error", "requestId": frame["requestId"], **error})
        await guest.obey()

    async with FakeServer(refuse) as server, make_peer(server.url) as peer:
        fatal = told(peer, FatalError)
        with pytest.raises(ServerRequestError, match="channel_limit_exceeded"):
            await peer.join(ROOM)
        assert peer.state == "idle"
        assert fatal == []


# --- who is there ---


async def test_who_is_there_and_who_comes_and_goes() -> None:
    async with warm_relay() as relay, nothing_left(1):
        alice, bob = token_peer(relay.url, "alice"), token_peer(relay.url, "bob", metadata={"name": "Bob"})
        seen_by_alice, seen_by_bob = told(alice, PeerJoined, PeerLeft), told(bob, PeerJoined, PeerLeft)
        async with alice.joined(ROOM):
            assert alice.remote_peers == []
            async with bob.joined(ROOM):
                await until(lambda: alice.remote_peers and bob.remote_peers)
                his = remote(alice)
                assert isinstance(his, RemotePeer)
                assert (his.id, his.metadata, his.state, his.pc) == ("bob", {"name": "Bob"}, "idle", None)
                assert (his.tracks, his.streams) == ((), ())
                assert (his.polite, remote(bob).polite) == (True, False)
                assert repr(his) == "<RemotePeer bob idle>"
                assert await his.stats() is None
                assert seen_by_alice == [PeerJoined(his)]
                assert seen_by_bob == [PeerJoined(remote(bob))]
                his_streams = his.events(Event)
                alice.remote_peers.clear()  # a snapshot
                assert alice.remote_peers == [his]
            await until(lambda: not alice.remote_peers)
            assert seen_by_alice == [PeerJoined(his), PeerLeft(his)]
            assert his.state == "closed"
            with anyio.fail_after(1):
                assert [event async for event in his_streams] == [StateChange("idle", "closed")]
            with pytest.raises(MeteredPeerStateError, match="invalid_state: create_data_channel"):
                his.create_data_channel("late")
        assert seen_by_bob == [PeerJoined(seen_by_bob[0].peer), PeerLeft(seen_by_bob[0].peer)]


async def test_remote_peers_are_closed_with_the_peer_itself() -> None:
    async with make_relay() as relay, meeting(relay, "alice", "bob") as (alice, _):
        his, left = remote(alice), told(alice, PeerLeft)
        await alice.close()
        assert his.state == "closed"
        assert left == [PeerLeft(his)]
        assert alice.remote_peers == []


async def test_a_joined_handler_has_the_peer_before_anything_of_it() -> None:
    async with make_relay() as relay, token_peer(relay.url, "alice") as alice, token_peer(relay.url, "bob") as bob:
        data: list[tuple[str, Any]] = []
        alice.on(PeerJoined, lambda event: data.append(("joined", event.peer.id)))
        alice.on(Data, lambda event: data.append((event.sender_peer_id, event.data)))
        await alice.join(ROOM)
        await bob.join(ROOM)
        await bob.send("first thing")
        await until(lambda: len(data) == 2)
        assert data == [("joined", "bob"), ("bob", "first thing")]


# --- messages ---


async def test_messages_to_all_and_to_one() -> None:
    async with make_relay() as relay, meeting(relay, "alice", "bob", "carol") as (alice, bob, carol):
        heard = {peer.peer_id: told(peer, Data) for peer in (alice, bob, carol)}
        await alice.send({"text": "hi everyone 👋"})
        await alice.send_to("bob", ["psst"])
        await remote(alice, "carol").send(None)
        await until(lambda: len(heard["bob"]) == len(heard["carol"]) == 2)
        assert heard == {
            "alice": [],  # not even one's own
            "bob": [Data("alice", {"text": "hi everyone 👋"}, "broadcast"), Data("alice", ["psst"], "direct")],
            "carol": [Data("alice", {"text": "hi everyone 👋"}, "broadcast"), Data("alice", None, "direct")],
        }


async def test_sender_metadata_is_opt_in_for_what_all_get() -> None:
    async with (
        make_relay() as relay,
        token_peer(relay.url, "alice", metadata={"username": "Alice"}) as alice,
        token_peer(relay.url, "bob") as bob,
        token_peer(relay.url, "carol") as carol,
    ):
        curious, not_so = told(bob, Data), told(carol, Data)
        await alice.join(ROOM)
        await bob.join(ROOM, include_sender_metadata=True)
        await carol.join(ROOM)
        await until(lambda: len(alice.remote_peers) == 2)
        await alice.send(1)
        await alice.send_to("carol", 2)
        await until(lambda: curious and len(not_so) == 2)
        assert curious[0].sender_metadata == {"username": "Alice"}
        assert [event.sender_metadata for event in not_so] == [None, {"username": "Alice"}]


async def test_strangers_are_not_heard() -> None:
    async with make_relay() as relay, make_peer(relay.url) as peer, make_client(relay.url) as stranger:
        data = told(peer, Data)
        await peer.join(ROOM)
        await stranger.connect()
        assert peer.peer_id is not None
        await stranger.send(peer.peer_id, "hello from nowhere")
        await stranger.subscribe(ROOM)
        await until(lambda: peer.remote_peers)
        await stranger.send(peer.peer_id, "hello from here")
        await until(lambda: data)
        assert [event.data for event in data] == ["hello from here"]
        assert (await peer.stats()).strangers == 1


async def test_what_cannot_be_sent() -> None:
    async with make_relay() as relay, make_peer(relay.url) as peer:
        for call in (peer.send(1), peer.send_to("bob", 1)):
            with pytest.raises(MeteredPeerSendError) as caught:
                await call
            assert caught.value.code == "not_joined"
        await peer.join(ROOM)
        assert peer.peer_id is not None
        for peer_id, code in ((peer.peer_id, "self_send"), ("", "invalid_args"), (None, "invalid_args")):
            with pytest.raises(MeteredPeerSendError) as caught:
                await peer.send_to(peer_id, 1)  # type: ignore[arg-type]
            assert caught.value.code == code
        for call in (peer.send("x" * 70_000), peer.send_to("bob", "x" * 70_000)):
            with pytest.raises(MeteredPeerOversizedError) as too_large:
                await call
            assert isinstance(too_large.value, OversizedPayloadError)
            assert (too_large.value.size, too_large.value.cap) == (70_002, 65_536)
        with pytest.raises(ServerRequestError, match="peer_not_found"):
            await peer.send_to("nobody", 1)
        with pytest.raises(TypeError):
            await peer.send(object())
        with pytest.raises(ValueError, match="NaN"):
            await peer.send(float("nan"))


async def test_data_shaped_like_a_signal_is_sent_with_a_warning() -> None:
    log = Log()
    async with (
        make_relay() as relay,
        token_peer(relay.url, "alice", logger=log) as alice,
        token_peer(relay.url, "bob") as bob,
    ):
        data = told(bob, Data)
        for peer in (alice, bob):
            await peer.join(ROOM)
        await until(lambda: alice.remote_peers and bob.remote_peers)
        await alice.send_to("bob", {"__meteredTrackMeta": "mine"})
        await alice.send_to("bob", "after it")
        await until(lambda: data)
        assert [event.data for event in data] == ["after it"]
        assert [message for message in log.warnings if "shape of a signal" in message]


# --- the way to the relay ---


async def test_a_lost_socket_with_a_token() -> None:
    async with make_relay() as relay, Cable(relay.port) as cable, token_peer(relay.url, "bob") as bob:
        async with token_peer(cable.url, "alice") as alice:
            for peer in (alice, bob):
                await peer.join(ROOM)
            await until(lambda: alice.remote_peers and bob.remote_peers)
            his = remote(alice)
            states, comings = told(alice, StateChange), told(alice, PeerJoined, PeerLeft)
            await cable.cut()
            await until(lambda: alice.state == "reconnecting")
            with pytest.raises(MeteredPeerSendError, match="not_joined"):
                await alice.send("x")
            with pytest.raises(MeteredPeerStateError) as caught:
                await alice.replace_track(Source(), None)
            assert caught.value == MeteredPeerStateError("invalid_state", "replace_track", "reconnecting")
            await until(lambda: alice.state == "joined")
            assert [(event.from_, event.to) for event in states] == [
                ("joined", "reconnecting"),
                ("reconnecting", "joined"),
            ]
            assert alice.remote_peers == [his]
            assert comings == []
            assert alice.peer_id == "alice"
            await bob.send("still here?")


class Source:
    kind, id, readyState = "video", "source", "live"


async def test_a_peer_that_was_alone_is_joined_again_at_once() -> None:
    async with make_relay() as relay, Cable(relay.port) as cable, make_peer(cable.url) as peer:
        await peer.join(ROOM)
        before = peer.peer_id
        states = told(peer, StateChange)
        await cable.cut()
        await until(lambda: len(states) == 2)
        assert peer.state == "joined"
        assert peer.peer_id != before


async def test_who_came_and_went_meanwhile() -> None:
    async with make_relay() as relay, Cable(relay.port) as cable:
        async with token_peer(cable.url, "alice") as alice, token_peer(relay.url, "carol") as carol:
            bob = token_peer(relay.url, "bob")
            await alice.join(ROOM)
            await bob.join(ROOM)
            await until(lambda: alice.remote_peers)
            comings = told(alice, PeerJoined, PeerLeft)
            cable.dead = True
            await bob.close()
            await carol.join(ROOM)
            await cable.cut()
            cable.dead = False
            await until(lambda: alice.state == "joined" and len(comings) >= 2)
            assert [(type(event), event.peer.id) for event in comings] == [(PeerLeft, "bob"), (PeerJoined, "carol")]


TERMINAL = {
    4001: "invalid_token",
    4002: "token_expired",
    4003: "channel_not_authorized",
    4012: "account_suspended",
    4020: "admin_disconnect",
}


@pytest.mark.parametrize("code", TERMINAL)
async def test_a_terminal_close_code_is_fatal(code: int) -> None:
    async def dismiss(guest: Guest) -> None:
        await guest.enter()
        frame = await guest.receive()
        await guest.send({"type": "ack", "requestId": frame["requestId"]})
        await guest.receive()  # what the application sends
        await guest.close(code)

    async with FakeServer(dismiss) as server, nothing_left(1):
        peer = make_peer(server.url)
        events = told(peer, FatalError, StateChange, Left)
        await peer.join(ROOM)
        with pytest.raises(DisconnectedError):
            await peer.send("x")
        await until(lambda: peer.state == "closed")
        fatal = [event for event in events if isinstance(event, FatalError)]
        assert len(fatal) == 1
        assert TERMINAL[code] in str(fatal[0].err)
        assert isinstance(events[-1], Left)
        assert events[0] is fatal[0] or events.index(fatal[0]) < len(events) - 2
        await peer.close()


async def test_a_token_provider_that_keeps_failing_is_fatal() -> None:
    working = True

    async def provide() -> str:
        if not working:
            raise OSError("the mint is closed")
        return make_token("alice")

    async with make_relay() as relay, Cable(relay.port) as cable:
        async with make_peer(cable.url, token_provider=provide) as peer:
            fatal = told(peer, FatalError)
            await peer.join(ROOM)
            working = False
            await cable.cut()
            await until(lambda: fatal)
            assert "token provider failed 3 consecutive attempts" in str(fatal[0].err)
            assert "the mint is closed" in str(fatal[0].err)
            working = True


# --- ends ---


async def test_close_from_a_sync_handler_of_its_own() -> None:
    async with warm_relay() as relay, nothing_left(2):
        peer = make_peer(relay.url)
        async with anyio.create_task_group() as group:
            peer.on(Joined, lambda event: group.start_soon(peer.close))
            await peer.join(ROOM)
        await until(lambda: peer.state == "closed")


@pytest.mark.parametrize("whose", ["the peer's", "the remote's"])
async def test_close_from_an_async_handler_returns(whose: str) -> None:
    async with warm_relay() as relay, nothing_left(2), token_peer(relay.url, "bob") as bob:
        peer = token_peer(relay.url, "alice")
        returned = anyio.Event()

        async def leave(event: Event) -> None:
            await peer.close()
            returned.set()

        @peer.on(PeerJoined)
        def meet(event: PeerJoined) -> None:
            if whose == "the remote's":
                event.peer.on(StateChange, leave)
                event.peer._emitter.emit(StateChange("idle", "connecting"))
            else:
                peer.on(Data, leave)

        await peer.join(ROOM)
        await bob.join(ROOM)
        await until(lambda: bob.remote_peers or returned.is_set())
        await bob.send("go")
        with anyio.fail_after(2):
            await returned.wait()
        assert peer.state == "closed"


@pytest.mark.usefixtures("hurry")
async def test_close_waits_for_handlers_of_remote_peers_too() -> None:
    async with warm_relay() as relay, nothing_left(2), token_peer(relay.url, "bob") as bob:
        peer = token_peer(relay.url, "alice")
        ended: list[str] = []

        async def slow(event: StateChange) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("cancelled")

        peer.on(PeerJoined, lambda event: event.peer.on(StateChange, slow))
        await peer.join(ROOM)
        await bob.join(ROOM)
        await until(lambda: peer.remote_peers)
        with anyio.fail_after(2):
            await peer.close()  # which changes the remote's state, and starts the handler
        assert ended == ["cancelled"]


@pytest.mark.usefixtures("hurry")
async def test_close_returns_whatever_the_server_does() -> None:
    async def deaf(guest: Guest) -> None:
        await guest.enter()
        frame = await guest.receive()
        await guest.send({"type": "ack", "requestId": frame["requestId"]})
        await anyio.sleep_forever()

    async with FakeServer(deaf) as server, nothing_left(2):
        peer = make_peer(server.url)
        await peer.join(ROOM)
        with anyio.fail_after(2):
            await peer.close()


async def test_a_cancelled_body_still_closes() -> None:
    async with warm_relay() as relay, nothing_left(1):
        peer = make_peer(relay.url)
        with anyio.move_on_after(0.1):
            async with peer.joined(ROOM):
                await anyio.sleep_forever()
        assert peer.state == "closed"


# --- options, events, statistics ---


def test_the_options_are_those_of_a_client_with_the_same_defaults() -> None:
    keywords = inspect.signature(MeteredPeer.__init__).parameters
    for name, parameter in inspect.signature(SignallingClientOptions).parameters.items():
        if name not in ("outbox", "deduplicate"):
            assert keywords[name].default == parameter.default
    assert MeteredPeer(SignallingClientOptions(api_key=KEY)).state == "idle"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, ValueError),
        ({"api_key": KEY, "token_provider": token_peer}, ValueError),
        ({"api_key": KEY, "auto_resubscribe": False}, ValueError),
        ({"api_key": KEY, "url": "wss://rms.metered.ca/v1"}, ValueError),
        ({"api_key": KEY, "ice_transport_policy": "none"}, ValueError),
        ({"api_key": KEY, "ice_servers": ["stun:stun.example.com"]}, TypeError),
        ({"api_key": KEY, "logger": object()}, TypeError),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        MeteredPeer(**options)
    assert KEY not in str(caught.value)


def test_a_room_has_no_outbox() -> None:
    with pytest.raises(ValueError, match="a room has no outbox"):
        MeteredPeer(SignallingClientOptions(api_key=KEY, deduplicate=True))


async def test_once_off_and_events() -> None:
    async with make_relay() as relay, meeting(relay, "alice", "bob") as (alice, bob):
        once: list[Data] = []
        off: list[Data] = []
        bob.once(Data, once.append)
        bob.on(Data, off.append)
        bob.off(Data, off.append)
        async with bob.events(Data) as stream:
            for number in range(3):
                await alice.send(number)
            assert [(await anext(stream)).data for _ in range(3)] == [0, 1, 2]
        assert [event.data for event in once] == [0]
        assert off == []
        assert bob.dropped_events == 0


async def test_statistics() -> None:
    async with make_relay() as relay, meeting(relay, "alice", "bob") as (alice, _bob):
        await alice.send("x")
        stats = await alice.stats()
        assert isinstance(stats, RoomStats)
        assert stats.state == "joined"
        assert stats.signalling.connects == 1
        assert stats.signalling.bytes_out > 0
        assert stats.remotes == {"bob": None}
        assert (stats.signals_in, stats.signals_out, stats.signals_malformed, stats.signals_refused) == (0, 0, 0, 0)
        assert stats.members_refused == 0
        idle = await make_peer(relay.url).stats()
        assert (idle.state, idle.signalling.bytes_in) == ("idle", 0)


async def test_a_relay_that_stops_and_starts() -> None:
    async with make_relay() as relay:
        port = relay.port
        alice, bob = token_peer(relay.url, "alice"), token_peer(relay.url, "bob")
        for peer in (alice, bob):
            await peer.join(ROOM)
        await until(lambda: alice.remote_peers and bob.remote_peers)
        his, comings = remote(alice), told(alice, PeerLeft, PeerJoined)
    await until(lambda: alice.state == bob.state == "reconnecting")
    async with make_relay(port=port):
        await until(lambda: alice.state == bob.state == "joined" and alice.remote_peers and bob.remote_peers)
        heard = told(bob, Data)
        await alice.send("back")
        await until(lambda: heard)
        # Without a connection between them there is nothing to keep the one who came back later.
        assert remote(alice) is his or comings
        for peer in (alice, bob):
            await peer.close()
