"""Which of our tracks goes in which media section of a connection."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from aiortc import RTCPeerConnection

from metered_anyio.logger import ContainedLogger
from metered_anyio.rtc import private, private_sending
from metered_anyio.rtc.outlet import Feed, Outlet
from metered_proto.errors import PeerConnectionError
from metered_proto.rtc.words import LocalTrack

RESTING: Final = 32
"""So many sections are left idle by tracks that were removed, before one is used again."""


class Place:
    """A section that sends, or may send again: a transceiver and what its sender sends."""

    __slots__ = ("_logger", "key", "outlet", "transceiver")

    def __init__(self, transceiver: Any, outlet: Outlet, logger: ContainedLogger) -> None:
        self.transceiver = transceiver
        self.outlet = outlet
        self.key: int | None = None
        self._logger = logger

    def failed(self, error: Exception) -> None:
        """The sender has stopped for good."""
        self._logger.error("a track cannot be sent any more", {"error": type(error).__name__})


class Senders:
    """The tracks of ours on one connection. `source_of` finds the source of a track by its number."""

    def __init__(
        self,
        pc: RTCPeerConnection,
        source_of: Callable[[int], Feed | None],
        logger: ContainedLogger,
    ) -> None:
        self._pc = pc
        self._source_of = source_of
        self._logger = logger
        self._places: list[Place] = []

    @property
    def places(self) -> tuple[Place, ...]:
        """All sections that send or have sent."""
        return tuple(self._places)

    def place_of(self, transceiver: Any) -> Place | None:
        """What is sent in the section of this transceiver."""
        return next((place for place in self._places if place.transceiver is transceiver), None)

    def offer(self, tracks: Collection[LocalTrack]) -> None:
        """Give each track a section, in an offer of ours, and no section to any other."""
        for track in self._missing(tracks):
            place = self._resting(track.kind)
            if place is None:
                free = self._receiving(track.kind) if track.metadata is None else None
                place = self._new(free or self._pc.addTransceiver(track.kind, direction="sendrecv"))
            self._send(place, track)

    def resume(self, tracks: Collection[LocalTrack], sections: Iterable[tuple[Any, int | None]]) -> None:
        """Give tracks the sections that they had on the connection before: transceivers, with their tracks' numbers.

        One whose track is not known any more goes to whoever is next, and has nothing to be known by.
        """
        missing = self._missing(tracks)
        sections = list(sections)
        for known in (True, False):
            for transceiver, key in sections:
                if self.place_of(transceiver) is not None:
                    continue
                fitting = (
                    track
                    for track in missing
                    if track.kind == transceiver.kind
                    and (track.key == key if known else key is None and track.metadata is None)
                )
                if (track := next(fitting, None)) is not None:
                    missing.remove(track)
                    self._send(self._new(transceiver), track)

    def answer(self, tracks: Collection[LocalTrack], sections: Iterable[Any]) -> bool:
        """Give each track a section of the remote's offer. True if one found no place.

        `sections` are the transceivers of the offer, in its order.
        """
        missing = self._missing(tracks)
        for transceiver in sections:
            may_send = private.offered_direction(transceiver) in ("sendonly", "sendrecv")
            if not may_send or self.place_of(transceiver) is not None:
                continue
            fitting = (t for t in missing if t.kind == transceiver.kind and _fits(t, transceiver))
            track = next(fitting, None)
            if track is not None:
                missing.remove(track)
                self._send(self._new(transceiver), track)
        return bool(missing)

    def forget(self, transceivers: Collection[Any]) -> None:
        """These are gone: the offer that brought them gave way to another."""
        for place in self._places:
            if place.transceiver in transceivers:
                place.outlet.stop()
        self._places = [place for place in self._places if place.transceiver not in transceivers]

    def swap(self, old: int, new: LocalTrack | None) -> None:
        """Send `new` where `old` is sent. The section stays as it is, whoever reads it notices nothing.

        Raises `PeerConnectionError` if there is no source for `new`.
        """
        if new is not None and self._source_of(new.key) is None:
            raise PeerConnectionError("track", "there is no source for it")
        for place in self._places:
            if place.key == old:
                if new is None:
                    self._rest(place)
                else:
                    self._send(place, new)

    def let_go(self, key: int) -> None:
        """A track is no longer there to be sent."""
        for place in self._places:
            if place.key == key:
                place.outlet.feed_from(None)

    def close(self) -> None:
        """Nothing is sent any more."""
        for place in self._places:
            place.outlet.stop()

    def _missing(self, tracks: Collection[LocalTrack]) -> list[LocalTrack]:
        """Take what is not wanted any more out of its place; which of the tracks have none yet?"""
        wanted = {track.key: track for track in tracks}
        for place in self._places:
            if place.key is not None and place.key not in wanted:
                self._rest(place)
        placed = {place.key for place in self._places}
        return [track for track in tracks if track.key not in placed]

    def _resting(self, kind: str) -> Place | None:
        """A section that has sent, that the remote knows to have ended, if there are too many of them.

        Otherwise each track has a section of its own for all times: to a browser a section is one track, under one id.
        """
        resting = [
            place for place in self._places if place.key is None and place.transceiver.currentDirection in _NOT_SENDING
        ]
        if len(resting) < RESTING:
            return None
        return next((place for place in resting if place.transceiver.kind == kind), None)

    def _receiving(self, kind: str) -> Any | None:
        """A section in which we have only received so far."""
        used = {place.transceiver for place in self._places}
        return next((t for t in self._pc.getTransceivers() if t.kind == kind and t not in used), None)

    def _new(self, transceiver: Any) -> Place:
        place = Place(transceiver, Outlet(transceiver.kind), self._logger)
        private_sending.send_from(transceiver.sender, place.outlet, place.failed)
        self._places.append(place)
        return place

    def _send(self, place: Place, track: LocalTrack) -> None:
        place.key = track.key
        feed = self._source_of(track.key)
        place.outlet.feed_from(feed)
        wanted = None if feed is None else feed.encoding.codec or feed.source.codec
        if wanted is not None:
            private.prefer(place.transceiver, wanted)
        private.set_msid(place.transceiver.sender, track.stream_id, track.track_id)
        if place.transceiver.direction in _NOT_SENDING:
            place.transceiver.direction = "sendrecv" if place.transceiver.direction == "recvonly" else "sendonly"

    def _rest(self, place: Place) -> None:
        place.key = None
        place.outlet.feed_from(None)
        place.transceiver.direction = "recvonly"


_NOT_SENDING = ("recvonly", "inactive")


def _fits(track: LocalTrack, transceiver: Any) -> bool:
    """Whether a track may go into a section that the remote offered.

    A browser that sends in a section knows our track there by an id of its own, so what was said about the track would
    not be found. Such a track goes into a section that we offer.
    """
    return track.metadata is None or private.offered_direction(transceiver) == "sendonly"
