"""Pictures on their way to viewers: shaped once, encoded once for each codec, or passed on.

The event loop only hands over. For each picture there is one job in a thread, which shapes it and then encodes it for
one lane after the other, and there is one job at a time. Where encoding takes longer than pictures take to come, each
second one is left out, so that the source is not held up.

Packets are passed on as they come. The frames from the last key frame on are kept: whoever comes late gets them first,
and sees something at once. For viewers of another codec, and only while there are any, packets are decoded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from fractions import Fraction
from typing import Any, Final, cast

import av

from metered_anyio.encoding import Encoding
from metered_anyio.logger import ContainedLogger
from metered_anyio.rtc.desk import Desk
from metered_anyio.rtc.encoded import Encoded
from metered_anyio.rtc.frames import VideoShaper, fitting_size
from metered_anyio.rtc.key_frames import Group, KeyFrames
from metered_anyio.rtc.lanes import Order, Packer, VideoLane
from metered_anyio.rtc.outlet import Outlet
from metered_anyio.rtc.timing import VIDEO_CLOCK, Timeline

GROUP_SECONDS: Final = 10.0
GROUP_SIZE: Final = 4 * 1024 * 1024
GROUP_COUNT: Final = 600
"""What is kept of packets, from the last key frame on: seconds, bytes, frames."""

AGAIN: Final = 3.0
"""Seconds after which a viewer that lost something gets what is kept once more. It may have lost it by its size."""

UNDECODED: Final = 300
"""Packets that may wait for the decoder."""

_AVERAGED: Final = 2.0  # seconds over which the bitrate of packets is measured


class VideoDesk(Desk[VideoLane]):
    """See `Desk`. `wish` tells the source that a key frame is wanted."""

    def __init__(
        self,
        executor: Executor,
        logger: ContainedLogger,
        skipped: Callable[[BaseException], None],
        wish: Callable[[], None],
    ) -> None:
        super().__init__(skipped)
        self._executor = executor
        self._logger = logger
        self._wish = wish
        self._shaper = VideoShaper()
        self._timeline = Timeline(VIDEO_CLOCK, VIDEO_CLOCK // 1000, self._now)
        self._job: asyncio.Future[Any] | None = None
        self._was_busy = False
        # Packets.
        self._group = Group(VIDEO_CLOCK, seconds=GROUP_SECONDS, size=GROUP_SIZE, count=GROUP_COUNT)
        self._origin = object()
        self._packer = Packer("VP8")
        self._keys = KeyFrames()
        self._started: dict[Outlet, float] = {}  # when a viewer got the group
        self._undecoded: deque[Encoded] = deque()
        self._decoder: Any = None
        self._rate = 0.0  # of packets, in bit/s
        self._measured = 0  # the time of the latest one

    # --- viewers ---

    def _make(self, codec: str, encoding: Encoding) -> VideoLane:
        return VideoLane(codec, encoding, self._logger)

    def _joined(self, lane: VideoLane, outlet: Outlet) -> None:
        lane.join(outlet)
        if lane.codec == self._passed:
            self._start(outlet)

    def _left(self, lane: VideoLane, outlet: Outlet) -> None:
        lane.leave(outlet)
        self._started.pop(outlet, None)

    def ask_key_frame(self, outlet: Outlet) -> None:
        lane = self._lane_of.get(outlet)
        if lane is None:
            return
        if lane.codec != self._passed:
            lane.ask_key_frame()
            return
        self._ask_source()
        if self._now() - self._started.get(outlet, -AGAIN) >= AGAIN:
            self._start(outlet)

    def estimated(self, outlet: Outlet, bitrate: float) -> None:
        lane = self._lane_of.get(outlet)
        if lane is None:
            return
        lane.estimated(outlet, bitrate)
        if lane.codec == self._passed:  # which nobody can make less of
            outlet.ration(bitrate if bitrate < self._rate / 2 else None)

    def rest(self) -> None:
        self._group.clear()
        self._undecoded.clear()
        self._decoder = None
        self._origin = object()

    def _start(self, outlet: Outlet) -> None:
        if self._group.frames:
            self._started[outlet] = self._now()
            outlet.start_with(self._group.frames)
        else:
            self._ask_source()

    def _ask_source(self) -> None:
        self._keys.ask()
        self._ask_if_due()

    def _ask_if_due(self) -> None:
        now = self._now()
        if self._keys.is_due(now):
            self._keys.made(now)
            self._wish()

    # --- what comes ---

    async def take(self, item: Any, codec: str | None) -> None:
        if isinstance(item, av.Packet):
            assert codec is not None
            self._take_packet(item, codec)
        elif isinstance(item, av.VideoFrame):
            if self._now_passing(None):
                self.rest()
            await self._take_frame(item)
        else:
            raise TypeError(f"{type(item).__name__} is no frame")

    async def _take_frame(self, frame: av.VideoFrame) -> None:
        at = self._timeline.stamp(frame.pts, frame.time_base)
        lanes = [lane for lane in self._encoding() if lane.wants(at)]
        if not lanes:
            return
        job = self._job
        self._was_busy = job is not None and not self._was_busy
        if job is not None:
            if not self._was_busy:  # the second time in a row
                for lane in lanes:
                    lane.left_out()
                return
            await asyncio.wait([job])
        # The source may use the frame again as soon as it is asked for the next one.
        shaped = asyncio.get_running_loop().create_future()
        self._begin(lanes, self._orders(lanes, frame.width, frame.height), at, lambda: frame, shaped)
        await shaped

    def _orders(self, lanes: Sequence[VideoLane], width: int, height: int) -> list[Order]:
        now = self._now()
        return [lane.order(*fitting_size(width, height, lane.encoding.max_height), now) for lane in lanes]

    # --- packets ---

    def _take_packet(self, packet: av.Packet[Any], codec: str) -> None:
        if self._now_passing(codec):
            self.rest()
            self._packer = Packer(codec)
        data = bytes(packet)
        at = self._timeline.stamp(packet.pts, packet.time_base)
        frame = Encoded(self._packer.pack(data), at, key=packet.is_keyframe, origin=self._origin, data=data)
        if frame.key:
            self._keys.made(self._now())
        else:
            self._ask_if_due()
        self._group.add(frame)
        self._measure(len(data), at)
        for lane in self._passing():
            for viewer in list(lane.viewers):
                viewer.take(frame)
        if self._encoding():
            self._decode(frame)
        else:
            self._undecoded.clear()
            self._decoder = None

    def _measure(self, size: int, at: int) -> None:
        elapsed = (at - self._measured) / VIDEO_CLOCK
        self._measured = at
        if 0 < elapsed < _AVERAGED:
            self._rate += size * 8 / _AVERAGED - self._rate * elapsed / _AVERAGED

    def _decode(self, frame: Encoded) -> None:
        """Have a picture of it, for those who take another codec."""
        if self._decoder is None or len(self._undecoded) >= UNDECODED:
            self._undecoded.clear()
            self._decoder = None
            if not self._group.frames:
                return  # it starts with the next key frame
            self._decoder = _Decoder(cast(str, self._passed))
            self._undecoded.extend(self._group.frames)
        else:
            self._undecoded.append(frame)
        if self._job is None:
            self._decode_waiting()

    def _decode_waiting(self) -> None:
        at = self._undecoded[-1].pts
        waiting, self._undecoded = list(self._undecoded), deque()
        decoder = self._decoder
        # Before the first picture nobody knows how large they are, and what they are to be encoded at.
        lanes = [lane for lane in self._encoding() if lane.wants(at)] if decoder.size else []
        orders = self._orders(lanes, *decoder.size) if lanes else []
        self._begin(lanes, orders, at, lambda: decoder.decode(waiting), None)

    # --- in a thread ---

    def _begin(
        self,
        lanes: Sequence[VideoLane],
        orders: Sequence[Order],
        at: int,
        get: Callable[[], av.VideoFrame | None],
        shaped: asyncio.Future[None] | None,
    ) -> None:
        loop = asyncio.get_running_loop()

        def is_shaped() -> None:
            if shaped is not None:
                try:
                    loop.call_soon_threadsafe(_resolve, shaped)
                except RuntimeError:
                    pass  # the loop has ended meanwhile

        def done(job: asyncio.Future[list[list[Encoded]]]) -> None:
            self._job = None
            if shaped is not None:
                _resolve(shaped)
            if job.cancelled():
                return
            if (error := job.exception()) is not None:
                self._failed(error)
            else:
                now = self._now()
                for lane, frames in zip(lanes, job.result(), strict=True):
                    lane.hand_out(frames, now)
            if self._undecoded:
                self._decode_waiting()

        self._job = loop.run_in_executor(self._executor, self._work, lanes, orders, at, get, is_shaped)
        self._job.add_done_callback(done)

    def _work(
        self,
        lanes: Sequence[VideoLane],
        orders: Sequence[Order],
        at: int,
        get: Callable[[], av.VideoFrame | None],
        shaped: Callable[[], None],
    ) -> list[list[Encoded]]:
        frame = get()
        if frame is None:
            return [[] for _ in lanes]
        shapes: dict[int | None, av.VideoFrame] = {}
        for lane in lanes:
            height = lane.encoding.max_height
            if height not in shapes:
                shapes[height] = shape = self._shaper.shape(frame, height)
                shape.pts, shape.time_base = at, _TIME_BASE
        del frame
        shaped()
        return [lane.encode(shapes[lane.encoding.max_height], order) for lane, order in zip(lanes, orders, strict=True)]

    def _failed(self, error: BaseException) -> None:
        self._skipped(error)
        if self._passed is not None:  # it was the decoder, which starts anew
            self._decoder = None
            self._undecoded.clear()


class _Decoder:
    """Turns packets into pictures. For one thread at a time."""

    def __init__(self, codec: str) -> None:
        self.size: tuple[int, int] | None = None  # of the latest picture
        self._context = cast(Any, av.CodecContext.create(_DECODERS.get(codec, codec), "r"))
        self._context.thread_count = 1  # or it would keep pictures back

    def decode(self, packets: Sequence[Encoded]) -> av.VideoFrame | None:
        """The latest picture in them, if there is one. Raises what FFmpeg raises."""
        picture: av.VideoFrame | None = None
        for each in packets:
            packet: av.Packet[Any] = av.Packet(each.data or b"")
            packet.pts, packet.time_base = each.pts, _TIME_BASE
            for picture in self._context.decode(packet):
                self.size = (picture.width, picture.height)
        return picture


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


_TIME_BASE: Final = Fraction(1, VIDEO_CLOCK)
_DECODERS: Final = {"VP8": "libvpx", "H264": "h264"}
