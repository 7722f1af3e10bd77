"""Simulated peer connections: what is said about them is real, what they carry is not.

A connection does what one with a real engine would: what it describes is proper SDP, an answer fits our tracks into
the sections that the offer has, and one that cannot do what it is asked to fails. Whether it comes up is for the world
to say (`metered_proto.sim.media`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from metered_proto.events import IceServer
from metered_proto.rtc.words import Described, LocalTrack, MakeAnswer, MakeOffer, SwapSender, TakeAnswer
from metered_proto.wire.sdp import SdpFacts, read_sdp, ufrags

SENDS = ("sendrecv", "sendonly")
RECEIVES = ("sendrecv", "recvonly")


class EngineError(Exception):
    """A connection could not do it."""


class MadeToFailError(EngineError):
    """It could have done it, had it not been made to fail."""


class Section(msgspec.Struct):
    """A media section of one connection, from our side."""

    mid: str
    kind: str
    track: LocalTrack | None = None
    remote_sends: bool = False
    remote_receives: bool = True
    agreed: bool = False


class SimConnection(msgspec.Struct, eq=False):
    """One connection of ours. `rolls_back`: whether an offer on a described connection can be taken back."""

    pc: int
    ufrag: str
    rolls_back: bool
    sections: list[Section] = []
    before: list[Section] | None = None
    """The sections as they were ahead of an offer that is out; None when none is."""
    remote_ufrag: str | None = None
    channels: list[int] = []
    up: bool = False
    candidates: list[Any] = []
    """Those of the remote."""
    trickled: bool = False
    ice_servers: tuple[IceServer, ...] = ()
    relay_only: bool = False

    def offer(self, work: MakeOffer) -> Described:
        """Make an offer."""
        if self.before is not None:
            raise EngineError("an offer is out")
        self.before = [msgspec.structs.replace(section) for section in self.sections]
        self._place(work.tracks, room=True)
        for kind in work.receive:
            if kind != "application" or not self._application():
                self._add(kind)
        if self.channels and not self._application():
            self._add("application")
        if not self.sections:
            raise EngineError("nothing to offer")
        return Described(self._write(offer=True))

    def answer(self, work: MakeAnswer) -> Described:
        """Take an offer and answer it."""
        facts = self._read(work.sdp)
        if self.before is not None:
            if not self.rolls_back or self.remote_ufrag is None:
                raise EngineError("no rollback")
            self.sections, self.before = self.before, None
        for index, offered in enumerate(facts.media):
            if index == len(self.sections):
                self.sections.append(Section(offered.mid or str(index), offered.kind))
            section = self.sections[index]
            if (section.mid, section.kind) != (offered.mid, offered.kind):
                raise EngineError("the sections changed")
            section.remote_sends = offered.direction in SENDS
            section.remote_receives = offered.direction in RECEIVES
        if len(facts.media) < len(self.sections):
            raise EngineError("sections are missing")
        left = self._place(work.tracks, room=False)
        self._agree(facts)
        lacks_channels = bool(self.channels) and not self._application()
        return Described(self._write(offer=False), unfitted=bool(left) or lacks_channels)

    def take(self, work: TakeAnswer) -> None:
        """Take the answer to our offer."""
        facts = self._read(work.sdp)
        if self.before is None:
            raise EngineError("no offer is out")
        if [(s.mid, s.kind) for s in facts.media] != [(s.mid, s.kind) for s in self.sections]:
            raise EngineError("an answer to another offer")
        for section, answered in zip(self.sections, facts.media, strict=True):
            section.remote_sends = answered.direction in SENDS
            section.remote_receives = answered.direction in RECEIVES
        self.before = None
        self._agree(facts)

    def swap(self, work: SwapSender) -> None:
        """Send another track in the place of one."""
        for section in self.sections:
            if section.track is not None and section.track.key == work.old:
                section.track = work.new
                return
        raise EngineError("no such track")

    @property
    def described(self) -> bool:
        """Whether the remote has described its end."""
        return self.remote_ufrag is not None

    def _read(self, sdp: str) -> SdpFacts:
        facts = read_sdp(sdp)
        names = ufrags(facts)
        if not facts.media or not names:
            raise EngineError("no description")
        if self.remote_ufrag not in (None, names[0]):
            raise EngineError("ICE cannot be restarted")
        return facts

    def _agree(self, facts: SdpFacts) -> None:
        self.remote_ufrag = ufrags(facts)[0]
        for section in self.sections:
            section.agreed = True

    def _application(self) -> bool:
        return any(section.kind == "application" for section in self.sections)

    def _add(self, kind: str, track: LocalTrack | None = None) -> None:
        self.sections.append(Section(str(len(self.sections)), kind, track))

    def _place(self, tracks: tuple[LocalTrack, ...], *, room: bool) -> list[LocalTrack]:
        """Put tracks where they are or where they fit; without `room` for more, return those left over."""
        wanted = {track.key: track for track in tracks}
        for section in self.sections:
            section.track = None if section.track is None else wanted.pop(section.track.key, None)
        left = []
        for track in wanted.values():
            free = [s for s in self.sections if s.kind == track.kind and s.track is None and s.remote_receives]
            if free:
                free[0].track = track
            elif room:
                self._add(track.kind, track)
            else:
                left.append(track)
        return left

    def _write(self, *, offer: bool) -> str:
        lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
        for section in self.sections:
            lines += [f"m={section.kind} 9 UDP/TLS/RTP/SAVPF 96", f"a=mid:{section.mid}", f"a=ice-ufrag:{self.ufrag}"]
            sends = section.track is not None and (offer or section.remote_receives)
            receives = offer or section.remote_sends
            name = {(True, True): "sendrecv", (True, False): "sendonly", (False, True): "recvonly"}
            lines.append(f"a={name.get((sends, receives), 'inactive')}")
            if section.track is not None:
                lines.append(f"a=msid:{section.track.stream_id or '-'} {section.track.track_id}")
        return "\r\n".join([*lines, ""])
