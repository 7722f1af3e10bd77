"""One peer connection of ours, and what both sides have said about it."""

from __future__ import annotations

import msgspec

from metered_proto.machine import Micros
from metered_proto.orders import Order
from metered_proto.rtc.candidates import LocalCandidates
from metered_proto.rtc.matching import for_offer, name_of_offer, offer_named_in
from metered_proto.rtc.words import Described, SignalPeer
from metered_proto.wire.sdp import SdpFacts, read_sdp, same_ice_generation, ufrags
from metered_proto.wire.signals import DescriptionType, RtcDescription


class Connection:
    """A generation: it has one ICE user name fragment on either side, and if either changes it is another one.

    (ICE could be restarted within a connection, RFC 8839, section 4.4.1.1.1. Not every engine can.)
    """

    __slots__ = (
        "_candidates",
        "_offer",
        "_said",
        "answered",
        "disconnected_at",
        "local",
        "opened_at",
        "pc",
        "remote",
        "said_at",
        "unfitted",
        "up",
        "was_up",
    )

    def __init__(self, pc: int, now: Micros) -> None:
        self.pc = pc
        self.opened_at = now
        self.up = False
        self.was_up = False
        self.disconnected_at: Micros | None = None
        self.local: SdpFacts | None = None
        self.remote: SdpFacts | None = None
        self.answered: str | None = None
        """The offer of the remote that the last description of ours answers; None where that is an offer."""
        self.unfitted = False
        """Whether the last answer had no place for something of ours."""
        self.said_at: Micros | None = None
        """When our description was sent; None if it has not been."""
        self._said: RtcDescription | None = None
        self._offer: str | None = None
        self._candidates = LocalCandidates()

    def describe(self, type: DescriptionType, described: Described, answered: str | None = None) -> None:
        """Note our own description, which has not been sent yet."""
        self.local = read_sdp(described.sdp)
        self.answered = answered
        self.unfitted = described.unfitted
        self.said_at = None
        sdp = described.sdp if answered is None else for_offer(described.sdp, answered)
        self._said = RtcDescription(type, sdp)
        if type == "offer":
            self._offer = name_of_offer(sdp)
        self._candidates.described(described.complete)

    def say(self, now: Micros) -> list[Order]:
        """Send our description, and the candidates that are not in it."""
        if self._said is None:
            return []
        self.said_at = now
        return [SignalPeer(self._said), *(SignalPeer(ice) for ice in self._candidates.to_say())]

    @property
    def candidates(self) -> LocalCandidates:
        """Ours, beyond the description."""
        return self._candidates

    def is_late(self, answer: str) -> bool:
        """Whether an answer is for another offer than our last one."""
        named = offer_named_in(answer)
        return named is not None and named != self._offer

    def is_of(self, facts: SdpFacts) -> bool:
        """Whether the remote's connection, as it describes it now, is the one that we know."""
        return self.remote is not None and same_ice_generation(self.remote, facts)

    def has_application(self) -> bool:
        """Whether both sides have agreed on a place for data channels."""
        return all(
            facts is not None and any(s.kind == "application" and not s.rejected for s in facts.media)
            for facts in (self.local, self.remote)
        )


class Heard(msgspec.Struct, frozen=True):
    """A description of the remote's, read. Its repr leaves out the SDP, which holds the ICE password."""

    type: DescriptionType
    sdp: str
    facts: SdpFacts

    @property
    def ufrags(self) -> tuple[str, ...]:
        """The ICE user name fragments it names."""
        return ufrags(self.facts)

    def __repr__(self) -> str:
        return f"Heard(type={self.type!r}, sdp=<{len(self.sdp)} characters>)"
