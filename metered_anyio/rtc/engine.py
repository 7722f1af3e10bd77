"""What a room needs of whoever has the real peer connections, and how they are measured.

An engine carries out the orders of `metered_proto.rtc.words` and reports in its facts. There are two of them:
`AioEngine` lives in the application's asyncio loop, `ThreadEngine` in a thread of its own, for applications on trio.
All calls are made from the application's loop, and all callbacks arrive there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from metered_anyio.encoding import Encoding
from metered_proto.orders import Order
from metered_proto.rtc.words import ChannelOptions, Work

ReadyState: TypeAlias = Literal["connecting", "open", "closing", "closed"]


class LocalSource(Protocol):
    """A track of the application's own, as a sender needs it. aiortc's `MediaStreamTrack` is one.

    Its `recv` is called in the asyncio loop that the engine lives in, by one reader, and only while somebody is there
    to send to. It returns a frame or a packet of `av`. What it raises is taken for its end.
    """

    @property
    def kind(self) -> str:
        """`audio` or `video`."""
        ...

    @property
    def id(self) -> str:
        """The track's own id."""
        ...

    @property
    def readyState(self) -> str:  # noqa: N802 - the name it has in the W3C specification
        """`live` or `ended`."""
        ...

    async def recv(self) -> Any:
        """The next frame."""
        ...


class TimedSource(LocalSource, Protocol):
    """A source of sound that knows when its next frame is due. It need not wait by itself, in a task for each frame.

    Frames are of 100 ms at most. `recv` gives the same ones to whoever asks it instead.
    """

    def due_in(self) -> float | None:
        """Seconds until there is a frame, not positive if there is one; None: ask `recv`, the end is near."""
        ...

    def take_due(self) -> Any:
        """The frame that is due."""
        ...


class PacketSource(LocalSource, Protocol):
    """A source that gives encoded packets (`av.Packet`), which are sent as they are to remotes that take its codec.

    Whoever does not gets them decoded and encoded anew. A source is one of packets if it has a `codec` that is not
    None. It may go over to frames at any time, and back: each thing that `recv` gives is taken for what it is.

    H.264 is in Annex B form, one access unit a packet, with the parameter sets ahead of every key frame. VP8 and Opus
    are the bare frames. `is_keyframe`, `pts` and `time_base` are set, `pts` grows, and pictures are in the order in
    which they are shown.
    """

    @property
    def codec(self) -> str | None:
        """`H264`, `VP8` or `opus`; None as long as it gives frames."""
        ...

    def ask_key_frame(self) -> None:
        """A remote cannot go on without a key frame. A source that cannot make one does nothing."""
        ...


class ChannelHandle(Protocol):
    """A data channel. One object for as long as the channel is known, even if it moves to another connection.

    Callbacks are attributes that may be set at any time. Messages that came before `on_message` was set are kept for
    it, up to 1 MiB or 256 of them; beyond that the oldest go.
    """

    on_open: Callable[[], object] | None
    on_close: Callable[[], object] | None
    on_error: Callable[[Exception], object] | None
    on_drained: Callable[[], object] | None
    """The buffered amount has sunk to `low_threshold`."""

    @property
    def on_message(self) -> Callable[[str | bytes], object] | None:
        """Who gets the messages."""
        ...

    @on_message.setter
    def on_message(self, listener: Callable[[str | bytes], object] | None) -> None: ...

    @property
    def label(self) -> str:
        """The name it was opened with."""
        ...

    @property
    def protocol(self) -> str:
        """The subprotocol it was opened with."""
        ...

    @property
    def ordered(self) -> bool:
        """Whether messages arrive in the order in which they were sent."""
        ...

    @property
    def max_retransmits(self) -> int | None:
        """How often a lost message is sent again; None: until it arrives."""
        ...

    @property
    def max_packet_life_time(self) -> int | None:
        """For how many milliseconds a lost message is sent again; None: until it arrives."""
        ...

    @property
    def id(self) -> int | None:
        """The SCTP stream, once it is open."""
        ...

    @property
    def ready_state(self) -> str:
        """`connecting`, `open`, `closing` or `closed`."""
        ...

    @property
    def buffered_amount(self) -> int:
        """Bytes that were handed to `send` and have not left yet."""
        ...

    @property
    def low_threshold(self) -> int:
        """The buffered amount, in bytes, at which `on_drained` is called. 0 at first."""
        ...

    @low_threshold.setter
    def low_threshold(self, value: int) -> None: ...

    def send(self, data: str | bytes) -> None:
        """Send a message, at once. Raises `DataChannelClosedError` unless open, `ValueError` if it is larger than
        the remote takes."""
        ...

    def close(self) -> None:
        """Close. Idempotent."""
        ...


