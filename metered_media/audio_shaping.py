"""Sound of any format as interleaved s16 stereo at 48 kHz, counted to the sample."""

from __future__ import annotations

import array
import fractions
from typing import Final

import av
from av.audio.resampler import AudioResampler

from metered_media.audio_pacing import RATE

BYTES: Final = 4
"""Bytes of one sample of both channels."""

LOWEST_RATE: Final = 1_000
HIGHEST_RATE: Final = 384_000
"""Samples a second that can be resampled."""

Format = tuple[str, str, int]
"""The sample format, the layout and the rate of some sound, in FFmpeg's words."""

_OURS: Final = ("s16", "stereo", RATE)


_PLANES: Final = 8
"""Channels in planes of their own from which on PyAV crashes (18) or raises (19) when it is asked for the planes."""


def within_reach(frame: av.AudioFrame) -> av.AudioFrame:
    """A frame of the same sound whose planes can be had: itself, or with its channels interleaved."""
    if not frame.format.is_planar or frame.layout.nb_channels < _PLANES:
        return frame
    resampler = AudioResampler(format=frame.format.packed, layout=frame.layout, rate=frame.sample_rate)
    (made,) = resampler.resample(frame)
    return made


class Sound:
    """Sound that was handed in, to be taken off in pieces."""

    def __init__(self, format: Format, samples: int, planes: list[memoryview]) -> None:
        self.format = format
        self.samples = samples
        self._planes = planes
        self._at = 0
        self._width = 0 if samples == 0 else len(planes[0]) // samples

    @classmethod
    def of_frame(cls, frame: av.AudioFrame) -> Sound:
        """That of a frame. Raises `ValueError` for one without a rate that can be used."""
        rate = frame.sample_rate
        if not rate or not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"a frame of {rate} samples a second cannot be resampled")
        frame = within_reach(frame)
        length = frame.samples * frame.format.bytes * (1 if frame.format.is_planar else frame.layout.nb_channels)
        planes = [memoryview(bytes(memoryview(plane)[:length])) for plane in frame.planes]
        return cls((frame.format.name, frame.layout.name, rate), frame.samples, planes)

    @property
    def seconds(self) -> float:
        """How long what is left of it is."""
        return self.samples / self.format[2]

    def take(self, samples: int) -> bytes | av.AudioFrame:
        """The next so many samples: bytes if they are as we want them, else a frame."""
        start, self._at = self._at, self._at + samples * self._width
        self.samples -= samples
        if self.format == _OURS:
            return bytes(self._planes[0][start : self._at])
        name, layout, rate = self.format
        frame = av.AudioFrame(name, layout, samples)
        for plane, data in zip(frame.planes, self._planes, strict=True):
            plane.update(bytes(data[start : self._at]).ljust(plane.buffer_size, b"\0"))
        frame.sample_rate, frame.time_base = rate, fractions.Fraction(1, rate)
        return frame


class SoundShaper:
    """Resamples one stream of sound, whose format may change.

    A resampler looks ahead: the last millisecond or so of what went in comes out only with what follows, or when it
    is flushed. `delay` says how many samples that is. What comes out is as long as what went in, rounded up to a
    sample once for each stretch between two flushes. One channel becomes two of the same loudness.
    """

    def __init__(self) -> None:
        self.delay = 0
        self._format: Format | None = None
        self._resampler: AudioResampler | None = None
        self._in = 0
        self._out = 0

    def most(self, format: Format, room: int) -> int:
        """How many more samples of a format may go in for no more than `room` to come out, now and later."""
        went_in, promised = (self._in, self._out + self.delay) if format == self._format else (0, 0)
        return (promised + room) * format[2] // RATE - went_in

    def fits(self, format: Format) -> bool:
        """Whether sound of this format goes on where the last ended. Otherwise `flush` comes first."""
        return self._format is None or format == self._format

    def shape(self, sound: Sound, samples: int) -> bytes:
        """What comes out now for the next so many samples of `sound`. Raises `ValueError` if FFmpeg cannot."""
        self._format = sound.format
        piece = sound.take(samples)
        if isinstance(piece, bytes):
            return piece
        layout = "mono" if piece.layout.nb_channels == 1 else "stereo"
        try:
            if self._resampler is None:
                self._resampler = AudioResampler(format="s16", layout=layout, rate=RATE)
            frames = self._resampler.resample(piece)
        except (av.FFmpegError, ValueError) as error:
            name, where, rate = sound.format
            self._forget()
            raise ValueError(f"sound of {name} {where} at {rate} cannot be resampled: {error}") from None
        came = _stereo(frames)
        self._in += samples
        self._out += len(came) // BYTES
        self.delay = -(-self._in * RATE // sound.format[2]) - self._out
        return came

    def flush(self) -> bytes:
        """What was still looked ahead at. What comes next begins anew."""
        if self._resampler is None:
            self._format = None
            return b""
        wanted = self.delay * BYTES
        came = _stereo(self._resampler.resample(None)) if wanted else b""
        self._forget()
        return came[:wanted].ljust(wanted, b"\0")

    def drop(self) -> int:
        """Forget what was looked ahead at, and say how many samples that was."""
        delay = self.delay
        self._forget()
        return delay

    def _forget(self) -> None:
        self._resampler = self._format = None
        self._in = self._out = self.delay = 0


def _stereo(frames: list[av.AudioFrame]) -> bytes:
    parts = []
    for frame in frames:
        data = bytes(frame.planes[0])[: frame.samples * frame.layout.nb_channels * 2]
        if frame.layout.nb_channels == 1:
            # FFmpeg would take 3 dB off each channel; a voice is to be as loud as it was.
            one = array.array("h", data)
            both = array.array("h", bytes(len(data) * 2))
            both[0::2] = both[1::2] = one
            data = both.tobytes()
        parts.append(data)
    return b"".join(parts)
