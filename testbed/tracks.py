"""Pictures and tones that tell whose they are, and how to recognize them."""

from __future__ import annotations

import array
import asyncio
import cmath
import fractions
import math
import random
import time
from collections.abc import Sequence

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

Colour = tuple[int, int, int]
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)
COLOURS = (RED, GREEN, BLUE, YELLOW)

VIDEO_CLOCK, AUDIO_RATE, AUDIO_FRAME = 90_000, 48_000, 960
PICTURES = 8

TOLERANCE = 60
"""How far each part of a colour may be off after an encoder and a decoder or two."""


def is_colour(found: Sequence[int] | None, wanted: Colour) -> bool:
    """Whether a colour that was seen is the one that was sent."""
    return found is not None and all(abs(one - other) <= TOLERANCE for one, other in zip(found, wanted, strict=True))


class ColourTrack(MediaStreamTrack):
    """A plain picture with a white block that moves along its bottom, and noise at its top if wanted.

    `made` counts its frames. `reads_at` is when the last one was asked for, on the monotonic clock.
    """

    kind = "video"

    def __init__(
        self,
        colour: Colour,
        *,
        size: tuple[int, int] = (320, 240),
        rate: float = 30,
        format: str = "yuv420p",
        noise: bool = False,
    ) -> None:
        super().__init__()
        self.colour, self.rate = colour, rate
        self.made = 0
        self.reads_at: float | None = None
        # All that it will ever show: making pictures is not what anybody measures here.
        self._pictures = [_picture(colour, size, number, noise).reformat(format=format) for number in range(PICTURES)]
        self._began: float | None = None

    async def recv(self) -> av.VideoFrame:
        """The next frame, when it is due."""
        self.reads_at = time.monotonic()
        await self._due(self.made / self.rate)
        # A frame of its own each time: whoever gets it may write to it.
        kept = self._pictures[self.made % PICTURES]
        frame = av.VideoFrame(kept.width, kept.height, kept.format.name)
        for plane, other in zip(frame.planes, kept.planes, strict=True):
            plane.update(bytes(other))
        frame.pts, frame.time_base = int(self.made * VIDEO_CLOCK / self.rate), fractions.Fraction(1, VIDEO_CLOCK)
        self.made += 1
        return frame

    async def _due(self, seconds: float) -> None:
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        if self._began is None or now - self._began - seconds > 1:  # not read for a while: no catching up
            self._began = now - seconds
        await asyncio.sleep(max(0.0, self._began + seconds - now))


class ToneTrack(MediaStreamTrack):
    """A sine, 48 kHz mono, 20 ms a frame."""

    kind = "audio"

    def __init__(self, hz: float) -> None:
        super().__init__()
        self.hz = hz
        self._sent = 0
        self._began: float | None = None

    async def recv(self) -> av.AudioFrame:
        """The next frame, when it is due."""
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        if self._began is None or now - self._began - self._sent / AUDIO_RATE > 1:
            self._began = now - self._sent / AUDIO_RATE
        await asyncio.sleep(max(0.0, self._began + self._sent / AUDIO_RATE - now))
        turn = 2 * math.pi * self.hz / AUDIO_RATE
        samples = array.array("h", (int(12_000 * math.sin(turn * (self._sent + n))) for n in range(AUDIO_FRAME)))
        frame = av.AudioFrame(format="s16", layout="mono", samples=AUDIO_FRAME)
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, self._sent, fractions.Fraction(1, AUDIO_RATE)
        self._sent += AUDIO_FRAME
        return frame


def colour_of(frame: av.VideoFrame) -> Colour:
    """The colour in the middle of a picture."""
    small = frame.reformat(format="rgb24")
    plane = small.planes[0]
    at = small.height // 2 * plane.line_size + small.width // 2 * 3
    red, green, blue = bytes(plane)[at : at + 3]
    return red, green, blue


def has_pitch(frames: Sequence[av.AudioFrame], hz: float) -> bool:
    """Whether most of the sound of some frames in a row is at a pitch."""
    samples: list[int] = []
    for frame in frames:
        data = array.array("h", bytes(frame.planes[0])[: frame.samples * len(frame.layout.channels) * 2])
        samples += data[:: len(frame.layout.channels)]
    rate = frames[0].sample_rate
    strength = abs(sum(value * cmath.exp(-2j * math.pi * hz * n / rate) for n, value in enumerate(samples)))
    power = sum(value * value for value in samples)
    # A pure sine has all its power in that one place: |X|² = power · n / 2.
    return power > 0 and strength * strength > 0.5 * power * len(samples) / 2


def _picture(colour: Colour, size: tuple[int, int], number: int, noise: bool) -> av.VideoFrame:
    width, height = size
    dice = random.Random(number)
    plain = bytes(colour) * width
    left = number * 16
    marked = bytes(colour) * left + b"\xff" * 48 + bytes(colour) * (width - left - 16)
    rows = [dice.randbytes(width * 3) if noise and row < height // 3 else plain for row in range(height - 16)]
    rows += [marked] * 16
    frame = av.VideoFrame(width, height, "rgb24")
    plane = frame.planes[0]
    plane.update(b"".join(row + bytes(plane.line_size - len(row)) for row in rows))
    return frame
