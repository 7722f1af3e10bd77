"""Rooms with real peer connections over loopback, on both event loops: media, data channels, drops, ends."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from adapter_kit import Cable, make_relay, nothing_left, until, warm_relay
from room_kit import ROOM, make_peer, meeting, remote, token_peer, told

from metered_anyio import (
    ConnectionReset,
    ConnectionStats,
    Data,
    DataChannel,
    DataChannelClosedError,
    DataChannelOpened,
    DCClose,
    DCMessage,
    DCOpen,
    Event,
    MediaStream,
    MeteredPeer,
    NegotiationError,
    PeerJoined,
    PeerLeft,
    StateChange,
    StreamAdded,
    StreamRemoved,
    Track,
)
from testbed.tracks import BLUE, GREEN, RED, Colour, ColourTrack, colour_of, is_colour

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def nothing_of_webrtc_left() -> AsyncIterator[None]:
    """No task, no thread, no UDP socket."""
    threads = set(threading.enumerate())
    async with nothing_left(2):
        yield
    left = {thread for thread in set(threading.enumerate()) - threads if not _is_pooled(thread)}
    assert not left, left


def _is_pooled(thread: threading.Thread) -> bool:
    """A worker of anyio's, asyncio's or trio's own, which ends by itself some time later."""
    return thread.name.startswith(("AnyIO worker", "asyncio_", "Trio thread", "ThreadPoolExecutor"))


async def shows(track: Any, colour: Colour, within: float = 5.0) -> None:
    """Wait until a received track shows a colour."""
    with anyio.fail_after(within):
        while not is_colour(colour_of(await track.recv()), colour):
            pass


async def first(teller: Any, kind: type[Event], count: int = 1) -> list[Any]:
    """Wait for the first events of a kind that a remote peer tells."""
    events = told(teller, kind)
    await until(lambda: len(events) >= count)
    return events


# --- media ---


@pytest.mark.parametrize("sender", ["alice", "zoe"], ids=["the polite side sends", "the impolite side sends"])
async def test_a_stream_with_metadata_reaches_a_viewer(sender: str) -> None:
    async with warm_relay() as relay, nothing_of_webrtc_left():
        camera = ColourTrack(RED)
        stream = MediaStream([camera], id="front-door")
        async with token_peer(relay.url, sender) as source, token_peer(relay.url, "bob") as bob:
            source.add_stream(stream, {"role": "camera", "label": "Front Door"})
            events: list[Event] = []

            @bob.on(PeerJoined)
            async def meet(event: PeerJoined) -> None:  # an async handler misses nothing either
                event.peer.on(Event, events.append)

            await source.join(ROOM)
            await bob.join(ROOM)
            await until(lambda: any(isinstance(event, Track) for event in events))
            (added,) = (event for event in events if isinstance(event, StreamAdded))
            (track,) = (event for event in events if isinstance(event, Track))
            assert events.index(added) < events.index(track)
            assert added.stream.id == "front-door"
            assert added.stream.get_video_tracks() == [track.track]
            assert track.streams == (added.stream,)
            assert added.metadata == track.metadata == {"role": "camera", "label": "Front Door"}
            await shows(track.track, RED)
            assert remote(bob).state == remote(source).state == "connected"
            assert not any(isinstance(event, NegotiationError) for event in events)

            stats = await remote(bob).stats()
            assert isinstance(stats, ConnectionStats)
            assert stats.state == "connected"
            assert stats.bytes_received > 0
            assert [(each.kind, each.direction) for each in stats.tracks] == [("video", "receive")]
            assert (await source.stats()).remotes["bob"] is not None
            assert remote(bob).pc.connectionState == "connected"

            source.remove_stream(stream)
            await until(lambda: any(isinstance(event, StreamRemoved) for event in events))
            assert remote(bob).streams == remote(bob).tracks == ()
            assert track.track.readyState == "ended"
        assert camera.readyState == "live"  # which was not ours to stop


