"""Whole rooms against the real machine of the relay, in memory: every place has a room with real peer machines.

Nothing takes time but waiting: what is under way arrives at once, in order. The connections between places are those
of the simulated engine that the tests of the peer machine have.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from metered_proto.client.calls import FetchToken
from metered_proto.entropy import Entropy
from metered_proto.events import StateChange
from metered_proto.facts import Asked, EffectDone, Fact, Heard, LinkAsked, LinkDown, LinkUp, Received, Woken
from metered_proto.machine import SECOND, Micros, micros
from metered_proto.orders import (
    Abandon,
    AcceptLink,
    Answer,
    Begin,
    Broadcast,
    CloseLink,
    Note,
    OpenLink,
    Order,
    PingLink,
    RefuseLink,
    Send,
    Tell,
)
from metered_proto.relay import Limits, PublishableKey, Relay, RelaySettings, SecretKey
from metered_proto.room.room import Room
from metered_proto.room.settings import RoomSettings
from metered_proto.room.words import AddTrack, AtPeer, Join, Leave, MemberJoined, MemberLeft, RemoveTrack, SendAll
from metered_proto.rtc.words import (
    AddCandidate,
    ChannelArrived,
    ChannelOpened,
    CloseConnection,
    ConnectionChanged,
    CountReceived,
    EndTrack,
    LocalTrack,
    OpenChannel,
    OpenConnection,
    TakeTrack,
    TrackGone,
    TrackSeen,
)
from metered_proto.settings import ClientSettings, ReconnectOptions
from metered_proto.wire.codec import encode_data
from metered_proto.wire.tokens import mint

sys.path.insert(0, str(Path(__file__).parents[1] / "rtc"))

from sim_kit import SimConnection, SimEngine

BORN_AT = 1_800_000_000.0
KEY = PublishableKey("pk_live_test")
SECRET = SecretKey("sk_id_test", "sk_secret_0123456789abcdef")


class Place:
    """One application with its room and its engine. `peer_id` None: it comes with a publishable key."""

    def __init__(self, world: World, name: str, peer_id: str | None, **options: Any) -> None:
        self.world = world
        self.name = name
        self.token_id = peer_id
        client = ClientSettings(
            api_key=KEY.key if peer_id is None else None,
            url="ws://localhost",
            reconnect=ReconnectOptions(jitter_ratio=0, max_delay=1.0),
            inactivity_timeout=0,
        )
        self.room = Room(RoomSettings(client=client), Entropy(name), **options)
        self.engines: dict[int, SimEngine] = {}
        self.tracks: dict[int, int] = {}  # the connections of received tracks
        self.told: list[Any] = []
        self.notes: list[Note] = []
        self.answers: dict[int, Answer] = {}
        self.seen: dict[str, set[int]] = {}
        self.guests: dict[int, int] = {}
        self.is_cut = False
        self._ops = 0

    # --- the application ---

    def asks(self, call: object) -> int:
        self._ops += 1
        self.world.tell_room(self, Asked(self._ops, call))
        self.world.settle()
        return self._ops

    def joins(self, channel: str = "room") -> None:
        op = self.asks(Join(channel))
        assert self.answers[op].error is None, self.answers[op]

    def leaves(self) -> None:
        self.asks(Leave())

    def sends(self, number: int, kind: Any = "video", **more: Any) -> None:
        """Send a track to everybody."""
        track = LocalTrack(number, kind, f"{self.name}-track-{number}", f"{self.name}-stream-{number}", **more)
        assert self.answers[self.asks(AddTrack(track))].error is None

    def removes(self, number: int) -> None:
        self.asks(RemoveTrack(number))

    def says(self, data: object) -> None:
        self.asks(SendAll(msgspec.Raw(encode_data(data))))

    @property
    def peer_id(self) -> str:
        assert self.room.peer_id is not None
        return self.room.peer_id

    def heard(self, kind: type) -> list[Any]:
        """Everything of one type that the application was told, of members, too."""
        events = [event.event if isinstance(event, AtPeer) else event for event in self.told]
        return [event for event in events if isinstance(event, kind)]

    def is_connected_to(self, other: Place) -> bool:
        return self.room.member_state(other.peer_id) == "connected"

    # --- the world around it ---

    def perform(self, order: Order) -> None:
        """Carry out an order for the engine."""
        match order:
            case OpenConnection(pc):
                engine = self.engines[pc] = SimEngine(f"{self.name}/{-pc}/")
                engine.perform(order)
            case CloseConnection(pc):
                engine = self.engines.pop(pc)
                engine.perform(order)
            case AddCandidate(pc) | OpenChannel(pc):
                self.engines[pc].perform(order)
            case TakeTrack(pc, _, track):
                self.tracks[track] = pc
                self.engines[pc].perform(order)
            case EndTrack(track):
                self.engines[self.tracks.pop(track)].perform(order)
            case Begin(_, work):
                self.engines[work.pc].perform(order)
                self.world.soon(lambda: self._finish(work.pc))
            case Abandon(effect):
                [engine] = [engine for engine in self.engines.values() if any(b.effect == effect for b in engine.work)]
                engine.perform(order)
            case _:
                raise AssertionError(f"not for an engine: {order}")

    def _finish(self, pc: int) -> None:
        engine = self.engines.get(pc)
        if engine is not None and engine.work:
            work = engine.work[0].work
            done = engine.finish()
            if isinstance(work, CountReceived):
                done = EffectDone(done.effect, self.world.received(self, pc))
            self.world.tell_room(self, done)

    @property
    def connections(self) -> list[SimConnection]:
        return [connection for engine in self.engines.values() for connection in engine.connections.values()]


class World:
    """A relay, and everybody who goes there."""

    def __init__(self, **limits: Any) -> None:
        self._limits = {"connects_per_minute": None, **limits}
        self.now: Micros = 0
        self.places: list[Place] = []
        self.frozen: set[str] = set()
        """Places that died without a word."""
        self._queue: deque[Callable[[], None]] = deque()
        self._guests: dict[int, tuple[Place, int]] = {}
        self._numbers = 0
        self._lives = 0
        self._silent_since: dict[int, Micros] = {}
        self.relay: Relay | None = None
        self.start()

    def place(self, name: str, peer_id: str | None = None, **options: Any) -> Place:
        """Somebody who has not joined yet."""
        place = Place(self, name, peer_id, **options)
        self.places.append(place)
        return place

    # --- the relay ---

    def start(self) -> None:
        self._lives += 1
        settings = RelaySettings(
            born_at=BORN_AT + self.now / SECOND, keys=(KEY,), secrets=(SECRET,), limits=Limits(**self._limits)
        )
        self._born = self.now
        self.relay = Relay(settings, Entropy(self._lives))

    def kill(self) -> None:
        """The relay is gone, and all its sockets with it."""
        self.relay = None
        guests, self._guests = self._guests, {}
        for place, link in guests.values():
            self.tell_room(place, LinkDown(link, 1006))
        self.settle()

    def stop(self) -> None:
        """The relay ends one connection after the other, and whoever is still there is told of it."""
        for guest in list(self._guests):
            self.cut(self._guests[guest][0])
        self.relay = None

    def reaches(self, place: Place) -> bool:
        """Whether a place has a socket at the relay."""
        return any(whose is place for whose, _ in self._guests.values())

    def cut(self, place: Place) -> None:
        """The socket of a place breaks, and the relay notices."""
        [guest] = [guest for guest, (whose, _) in self._guests.items() if whose is place]
        _, link = self._guests.pop(guest)
        self.tell_relay(LinkDown(guest, 1006))
        self.tell_room(place, LinkDown(link, 1006))
        self.settle()

    def dies(self, place: Place) -> None:
        """The process of a place is killed: the relay notices, and its connections fall silent."""
        self.frozen.add(place.name)
        [guest] = [guest for guest, (whose, _) in self._guests.items() if whose is place]
        del self._guests[guest]
        self.tell_relay(LinkDown(guest, 1006))
        self.settle()

    # --- facts ---

    def soon(self, act: Callable[[], None]) -> None:
        self._queue.append(act)

    def tell_room(self, place: Place, fact: Fact) -> None:
        self.soon(lambda: self._tell_room(place, fact))

    def tell_relay(self, fact: Fact) -> None:
        self.soon(lambda: self._tell_relay(fact))

    def _tell_room(self, place: Place, fact: Fact) -> None:
        if place.name in self.frozen:
            return
        for order in place.room.handle(self.now, fact):
            match order:
                case Tell(event):
                    place.told.append(event)
                    self._keep_books(place, event)
                case Answer(op):
                    place.answers[op] = order
                case Note():
                    place.notes.append(order)
                case Send(link, payload):
                    if link in place.guests and place.guests[link] in self._guests:
                        self.tell_relay(Received(place.guests[link], [payload.decode()]))
                case OpenLink(link, target):
                    self._open(place, link, target)
                case CloseLink(link, code):
                    guest = place.guests.pop(link, 0)
                    if self._guests.pop(guest, None) is not None:
                        self.tell_relay(LinkDown(guest, code))
                case Begin(effect, FetchToken()):
                    assert place.token_id is not None
                    now = int(BORN_AT + self.now / SECOND)
                    token = mint(key_id=SECRET.id, secret=SECRET.secret, peer_id=place.token_id, now=now)
                    self.tell_room(place, EffectDone(effect, token))
                case _:
                    place.perform(order)

    def _keep_books(self, place: Place, event: Any) -> None:
        match event:
            case MemberJoined(peer_id):
                assert peer_id not in place.seen, "joined twice"
                place.seen[peer_id] = set()
            case MemberLeft(peer_id):
                assert not place.seen.pop(peer_id), "a track outlived its peer"
            case AtPeer(peer_id, TrackSeen(number)):
                place.seen[peer_id].add(number)
            case AtPeer(peer_id, TrackGone(number)):
                place.seen[peer_id].remove(number)
            case _:
                pass

    def _open(self, place: Place, link: int, target: str) -> None:
        if self.relay is None or place.is_cut:
            self.tell_room(place, LinkDown(link, 1006))
            return
        self._numbers += 1
        guest = place.guests[link] = self._numbers
        self._guests[guest] = place, link
        address = urlsplit(target)
        self.tell_relay(LinkAsked(guest, f"{address.path}?{address.query}", "192.0.2.1"))

    def _tell_relay(self, fact: Fact) -> None:
        if self.relay is None:
            return
        for order in self.relay.handle(self.now - self._born, fact):
            match order:
                case Send(guest, payload):
                    self._deliver(guest, payload)
                case Broadcast(guests, payload, skip):
                    for guest in guests:
                        if guest != skip:
                            self._deliver(guest, payload)
                case AcceptLink(guest):
                    place, link = self._guests[guest]
                    self.tell_room(place, LinkUp(link))
                    self.tell_relay(LinkUp(guest))
                case CloseLink(guest, code, reason):
                    if guest in self._guests:
                        place, link = self._guests.pop(guest)
                        self.tell_room(place, LinkDown(link, code, reason))
                        self.tell_relay(LinkDown(guest, code))
                case RefuseLink(guest, status, reason):
                    place, link = self._guests.pop(guest)
                    self.tell_room(place, LinkDown(link, status, reason))
                case PingLink(guest):
                    if guest in self._guests:
                        self.tell_relay(Heard(guest))
                case Answer() | Note():
                    pass

    def _deliver(self, guest: int, payload: bytes) -> None:
        if guest in self._guests:
            place, link = self._guests[guest]
            self.tell_room(place, Received(link, [payload.decode()]))

    # --- connections ---

    def _partner(self, connection: SimConnection) -> tuple[Place, SimConnection] | None:
        for place in self.places:
            for other in place.connections:
                if connection.remote_ufrag == other.ufrag and other.remote_ufrag == connection.ufrag:
                    return place, other
        return None

    def received(self, place: Place, pc: int) -> int:
        """What arrived over a connection: as much as time has passed, unless the other end fell silent."""
        partner = self._partner(self.places[self.places.index(place)].engines[pc].connections[pc])
        if partner is None or partner[0].name in self.frozen:
            return self._silent_since.setdefault(pc, self.now)
        return self.now

    def _connections_move(self) -> bool:
        """Connections come up between two that know each other, and go down when the other one is closed."""
        moved = False
        for place in self.places:
            for connection in place.connections:
                partner = self._partner(connection)
                if connection.up and partner is None:
                    connection.up = False
                    moved = True
                    self.tell_room(place, ConnectionChanged(connection.pc, "closed"))
                elif not connection.up and partner is not None:
                    moved = connection.up = True
                    self.tell_room(place, ConnectionChanged(connection.pc, "connected"))
                elif connection.up and partner is not None and partner[1].up:
                    while connection.channels:
                        number = connection.channels.pop(0)
                        moved = True
                        self.tell_room(place, ChannelOpened(number))
                        self.tell_room(partner[0], ChannelArrived(partner[1].pc, 1000 - number))
        return moved

    # --- time ---

    def settle(self) -> None:
        """Let everything happen that is under way."""
        for _ in range(100_000):
            if self._queue:
                self._queue.popleft()()
            elif not self._connections_move():
                return
        raise AssertionError("they talk for ever")

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + micros(seconds)
        self.settle()
        wakes = 0
        while True:
            due = [
                place.room.deadline.at
                for place in self.places
                if place.room.deadline is not None and place.name not in self.frozen
            ]
            if self.relay is not None and self.relay.deadline is not None:
                due.append(self.relay.deadline.at + self._born)
            if not due or min(due) > end:
                break
            wakes += 1
            assert wakes < 20_000, "somebody is busy"
            self.now = max(self.now, min(due))
            self._wake()
            self.settle()
        self.now = end

    def _wake(self) -> None:
        for place in self.places:
            deadline = place.room.deadline
            if deadline is not None and deadline.at <= self.now:
                self.tell_room(place, Woken())
        due = None if self.relay is None else self.relay.deadline
        if due is not None and due.at + self._born <= self.now:
            self.tell_relay(Woken())

    # --- what is to hold ---

    def agree(self) -> None:
        """Everybody who has joined knows everybody else, and nobody else, and has all of their tracks."""
        there = [place for place in self.places if place.room.state == "joined" and place.name not in self.frozen]
        ids = {place.peer_id for place in there}
        for place in there:
            assert set(place.room.members) == ids - {place.peer_id}, place.name
            for other in there:
                if other is not place:
                    assert len(place.seen[other.peer_id]) == len(other.room.tracks), (place.name, other.name)
        for place in self.places:
            if place.room.state == "closed":
                assert not place.engines, "a connection is left over"

    def state_changes(self, place: Place, other: Place) -> list[tuple[str, str]]:
        """What was told of the connection to another."""
        return [
            (event.event.from_, event.event.to)
            for event in place.told
            if isinstance(event, AtPeer) and event.peer_id == other.peer_id and isinstance(event.event, StateChange)
        ]
