"""What a remote peer tells of its media and its data channels, and what a data channel tells."""

from __future__ import annotations

from typing import Any, ClassVar

from metered_anyio.media_stream import MediaStream, StreamMetadata
from metered_proto.events import Event

# Unlike plain events, those with an object may be part of a cycle (whose handler keeps the event), hence gc=True.


class Track(Event, frozen=True, gc=True):
    """The remote sends a track. `streams` are the streams it belongs to: one, or none."""

    lasting: ClassVar[bool] = True

    track: Any
    streams: tuple[MediaStream, ...]
    metadata: StreamMetadata | None


class StreamAdded(Event, frozen=True, gc=True):
    """The first track of a stream is there. `metadata` is what the sender said about that track."""

    lasting: ClassVar[bool] = True

    stream: MediaStream
    metadata: StreamMetadata | None


class StreamRemoved(Event, frozen=True, gc=True):
    """The sender has taken back the last track of a stream. Never because a connection was replaced."""

    stream: MediaStream


class DataChannelOpened(Event, frozen=True, gc=True):
    """The remote opened a data channel: wrap `channel` in a `DataChannel`."""

    lasting: ClassVar[bool] = True

    channel: Any


class DCOpen(Event, frozen=True):
    """A data channel is open."""


class DCClose(Event, frozen=True):
    """A data channel is closed, whoever closed it. Nothing more will come."""


class DCError(Event, frozen=True, gc=True):
    """Something went wrong on a data channel."""

    err: Exception


class DCMessage(Event, frozen=True):
    """A message came over a data channel: text as `str`, bytes as `bytes`."""

    data: str | bytes
