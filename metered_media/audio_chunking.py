"""Frames of sound as arrays of one size, in time. Knows no loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import av
from av.audio.resampler import AudioResampler

from metered_media.audio_shaping import within_reach
from metered_media.pictures import need_numpy

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

JITTER: Final = 0.005
"""Seconds by which a frame's time may differ from what is expected, before that is taken for a gap."""

_STEP: Final = 0.5  # seconds of silence that are made at once


class AudioChunker:
    """Makes arrays of int16 of `samples` samples at `rate`, of the shape (samples,) or, for two channels, (samples, 2).

    Where frames are missing, which their times tell, there is silence, up to `longest_gap` seconds of it; what is
    longer is left out. `position` is where the next array begins, in seconds since the first frame, gaps included.
    """

    def __init__(self, rate: int, layout: str, samples: int, longest_gap: float) -> None:
        self._numpy = need_numpy()
        self._rate = rate
        self._layout = layout
        self._channels = 1 if layout == "mono" else 2
        self._samples = samples
        self._longest_gap = longest_gap
        self._resampler: AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._data = bytearray()
        self._next: float | None = None  # the time, by the frames themselves, at which the next is expected
        self._went_out = 0
        self._left_out = 0.0
        self.gaps = 0

    @property
    def position(self) -> float:
        """Where the next array begins, in seconds since the first frame."""
        return self._went_out / self._rate + self._left_out

    def feed(self, frame: av.AudioFrame) -> list[tuple[float, NDArray[numpy.int16]]]:
        """The arrays that are complete now, each with its position."""
        frame = within_reach(frame)
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if found != self._format:
            self._flush()
            self._format = found
        gap = self._gap(frame)
        ready: list[tuple[float, NDArray[numpy.int16]]] = []
        if gap > 0:
            self.gaps += 1
            silent = min(gap, self._longest_gap)
            while silent > 0:
                step = min(silent, _STEP)
                self._resample(_silence(frame, max(1, round(step * frame.sample_rate))))
                silent -= step
                ready += self._cut()
            self._left_out += max(0.0, gap - self._longest_gap)
        self._resample(_plain(frame))
        return ready + self._cut()

    def finish(self) -> list[tuple[float, NDArray[numpy.int16]]]:
        """The rest, with silence behind it, as there are no more frames."""
        self._flush()
        ready = self._cut()
        if self._data:
            self._data.extend(bytes(self._size - len(self._data)))
            ready += self._cut()
        return ready

    @property
    def _size(self) -> int:
        return self._samples * self._channels * 2

    def _gap(self, frame: av.AudioFrame) -> float:
        """How many seconds are missing before a frame."""
        lasts = frame.samples / frame.sample_rate
        if frame.pts is None or frame.time_base is None:
            if self._next is not None:
                self._next += lasts
            return 0.0
        at = float(frame.pts * frame.time_base.numerator / frame.time_base.denominator)
        gap = 0.0 if self._next is None else at - self._next
        if self._next is None or abs(gap) > JITTER:
            self._next = at  # also for a source that began anew
        else:
            gap = 0.0  # small differences are not forgotten, they may add up
        self._next += lasts
        return max(0.0, gap)

    def _resample(self, frame: av.AudioFrame) -> None:
        if self._resampler is None:
            self._resampler = AudioResampler(format="s16", layout=self._layout, rate=self._rate)
        self._take(self._resampler.resample(frame))

    def _flush(self) -> None:
        if self._resampler is not None:
            self._take(self._resampler.resample(None))
            self._resampler = None

    def _take(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            self._data += memoryview(frame.planes[0])[: frame.samples * self._channels * 2]

    def _cut(self) -> list[tuple[float, NDArray[numpy.int16]]]:
        ready = []
        while len(self._data) >= self._size:
            array: Any = self._numpy.frombuffer(self._data[: self._size], dtype=self._numpy.int16)
            del self._data[: self._size]
            ready.append((self.position, array if self._channels == 1 else array.reshape(-1, 2)))
            self._went_out += self._samples
        return ready


def _plain(frame: av.AudioFrame) -> av.AudioFrame:
    """A frame without a time, which is of no use to a resampler, and the application's own stays as it is."""
    if frame.pts is None:
        return frame
    plain = av.AudioFrame(frame.format.name, frame.layout.name, frame.samples)
    for to, source in zip(plain.planes, frame.planes, strict=True):
        to.update(bytes(memoryview(source)[: to.buffer_size]).ljust(to.buffer_size, b"\0"))
    plain.sample_rate = frame.sample_rate
    return plain


def _silence(like: av.AudioFrame, samples: int) -> av.AudioFrame:
    frame = av.AudioFrame(like.format.name, like.layout.name, samples)
    for plane in frame.planes:
        plane.update((b"\x80" if like.format.name.startswith("u8") else b"\0") * plane.buffer_size)
    frame.sample_rate = like.sample_rate
    return frame
