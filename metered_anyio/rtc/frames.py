"""Frames as encoders want them: video in yuv420p with even sides, audio in s16 stereo at 48 kHz, one copy for each.

An encoder writes to the frame that it is given (its picture type, its time), and converts it in a thread of its own.
So a frame is never given to two of them, nor an encoder the application's own.
"""

from __future__ import annotations

from typing import Final

import av
from av.audio.resampler import AudioResampler
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from metered_anyio.rtc.timing import AUDIO_CLOCK, SAMPLES

LARGEST: Final = 8192
"""Pixels of the longer side of a picture. VP8 has 14 bits for it, and an encoder that cannot be opened is trouble."""


class VideoShaper:
    """Makes the frames of one video source fit to be encoded. For one thread at a time."""

    def __init__(self) -> None:
        # Kept here, and not with the frame, where two threads might come to use it.
        self._reformatter = VideoReformatter()

    def shape(self, frame: av.VideoFrame, copies: int) -> list[av.VideoFrame]:
        """As many frames that share nothing with each other or with `frame`, whose pixels may be of any format.

        Raises `ValueError` if it is too large.
        """
        if max(frame.width, frame.height) > LARGEST:
            raise ValueError(f"a picture of {frame.width}x{frame.height} is too large")
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
