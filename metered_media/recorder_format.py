"""The kinds of files that are recorded: which suffix means what, and what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Suffix: TypeAlias = Literal["mp4", "webm", "mkv", "wav"]
Kind: TypeAlias = Literal["audio", "video"]

RATES: Final = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Samples a second that every one of our encoders takes."""

LARGEST: Final = 4096
"""Pixels of the longer side of a recorded picture."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file. Codecs are named as FFmpeg names its encoders; `video` is empty if there are no pictures.

    `options` are those of FFmpeg's muxer: they make it write often, and leave nothing to be written at the end without
    which the file could not be played.
    """

    suffix: Suffix
    audio: tuple[str, ...]
    video: tuple[str, ...]
    options: Mapping[str, str]


_OFTEN: Final = {"flush_packets": "1"}
_MATROSKA: Final = _OFTEN | {"cluster_time_limit": "1000"}

FORMATS: Final[Mapping[str, Format]] = {
    # `delay_moov` rather than `empty_moov`: with it the header says how many samples of AAC are to be left out.
    "mp4": Format(
        "mp4",
        ("aac",),
        ("libx264",),
        _OFTEN | {"movflags": "frag_keyframe+delay_moov+default_base_moof", "frag_duration": "1000000"},
    ),
    "webm": Format("webm", ("libopus",), ("libvpx",), _MATROSKA),
    "mkv": Format("mkv", ("libopus",), ("libx264", "libvpx"), _MATROSKA),
    "wav": Format("wav", ("pcm_s16le",), (), {}),
}

VIDEO_CODECS: Final = {"H264": "libx264", "VP8": "libvpx"}
"""The encoder of each codec's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOptions:
    """What `record` was asked for. See there.

    Raises `TypeError` or `ValueError` for what cannot be.
    """

    audio: bool = True
    video: bool = True
    video_codec: str | None = None
    video_bitrate: int | None = None
    audio_bitrate: int | None = None
    size: tuple[int, int] | None = None
    sample_rate: int = 48_000
    layout: str = "stereo"
    max_files: int = 1000
    kinds: frozenset[Kind] = field(init=False)
    """What is wanted of `audio` and `video`."""

    def __post_init__(self) -> None:
        for name in ("audio", "video"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, not {type(getattr(self, name)).__name__}")
        if not (self.audio or self.video):
            raise ValueError("with neither audio nor video there is nothing to record")
        if self.video_codec is not None and self.video_codec not in VIDEO_CODECS:
            raise ValueError(f"video_codec must be one of {', '.join(VIDEO_CODECS)}, not {self.video_codec!r}")
        _whole("video_bitrate", self.video_bitrate, 10_000, 100_000_000)
        _whole("audio_bitrate", self.audio_bitrate, 6_000, 512_000)
        _whole("max_files", self.max_files, 1, 1_000_000)
        if self.sample_rate not in RATES:
            raise ValueError(f"sample_rate must be one of {', '.join(map(str, RATES))}, not {self.sample_rate!r}")
        if self.layout not in ("mono", "stereo"):
            raise ValueError(f"layout must be mono or stereo, not {self.layout!r}")
        if self.size is not None:
            if not (isinstance(self.size, tuple) and len(self.size) == 2):
                raise TypeError("size must be a width and a height")
            for side in self.size:
                _whole("size", side, 16, LARGEST)
        audio: frozenset[Kind] = frozenset({"audio"} if self.audio else ())
        video: frozenset[Kind] = frozenset({"video"} if self.video else ())
        object.__setattr__(self, "kinds", audio | video)

    def of(self, format: Format) -> frozenset[Kind]:
        """What of it such a file can hold."""
        return self.kinds if format.video else self.kinds - {"video"}

    def encoder(self, format: Format) -> str:
        """The encoder of its pictures. Raises `ValueError` if such a file does not hold that codec."""
        if self.video_codec is None:
            return format.video[0]
        name = VIDEO_CODECS[self.video_codec]
        if name not in format.video:
            raise ValueError(f"a {format.suffix} file does not hold {self.video_codec}")
        return name


def recorded_size(width: int, height: int) -> tuple[int, int]:
    """The size in which pictures of such a size are recorded: even, and neither tiny nor huge."""
    scale = min(1.0, LARGEST / max(width, height, 1))
    return max(16, int(width * scale) & ~1), max(16, int(height * scale) & ~1)


def usual_bitrate(width: int, height: int) -> int:
    """Bits a second that are enough for pictures of that size at 30 a second, in VP8."""
    return max(150_000, min(8_000_000, round(width * height * 3.5)))


def _whole(name: str, value: object, least: int, most: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")
