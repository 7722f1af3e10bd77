"""What a player says and does before it is open, after it failed, and once nobody wants it."""

from __future__ import annotations

import gc
import io
from pathlib import Path
from typing import Any

import anyio
import pytest
from player_kit import Seen, until

from metered_anyio import MediaStream, MeteredPeer
from metered_media import (
    AudioSource,
    PassthroughError,
    SourceEnded,
    SourceLost,
    SourceOpenError,
    VideoSource,
    from_file,
    from_rtsp,
    iter_frames,
    snapshot,
)
from testbed.clips import clip
from testbed.silent_camera import SilentCamera

pytestmark = pytest.mark.anyio

NOWHERE = "rtsp://127.0.0.1:9/live"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


async def test_a_camera_that_was_never_there_is_not_looked_for_once_its_tracks_are_stopped() -> None:
    camera = from_rtsp(NOWHERE, reconnect=True)
    for track in (camera.video, camera.audio):
        assert track is not None
        assert track.readyState == "live"
        assert not camera.closed
        track.stop()
    await until(lambda: camera.closed)


async def test_a_file_with_sound_alone_is_there_after_its_video_was_asked_for(folder: Path) -> None:
    with from_file(io.BytesIO(clip(folder, "aac").read_bytes())) as player:
        player._reading.hand_out("video")  # as if it had been asked for before it was known
        await player.wait_opened(10)
        assert player.audio is not None
        assert (await player.audio.recv()).samples > 0


async def test_what_failed_after_its_track_was_given_can_still_be_tidied_up() -> None:
    with SilentCamera() as silent:
        camera = from_rtsp(silent.url, open_timeout=0.3)
        video, audio = camera.video, camera.audio
        assert video is not None
        assert audio is not None
        await camera.wait_closed()
        assert isinstance(camera.error, SourceOpenError)
        # The end of the camera bridge, word for word but for the name.
        camera.video and camera.video.stop()  # type: ignore[func-returns-value]
        camera.audio and camera.audio.stop()  # type: ignore[func-returns-value]
        assert (camera.video, camera.audio) == (video, audio)
        assert video.readyState == audio.readyState == "ended"


async def test_what_is_to_be_passed_on_and_cannot_be_says_so_when_its_track_is_asked_for(folder: Path) -> None:
    player = from_file(clip(folder, "mjpeg"), passthrough=True, fallback=False)
    with pytest.raises(PassthroughError, match="mjpeg"):
        _ = player.video


async def test_a_player_is_no_track_and_whoever_takes_one_says_what_is(folder: Path) -> None:
    peer = MeteredPeer(api_key="pk_live_demo")
    with from_file(clip(folder, "aac")) as player:
        given: Any = player
        for take in (peer.add_track, iter_frames, lambda track: MediaStream([track])):
            with pytest.raises(TypeError, match="not Player: its tracks are its audio and its video"):
                take(given)
        with pytest.raises(TypeError, match=r"not NoneType$"):
            peer.add_track(player.video)  # type: ignore[arg-type]  # which is the mistake


def test_arguments_that_cannot_be_are_refused_at_the_call(folder: Path, tmp_path: Path) -> None:
    path = clip(folder, "aac")
    wrong: Any = [
        (TypeError, "options must be a mapping of str to str, not int", {"options": 5}),
        (TypeError, "options must be a mapping of str to str, not str", {"options": "a"}),
        (TypeError, "protocols must be a collection of str, not int", {"protocols": 5}),
        (TypeError, "protocols must be a collection of str, not one str", {"protocols": "file"}),
        (ValueError, "input_format must be one of FFmpeg's, which 'mp5' is not", {"input_format": "mp5"}),
    ]
    for error, words, options in wrong:
        with pytest.raises(error, match=words):
            from_file(path, **options)
        with pytest.raises(error, match=words):
            from_rtsp(NOWHERE, **options)
    with pytest.raises(ValueError, match="empty"):
        from_file("")
    text = tmp_path / "a.txt"
    text.write_text("no media")
    with text.open() as file, pytest.raises(TypeError, match="binary"):
        from_file(file)  # type: ignore[arg-type]
    with from_file(path, input_format="mp4") as player:  # one of the names of a container that has several
        assert player.audio is not None


def test_a_number_that_is_to_be_whole_is_asked_for_as_such() -> None:
    with pytest.raises(TypeError, match="input_rate must be an int, not float"):
        AudioSource(input_rate=16_000.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_bitrate must be an int, not float"):
        MeteredPeer(api_key="pk_live_demo").add_track(VideoSource(), max_bitrate=1e6)  # type: ignore[arg-type]


async def test_a_track_plays_on_when_nobody_has_its_player(folder: Path) -> None:
    track = from_file(clip(folder, "aac")).audio
    assert track is not None
    gc.collect()
    seen = await Seen().read(track)
    assert seen.over
    assert seen.times[-1] > 1.5


async def test_whoever_loops_over_what_a_player_tells_comes_to_the_end(folder: Path) -> None:
    with anyio.fail_after(20):
        player = from_file(clip(folder, "aac"))
        async with player.events(SourceLost) as losses, player.events(SourceEnded) as ends:
            player.stop()
            assert [event async for event in losses] == []
            assert [event async for event in ends] == [SourceEnded(None)]
        assert [event async for event in player.events(SourceEnded)] == []
        player = from_file(clip(folder, "aac"))
        async with player.events(SourceEnded) as ends:
            assert player.audio is not None
            await Seen().read(player.audio)
            assert [event async for event in ends] == [SourceEnded(None)]
        await player.wait_closed()


async def test_what_a_snapshot_is_given_for_a_time_is_looked_at_first() -> None:
    with pytest.raises(TypeError, match="timeout must be a number, not str"):
        await snapshot(VideoSource(), timeout="1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout must be from 0"):
        await snapshot(VideoSource(), timeout=-1)
