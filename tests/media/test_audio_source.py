"""The track that sends what is pushed, pushed to on either event loop and read in any."""

from __future__ import annotations

import array
import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import av
import numpy
import pytest
from aiortc.mediastreams import MediaStreamError

from metered_media import AudioSource, Cleared, Played
from metered_media.audio_pacing import SAMPLES

pytestmark = pytest.mark.anyio

WORD = array.array("h", [1000] * 1600).tobytes()
"""0.1 s at 16 kHz."""


class Reader:
    """Reads a source to its end."""

    def __init__(self, source: AudioSource) -> None:
        self.source = source
        self.frames: list[av.AudioFrame] = []
        self.times: list[float] = []

    async def run(self) -> None:
        while True:
            try:
                self.frames.append(await self.source.recv())
            except MediaStreamError:
                return
            self.times.append(time.monotonic())

    @property
    def samples(self) -> array.array[int]:
        return array.array("h", b"".join(bytes(frame.planes[0]) for frame in self.frames))

    @property
    def heard(self) -> int:
        """Samples that were not silent."""
        return sum(1 for sample in self.samples[::2] if sample)


@asynccontextmanager
async def read(source: AudioSource) -> AsyncIterator[Reader]:
    reader = Reader(source)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(reader.run)
            yield reader
            source.stop()


async def test_frames_are_20_ms_of_stereo_at_48_khz_in_real_time() -> None:
    source = AudioSource()
    assert (source.kind, source.readyState) == ("audio", "live")
    async with read(source) as reader:
        await source.push(WORD)
        source.end()
        await anyio.sleep(0.3)
    assert source.readyState == "ended"
    assert len(reader.frames) == 5
    for number, frame in enumerate(reader.frames):
        assert (frame.format.name, frame.layout.name, frame.sample_rate) == ("s16", "stereo", 48_000)
        assert (frame.samples, frame.pts, float(frame.time_base or 0)) == (SAMPLES, number * SAMPLES, 1 / 48_000)
    assert reader.heard == 4800
    # Never early; how late is up to the machine.
    assert all(at - reader.times[0] >= number * 0.02 - 0.015 for number, at in enumerate(reader.times))


async def test_silence_when_there_is_nothing_and_sound_again_when_there_is() -> None:
    source = AudioSource()
    async with read(source) as reader:
        await anyio.sleep(0.05)
        await source.push(WORD)
        await source.wait_for_playout()
        await anyio.sleep(0.1)
        await source.push(WORD)
        await source.wait_for_playout()
    loud = [any(bytes(frame.planes[0])) for frame in reader.frames]
    turns = sum(1 for before, after in itertools.pairwise(loud) if before != after)
    assert not loud[0]
    assert turns in (3, 4)
    assert reader.heard == 9600


@pytest.mark.parametrize("size", [1, 3, 641])
async def test_chunks_may_be_cut_anywhere(size: int) -> None:
    tone = array.array("h", [(number * 37) % 2000 + 1000 for number in range(1600)]).tobytes()
    whole, parts = AudioSource(input_rate=48_000), AudioSource(input_rate=48_000)
    await whole.push(tone)
    for at in range(0, len(tone), size):
        await parts.push(tone[at : at + size])
    await parts.push(b"")
    assert parts.buffered_seconds == whole.buffered_seconds == 1600 / 48_000
    whole.end()
    parts.end()
    one, other = Reader(whole), Reader(parts)
    await one.run()
    await other.run()
    assert one.samples == other.samples


async def test_frames_say_themselves_what_they_are() -> None:
    source = AudioSource(input_rate=8_000)
    frame = av.AudioFrame("fltp", "stereo", 441)
    frame.sample_rate = 44_100
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    await source.push(frame)
    assert source.buffered_seconds == 0.01
    await source.push(numpy.ones(80, dtype=numpy.int16))  # type: ignore[arg-type]
    assert source.buffered_seconds == 0.02
    await source.push(bytearray(160))
    assert source.buffered_seconds == 0.03


async def test_one_large_push_waits_like_many_small_ones() -> None:
    source = AudioSource(max_buffered_seconds=0.1)
    most = 0.0
    done = anyio.Event()

    async def push() -> None:
        await source.push(WORD * 5)
        done.set()

    async with read(source) as reader:
        async with anyio.create_task_group() as group:
            group.start_soon(push)
            while not done.is_set():
                most = max(most, source.buffered_seconds)
                await anyio.sleep(0.002)
        assert 0.02 < most <= 0.1
        assert source.played_seconds >= 0.4 - 0.02
        await source.wait_for_playout()
    assert reader.heard == 24_000


async def test_what_fits_is_taken_in_before_anybody_is_there() -> None:
    """A greeting that is pushed before the room is joined."""
    source = AudioSource(max_buffered_seconds=2)
    with anyio.fail_after(10):
        await source.push(WORD * 19)
        await source.push(WORD[:2] * 1500)
    assert source.buffered_seconds == pytest.approx(1.99375)
    with anyio.move_on_after(0.1) as waited:
        await source.push(WORD)
    assert waited.cancelled_caught
    assert source.buffered_seconds == pytest.approx(2, abs=1 / 16_000)
    source.stop()


async def test_nothing_is_read_and_the_push_waits() -> None:
    source = AudioSource(max_buffered_seconds=0.05)
    with anyio.move_on_after(0.05) as scope:
        await source.push(WORD)
    assert scope.cancelled_caught
    assert source.buffered_seconds == 0.05
    source.stop()
    assert source.buffered_seconds == 0


