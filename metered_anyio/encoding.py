"""How a track of ours is to be encoded: `Encoding`, what the options of `add_track` become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

CodecName: TypeAlias = Literal["VP8", "H264", "opus", "PCMU", "PCMA", "G722"]
"""A codec by the name of its RTP payload format (RFC 7741, 6184, 7587, 3551)."""

VIDEO_CODECS: Final = ("VP8", "H264")
AUDIO_CODECS: Final = ("opus", "PCMU", "PCMA", "G722")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How one track is encoded. Everything may be left to us.

    `codec` is offered first and asked for first; a remote that does not know it gets what it knows. None: the
    remote's order, or for a source of packets the codec they are in. `max_bitrate` is in bit/s for one viewer,
    `max_fps` in frames a second, `max_height` in pixels (the width follows, both stay even). `encoder` names an
    encoder of FFmpeg for `codec`, for example `libx264`, `h264_v4l2m2m` or `h264_nvenc`; None: software. With
    `shared` a track is encoded once for each codec, however many remotes there are; without, once for each remote,
    which then gets just what its own link can carry.

    Raises `TypeError` or `ValueError` for what cannot be.
    """

    codec: CodecName | None = None
    max_bitrate: int | None = None
    max_fps: float | None = None
    max_height: int | None = None
    encoder: str | None = None
    shared: bool = True

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in VIDEO_CODECS + AUDIO_CODECS:
            raise ValueError(f"codec must be one of {', '.join(VIDEO_CODECS + AUDIO_CODECS)}, not {self.codec!r}")
        _check("max_bitrate", self.max_bitrate, int, 6_000, 100_000_000)
        _check("max_fps", self.max_fps, (int, float), 0.1, 240)
        _check("max_height", self.max_height, int, 16, 8192)
        if self.encoder is not None and not isinstance(self.encoder, str):
            raise TypeError(f"encoder must be a str, not {type(self.encoder).__name__}")
        if not isinstance(self.shared, bool):
            raise TypeError(f"shared must be a bool, not {type(self.shared).__name__}")


def encoding_for(
    kind: str,
    *,
    codec: str | None = None,
    max_bitrate: int | None = None,
    max_fps: float | None = None,
    max_height: int | None = None,
    encoder: str | None = None,
    encode_once: bool = True,
) -> Encoding:
    """The options of `MeteredPeer.add_track` for a track of `kind`, checked. An encoder stands for its codec, too.

    Raises `TypeError` or `ValueError` for what cannot be.
    """
    if not isinstance(encode_once, bool):
        raise TypeError(f"encode_once must be a bool, not {type(encode_once).__name__}")
    encoding = Encoding(
        codec=codec,  # type: ignore[arg-type]  # which it checks
        max_bitrate=max_bitrate,
        max_fps=max_fps,
        max_height=max_height,
        encoder=encoder,
        shared=encode_once,
    )
    if kind == "audio":
        for name, value in (("max_fps", max_fps), ("max_height", max_height), ("encoder", encoder)):
            if value is not None:
                raise ValueError(f"{name} is for video, and the track is audio")
    if encoder is not None:
        made = _codec_of(encoder)
        if codec is not None and codec != made:
            raise ValueError(f"encoder {encoder!r} makes {made}, not {codec}")
        encoding = replace(encoding, codec=made)
    if encoding.codec is not None and (encoding.codec in VIDEO_CODECS) != (kind == "video"):
        raise ValueError(f"codec {encoding.codec} is not for {kind}")
    return encoding


def _codec_of(encoder: str) -> CodecName:
    """The codec that an encoder of FFmpeg makes. Says nothing of whether there is a device for it."""
    import av

    try:
        found = av.Codec(encoder, "w")
    except ValueError:
        raise ValueError(f"encoder {encoder!r} is none of this FFmpeg") from None
    name = _BY_FFMPEG.get(found.canonical_name)
    if name is None:
        raise ValueError(f"encoder {encoder!r} makes {found.canonical_name}, which cannot be sent")
    return name


_BY_FFMPEG: Final[dict[str, CodecName]] = {"vp8": "VP8", "h264": "H264"}


def _check(name: str, value: object, kinds: type | tuple[type, ...], least: float, most: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kinds):
        wanted = "an int" if kinds is int else "a number"
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")
    if not least <= value <= most:  # type: ignore[operator]  # a number, as was just seen
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")
