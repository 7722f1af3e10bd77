"""Events that bring an object along: a peer, a track, a stream, a data channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metered_proto.events import Event

if TYPE_CHECKING:
    from metered_anyio.media_stream import MediaStream, StreamMetadata
    from metered_anyio.remote_peer import RemotePeer

# Unlike plain events these may be part of a cycle (a peer whose handler keeps the event), hence gc=True.


class PeerJoined(Event, frozen=True, gc=True):
    """Somebody else is in the room. Register on `peer` here for what it sends."""

    peer: RemotePeer


class PeerLeft(Event, frozen=True, gc=True):
    """Somebody has left the room, or has been away for too long. Its `peer` is `closed` for good."""

    peer: RemotePeer


class Track(Event, frozen=True, gc=True):
    """The remote sends a track. `streams` are the streams it belongs to: one, or none."""

    track: Any
    streams: tuple[MediaStream, ...]
    metadata: StreamMetadata | None


class StreamAdded(Event, frozen=True, gc=True):
    """The first track of a stream is there. `metadata` is what the sender said about that track."""

    stream: MediaStream
    metadata: StreamMetadata | None


class StreamRemoved(Event, frozen=True, gc=True):
    """The sender has taken back the last track of a stream. Never because a connection was replaced."""

    stream: MediaStream


class DataChannelOpened(Event, frozen=True, gc=True):
    """The remote opened a data channel: wrap `channel` in a `DataChannel`."""

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
