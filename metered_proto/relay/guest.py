"""One socket at the relay, and the course of its life.

    new ──accept──▶ asking ──welcome──▶ member ──close──▶ closing ──down, abort──▶ gone

with the shortcuts that `LIFE` lists. Only a member is in the registry, only a member's frames are looked at, and
what is gone is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from metered_proto.events import PresencePeer
from metered_proto.relay.admission import Access
from metered_proto.relay.frames import NO_STAMP, Stamp
from metered_proto.relay.limits import Meter


class State(StrEnum):
    """Where a guest is."""

    NEW = "new"
    """Its upgrade has just come."""
    ASKING = "asking"
    """The upgrade is being answered."""
    MEMBER = "member"
    """Welcomed."""
    CLOSING = "closing"
    """A close is on its way; nothing that still comes counts."""
    GONE = "gone"
    """Forgotten."""


class Step(StrEnum):
    """What happens to a guest."""

    ACCEPT = "accept"
    """The upgrade goes through, whatever the credential is worth."""
    REFUSE = "refuse"
    """The upgrade is answered with an HTTP error."""
    WELCOME = "welcome"
    """The handshake is over and the credential good."""
    CLOSE = "close"
    """The relay ends it, politely."""
    ABORT = "abort"
    """The relay ends it and does not wait."""
    DOWN = "down"
    """The link is gone."""


LIFE: Final[Mapping[tuple[State, Step], State]] = MappingProxyType(
    {
        (State.NEW, Step.ACCEPT): State.ASKING,
        (State.NEW, Step.REFUSE): State.GONE,
        (State.ASKING, Step.WELCOME): State.MEMBER,
        (State.ASKING, Step.CLOSE): State.CLOSING,
        (State.ASKING, Step.ABORT): State.GONE,
        (State.ASKING, Step.DOWN): State.GONE,
        (State.MEMBER, Step.CLOSE): State.CLOSING,
        (State.MEMBER, Step.ABORT): State.GONE,
        (State.MEMBER, Step.DOWN): State.GONE,
        (State.CLOSING, Step.ABORT): State.GONE,
        (State.CLOSING, Step.DOWN): State.GONE,
    }
)
"""Every step there is, and where it leads. What is not here does not happen."""


class Guest:
    """What the relay keeps for one socket."""

    __slots__ = ("access", "link", "malformed", "meter", "peer", "peer_id", "stamp", "state", "unanswered")

    access: Access
    """Of a member: what it may do."""
    peer: PresencePeer
    """Of a member: how others see it."""
    peer_id: str
    """Of a member."""

    def __init__(self, link: int) -> None:
        self.link = link
        self.state = State.NEW
        self.meter: Meter | None = None
        self.stamp: Stamp = NO_STAMP
        self.unanswered = False
        """A ping went out, and nothing came since."""
        self.malformed = 0

    def take(self, step: Step) -> None:
        """Go where `LIFE` says that the step leads."""
        self.state = LIFE[self.state, step]

    def is_member(self) -> bool:
        """Whether it is in, and its frames count."""
        return self.state is State.MEMBER