async def test_both_send_and_add_and_take_back_in_mid_call() -> None:
    async with warm_relay() as relay, nothing_of_webrtc_left():
        async with token_peer(relay.url, "alice") as alice, token_peer(relay.url, "bob") as bob:
            alice.add_track(ColourTrack(RED), metadata={"role": "camera"})
            bob.add_track(ColourTrack(GREEN))
            for peer in (alice, bob):
                await peer.join(ROOM)
            await until(lambda: alice.remote_peers and bob.remote_peers)
            (hers,), (his,) = await first(remote(bob), Track), await first(remote(alice), Track)
            assert (hers.metadata, hers.streams, his.metadata) == ({"role": "camera"}, (), None)
            await shows(hers.track, RED)
            await shows(his.track, GREEN)

            screen = ColourTrack(BLUE)
            tracks = told(remote(bob), Track)
            alice.add_stream(MediaStream([screen], id="screen"), {"role": "screen"})
            await until(lambda: tracks)
            assert tracks[0].metadata == {"role": "screen"}
            await shows(tracks[0].track, BLUE)
            await shows(hers.track, RED)

            removed = told(remote(bob), StreamRemoved)
            screen.stop()  # it ends by itself, and that is told
            await until(lambda: removed)
            assert alice.get_track_metadata(screen) is None
            await shows(hers.track, RED)
            await shows(his.track, GREEN)


async def test_replace_track_changes_the_picture() -> None:
    async with make_relay() as relay, meeting(relay, "alice", "bob") as (alice, bob):
        old, new = ColourTrack(RED), ColourTrack(GREEN)
        alice.add_track(old, metadata={"role": "camera"})
        (seen,) = await first(remote(bob), Track)
        await shows(seen.track, RED)
        await alice.replace_track(old, new)
        await shows(seen.track, GREEN)
        assert alice.get_track_metadata(new) == {"role": "camera"}
        await alice.replace_track(new, None)
        assert alice.get_track_metadata(new) is None


async def test_a_late_viewer_sees_everybody() -> None:
    async with make_relay() as relay, meeting(relay, "alice", "bob") as (alice, bob):
        alice.add_track(ColourTrack(RED))
        bob.add_track(ColourTrack(GREEN))
        async with token_peer(relay.url, "carol") as carol:
            await carol.join(ROOM)
            await until(lambda: len(carol.remote_peers) == 2)
            for name, colour in (("alice", RED), ("bob", GREEN)):
                (seen,) = await first(remote(carol, name), Track)
                await shows(seen.track, colour)


# --- data channels ---


@pytest.mark.parametrize("opener", ["alice", "bob"], ids=["the polite side opens", "the impolite side opens"])
async def test_a_data_channel_that_one_side_opens_alone(opener: str) -> None:
    async with warm_relay() as relay, nothing_of_webrtc_left(), meeting(relay, "alice", "bob") as (alice, bob):
        near, far = (alice, bob) if opener == "alice" else (bob, alice)
        handle = remote(near).create_data_channel("chat", ordered=False, max_retransmits=3, protocol="v1")
        ours = DataChannel(handle)
        opened = told(ours, DCOpen)
        await ours.send("grüß dich 👋")  # waits for the channel to open
        assert opened == [DCOpen()]
        (arrived,) = await first(remote(far), DataChannelOpened)
        assert (arrived.channel.label, arrived.channel.protocol, arrived.channel.ordered) == ("chat", "v1", False)
        theirs = DataChannel(arrived.channel)
        heard, closed = told(ours, DCMessage), told(theirs, DCClose)
        async with theirs.events(DCMessage) as messages:
            with anyio.fail_after(5):
                assert (await anext(messages)).data == "grüß dich 👋"
            await theirs.send(b"\x00\xff")
            await until(lambda: heard)
            assert heard == [DCMessage(b"\x00\xff")]
        ours.close()
        await until(lambda: closed and ours.ready_state == "closed")
        with pytest.raises(DataChannelClosedError):
            await ours.send("late")


async def test_a_full_buffer_makes_senders_wait_and_keeps_the_order() -> None:
    async with make_relay() as relay, meeting(relay, "alice", "bob") as (alice, bob):
        ours = DataChannel(remote(alice).create_data_channel("bulk"), max_buffered_amount=65_536)
        (arrived,) = await first(remote(bob), DataChannelOpened)
        received: list[int] = []
        DataChannel(arrived.channel).on(DCMessage, lambda event: received.append(int.from_bytes(event.data[:4], "big")))
        most = 0
        for number in range(200):
            await ours.send(number.to_bytes(4, "big") + bytes(8000))
            most = max(most, ours.buffered_amount)
        await until(lambda: len(received) == 200, 20)
        assert received == list(range(200))
        assert most <= 65_536


