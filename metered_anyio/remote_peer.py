"""`RemotePeer`: somebody else in the room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakSet

from metered_anyio.data_channel import adopt, size_of
from metered_anyio.emitter import Emitter
from metered_anyio.emitting import Emitting
from metered_anyio.media_stream import MediaStream
from metered_anyio.remote_events import DataChannelOpened, StreamAdded, StreamRemoved, Track
from metered_proto.events import Event, StateChange
from metered_proto.rtc.words import (
    ChannelOptions,
    ChannelSeen,
    PeerState,
    StreamGone,
    StreamSeen,
    TrackGone,
    TrackSeen,
)

if TYPE_CHECKING:
    from metered_anyio.backend import Backend
    from metered_anyio.rtc.engine import ChannelHandle, ConnectionStats

LONGEST_LABEL: Final = 65_535
"""Bytes of a data channel's label, and of its subprotocol (RFC 8832, section 5.1)."""

MOST_UNHEARD: Final = 512
"""Events that are kept for whoever listens first; the oldest goes first."""


class Peerage(Protocol):
    """What a remote peer needs of its room."""

    def is_polite(self, peer_id: str) -> bool:
        """Whether we give way to it when both offer at once."""
        ...

    def connection(self, peer_id: str) -> Any:
        """The connection to it that is in use, or None."""
        ...

    def open_channel(self, peer_id: str, options: ChannelOptions) -> ChannelHandle:
        """Open a data channel to it."""
        ...

    def track(self, number: int) -> Any:
        """A received track."""
        ...

    def channel(self, number: int) -> ChannelHandle:
        """A data channel that it opened."""
        ...

    async def send_to(self, peer_id: str, data: Any) -> None:
        """Send it something over the relay."""
        ...

    async def connection_stats(self, peer_id: str) -> ConnectionStats | None:
        """Measure the connection to it."""
        ...


class Watcher(Protocol):
    """Who follows what a remote peer sends. See `RemotePeer.watch`."""

    def track_seen(self, track: Any) -> None:
        """It sends this track from now on."""
        ...

    def peer_gone(self) -> None:
        """It has left, or we have."""
        ...


