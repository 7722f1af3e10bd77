"""Reading tracks with `async for`: `iter_frames`, `iter_audio`, `iter_video`. On asyncio and on trio."""

from __future__ import annotations

import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio
import anyio.to_thread
import av
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, VideoStreamTrack
from av.video.reformatter import VideoReformatter

from metered_anyio.backend import Backend, current_backend
from metered_anyio.media_stream import check_track
from metered_anyio.rtc.frame_track import BranchingTrack
from metered_anyio.rtc.mailbox import Mailbox
from metered_media.audio_chunking import AudioChunker
from metered_media.audio_shaping import HIGHEST_RATE, LOWEST_RATE
from metered_media.pictures import array_of, check_format, need_numpy
from metered_media.video_pacing import VideoPacing

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

T = TypeVar("T")

LONGEST_GAP = 5.0
"""Seconds of silence that `iter_audio` puts where sound is missing."""


def iter_frames(track: Any) -> FrameIterator:
    """The frames of a track, `av.AudioFrame` or `av.VideoFrame`, until it ends.

    The loop ends with the track, however that came. Leaving it does not stop the track. Each frame goes to one reader;
    for one that wants them all there is `track.branch()`.

    Raises `TypeError` for what is no track. On trio, tracks of aiortc's own raise `RuntimeError`, as they need asyncio.
    """
    return FrameIterator(_checked(track))


def iter_audio(
    track: Any, *, rate: int = 16_000, layout: str = "mono", frame_ms: float = 100, capacity: int = 100
) -> AudioIterator:
    """The sound of a track as arrays of int16 of always the same length, as speech-to-text wants it.

    Their shape is (samples,) for `layout` `mono`, (samples, 2) for `stereo`; `frame_ms` milliseconds have to be whole
    samples at `rate`. The last one is filled up with silence. Where the track's times leave a gap, there is silence,
    too, up to `LONGEST_GAP`, so that times stay right; `position` says, in seconds since the first frame, where the
    array begins that was given last. The track is read whether or not anybody waits for the next array, and up to
    `capacity` of them are kept; of a reader that is slower the oldest go, and `dropped` counts them.

    Raises `TypeError` or `ValueError` for what cannot be, and `WebRtcMissingError` without numpy.
    """
    need_numpy()
    _check_int("rate", rate, LOWEST_RATE, HIGHEST_RATE)
    _check_int("capacity", capacity, 1, 100_000)
    if layout not in ("mono", "stereo"):
        raise ValueError(f"layout must be 'mono' or 'stereo', not {layout!r}")
    _check_number("frame_ms", frame_ms, 1, 60_000)
    samples = rate * frame_ms / 1000
    if samples != int(samples):
        raise ValueError(f"frame_ms of {frame_ms} is {samples} samples at {rate}, which must be a whole number")
    return AudioIterator(_checked(track, "audio"), AudioChunker(rate, layout, int(samples), LONGEST_GAP), capacity)


def iter_video(track: Any, *, format: str = "rgb24", max_fps: float | None = None) -> VideoIterator:
    """The newest pictures of a track as arrays of uint8, (height, width, 3) for `rgb24` and `bgr24`.

    `format` may also be `rgba`, `bgra`, `argb`, `abgr`, or `gray`, whose shape is (height, width). They are converted
    in a thread. A slow reader misses pictures, which `dropped` counts, and is never behind; `max_fps` leaves some out
    from the beginning.

    Raises `TypeError` or `ValueError` for what cannot be, and `WebRtcMissingError` without numpy.
    """
    need_numpy()
    if max_fps is not None:
        _check_number("max_fps", max_fps, 0.01, 1000)
    return VideoIterator(_checked(track, "video"), check_format(format), max_fps)


class FrameIterator:
    """What `iter_frames` gives."""

    def __init__(self, track: Any) -> None:
        self._reading = _Reading(track)
        weakref.finalize(self, self._reading.close).atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        frame = await self._reading.next()
        if frame is None:
            raise StopAsyncIteration
        return frame

    async def aclose(self) -> None:
        """Read no more. The track goes on."""
        self._reading.close()


