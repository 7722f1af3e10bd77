"""What goes wrong with media, below the one root of `metered_proto.errors`.

    MeteredRealtimeError
    ├── SourceOpenError         a file, camera or device could not be opened: source, code, reason
    ├── PassthroughError        packets cannot be sent as they are: code, reason
    ├── RecordingError          a recording cannot be written: path, reason
    └── SnapshotError           there is no picture: code, reason

Codes and fields are stable, messages are for people. Neither holds the user name and password of a URL.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from metered_proto.errors import MeteredRealtimeError

OpenFailure: TypeAlias = Literal[
    "not_found",
    "no_device",
    "not_allowed",
    "refused",
    "unauthorized",
    "timed_out",
    "unreachable",
    "unreadable",
    "no_media",
    "failed",
]
"""Why a source did not open: no such file or stream; no such device; a protocol that was not allowed; the other end
refused the connection; wants other credentials; said nothing in time; cannot be reached; no media that can be read; it
has neither sound nor picture; anything else, with FFmpeg's words in `reason`."""

PassthroughFailure: TypeAlias = Literal["codec", "b_frames", "profile", "parameter_sets", "interlaced"]
"""Why packets cannot be sent as they are: no codec that WebRTC carries; pictures out of order; a profile or pixel
format that no browser takes; no parameter sets to be found; fields instead of frames."""


class SourceOpenError(MeteredRealtimeError):
    """A source could not be opened. `source` is what was asked for, without credentials."""

    fields = ("source", "code", "reason")

    def __init__(self, source: str, code: OpenFailure, reason: str) -> None:
        super().__init__(f"{source} cannot be opened: {reason} ({code})")
        self.source = source
        self.code = code
        self.reason = reason


class PassthroughError(MeteredRealtimeError):
    """What a source has cannot be sent without being encoded anew."""

    fields = ("code", "reason")

    def __init__(self, code: PassthroughFailure, reason: str) -> None:
        super().__init__(f"cannot be sent as it is: {reason} ({code})")
        self.code = code
        self.reason = reason


class RecordingError(MeteredRealtimeError):
    """A recording cannot be written."""

    fields = ("path", "reason")

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be recorded to: {reason}")
        self.path = path
        self.reason = reason


class SnapshotError(MeteredRealtimeError):
    """A track gave no picture: `timed_out`, or `ended`."""

    fields = ("code", "reason")

    def __init__(self, code: Literal["timed_out", "ended"], reason: str) -> None:
        super().__init__(f"there is no picture: {reason} ({code})")
        self.code = code
        self.reason = reason
