"""What it takes to make a machine again: a plan for each kind of machine, and the machine that it makes.

A plan is all that went into a machine when it was made. It stands in the first line of a recording, with its secrets
replaced, and `rebuild` makes of it a machine of today's code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from metered_proto.client.deduplicator import Deduplicator
from metered_proto.client.outbox import Entry, Loaded, OutboxQueue
from metered_proto.client.session import ClientSession
from metered_proto.entropy import Entropy
from metered_proto.errors import MeteredRealtimeError
from metered_proto.events import IceServer
from metered_proto.facts import Fact
from metered_proto.machine import Deadline, Machine, Micros
from metered_proto.orders import Answer, Order
from metered_proto.relay.relay import Relay
from metered_proto.relay.settings import RelaySettings
from metered_proto.room.room import Room
from metered_proto.room.settings import RoomSettings
from metered_proto.rtc.absent import AbsentPeers
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.peer import RtcPeer
from metered_proto.rtc.words import Numbers
from metered_proto.settings import ClientSettings, Outbox


class Plan(msgspec.Struct, frozen=True):
    """The base of all plans. A kind of machine of one's own has a plan of its own, known to `replay` by its name."""


class DeduplicatorPlan(msgspec.Struct, frozen=True):
    """How a `Deduplicator` was made. One that was in use before cannot be made again."""

    max_outboxes: int = 10_000
    max_holes: int = 32
    max_ids: int = 10_000
    by_sender: bool = False


class ClientPlan(Plan, frozen=True):
    """A `ClientSession`. `outbox` is without its path; what its store held is in `loaded`."""

    settings: ClientSettings
    seed: str
    outbox: Outbox | None = None
    loaded: Loaded | None = None
    deduplicator: DeduplicatorPlan | None = None


class RoomPlan(Plan, frozen=True):
    """A `Room`. Without `webrtc` its peers are those that never connect."""

    settings: RoomSettings
    seed: str
    webrtc: bool = True


class PeerPlan(Plan, frozen=True):
    """An `RtcPeer` by itself."""

    options: RtcOptions
    seed: str
    polite: bool
    servers: tuple[IceServer, ...] = ()
    max_message_size: int = 65_536


class RelayPlan(Plan, frozen=True):
    """A `Relay`."""

    settings: RelaySettings
    seed: str


class PlainPlan(Plan, frozen=True):
    """A machine that this package does not know, by a name that whoever replays it does. `settings` is JSON."""

    name: str
    seed: str = ""
    settings: dict[str, Any] = {}


class Drafted(Fact, frozen=True):
    """Somebody had the outbox of a client draft a message. Its answer is the draft, under the number 0."""

    channel: str
    data: bytes
    message_id: str | None = None


class Discarded(Fact, frozen=True):
    """Somebody gave a draft back, because the store would not have it."""

    entry: Entry


Build: TypeAlias = Callable[[Any], Machine]
"""Makes a machine of its plan."""


class DraftingClient:
    """A client with its outbox, as one machine: drafts, which are made past the session, are facts as well."""

    def __init__(self, session: ClientSession, queue: OutboxQueue) -> None:
        self.session = session
        self._queue = queue

    @property
    def deadline(self) -> Deadline | None:
        """The session's."""
        return self.session.deadline

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Hand a fact to the session, a draft to the outbox."""
        if isinstance(fact, Drafted):
            return [drafted(self._queue, now, fact)[0]]
        if isinstance(fact, Discarded):
            self._queue.discard(fact.entry)
            return []
        return self.session.handle(now, fact)


def drafted(queue: OutboxQueue, now: Micros, fact: Drafted) -> tuple[Answer, Exception | None]:
    """Draft a message; what came of it, as an answer, and what was raised if it was."""
    try:
        return Answer(0, queue.draft(now, fact.channel, fact.data, fact.message_id)), None
    except (TypeError, ValueError, MeteredRealtimeError) as error:
        return Answer(0, error=error), error


def resumed(plan: Plan, machine: Any) -> Machine:
    """A machine that was thawed in the middle of its life, as `BUILDERS` would have made it at its birth.

    Raises `TypeError` if it is not a machine of that plan.
    """
    kinds = {ClientPlan: ClientSession, RoomPlan: Room, PeerPlan: RtcPeer, RelayPlan: Relay}
    if type(machine) is not kinds.get(type(plan)):
        raise TypeError("a machine of another kind")
    if isinstance(machine, ClientSession) and machine.outbox is not None:
        return DraftingClient(machine, machine.outbox)
    thawed: Any = machine
    return thawed  # type: ignore[no-any-return]


def _client(plan: ClientPlan) -> Machine:
    entropy, queue, remembered = Entropy(plan.seed), None, plan.deduplicator
    if plan.outbox is not None:
        timeout = plan.settings.ack_timeout
        queue = OutboxQueue(plan.outbox, entropy.fork("outbox"), plan.loaded, ack_timeout=timeout)
    deduplicator = None if remembered is None else Deduplicator(**msgspec.structs.asdict(remembered))
    session = ClientSession(plan.settings, entropy, outbox=queue, deduplicator=deduplicator)
    return session if queue is None else DraftingClient(session, queue)


def _room(plan: RoomPlan) -> Machine:
    make_peer = RtcPeer if plan.webrtc else AbsentPeers()
    return Room(plan.settings, Entropy(plan.seed), make_peer=make_peer)


def _peer(plan: PeerPlan) -> Machine:
    return RtcPeer(
        plan.options,
        Numbers(),
        Entropy(plan.seed),
        polite=plan.polite,
        servers=plan.servers,
        max_message_size=plan.max_message_size,
    )


def _relay(plan: RelayPlan) -> Machine:
    return Relay(plan.settings, Entropy(plan.seed))


BUILDERS: Final[Mapping[type[Plan], Build]] = {
    ClientPlan: _client,
    RoomPlan: _room,
    PeerPlan: _peer,
    RelayPlan: _relay,
}
"""How each kind of machine is made."""
