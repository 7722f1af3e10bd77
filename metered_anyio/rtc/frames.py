"""Frames as encoders want them: video in yuv420p with even sides, audio in s16 stereo at 48 kHz, 20 ms each.

An encoder writes to the frame that it is given (its picture type), and the application may do what it likes with its
own. So an encoder is never given the application's own.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import av
from av.audio.resampler import AudioResampler
from av.video.reformatter import VideoReformatter

from metered_anyio.rtc.timing import AUDIO_CLOCK, SAMPLES

LARGEST: Final = 8192
"""Pixels of the longer side of a picture. VP8 has 14 bits for it, and an encoder that cannot be opened is trouble."""

LOWEST_RATE: Final = 1_000
HIGHEST_RATE: Final = 768_000
"""Samples a second of sound that is taken."""


class VideoShaper:
    """Makes the frames of one video source fit to be encoded. For one thread at a time."""

    def __init__(self) -> None:
        # Kept here, and not with the frame, where two threads might come to use it.
        self._reformatter = VideoReformatter()

    def shape(self, frame: av.VideoFrame, max_height: int | None = None) -> av.VideoFrame:
        """A frame that shares nothing with `frame`, whose pixels may be of any format, and that has no time yet.

        It is not higher than `max_height`; what is lower stays as it is. Raises `ValueError` if `frame` is too large.
        """
        if max(frame.width, frame.height) > LARGEST:
            raise ValueError(f"a picture of {frame.width}x{frame.height} is too large")
        width, height = fitting_size(frame.width, frame.height, max_height)
        if frame.format.name == "yuv420p" and (width, height) == (frame.width, frame.height):
            return _copy(frame)
        return self._reformatter.reformat(frame, width, height, "yuv420p")


def fitting_size(width: int, height: int, max_height: int | None) -> tuple[int, int]:
    """The width and height that a picture of this size is sent in: both even, the height within bounds."""
    if max_height is not None and height > max_height:
        width, height = round(width * max_height / height), max_height
    return max(2, width & ~1), max(2, height & ~1)


class AudioShaper:
    """Makes the frames of one audio source fit to be encoded, whatever they are, and even if they change."""

    def __init__(self) -> None:
        self._resampler: AudioResampler | None = None
        self._seen: tuple[str, str, int] | None = None

    def shape(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """The frames that are complete now: none, one or several of 20 ms.

        Raises `ValueError` for a rate that no sound has: a few samples at 1 Hz would become hundreds of megabytes.
        """
        if not LOWEST_RATE <= (frame.sample_rate or 0) <= HIGHEST_RATE:
            raise ValueError(f"sound of {frame.sample_rate} samples a second cannot be sent")
        seen = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None and seen == _AS_IT_SHOULD_BE and _is_one_packet(frame):
            return [frame]
        if self._resampler is None or seen != self._seen:
            self._seen = seen
            self._resampler = AudioResampler(format="s16", layout="stereo", rate=AUDIO_CLOCK, frame_size=SAMPLES)
        return self._resampler.resample(frame)


_AS_IT_SHOULD_BE: Final = ("s16", "stereo", AUDIO_CLOCK)


def _is_one_packet(frame: av.AudioFrame) -> bool:
    # An encoder writes nothing to such a frame but the time that it has.
    return frame.samples == SAMPLES and frame.pts is not None and frame.time_base == _TICK


_TICK: Final = Fraction(1, AUDIO_CLOCK)


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
