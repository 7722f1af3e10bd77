"""Peer connections in memory: `VirtualEngine` for one room, and the `Hub` at which those of one box meet.

Descriptions, their order, and what fits into them are as strict as with real ones (`metered_proto.sim.connections`).
A connection comes up between two that know each other's ICE user name fragment, in no more time than the paths take.
Candidates, servers, encryption, codecs and bandwidth are not simulated. Frames are handed over as the objects they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import anyio.lowlevel

from metered_anyio.backend import Backend
from metered_anyio.encoding import Encoding
from metered_anyio.logger import ContainedLogger
from metered_anyio.rtc.engine import ConnectionStats, LocalSource
from metered_anyio.rtc.timing import Pace
from metered_anyio.testing.virtual_channel import VirtualChannel
from metered_anyio.testing.virtual_network import Timetable
from metered_proto.errors import PeerConnectionError
from metered_proto.facts import Fact
from metered_proto.orders import Order
from metered_proto.rtc.words import (
    AddCandidate,
    ChannelArrived,
    ChannelOptions,
    CloseConnection,
    ConnectionChanged,
    ConnectionState,
    CountReceived,
    EndTrack,
    MakeAnswer,
    MakeOffer,
    OpenChannel,
    OpenConnection,
    SwapSender,
    TakeAnswer,
    TakeTrack,
    Work,
)
from metered_proto.sim.connections import EngineError, SimConnection

if TYPE_CHECKING:
    from metered_anyio.rtc.remote_track import RemoteTrack

SILENCE: Final = 10.0
"""Seconds without a packet, after which a connection counts as disconnected."""

CONSENT: Final = 30.0
"""Seconds without a packet, after which it has failed (RFC 7675, section 5.1)."""

KEEPALIVE: Final = 100
"""Bytes that an idle connection receives in a second."""

FRAME: Final = 1200
"""Bytes that a frame counts for, whatever it is."""

_LEAST: Final = 0.001  # seconds between two frames of a source that never waits


class Way(Protocol):
    """How a peer reaches the others."""

    latency: float
    peers_cut: bool


class Hub:
    """Where connections find each other."""

    def __init__(self, timetable: Timetable) -> None:
        self.timetable = timetable
        self._connections: dict[str, VirtualConnection] = {}
        self._made = 0

    def enter(self, make: Callable[[str], VirtualConnection]) -> VirtualConnection:
        """A new connection, made with a user name fragment of its own."""
        self._made += 1
        ufrag = f"virtual{self._made:06d}"
        connection = self._connections[ufrag] = make(ufrag)
        return connection

    def leave(self, connection: VirtualConnection) -> None:
        """It is closed."""
        self._connections.pop(connection.sim.ufrag, None)

    def other(self, connection: VirtualConnection) -> VirtualConnection | None:
        """The other end: the one that it knows, and that knows it."""
        other = self._connections.get(connection.sim.remote_ufrag or "")
        return other if other is not None and other.sim.remote_ufrag == connection.sim.ufrag else None

    def agreed(self, connection: VirtualConnection) -> None:
        """An end was described anew, which may be what the other one has been waiting for."""
        for end in (connection, self.other(connection)):
            if end is not None:
                end.look()
                end.engine.sent_changed()

    def changed(self) -> None:
        """A path was cut, or healed."""
        for connection in list(self._connections.values()):
            connection.look()


class VirtualConnection:
    """One connection of one engine."""

    def __init__(self, pc: int, ufrag: str, engine: VirtualEngine) -> None:
        self.sim = SimConnection(pc, ufrag, rolls_back=True)
        self.engine = engine
        self.state: ConnectionState | None = None
        self.takes: dict[str, int] = {}  # the track that each section brings, by mid
        self.channels: list[VirtualChannel] = []
        self.bytes_in = self.bytes_out = self.packets_in = self.packets_out = 0
        self._hub = engine.hub
        self._cut_at: float | None = None
        self._heard_at = self._arrives_at = 0.0
        self._rising = False

    @property
    def up(self) -> bool:
        """Whether it has been connected, and has not come to its end."""
        return self.state in ("connected", "disconnected")

    @property
    def passes(self) -> bool:
        """Whether something gets through to the other end now."""
        other = self._hub.other(self)
        return other is not None and not (self.engine.way.peers_cut or other.engine.way.peers_cut)

    def delay(self) -> float:
        """Seconds to the other end."""
        other = self._hub.other(self)
        return self.engine.way.latency + (0.0 if other is None else other.engine.way.latency)

    def look(self) -> None:
        """Something has changed that may bring it up, or down."""
        self.count()
        if self.passes:
            self._cut_at = None
            if self.state == "disconnected":
                self.become("connected")
            elif not self.up and not self._rising and self.state != "closed":
                self._rising = True
                self.become("connecting")
                self._hub.timetable.after(2 * self.delay(), self._rise)
            for channel in self.channels:
                channel.flush()
            self.open_channels()
        elif self.up and self._cut_at is None:
            at = self._cut_at = self._hub.timetable.now()
            self._hub.timetable.after(SILENCE, lambda: self._is_silent(at, "disconnected"))
            self._hub.timetable.after(CONSENT, lambda: self._is_silent(at, "failed"))

    def _rise(self) -> None:
        self._rising = False
        if self.passes and not self.up and self.state not in ("closed", "failed"):
            self._heard_at = self._hub.timetable.now()
            self.become("connected")
            self.open_channels()
            self.engine.sent_changed()

    def _is_silent(self, since: float, state: ConnectionState) -> None:
        if self._cut_at == since and self.up:
            self.become(state)

    def become(self, state: ConnectionState) -> None:
        """Report another state."""
        if state != self.state and self.state != "closed":
            self.state = state
            self.engine.report(self, ConnectionChanged(self.sim.pc, state))

    def count(self) -> int:
        """Bytes received so far, what keeps the path open included."""
        now = self._hub.timetable.now()
        if self.up and self._cut_at is None:
            self.bytes_in += int((now - self._heard_at) * KEEPALIVE)
        self._heard_at = now
        return self.bytes_in

    def to_other(self, size: int, deliver: Callable[[VirtualConnection], None]) -> None:
        """Have something happen at the other end, if it is still there then."""
        other = self._hub.other(self)
        if other is None:
            return
        self.bytes_out += size
        self.packets_out += 1
        # Nothing overtakes what was sent before, even if the path has become shorter.
        self._arrives_at = max(self._arrives_at, self._hub.timetable.now() + self.delay())

        def arrive() -> None:
            if other.up and self._hub.other(other) is self:
                other.bytes_in += size
                other.packets_in += 1
                deliver(other)

        self._hub.timetable.at(self._arrives_at, arrive)

    def show(self, mid: str, frame: Any) -> None:
        """Send a frame in a section. It is lost if nothing gets through."""
        if self.passes:
            self.to_other(FRAME, lambda other: other.engine.receive(other, mid, frame))

    def open_channels(self) -> None:
        """Open those that wait, once there is a section for them."""
        if self.up and self.passes and any(s.kind == "application" and s.agreed for s in self.sim.sections):
            for channel in self.channels:
                if channel.ready_state == "connecting" and not channel.asked:
                    channel.asked = True
                    self._open(channel)

    def _open(self, channel: VirtualChannel) -> None:
        def arrived(other: VirtualConnection) -> None:
            theirs = other.engine.adopt_channel(other, channel)
            other.to_other(12, lambda _: channel.opened(theirs))
            theirs.opened(channel)

        self.to_other(12, arrived)

    def leave(self) -> None:
        """Close, and say goodbye."""
        self.count()
        other = self._hub.other(self) if self.passes else None
        delay = self.delay()
        self._hub.leave(self)
        self.state = "closed"
        for channel in self.channels:
            channel.abandon()
        if other is not None and other.up:
            self._hub.timetable.after(delay, other.hear_goodbye)

    def hear_goodbye(self) -> None:
        """The other end has closed."""
        if self.up:
            self.become("closed")
            for channel in list(self.channels):
                channel.abandon()


class VirtualEngine:
    """See `metered_anyio.rtc.engine.Engine`."""

    def __init__(
        self, feed: Callable[[Fact], None], logger: ContainedLogger, backend: Backend, hub: Hub, way: Way
    ) -> None:
        self.hub = hub
        self.way = way
        self.on_track_ended: Callable[[int], object] | None = None
        self._feed = feed
        self._logger = logger
        self._backend = backend
        self._connections: dict[int, VirtualConnection] = {}
        self._channels: dict[int, VirtualChannel] = {}
        self._arrived = 0
        self._tracks: dict[int, RemoteTrack] = {}
        self._sources: dict[int, LocalSource] = {}
        self._readers: dict[int, anyio.CancelScope] = {}
        self._closed = False

    def perform(self) -> Mapping[type[Order], Callable[[Any], None]]:
        return {
            OpenConnection: self._open,
            CloseConnection: self._close,
            AddCandidate: _do_nothing,
            OpenChannel: self._open_channel,
            TakeTrack: self._take_track,
            EndTrack: self._end_track,
        }

    async def work(self, work: Work) -> Any:
        await anyio.lowlevel.checkpoint()
        match work:
            case MakeOffer(pc=pc):
                operation = "offer"
            case MakeAnswer(pc=pc):
                operation = "answer"
            case TakeAnswer(pc=pc):
                operation = "take_answer"
            case SwapSender(pc=pc):
                operation = "track"
            case CountReceived(pc=pc):
                operation = "closed"
            case _:
                raise TypeError(f"{type(work).__name__} is no work of a peer connection")
        connection = self._connections.get(pc)
        if connection is None:
            raise PeerConnectionError(operation, "there is no such connection")
        try:
            result = self._do(connection, work)
        except EngineError as error:
            raise PeerConnectionError(operation, str(error)) from None
        self.hub.agreed(connection)
        return result

    def _do(self, connection: VirtualConnection, work: Work) -> Any:
        match work:
            case MakeOffer():
                return connection.sim.offer(work)
            case MakeAnswer():
                return connection.sim.answer(work)
            case TakeAnswer():
                return connection.sim.take(work)
            case SwapSender():
                return connection.sim.swap(work)
            case _:
                return connection.count()

    def report(self, connection: VirtualConnection, fact: Fact) -> None:
        """Tell the room, soon: nothing may happen in the middle of an order."""

        def tell() -> None:
            if not self._closed and self._connections.get(connection.sim.pc) is connection:
                self._feed(fact)

        self.hub.timetable.after(0, tell)

    # --- connections and channels ---

    def _open(self, order: OpenConnection) -> None:
        self._connections[order.pc] = self.hub.enter(lambda ufrag: VirtualConnection(order.pc, ufrag, self))

    def _close(self, order: CloseConnection) -> None:
        connection = self._connections.pop(order.pc, None)
        if connection is not None:
            connection.leave()
            for number in connection.takes.values():
                if (track := self._tracks.pop(number, None)) is not None:
                    track.end()

    def _open_channel(self, order: OpenChannel) -> None:
        channel = self.create_channel(order.channel, order.options)
        connection = self._connections.get(order.pc)
        if connection is not None and channel.ready_state == "connecting":
            channel.asked = False
            channel.move(connection)
            connection.channels.append(channel)
            connection.sim.channels.append(order.channel)
            connection.open_channels()

    def adopt_channel(self, connection: VirtualConnection, theirs: VirtualChannel) -> VirtualChannel:
        """The remote has opened a channel."""
        self._arrived += 1
        channel = VirtualChannel(self._arrived, theirs.options, self._report_channel, own=False)
        channel.move(connection)
        connection.channels.append(channel)
        self._channels[channel.number] = channel
        channel.on_end = lambda: self._channels.pop(channel.number, None)
        self.report(connection, ChannelArrived(connection.sim.pc, channel.number))
        return channel

    def _report_channel(self, fact: Fact) -> None:
        if not self._closed:
            self._feed(fact)

    def channel(self, number: int) -> VirtualChannel:
        return self._channels[number]

    def create_channel(self, number: int, options: ChannelOptions) -> VirtualChannel:
        channel = self._channels.get(number)
        if channel is None:
            channel = self._channels[number] = VirtualChannel(number, options, self._report_channel, own=True)
            channel.on_end = lambda: self._channels.pop(number, None)
        return channel

    def connection(self, pc: int) -> Any:
        return None  # nothing of aiortc's is here

    async def stats(self, pc: int) -> ConnectionStats:
        await anyio.lowlevel.checkpoint()
        connection = self._connections.get(pc)
        if connection is None:
            raise PeerConnectionError("closed", "there is no such connection")
        received = connection.count()
        return ConnectionStats(
            state=connection.state or "new",
            local=None,
            remote=None,
            round_trip_time=2 * connection.delay() if connection.up else None,
            bytes_sent=connection.bytes_out,
            bytes_received=received,
            packets_sent=connection.packets_out,
            packets_received=connection.packets_in,
            tracks=(),
        )

    # --- received tracks ---

    def _take_track(self, order: TakeTrack) -> None:
        from metered_anyio.rtc.remote_track import RemoteTrack

        connection = self._connections.get(order.pc)
        self._tracks[order.track] = RemoteTrack(order.kind, order.track_id)
        if connection is not None:
            connection.takes[order.mid] = order.track

    def _end_track(self, order: EndTrack) -> None:
        if (track := self._tracks.pop(order.track, None)) is not None:
            track.end()

    def track(self, number: int) -> RemoteTrack:
        return self._tracks[number]

    def receive(self, connection: VirtualConnection, mid: str, frame: Any) -> None:
        """A frame has come in a section."""
        track = self._tracks.get(connection.takes.get(mid, 0))
        if track is not None:
            track.push(frame)

    # --- tracks of ours ---

    def offer_track(self, key: int, track: LocalSource, encoding: Encoding) -> None:
        self.withdraw_track(key)
        self._sources[key] = track

    def withdraw_track(self, key: int) -> None:
        self._sources.pop(key, None)
        if (scope := self._readers.pop(key, None)) is not None:
            scope.cancel()

    def sent_changed(self) -> None:
        """What is sent to whom may have changed: read what somebody is to get."""
        for key, source in self._sources.items():
            if key not in self._readers and not self._closed and self._takers(key):
                self._read(key, source)

    def _takers(self, key: int) -> list[tuple[VirtualConnection, str]]:
        """The connections that send a track, each with its section."""
        return [
            (connection, section.mid)
            for connection in self._connections.values()
            for section in connection.sim.sections
            if connection.up and section.agreed and section.remote_receives
            if section.track is not None and section.track.key == key
        ]

    def _read(self, key: int, source: LocalSource) -> None:
        scope = self._readers[key] = self._backend.cancel_scope()

        async def run() -> None:
            try:
                with scope:
                    await self._read_on(key, source)
            finally:
                if self._readers.get(key) is scope:
                    del self._readers[key]

        self._backend.spawn(run)

    async def _read_on(self, key: int, source: LocalSource) -> None:
        pace = Pace(self._backend.time)
        while takers := self._takers(key):
            asked = self._backend.time()
            try:
                frame = await source.recv()
            except BaseException as error:
                if not self._backend.is_failure(error):
                    raise
                self._logger.debug("a track has ended", {"error": type(error).__name__})
                if self.on_track_ended is not None and not self._closed:
                    self.hub.timetable.after(0, lambda: self._ended(key, source))
                await anyio.sleep_forever()  # read no more, until it is withdrawn
            for connection, mid in takers:
                connection.show(mid, frame)
            waited = self._backend.time() - asked
            ahead = pace.ahead(frame, waited) if hasattr(frame, "pts") and hasattr(frame, "time_base") else 0.0
            if ahead or not waited:
                await anyio.sleep(max(ahead, _LEAST))

    def _ended(self, key: int, source: LocalSource) -> None:
        if self.on_track_ended is not None and self._sources.get(key) is source and not self._closed:
            self.on_track_ended(key)

    # --- the end ---

    async def aclose(self) -> None:
        self._closed = True
        for pc in list(self._connections):
            self._close(CloseConnection(pc))
        for channel in list(self._channels.values()):
            channel.finish()
        for track in self._tracks.values():
            track.end()
        self._tracks.clear()
        for key in list(self._sources):
            self.withdraw_track(key)
        await anyio.lowlevel.checkpoint()


def _do_nothing(order: Order) -> None:
    """A path is there or not; candidates do not count."""
