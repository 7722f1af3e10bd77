"""Counting what a connection does, and what `ConnectionStats` makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiortc import RTCPeerConnection

from metered_anyio.rtc import private, private_ice, private_sctp
from metered_anyio.rtc.engine import CandidateStats, ConnectionStats, TrackStats
from metered_anyio.rtc.outlet import Outlet
from metered_anyio.rtc.remote_track import RemoteTrack
from metered_anyio.rtc.senders import Senders


class Meter:
    """Counts for one connection."""

    def __init__(self, now: float) -> None:
        self._born = now
        self._packets: dict[Any, int] = {}  # by receiver
        self._bytes: dict[Any, int] = {}
        self._checked = 0  # bytes of connectivity checks, by which an idle connection lives
        self._last: dict[object, tuple[float, int]] = {}  # when a track was measured last, and its bytes then

    def count(self, packet: Any, receiver: Any) -> None:
        """An RTP packet came."""
        self._packets[receiver] = self._packets.get(receiver, 0) + 1
        self._bytes[receiver] = self._bytes.get(receiver, 0) + len(packet.payload)

    def count_checks(self, ice: Any) -> None:
        """Count the remote's connectivity checks, too."""
        private_ice.watch_checks(ice, self._check_came)

    def _check_came(self, size: int) -> None:
        self._checked += size

    def bytes_received(self, dtls: Any | None) -> int:
        """Everything that came in, in bytes."""
        return self._checked + (0 if dtls is None else private.traffic(dtls)[1])

    async def measure(
        self,
        pc: RTCPeerConnection,
        dtls: Any | None,
        senders: Senders,
        taken: Mapping[str, tuple[int, RemoteTrack]],
        now: float,
    ) -> ConnectionStats:
        """All of it. `taken` has the received tracks by `mid`, `now` is in seconds."""
        sent, received, packets_sent, packets_received = (0, 0, 0, 0) if dtls is None else private.traffic(dtls)
        pair = None if dtls is None else private_ice.selected_pair(private.ice_connection(dtls))
        sending = [(place.transceiver, place.key, place.outlet) for place in senders.places if place.key is not None]
        receiving = [(each, *taken[each.mid or ""]) for each in pc.getTransceivers() if (each.mid or "") in taken]
        tracks = [await self._sent(*each, now) for each in sending]
        tracks += [await self._received(*each, now) for each in receiving]
        times = [track.round_trip_time for track in tracks if track.round_trip_time is not None]
        return ConnectionStats(
            state=pc.connectionState,
            local=None if pair is None else _candidate(pair.local_candidate),
            remote=None if pair is None else _candidate(pair.remote_candidate),
            round_trip_time=min(times, default=private_sctp.round_trip(pc)),
            bytes_sent=sent,
            bytes_received=received,
            packets_sent=packets_sent,
            packets_received=packets_received,
            tracks=tuple(tracks),
        )

    async def _sent(self, transceiver: Any, key: int, outlet: Outlet, now: float) -> TrackStats:
        report = await transceiver.sender.getStats()
        own = _of_type(report, "outbound-rtp")
        remote = _of_type(report, "remote-inbound-rtp")
        size = 0 if own is None else own.bytesSent
        manner = None if outlet.feed is None else outlet.feed.source.manner(outlet)
        return TrackStats(
            kind=transceiver.kind,
            direction="send",
            mid=transceiver.mid,
            key=key,
            codec=outlet.codec or _codec(transceiver),
            frames=outlet.frames,
            frames_dropped=outlet.frames_dropped,
            packets=0 if own is None else own.packetsSent,
            bytes=size,
            packets_lost=None if remote is None else remote.packetsLost,
            jitter=None if remote is None else remote.jitter / _clock(transceiver),
            round_trip_time=None if remote is None else remote.roundTripTime,
            bitrate=self._bitrate(transceiver.sender, size, now),
            key_frames=outlet.key_frames,
            encoder=None if manner is None else manner.encoder,
            target_bitrate=None if manner is None else manner.target_bitrate,
            shared=manner is not None and manner.shared,
            passthrough=manner is not None and manner.passthrough,
        )

    async def _received(self, transceiver: Any, number: int, track: RemoteTrack, now: float) -> TrackStats:
        receiver = transceiver.receiver
        own = _of_type(await receiver.getStats(), "inbound-rtp")
        size = self._bytes.get(receiver, 0)
        return TrackStats(
            kind=transceiver.kind,
            direction="receive",
            mid=transceiver.mid,
            key=number,
            codec=_codec(transceiver),
            frames=track.frames,
            frames_dropped=track.frames_dropped,
            packets=self._packets.get(receiver, 0),
            bytes=size,
            packets_lost=None if own is None else own.packetsLost,
            jitter=None if own is None else own.jitter / _clock(transceiver),
            round_trip_time=None,
            bitrate=self._bitrate(receiver, size, now),
        )

    def _bitrate(self, what: object, size: int, now: float) -> float | None:
        then, had = self._last.get(what, (self._born, 0))
        self._last[what] = (now, size)
        return (size - had) * 8 / (now - then) if now > then else None


def _of_type(report: Mapping[str, Any], type: str) -> Any | None:
    return next((stats for stats in report.values() if stats.type == type), None)


def _codec(transceiver: Any) -> str | None:
    codecs = private.codecs(transceiver)
    return str(codecs[0].name) if codecs else None


def _clock(transceiver: Any) -> int:
    codecs = private.codecs(transceiver)
    return int(codecs[0].clockRate) if codecs else 1


def _candidate(candidate: Any) -> CandidateStats:
    return CandidateStats(candidate.type, candidate.host, candidate.port, candidate.transport)
