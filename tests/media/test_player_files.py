"""Files as sources: paced, looped, read by whoever comes, and passed on as they are."""

from __future__ import annotations

import io
import itertools
import logging
import time
from pathlib import Path
from typing import Any

import anyio
import av
import pytest
from aiortc.mediastreams import MediaStreamError
from player_kit import Seen, read_all, stalls

from metered_anyio import StdlibLogger
from metered_media import PassthroughError, SourceEnded, SourceOpenError, from_file, open_file
from testbed.clips import b_frames_later, clip, number_of

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture
def anyio_backend() -> str:
    """asyncio, unless a test says `BOTH`: what differs is how a track is read, and playing takes its time."""
    return "asyncio"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@BOTH
async def test_a_file_plays_in_real_time_and_then_ends(clips: Path) -> None:
    player = from_file(clip(clips, "h264_aac"))
    ended: list[SourceEnded] = []
    told = anyio.Event()

    @player.on(SourceEnded)
    def _(event: SourceEnded) -> None:
        ended.append(event)
        told.set()

    began = time.monotonic()
    seen = await read_all(player)
    took = time.monotonic() - began
    assert [number_of(frame) for frame in seen["video"].things] == list(range(60))
    assert sum(frame.samples for frame in seen["audio"].things) == pytest.approx(88_200, abs=2048)
    assert 1.9 < took < 4
    assert seen["video"].times == pytest.approx([number / 30 for number in range(60)], abs=0.001)
    with anyio.fail_after(5):
        await player.wait_closed()
        await told.wait()
    assert ended == [SourceEnded(None)]
    assert (player.closed, player.error, player.stats.passes, player.stats.broken) == (True, None, 1, 0)
    assert player.audio is not None
    assert player.audio.readyState == "ended"


ODD = {
    # how many pictures, and whether there is sound
    "vp8_odd": (48, False),
    "h264_slow": (14, False),
    "h264_vfr": (60, False),
    "h264_ts": (60, True),
    "h264_b": (60, False),
    "aac_mono_44100": (0, True),
    "wav_mono_8000": (0, True),
    "opus": (0, True),
    "mjpeg": (60, False),
}


async def test_odd_files_play_whole_from_zero(clips: Path) -> None:
    found: dict[str, dict[str, Seen]] = {}

    async def play(name: str) -> None:
        async with await open_file(clip(clips, name)) as player:
            assert ((player.video is not None), (player.audio is not None)) == (ODD[name][0] > 0, ODD[name][1]), name
            found[name] = await read_all(player)

    async with anyio.create_task_group() as group:
        for name in ODD:
            group.start_soon(play, name)
    for name, seen in found.items():
        for each in seen.values():
            assert each.over, name
            assert 0 <= each.times[0] < 0.1, name
            assert all(one < other for one, other in itertools.pairwise(each.times)), name
            assert 1.7 < each.at[-1] - each.at[0] < 8, name
        if "video" in seen:
            assert [number_of(frame) for frame in seen["video"].things] == list(range(ODD[name][0])), name


async def test_a_loop_goes_on_for_ten_passes_as_in_the_first(clips: Path) -> None:
    path = clips / "short.mp4"
    if not path.exists():
        from testbed.clips import Pictures, Tone, write

        write(path, video=Pictures(), audio=Tone(), seconds=0.5)
    async with await open_file(path, loop=True) as player:
        began, used = time.monotonic(), time.process_time()
        seen = await read_all(player, 150)
        took, used = time.monotonic() - began, time.process_time() - used
        with anyio.fail_after(20):
            video = await seen["video"].read(player.video, 155)
        assert player.stats.passes >= 10
    assert [number_of(frame) for frame in video.things[:150]] == list(range(15)) * 10
    # Sound is a little longer than the pictures in each pass, and they wait for it.
    gaps = [other - one for one, other in itertools.pairwise(video.times)]
    assert min(gaps) > 0.02
    assert max(gaps) < 0.1
    assert 4.5 < took < 10
    assert used < took
    sound = seen["audio"].times
    assert all(one < other for one, other in itertools.pairwise(sound))


