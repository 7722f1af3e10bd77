"""`RemotePeer`: what its machine says in numbers, the application is told in objects."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from channel_kit import ScriptedHandle
from room_kit import ScriptedTrack, told

from metered_anyio import (
    ConnectionReset,
    DataChannel,
    DataChannelOpened,
    DCClose,
    Event,
    IceCandidateError,
    NegotiationError,
    NoopLogger,
    RemotePeer,
    StateChange,
    StreamAdded,
    StreamRemoved,
    Track,
)
from metered_anyio.backend import current_backend
from metered_anyio.emitter import Emitter
from metered_proto.rtc.words import ChannelOptions, ChannelSeen, StreamGone, StreamSeen, TrackGone, TrackSeen

pytestmark = pytest.mark.anyio


class ScriptedRoom:
    """As `metered_anyio.remote_peer.Peerage`."""

    def __init__(self) -> None:
        self.tracks: dict[int, ScriptedTrack] = {}
        self.channels: dict[int, ScriptedHandle] = {}
        self.sent: list[Any] = []
        self.opened: list[ChannelOptions] = []

    def is_polite(self, peer_id: str) -> bool:
        return True

    def connection(self, peer_id: str) -> Any:
        return f"the connection to {peer_id}"

    def open_channel(self, peer_id: str, options: ChannelOptions) -> ScriptedHandle:
        self.opened.append(options)
        return self.channels.setdefault(-len(self.opened), ScriptedHandle("connecting"))

    def track(self, number: int) -> ScriptedTrack:
        return self.tracks.setdefault(number, ScriptedTrack(id=f"track {number}"))

    def channel(self, number: int) -> ScriptedHandle:
        return self.channels.setdefault(number, ScriptedHandle())

    async def send_to(self, peer_id: str, data: Any) -> None:
        self.sent.append((peer_id, data))

    async def connection_stats(self, peer_id: str) -> Any:
        return f"the figures of {peer_id}"


def make_remote(metadata: dict[str, Any] | None = None) -> tuple[RemotePeer, ScriptedRoom]:
    room = ScriptedRoom()
    backend = current_backend()
    parent = Emitter(NoopLogger())  # type: ignore[arg-type]
    parent.bind(backend)
    return RemotePeer("bob", metadata, room, Emitter(NoopLogger(), parent), backend), room


async def settle() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_what_it_is() -> None:
    bob, room = make_remote({"name": "Bob"})
    assert (bob.id, bob.metadata, bob.state, bob.polite) == ("bob", {"name": "Bob"}, "idle", True)
    assert bob.pc == "the connection to bob"
    assert await bob.stats() == "the figures of bob"  # type: ignore[comparison-overlap]
    await bob.send({"whisper": 1})
    assert room.sent == [("bob", {"whisper": 1})]
    bob.update(None)
    assert bob.metadata is None
    assert repr(bob) == "<RemotePeer bob idle>"


async def test_states_and_troubles_are_told_as_they_are() -> None:
    bob, _ = make_remote()
    events = told(bob)
    happened = [
        StateChange("idle", "connecting"),
        StateChange("connecting", "connected"),
        IceCandidateError(OSError("unreachable")),
        NegotiationError(ValueError("no")),
        ConnectionReset(),
    ]
    for event in happened:
        bob.happened(event)
    assert events == happened
    assert bob.state == "connected"


async def test_a_stream_and_its_tracks() -> None:
    bob, room = make_remote()
    events = told(bob)
    bob.happened(StreamSeen("cam", {"role": "camera"}))
    assert events == []  # before its first track is in it
    bob.happened(TrackSeen(1, "video", "cam", {"role": "camera"}))
    bob.happened(TrackSeen(2, "audio", "cam", None))
    (stream,) = bob.streams
    assert stream.id == "cam"
    assert stream.get_tracks() == [room.tracks[1], room.tracks[2]]
    assert bob.tracks == (room.tracks[1], room.tracks[2])
    assert events == [
        StreamAdded(stream, {"role": "camera"}),
        Track(room.tracks[1], (stream,), {"role": "camera"}),
        Track(room.tracks[2], (stream,), None),
    ]
    bob.happened(TrackGone(1))
    bob.happened(TrackGone(1))
    assert stream.get_tracks() == [room.tracks[2]]
    bob.happened(TrackGone(2))
    bob.happened(StreamGone("cam"))
    bob.happened(StreamGone("cam"))
    assert events[3:] == [StreamRemoved(stream)]
    assert (bob.streams, bob.tracks) == ((), ())


async def test_the_first_track_is_in_the_stream_when_it_is_told() -> None:
    bob, _ = make_remote()
    tracks: list[list[Any]] = []
    bob.on(StreamAdded, lambda event: tracks.append(event.stream.get_video_tracks()))
    bob.happened(StreamSeen("cam", None))
    bob.happened(TrackSeen(1, "video", "cam", None))
    assert [len(each) for each in tracks] == [1]


async def test_a_stream_whose_track_does_not_follow_is_told_all_the_same() -> None:
    bob, _ = make_remote()
    events = told(bob)
    bob.happened(StreamSeen("cam", None))
    bob.happened(StateChange("idle", "connecting"))
    assert [type(event) for event in events] == [StreamAdded, StateChange]


async def test_a_track_without_a_stream() -> None:
    bob, room = make_remote()
    events = told(bob)
    bob.happened(TrackSeen(1, "audio", None, {"role": "voice"}))
    assert events == [Track(room.tracks[1], (), {"role": "voice"})]


async def test_a_stream_that_comes_anew_is_another_object_with_the_same_id() -> None:
    bob, _ = make_remote()
    added = told(bob, StreamAdded)
    removed = told(bob, StreamRemoved)
    for number in (1, 2):
        bob.happened(StreamSeen("cam", None))
        bob.happened(TrackSeen(number, "video", "cam", None))
        bob.happened(TrackGone(number))
    assert added[0].stream is not added[1].stream
    assert added[0].stream.id == added[1].stream.id == "cam"
    assert removed == []


async def test_what_nobody_listened_to_is_kept_for_whoever_does_first() -> None:
    bob, room = make_remote()
    bob.on(StateChange, lambda event: None)  # which is no reason to lose the rest
    bob.happened(StreamSeen("cam", None))
    bob.happened(TrackSeen(1, "video", "cam", None))
    bob.happened(ChannelSeen(7))
    events: list[Event] = []
    bob.on(Track, events.append)
    bob.on(StreamAdded, events.append)
    bob.happened(TrackSeen(2, "audio", "cam", None))
    assert events == []
    await settle()
    (stream,) = bob.streams
    assert events == [
        StreamAdded(stream, None),
        Track(room.tracks[1], (stream,), None),
        Track(room.tracks[2], (stream,), None),
    ]
    async with bob.events(DataChannelOpened) as stream_of_events:
        with anyio.fail_after(1):
            assert (await anext(stream_of_events)).channel is room.channels[7]
    late: list[Event] = []
    bob.on(Event, late.append)
    await settle()
    assert late == []
    bob.happened(TrackSeen(3, "audio", "cam", None))
    assert [type(event) for event in late] == [Track]


async def test_what_is_over_is_not_kept() -> None:
    bob, _ = make_remote()
    bob.happened(StreamSeen("cam", None))
    bob.happened(TrackSeen(1, "video", "cam", None))
    bob.happened(TrackGone(1))
    bob.happened(StreamGone("cam"))
    events = told(bob)
    await settle()
    assert events == []


async def test_a_stream_that_nobody_heard_of_is_still_told_to_be_gone() -> None:
    bob, _ = make_remote()
    removed = told(bob, StreamRemoved)
    bob.happened(StreamSeen("cam", None))
    bob.happened(TrackSeen(1, "video", "cam", None))
    bob.happened(TrackGone(1))
    bob.happened(StreamGone("cam"))
    assert [event.stream.id for event in removed] == ["cam"]


async def test_a_data_channel_that_the_remote_opened() -> None:
    bob, room = make_remote()
    opened = told(bob, DataChannelOpened)
    bob.happened(ChannelSeen(7))
    assert opened == [DataChannelOpened(room.channels[7])]
    channel = DataChannel(opened[0].channel)
    assert channel._emitter._parent is bob._emitter
    assert channel._emitter._logger is bob._emitter._logger


async def test_a_data_channel_of_ours() -> None:
    bob, room = make_remote()
    bob.create_data_channel("chat")
    bob.create_data_channel("game", ordered=False, max_retransmits=0, protocol="v2")
    bob.create_data_channel("game", max_packet_life_time=100)
    assert room.opened == [
        ChannelOptions("chat"),
        ChannelOptions("game", ordered=False, max_retransmits=0, protocol="v2"),
        ChannelOptions("game", max_packet_life_time=100),
    ]


@pytest.mark.parametrize(
    ("label", "options", "error"),
    [
        (None, {}, TypeError),
        (b"chat", {}, TypeError),
        ("x" * 65_536, {}, ValueError),
        ("\ud800", {}, ValueError),
        ("chat", {"protocol": "\ud800"}, ValueError),
        ("chat", {"protocol": 5}, TypeError),
        ("chat", {"ordered": 1}, TypeError),
        ("chat", {"max_retransmits": -1}, ValueError),
        ("chat", {"max_retransmits": True}, TypeError),
        ("chat", {"max_packet_life_time": 65_536}, ValueError),
        ("chat", {"max_packet_life_time": 0.5}, TypeError),
        ("chat", {"max_retransmits": 1, "max_packet_life_time": 1}, ValueError),
    ],
)
async def test_bad_channel_options(label: Any, options: dict[str, Any], error: type[Exception]) -> None:
    bob, room = make_remote()
    with pytest.raises(error):
        bob.create_data_channel(label, **options)
    assert room.opened == []


async def test_its_end_closes_what_has_never_opened_and_ends_streams() -> None:
    bob, room = make_remote()
    channel = DataChannel(bob.create_data_channel("chat"))
    closed = channel.events(DCClose)
    events = bob.events(Event)
    bob.happened(StateChange("idle", "closed"))
    bob.over()
    assert room.channels[-1].ready_state == "closing"
    room.channels[-1].closed()
    with anyio.fail_after(1):
        assert [event async for event in closed] == [DCClose()]
        assert [event async for event in events] == [StateChange("idle", "closed")]
