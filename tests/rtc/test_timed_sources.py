"""Sources that know when their frames are due: read without a task that waits for each."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import av
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from metered_anyio.encoding import Encoding
from metered_anyio.logger import ContainedLogger, NoopLogger
from metered_anyio.rtc.fanout import FanOut
from metered_anyio.rtc.outlet import Feed, Outlet

pytestmark = pytest.mark.anyio


class Speech(MediaStreamTrack):
    """A frame each 5 ms, of 20 ms, until there were `count`."""

    kind = "audio"

    def __init__(self, count: int = 1000) -> None:
        super().__init__()
        self.count = count
        self.taken = self.asked = 0
        self.error: Exception | None = None
        self._last = 0.0

    def due_in(self) -> float | None:
        if self.taken == self.count:
            return None
        return self._last + 0.005 - asyncio.get_running_loop().time()

    def take_due(self) -> av.AudioFrame:
        if self.error is not None:
            raise self.error
        assert (wait := self.due_in()) is not None
        assert wait <= 0
        self._last = asyncio.get_running_loop().time()
        frame = av.AudioFrame("s16", "stereo", 960)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self.taken * 960, Fraction(1, 48_000)
        self.taken += 1
        return frame

    async def recv(self) -> av.AudioFrame:
        self.asked += 1
        while (wait := self.due_in()) is not None:
            if wait <= 0:
                return self.take_due()
            await asyncio.sleep(wait)
        self.stop()
        raise MediaStreamError


class Log(NoopLogger):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, msg: str, ctx: Any = None, /) -> None:
        self.lines.append(msg)


class Listening:
    """A source with somebody who listens."""

    def __init__(self, source: Speech) -> None:
        self.log = Log()
        self.ended = asyncio.Event()
        self.outlet = Outlet("audio")
        self._executor = ThreadPoolExecutor(1)
        self.fan = FanOut(source, self._executor, ContainedLogger(self.log), self.ended.set)

    async def __aenter__(self) -> Listening:
        self.outlet.feed_from(Feed(self.fan, Encoding()))
        self.outlet.open(["opus"])
        return self

    async def __aexit__(self, *_: object) -> None:
        self.outlet.stop()
        self.fan.close()
        self._executor.shutdown()

    async def times(self, count: int) -> list[int]:
        async with asyncio.timeout(20):
            return [(await self.outlet.next())[0].pts for _ in range(count)]


async def test_its_frames_are_taken_when_they_are_due() -> None:
    source = Speech()
    async with Listening(source) as listening:
        assert await listening.times(10) == [number * 960 for number in range(10)]
        assert source.asked == 0
        assert listening.fan.frames == source.taken


async def test_its_end_is_told_by_recv() -> None:
    source = Speech(count=3)
    async with Listening(source) as listening:
        await listening.times(3)
        async with asyncio.timeout(20):
            await listening.ended.wait()
        assert source.asked == 1
        assert not listening.log.lines


async def test_a_frame_that_cannot_be_taken_is_the_end() -> None:
    source = Speech()
    async with Listening(source) as listening:
        await listening.times(2)
        source.error = OSError("unplugged")
        async with asyncio.timeout(20):
            await listening.ended.wait()
        assert listening.log.lines == ["a track ended with an error"]


async def test_nobody_reads_it_once_nobody_listens() -> None:
    source = Speech()
    async with Listening(source) as listening:
        await listening.times(2)
        listening.outlet.feed_from(None)
        await asyncio.sleep(0.02)
        taken = source.taken
        await asyncio.sleep(0.05)
        assert source.taken == taken
        listening.outlet.feed_from(Feed(listening.fan, Encoding()))
        await listening.times(2)


async def test_a_recv_of_the_applications_own_counts() -> None:
    class Louder(Speech):
        async def recv(self) -> av.AudioFrame:
            frame = await super().recv()
            frame.planes[0].update(b"\x00\x40" * 1920)
            return frame

    in_class, in_place = Louder(), Speech()
    setattr(in_place, "recv", Louder.recv.__get__(Louder()))  # noqa: B010 - mypy would not have it otherwise
    for source in (in_class, in_place):
        async with Listening(source) as listening, asyncio.timeout(20):
            frame, _ = await listening.outlet.next()
            assert frame.level is not None
            assert frame.level < 20
