"""The stand-in for a peer machine where nothing can make peer connections: everything but media and channels works."""

from __future__ import annotations

from typing import Final

from metered_proto.entropy import Entropy
from metered_proto.errors import WebRtcMissingError
from metered_proto.events import IceServer, StateChange
from metered_proto.facts import Asked, Fact
from metered_proto.machine import Deadline, Micros
from metered_proto.orders import Answer, Note, Order, Tell
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.words import CreateChannel, Numbers, PeerState, Shut, SignalCame
from metered_proto.wire.signals import RtcDescription

HOW_TO_INSTALL: Final = "media and data channels need aiortc: pip install 'metered-sansio[webrtc]'"


class AbsentPeer:
    """A peer machine that never connects. A remote that offers gets no answer; the first of them is noted."""

    pc: int | None = None
    connected = False
    deadline: Deadline | None = None

    def __init__(self, maker: AbsentPeers) -> None:
        self.state: PeerState = "idle"
        self._maker = maker

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Take in one fact. A data channel is refused with `WebRtcMissingError`."""
        match fact:
            case Asked(op, CreateChannel()):
                return [Answer(op, error=WebRtcMissingError(HOW_TO_INSTALL))]
            case Asked(op, Shut()) if self.state != "closed":
                before, self.state = self.state, "closed"
                return [Tell(StateChange(before, "closed")), Answer(op)]
            case Asked(op):
                return [Answer(op)]
            case SignalCame(RtcDescription()) if not self._maker.noted:
                self._maker.noted = True
                return [Note("warning", f"a peer wants to connect, but {HOW_TO_INSTALL}")]
            case _:
                return []


class AbsentPeers:
    """Makes the machines of one room (`metered_proto.room.members.MakePeer`)."""

    noted = False

    def __call__(
        self,
        options: RtcOptions,
        numbers: Numbers,
        entropy: Entropy,
        *,
        polite: bool,
        servers: tuple[IceServer, ...],
        max_message_size: int,
    ) -> AbsentPeer:
        """Make a machine."""
        return AbsentPeer(self)