class RemotePeer(Emitting):
    """A peer in the room: one object for as long as it is there, over all reconnects, its own and ours.

    It tells `StateChange`, `Track`, `StreamAdded`, `StreamRemoved`, `DataChannelOpened`, `ConnectionReset`,
    `NegotiationError` and `IceCandidateError`. A `Track`, `StreamAdded` or `DataChannelOpened` that nobody has
    listened to so far is kept for whoever does first, so that an async `PeerJoined` handler misses nothing; `tracks`
    and `streams` always have what there is.
    """

    def __init__(
        self, id: str, metadata: dict[str, Any] | None, room: Peerage, emitter: Emitter, backend: Backend
    ) -> None:
        self._id = id
        self._metadata = metadata
        self._room = room
        self._emitter = emitter
        self._backend = backend
        self._state: PeerState = "idle"
        self._tracks: dict[int, Any] = {}
        self._streams: dict[str, MediaStream] = {}
        self._new_stream: StreamAdded | None = None  # told as soon as its first track is in it
        self._channels: WeakSet[ChannelHandle] = WeakSet()
        self._heard: set[type[Event]] = set()  # what somebody has listened to
        self._unheard: deque[Event] = deque(maxlen=MOST_UNHEARD)
        self._telling_unheard = False
        self._watchers: list[Watcher] = []

    def __repr__(self) -> str:
        return f"<RemotePeer {self._id} {self._state}>"

    # --- what it is ---

    @property
    def id(self) -> str:
        """Its id, which the relay vouches for."""
        return self._id

    @property
    def metadata(self) -> dict[str, Any] | None:
        """What its token asserts about it, as of its latest presence."""
        return self._metadata

    @property
    def state(self) -> PeerState:
        """`idle`, `connecting`, `connected`, `reconnecting` or `closed`: how the connection to it is doing.

        It stays `idle` as long as neither side has media or a data channel for the other.
        """
        return self._state

    @property
    def polite(self) -> bool:
        """Whether we are the side that gives way when both offer at once. False once it has left."""
        return self._room.is_polite(self._id)

    @property
    def pc(self) -> Any:
        """The `RTCPeerConnection` of aiortc that is in use now, or None. Do not keep it: it may be replaced.

        On trio it lives in another thread.
        """
        return self._room.connection(self._id)

    @property
    def tracks(self) -> tuple[Any, ...]:
        """The tracks that it sends now."""
        return tuple(self._tracks.values())

    @property
    def streams(self) -> tuple[MediaStream, ...]:
        """The streams that it sends now."""
        return tuple(self._streams.values())

    async def stats(self) -> ConnectionStats | None:
        """How the connection to it is doing, measured now; None while there is none."""
        return await self._room.connection_stats(self._id)

    # --- what can be done ---

    async def send(self, data: Any) -> None:
        """Send `data`, any JSON value, to it alone, over the relay: `MeteredPeer.send_to` with its id."""
        await self._room.send_to(self._id, data)

    def create_data_channel(
        self,
        label: str,
        *,
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_packet_life_time: int | None = None,
        protocol: str = "",
    ) -> ChannelHandle:
        """Open a data channel to it, and return it for a `DataChannel` to go around.

        A connection is made if there is none, and the channel opens with it. `ordered` keeps messages in order; at
        most one of `max_retransmits` and `max_packet_life_time` (milliseconds) bounds how long a lost message is
        sent again; `protocol` names a subprotocol. A channel dies with its connection: make another when
        `ConnectionReset` is told.

        Raises `TypeError` or `ValueError` for bad arguments, `MeteredPeerStateError` (`invalid_state`) once it has
        left or we have, `WebRtcMissingError` without aiortc.
        """
        for name, value in (("label", label), ("protocol", protocol)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
            if size_of(name, value) > LONGEST_LABEL:
                raise ValueError(f"{name} must not be longer than {LONGEST_LABEL} bytes")
        if not isinstance(ordered, bool):
            raise TypeError(f"ordered must be a bool, not {type(ordered).__name__}")
        for name, bound in (("max_retransmits", max_retransmits), ("max_packet_life_time", max_packet_life_time)):
            if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int)):
                raise TypeError(f"{name} must be an int, not {type(bound).__name__}")
            if bound is not None and not 0 <= bound <= 0xFFFF:
                raise ValueError(f"{name} must be 0 to 65535, not {bound}")
        if max_retransmits is not None and max_packet_life_time is not None:
            raise ValueError("give max_retransmits or max_packet_life_time, not both")
        options = ChannelOptions(label, ordered, max_retransmits, max_packet_life_time, protocol)
        channel = self._home(self._room.open_channel(self._id, options))
        self._channels.add(channel)
        return channel

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Tell somebody of each track, those that are there first, until the function that this returns is called.

        For recorders and the like: unlike a handler for `Track` this leaves what nobody has listened to yet to those
        who will.
        """
        self._watchers.append(watcher)
        for track in self.tracks:
            watcher.track_seen(track)
        return lambda: self._watchers.remove(watcher) if watcher in self._watchers else None

    def _home(self, channel: ChannelHandle) -> ChannelHandle:
        adopt(channel, self._emitter)
        return channel

    # --- what its room has to say of it ---

    def update(self, metadata: dict[str, Any] | None) -> None:
        """Its token asserts something else now."""
        self._metadata = metadata

    def happened(self, event: Event) -> None:
        """Take in an event of its machine's and tell the application, as objects instead of numbers."""
        if self._new_stream is not None and not isinstance(event, TrackSeen):
            self._tell_stream()
        match event:
            case StateChange(_, to):
                self._state = to  # type: ignore[assignment]
                self._emitter.emit(event)
            case StreamSeen(stream_id, metadata):
                stream = self._streams[stream_id] = MediaStream.received(stream_id)
                self._new_stream = StreamAdded(stream, metadata)
            case TrackSeen(number, _, stream_id, metadata):
                self._track_seen(number, stream_id, metadata)
            case TrackGone(number):
                self._track_gone(number)
            case StreamGone(stream_id):
                self._stream_gone(stream_id)
            case ChannelSeen(number):
                self._tell(DataChannelOpened(self._home(self._room.channel(number))))
            case _:
                self._emitter.emit(event)

    def over(self) -> None:
        """It has left, or we have. Its streams of events end."""
        self._unheard.clear()
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.peer_gone()
        for channel in list(self._channels):
            channel.close()  # one that has never opened has no connection to end with
        self._emitter.end_streams()

    def _track_seen(self, number: int, stream_id: str | None, metadata: dict[str, Any] | None) -> None:
        track = self._tracks[number] = self._room.track(number)
        stream = None if stream_id is None else self._streams.get(stream_id)
        if stream is not None:
            stream.add_track(track)
        self._tell_stream()
        for watcher in tuple(self._watchers):
            watcher.track_seen(track)
        self._tell(Track(track, () if stream is None else (stream,), metadata))

    def _tell_stream(self) -> None:
        added, self._new_stream = self._new_stream, None
        if added is not None:
            self._tell(added)

    def _track_gone(self, number: int) -> None:
        track = self._tracks.pop(number, None)
        if track is None:
            return
        for stream in self._streams.values():
            stream.remove_track(track)
        self._forget(lambda kept: isinstance(kept, Track) and kept.track is track)

    def _stream_gone(self, stream_id: str) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._forget(lambda kept: isinstance(kept, StreamAdded) and kept.stream is stream)
            self._emitter.emit(StreamRemoved(stream))

    # --- what nobody has listened to yet ---

    def _tell(self, event: Event) -> None:
        if type(event) in self._heard and not self._telling_unheard:
            self._emitter.emit(event)
        else:
            self._unheard.append(event)

    def _forget(self, which: Callable[[Event], bool]) -> None:
        """What nobody has heard of is over already."""
        for kept in [kept for kept in self._unheard if which(kept)]:
            self._unheard.remove(kept)

    def _wanted(self, event_type: object) -> None:
        if not isinstance(event_type, type):
            return
        self._heard.update(kind for kind in (Track, StreamAdded, DataChannelOpened) if issubclass(kind, event_type))
        if not self._telling_unheard and any(type(kept) in self._heard for kept in self._unheard):
            # When whoever listens here has registered all handlers, so that they see it in the order in which it was.
            self._telling_unheard = True
            self._backend.call_soon(self._tell_unheard)

    def _tell_unheard(self) -> None:
        self._telling_unheard = False
        unheard = tuple(self._unheard)
        self._unheard.clear()
        for event in unheard:
            self._tell(event)
