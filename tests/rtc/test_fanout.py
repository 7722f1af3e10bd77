"""One source for many senders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import av
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from rtc_kit import Picture, Tone

from metered_anyio.logger import ContainedLogger, NoopLogger
from metered_anyio.rtc.fanout import AUDIO_QUEUE, VIDEO_QUEUE, FanOut, Outlet
from metered_anyio.rtc.frames import VideoShaper

pytestmark = pytest.mark.anyio


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


class Log(NoopLogger):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, msg: str, ctx: Any = None, /) -> None:
        self.lines.append(msg)


def fan(source: Any, executor: ThreadPoolExecutor, ended: list[str] | None = None, log: Any = None) -> FanOut:
    over: list[str] = [] if ended is None else ended
    return FanOut(source, executor, ContainedLogger(log or NoopLogger()), lambda: over.append("ended"))


async def read(outlet: Outlet, count: int) -> list[Any]:
    async with asyncio.timeout(5):
        return [await outlet.recv() for _ in range(count)]


async def test_is_read_once_for_all(executor: ThreadPoolExecutor) -> None:
    source = Picture(fps=100)
    out = fan(source, executor)
    outlets = [Outlet("video") for _ in range(4)]
    for outlet in outlets:
        outlet.feed_from(out)
    got = await asyncio.gather(*(read(outlet, 20) for outlet in outlets))
    assert source.reads <= 25
    assert len({id(frame) for frames in got for frame in frames}) == 80
    out.close()


async def test_is_read_only_while_somebody_listens(executor: ThreadPoolExecutor, tasks: Any) -> None:
    source = Picture(fps=200)
    out, outlet = fan(source, executor), Outlet("video")
    outlet.feed_from(out)
    await asyncio.sleep(0.02)
    assert source.reads == 0  # nobody can be sent to yet
    await read(outlet, 2)
    outlet.feed_from(None)
    await asyncio.sleep(0)
    reads = source.reads
    await asyncio.sleep(0.03)
    assert source.reads == reads
    assert source.readyState == "live"
    outlet.feed_from(out)
    await read(outlet, 2)
    outlet.stop()
    await tasks()


async def test_a_sender_that_stalls_hurts_nobody(executor: ThreadPoolExecutor) -> None:
    out = fan(Picture(fps=200), executor)
    slow, fast = Outlet("video"), Outlet("video")
    slow.feed_from(out)
    fast.feed_from(out)
    first = (await read(slow, 1))[0]
    await read(fast, 40)
    assert fast.frames_dropped == 0
    assert slow.frames_dropped > 20
    later = await read(slow, VIDEO_QUEUE)
    assert later[0].pts > first.pts + 90 * 100  # the newest, not the oldest
    out.close()


async def test_of_sound_the_oldest_goes(executor: ThreadPoolExecutor) -> None:
    outlet = Outlet("audio")
    for number in range(AUDIO_QUEUE + 3):
        frame = av.AudioFrame("s16", "stereo", 960)
        frame.pts, frame.time_base, frame.sample_rate = number * 960, Fraction(1, 48_000), 48_000
        outlet.take(frame)
    assert outlet.frames_dropped == 3
    assert len(await read(outlet, AUDIO_QUEUE)) == AUDIO_QUEUE


async def test_sound_comes_in_packets_of_20_ms(executor: ThreadPoolExecutor) -> None:
    out, outlet = fan(Tone(8000), executor), Outlet("audio")
    outlet.feed_from(out)
    frames = await read(outlet, 5)
    assert [frame.pts for frame in frames] == [0, 960, 1920, 2880, 3840]
    out.close()


@pytest.mark.parametrize("error", [MediaStreamError(), OSError("unplugged")])
async def test_the_end_of_a_source_is_told_and_ends_no_sender(executor: ThreadPoolExecutor, error: Exception) -> None:
    class Short(Picture):
        async def recv(self) -> av.VideoFrame:
            if self.reads == 3:
                raise error
            return await super().recv()

    ended: list[str] = []
    log = Log()
    out, outlet = fan(Short(fps=200), executor, ended, log), Outlet("video")
    outlet.feed_from(out)
    await read(outlet, 3)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await outlet.recv()
    assert ended == ["ended"]
    assert len(log.lines) == (0 if isinstance(error, MediaStreamError) else 1)
    assert outlet.readyState == "live"
    outlet.feed_from(fan(Picture(fps=100), executor))
    assert (await read(outlet, 1))[0].pts > 0
    outlet.stop()


async def test_a_source_that_was_broken_off_inside_is_at_its_end(executor: ThreadPoolExecutor) -> None:
    class Cancelled(Picture):
        async def recv(self) -> av.VideoFrame:
            inner = asyncio.create_task(asyncio.sleep(9))
            inner.cancel()
            await inner
            raise AssertionError

    ended: list[str] = []
    out, outlet = fan(Cancelled(), executor, ended), Outlet("video")
    outlet.feed_from(out)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await outlet.recv()
    assert ended == ["ended"]


async def test_a_source_that_is_stopped_while_it_has_nothing_to_give(executor: ThreadPoolExecutor, tasks: Any) -> None:
    class Stuck(Picture):
        async def recv(self) -> av.VideoFrame:
            if self.reads == 3:
                await asyncio.Event().wait()
            return await super().recv()

    ended: list[str] = []
    source = Stuck(fps=200)
    out, outlet = fan(source, executor, ended), Outlet("video")
    outlet.feed_from(out)
    await read(outlet, 3)
    await asyncio.sleep(0.3)
    assert not ended
    source.stop()
    await asyncio.sleep(0.7)
    assert ended == ["ended"]
    outlet.stop()
    await tasks()


class TestAnotherReader:
    async def test_begins_when_the_one_before_is_gone(self, executor: ThreadPoolExecutor, tasks: Any) -> None:
        class Stubborn(Picture):
            inside = 0

            async def recv(self) -> av.VideoFrame:
                self.inside += 1
                assert self.inside == 1
                try:
                    return await super().recv()
                except asyncio.CancelledError:
                    await asyncio.sleep(0.05)
                    return self._frame  # without a word
                finally:
                    self.inside -= 1

        ended: list[str] = []
        out, outlet = fan(Stubborn(fps=50), executor, ended), Outlet("video")
        outlet.feed_from(out)
        for _ in range(3):
            await read(outlet, 2)
            await asyncio.sleep(0.005)  # it is waiting for the next one
            outlet.feed_from(None)
            outlet.feed_from(out)
        await read(outlet, 2)
        out.close()
        await asyncio.sleep(0.06)
        await tasks()
        assert not ended

    async def test_does_not_use_what_a_thread_still_uses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using: set[int] = set()
        shape = VideoShaper.shape

        def slow(shaper: VideoShaper, frame: av.VideoFrame, copies: int) -> list[av.VideoFrame]:
            assert id(shaper) not in using
            using.add(id(shaper))
            time.sleep(0.03)
            using.remove(id(shaper))
            return shape(shaper, frame, copies)

        monkeypatch.setattr(VideoShaper, "shape", slow)
        with ThreadPoolExecutor(4) as executor:
            ended: list[str] = []
            out, outlet = fan(Picture(format="rgb24", fps=200), executor, ended), Outlet("video")
            outlet.feed_from(out)
            await read(outlet, 1)
            for _ in range(5):
                outlet.feed_from(None)
                outlet.feed_from(out)
                await asyncio.sleep(0.01)
            await read(outlet, 2)
            out.close()
            assert not ended


async def test_what_cannot_be_a_frame_is_the_end(executor: ThreadPoolExecutor) -> None:
    class Odd(Picture):
        async def recv(self) -> Any:
            return "a frame"

    ended: list[str] = []
    out, outlet = fan(Odd(), executor, ended), Outlet("video")
    outlet.feed_from(out)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await outlet.recv()
    assert ended == ["ended"]


async def test_a_frame_that_nobody_can_use_is_passed_over(executor: ThreadPoolExecutor) -> None:
    class Flawed(Picture):
        async def recv(self) -> av.VideoFrame:
            frame = await super().recv()
            return av.VideoFrame() if self.reads % 2 else frame

    log = Log()
    out, outlet = fan(Flawed(fps=200), executor, None, log), Outlet("video")
    outlet.feed_from(out)
    await read(outlet, 4)
    assert out.frames_skipped >= 4
    assert len(log.lines) == 1
    out.close()


async def test_a_source_that_knows_no_time_does_not_take_all_of_ours(executor: ThreadPoolExecutor) -> None:
    class Hasty(MediaStreamTrack):
        kind = "video"
        reads = 0

        async def recv(self) -> av.VideoFrame:
            frame = av.VideoFrame(16, 16)
            frame.pts, frame.time_base = self.reads * 3000, Fraction(1, 90_000)
            self.reads += 1
            return frame

    source = Hasty()
    out, outlet = fan(source, executor), Outlet("video")
    outlet.feed_from(out)
    await read(outlet, 1)
    await asyncio.sleep(0.2)
    assert source.reads < 40  # 30 a second, and half a second ahead
    out.close()


async def test_packets_go_through_as_they_are(executor: ThreadPoolExecutor) -> None:
    class Encoded(Picture):
        async def recv(self) -> Any:
            frame = await super().recv()
            packet: av.Packet[Any] = av.Packet(b"encoded")
            packet.pts, packet.time_base = frame.pts, frame.time_base
            return packet

    out = fan(Encoded(fps=200), executor)
    one, other = Outlet("video"), Outlet("video")
    one.feed_from(out)
    other.feed_from(out)
    first, second = await asyncio.gather(read(one, 2), read(other, 2))
    assert bytes(first[0]) == bytes(second[0]) == b"encoded"
    assert first[0] is not second[0]
    out.close()
