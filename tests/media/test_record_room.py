"""Rooms and people, recorded over real connections: files for whoever comes, and tracks that are together."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import av
import pytest

from metered_anyio import MediaStream, MeteredPeer, RemotePeer, Track
from metered_anyio.relay import Limits, RelayServer, SecretKey
from metered_media import RecordingFinished, SnapshotError, record, snapshot
from metered_proto.wire.tokens import mint
from testbed.tracks import BLUE, GREEN, RED, ColourTrack, ToneTrack, colour_of, is_colour

pytestmark = pytest.mark.anyio

SECRET = SecretKey("sk_id_tests", "sk_secret_kept_to_ourselves")
ROOM = "studio"


def make_relay() -> RelayServer:
    return RelayServer(secrets=[SECRET], limits=Limits(connects_per_minute=None, message_rate=None))


def person(relay: RelayServer, peer_id: str) -> MeteredPeer:
    async def provide() -> str:
        return mint(key_id=SECRET.id, secret=SECRET.secret, peer_id=peer_id, now=int(time.time()))

    return MeteredPeer(token_provider=provide, url=relay.url)


async def until(condition: Callable[[], object], within: float = 20.0) -> None:
    with anyio.fail_after(within):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.02)


def contents(path: Path) -> dict[str, list[Any]]:
    """The decoded frames of a file, by kind."""
    found: dict[str, list[Any]] = {"audio": [], "video": []}
    with av.open(str(path)) as container:
        for frame in container.decode():
            found["video" if isinstance(frame, av.VideoFrame) else "audio"].append(frame)
    return found


def remote_of(peer: MeteredPeer) -> RemotePeer:
    (found,) = peer.remote_peers
    return found


async def test_a_room(tmp_path: Path) -> None:
    told: list[RecordingFinished] = []
    async with make_relay() as relay, person(relay, "recorder") as recorder:
        await recorder.join(ROOM)
        async with record(recorder, tmp_path / "calls", format="mkv") as recording:
            recording.on(RecordingFinished, told.append)
            async with person(relay, "../ann") as ann:
                ann.add_track(ColourTrack(RED), MediaStream(id="camera"))
                await ann.join(ROOM)
                await until(lambda: recording.paths)
                async with person(relay, "bob") as bob:
                    # Both ways: who is recorded may watch, too.
                    bob.add_track(ColourTrack(BLUE), MediaStream(id="camera"))
                    bob.add_track(ColourTrack(GREEN), MediaStream(id="screen"))
                    await bob.join(ROOM)
                    await until(lambda: len(recording.paths) == 3)
                    await anyio.sleep(2.0)
                await until(lambda: len(told) == 2)
            await until(lambda: len(told) == 3)
            async with person(relay, "bob") as bob:
                bob.add_track(ColourTrack(GREEN))
                await bob.join(ROOM)
                await until(lambda: len(recording.paths) == 4)
                await anyio.sleep(1.0)
        assert recording.error is None
    names = {"%2E.%2Fann.mkv", "bob.mkv", "bob-2.mkv", "bob-3.mkv"}
    assert {path.name for path in recording.paths} == names
    assert {path.name for path in (tmp_path / "calls").iterdir()} == names
    assert {each.peer_id for each in told} == {"../ann", "bob"}
    shown = {path.name: colour_of(contents(path)["video"][-1]) for path in recording.paths}
    assert is_colour(shown["%2E.%2Fann.mkv"], RED)
    assert is_colour(shown["bob-3.mkv"], GREEN)
    assert {is_colour(shown[name], BLUE) for name in ("bob.mkv", "bob-2.mkv")} == {True, False}


async def test_a_person_whose_sound_and_picture_came_one_after_the_other(tmp_path: Path) -> None:
    async with make_relay() as relay, person(relay, "ann") as ann, person(relay, "me") as me:
        ann.add_track(ToneTrack(440))
        await ann.join(ROOM)
        await me.join(ROOM)
        await until(lambda: me.remote_peers)
        remote = remote_of(me)
        async with record(remote, tmp_path / "ann.mp4", size=(320, 240)) as recording:
            await until(lambda: recording.paths)
            began = time.monotonic()
            await anyio.sleep(3.5)
            ann.add_track(ColourTrack(RED))
            # Who listens later still gets what nobody has listened to: a recording takes no event away.
            seen: list[Track] = []
            remote.on(Track, seen.append)
            await until(lambda: any(track.kind == "video" for track in remote.tracks))
            picture = next(track for track in remote.tracks if track.kind == "video")
            with anyio.fail_after(10):
                while not is_colour(colour_of(await picture.recv()), RED):
                    pass
            shown = time.monotonic() - began
            await anyio.sleep(1.5)
        whole = time.monotonic() - began
        assert {event.track.kind for event in seen} == {"audio", "video"}
    found = contents(tmp_path / "ann.mp4")
    assert {(frame.width, frame.height) for frame in found["video"]} == {(320, 240)}
    first = next(frame.time for frame in found["video"] if is_colour(colour_of(frame), RED))
    assert found["video"][0].time == 0
    assert first == pytest.approx(shown, abs=0.5)
    sound = sum(frame.samples for frame in found["audio"]) / 48_000
    assert sound == pytest.approx(whole, abs=0.5)
    assert abs(sound - found["video"][-1].time) < 0.5


async def test_a_picture_of_somebody(tmp_path: Path) -> None:
    async with make_relay() as relay, person(relay, "ann") as ann, person(relay, "me") as me:
        ann.add_track(ColourTrack(BLUE, size=(320, 240)))
        await ann.join(ROOM)
        await me.join(ROOM)
        await until(lambda: me.remote_peers and remote_of(me).tracks)
        (track,) = remote_of(me).tracks
        for suffix in ("png", "jpg"):
            taken = await snapshot(track, timeout=10)
            assert (taken.width, taken.height, taken.frame.format.name) == (320, 240, "rgb24")
            assert taken.to_ndarray().shape == (240, 320, 3)
            taken.save(tmp_path / f"ann.{suffix}")
            (frame,) = contents(tmp_path / f"ann.{suffix}")["video"]
            assert is_colour(colour_of(frame), BLUE)
        assert not track._branches
        with pytest.raises(ValueError, match="must end in"):
            taken.save(tmp_path / "ann.gif")
        await ann.close()
        await until(lambda: track.readyState == "ended")
        with pytest.raises(SnapshotError) as caught:
            await snapshot(track)
        assert caught.value.code == "ended"


async def test_no_picture() -> None:
    from metered_anyio.rtc.frame_track import FrameTrack

    with pytest.raises(SnapshotError) as caught:
        await snapshot(FrameTrack("video"), timeout=0.1)
    assert caught.value.code == "timed_out"
    with pytest.raises(ValueError, match="video track"):
        await snapshot(FrameTrack("audio"))
    with pytest.raises(ValueError, match="nonsense"):
        await snapshot(FrameTrack("video"), format="nonsense")
    with pytest.raises(TypeError):
        await snapshot(None)  # type: ignore[arg-type]


async def test_a_bound_on_files(tmp_path: Path) -> None:
    async with make_relay() as relay, person(relay, "recorder") as recorder, person(relay, "ann") as ann:
        for colour in (RED, GREEN, BLUE):
            ann.add_track(ColourTrack(colour, size=(64 * 3, 96)))
        await recorder.join(ROOM)
        async with record(recorder, tmp_path / "calls", max_files=2) as recording:
            await ann.join(ROOM)
            await until(lambda: recording.tracks_ignored == 1)
            assert len(recording.paths) == 2
            await recorder.close()
            with anyio.fail_after(10):
                await recording.wait()  # the room was left, so there is nothing to wait for
