"""What `MeteredPeer` does with the application's tracks, in front of an engine that follows a script."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from adapter_kit import KEY, make_relay, until
from room_kit import ROOM, Log, ScriptedEngine, ScriptedTrack, meeting, remote, token_peer, told

from metered_anyio import (
    DataChannel,
    IceServer,
    MediaStream,
    MeteredPeer,
    MeteredPeerOversizedError,
    MeteredPeerReplaceTrackError,
    MeteredPeerStateError,
    OversizedPayloadError,
    PeerJoined,
    ReplaceTrackFailure,
    StateChange,
    WebRtcMissingError,
)
from metered_proto.rtc.words import (
    ConnectionChanged,
    LocalTrack,
    MakeOffer,
    OpenChannel,
    OpenConnection,
    SwapSender,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedEngine]:
    """Every engine that is made, and each is a scripted one."""
    made: list[ScriptedEngine] = []

    def make(feed: Callable[[Any], None], logger: object, backend: object) -> ScriptedEngine:
        made.append(ScriptedEngine(feed))
        return made[-1]

    monkeypatch.setattr("metered_anyio.metered_peer.make_engine", make)
    return made


def make_peer(**options: Any) -> MeteredPeer:
    return MeteredPeer(api_key=KEY, url="ws://127.0.0.1:9", **options)


def sent(peer: MeteredPeer) -> list[LocalTrack]:
    return list(peer._around.room.tracks)


def nested(deep: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(deep):
        metadata = {"in": metadata}
    return metadata


# --- before there is anybody: no event loop is needed ---


def test_tracks_and_their_metadata() -> None:
    peer = make_peer()
    camera, voice = ScriptedTrack("video", "camera"), ScriptedTrack("audio", "voice")
    stream = MediaStream([camera], id="front")
    metadata = {"role": "camera", "tags": ["a"]}
    peer.add_stream(stream, metadata)
    peer.add_track(voice)
    metadata["tags"].append("b")  # type: ignore[attr-defined]
    assert [(each.kind, each.track_id, each.stream_id, each.metadata) for each in sent(peer)] == [
        ("video", "camera", "front", {"role": "camera", "tags": ["a"]}),
        ("audio", "voice", None, None),
    ]
    assert peer.get_stream_metadata(stream) == peer.get_track_metadata(camera) == {"role": "camera", "tags": ["a"]}
    assert peer.get_track_metadata(voice) is None
    got = peer.get_track_metadata(camera)
    assert got is not None
    got["tags"].append("c")
    assert peer.get_track_metadata(camera) == {"role": "camera", "tags": ["a"]}
    assert peer.get_stream_metadata(MediaStream()) is None
    assert peer.get_track_metadata(ScriptedTrack()) is None
    peer.remove_track(camera)
    peer.remove_track(camera)
    assert [each.track_id for each in sent(peer)] == ["voice"]
    assert peer.get_track_metadata(camera) is None
    peer.remove_stream(stream)


def test_each_track_of_a_stream_has_its_own_copy() -> None:
    peer = make_peer()
    stream = MediaStream([ScriptedTrack("audio", "a"), ScriptedTrack("video", "v")])
    peer.add_stream(stream, {"label": "front"})
    first, second = sent(peer)
    assert first.metadata == second.metadata == {"label": "front"}
    assert first.metadata is not second.metadata
    assert first.stream_id == second.stream_id == stream.id
    peer.remove_stream(stream)
    assert sent(peer) == []


def test_removing_a_stream_leaves_nothing_of_it() -> None:
    peer = make_peer()
    camera, voice, other = ScriptedTrack(), ScriptedTrack("audio", "voice"), ScriptedTrack("video", "other")
    stream = MediaStream([camera])
    peer.add_stream(stream)
    peer.add_track(voice)
    peer.add_track(other)
    stream.add_track(voice)  # so it is in the stream, though it is sent outside of it
    stream.remove_track(camera)  # and the other way round
    peer.remove_stream(stream)
    assert [each.track_id for each in sent(peer)] == ["other"]


def test_adding_a_track_again_changes_nothing() -> None:
    peer = make_peer()
    camera = ScriptedTrack()
    stream = MediaStream([camera])
    peer.add_stream(stream, {"label": "first"})
    peer.add_stream(stream, {"label": "second"})
    peer.add_track(camera, stream)
    voice = ScriptedTrack("audio")
    stream.add_track(voice)
    peer.add_stream(stream, {"label": "third"})
    assert [each.metadata for each in sent(peer)] == [{"label": "first"}, {"label": "third"}]
    assert peer.get_stream_metadata(stream) == {"label": "first"}


def test_a_track_belongs_to_one_stream() -> None:
    peer = make_peer()
    camera = ScriptedTrack()
    peer.add_track(camera, MediaStream(id="front"))
    for other in (MediaStream(id="back"), None):
        with pytest.raises(MeteredPeerStateError) as caught:
            peer.add_track(camera, other)
        assert caught.value == MeteredPeerStateError("track_already_attached", "add_track", "idle")
    peer.remove_track(camera)
    peer.add_track(camera, MediaStream(id="back"))
    assert [each.stream_id for each in sent(peer)] == ["back"]


def test_metadata_over_the_cap_is_refused_and_nothing_is_added() -> None:
    peer = make_peer()
    camera = ScriptedTrack()
    with pytest.raises(MeteredPeerOversizedError) as caught:
        peer.add_track(camera, metadata={"label": "x" * 70_000})
    assert isinstance(caught.value, OversizedPayloadError)
    assert caught.value.cap == 65_536
    assert caught.value.size > 70_000
    assert sent(peer) == []
    assert peer._media._objects == {}
    peer.add_track(camera)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((None,), TypeError),
        (("camera",), TypeError),
        ((ScriptedTrack("data"),), TypeError),
        ((ScriptedTrack(), "front"), TypeError),
        ((ScriptedTrack(), None, ["label"]), TypeError),
        ((ScriptedTrack(), None, {"label": object()}), TypeError),
        ((ScriptedTrack(), None, {"label": float("nan")}), ValueError),
        ((ScriptedTrack(), None, nested(600)), ValueError),
        ((ScriptedTrack(), None, nested(50_000)), ValueError),
    ],
)
def test_bad_tracks_streams_and_metadata(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    peer = make_peer()
    with pytest.raises(error):
        peer.add_track(*arguments)
    assert sent(peer) == []


def test_what_is_no_stream() -> None:
    peer = make_peer()
    for call in (peer.add_stream, peer.remove_stream, peer.get_stream_metadata):
        with pytest.raises(TypeError, match="stream must be a MediaStream, not NoneType"):
            call(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="track must be an audio or video track"):
        peer.remove_track(None)  # type: ignore[arg-type]


def test_ids_that_no_description_can_carry_are_replaced() -> None:
    peer = make_peer()
    for track in (
        ScriptedTrack(id="two words"),
        ScriptedTrack(id="same"),
        ScriptedTrack(id="same"),
        ScriptedTrack(id=""),
    ):
        peer.add_track(track)
    ids = [each.track_id for each in sent(peer)]
    assert ids[1] == "same"
    assert len(set(ids)) == 4
    assert all(len(id) == 32 for id in (ids[0], ids[2], ids[3]))


def test_too_many_tracks() -> None:
    peer = make_peer()
    for _ in range(512):
        peer.add_track(ScriptedTrack())
    with pytest.raises(MeteredPeerStateError, match="too_many_tracks"):
        peer.add_track(ScriptedTrack())


async def test_after_close_nothing_is_added_or_removed() -> None:
    peer = make_peer()
    camera = ScriptedTrack()
    stream = MediaStream([camera])
    peer.add_stream(stream)
    await peer.close()
    for call, method in (
        (lambda: peer.add_track(ScriptedTrack()), "add_track"),
        (lambda: peer.add_stream(MediaStream([ScriptedTrack()])), "add_track"),
        (lambda: peer.remove_track(camera), "remove_track"),
        (lambda: peer.remove_stream(MediaStream()), "remove_stream"),
    ):
        with pytest.raises(MeteredPeerStateError) as caught:
            call()
        assert caught.value == MeteredPeerStateError("invalid_state", method, "closed")
    with pytest.raises(MeteredPeerStateError) as caught:
        await peer.replace_track(camera, None)
    assert caught.value == MeteredPeerStateError("invalid_state", "replace_track", "closed")


# --- replacing, alone ---


async def test_replace_track_alone() -> None:
    async with make_peer() as peer:
        old, new = ScriptedTrack(id="old"), ScriptedTrack(id="new")
        peer.add_track(old, MediaStream(id="front"), {"role": "camera"})
        await peer.replace_track(old, new)
        (now,) = sent(peer)
        assert (now.track_id, now.stream_id, now.metadata) == ("new", "front", {"role": "camera"})
        assert peer.get_track_metadata(new) == {"role": "camera"}
        assert peer.get_track_metadata(old) is None
        assert list(peer._media._objects.values()) == [new]
        await peer.replace_track(new, new)
        await peer.replace_track(old, new)  # which is not sent
        await peer.replace_track(new, None)
        assert sent(peer) == []
        assert peer._media._objects == {}


async def test_what_cannot_be_replaced() -> None:
    async with make_peer() as peer:
        camera, screen, voice = ScriptedTrack(), ScriptedTrack(), ScriptedTrack("audio")
        peer.add_track(camera)
        peer.add_track(screen)
        with pytest.raises(TypeError, match="old_track must be"):
            await peer.replace_track(None, screen)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="new_track must be"):
            await peer.replace_track(camera, "screen")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="new_track must be video as the old one is, not audio"):
            await peer.replace_track(camera, voice)
        with pytest.raises(MeteredPeerStateError) as caught:
            await peer.replace_track(camera, screen)
        assert caught.value == MeteredPeerStateError("track_already_attached", "replace_track", "idle")
        assert len(sent(peer)) == len(peer._media._objects) == 2


# --- with others in the room ---


async def connected(peer: MeteredPeer, engine: ScriptedEngine) -> None:
    """The impolite side's offer was answered and the connection is up, as far as the machines can tell."""
    for his in peer.remote_peers:
        await until(lambda his=his: peer._around.room.peer(his.id).pc is not None)
        machine = peer._around.room.peer(his.id)
        assert machine is not None
        assert machine.pc is not None
        engine.feed(ConnectionChanged(machine.pc, "connected"))


