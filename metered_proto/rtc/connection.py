"""One peer connection of ours, and what both sides have said about it."""

from __future__ import annotations

from metered_proto.machine import Micros
from metered_proto.orders import Order
from metered_proto.rtc.candidates import LocalCandidates
from metered_proto.rtc.matching import for_offer, name_of_offer, offer_named_in
from metered_proto.rtc.words import Described, SignalPeer
from metered_proto.wire.sdp import SdpFacts, read_sdp, same_ice_generation
from metered_proto.wire.signals import Candidate, RtcDescription, RtcIce


class Connection:
    """A generation: it has one ICE user name fragment on either side, and if either changes it is another one.

    (ICE could be restarted within a connection, RFC 8839, section 4.4.1.1.1. Not every engine can.)
    """

    __slots__ = (
        "_answer",
        "_candidates",
        "_is_out",
        "_last",
        "_offer",
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
        """The last offer of the remote, which our answer belongs to; None once an offer of ours has been agreed on."""
        self.unfitted = False
        """Whether the last answer had no place for something of ours."""
        self.said_at: Micros | None = None
        """When our last description was sent; None if it has not been."""
        self._last: RtcDescription | None = None
        self._answer: RtcDescription | None = None
        self._offer: str | None = None  # the name of our last one, unless it gave way
        self._is_out = False
        self._candidates = LocalCandidates()

    def offers(self, described: Described) -> None:
        """Note an offer of ours, which has not been sent yet."""
        self._offer, self._is_out = name_of_offer(described.sdp), True
        self._note(RtcDescription("offer", described.sdp), described)

    def answers(self, offer: str, described: Described) -> None:
        """Note our answer, which has not been sent yet. If an offer of ours was out, it has given way."""
        if self._is_out:
            self._offer, self._is_out = None, False
        self.answered = offer
        self.unfitted = described.unfitted
        self._answer = RtcDescription("answer", for_offer(described.sdp, offer))
        self._note(self._answer, described)

    def agreed(self) -> None:
        """The remote's answer to our offer has been taken. It cannot want our last answer any more."""
        self.answered = self._answer = None
        self._is_out = False
        self.unfitted = False

    def say(self, now: Micros) -> list[Order]:
        """Send our last description."""
        self.said_at = now
        return self._say(self._last)

    def say_answer(self) -> list[Order]:
        """Send our last answer once more."""
        return self._say(self._answer)

    def found(self, candidate: Candidate | None) -> list[Order]:
        """Note a candidate of ours, or the end of them. It is sent at once if its description has been."""
        is_new = self._candidates.found(candidate)
        return [SignalPeer(RtcIce(candidate))] if is_new and self.said_at is not None else []

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

    def _note(self, description: RtcDescription, described: Described) -> None:
        self._last, self.said_at = description, None
        self.local = read_sdp(described.sdp)
        self._candidates.described(described.complete)

    def _say(self, description: RtcDescription | None) -> list[Order]:
        assert description is not None, "nothing has been described"
        return [SignalPeer(description), *(SignalPeer(ice) for ice in self._candidates.to_say())]
