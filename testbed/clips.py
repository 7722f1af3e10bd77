"""Media files with known content: every picture carries its number, every sound is one tone.

clip(folder, "h264_aac")                   one of the table below, made once a folder
long_clip(folder, seconds=120)             for measurements: ten seconds of moving noise, repeated without encoding
write(path, video=Pictures(...), audio=Tone(...), seconds=2)
"""

from __future__ import annotations

import fractions
import heapq
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

BITS: Final = 16
"""Pictures are numbered modulo two to the power of this."""

BLACK, WHITE = 16, 235


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A video stream. `gop` is the distance of key frames and `b_frames` how many go between two others; `bitrate` in
    bit/s, None: as good as it gets quickly. `noise` makes pictures that cost something to encode."""

    codec: str = "libx264"
    size: tuple[int, int] = (320, 240)
    rate: fractions.Fraction | int = 30
    format: str = "yuv420p"
    gop: int = 30
    b_frames: int = 0
    bitrate: int | None = None
    noise: bool = False
    first: int = 0
    options: dict[str, str] = field(default_factory=dict)
    pace: Callable[[int], float] | None = None
    """Seconds at which a picture is shown, for streams without a constant rate."""


@dataclass(frozen=True, kw_only=True)
class Tone:
    """An audio stream: a sine of `frequency` Hz."""

    codec: str = "aac"
    rate: int = 48_000
    layout: str = "stereo"
    frequency: float = 440.0


def picture(number: int, size: tuple[int, int], *, noise: bool = False) -> av.VideoFrame:
    """A picture in yuv420p: its number in `BITS` fields at the top, below a square that moves through grey."""
    width, height = size
    luma = np.full((height, width), 110, np.uint8)
    head = max(2, height // 8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        luma[:head, left:right] = WHITE if number >> bit & 1 else BLACK
    if noise:
        grains = np.random.default_rng(number % 64).integers(60, 200, (height // 8, width // 8), np.uint8)
        block = np.kron(grains, np.ones((8, 8), np.uint8))
        luma[2 * head : 2 * head + block.shape[0] // 2, : block.shape[1]] = block[: block.shape[0] // 2]
    side = max(4, height // 6)
    left = number * 5 % max(1, width - side)
    luma[height - side :, left : left + side] = 220
    chroma = ((height + 1) // 2, (width + 1) // 2)
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, pixels in zip(
        frame.planes, (luma, np.full(chroma, 100, np.uint8), np.full(chroma, 160, np.uint8)), strict=True
    ):
        rows, wide = pixels.shape
        padded = np.zeros((rows, plane.line_size), np.uint8)
        padded[:, :wide] = pixels
        plane.update(padded.tobytes())
    return frame


def number_of(frame: av.VideoFrame) -> int:
    """The number that a picture carries, also after it was encoded and scaled."""
    gray = frame.reformat(format="gray").to_ndarray()
    height, width = gray.shape
    row = max(1, height // 8) // 2
    number = 0
    for bit in range(BITS):
        middle = (2 * bit + 1) * width // (2 * BITS)
        if gray[max(0, row - 1) : row + 2, middle - 1 : middle + 2].mean() > (BLACK + WHITE) / 2:
            number |= 1 << bit
    return number


def write(
    path: Path,
    *,
    video: Pictures | None = None,
    audio: Tone | None = None,
    seconds: float = 2.0,
    format: str | None = None,
    start: float = 0.0,
) -> Path:
    """Make a file. `start` is the time of the first picture and of the first sample."""
    with av.open(str(path), "w", format=format) as output:
        parts: list[Iterator[tuple[float, Any]]] = []
        if video is not None:
            parts.append(_pictures(output, video, seconds, start))
        if audio is not None:
            parts.append(_tone(output, audio, seconds, start))
        # In the order of time, as a camera would write them.
        for _, packets in heapq.merge(*parts, key=operator.itemgetter(0)):
            output.mux(packets)
    return path


def _pictures(output: Any, what: Pictures, seconds: float, start: float) -> Iterator[tuple[float, Any]]:
    stream = output.add_stream(what.codec, rate=what.rate)
    stream.width, stream.height = what.size
    stream.pix_fmt = what.format
    coder = stream.codec_context
    coder.gop_size = what.gop
    clock = fractions.Fraction(1, 90_000) if what.pace else 1 / fractions.Fraction(what.rate)
    coder.time_base = clock
    if what.codec.startswith("libx264"):
        coder.max_b_frames = what.b_frames
        coder.options = {"preset": "ultrafast", "bf": str(what.b_frames), "b-adapt": "0", "sc_threshold": "0"}
    elif what.codec == "libvpx":
        coder.options = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0", "lag-in-frames": "0"}
    if what.codec == "mjpeg":
        coder.color_range = 2
    coder.options |= what.options
    if what.bitrate is not None:
        coder.bit_rate = what.bitrate
    for number in range(round(seconds * what.rate)):
        at = what.pace(number) if what.pace else number / float(what.rate)
        frame = picture(what.first + number, what.size, noise=what.noise)
        if what.format != "yuv420p":
            frame = frame.reformat(format=what.format)
        frame.pts, frame.time_base = round((start + at) / clock), clock
        yield start + at, stream.encode(frame)
    yield start + seconds, stream.encode(None)


def _tone(output: Any, what: Tone, seconds: float, start: float) -> Iterator[tuple[float, Any]]:
    stream = output.add_stream(what.codec, rate=what.rate, layout=what.layout)
    coder = stream.codec_context
    coder.open()
    size = coder.frame_size or 1024
    channels = 1 if what.layout == "mono" else 2
    total, made = round(seconds * what.rate), 0
    while made < total:
        count = min(size, total - made)
        moments = (np.arange(made, made + count) * (2 * math.pi * what.frequency / what.rate)).astype(np.float64)
        samples = np.tile((np.sin(moments) * 8000).astype(np.int16)[:, None], (1, channels)).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=what.layout)
        frame.sample_rate = what.rate
        frame.pts, frame.time_base = round(start * what.rate) + made, fractions.Fraction(1, what.rate)
        packets: list[Any] = []
        # The resampler stands between, because each encoder wants a format of its own.
        resampler = av.AudioResampler(format=coder.format.name, layout=what.layout, rate=what.rate)
        for each in resampler.resample(frame):
            packets += stream.encode(each)
        yield start + made / what.rate, packets
        made += count
    yield start + seconds, stream.encode(None)


# --- what there is by name ---


@dataclass(frozen=True)
class _Recipe:
    suffix: str
    video: Pictures | None = None
    audio: Tone | None = None
    seconds: float = 2.0
    start: float = 0.0


_NTSC: Final = fractions.Fraction(24_000, 1001)

CLIPS: Final = {
    "h264": _Recipe(".mp4", Pictures()),
    "h264_b": _Recipe(".mp4", Pictures(b_frames=2)),
    "h264_422": _Recipe(".mp4", Pictures(format="yuv422p")),
    "h264_444": _Recipe(".mp4", Pictures(format="yuv444p")),
    "h264_interlaced": _Recipe(".mp4", Pictures(options={"x264-params": "interlaced=1:bframes=0"})),
    "h264_aac": _Recipe(".mp4", Pictures(), Tone(rate=44_100)),
    "h264_opus": _Recipe(".mkv", Pictures(), Tone(codec="libopus")),
    "h264_ts": _Recipe(".ts", Pictures(), Tone(), start=10.0),
    "h264_high": _Recipe(".mp4", Pictures(options={"profile": "high", "preset": "veryfast"})),
    "mpeg4": _Recipe(".mp4", Pictures(codec="mpeg4")),
    "vp8": _Recipe(".webm", Pictures(codec="libvpx", bitrate=800_000)),
    "vp8_opus": _Recipe(".webm", Pictures(codec="libvpx", bitrate=800_000), Tone(codec="libopus")),
    "vp8_odd": _Recipe(".webm", Pictures(codec="libvpx", size=(321, 243), rate=_NTSC, bitrate=800_000)),
    "mjpeg": _Recipe(".avi", Pictures(codec="mjpeg", format="yuvj420p")),
    "h264_slow": _Recipe(".mp4", Pictures(rate=7)),
    "h264_vfr": _Recipe(".mkv", Pictures(pace=lambda number: number / 30 + (0.2 if number >= 20 else 0.0))),
    "aac": _Recipe(".m4a", audio=Tone()),
    "aac_mono_44100": _Recipe(".m4a", audio=Tone(rate=44_100, layout="mono")),
    "opus": _Recipe(".ogg", audio=Tone(codec="libopus")),
    "wav_mono_8000": _Recipe(".wav", audio=Tone(codec="pcm_s16le", rate=8_000, layout="mono")),
}
"""320x240 at 30 a second and 48 kHz stereo, unless the name says otherwise; two seconds."""


def clip(folder: Path, name: str) -> Path:
    """The file of that name in `folder`, made if it is not there yet."""
    recipe = CLIPS[name]
    path = folder / f"{name}{recipe.suffix}"
    if not path.exists():
        made = folder / f"making-{path.name}"
        write(made, video=recipe.video, audio=recipe.audio, seconds=recipe.seconds, start=recipe.start)
        made.rename(path)
    return path


def b_frames_later(folder: Path) -> Path:
    """An MPEG-TS of one second without B-frames and one with, as from a camera whose settings were changed."""
    path = folder / "b_frames_later.ts"
    if not path.exists():
        plain = write(folder / "plain.mp4", video=Pictures(), seconds=1)
        with_b = write(folder / "with_b.mp4", video=Pictures(b_frames=2, first=30), seconds=1)
        _join(path, [plain, with_b], 1)
    return path


def long_clip(
    folder: Path,
    *,
    size: tuple[int, int] = (640, 480),
    rate: int = 30,
    seconds: float = 120,
    codec: str = "libx264",
    bitrate: int = 1_200_000,
    gop: int = 60,
) -> Path:
    """A long file without B-frames and without sound, of noise and movement: `codec` is `libx264` (an mp4), `libvpx`
    (a webm) or `mjpeg` (an avi, which is decoded at next to no cost). Ten seconds are encoded and then repeated."""
    suffix = {"libx264": ".mp4", "libvpx": ".webm", "mjpeg": ".avi"}[codec]
    path = folder / f"{codec}-{size[0]}x{size[1]}-{rate}-{bitrate}-{gop}-{seconds:.0f}s{suffix}"
    if not path.exists():
        what = Pictures(
            codec=codec,
            size=size,
            rate=rate,
            bitrate=bitrate,
            gop=gop,
            noise=True,
            format="yuvj420p" if codec == "mjpeg" else "yuv420p",
            options={"maxrate": str(bitrate), "bufsize": str(bitrate)} if codec != "mjpeg" else {},
        )
        short = write(folder / f"ten-{path.name}", video=what, seconds=10)
        made = folder / f"making-{path.name}"
        _join(made, [short], math.ceil(seconds / 10))
        made.rename(path)
    return path


def _join(path: Path, parts: list[Path], times: int) -> None:
    """Write the packets of files of one video stream one after the other, without encoding them anew."""
    with av.open(str(path), "w") as output:
        stream: Any = None
        ahead = fractions.Fraction(0)
        for part in parts * times:
            with av.open(str(part)) as source:
                origin = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(origin)
                # Files in MPEG-TS carry their parameter sets in the stream, and may change them.
                annex_b = av.BitStreamFilterContext("h264_mp4toannexb", origin) if path.suffix == ".ts" else None
                first, end = None, fractions.Fraction(0)
                for packet in source.demux(origin):
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue
                    for each in annex_b.filter(packet) if annex_b else [packet]:
                        base = origin.time_base
                        assert base is not None
                        assert each.pts is not None
                        assert each.dts is not None
                        first = each.dts if first is None else first
                        shift = round(ahead / base) - first
                        shown = each.pts + shift
                        each.pts, each.dts = shown, each.dts + shift
                        end = max(end, (shown + (each.duration or 0)) * base)
                        each.time_base = base
                        each.stream = stream
                        output.mux(each)
                ahead = end
