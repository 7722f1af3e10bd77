"""Frames as encoders want them: video in yuv420p with even sides, audio in s16 stereo at 48 kHz, one copy for each.

An encoder writes to the frame that it is given (its picture type, its time), and converts it in a thread of its own.
So a frame is never given to two of them, nor an encoder the application's own.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import av
from av.audio.resampler import AudioResampler
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

VIDEO_CLOCK: Final = 90_000
AUDIO_CLOCK: Final = 48_000
SAMPLES: Final = 960  # 20 ms, which is what one packet holds


class VideoShaper:
    """Makes the frames of one video source fit to be encoded. For one thread at a time."""

    def __init__(self) -> None:
        # Kept here, and not with the frame, where two threads might come to use it.
        self._reformatter = VideoReformatter()

    def shape(self, frame: av.VideoFrame, copies: int) -> list[av.VideoFrame]:
        """As many frames that share nothing with each other or with `frame`, whose pixels may be of any format."""
        width, height = max(2, frame.width & ~1), max(2, frame.height & ~1)
        if frame.format.name == "yuv420p" and (width, height) == (frame.width, frame.height):
            shaped = [_copy(frame)]
        else:
            shaped = [self._reformatter.reformat(frame, width, height, "yuv420p")]
        shaped += [_copy(shaped[0]) for _ in range(copies - 1)]
        for each in shaped:
            each.pts = frame.pts
            if frame.time_base is not None:
                each.time_base = frame.time_base
            # The source's key frames need not be ours: a camera that sends nothing else would have us do the same.
            each.pict_type = PictureType.NONE
        return shaped


class AudioShaper:
    """Makes the frames of one audio source fit to be encoded, whatever they are, and even if they change."""

    def __init__(self) -> None:
        self._resampler: AudioResampler | None = None
        self._seen: tuple[str, str, int] | None = None

    def shape(self, frame: av.AudioFrame, copies: int) -> list[list[av.AudioFrame]]:
        """For each copy the frames that are complete now: none, one or several of 20 ms."""
        seen = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or seen != self._seen:
            self._seen = seen
            self._resampler = AudioResampler(format="s16", layout="stereo", rate=AUDIO_CLOCK, frame_size=SAMPLES)
        shaped = self._resampler.resample(frame)
        return [shaped, *([_copy_audio(each) for each in shaped] for _ in range(copies - 1))]


class Timeline:
    """One steady time for a sender, through sources that are swapped, start again or jump.

    A receiver takes a step back for a frame that is too old, and a VP8 encoder refuses it for good. `now` gives
    seconds.
    """

    __slots__ = ("_clock", "_last", "_last_at", "_now", "_offset", "_step")

    def __init__(self, clock: int, step: int, now: Callable[[], float]) -> None:
        self._clock = clock
        self._step = step  # between two frames of which nothing better is known
        self._now = now
        self._offset: int | None = None
        self._last: int | None = None
        self._last_at = 0.0

    def cut(self) -> None:
        """What follows comes from elsewhere."""
        self._offset = None

    def place(self, item: Any) -> None:
        """Give a frame or packet its time, in the time base of the clock."""
        now = self._now()
        own = None if item.pts is None or item.time_base is None else _ticks(item.pts, item.time_base, self._clock)
        if self._last is None:
            at = 0
        else:
            passed = max(self._step, round((now - self._last_at) * self._clock))
            at = self._last + passed
            if own is not None and self._offset is not None:
                # The source knows better than we when its frame was, unless that is against all reason.
                told = own + self._offset
                if self._last < told <= at + _LEAP * self._clock:
                    at = told
        self._offset = None if own is None else at - own
        self._last, self._last_at = at, now
        item.pts, item.time_base = at, Fraction(1, self._clock)


_LEAP: Final = 2  # seconds by which a frame may come before its time


def _ticks(pts: int, time_base: Any, clock: int) -> int:
    return pts * clock * int(time_base.numerator) // int(time_base.denominator)


def _copy(frame: av.VideoFrame) -> av.VideoFrame:
    copy = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for to, source in zip(copy.planes, frame.planes, strict=True):
        if to.line_size == source.line_size and to.buffer_size == source.buffer_size:
            to.update(memoryview(source))  # type: ignore[arg-type]  # any buffer will do
        else:
            pixels, line, gap = memoryview(source), source.line_size, bytes(to.line_size - to.width)
            rows = (pixels[row * line : row * line + to.width] for row in range(to.height))
            to.update(b"".join(part for row in rows for part in (row, gap)))
    return copy


def _copy_audio(frame: av.AudioFrame) -> av.AudioFrame:
    copy = av.AudioFrame(frame.format.name, frame.layout.name, frame.samples)
    for to, source in zip(copy.planes, frame.planes, strict=True):
        to.update(bytes(source)[: to.buffer_size].ljust(to.buffer_size, b"\0"))
    copy.pts, copy.time_base, copy.sample_rate = frame.pts, frame.time_base, frame.sample_rate
    return copy