async def test_sources_are_known_to_the_engine_before_they_are_needed(engines: list[ScriptedEngine]) -> None:
    async with make_relay() as relay, token_peer(relay.url, "zoe") as zoe, token_peer(relay.url, "bob") as bob:
        camera = ScriptedTrack()
        zoe.add_track(camera)
        await zoe.join(ROOM)
        await bob.join(ROOM)
        await until(lambda: engines and engines[0].works)
        engine = engines[0]
        (key,) = engine.sources
        assert engine.sources[key] is camera
        (offer,) = (work for work in engine.works if isinstance(work, MakeOffer))
        assert [each.key for each in offer.tracks] == [key]
        screen = ScriptedTrack()
        zoe.add_track(screen)
        assert list(engine.sources.values()) == [camera, screen]
        zoe.remove_track(camera)
        assert list(engine.sources.values()) == [screen]
    assert engine.closed


async def test_a_source_that_ends_is_taken_back(engines: list[ScriptedEngine]) -> None:
    async with make_relay() as relay, token_peer(relay.url, "zoe") as zoe, token_peer(relay.url, "bob") as bob:
        camera = ScriptedTrack()
        zoe.add_track(camera)
        await zoe.join(ROOM)
        await bob.join(ROOM)
        await until(lambda: engines and engines[0].works)
        engine = engines[0]
        (key,) = engine.sources
        assert engine.on_track_ended is not None
        engine.on_track_ended(key)
        assert sent(zoe) == []
        assert engine.sources == {}
        zoe.remove_track(camera)