class ArrayIterator(ABC, Generic[T]):
    """Arrays that are made of a track in the background, from the first one that is asked for."""

    def __init__(self, track: Any, capacity: int) -> None:
        self._track = track
        self._box: Mailbox[T] = Mailbox(capacity)
        self._pump: _Pump[T] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Read no more. The track goes on."""
        self._box.end()
        self._box.clear()
        if self._pump is not None:
            self._pump.stop()

    @property
    def dropped(self) -> int:
        """Arrays that went because nobody took them in time."""
        return self._box.dropped

    async def _next(self) -> T:
        pump = self._start()
        try:
            return await self._box.take()
        except anyio.EndOfStream:
            if pump.error is not None:
                error, pump.error = pump.error, None
                raise error from None
            raise StopAsyncIteration from None

    def _start(self) -> _Pump[T]:
        if self._pump is None:
            self._pump = _Pump(self._track, self._box, self._converter())
            # One that was left in the middle of an `async for` reads no more, either.
            weakref.finalize(self, self._pump.stop).atexit = False
        return self._pump

    @abstractmethod
    def _converter(self) -> Converter[T]:
        """What makes arrays of frames."""


class AudioIterator(ArrayIterator["tuple[float, NDArray[numpy.int16]]"]):
    """What `iter_audio` gives."""

    def __init__(self, track: Any, chunker: AudioChunker, capacity: int) -> None:
        super().__init__(track, capacity)
        self._chunker = chunker
        self.position = 0.0
        """Where the last array begins, in seconds since the first frame."""

    async def __anext__(self) -> NDArray[numpy.int16]:
        self.position, array = await self._next()
        return array

    def _converter(self) -> Converter[tuple[float, NDArray[numpy.int16]]]:
        chunker = self._chunker

        def convert(frame: Any) -> Any:
            if frame is None:
                return chunker.finish()
            return chunker.feed(frame) if isinstance(frame, av.AudioFrame) else []

        return convert


class VideoIterator(ArrayIterator[av.VideoFrame]):
    """What `iter_video` gives."""

    def __init__(self, track: Any, format: str, max_fps: float | None) -> None:
        super().__init__(track, 1)
        self._format = format
        self._max_fps = max_fps
        self._reformatter = VideoReformatter()

    async def __anext__(self) -> NDArray[numpy.uint8]:
        frame = await self._next()
        return await anyio.to_thread.run_sync(array_of, frame, self._format, self._reformatter)

    def _converter(self) -> Converter[av.VideoFrame]:
        pacing = None if self._max_fps is None else VideoPacing(self._max_fps, time.monotonic)
        tolerance = 0.0 if self._max_fps is None else min(0.005, 0.25 / self._max_fps)

        def convert(frame: Any) -> list[av.VideoFrame]:
            if not isinstance(frame, av.VideoFrame):
                return []
            if pacing is not None:
                if pacing.wait() > tolerance:
                    return []
                pacing.leave()
            return [frame]

        return convert


Converter = Callable[[Any], "list[T]"]
"""Makes of a frame what is given to the reader; of None, the rest."""


class _Pump(Generic[T]):
    """Reads a track in a task of its own. Holds nothing of the iterator but its box."""

    def __init__(self, track: Any, box: Mailbox[T], convert: Converter[T]) -> None:
        self.error: Exception | None = None
        self._reading = _Reading(track)
        self._box = box
        self._convert = convert
        self._backend = current_backend()
        self._scope = self._backend.cancel_scope()
        self._backend.spawn(self._run)

    def stop(self) -> None:
        """Read no more. May be called anywhere, by the garbage collector too."""
        self._box.end()
        try:
            self._backend.call_from_thread(self._scope.cancel)
        except RuntimeError:
            pass  # its loop has ended, and the task with it

    async def _run(self) -> None:
        try:
            with self._scope:
                while True:
                    frame = await self._reading.next()
                    for item in self._convert(frame):
                        self._box.put(item)
                    if frame is None:
                        break
        except Exception as error:
            self.error = error
        finally:
            self._reading.close()
            self._box.end()


class _Reading:
    """One reader of a track, which also learns of its end while it waits for a frame.

    aiortc's own tracks leave whoever waits for the next frame waiting when they are stopped.
    """

    def __init__(self, track: Any) -> None:
        self._track = track
        self._ours = isinstance(track, BranchingTrack) or not hasattr(track, "remove_listener")
        self._backend: Backend | None = None
        self._scope: anyio.CancelScope | None = None
        self._over = False

    async def next(self) -> Any:
        """The next frame, or None at the end."""
        if self._over:
            return None
        try:
            if self._ours:
                return await self._track.recv()
            if self._backend is None:
                self._begin()
            with anyio.CancelScope() as self._scope:
                return await self._track.recv()
        except MediaStreamError:
            pass
        self.close()
        return None

    def close(self) -> None:
        """Nothing more is wanted."""
        self._over = True
        if self._backend is not None:
            try:
                self._track.remove_listener("ended", self._ended)
            except KeyError:
                pass  # it has just been called, and forgotten

    def _begin(self) -> None:
        backend = self._backend = current_backend()
        if backend.name != "asyncio" and _needs_asyncio(self._track):
            self._backend = None
            raise RuntimeError(f"{type(self._track).__name__} is a track of aiortc, which can be read on asyncio only")
        self._track.add_listener("ended", self._ended)

    def _ended(self) -> None:
        backend, scope = self._backend, self._scope
        if backend is not None and scope is not None:
            try:
                backend.call_from_thread(scope.cancel)
            except RuntimeError:
                pass


def _needs_asyncio(track: Any) -> bool:
    return type(track).__module__.startswith("aiortc.") or isinstance(track, (AudioStreamTrack, VideoStreamTrack))


def _checked(track: Any, kind: str | None = None) -> Any:
    if not callable(getattr(track, "recv", None)):
        check_track("track", track)
        raise TypeError(f"a track has recv(), which {type(track).__name__} lacks")
    if kind is not None and track.kind != kind:
        raise ValueError(f"a track of {kind} is wanted, not one of {track.kind}")
    return track


def _check_int(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")
