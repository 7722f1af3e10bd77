"""Two engines back to back: what a room's machine would order, played by hand, without any signalling."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import anyio
import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from metered_anyio.encoding import Encoding
from metered_anyio.logger import NoopLogger
from metered_anyio.rtc.aio_engine import AioEngine
from metered_proto.events import IceServer
from metered_proto.facts import Fact
from metered_proto.rtc.words import (
    AddCandidate,
    CandidateGathered,
    ChannelArrived,
    ChannelOptions,
    CloseConnection,
    ConnectionChanged,
    Described,
    EndTrack,
    LocalTrack,
    MakeAnswer,
    MakeOffer,
    OpenChannel,
    OpenConnection,
    TakeAnswer,
    TakeTrack,
)
from metered_proto.wire.sdp import read_sdp

PATIENCE = 10.0


class Picture(MediaStreamTrack):
    """Pictures of one colour (a luma of `shade`), at `fps`, in any pixel format."""

    kind = "video"

    def __init__(
        self,
        shade: int = 128,
        size: tuple[int, int] = (64, 48),
        format: str = "yuv420p",
        fps: float = 30,
        length: int = -1,
    ) -> None:
        super().__init__()
        self._fps = fps
        self._left = length
        self._number = 0
        self._start: float | None = None
        self.reads = 0
        self._frame = flat(shade, size, format)

    async def recv(self) -> av.VideoFrame:
        self.reads += 1
        if self._left == 0:
            raise MediaStreamError
        self._left -= 1
        loop = asyncio.get_running_loop()
        if self._start is None:
            self._start = loop.time()
        await asyncio.sleep(max(0.0, self._start + self._number / self._fps - loop.time()))
        frame = self._frame
        frame.pts, frame.time_base = round(self._number * 90_000 / self._fps), Fraction(1, 90_000)
        self._number += 1
        return frame


class Tone(MediaStreamTrack):
    """20 ms of nearly nothing, fifty times a second."""

    kind = "audio"

    def __init__(self, rate: int = 48_000, layout: str = "mono") -> None:
        super().__init__()
        self._rate = rate
        self._layout = layout
        self._number = 0
        self._start: float | None = None

    async def recv(self) -> av.AudioFrame:
        loop = asyncio.get_running_loop()
        if self._start is None:
            self._start = loop.time()
        await asyncio.sleep(max(0.0, self._start + self._number * 0.02 - loop.time()))
        samples = self._rate // 50
        frame = av.AudioFrame("s16", self._layout, samples)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._number * samples, Fraction(1, self._rate)
        self._number += 1
        return frame


def flat(shade: int, size: tuple[int, int], format: str = "yuv420p") -> av.VideoFrame:
    """A picture that is `shade` all over and without colour."""
    gray = av.VideoFrame(*size, "gray")
    (plane,) = gray.planes
    plane.update(bytes([shade]) * plane.buffer_size)
    return gray.reformat(format=format, src_color_range="JPEG") if format != "gray" else gray


def shade_of(frame: av.VideoFrame) -> int:
    """The luma in the middle of a picture, as `flat` has it."""
    gray = frame.reformat(format="gray", dst_color_range="JPEG")
    plane = gray.planes[0]
    return memoryview(plane)[plane.line_size * (frame.height // 2) + frame.width // 2]  # type: ignore[return-value]


class Side:
    """One engine, and what it reported."""

    def __init__(self, numbers: itertools.count[int], make: Callable[[Callable[[Fact], None]], Any]) -> None:
        self._numbers = numbers
        self.facts: list[Fact] = []
        self.other: Side
        self.engine = make(self._fact)
        self.perform = self.engine.perform()
        self.pc = 0
        self.sdp = ""  # the remote's latest
        self.tracks: list[LocalTrack] = []
        self.taken: dict[str, int] = {}  # mid: track
        self.watch: Callable[[Fact], None] | None = None

    def _fact(self, fact: Fact) -> None:
        self.facts.append(fact)
        if isinstance(fact, CandidateGathered):
            self.other.order(AddCandidate(self.other.pc, fact.candidate))
        if self.watch is not None:
            self.watch(fact)

    def order(self, order: Any) -> None:
        self.perform[type(order)](order)

    def open(self, servers: tuple[IceServer, ...] = (), *, relay_only: bool = False) -> int:
        self.pc = -next(self._numbers)
        self.order(OpenConnection(self.pc, servers, relay_only))
        return self.pc

    def add(
        self,
        source: Any,
        stream: str | None = "s",
        metadata: dict[str, Any] | None = None,
        encoding: Encoding | None = None,
    ) -> LocalTrack:
        key = next(self._numbers)
        self.engine.offer_track(key, source, encoding or Encoding())
        track = LocalTrack(key, source.kind, source.id, stream, metadata)
        self.tracks.append(track)
        return track

    def channel(self, label: str = "chat", **options: Any) -> Any:
        number = -next(self._numbers)
        self.order(OpenChannel(self.pc, number, ChannelOptions(label, **options)))
        return self.engine.channel(number)

    async def offer(self, **options: Any) -> Described:
        made = await self.engine.work(MakeOffer(self.pc, tuple(self.tracks), **options))
        assert isinstance(made, Described)
        return made

    async def answer(self, offer: Described) -> Described:
        made = await self.engine.work(MakeAnswer(self.pc, offer.sdp, tuple(self.tracks)))
        assert isinstance(made, Described)
        self._described(offer)
        return made

    async def take(self, answer: Described) -> None:
        await self.engine.work(TakeAnswer(self.pc, answer.sdp))
        self._described(answer)

    def _described(self, remote: Described) -> None:
        self.sdp = remote.sdp
        if remote.complete:
            self.order(AddCandidate(self.pc, None))
        for section in read_sdp(remote.sdp).media:
            sends = (
                section.kind != "application" and not section.rejected and section.direction in ("sendrecv", "sendonly")
            )
            known = self.taken.get(section.mid or "")
            if sends and known is None:
                assert section.mid is not None
                number = self.taken[section.mid] = -next(self._numbers)
                msid = section.msids[0]
                self.order(TakeTrack(self.pc, section.mid, number, section.kind, msid.track_id or ""))  # type: ignore[arg-type]
            elif not sends and known is not None:
                del self.taken[section.mid or ""]
                self.order(EndTrack(known))

    def close(self) -> None:
        self.order(CloseConnection(self.pc))
        self.taken.clear()

    def received(self, mid: str) -> Any:
        return self.engine.track(self.taken[mid])

    @property
    def states(self) -> list[str]:
        return [fact.state for fact in self.facts if isinstance(fact, ConnectionChanged) and fact.pc == self.pc]

    async def until(self, wanted: Callable[[], Any]) -> Any:
        """Wait until something holds."""
        with anyio.fail_after(PATIENCE):
            while not (found := wanted()):  # noqa: ASYNC110 - of whatever kind
                await anyio.sleep(0.005)
        return found

    async def up(self) -> None:
        await self.until(lambda: "connected" in self.states)

    async def arrived(self) -> Any:
        """The first data channel that the other side opened."""
        fact = await self.until(lambda: next((f for f in self.facts if isinstance(f, ChannelArrived)), None))
        return self.engine.channel(fact.channel)


async def negotiate(a: Side, b: Side, **options: Any) -> tuple[Described, Described]:
    """An offer of `a`, answered by `b`."""
    offer = await a.offer(**options)
    answer = await b.answer(offer)
    await a.take(answer)
    return offer, answer


@asynccontextmanager
async def two_sides(
    make: Callable[[Callable[[Fact], None]], Any] = lambda feed: AioEngine(feed, NoopLogger()),
) -> AsyncIterator[tuple[Side, Side]]:
    """Two engines, each with a connection made."""
    numbers = itertools.count(1)
    a, b = Side(numbers, make), Side(numbers, make)
    a.other, b.other = b, a
    a.open()
    b.open()
    try:
        yield a, b
    finally:
        with anyio.CancelScope(shield=True):
            await a.engine.aclose()
            await b.engine.aclose()
