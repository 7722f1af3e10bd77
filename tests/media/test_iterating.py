"""Reading tracks with `async for`."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from fractions import Fraction
from typing import Any

import anyio
import anyio.lowlevel
import av
import numpy
import pytest
from aiortc import MediaStreamTrack, VideoStreamTrack
from aiortc.mediastreams import MediaStreamError

from metered_anyio.rtc.remote_track import RemoteTrack
from metered_media import AudioSource, VideoSource, iter_audio, iter_frames, iter_video

pytestmark = pytest.mark.anyio
ASYNCIO_ONLY = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


def sound(value: int, number: int) -> av.AudioFrame:
    frame = av.AudioFrame("s16", "stereo", 960)
    frame.planes[0].update(numpy.full(1920, value, dtype=numpy.int16).tobytes())
    frame.sample_rate, frame.pts, frame.time_base = 48_000, number * 960, Fraction(1, 48_000)
    return frame


def picture(level: int, *, width: int = 32, height: int = 16) -> av.VideoFrame:
    array = numpy.full((height, width, 3), level, dtype=numpy.uint8)
    return av.VideoFrame.from_ndarray(array, format="rgb24")


class Failing(MediaStreamTrack):
    kind = "audio"

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def recv(self) -> Any:
        raise self.error


async def test_frames_until_the_end() -> None:
    track = RemoteTrack("video", "id")
    frames = [picture(number) for number in range(3)]
    for frame in frames:
        track.push(frame)
    track.end()
    assert [frame async for frame in iter_frames(track)] == frames
    assert [frame async for frame in iter_frames(track)] == []


async def test_leaving_the_loop_leaves_the_track() -> None:
    track = RemoteTrack("video", "id")
    for number in range(3):
        track.push(number)
    async for number in iter_frames(track):
        assert number == 0
        break
    frames = iter_frames(track)
    assert await anext(frames) == 1
    await frames.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(frames)
    assert track.readyState == "live"
    assert await track.recv() == 2


async def test_a_track_that_is_stopped_ends_the_loop() -> None:
    track = RemoteTrack("audio", "id")
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:

            async def read() -> None:
                assert [frame async for frame in iter_frames(track)] == []

            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            track.stop()


async def test_what_a_track_raises_is_the_end_or_is_raised() -> None:
    assert [frame async for frame in iter_frames(Failing(MediaStreamError()))] == []
    with pytest.raises(KeyError):
        await anext(iter_frames(Failing(KeyError("odd"))))
    arrays = iter_audio(Failing(KeyError("odd")))
    with pytest.raises(KeyError):
        await anext(arrays)
    with pytest.raises(StopAsyncIteration):
        await anext(arrays)
    assert [array async for array in iter_audio(Failing(MediaStreamError()))] == []


async def test_own_sources_are_read_on_either_loop() -> None:
    source = AudioSource()
    await source.push(numpy.full(1600, 900, dtype=numpy.int16).tobytes())
    source.end()
    with anyio.fail_after(10):
        arrays = [array async for array in iter_audio(source, frame_ms=20)]
    assert [array.shape for array in arrays] == [(320,)] * 5
    assert abs(int(arrays[2][100]) - 900) < 10
    pictures = VideoSource()
    pictures.push(picture(9))
    pictures.end()
    assert [frame.width async for frame in iter_frames(pictures)] == [32]


async def test_sound_for_speech_to_text() -> None:
    track = RemoteTrack("audio", "id")
    for number in range(51):
        track.push(sound(3000, number))
    track.end()
    arrays = iter_audio(track)
    found, positions = [], []
    async for array in arrays:
        found.append(array)
        positions.append(arrays.position)
    assert [array.shape for array in found] == [(1600,)] * 11
    assert positions == pytest.approx([number / 10 for number in range(11)])
    assert abs(int(found[5][800]) - 3000) < 30
    assert found[-1][-1] == 0
    assert arrays.dropped == 0


async def test_a_slow_reader_of_sound_loses_the_oldest_and_knows() -> None:
    track = RemoteTrack("audio", "id")
    async with iter_audio(track, rate=48_000, layout="stereo", frame_ms=20, capacity=3) as arrays:
        for number in range(20):
            track.push(sound(number, number))
        track.end()
        await anyio.wait_all_tasks_blocked()
        assert arrays.dropped == 17
        assert [(int(array[0, 0]), round(arrays.position * 50)) async for array in arrays] == [
            (17, 17),
            (18, 18),
            (19, 19),
        ]


async def test_the_newest_picture_as_an_array() -> None:
    track = RemoteTrack("video", "id")
    async with iter_video(track) as arrays:
        for level in range(5):
            track.push(picture(level * 10))
        await anyio.wait_all_tasks_blocked()
        array = await anext(arrays)
        assert (array.shape, array.dtype, int(array[3, 5, 1])) == ((16, 32, 3), numpy.uint8, 40)
        assert arrays.dropped == 4
        track.end()
        assert [array async for array in arrays] == []


@pytest.mark.parametrize(
    ("format", "shape"), [("bgr24", (16, 32, 3)), ("rgba", (16, 32, 4)), ("gray", (16, 32)), ("rgb24", (16, 32, 3))]
)
async def test_pictures_of_any_order(format: str, shape: tuple[int, ...]) -> None:
    track = RemoteTrack("video", "id")
    track.push(picture(100).reformat(format="yuv420p"))
    track.end()
    (array,) = [array async for array in iter_video(track, format=format)]
    assert array.shape == shape
    assert abs(int(array.flat[0]) - 100) < 5


async def test_no_more_pictures_than_wanted() -> None:
    track = RemoteTrack("video", "id")
    async with iter_video(track, max_fps=0.1) as arrays:
        for level in range(5):
            track.push(picture(level * 10))
        await anyio.wait_all_tasks_blocked()
        track.end()
        assert [int(array[0, 0, 0]) async for array in arrays] == [0]
        assert arrays.dropped == 0


async def test_one_that_is_left_behind_reads_no_more() -> None:
    track = RemoteTrack("audio", "id")
    track.push(sound(1, 0))
    track.push(sound(1, 1))
    async for _ in iter_audio(track, frame_ms=20):
        break
    gc.collect()
    await anyio.sleep(0.02)
    track.push(sound(1, 2))
    await anyio.sleep(0.02)
    assert track.readyState == "live"
    assert (await track.recv()).pts == 2 * 960


async def test_closed_it_ends_whoever_waits() -> None:
    track = RemoteTrack("audio", "id")
    arrays = iter_audio(track)

    async def read() -> None:
        assert [array async for array in arrays] == []

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await arrays.aclose()


@ASYNCIO_ONLY
async def test_a_foreign_track_that_is_stopped_ends_the_loop() -> None:
    class Endless(MediaStreamTrack):
        kind = "video"

        async def recv(self) -> Any:
            await asyncio.get_running_loop().create_future()

    track = Endless()
    asyncio.get_running_loop().call_later(0.05, track.stop)
    with anyio.fail_after(10):
        assert [frame async for frame in iter_frames(track)] == []
    assert not track.listeners("ended")


@ASYNCIO_ONLY
async def test_a_foreign_track_forgets_whoever_left() -> None:
    track = VideoStreamTrack()
    async for frame in iter_frames(track):
        assert frame.width == 640
        break
    gc.collect()
    assert not track.listeners("ended")
    track.stop()


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_on_trio_a_track_of_aiortc_says_what_it_needs() -> None:
    with pytest.raises(RuntimeError, match="asyncio"):
        await anext(iter_frames(VideoStreamTrack()))
    with pytest.raises(RuntimeError, match="asyncio"):
        await anext(iter_video(VideoStreamTrack()))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: iter_frames(5), TypeError),
        (lambda: iter_audio("track"), TypeError),
        (lambda: iter_audio(RemoteTrack("video", "id")), ValueError),
        (lambda: iter_video(RemoteTrack("audio", "id")), ValueError),
        (lambda: iter_audio(RemoteTrack("audio", "id"), rate=0), ValueError),
        (lambda: iter_audio(RemoteTrack("audio", "id"), rate=16e3), TypeError),  # type: ignore[arg-type]
        (lambda: iter_audio(RemoteTrack("audio", "id"), layout="5.1"), ValueError),
        (lambda: iter_audio(RemoteTrack("audio", "id"), frame_ms=0), ValueError),
        (lambda: iter_audio(RemoteTrack("audio", "id"), frame_ms=0.33333), ValueError),
        (lambda: iter_audio(RemoteTrack("audio", "id"), capacity=0), ValueError),
        (lambda: iter_video(RemoteTrack("video", "id"), format="png"), ValueError),
        (lambda: iter_video(RemoteTrack("video", "id"), max_fps=0), ValueError),
        (lambda: iter_video(RemoteTrack("video", "id"), max_fps="5"), TypeError),  # type: ignore[arg-type]
    ],
)
async def test_options_are_checked(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call()


@pytest.mark.parametrize(("missing", "extra"), [("numpy", "media"), ("aiortc", "webrtc"), ("av", "webrtc")])
def test_what_is_not_installed_is_named(missing: str, extra: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
from metered_proto.errors import WebRtcMissingError
try:
    from metered_media import iter_audio
    from metered_anyio.rtc.remote_track import RemoteTrack
    iter_audio(RemoteTrack("audio", "id"))
except WebRtcMissingError as error:
    assert "[{extra}]" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
