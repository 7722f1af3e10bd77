"""The words between a peer machine, its room, and whoever has the real peer connections (the engine).

A **connection** is one RTCPeerConnection, known by a number (`pc`) that is used once: a connection that is made anew
gets a new number, so whatever an old one still reports changes nothing. The machine numbers everything it brings into
being (connections, effects, its own data channels, received tracks); the engine numbers the data channels that the
remote opened.

An engine keeps the operations on one connection in the order in which they were ordered.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from metered_proto.events import Event, IceServer
from metered_proto.facts import Fact
from metered_proto.orders import Order
from metered_proto.wire.signals import Candidate, Signal, TrackKind

PeerState: TypeAlias = Literal["idle", "connecting", "connected", "reconnecting", "closed"]
"""What the application sees of a remote peer."""

ConnectionState: TypeAlias = Literal["connecting", "connected", "disconnected", "failed", "closed"]
"""What an engine says of a connection (W3C WebRTC, RTCPeerConnectionState, without `new`)."""

SectionKind: TypeAlias = Literal["audio", "video", "application"]
"""What a media section of a description is for (RFC 8866, section 5.14)."""


class LocalTrack(msgspec.Struct, frozen=True):
    """A track of ours. `key` is the room's number for it, `track_id` the id on the wire (the msid's).

    A track that is replaced keeps its place at the remote, so the new one takes over nothing but the sender: see
    `SwapTrack`.
    """

    key: int
    kind: TrackKind
    track_id: str
    stream_id: str | None = None
    metadata: dict[str, Any] | None = None


class ChannelOptions(msgspec.Struct, frozen=True):
    """What a data channel is made with (RFC 8832). `max_packet_life_time` is milliseconds."""

    label: str
    ordered: bool = True
    max_retransmits: int | None = None
    max_packet_life_time: int | None = None
    protocol: str = ""


# --- facts: from the room ---


class SignalCame(Fact, frozen=True):
    """The remote sent a signal over the relay. In the order in which they were sent."""

    signal: Signal


# LinkUp(0) / LinkDown(0, …): the way to the remote over the relay is there, or not. Signals that are sent without it
# are lost, and a machine that was told it is back says again what may not have arrived.


# --- facts: from the engine ---


class ConnectionChanged(Fact, frozen=True):
    """A connection is in another state. After `closed` nothing more is heard of it."""

    pc: int
    state: ConnectionState


class CandidateGathered(Fact, frozen=True):
    """A local candidate that is not in the description yet; None: there will be no more (RFC 8838)."""

    pc: int
    candidate: Candidate | None


class ChannelArrived(Fact, frozen=True):
    """The remote opened a data channel. `channel` is the engine's number for it."""

    pc: int
    channel: int


class ChannelOpened(Fact, frozen=True):
    """A data channel of ours is open."""

    channel: int


class ChannelClosed(Fact, frozen=True):
    """A data channel of ours has closed, whoever closed it."""

    channel: int


class CandidateFailed(Fact, frozen=True):
    """A candidate of the remote could not be used, or gathering had a problem that is worth telling."""

    pc: int
    error: Exception


# --- calls: from the room (each in an `Asked`, each answered once) ---


class RtcCall(msgspec.Struct, frozen=True, tag=True):
    """The base of what a room can ask of a peer machine."""


class SetTracks(RtcCall, frozen=True):
    """These are our tracks now, in this order. Answered at once; the machine sees to it that the remote gets them."""

    tracks: tuple[LocalTrack, ...]


class SwapTrack(RtcCall, frozen=True):
    """Send `new` where `old` was sent, without a negotiation. `new` None: send nothing there any more.

    Answered when it is done, or with the error of the engine.
    """

    old: int
    new: LocalTrack | None


class CreateChannel(RtcCall, frozen=True):
    """Open a data channel. Answered at once with its number; a connection is made if there is none.

    A channel that has not opened yet moves to the next connection if this one is replaced. One that was open dies
    with its connection.
    """

    options: ChannelOptions


class SetIce(RtcCall, frozen=True):
    """The ICE servers from the next connection on. Answered at once."""

    servers: tuple[IceServer, ...]


class Reconcile(RtcCall, frozen=True):
    """The relay was lost and is back, and the remote is (still) in the room. Answered at once. It implies `LinkUp`.

    `polite` is our part from now on, `replace` says that we are strangers to the remote (our id changed), so that
    even a connection that is up is replaced. Otherwise one that is up is kept.
    """

    polite: bool
    replace: bool


class MeasureTraffic(RtcCall, frozen=True):
    """How much came in over the connection. Answered with a growing number, or None without a live connection."""


class Shut(RtcCall, frozen=True):
    """The remote left, or we do. Everything is closed; the state is `closed` for good. Answered at once."""


# --- orders ---


class SignalPeer(Order, frozen=True):
    """Send a signal to the remote, over the relay, in order."""

    signal: Signal


class OpenConnection(Order, frozen=True):
    """Make a connection, bundling everything on one transport.

    `ice_servers` are the ones to use: at most one STUN and one TURN address, which may be none. `relay_only`: use no
    other candidates than the TURN server's.
    """

    pc: int
    ice_servers: tuple[IceServer, ...]
    relay_only: bool = False


