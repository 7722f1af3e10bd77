"""Encoders: one picture or 20 ms of sound in, what is to be sent of it out. Each is for one thread at a time.

They are tuned for calls: no picture waits for a later one, none is left out, and the bitrate is kept within a second.
Software encoders have one thread up to 720p, which costs the least processor time in all.
"""

from __future__ import annotations

import array
import math
import operator
import os
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final, NamedTuple, cast

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from metered_anyio.rtc import private
from metered_anyio.rtc.timing import AUDIO_CLOCK, SAMPLES, VIDEO_CLOCK

SOFTWARE: Final = {"VP8": "libvpx", "H264": "libx264"}
"""The encoder of FFmpeg that is used when none is asked for."""

SPEECH_AND_MUSIC: Final = 96_000
"""Bit/s of Opus when none are asked for."""

_LIVE: Final = frozenset({"libx264", "h264_nvenc"})  # that can be told another bitrate in mid-stream
_RATE: Final = 30  # frames a second that encoders reckon with; each frame has its true time
_NO_END: Final = 100_000  # frames between key frames that nobody asks for
_REFUSALS: Final = 3  # frames in a row that an encoder of the application's choice may refuse
_CORES: Final = os.cpu_count() or 1


class Unit(NamedTuple):
    """What one frame has become. `pts` is in units of its clock, `key`: decoding can start here."""

    data: bytes
    key: bool
    pts: int


def is_live(codec: str, encoder: str | None) -> bool:
    """Whether this encoder can be told another bitrate without being made anew."""
    return (encoder or SOFTWARE[codec]) in _LIVE


class VideoEncoder:
    """Makes VP8 or H.264 of pictures in yuv420p, of any size and even if that changes.

    `encoder` names an encoder of FFmpeg. If it cannot be opened, or refuses pictures, the one in software does the
    work, and `warn` is called with a text and the reason, once.
    """

    def __init__(self, codec: str, encoder: str | None, warn: Callable[[str, str], None]) -> None:
        self._codec = codec
        self._name = encoder or SOFTWARE[codec]
        self._warn = warn
        self._context: VideoCodecContext | None = None
        self._made_for = (0, 0)  # the size of pictures
        self._bitrate = self._ceiling = 0
        self._refusals = 0
        self.made = 0
        """How many times it was made: what comes from each starts with a key frame of its own."""

    @property
    def name(self) -> str:
        """Which encoder of FFmpeg it is."""
        return self._name

    def encode(self, frame: av.VideoFrame, *, key: bool, bitrate: int, most: int, held: bool = False) -> list[Unit]:
        """Encode a picture, which is written to (its picture type). `most`: what `bitrate` may ever be. `held`: a
        viewer cannot take more than `bitrate`, so that it counts for more than the number of pictures.

        Raises what FFmpeg raises, if the encoder in software refuses it, too. The next picture gets a new encoder.
        """
        while True:
            try:
                return self._encode(frame, key, bitrate, most, held)
            except (av.FFmpegError, ValueError, OSError) as error:
                # It may be half open, and libvpx crashes when such a one is used again.
                self._context = None
                if self._name == SOFTWARE[self._codec]:
                    raise
                self._refusals += 1
                if self._refusals >= _REFUSALS or not self.made:
                    self._warn(f"{self._name} cannot be used, so the encoder in software is", type(error).__name__)
                    self._name = SOFTWARE[self._codec]

    def _encode(self, frame: av.VideoFrame, key: bool, bitrate: int, most: int, held: bool) -> list[Unit]:
        context = self._context
        if context is None or (frame.width, frame.height) != self._made_for:
            context = self._open(frame.width, frame.height, bitrate, most, held)
        elif bitrate != self._bitrate:
            if self._name in _LIVE and bitrate <= self._ceiling:
                context.bit_rate = self._bitrate = bitrate
            else:
                context = self._open(frame.width, frame.height, bitrate, most, held)
        if context.pix_fmt is not None and context.pix_fmt != frame.format.name:
            pts, base = frame.pts, frame.time_base
            frame = frame.reformat(format=context.pix_fmt)
            frame.pts, frame.time_base = pts, base
        # What a camera calls a key frame is not ours to repeat: one that sends nothing else would have us do the same.
        frame.pict_type = PictureType.I if key else PictureType.NONE
        units = [
            Unit(bytes(packet), packet.is_keyframe, frame.pts or 0 if packet.pts is None else packet.pts)
            for packet in context.encode(frame)
        ]
        self._refusals = 0
        return units

    def _open(self, width: int, height: int, bitrate: int, most: int, held: bool) -> VideoCodecContext:
        self._context = None
        context = cast(VideoCodecContext, av.CodecContext.create(self._name, "w"))
        context.width, context.height = width, height
        context.pix_fmt = _pixel_format(context)
        context.time_base, context.framerate = Fraction(1, VIDEO_CLOCK), Fraction(_RATE)
        context.gop_size, context.max_b_frames = _NO_END, 0
        context.thread_count = _threads(width * height)
        # x264 goes up again as far as it was opened for. A larger bound would make its first pictures too large.
        self._ceiling = min(most, 2 * bitrate) if self._name in _LIVE else bitrate
        context.bit_rate = max(self._ceiling, bitrate)
        context.options = _options(self._name, context.bit_rate, bitrate)
        if self._name == "libvpx" and held:
            # What the way cannot carry is of no use: rather fewer pictures than more bits.
            context.options = {**context.options, "drop-threshold": "30"}
        if self._name == "libvpx":
            context.qmin, context.qmax = 2, 63
        context.open()
        context.bit_rate = self._bitrate = bitrate
        self._made_for = (width, height)
        self._context = context
        self.made += 1
        return context