async def test_a_channel_that_aiortc_made_itself(anyio_backend: str) -> None:
    if anyio_backend == "trio":
        pytest.skip("there aiortc lives in another thread")
    async with make_relay() as relay, meeting(relay, "alice", "bob") as (alice, bob):
        opened = told(remote(bob), DataChannelOpened)
        await DataChannel(remote(alice).create_data_channel("one of ours")).send("first")
        raw = DataChannel(remote(alice).pc.createDataChannel("one of its own"))
        await raw.send("hello")
        await until(lambda: len(opened) == 2)
        assert [event.channel.label for event in opened] == ["one of ours", "one of its own"]
        async with DataChannel(opened[1].channel).events(DCMessage) as messages:
            with anyio.fail_after(5):
                assert (await anext(messages)).data == "hello"
        raw.close()
        await until(lambda: raw.ready_state == "closed")


async def test_channels_from_inside_the_joined_handler() -> None:
    async with make_relay() as relay, token_peer(relay.url, "alice") as alice, token_peer(relay.url, "bob") as bob:
        heard: list[Any] = []

        @alice.on(PeerJoined)
        async def greet(event: PeerJoined) -> None:
            await DataChannel(event.peer.create_data_channel("greeting")).send("welcome")

        @bob.on(PeerJoined)
        def listen(event: PeerJoined) -> None:
            @event.peer.on(DataChannelOpened)
            def opened(opening: DataChannelOpened) -> None:
                DataChannel(opening.channel).on(DCMessage, lambda message: heard.append(message.data))

        await alice.join(ROOM)
        await bob.join(ROOM)
        await until(lambda: heard)
        assert heard == ["welcome"]


async def test_a_channel_to_somebody_who_leaves_is_released() -> None:
    async with make_relay() as relay, meeting(relay, "alice", "bob") as (alice, bob):
        channel = DataChannel(remote(alice).create_data_channel("chat"))
        await channel.send("first")
        closed = told(channel, DCClose)

        async def send_on() -> None:
            while True:
                await channel.send(bytes(16_000))

        async with anyio.create_task_group() as group:
            group.start_soon(bob.close)
            with pytest.raises(DataChannelClosedError), anyio.fail_after(5):
                await send_on()
        await until(lambda: closed)


# --- the way to the relay ---


async def test_calls_survive_a_relay_that_stops_and_starts() -> None:
    async with make_relay() as relay:
        port = relay.port
        alice, bob = token_peer(relay.url, "alice"), token_peer(relay.url, "bob")
        alice.add_track(ColourTrack(RED))
        for peer in (alice, bob):
            await peer.join(ROOM)
        await until(lambda: bob.remote_peers and alice.remote_peers)
        (seen,) = await first(remote(bob), Track)
        await shows(seen.track, RED)
        hers, his = remote(bob), remote(alice)
        pc, comings, told_by_hers = hers.pc, told(bob, PeerJoined, PeerLeft), told(hers)
        chat = DataChannel(his.create_data_channel("chat"))
        await chat.send("before")
    async with make_relay(port=port):
        await shows(seen.track, RED)
        await chat.send("meanwhile")
        await until(lambda: alice.state == bob.state == "joined" and chat.ready_state == "open")
        await shows(seen.track, RED)
        await chat.send("after")
        (arrived,) = [event for event in told_by_hers if isinstance(event, DataChannelOpened)]
        messages = told(DataChannel(arrived.channel), DCMessage)
        await until(lambda: len(messages) == 3)
        assert [event.data for event in messages] == ["before", "meanwhile", "after"]
        assert remote(bob) is hers
        assert remote(alice) is his
        assert hers.pc is pc
        assert comings == []
        assert not [event for event in told_by_hers if isinstance(event, ConnectionReset | StreamRemoved)]
        heard = told(alice, Data)
        await bob.send("over the relay again")
        await until(lambda: heard)
        for peer in (alice, bob):
            await peer.close()


async def test_a_connection_that_breaks_comes_back_in_the_same_remote_peer() -> None:
    async with make_relay() as relay, meeting(relay, "alice", "bob") as (alice, bob):
        alice.add_stream(MediaStream([ColourTrack(RED)], id="cam"), {"role": "camera"})
        hers = remote(bob)
        (seen,) = await first(hers, Track)
        await shows(seen.track, RED)
        events = told(hers)
        comings = told(bob, PeerLeft, PeerJoined)
        await break_connection(bob)
        await until(lambda: any(isinstance(event, Track) for event in events), 10)
        (again,) = (event for event in events if isinstance(event, Track))
        await shows(again.track, RED, 10)
        assert again.streams[0].id == "cam"
        assert again.streams[0] is not seen.streams
        assert again.metadata == {"role": "camera"}
        assert comings == []
        assert [event.to for event in events if isinstance(event, StateChange)] == ["reconnecting", "connected"]
        assert [event for event in events if isinstance(event, ConnectionReset)] == [ConnectionReset()]
        assert not [event for event in events if isinstance(event, StreamRemoved)]


