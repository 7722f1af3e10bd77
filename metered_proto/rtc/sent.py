"""Our own tracks and data channels: what the remote is to have, and what it has already.

A track keeps its place at the remote for as long as the connection lives, and the place keeps the msid track id that
it was made with, whichever track is sent there now.
"""

from __future__ import annotations

from typing import Final

import msgspec

from metered_proto.errors import LocalProtocolError
from metered_proto.orders import Order
from metered_proto.rtc.words import ChannelOptions, LocalTrack, OpenChannel, SectionKind, SignalPeer
from metered_proto.wire.signals import TrackMeta

_KINDS: Final[tuple[SectionKind, ...]] = ("audio", "video")


class SentTracks:
    """The tracks that the application wants to be sent, against those that the remote knows of."""

    __slots__ = ("_announced", "_places", "carried", "described", "wanted")

    def __init__(self) -> None:
        self.wanted: tuple[LocalTrack, ...] = ()
        self.carried: dict[int, LocalTrack] = {}
        """Those that both sides have agreed on, on this connection, by key."""
        self.described: dict[int, LocalTrack] = {}
        """Those in the description that is being made, or waits for its answer."""
        self._places: dict[int, str] = {}
        self._announced: dict[str, TrackMeta] = {}

    def want(self, tracks: tuple[LocalTrack, ...]) -> None:
        """Send these. Raises `LocalProtocolError` if two have one key."""
        if len({track.key for track in tracks}) < len(tracks):
            raise LocalProtocolError("two tracks with one key")
        self.wanted = tracks

    def opened(self) -> None:
        """There is another connection, which carries nothing."""
        self.carried, self.described, self._places = {}, {}, {}

    def to_describe(self) -> tuple[LocalTrack, ...]:
        """What the next description is to carry.

        A new track of a kind waits until the removal of one has been agreed on. In the same description it would take
        over the old one's section, and a remote would not see that it is another track.
        """
        wanted = {track.key for track in self.wanted}
        leaving = {track.kind for track in self.carried.values() if track.key not in wanted}
        chosen = [track for track in self.wanted if track.key in self.carried or track.kind not in leaving]
        self.described = {track.key: track for track in chosen}
        return tuple(
            msgspec.structs.replace(track, track_id=self._places.setdefault(track.key, track.track_id))
            for track in chosen
        )

    def agreed(self) -> None:
        """Both sides have the description."""
        self.carried, self.described = self.described, {}

    def withdrawn(self) -> None:
        """The description came to nothing."""
        self.described = {}

    @property
    def differ(self) -> bool:
        """Whether the remote's knowledge is out of date."""
        return {track.key for track in self.wanted} != set(self.carried)

    def place_of(self, key: int) -> LocalTrack | None:
        """The track, if it has a sender on this connection."""
        return self.carried.get(key) or self.described.get(key)

    def swap(self, old: int, new: LocalTrack | None) -> None:
        """Let `new` take over from `old`, here and in its place. With None, `old` is no longer wanted."""
        if any(track.key == old for track in self.wanted):
            others = [track for track in self.wanted if new is None or track.key != new.key]
            swapped = [new if track.key == old else track for track in others]
            self.wanted = tuple(track for track in swapped if track is not None)
        if new is None:
            return
        for known in (self.carried, self.described):
            if known.pop(old, None) is not None:
                known[new.key] = new
        if old in self._places:
            self._places[new.key] = self._places.pop(old)

    # --- metadata ---

    def announce(self) -> list[Order]:
        """Say of each track what it is for, where that has not been said; take back what is no longer true.

        Goes ahead of the description that carries the tracks.
        """
        true = {
            track.track_id: TrackMeta(track.track_id, track.metadata, track.stream_id, track.kind)
            for track in self.wanted
            if track.metadata is not None
        }
        orders: list[Order] = [SignalPeer(TrackMeta(gone)) for gone in self._announced if gone not in true]
        orders += [SignalPeer(meta) for track_id, meta in true.items() if self._announced.get(track_id) != meta]
        self._announced = true
        return orders

    def unsure(self) -> None:
        """What was said may not have arrived, or means nothing any more: say it again with the next description."""
        self._announced = {}

    # --- for a side that only receives ---

    def lacking(self, kinds: tuple[SectionKind, ...]) -> tuple[SectionKind, ...]:
        """Which sections an offer needs beside those of our tracks so that all of `kinds` have a place."""
        sections: list[SectionKind] = []
        for kind in _KINDS:
            own = sum(track.kind == kind for track in self.described.values())
            sections += [kind] * max(0, kinds.count(kind) - own)
        return (*sections, "application") if "application" in kinds else tuple(sections)


class SentChannels:
    """The data channels that we make and that have not opened yet. They move from one connection to the next."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[int, ChannelOptions] = {}

    @property
    def waiting(self) -> bool:
        """Whether there is one."""
        return bool(self._waiting)

    def make(self, number: int, options: ChannelOptions) -> None:
        """A channel is wanted."""
        self._waiting[number] = options

    def settled(self, number: int) -> None:
        """A channel has opened, or closed."""
        self._waiting.pop(number, None)

    def move(self, pc: int) -> list[Order]:
        """There is another connection: they are to open there."""
        return [OpenChannel(pc, number, options) for number, options in self._waiting.items()]
