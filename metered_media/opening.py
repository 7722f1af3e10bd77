"""Opens what FFmpeg reads, within a time, and says in our own words why it could not. Blocks: for threads."""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, field
from typing import Any, Final

import av

from metered_media.errors import OpenFailure, SourceOpenError
from metered_media.readable import Readable

_ERRNO: Final[dict[int, OpenFailure]] = {
    errno.ENOENT: "not_found",
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timed_out",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.ECONNRESET: "unreachable",
    errno.EPIPE: "unreachable",
    errno.EACCES: "unreadable",
    errno.EISDIR: "unreadable",
    errno.ENODEV: "no_device",
    errno.ENXIO: "no_device",
}

_NAMES: Final[dict[str, OpenFailure]] = {
    "HTTPNotFoundError": "not_found",
    "HTTPUnauthorizedError": "unauthorized",
    "HTTPForbiddenError": "unauthorized",
    "InvalidDataError": "unreadable",
    "DemuxerNotFoundError": "unreadable",
    "ProtocolNotFoundError": "not_allowed",
    "ExitError": "timed_out",
}
"""What FFmpeg's errors without a number of the system mean."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a source is read from.

    `target` is for FFmpeg: an address or a `Readable`. `shown` is what people see of it, without credentials.
    `kind` is `file`, `network` or `device`. `restricted`: only certain containers and protocols were allowed.
    """

    target: Any
    shown: str
    kind: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    restricted: bool = False

    def __repr__(self) -> str:
        return f"<Origin {self.kind} {self.shown}>"


def open_container(origin: Origin, timeout: float, read_timeout: float | None) -> Any:
    """An `av` container for reading. Raises `SourceOpenError`, after `timeout` seconds at the latest, or twice that if
    it says just enough to be read on. A read ends after `read_timeout`."""
    began = time.monotonic()
    options = dict(origin.options)
    if origin.kind == "network":
        # Where FFmpeg waits without looking at our own clock.
        options.setdefault("timeout", str(round(timeout * 1_000_000)))
    target = origin.target
    container: Any = None
    failure: SourceOpenError | None = None
    limits: Any = None if origin.kind == "file" else (timeout, read_timeout)
    try:
        if isinstance(target, Readable):
            target.rewind()
            target = target.for_ffmpeg()
        container = av.open(target, format=origin.format, options=options, timeout=limits)
    except Exception as error:
        failure = explain(origin, error, time.monotonic() - began, timeout)
    # Raised here, where it has no context: what FFmpeg says about an address has it whole.
    if failure is not None:
        raise failure
    if not any(stream.codec_context is not None for stream in (*container.streams.audio, *container.streams.video)):
        container.close()
        raise SourceOpenError(origin.shown, "no_media", "it has neither sound nor pictures that can be decoded")
    return container


def explain(origin: Origin, error: Exception, took: float, timeout: float) -> SourceOpenError:
    """The error that our callers get for one of FFmpeg's."""
    number = getattr(error, "errno", None)
    code: OpenFailure = _ERRNO.get(number or 0) or _NAMES.get(type(error).__name__) or "failed"
    said = getattr(error, "strerror", None) or type(error).__name__
    if origin.kind != "file" and took >= 0.9 * timeout and code in ("failed", "unreadable", "timed_out"):
        # However FFmpeg calls it when it was interrupted.
        return SourceOpenError(origin.shown, "timed_out", f"nothing to be read came within {timeout:g} s")
    if number == errno.EINVAL and origin.restricted:
        return SourceOpenError(
            origin.shown, "not_allowed", "its container is none of those that are read, or it refers to elsewhere"
        )
    if number == errno.EIO and origin.kind == "network":
        return SourceOpenError(origin.shown, "unreachable", "its host cannot be found or hung up")
    if origin.kind == "device" and code in ("not_found", "failed"):
        code = "no_device"
    return SourceOpenError(origin.shown, code, said)