# --- statistics ---


@dataclass(frozen=True, slots=True)
class CandidateStats:
    """One end of the path that a connection uses. `address` and `port` are None where they are not known.

    `type` is `host`, `srflx`, `prflx` or `relay` (RFC 8445), `protocol` is `udp` or `tcp`.
    """

    type: str
    address: str | None
    port: int | None
    protocol: str


@dataclass(frozen=True, slots=True)
class TrackStats:
    """One track in one direction. What is not known is None; counts are since the connection was made.

    `key` is the room's number of a local track or of a received one, `mid` its media section, `codec` for example
    `VP8`. `frames` are those sent or received, and `frames_dropped` those left out because the encoder or the reader
    did not keep up. `packets_lost` counts packets that the receiving end missed, `jitter` is in seconds and
    `round_trip_time` too. `bitrate` is in bit/s, on average since anybody asked before (or since the connection was
    made).

    The rest is of what we send, and says how it is made. `key_frames` counts those that were sent, `encoder` is the
    name of FFmpeg's, `target_bitrate` what it is asked for in bit/s, and `shared` whether it is the same for everybody
    who takes this codec. With `passthrough` the source's own packets are sent, and there is no encoder.
    """

    kind: Literal["audio", "video"]
    direction: Literal["send", "receive"]
    mid: str | None
    key: int | None
    codec: str | None
    frames: int
    frames_dropped: int
    packets: int
    bytes: int
    packets_lost: int | None
    jitter: float | None
    round_trip_time: float | None
    bitrate: float | None
    key_frames: int = 0
    encoder: str | None = None
    target_bitrate: int | None = None
    shared: bool = False
    passthrough: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionStats:
    """One peer connection. `state` is that of `RTCPeerConnection`, with `new` before anything was done.

    `local` and `remote` are the two ends of the path in use, None as long as there is none. `round_trip_time` is in
    seconds, as RTCP measured it last (or SCTP, if no track is sent), None as long as neither did. Bytes are those on
    the wire, without UDP and IP.
    """

    state: str
    local: CandidateStats | None
    remote: CandidateStats | None
    round_trip_time: float | None
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    tracks: tuple[TrackStats, ...]


class Engine(Protocol):
    """Who has the real peer connections."""

    def perform(self) -> Mapping[type[Order], Callable[[Any], None]]:
        """What to do for each order. Each returns at once, and none raises."""
        ...

    async def work(self, work: Work) -> Any:
        """Do what a `Begin` carries. Raises `PeerConnectionError`."""
        ...

    def offer_track(self, key: int, track: LocalSource, encoding: Encoding) -> None:
        """Make a track of the application known under the room's number for it, before the room names it.

        `encoding` says how it is to be sent."""
        ...

    def withdraw_track(self, key: int) -> None:
        """Nobody wants that track any more: let go of it. It is not stopped."""
        ...

    def track(self, number: int) -> Any:
        """The received track of a `TakeTrack`: `id`, `kind`, `readyState`, `await recv()`, `stop()`."""
        ...

    def channel(self, number: int) -> ChannelHandle:
        """The data channel of an `OpenChannel` or a `ChannelArrived`."""
        ...

    def create_channel(self, number: int, options: ChannelOptions) -> ChannelHandle:
        """The data channel of an `OpenChannel` that is still to be ordered: there may be no connection yet."""
        ...

    def connection(self, pc: int) -> Any:
        """The `aiortc.RTCPeerConnection` of a number, or None if it is not there (any more)."""
        ...

    async def stats(self, pc: int) -> ConnectionStats:
        """Measure a connection. Raises `PeerConnectionError` if it is not there."""
        ...

    async def aclose(self) -> None:
        """Close everything, within a second. Nothing is left: no task, no thread, no socket."""
        ...

    @property
    def on_track_ended(self) -> Callable[[int], object] | None:
        """Called with the number of a local track whose source has come to its end, once, if it is being sent."""
        ...

    @on_track_ended.setter
    def on_track_ended(self, listener: Callable[[int], object] | None) -> None: ...