async def test_a_file_waits_for_its_first_reader_and_while_nobody_reads(clips: Path) -> None:
    async with await open_file(clip(clips, "h264")) as player:
        await anyio.sleep(0.3)
        seen = await Seen().read(player.video, 5)
        await anyio.sleep(1.5)
        await seen.read(player.video, 10)
    assert [number_of(frame) for frame in seen.things] == list(range(10))


@BOTH
async def test_a_reader_that_is_slow_misses_nothing(clips: Path) -> None:
    async with await open_file(clip(clips, "h264_slow")) as player:
        numbers = []
        try:
            while True:
                assert player.video is not None
                numbers.append(number_of(await player.video.recv()))
                await anyio.sleep(0.2)
        except MediaStreamError:
            pass
    assert numbers == list(range(14))


async def test_a_track_that_nobody_reads_holds_up_nobody(clips: Path) -> None:
    async with await open_file(clip(clips, "h264_aac"), loop=True) as player:
        assert player.audio is not None
        seen = await Seen().read(player.video, 100)
        assert [number_of(frame) for frame in seen.things] == [*range(60), *range(40)]
        assert player.audio.waiting < 64
        # Whoever comes later hears what is now, and not what was.
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(seen.read, player.video, 130)
                heard = await Seen().read(player.audio, 10)
        assert heard.times[-1] > 3.0


async def test_only_one_of_two_tracks_is_there(clips: Path) -> None:
    async with await open_file(clip(clips, "aac")) as player:
        assert player.video is None
        assert player.audio is not None
    assert player.audio.readyState == "ended"
    with pytest.raises(MediaStreamError):
        await player.audio.recv()


@BOTH
async def test_stopping_all_tracks_lets_go_of_the_file(clips: Path) -> None:
    player = await open_file(clip(clips, "h264_aac"))
    assert player.audio is not None
    assert player.video is not None
    await player.video.recv()
    player.video.stop()
    player.audio.stop()
    with anyio.fail_after(5):
        await player.wait_closed()
    assert player.closed


@BOTH
async def test_packets_go_as_they_are(clips: Path) -> None:
    async with await open_file(clip(clips, "h264_opus"), passthrough=True, loop=True) as player:
        assert player.video is not None
        assert player.audio is not None
        assert (player.video.codec, player.audio.codec, player.passthrough_error) == ("H264", "opus", None)
        player.video.ask_key_frame()
        seen = await read_all(player, 90)
    for each in seen.values():
        assert all(type(thing) is av.Packet for thing in each.things)
        assert all(one < other for one, other in itertools.pairwise(each.times))
    keys = [number for number, packet in enumerate(seen["video"].things) if packet.is_keyframe]
    assert keys == [0, 30, 60]
    assert seen["video"].times[89] == pytest.approx(3.0, abs=0.1)


async def test_sound_that_cannot_be_passed_on_is_decoded_beside_pictures_that_can(clips: Path) -> None:
    async with await open_file(clip(clips, "h264_aac"), passthrough=True, fallback=False) as player:
        assert player.video is not None
        assert player.audio is not None
        assert (player.video.codec, player.audio.codec, player.passthrough_error) == ("H264", None, None)
        assert isinstance(await player.audio.recv(), av.AudioFrame)


