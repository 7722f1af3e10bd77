"""A peer machine that does what a test tells it to, and keeps what it was told: a stand-in for `RtcPeer`."""

from __future__ import annotations

from typing import Any

from metered_proto.entropy import Entropy
from metered_proto.events import IceServer, StateChange
from metered_proto.facts import Asked, Fact, LinkDown, Woken
from metered_proto.machine import Deadline, Micros
from metered_proto.orders import Answer, Order, Tell
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.words import (
    ChannelOptions,
    CloseConnection,
    ConnectionChanged,
    CreateChannel,
    MeasureTraffic,
    Numbers,
    OpenChannel,
    OpenConnection,
    PeerState,
    Reconcile,
    RtcCall,
    SetIce,
    SetTracks,
    Shut,
    SignalCame,
    SignalPeer,
    SwapTrack,
)
from metered_proto.wire.signals import Signal


class ScriptedPeer:
    """Answers every call as agreed. `says` are the orders that it gives at the next fact, before anything else."""

    def __init__(
        self,
        options: RtcOptions,
        numbers: Numbers,
        entropy: Entropy,
        *,
        polite: bool,
        servers: tuple[IceServer, ...],
        max_message_size: int,
    ) -> None:
        self.options = options
        self.numbers = numbers
        self.polite = polite
        self.servers = servers
        self.max_message_size = max_message_size
        self.state: PeerState = "idle"
        self.pc: int | None = None
        self.deadline: Deadline | None = None
        self.link_up = True
        self.received: int | None = 0
        self.swaps: str = "succeed"
        """What becomes of a `SwapTrack`: "succeed", "fail" or "wait"."""
        self.error: Exception = RuntimeError("no sender")
        self.facts: list[Fact] = []
        self.waiting: list[int] = []
        self.says: list[Order] = []
        self.wakes = 0

    @property
    def connected(self) -> bool:
        return self.state == "connected"

    @property
    def calls(self) -> list[RtcCall]:
        """What it was asked, traffic left out."""
        asked = [fact.call for fact in self.facts if isinstance(fact, Asked)]
        return [call for call in asked if not isinstance(call, MeasureTraffic)]

    @property
    def measured(self) -> int:
        return len([fact for fact in self.facts if isinstance(fact, Asked) and isinstance(fact.call, MeasureTraffic)])

    @property
    def signals(self) -> list[Signal]:
        return [fact.signal for fact in self.facts if isinstance(fact, SignalCame)]

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        assert self.state != "closed" or not isinstance(fact, Asked), "asked after its end"
        self.facts.append(fact)
        orders, self.says = self.says, []
        match fact:
            case LinkDown(0):
                assert self.link_up
                self.link_up = False
            case Woken():
                self.wakes += 1
                self.deadline = None
            case ConnectionChanged(pc, state) if pc == self.pc:
                orders = [*orders, *self._becomes("connected" if state == "connected" else "reconnecting")]
            case Asked(op, call):
                orders = [*orders, *self._asked(op, call)]
            case _:
                pass
        return orders

    def _becomes(self, state: PeerState) -> list[Order]:
        before, self.state = self.state, state
        return [] if before == state else [Tell(StateChange(before, state))]

    def _asked(self, op: int, call: Any) -> list[Order]:
        match call:
            case MeasureTraffic():
                return [Answer(op, self.received if self.connected else None)]
            case CreateChannel(options):
                channel = self.numbers.next()
                return [*self.opens(channel, options), Answer(op, channel)]
            case SwapTrack():
                if self.swaps == "wait":
                    self.waiting.append(op)
                    return []
                return [Answer(op, error=self.error if self.swaps == "fail" else None)]
            case Reconcile(polite):
                self.polite = polite
                self.link_up = True
                return [Answer(op)]
            case SetIce(servers):
                self.servers = servers
                return [Answer(op)]
            case Shut():
                closing: list[Order] = [] if self.pc is None else [CloseConnection(self.pc)]
                return [*closing, *self._becomes("closed"), Answer(op)]
            case _:
                assert isinstance(call, SetTracks)
                return [Answer(op)]

    # --- what a test has it order ---

    def opens(self, channel: int, options: ChannelOptions) -> list[Order]:
        orders: list[Order] = []
        if self.pc is None:
            self.pc = self.numbers.next()
            orders.append(OpenConnection(self.pc, self.servers, self.options.relay_only))
        return [*orders, OpenChannel(self.pc, channel, options)]

    def connects(self) -> list[Order]:
        """Orders a connection."""
        self.pc = self.numbers.next()
        self.state = "connecting"
        return [OpenConnection(self.pc, self.servers, self.options.relay_only)]

    def signals_out(self, *signals: Signal) -> list[Order]:
        return [SignalPeer(signal) for signal in signals]