class CloseConnection(Order, frozen=True):
    """Close a connection, which says goodbye to the remote if it is up. Its state is not reported any more.

    Received tracks and channels of it end.
    """

    pc: int


class AddCandidate(Order, frozen=True):
    """Use a candidate of the remote, or learn that there will be no more. Only after a remote description."""

    pc: int
    candidate: Candidate | None


class OpenChannel(Order, frozen=True):
    """Open the data channel `channel` on a connection. With a number that was used before: move it there."""

    pc: int
    channel: int
    options: ChannelOptions


class TakeTrack(Order, frozen=True):
    """What the media section `mid` of a connection brings is known as `track` from now on."""

    pc: int
    mid: str
    track: int
    kind: TrackKind
    track_id: str


class EndTrack(Order, frozen=True):
    """A received track has ended: whoever reads it gets to its end. A later `TakeTrack` may use its `mid` again."""

    track: int


# --- work: what a `Begin` carries. Its failure is an `EffectDone` with an error. ---


class Work(msgspec.Struct, frozen=True, tag=True):
    """The base of the work that a peer machine orders."""


class MakeOffer(Work, frozen=True):
    """Bring the senders in line with `tracks`, make an offer, and make it the local description.

    Works on a new connection and on one that is up. The result is a `Described`.

    `receive` asks for sections beside those for `tracks`, so that a side with nothing to send can get a call back:
    one for each audio or video track that the remote is to send, and one `application` for data channels, where no
    channel of ours has made it already.

    `like` is the remote's last description on the connection that this one replaces. A remote that rebuilds its own
    takes any offer. A browser keeps its connection and restarts ICE on it, so it refuses an offer unless it has all
    the sections that there were, in their order, each with its `mid`, and with the same ids of header extensions.
    """

    pc: int
    tracks: tuple[LocalTrack, ...]
    receive: tuple[SectionKind, ...] = ()
    like: str | None = None

    def __repr__(self) -> str:
        like = None if self.like is None else f"<{len(self.like)} characters>"
        return f"MakeOffer(pc={self.pc}, tracks={self.tracks}, receive={self.receive}, like={like})"


class MakeAnswer(Work, frozen=True):
    """Take the remote's offer, with our tracks as far as they fit its sections, answer it. Result: `Described`.

    An offer of ours that is still out on the same connection gives way to it (rollback, RFC 8829, section 4.1.10.2).
    Where the connection cannot do that, the work fails, and the machine answers from another connection.
    """

    pc: int
    sdp: str
    tracks: tuple[LocalTrack, ...]

    def __repr__(self) -> str:
        return f"MakeAnswer(pc={self.pc}, sdp=<{len(self.sdp)} characters>, tracks={self.tracks})"


class TakeAnswer(Work, frozen=True):
    """Take the remote's answer to our offer. The result is None."""

    pc: int
    sdp: str

    def __repr__(self) -> str:
        return f"TakeAnswer(pc={self.pc}, sdp=<{len(self.sdp)} characters>)"


class SwapSender(Work, frozen=True):
    """Send `new` where `old` was sent; None: nothing any more. The result is None."""

    pc: int
    old: int
    new: LocalTrack | None


class CountReceived(Work, frozen=True):
    """How many bytes a connection has received so far. The result is an int that never shrinks."""

    pc: int


class Described(msgspec.Struct, frozen=True):
    """Our description, as it is to be sent.

    `unfitted` tells that a track or the first data channel of ours found no place in this answer, and needs an offer
    of ours. `complete`: all candidates are in it, and `CandidateGathered` will not come. Its repr leaves out the SDP,
    which holds the ICE password.
    """

    sdp: str
    unfitted: bool = False
    complete: bool = True

    def __repr__(self) -> str:
        return f"Described(sdp=<{len(self.sdp)} characters>, unfitted={self.unfitted}, complete={self.complete})"


# --- what is told, beside `StateChange`, `ConnectionReset`, `NegotiationError` and `IceCandidateError` ---


class TrackSeen(Event, frozen=True):
    """A track of the remote's is there. Comes after the `StreamSeen` of its stream, if that is new."""

    track: int
    kind: TrackKind
    stream_id: str | None
    metadata: dict[str, Any] | None


class TrackGone(Event, frozen=True):
    """A track of the remote's has ended: removed, rejected, or its connection is gone for good."""

    track: int


class StreamSeen(Event, frozen=True):
    """The first track of a stream came: the stream is new, or new on this connection."""

    stream_id: str
    metadata: dict[str, Any] | None


class StreamGone(Event, frozen=True):
    """The last track of a stream was removed. Never because a connection was replaced."""

    stream_id: str


class ChannelSeen(Event, frozen=True):
    """The remote opened a data channel."""

    channel: int


class Numbers:
    """Where the machines of one room get their numbers from.

    They count downwards, so as not to meet those of the signalling session.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """A number that was not used before."""
        self._last -= 1
        return self._last