async def test_pushes_at_once_take_turns() -> None:
    source = AudioSource(input_rate=48_000, input_layout="stereo", max_buffered_seconds=0.04)
    async with read(source) as reader:
        async with anyio.create_task_group() as group:
            for number in range(1, 5):
                group.start_soon(source.push, array.array("h", [number] * 2 * 1500).tobytes())
                await anyio.wait_all_tasks_blocked()
        await source.wait_for_playout()
    heard = [sample for sample in reader.samples[::2] if sample]
    assert heard == sorted(heard)
    assert [heard.count(number) for number in range(1, 5)] == [1500] * 4


async def test_clear_leaves_nothing_beyond_one_frame() -> None:
    source = AudioSource(max_buffered_seconds=0.5)
    told: list[Any] = []
    source.on(Played, told.append)
    source.on(Cleared, told.append)
    returned: list[str] = []

    async def speak(marker: str, words: int) -> None:
        await source.push(WORD * words, marker=marker)
        returned.append(marker)

    async with read(source) as reader:
        async with anyio.create_task_group() as group:
            group.start_soon(speak, "first", 1)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(speak, "second", 20)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(speak, "third", 1)
            await anyio.sleep(0.25)
            played, frames = source.played_seconds, len(reader.frames)
            dropped = source.clear()
            assert source.buffered_seconds == 0
        assert sorted(returned) == ["first", "second", "third"]
        assert dropped + played == pytest.approx(2.2, abs=0.021)
        await source.wait_for_playout()
        await anyio.sleep(0.1)
        assert not any(any(bytes(frame.planes[0])) for frame in reader.frames[frames + 1 :])
        await source.push(WORD, marker="answer")
        await source.wait_for_playout()
        await anyio.sleep(0.02)
    assert [type(event) for event in told] == [Played, Cleared, Cleared, Played]
    assert [event.marker for event in told] == ["first", "second", "third", "answer"]
    assert told[0].at == 0.1
    assert told[1].heard == pytest.approx(played - 0.1, abs=0.021)
    assert told[2].heard == 0


async def test_a_push_that_is_cancelled_leaves_what_it_brought_in() -> None:
    source = AudioSource(max_buffered_seconds=0.05)
    told: list[Any] = []
    source.on(Cleared, told.append)
    with anyio.move_on_after(0.02):
        await source.push(WORD, marker="half")
    with anyio.move_on_after(0.02):
        await source.push(WORD, marker="behind")
    async with read(source):
        await source.wait_for_playout()
        await anyio.sleep(0.05)
    assert [(event.marker, round(event.heard, 3)) for event in told] == [("half", 0.05), ("behind", 0.0)]


async def test_after_the_end_nothing_is_taken_in() -> None:
    source = AudioSource()
    stream = source.events(Played)
    await source.push(WORD, marker="last")
    source.end()
    source.end()
    await source.push(WORD, marker="late")
    assert source.buffered_seconds == 0.1
    async with read(source) as reader:
        assert [event.marker async for event in stream] == ["last"]
    assert len(reader.frames) == 5
    assert source.played_seconds == 0.1
    await source.push(WORD)
    await source.wait_for_playout()
    assert source.clear() == 0


async def test_with_nothing_to_send_the_end_is_at_once() -> None:
    source = AudioSource()
    ended: list[str] = []
    source.on("ended", lambda: ended.append("ended"))
    source.end()
    assert (source.readyState, ended) == ("ended", ["ended"])
    with pytest.raises(MediaStreamError):
        await source.recv()


async def test_whoever_waits_goes_on_when_it_stops() -> None:
    source = AudioSource(max_buffered_seconds=0.05)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(source.push, WORD)
            group.start_soon(source.push, WORD)
            group.start_soon(source.wait_for_playout)
            await anyio.wait_all_tasks_blocked()
            source.stop()
    with pytest.raises(MediaStreamError):
        await source.recv()


async def test_a_branch_hears_it_too() -> None:
    source = AudioSource()
    branch = source.branch()
    await source.push(WORD)
    source.end()
    await Reader(source).run()
    heard = Reader(branch)  # type: ignore[arg-type]
    await heard.run()
    assert heard.heard == 4800


async def test_read_in_the_loop_of_another_thread() -> None:
    source = AudioSource(max_buffered_seconds=0.1)
    reader = Reader(source)
    here = threading.get_ident()
    told: list[Any] = []

    @source.on(Played)
    def _(event: Played) -> None:
        assert threading.get_ident() == here
        told.append(event.marker)

    thread = threading.Thread(target=lambda: asyncio.run(reader.run()))
    thread.start()
    with anyio.fail_after(30):
        for number in range(5):
            await source.push(WORD, marker=number)
        await source.wait_for_playout()
        await source.push(WORD * 10)
        assert source.clear() > 0
        source.end()
        await anyio.to_thread.run_sync(thread.join)
    assert told == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("data", ["text", None, 5, [1, 2], numpy.zeros(4, dtype=numpy.float32)])
async def test_anything_else_is_refused(data: Any) -> None:
    with pytest.raises(TypeError, match=r"bytes of s16 samples or an av\.AudioFrame"):
        await AudioSource().push(data)


async def test_a_frame_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be resampled"):
        await AudioSource().push(av.AudioFrame("s16", "mono", 10))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"input_layout": "5.1"}, ValueError),
        ({"input_layout": 2}, TypeError),
        ({"input_rate": 0}, ValueError),
        ({"input_rate": -16_000}, ValueError),
        ({"input_rate": 16_000.0}, TypeError),
        ({"input_rate": True}, TypeError),
        ({"max_buffered_seconds": 0}, ValueError),
        ({"max_buffered_seconds": float("nan")}, ValueError),
        ({"max_buffered_seconds": float("inf")}, ValueError),
        ({"max_buffered_seconds": "5"}, TypeError),
        ({"logger": object()}, TypeError),
    ],
)
async def test_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        AudioSource(**options)
