"""What sources and recordings tell: structs, as all events are."""

from __future__ import annotations

from typing import Any

from metered_proto.events import Event


class SourceLost(Event, frozen=True):
    """A source that reconnects gives nothing any more. `reason` is for people and holds no credentials."""

    reason: str


class SourceRestored(Event, frozen=True):
    """It gives frames again, in the same tracks. `away` is how many seconds it gave none, `attempts` how often it was
    opened meanwhile, the last time included."""

    away: float
    attempts: int


class SourceEnded(Event, frozen=True):
    """A source has come to its end, and its tracks have ended. `reason` is None for one that was simply over."""

    reason: str | None


class Played(Event, frozen=True):
    """The audio that was pushed with this marker has been sent whole; `at` is `played_seconds` at its end."""

    marker: Any
    at: float


class Cleared(Event, frozen=True):
    """The audio that was pushed with this marker was dropped by `clear()`, after `heard` seconds of it were sent."""

    marker: Any
    heard: float


class RecordingProgress(Event, frozen=True):
    """How far a recording is: `seconds` of media and `bytes` in the file at `path`, for the person `peer_id`."""

    path: str
    peer_id: str | None
    seconds: float
    bytes: int


class RecordingFinished(Event, frozen=True):
    """A file is complete and closed. `error` is None unless something was lost, and then what."""

    path: str
    peer_id: str | None
    seconds: float
    bytes: int
    error: str | None