async def test_what_cannot_be_passed_on_is_decoded_and_that_is_said_once(
    clips: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = StdlibLogger(logging.getLogger("metered_media.test"))
    async with await open_file(clip(clips, "h264_b"), passthrough=True, logger=logger) as player:
        assert player.video is not None
        assert player.video.codec is None
        assert player.passthrough_error is not None
        assert player.passthrough_error.code == "b_frames"
        seen = await Seen().read(player.video, 10)
    assert [number_of(frame) for frame in seen.things] == list(range(10))
    assert sum("encoded anew" in record.getMessage() for record in caplog.records) == 1


async def test_unless_that_was_refused(clips: Path) -> None:
    with pytest.raises(PassthroughError) as caught:
        await open_file(clip(clips, "h264_b"), passthrough=True, fallback=False)
    assert caught.value.code == "b_frames"
    player = from_file(clip(clips, "mjpeg"), passthrough=True, fallback=False)
    with anyio.fail_after(10):
        await player.wait_closed()
    assert isinstance(player.error, PassthroughError)


async def test_b_frames_that_come_later_are_decoded_from_there_on(clips: Path) -> None:
    async with await open_file(b_frames_later(clips), passthrough=True) as player:
        assert player.video is not None
        assert player.video.codec == "H264"
        seen = await Seen().read(player.video)
        assert player.video.codec is None
    assert [type(thing) for thing in seen.things] == [av.Packet] * 30 + [av.VideoFrame] * 30
    assert [number_of(frame) for frame in seen.things[30:]] == list(range(30, 60))
    assert all(one < other for one, other in itertools.pairwise(seen.times))


async def test_broken_packets_are_left_out_and_counted(clips: Path, tmp_path: Path) -> None:
    with av.open(str(clip(clips, "vp8"))) as file:
        places = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    whole = bytearray(clip(clips, "vp8").read_bytes())
    for pos, size in places[10:14]:
        whole[pos + 4 : pos + size] = b"\xff" * (size - 4)
    broken = tmp_path / "broken.webm"
    broken.write_bytes(whole)
    async with await open_file(broken) as player:
        seen = await Seen().read(player.video)
        assert player.error is None
    assert seen.over
    assert len(seen.things) >= 50
    assert number_of(seen.things[-1]) == 59


async def test_an_object_with_read_and_seek_is_a_file_too(clips: Path) -> None:
    async with await open_file(io.BytesIO(clip(clips, "h264_slow").read_bytes()), loop=True) as player:
        seen = await Seen().read(player.video, 20)
    assert [number_of(frame) for frame in seen.things] == [*range(14), *range(6)]


async def test_a_file_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(SourceOpenError) as caught:
        from_file(tmp_path / "nothing.mp4")
    assert caught.value.code == "not_found"
    with pytest.raises(SourceOpenError) as caught:
        from_file(tmp_path)
    assert caught.value.code == "unreadable"
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(SourceOpenError) as caught:
        await open_file(tmp_path / "empty.mp4")
    assert caught.value.code == "unreadable"
    player = from_file(tmp_path / "empty.mp4")
    with anyio.fail_after(10):
        await player.wait_closed()
    assert isinstance(player.error, SourceOpenError)
    with pytest.raises(SourceOpenError):
        _ = player.video


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"file": 3}, TypeError),
        ({"file": "x", "loop": 1}, TypeError),
        ({"file": "x", "protocols": "file"}, TypeError),
        ({"file": "x", "protocols": (1,)}, TypeError),
        ({"file": "x", "options": {"a": 1}}, TypeError),
        ({"file": "x", "input_format": 1}, TypeError),
        ({"file": "x", "open_timeout": 0}, ValueError),
    ],
)
async def test_what_cannot_be_is_refused_at_the_call(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        from_file(**arguments)
    if "open_timeout" not in arguments:
        with pytest.raises(error):
            await open_file(**arguments)
    with pytest.raises(ValueError, match="timeout"):
        await open_file("x", timeout=0)


@BOTH
async def test_opening_a_file_leaves_the_loop_alone(clips: Path) -> None:
    path = clip(clips, "h264_ts")
    async with stalls() as found:
        for _ in range(5):
            async with await open_file(path) as player:
                assert player.video is not None
                await player.video.recv()
    assert sorted(found)[-3] < 0.05


async def test_pictures_of_absurd_size_are_not_decoded(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_media.lane.LARGEST", 320 * 240 - 1)
    async with await open_file(clip(clips, "h264_slow")) as player:
        with anyio.fail_after(20):
            seen = await Seen().read(player.video)
        assert seen.over
        assert seen.things == []
        assert player.stats.broken == 14