@pytest.mark.parametrize("failing", [(), ("bob",), ("bob", "carol")])
async def test_replace_track_with_partial_failure(
    engines: list[ScriptedEngine], failing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is real enough to have connections; each swap is answered by hand."""
    async with make_relay() as relay, meeting(relay, "zoe", "bob", "carol") as (zoe, _, _):
        old, new = ScriptedTrack(id="old"), ScriptedTrack(id="new")
        zoe.add_track(old, metadata={"role": "camera"})
        await until(lambda: engines and len([w for w in engines[0].works if isinstance(w, MakeOffer)]) == 2)
        engine = engines[0]
        await connected(zoe, engine)
        owners = {zoe._around.room.peer(name).pc: name for name in ("bob", "carol")}  # type: ignore[union-attr]
        error = OSError("no such codec")

        async def work(work: Any) -> Any:
            assert isinstance(work, SwapSender)
            assert [each.track_id for each in (work.new,) if each is not None] == ["new"]
            assert engine.sources[work.old] is old  # both are there as long as it is not decided
            if owners[work.pc] in failing:
                raise error

        monkeypatch.setattr(engine, "work", work)
        if failing:
            with pytest.raises(MeteredPeerReplaceTrackError) as caught:
                await zoe.replace_track(old, new)
            assert caught.value.failed == tuple(ReplaceTrackFailure(name, error) for name in failing)
            assert caught.value.succeeded == tuple(name for name in ("bob", "carol") if name not in failing)
        else:
            await zoe.replace_track(old, new)
        kept, gone = (old, new) if len(failing) == 2 else (new, old)
        assert zoe.get_track_metadata(kept) == {"role": "camera"}
        assert zoe.get_track_metadata(gone) is None
        assert list(engine.sources.values()) == [kept]


async def test_a_cancelled_replace_goes_on(engines: list[ScriptedEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    async with make_relay() as relay, meeting(relay, "zoe", "bob") as (zoe, _):
        old, new = ScriptedTrack(id="old"), ScriptedTrack(id="new")
        zoe.add_track(old)
        await until(lambda: engines and engines[0].works)
        engine = engines[0]
        await connected(zoe, engine)
        go_on = anyio.Event()

        async def work(work: Any) -> Any:
            await go_on.wait()

        monkeypatch.setattr(engine, "work", work)
        with anyio.move_on_after(0.05) as scope:
            await zoe.replace_track(old, new)
        assert scope.cancelled_caught
        assert list(engine.sources.values()) == [old, new]
        go_on.set()
        await until(lambda: list(engine.sources.values()) == [new])
        assert [each.track_id for each in sent(zoe)] == ["new"]


async def test_tracks_and_channels_from_inside_a_handler(engines: list[ScriptedEngine]) -> None:
    async with make_relay() as relay, token_peer(relay.url, "zoe") as zoe, token_peer(relay.url, "bob") as bob:
        camera = ScriptedTrack()
        channels: list[DataChannel] = []

        @zoe.on(PeerJoined)
        def meet(event: PeerJoined) -> None:
            zoe.add_track(camera)
            assert zoe.get_track_metadata(camera) is None
            channels.append(DataChannel(event.peer.create_data_channel("chat")))
            with pytest.raises(MeteredPeerStateError):
                zoe.add_track(camera, MediaStream())

        await zoe.join(ROOM)
        await bob.join(ROOM)
        await until(lambda: engines and engines[0].works)
        engine = engines[0]
        opened = [each for each in engine.orders if isinstance(each, OpenChannel)]
        assert [each.options.label for each in opened] == ["chat"]
        assert engine.channels[opened[0].channel] is channels[0]._channel
        assert channels[0].ready_state == "connecting"
        assert remote(zoe).state == "connecting"
        assert remote(zoe).pc == f"connection {opened[0].pc}"
        assert await remote(zoe).stats() == f"stats {opened[0].pc}"  # type: ignore[comparison-overlap]
        assert (await zoe.stats()).remotes == {"bob": f"stats {opened[0].pc}"}  # type: ignore[comparison-overlap]


async def test_ice_options_reach_the_engine(engines: list[ScriptedEngine]) -> None:
    server = IceServer(("turn:127.0.0.1:3478",), "user", "secret")
    async with make_relay() as relay, token_peer(relay.url, "bob") as bob:
        async with token_peer(relay.url, "zoe", ice_servers=[server], ice_transport_policy="relay") as zoe:
            zoe.add_track(ScriptedTrack())
            for peer in (zoe, bob):
                await peer.join(ROOM)
            await until(lambda: engines and engines[0].orders)
            assert isinstance(engines[0].orders[0], OpenConnection)
            assert engines[0].orders[0].ice_servers == (server,)
            assert engines[0].orders[0].relay_only


# --- without aiortc ---


async def test_without_aiortc_all_but_media_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_anyio.metered_peer.has_webrtc", lambda: False)
    log = Log()
    async with make_relay() as relay, meeting(relay, "alice", "bob", logger=log) as (alice, _):
        states = told(remote(alice), StateChange)
        await alice.send_to("bob", {"type": "rtc-description", "description": {"type": "offer", "sdp": "v=0"}})
        await alice.send_to("bob", {"type": "rtc-description", "description": {"type": "offer", "sdp": "v=0"}})
        await alice.send("still here")
        with pytest.raises(WebRtcMissingError, match=r"pip install 'metered-sansio\[webrtc\]'"):
            alice.add_track(ScriptedTrack())
        with pytest.raises(ImportError):
            remote(alice).create_data_channel("chat")
        assert len([message for message in log.warnings if "a peer wants to connect" in message]) == 1
        assert (await alice.stats()).remotes == {"bob": None}
        assert states == []
    assert states == [StateChange("idle", "closed")]


def test_with_aiortc_hidden_the_package_works() -> None:
    code = """
        import sys
        sys.modules.update(aiortc=None, av=None)
        import anyio
        from metered_anyio import MeteredPeer
        from metered_anyio.relay import RelayServer

        async def main():
            async with RelayServer(keys=["pk_live_demo"]) as relay:
                async with MeteredPeer(api_key="pk_live_demo", url=relay.url).joined("room") as peer:
                    await peer.send("hello")
                    print(peer.state)

        anyio.run(main)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("joined\n", "")