def _options(name: str, ceiling: int, bitrate: int) -> dict[str, str]:
    # A lowest and a highest rate that are one make it a constant one.
    bounds = {"maxrate": str(ceiling), "bufsize": str(bitrate)}
    if name == "libvpx":
        return {
            **bounds,
            "minrate": str(ceiling),
            "deadline": "realtime",
            "cpu-used": "-16",
            "lag-in-frames": "0",
            "static-thresh": "1",
            "undershoot-pct": "100",
            "overshoot-pct": "15",
            "max-intra-rate": "450",  # per cent of a picture's part of the bitrate, for a key frame
        }
    if name == "libx264":
        shape = {"preset": "superfast", "tune": "zerolatency", "profile": "baseline", "sc_threshold": "0"}
        return {**bounds, **shape, "forced-idr": "1"}
    if name.endswith("_nvenc"):
        return {
            **bounds,
            "preset": "p2",
            "tune": "ull",
            "zerolatency": "1",
            "delay": "0",
            "rc": "cbr",
            "forced-idr": "1",
        }
    if name.endswith("_videotoolbox"):
        return {**bounds, "realtime": "1"}
    return bounds


def _pixel_format(context: VideoCodecContext) -> str:
    known = [each.name for each in context.codec.video_formats or ()]
    return "yuv420p" if not known or "yuv420p" in known else "nv12" if "nv12" in known else known[0]


def _threads(pixels: int) -> int:
    wanted = 1 if pixels <= 1280 * 720 else 2 if pixels <= 1920 * 1080 else 4
    return min(wanted, _CORES)


class AudioEncoder:
    """Makes one of the audio codecs of sound in s16 stereo at 48 kHz, 20 ms a frame."""

    def __init__(self, codec: str, bitrate: int | None) -> None:
        self._encode: Callable[[av.AudioFrame], list[bytes]]
        if codec == "opus":
            self.name = "libopus"
            self._encode = _opus(bitrate or SPEECH_AND_MUSIC)
        else:
            encoder = private.get_encoder(codec)
            self.name = codec.lower()
            self._encode = lambda frame: cast(list[bytes], encoder.encode(frame)[0])

    def encode(self, frame: av.AudioFrame) -> list[Unit]:
        """Encode 20 ms."""
        # Before it is encoded: it may get another time on its way.
        pts = frame.pts or 0
        return [Unit(data, True, pts + SAMPLES * number) for number, data in enumerate(self._encode(frame))]


def _opus(bitrate: int) -> Callable[[av.AudioFrame], list[bytes]]:
    context = cast(Any, av.CodecContext.create("libopus", "w"))
    context.bit_rate = max(6_000, min(510_000, bitrate))
    context.format, context.layout, context.sample_rate = "s16", "stereo", AUDIO_CLOCK
    context.time_base = Fraction(1, AUDIO_CLOCK)
    # Of ten levels of effort: half the work of the highest, and nobody hears it at this bitrate.
    context.options = {"application": "voip", "compression_level": "5"}
    return lambda frame: [bytes(packet) for packet in context.encode(frame)]


def level_of(frame: av.AudioFrame) -> int:
    """How loud 20 ms in s16 are, in dB below the loudest there can be: 0 to 127 (RFC 6465 section 4)."""
    # Each eighth sample tells as much, and takes an eighth of the time.
    samples = array.array("h", bytes(frame.planes[0]))[: frame.samples * 2 : 8]
    power = sum(map(operator.mul, samples, samples)) / max(1, len(samples))
    return 127 if power == 0 else min(127, max(0, round(-10 * math.log10(power / 32767**2))))
