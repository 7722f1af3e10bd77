"""The peer machines of a room: who has which number, and who wants to be woken when.

Connections, effects and data channels are numbered once in a room, so a number says whose it is. It is remembered
for as long as something can come of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from metered_proto.alarms import Alarms
from metered_proto.entropy import Entropy
from metered_proto.events import IceServer
from metered_proto.facts import EffectDone, Fact, Woken
from metered_proto.machine import Deadline, Machine, Micros
from metered_proto.orders import Abandon, Begin, Order
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.words import (
    CandidateFailed,
    CandidateGathered,
    ChannelArrived,
    ChannelClosed,
    ChannelOpened,
    CloseConnection,
    ConnectionChanged,
    Numbers,
    OpenChannel,
    OpenConnection,
    PeerState,
)


class PeerMachine(Machine, Protocol):
    """What a room needs of the machine of one peer: `metered_proto.rtc.peer.RtcPeer`, or one that can stand in."""

    @property
    def state(self) -> PeerState:
        """What the application sees."""
        ...

    @property
    def connected(self) -> bool:
        """Whether there is a live connection."""
        ...

    @property
    def pc(self) -> int | None:
        """The number of the connection in use."""
        ...


class MakePeer(Protocol):
    """Where a room gets the machine for a new member from.

    The way to the peer is there in the beginning. After a `LinkDown(0)` it is there again with the next `Reconcile`.
    """

    def __call__(
        self,
        options: RtcOptions,
        numbers: Numbers,
        entropy: Entropy,
        *,
        polite: bool,
        servers: tuple[IceServer, ...],
        max_message_size: int,
    ) -> PeerMachine:
        """Make a machine."""
        ...


class Member(msgspec.Struct, eq=False):
    """One member and its machine. `polite` is our part in negotiations with it; `link_up` is the way to it over the
    relay, as its machine was told."""

    number: int
    peer_id: str
    machine: PeerMachine
    polite: bool
    link_up: bool = True
    alarm: Micros | None = None
    numbers: set[int] = msgspec.field(default_factory=set)


_OF_CONNECTION = (ConnectionChanged, CandidateGathered, ChannelArrived, CandidateFailed)


class Members:
    """All members, by id and by number, in the order in which they came."""

    def __init__(self) -> None:
        self._by_id: dict[str, Member] = {}
        self._by_number: dict[int, Member] = {}
        self._owners: dict[int, Member] = {}
        self._alarms = Alarms()
        self._count = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._by_id.values()))

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all."""
        return tuple(self._by_id)

    @property
    def deadline(self) -> Deadline | None:
        """The soonest of any."""
        at = self._alarms.next
        return None if at is None else Deadline(at, "peer")

    def get(self, peer_id: str) -> Member | None:
        """The member with this id."""
        return self._by_id.get(peer_id)

    def numbered(self, number: int) -> Member:
        """The member with this number of ours, which must be there."""
        return self._by_number[number]

    def next_number(self) -> int:
        """A number for a new member."""
        self._count += 1
        return self._count

    def add(self, member: Member) -> None:
        """A member is there."""
        self._by_id[member.peer_id] = self._by_number[member.number] = member

    def remove(self, member: Member) -> None:
        """A member is gone, and nothing that has its numbers concerns anybody any more."""
        del self._by_id[member.peer_id], self._by_number[member.number]
        self._alarms.cancel(member.number)
        for number in member.numbers:
            del self._owners[number]

    # --- driving them ---

    def owner(self, fact: Fact) -> Member | None:
        """Whom a fact of the engine's concerns; None where that is over. What ended by it is forgotten."""
        match fact:
            case EffectDone(number) | ChannelClosed(number):
                member = self._owners.get(number)
                self._forget(number)
                return member
            case ChannelOpened(number):
                return self._owners.get(number)
            case _:
                assert isinstance(fact, _OF_CONNECTION)
                return self._owners.get(fact.pc)

    def tell(self, now: Micros, member: Member, fact: Fact) -> list[Order]:
        """Hand a fact to a member's machine; returns its orders."""
        orders = member.machine.handle(now, fact)
        for order in orders:
            match order:
                case OpenConnection(number) | Begin(number) | OpenChannel(_, number):
                    self._owners[number] = member
                    member.numbers.add(number)
                case CloseConnection(number) | Abandon(number):
                    self._forget(number)
                case _:
                    pass
        deadline = member.machine.deadline
        at = None if deadline is None else deadline.at
        if at != member.alarm:
            member.alarm = at
            if at is None:
                self._alarms.cancel(member.number)
            else:
                self._alarms.set(member.number, at)
        return orders

    def due(self, now: Micros) -> list[Member]:
        """Those that are to be woken now."""
        members = [self._by_number[number] for number in self._alarms.due(now)]
        for member in members:
            member.alarm = None
        return members

    def wake(self, now: Micros, member: Member) -> list[Order]:
        """Wake a member's machine."""
        return self.tell(now, member, Woken())

    def _forget(self, number: int) -> None:
        member = self._owners.pop(number, None)
        if member is not None:
            member.numbers.discard(number)