async def break_connection(peer: MeteredPeer) -> None:
    """Let the connection below fall to pieces without a word to anybody."""
    pc = remote(peer).pc
    (engine,) = (peer._around.engine._engine,)
    assert engine is not None
    await engine._crossing.call(pc.close)  # type: ignore[attr-defined]


async def test_with_keys_the_call_comes_back_under_new_ids() -> None:
    async with make_relay() as relay, Cable(relay.port) as cable:
        async with make_peer(cable.url) as alice, make_peer(relay.url) as bob:
            alice.add_track(ColourTrack(RED))
            tracks: list[Track] = []
            bob.on(PeerJoined, lambda event: event.peer.on(Track, tracks.append))
            for peer in (alice, bob):
                await peer.join(ROOM)
            await until(lambda: tracks)
            await shows(tracks[0].track, RED)
            before = alice.peer_id
            await cable.cut()
            await until(lambda: len(tracks) == 2, 10)
            await shows(tracks[1].track, RED)
            assert alice.peer_id != before


# --- ends ---


async def test_close_in_mid_call_takes_no_time() -> None:
    async with warm_relay() as relay, nothing_of_webrtc_left():
        alice, bob = token_peer(relay.url, "alice"), token_peer(relay.url, "bob")
        alice.add_track(ColourTrack(RED))
        for peer in (alice, bob):
            await peer.join(ROOM)
        await until(lambda: bob.remote_peers)
        (seen,) = await first(remote(bob), Track)
        await shows(seen.track, RED)
        left = told(bob, PeerLeft)
        with anyio.fail_after(2):
            await alice.close("that is all")
        await until(lambda: left)  # its connection is closed, so there is nothing to wait for
        assert seen.track.readyState == "ended"
        with anyio.fail_after(2):
            await bob.close()


@pytest.mark.parametrize("kind", [Track, StreamAdded, DCMessage, DataChannelOpened, StateChange])
async def test_close_from_a_handler_of_a_remote_peer_or_a_channel(kind: type[Event]) -> None:
    async with warm_relay() as relay, nothing_of_webrtc_left():
        alice, bob = token_peer(relay.url, "alice"), token_peer(relay.url, "bob")
        alice.add_stream(MediaStream([ColourTrack(RED)]))
        alice.on(PeerJoined, lambda event: spawned.append(event.peer.create_data_channel("chat")))
        spawned: list[Any] = []
        done = anyio.Event()

        async def leave(event: Event) -> None:
            await bob.close()
            done.set()

        @bob.on(PeerJoined)
        def meet(event: PeerJoined) -> None:
            if kind is DCMessage:
                event.peer.on(DataChannelOpened, lambda event: DataChannel(event.channel).on(DCMessage, leave))
            else:
                event.peer.once(kind, leave)

        for peer in (alice, bob):
            await peer.join(ROOM)
        await until(lambda: spawned)
        async with anyio.create_task_group() as group:
            if kind is DCMessage:
                group.start_soon(DataChannel(spawned[0]).send, "go")
            with anyio.fail_after(5):
                await done.wait()
        assert bob.state == "closed"
        await alice.close()


async def test_joining_and_leaving_again_and_again_leaves_nothing() -> None:
    async with warm_relay() as relay, token_peer(relay.url, "alice") as alice:
        alice.add_track(ColourTrack(RED))
        await alice.join(ROOM)
        counts = []
        for _ in range(4):
            async with token_peer(relay.url, "bob").joined(ROOM) as bob:
                await until(lambda bob=bob: bob.remote_peers)
                (seen,) = await first(remote(bob), Track)
                await shows(seen.track, RED)
            await until(lambda: not alice.remote_peers)
            await until(lambda: not alice._around.engine._engine._workshop._closing)  # type: ignore[union-attr]
            counts.append(len(os.listdir("/proc/self/fd")))
        assert counts[-1] <= counts[1], counts


async def test_close_while_connecting() -> None:
    async with warm_relay() as relay, nothing_of_webrtc_left():
        for delay in (0, 0.005, 0.02, 0.05):
            alice, bob = token_peer(relay.url, "alice"), token_peer(relay.url, "bob")
            alice.add_track(ColourTrack(RED))
            bob.add_track(ColourTrack(GREEN))
            for peer in (alice, bob):
                await peer.join(ROOM)
            await anyio.sleep(delay)
            for peer in (alice, bob):
                with anyio.fail_after(2):
                    await peer.close()
