"""One peer connection of aiortc, and the operations on it, one after the other.

The operations are those of `metered_proto.rtc.words`. What aiortc does not do by itself (keep what was negotiated,
gather in the background, route by section, close in bounded time) is in the files beside this one; here is the order
of things.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiortc import (
    InvalidStateError,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)

from metered_anyio.logger import ContainedLogger
from metered_anyio.rtc import private, private_ice, private_sctp
from metered_anyio.rtc.channels import EngineChannel
from metered_anyio.rtc.engine import ConnectionStats
from metered_anyio.rtc.gathering import Gatherer
from metered_anyio.rtc.layout import Layout
from metered_anyio.rtc.measuring import Meter
from metered_anyio.rtc.mending import (
    Description,
    Numbering,
    readable,
    reason_of,
    sendable,
)
from metered_anyio.rtc.outlet import Feed
from metered_anyio.rtc.remote_candidates import RemoteCandidates
from metered_anyio.rtc.remote_track import Inlet, RemoteTrack
from metered_anyio.rtc.senders import Senders
from metered_proto.errors import PeerConnectionError
from metered_proto.facts import Fact
from metered_proto.rtc.words import (
    CandidateFailed,
    CandidateGathered,
    ConnectionChanged,
    ConnectionState,
    Described,
    LocalTrack,
    MakeOffer,
    OpenConnection,
    SectionKind,
)
from metered_proto.wire.caps import MEDIA_SECTIONS
from metered_proto.wire.signals import Candidate

FIRST_ESTIMATE: Final = 5_000_000
"""What a sender is told at first that it may send, in bit/s: see `private.start_estimating_at`."""

SILENCE: Final = 10.0
"""Seconds without a packet, after which a connection counts as disconnected. An idle one hears a check every 4 to 6."""

CHANNELS: Final = 1024
"""Data channels of one connection; more that the remote opens are closed again."""

FAREWELL: Final = 0.7
"""Seconds in which a connection has to close by itself, goodbye included."""


class Connection:
    """Reports in facts by `report`; `arrived(connection, channel)` brings a data channel that the remote opened."""

    def __init__(
        self,
        order: OpenConnection,
        source_of: Callable[[int], Feed | None],
        report: Callable[[Fact], None],
        arrived: Callable[[Connection, Any], None],
        logger: ContainedLogger,
    ) -> None:
        self.number = order.pc
        self._report = report
        self._logger = logger
        policy = RTCIceTransportPolicy.RELAY if order.relay_only else RTCIceTransportPolicy.ALL
        # No servers: asking them is ours. With None it would ask one that nobody chose.
        self.pc = RTCPeerConnection(
            RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE, iceTransportPolicy=policy)
        )
        self._turn = asyncio.Lock()
        self._connecting = private.Connecting(self.pc, self._turn, self._connect_failed)
        self._numbering = Numbering()
        self._senders = Senders(self.pc, source_of, logger)
        self._inlets: dict[str, Inlet] = {}  # by mid
        self._takes: dict[str, tuple[int, RemoteTrack]] = {}
        self._unused: frozenset[str] = frozenset()
        self._fresh = True  # nothing was described yet
        self._unapplied: str | None = None  # an offer of ours that aiortc does not know of
        self._state: ConnectionState | None = None
        self._watch: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = False
        self._channels: list[tuple[EngineChannel, Any]] = []
        self._meter = Meter(asyncio.get_running_loop().time())
        self._hooked = False
        self._seen: set[Any] = set()  # receivers that are seen to
        self._candidates = RemoteCandidates(self._candidate_failed)
        self._gatherer = Gatherer(order.ice_servers, order.relay_only, self._found, self._candidate_failed)
        self.pc.on("connectionstatechange", self._changed)
        self.pc.on("track", self._track_came)
        self.pc.on("datachannel", self._channel_came)
        self._arrived = arrived

    # --- operations ---

    async def make_offer(self, work: MakeOffer, remembered: Mapping[str, int]) -> Described:
        """Offer our tracks and channels, as they are now.

        `remembered` has the number of the track that was sent in each section (by `mid`) of the connection that this
        one stands in for.
        """
        async with self._turn:
            self._check_open("offer")
            try:
                return await self._offer(work, remembered)
            except PeerConnectionError:
                raise
            except Exception as error:
                raise PeerConnectionError("offer", reason_of(error)) from None

    async def make_answer(self, sdp: str, tracks: Sequence[LocalTrack]) -> Described:
        """Take an offer and answer it."""
        async with self._turn:
            self._check_open("answer")
            try:
                return await self._answer(sdp, tracks)
            except PeerConnectionError:
                raise
            except Exception as error:
                raise PeerConnectionError("answer", reason_of(error)) from None

    async def take_answer(self, sdp: str) -> None:
        """Take the answer to our offer."""
        async with self._turn:
            self._check_open("take_answer")
            try:
                await self._take_answer(sdp)
            except PeerConnectionError:
                raise
            except Exception as error:
                raise PeerConnectionError("take_answer", reason_of(error)) from None

    def swap(self, old: int, new: LocalTrack | None) -> None:
        """Send another track in the place of one."""
        self._check_open("track")
        self._senders.swap(old, new)

    def count_received(self) -> int:
        """Bytes that came in, those that keep the path open included."""
        self._check_open("closed")
        return self._meter.bytes_received(self._dtls())

    async def measure(self) -> ConnectionStats:
        """Measure everything."""
        self._check_open("closed")
        now = asyncio.get_running_loop().time()
        return await self._meter.measure(self.pc, self._dtls(), self._senders, self._takes, now)

    def add_candidate(self, candidate: Candidate | None) -> None:
        """Use a candidate of the remote; None: there are no more."""
        dtls = self._dtls()
        if not self._closed and dtls is not None:
            self._candidates.add(dtls.transport, candidate)

    def open_channel(self, channel: EngineChannel) -> None:
        """Open a data channel, or move one here."""
        if self._closed or self._state == "closed":
            return
        try:
            dc = self.pc.createDataChannel(
                private_sctp.Label(channel.label),
                ordered=channel.ordered,
                maxRetransmits=channel.max_retransmits,
                maxPacketLifeTime=channel.max_packet_life_time,
                protocol=private_sctp.Label(channel.protocol),
            )
        except InvalidStateError:
            return  # the remote has closed the connection, so this one will be moved to the next
        self.adopt_channel(channel, dc)

    def adopt_channel(self, channel: EngineChannel, dc: Any) -> None:
        """This `RTCDataChannel` is that channel from now on."""
        self._channels = [each for each in self._channels if each[1].readyState != "closed"]
        self._channels.append((channel, dc))
        channel.engine_bind(dc)
        self._hook()

    def take(self, mid: str, number: int, track: RemoteTrack) -> None:
        """What comes in a section goes to this track from now on."""
        self._takes[mid] = (number, track)
        if mid in self._inlets:
            self._inlets[mid].target = track

    def let_go(self, track: RemoteTrack) -> None:
        """Nothing goes to this track any more."""
        for mid, (_, taken) in list(self._takes.items()):
            if taken is track:
                del self._takes[mid]
                if mid in self._inlets:
                    self._inlets[mid].target = None

    def withdraw(self, key: int) -> None:
        """A track of ours is no longer there."""
        self._senders.let_go(key)

    def sent_in(self) -> dict[str, int]:
        """The number of the track that is sent in each section, by `mid`."""
        return {
            place.transceiver.mid: place.key
            for place in self._senders.places
            if place.key is not None and place.transceiver.mid is not None
        }

    def close(self) -> asyncio.Task[None]:
        """Close, in the background. Nothing is reported from now on."""
        self._closed = True
        if self._closing is None:
            for channel, dc in self._channels:
                channel.engine_leave(dc)
            self._closing = asyncio.get_running_loop().create_task(self._close())
        return self._closing

    # --- offers and answers ---

    async def _offer(self, work: MakeOffer, remembered: Mapping[str, int]) -> Described:
        pc = self.pc
        layout = Layout()
        if work.like is not None and self._fresh:
            layout = Layout.build(pc, work.like)
            self._unused = layout.unused
            self._numbering.learn(pc.getTransceivers())
            self._senders.resume(work.tracks, layout.places(remembered))
        self._senders.offer(work.tracks)
        self._ask_for(work.receive)
        # aiortc's offer forgets what was negotiated, by which the connection goes on sending and receiving.
        kept = [(each, private.codecs(each), private.extensions(each)) for each in pc.getTransceivers()]
        offer = await pc.createOffer()
        for transceiver, codecs, extensions in kept:
            private.set_negotiated(transceiver, codecs, extensions)
        keep = [(slot.mid, slot.transceiver) for slot in layout.slots]
        text = self._numbering.offer(offer.sdp, pc, keep, self._role())
        if private.is_established(pc):
            # aiortc cannot roll back an offer that it knows of. So it gets to know of this one with its answer.
            self._unapplied = text
            self._hook()
            return Described(sendable(text, unused=self._unused, complete=self._gatherer.complete))
        return await self._describe(RTCSessionDescription(text, "offer"), unfitted=False)

    def _ask_for(self, kinds: Sequence[SectionKind]) -> None:
        """See that there is a section for each of what we wish to be sent."""
        spare = [t.kind for t in self.pc.getTransceivers() if t.direction in ("recvonly", "sendrecv")]
        for kind in kinds:
            if kind == "application":
                private.create_sctp(self.pc)
            elif kind in spare:
                spare.remove(kind)
            else:
                self.pc.addTransceiver(kind, direction="recvonly")
        if not self.pc.getTransceivers() and self.pc.sctp is None:
            # There has to be something in an offer.
            private.create_sctp(self.pc)

    async def _answer(self, sdp: str, tracks: Sequence[LocalTrack]) -> Described:
        pc = self.pc
        text, unused = readable("answer", sdp, None)
        sections = Description(text).sections
        self._roll_back()
        if len(pc.getTransceivers()) > 2 * MEDIA_SECTIONS:
            raise PeerConnectionError("answer", "the remote has made too many sections")
        for index, section in enumerate(sections):
            private.free_section(pc.getTransceivers(), index, section.mid)
        private.forget_bundling(pc)
        await pc.setRemoteDescription(RTCSessionDescription(text, "offer"))
        self._unused = unused
        mids = [section.mid for section in sections]
        private.close_unoffered(pc.getTransceivers(), mids)
        offered = {t.mid: t for t in pc.getTransceivers() if t.mid in mids and t.mid not in unused}
        for transceiver in offered.values():
            # What the remote wants to send it may.
            if private.offered_direction(transceiver) in ("recvonly", "sendrecv"):
                transceiver.direction = _RECEIVING[transceiver.direction]
        missing = self._senders.answer(tracks, [offered[mid] for mid in mids if mid in offered])
        self._hook()
        answer = await pc.createAnswer()
        without_channels = pc.sctp is not None and (pc.sctp.mid is None or pc.sctp.mid in unused)
        described = await self._describe(answer, unfitted=missing or (without_channels and self._has_own_channel()))
        self._numbering.learn(pc.getTransceivers())
        return described

    async def _take_answer(self, sdp: str) -> None:
        pc = self.pc
        offer, self._unapplied = self._unapplied, None
        text, unused = readable("take_answer", sdp, Description(offer or pc.localDescription.sdp))
        if offer is not None:
            await pc.setLocalDescription(RTCSessionDescription(offer, "offer"))
        private.forget_bundling(pc)
        await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))
        self._unused = unused
        self._hook()
        self._numbering.learn(pc.getTransceivers())

    def _roll_back(self) -> None:
        """An offer of ours on a connection that is up gives way to the remote's (RFC 8829 section 4.1.10.2)."""
        if self._unapplied is not None:
            self._unapplied = None
            self._senders.forget(private.drop_unnamed(self.pc))

    async def _describe(self, description: RTCSessionDescription, *, unfitted: bool) -> Described:
        self._fresh = False
        self._hook()
        await self._gatherer.relay_first()
        await self.pc.setLocalDescription(description)
        self._hook()
        if self._gatherer.relay_only and not private_ice.local_candidates(private.ice_connection(self._dtls())):
            # aiortc does not even try. Said in a while, after the description, which is what it is about.
            asyncio.get_running_loop().call_later(0.02, self._change, "failed")
        complete = self._gatherer.complete
        text = sendable(self.pc.localDescription.sdp, unused=self._unused, complete=complete)
        self._gatherer.start_late()
        return Described(text, unfitted, complete)

    def _role(self) -> str:
        """Our part in DTLS, as we offer it.

        The client's, unless it is settled already. Whoever stands in for a lost connection has to be the client: a
        browser that restarts ICE goes on sending where it did before, until it hears from us on the new path.
        """
        dtls = self._dtls()
        role: str = "auto" if dtls is None else dtls._role
        return "client" if role == "auto" else role

    def _has_own_channel(self) -> bool:
        return any(dc.readyState == "connecting" for _, dc in self._channels)

    def _check_open(self, operation: str) -> None:
        if self._closed:
            raise PeerConnectionError(operation, "the connection is closed")

    # --- what aiortc tells ---

    def _dtls(self) -> Any | None:
        transports = private.dtls_transports(self.pc)
        return transports[0] if transports else None

    def _hook(self) -> None:
        """See to everything that aiortc has made since."""
        dtls = self._dtls()
        if dtls is None:
            return
        if not self._hooked:
            self._hooked = True
            private.route_by_mid(dtls, self._meter.count)
            dtls.on("statechange", self._dtls_changed)
            self._gatherer.serve(private.ice_connection(dtls))
            private_ice.guard_data(private.ice_connection(dtls))
            self._meter.count_checks(private.ice_connection(dtls))
        private.contain(dtls, self.pc.sctp, self._packet_failed)
        if self.pc.sctp is not None:
            private_sctp.bound_reassembly(self.pc.sctp)
        for transceiver in self.pc.getTransceivers():
            receiver = transceiver.receiver
            if receiver not in self._seen:
                self._seen.add(receiver)
                private.ignore_goodbye(receiver)
                private.bound_decoding(receiver)
                private.start_estimating_at(receiver, FIRST_ESTIMATE)

    def _track_came(self, track: Any) -> None:
        # In the middle of setRemoteDescription, before anything could be received.
        for transceiver in self.pc.getTransceivers():
            if transceiver.receiver.track is track and transceiver.mid is not None:
                inlet = self._inlets[transceiver.mid] = Inlet()
                if (taken := self._takes.get(transceiver.mid)) is not None:
                    inlet.target = taken[1]
                private.receive_into(track, inlet)
        self._hook()

    def _channel_came(self, dc: Any) -> None:
        if sum(each.readyState != "closed" for _, each in self._channels) >= CHANNELS:
            dc.close()
        else:
            self._arrived(self, dc)

    def _packet_failed(self, error: Exception) -> None:
        self._logger.debug("a packet could not be read", {"error": type(error).__name__})

    def _changed(self) -> None:
        self._change(self.pc.connectionState)

    def _dtls_changed(self) -> None:
        dtls = self._dtls()
        if dtls is not None and dtls.state == "closed":
            # The remote said goodbye. aiortc closes, too, and says so when it is done.
            self._change("closed")

    def _connect_failed(self, error: Exception) -> None:
        self._logger.debug("a connection failed", {"error": type(error).__name__})
        self._change("failed")

    def _change(self, state: str) -> None:
        known = _STATES.get(state)
        if known is None or known == self._state or self._closed or self._state == "closed":
            return
        self._state = known
        self._report(ConnectionChanged(self.number, known))
        if known == "connected" and self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        """Notice that nothing comes any more, long before aiortc does, and that something comes again."""
        heard, silent = -1, 0
        while self._state in ("connected", "disconnected"):
            await asyncio.sleep(SILENCE / 10)
            before, heard = heard, self._meter.bytes_received(self._dtls())
            silent = silent + 1 if heard == before else 0
            self._change("disconnected" if silent >= 10 else "connected")

    def _found(self, candidate: Any | None) -> None:
        if self._closed:
            return
        if candidate is None:
            self._report(CandidateGathered(self.number, None))
            return
        transceivers = self.pc.getTransceivers()
        first = next((t.mid for t in transceivers if t.mid is not None and t.mid not in self._unused), None)
        mid = first if first is not None else (self.pc.sctp.mid if self.pc.sctp is not None else None)
        text = "candidate:" + private.candidate_to_sdp(candidate)
        ufrag = private.ice_connection(self._dtls()).local_username
        self._report(CandidateGathered(self.number, Candidate(text, mid, 0, ufrag)))

    def _candidate_failed(self, error: PeerConnectionError) -> None:
        if not self._closed:
            self._report(CandidateFailed(self.number, error))

    # --- the end ---

    async def _close(self) -> None:
        self._senders.close()
        self._candidates.close()
        if self._watch is not None:
            self._watch.cancel()
        try:
            async with asyncio.timeout(FAREWELL):
                await self._gatherer.close()
                async with self._turn:  # what is being done now would leave sockets behind
                    await self._connecting.stop()
                    for receiver in self.pc.getReceivers():
                        await private.stop_decoding(receiver)
                    await self.pc.close()
        except TimeoutError:
            self._logger.debug("a connection had to be torn down")
        except asyncio.CancelledError:
            private.tear_down(self.pc)
            raise
        except Exception as error:
            self._logger.warning("a connection did not close by itself", {"error": type(error).__name__})
        else:
            return
        private.tear_down(self.pc)


_STATES: Final[dict[str, ConnectionState]] = {
    "connecting": "connecting",
    "connected": "connected",
    "disconnected": "disconnected",
    "failed": "failed",
    "closed": "closed",
}

_RECEIVING: Final = {"inactive": "recvonly", "recvonly": "recvonly", "sendonly": "sendrecv", "sendrecv": "sendrecv"}
