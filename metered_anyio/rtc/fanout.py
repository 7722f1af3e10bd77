"""One source for any number of senders: read once, shaped once, and given to each as a frame of its own.

A source is read only while somebody listens. Each listener has a short queue of its own, so one that stalls loses
frames and delays nobody: the newest pictures win, and of sound the oldest goes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

import av
from aiortc import MediaStreamTrack

from metered_anyio.logger import ContainedLogger
from metered_anyio.rtc.engine import LocalSource
from metered_anyio.rtc.frames import AUDIO_CLOCK, SAMPLES, VIDEO_CLOCK, AudioShaper, Timeline, VideoShaper

VIDEO_QUEUE: Final = 3
AUDIO_QUEUE: Final = 50
"""Frames that wait for one sender: 0.1 s of video, 1 s of sound."""

_AHEAD: Final = 0.5  # seconds that a source may run ahead of its own time before it is held back


class FanOut:
    """Reads one source. `ended` is called once, when there is nothing more to come from it."""

    def __init__(
        self, source: LocalSource, executor: Executor, logger: ContainedLogger, ended: Callable[[], object]
    ) -> None:
        self.source = source
        self.frames = 0
        self.frames_skipped = 0  # that no encoder could take
        self._executor = executor
        self._logger = logger
        self._ended = ended
        self._listeners: dict[Outlet, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def listen(self, outlet: Outlet) -> None:
        """Have the frames from now on go to `outlet`, too."""
        self._listeners[outlet] = None
        if self._task is None and not self._over:
            self._task = asyncio.get_running_loop().create_task(self._read())

    def leave(self, outlet: Outlet) -> None:
        """No more frames for `outlet`. Without anybody else, nobody reads the source any more."""
        self._listeners.pop(outlet, None)
        if not self._listeners:
            self._rest()

    def close(self) -> None:
        """Let go of the source."""
        self._listeners.clear()
        self._rest()

    def _rest(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _read(self) -> None:
        pace = _Pace(asyncio.get_running_loop().time)
        shape: Callable[[Any, list[Outlet]], Any] = (
            self._shape_video if self.source.kind == "video" else self._shape_audio
        )
        try:
            while True:
                item = await self.source.recv()
                self.frames += 1
                listeners = list(self._listeners)
                if isinstance(item, av.Packet):
                    for outlet in listeners:
                        outlet.take(_copy_packet(item))
                elif isinstance(item, av.VideoFrame if self.source.kind == "video" else av.AudioFrame):
                    try:
                        await shape(item, listeners)
                    except (av.FFmpegError, ValueError) as error:
                        self._skip(error)
                else:
                    raise TypeError(f"{type(item).__name__} is no frame")
                await asyncio.sleep(pace.ahead(item))
        except Exception as error:
            # MediaStreamError is how a track of aiortc says that it has ended.
            if type(error).__name__ != "MediaStreamError":
                self._logger.warning("a track ended with an error", {"error": type(error).__name__})
            self._over = True
            self._task = None
            self._ended()

    def _skip(self, error: Exception) -> None:
        self.frames_skipped += 1
        if self.frames_skipped == 1:
            self._logger.warning("a frame cannot be sent", {"error": type(error).__name__})

    async def _shape_video(self, frame: av.VideoFrame, listeners: list[Outlet]) -> None:
        loop = asyncio.get_running_loop()
        shaped = await loop.run_in_executor(self._executor, self._video().shape, frame, len(listeners))
        for outlet, each in zip(listeners, shaped, strict=True):
            if outlet in self._listeners:
                outlet.take(each)

    async def _shape_audio(self, frame: av.AudioFrame, listeners: list[Outlet]) -> None:
        for outlet, frames in zip(listeners, self._audio().shape(frame, len(listeners)), strict=True):
            for each in frames:
                outlet.take(each)

    _video_shaper: VideoShaper | None = None
    _audio_shaper: AudioShaper | None = None

    def _video(self) -> VideoShaper:
        self._video_shaper = self._video_shaper or VideoShaper()
        return self._video_shaper

    def _audio(self) -> AudioShaper:
        self._audio_shaper = self._audio_shaper or AudioShaper()
        return self._audio_shaper


class Outlet(MediaStreamTrack):
    """What one sender reads, for its whole life, whatever it is fed from meanwhile.

    It never ends by itself: a sender whose track has ended could not be used again.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.frames = 0
        self.frames_dropped = 0
        self._source: FanOut | None = None
        self._reading = False
        self._closed = False
        self._queue: deque[Any] = deque()
        self._arrival: asyncio.Future[None] | None = None
        now = asyncio.get_running_loop().time
        if kind == "video":
            self._bound = VIDEO_QUEUE
            self._timeline = Timeline(VIDEO_CLOCK, VIDEO_CLOCK // 1000, now)
        else:
            self._bound = AUDIO_QUEUE
            self._timeline = Timeline(AUDIO_CLOCK, SAMPLES, now)

    def feed_from(self, source: FanOut | None) -> None:
        """Send what this source gives, and nothing with None. What was not sent yet of another one is forgotten."""
        if source is self._source:
            return
        if self._source is not None:
            self._source.leave(self)
        self._source = source
        self._queue.clear()
        self._timeline.cut()
        if source is not None and self._reading and not self._closed:
            source.listen(self)

    def take(self, item: Any) -> None:
        """A new frame is there."""
        self._queue.append(item)
        if len(self._queue) > self._bound:
            self._queue.popleft()
            self.frames_dropped += 1
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def recv(self) -> Any:
        """The next frame, for as long as it takes."""
        if not self._reading:  # only now is there a way to the remote
            self._reading = True
            if self._source is not None and not self._closed:
                self._source.listen(self)
        while not self._queue:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        item = self._queue.popleft()
        self._timeline.place(item)
        self.frames += 1
        return item

    def stop(self) -> None:
        """The sender is done for good."""
        self._closed = True
        self.feed_from(None)
        super().stop()


class _Pace:
    """Holds back a source that does not keep to its own time, and would otherwise take all of ours."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._origin: float | None = None  # the time on our clock of the source's zero

    def ahead(self, item: Any) -> float:
        """How many seconds to wait before the next frame is asked for."""
        if item.pts is None or item.time_base is None:
            return 0.0
        now = self._now()
        own: float = item.pts * item.time_base.numerator / item.time_base.denominator
        origin = now - own
        if self._origin is None or origin > self._origin or self._origin - origin > 10 * _AHEAD:
            # The first one, one that is late, or a jump: time begins anew.
            self._origin = origin
            return 0.0
        return max(0.0, self._origin - origin - _AHEAD)


def _copy_packet(packet: av.Packet[Any]) -> av.Packet[Any]:
    copy: av.Packet[Any] = av.Packet(bytes(packet))
    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
    copy.is_keyframe = packet.is_keyframe
    return copy
