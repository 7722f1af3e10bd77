"""One source for any number of senders: read once, shaped once, and given to each as a frame of its own.

A source is read only while somebody listens. Each listener has a short queue of its own, so one that stalls loses
frames and delays nobody: the newest pictures win, and of sound the oldest goes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final, TypeAlias

import av
from aiortc import MediaStreamTrack

from metered_anyio.logger import ContainedLogger
from metered_anyio.rtc.engine import LocalSource
from metered_anyio.rtc.frames import AudioShaper, VideoShaper
from metered_anyio.rtc.timing import AUDIO_CLOCK, SAMPLES, VIDEO_CLOCK, Pace, Timeline

VIDEO_QUEUE: Final = 3
AUDIO_QUEUE: Final = 50
"""Frames that wait for one sender: 0.1 s of video, 1 s of sound."""

_LOOK: Final = 0.25  # seconds between two looks at whether a source that gives nothing is still live


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
        self._before: asyncio.Task[None] | None = None  # the reader before this one, which may not be gone yet
        self._over = False

    def listen(self, outlet: Outlet) -> None:
        """Have the frames from now on go to `outlet`, too."""
        self._listeners[outlet] = None
        if self._task is None and not self._over:
            self._task = asyncio.get_running_loop().create_task(self._run(self._before))
            self._look(self._task, self.frames)

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
            self._before = task

    def _look(self, reader: asyncio.Task[None], frames: int) -> None:
        """A source that was stopped ends, even if it leaves whoever waits for its next frame waiting."""
        if self._task is not reader:
            return
        if self.source.readyState == "ended" and self.frames == frames:
            self._rest()
            self._end()
        else:
            asyncio.get_running_loop().call_later(_LOOK, self._look, reader, self.frames)

    def _end(self) -> None:
        self._over = True
        self._task = None
        self._ended()

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # a source has one reader at a time
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._read(task)
        except (Exception, asyncio.CancelledError) as error:
            if task.cancelling():
                return  # nobody listens any more
            # MediaStreamError is how a track of aiortc says that it has ended.
            if type(error).__name__ != "MediaStreamError":
                self._logger.warning("a track ended with an error", {"error": type(error).__name__})
            self._end()

    async def _read(self, task: asyncio.Task[None]) -> None:
        now = asyncio.get_running_loop().time
        pace = Pace(now)
        # Made anew by each reader: that of the one before may still be in use, in its thread.
        shape = self._video_shape() if self.source.kind == "video" else self._audio_shape()
        while not task.cancelling():  # which a source may keep to itself
            asked = now()
            item = await self.source.recv()
            waited = now() - asked
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
            await asyncio.sleep(pace.ahead(item, waited))

    def _skip(self, error: Exception) -> None:
        self.frames_skipped += 1
        if self.frames_skipped == 1:
            self._logger.warning("a frame cannot be sent", {"error": type(error).__name__})

    def _video_shape(self) -> _Shape:
        shaper, loop = VideoShaper(), asyncio.get_running_loop()

        async def shape(frame: av.VideoFrame, listeners: list[Outlet]) -> None:
            shaped = await loop.run_in_executor(self._executor, shaper.shape, frame, len(listeners))
            for outlet, each in zip(listeners, shaped, strict=True):
                if outlet in self._listeners:
                    outlet.take(each)

        return shape

    def _audio_shape(self) -> _Shape:
        shaper = AudioShaper()

        async def shape(frame: av.AudioFrame, listeners: list[Outlet]) -> None:
            for outlet, frames in zip(listeners, shaper.shape(frame, len(listeners)), strict=True):
                for each in frames:
                    outlet.take(each)

        return shape


_Shape: TypeAlias = Callable[[Any, list["Outlet"]], Awaitable[None]]


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


def _copy_packet(packet: av.Packet[Any]) -> av.Packet[Any]:
    copy: av.Packet[Any] = av.Packet(bytes(packet))
    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
    copy.is_keyframe = packet.is_keyframe
    return copy
