"""Who is in a world: relays, clients and peers. Each is a production machine, and what carries its orders out.

A host has a clock of its own, which can leap, stop, and be woken late. What is meant for a host that sleeps waits
until it wakes up; one that is dead hears nothing any more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from metered_proto.client.calls import Close, Connect, FetchToken, Publish, Subscribe, Unsubscribe
from metered_proto.client.deduplicator import Deduplicator
from metered_proto.client.outbox import Dropped, Enqueue, OutboxQueue
from metered_proto.client.requests import AnswerRequests, Request, reply
from metered_proto.client.session import ClientSession
from metered_proto.entropy import Entropy
from metered_proto.errors import SignallingError
from metered_proto.events import Connected, Presence, RequestReceived, StateChange
from metered_proto.facts import Asked, EffectDone, Fact, Withdrawn, Woken
from metered_proto.machine import SECOND, Deadline, Machine, Micros
from metered_proto.orders import (
    Abandon,
    AcceptLink,
    Answer,
    AnswerAll,
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
    TellAll,
)
from metered_proto.relay import Limits, Relay, RelaySettings
from metered_proto.replay import Drafted
from metered_proto.room import (
    AddTrack,
    Join,
    Leave,
    MemberJoined,
    OpenDataChannel,
    RemoveTrack,
    ReplaceTrack,
    Room,
    RoomSettings,
    SendAll,
)
from metered_proto.room.words import AtPeer, MemberLeft
from metered_proto.rtc.words import (
    AddCandidate,
    CandidateGathered,
    ChannelOptions,
    CloseConnection,
    CountReceived,
    Described,
    EndTrack,
    LocalTrack,
    MakeAnswer,
    MakeOffer,
    OpenChannel,
    OpenConnection,
    SwapSender,
    TakeAnswer,
    TakeTrack,
    TrackGone,
    TrackSeen,
)
from metered_proto.settings import ClientSettings, ReconnectOptions
from metered_proto.sim.connections import EngineError, MadeToFailError, SimConnection
from metered_proto.sim.paths import Socket
from metered_proto.sim.plan import (
    AsksPeer,
    Client,
    Goal,
    Joins,
    OpensChannel,
    Peer,
    Publishes,
    Says,
    SendsTrack,
    StopsTrack,
    Subscribes,
    SwapsTrack,
    Unsubscribes,
)
from metered_proto.sim.steps import Step
from metered_proto.wire.codec import encode_data
from metered_proto.wire.signals import Candidate

if TYPE_CHECKING:
    from metered_proto.sim.world import World

URL: Final = "wss://relay.example"

TRY_AGAIN: Final[Micros] = 5 * SECOND
"""How long an application waits before it tries again what has failed."""


MOST_WAKES: Final = 100
"""A machine that wants to be woken more often at one and the same time never lets time go on."""


class Host(ABC):
    """One machine with its clock. Subclasses carry out its orders."""

    address = ""

    def __init__(self, world: World, name: str, machine: Machine) -> None:
        self.world = world
        self.name = name
        self.machine: Machine = machine
        self.links: dict[int, Socket] = {}
        self.is_dead = False
        self.is_asleep = False
        self._birth = world.now
        self._ahead: Micros = 0  # of the world's clock
        self._inbox: deque[Fact] = deque()
        self._wakes_at: Micros | None = None
        self._woken_at: Micros = -1
        self._wakes_now = 0  # how often it was woken then
        self.deadline: Deadline | None = None

    @property
    def now(self) -> Micros:
        """The machine's time."""
        return self.world.now - self._birth + self._ahead

    def tell(self, fact: Fact) -> None:
        """Something happened."""
        if self.is_dead:
            return
        if self.is_asleep:
            self._inbox.append(fact)
            return
        world, now, machine = self.world, self.now, self.machine
        orders = machine.handle(now, fact)
        deadline = self.deadline = machine.deadline
        world.steps.append(Step(self.name, world.now, now, fact, orders, deadline))
        for order in orders:
            self.perform(order)
        if deadline is not None:
            at = deadline.at - self._ahead + self._birth
            if at != self._wakes_at:
                self._wakes_at = at
                world.at(max(at, world.now), lambda: self._wake(at))
        else:
            self._wakes_at = None

    def tell_soon(self, fact: Fact) -> None:
        """Something happens as soon as what is happening has happened."""
        self.world.after(0, lambda: self.tell(fact))

    @abstractmethod
    def perform(self, order: Order) -> None:
        """Carry out an order."""

    def _wake(self, at: Micros) -> None:
        if at == self._wakes_at and not self.is_asleep and not self.is_dead:
            self._wakes_at = None
            self._wakes_now = self._wakes_now + 1 if self.world.now == self._woken_at else 0
            self._woken_at = self.world.now
            if self._wakes_now > MOST_WAKES:
                raise RuntimeError(f"{self.name} wants to be woken for ever: {self.deadline}")
            self.tell(Woken())

    # --- what happens to it ---

    def leap(self, by: Micros) -> None:
        """The clock jumps ahead."""
        self._ahead += by
        self.tell(Woken())

    def sleep(self, span: Micros, *, stops_clock: bool) -> None:
        """The host is suspended."""
        if self.is_asleep or self.is_dead:
            return
        self.is_asleep = True
        self.world.media.look()
        self.world.after(span, lambda: self._wake_up(span if stops_clock else 0))

    def _wake_up(self, stood_still: Micros) -> None:
        self._ahead -= stood_still
        self.is_asleep = False
        inbox, self._inbox = self._inbox, deque()
        for fact in inbox:
            self.tell(fact)
        self.tell(Woken())

    def die(self, *, silently: bool) -> None:
        """The process is killed."""
        self.is_dead = True
        links, self.links = self.links, {}
        for socket in links.values():
            socket.host_is_gone(silently=silently)
        self.world.media.look()


class RelayHost(Host):
    """One life of a relay."""

    machine: Relay

    def __init__(self, world: World, name: str, seed: str) -> None:
        plan = world.plan
        limits = Limits(
            connects_per_minute=None,
            message_rate=plan.message_rate,
            max_queue=plan.max_queue,
            max_connections=plan.max_connections,
            message_quota=plan.message_quota,
            quota_period=plan.quota_period,
        )
        settings = RelaySettings(born_at=world.wall, keys=(world.key,), secrets=(world.secret,), limits=limits)
        super().__init__(world, name, Relay(settings, Entropy(seed)))
        self.settings, self.seed = settings, seed
        self.sockets: dict[int, Socket] = {}
        self.answers: dict[int, Answer] = {}
        self._ops = 0

    def ask(self, call: object) -> int:
        """The operator asks for something."""
        self._ops += 1
        self.tell(Asked(self._ops, call))
        return self._ops

    def die(self, *, silently: bool) -> None:
        """The process is killed."""
        self.is_dead = True
        sockets, self.sockets = self.sockets, {}
        for socket in sockets.values():
            socket.relay_is_gone(silently=silently)

    def perform(self, order: Order) -> None:
        """Carry out an order."""
        sockets = self.sockets
        match order:
            case Send(guest, payload):
                if guest in sockets:
                    sockets[guest].relay_sends(payload)
            case Broadcast(guests, payload, skip):
                for guest in guests:
                    if guest != skip and guest in sockets:
                        sockets[guest].relay_sends(payload)
            case AcceptLink(guest):
                if guest in sockets:
                    sockets[guest].accepted()
            case RefuseLink(guest, status, reason):
                sockets.pop(guest).refused(status, reason)
            case PingLink(guest):
                if guest in sockets:
                    sockets[guest].relay_pings()
            case CloseLink(guest, code, reason, abort):
                if guest in sockets:
                    sockets[guest].relay_closes(code, reason, abort=abort)
            case Answer(op):
                self.answers[op] = order
            case _:
                pass  # a note


class Application(Host):
    """A host with links to the relay, tokens, and an application on top."""

    def __init__(self, world: World, name: str, machine: Machine, number: int, *, known_as: str, lifetime: int) -> None:
        super().__init__(world, name, machine)
        self.known_as = known_as
        self.address = f"192.0.2.{number}"
        self.told: list[Any] = []
        self.answers: dict[int, Answer] = {}
        self.mistakes: list[str] = []
        """What the machine ordered or told that makes no sense."""
        self.links_opened = 0
        self.tokens_fetched = 0
        self.closed = False
        """It has been asked to close, or leave, for good."""
        self.back_at: Micros = 0
        """When it was connected, or had joined, the last time."""
        self.lost_at: Micros = 0
        self._lifetime = lifetime
        self._ops = 0
        self._then: dict[int, Callable[[Answer], None]] = {}
        self._effects: dict[int, None] = {}

    def ask(self, call: object, then: Callable[[Answer], None] | None = None) -> int:
        """The application asks for something; `then` is called with the answer."""
        self._ops += 1
        op = self._ops
        if then is not None:
            self._then[op] = then
        self.tell(Asked(op, call))
        return op

    def begin(self) -> None:
        """The application starts."""

    @abstractmethod
    def pursue(self, goal: Goal) -> None:
        """The application wants something."""

    @abstractmethod
    def close(self) -> None:
        """The application ends."""

    def perform(self, order: Order) -> None:
        """Carry out an order of the session's; others are for the engine."""
        match order:
            case Send(link, payload):
                socket = self.links.get(link)
                if socket is not None:
                    socket.host_sends(payload)
            case Answer(op):
                self._answered(order)
            case AnswerAll(ops):
                for op in ops:
                    self._answered(Answer(op))
            case Tell(event):
                self.hear(event)
            case TellAll(events):
                for event in events:
                    self.hear(event)
            case OpenLink(link, target):
                self.links_opened += 1
                self.world.connect(self, link, target)
            case CloseLink(link, code, reason, abort):
                socket = self.links.get(link)
                if socket is not None:
                    socket.host_closes(code, reason, abort=abort)
            case Begin(effect, FetchToken()):
                self._claim(not self._effects, "a token was asked for while another was on its way")
                self._effects[effect] = None
                self.world.fetch_token(self.known_as, self._lifetime, lambda done: self._token(effect, done))
            case Abandon(effect) if effect in self._effects:
                del self._effects[effect]
            case Note():
                pass
            case _:
                self.perform_media(order)

    def perform_media(self, order: Order) -> None:
        """Carry out an order for the engine."""
        raise AssertionError(f"not for a client: {order}")

    def hear(self, event: Any) -> None:
        """The application is told something."""
        self.told.append(event)
        if isinstance(event, StateChange):
            if event.to in ("connected", "joined"):
                self.back_at = self.world.now
            else:
                self.lost_at = self.world.now

    @property
    def busy_effects(self) -> int:
        """How much is under way."""
        return len(self._effects)

    @property
    @abstractmethod
    def session(self) -> ClientSession:
        """The session with the relay."""

    @property
    def peer_id(self) -> str | None:
        """What the relay calls it."""
        return self.session.peer_id

    def _answered(self, answer: Answer) -> None:
        self.answers[answer.op] = answer
        then = self._then.pop(answer.op, None)
        if then is not None:
            self.world.after(0, lambda: then(answer))

    def _token(self, effect: int, result: object) -> None:
        if effect not in self._effects:
            return
        del self._effects[effect]
        if isinstance(result, Exception):
            self.tell(EffectDone(effect, error=result))
        else:
            self.tokens_fetched += 1
            self.tell(EffectDone(effect, result))

    def _claim(self, holds: bool, mistake: str) -> None:
        if not holds:
            self.mistakes.append(mistake)

    def impatiently(self, op: int, patience: Micros | None, then: Callable[[], None] | None = None) -> None:
        """Withdraw what is not answered in time; what `then`? Once nothing goes wrong any more, everybody waits."""

        def withdraw() -> None:
            if op in self.answers or self.is_asleep or self.is_dead or self.closed:
                return
            self.tell(Withdrawn(op))
            if then is not None:
                then()

        if patience is not None and self.world.now < self.world.plan.heals_at:
            self.world.after(patience, withdraw)

    def again(self, act: Callable[[], None]) -> None:
        """Do something in a while, unless it is over then."""
        self.world.after(TRY_AGAIN, lambda: None if self.closed or self.is_dead else act())

    def repeat(self, count: int, every: Micros, act: Callable[[], None]) -> None:
        """Do something `count` times. A host that sleeps then does not do it."""
        for index in range(count):
            self.world.after(index * every, lambda: None if self.closed or self.is_dead or self.is_asleep else act())


class ClientHost(Application):
    """A signalling client with its application."""

    machine: ClientSession

    def __init__(self, world: World, spec: Client, number: int, seed: str) -> None:
        self.spec, self.seed = spec, seed
        entropy = Entropy(seed)
        self.ladder = ReconnectOptions(retry_first=spec.retry_first)
        settings = ClientSettings(
            api_key=None if spec.tokens else world.key.key,
            url=URL,
            reconnect=self.ladder,
            inactivity_timeout=spec.inactivity_timeout,
        )
        self.outbox = None if spec.outbox is None else OutboxQueue(spec.outbox, entropy.fork("outbox"))
        machine = ClientSession(
            settings, entropy, outbox=self.outbox, deduplicator=Deduplicator() if spec.deduplicates else None
        )
        known_as = spec.known_as or spec.name
        super().__init__(world, spec.name, machine, number, known_as=known_as, lifetime=spec.token_lifetime)
        self.settings = settings
        self.wishes: dict[str, None] = dict.fromkeys(spec.subscribes)
        """What the application wants to listen to."""
        self.present: dict[str, dict[str, None]] = {}
        """Who is in each channel, as far as the application was told."""
        self.published = 0
        self.enqueued: dict[int, int] = {}
        """The numbers of messages by the op of their enqueueing."""
        self._connects = 0

    @property
    def session(self) -> ClientSession:
        """The session with the relay."""
        return self.machine

    def begin(self) -> None:
        """Connect, and answer if it is to."""
        if self.spec.answers:
            self.ask(AnswerRequests())
        self._connect()

    def _connect(self) -> None:
        self.impatiently(self.ask(Connect(), self._connected), self.spec.patience, lambda: self.again(self._connect))

    def _connected(self, answer: Answer) -> None:
        if answer.error is not None:
            self.again(self._connect)
            return
        for channel in self.wishes:
            self._subscribe(channel)

    def _subscribe(self, channel: str) -> None:
        """Until it is on the list, subscribing is the application's business; afterwards it is the session's."""
        if channel in self.wishes:
            self.ask(Subscribe(channel), lambda answer: self._subscribed(channel, answer))

    def _subscribed(self, channel: str, answer: Answer) -> None:
        if answer.error is not None and channel not in self.machine.channels:
            self.again(lambda: self._subscribe(channel))

    def hear(self, event: Any) -> None:
        """Count the connections, answer questions."""
        super().hear(event)
        match event:
            case Connected():
                self._connects += 1
                self.present.clear()
            case Presence(channel, joined, left):
                there = self.present.setdefault(channel, {})
                there.update(dict.fromkeys(peer.peer_id for peer in joined))
                for peer in left:
                    there.pop(peer.peer_id, None)
            case RequestReceived(_, _, data):
                self.world.after(0, lambda: self.tell_answer(event, data))
            case _:
                pass

    def tell_answer(self, question: RequestReceived, data: Any) -> None:
        """Answer a question with what it held."""
        if not self.closed:
            self.ask(reply(question, {"echo": data}))

    def pursue(self, goal: Goal) -> None:
        """What a client can want."""
        match goal:
            case Publishes(channel, count, every, through, size):
                self.repeat(count, every, lambda: self._publish(channel, through, size))
            case Subscribes(channel):
                self.wishes[channel] = None
                self._subscribe(channel)
            case Unsubscribes(channel):
                self.wishes.pop(channel, None)
                self.ask(Unsubscribe(channel))
            case AsksPeer(peer, count, every, timeout):
                self.repeat(count, every, lambda: self._question(peer, timeout))
            case _:
                self.close()

    def _publish(self, channel: str, through: str, size: int) -> None:
        self.published += 1
        data = {"from": self.name, "n": self.published, "link": self._connects, "fill": "x" * size}
        if through == "outbox":
            self._enqueue(channel, data)
        else:
            self.impatiently(self.ask(Publish.of(channel, data, ack=through == "ack")), self.spec.patience)

    def _enqueue(self, channel: str, data: dict[str, Any]) -> None:
        assert self.outbox is not None, "there is no outbox"
        encoded = encode_data(data)
        wish = Drafted(channel, encoded)
        try:
            draft = self.outbox.draft(self.now, channel, encoded)
        except SignallingError as error:  # it is full, and the application knows
            self._note(wish, Answer(0, error=error))
            return
        self._note(wish, Answer(0, draft))
        if not isinstance(draft, Dropped):
            self.enqueued[self.ask(Enqueue(draft))] = data["n"]

    def _note(self, wish: Drafted, answer: Answer) -> None:
        """The trace has what is asked of the outbox directly, too."""
        self.world.steps.append(Step(self.name, self.world.now, self.now, wish, [answer], self.machine.deadline))

    def _question(self, peer: str, timeout: float) -> None:
        self.published += 1
        self.impatiently(self.ask(Request.of(peer, {"n": self.published}, timeout)), self.spec.patience)

    def close(self) -> None:
        """Close for good."""
        self.closed = True
        self.ask(Close())


class PeerHost(Application):
    """A room with its engine and its application."""

    machine: Room

    def __init__(self, world: World, spec: Peer, number: int, seed: str) -> None:
        self.spec, self.seed = spec, seed
        client = ClientSettings(api_key=None if spec.tokens else world.key.key, url=URL)
        settings = RoomSettings(client=client, ice_servers=world.ice_servers)
        super().__init__(
            world,
            spec.name,
            Room(settings, Entropy(seed)),
            number,
            known_as=spec.known_as or spec.name,
            lifetime=spec.token_lifetime,
        )
        self.settings = settings
        self.connections: dict[int, SimConnection] = {}
        self.work: dict[int, deque[Begin]] = {}
        """What is under way, by connection, in order."""
        self.tracks: dict[int, int] = {}
        """The connections of received tracks."""
        self.seen: dict[str, dict[int, dict[str, Any] | None]] = {}
        """The tracks of each member, and what was said of them, as the application was told."""
        self.trickles = spec.engine == "trickles"
        self.fails = 0
        """So many descriptions are to fail."""
        self.room = ""
        self._patience: Micros | None = None
        self._said = 0
        self._made = 0
        self._bytes: dict[str, int] = {}
        self._entropy = world.entropy.fork(f"engine/{spec.name}")

    # --- the application ---

    @property
    def session(self) -> ClientSession:
        """The session with the relay."""
        return self.machine.session

    def pursue(self, goal: Goal) -> None:
        """What a peer can want."""
        match goal:
            case Joins(room, patience):
                self.room, self._patience = room, patience
                self._join()
            case SendsTrack(number, kind):
                self.ask(AddTrack(self._track(number, kind)))
            case StopsTrack(number):
                self.ask(RemoveTrack(number))
            case SwapsTrack(old, new, kind):
                self.ask(ReplaceTrack(old, self._track(new, kind)))
            case OpensChannel(peer):
                host = self.world.peers.get(peer)
                if host is not None and host.machine.peer_id is not None:
                    self.ask(OpenDataChannel(host.machine.peer_id, ChannelOptions("sim")))
            case Says(count, every):
                self.repeat(count, every, self._say)
            case _:
                self.close()

    def _join(self) -> None:
        op = self.ask(Join(self.room), lambda answer: self._joined(answer))
        self.impatiently(op, self._patience, lambda: self.again(self._join))

    def _joined(self, answer: Answer) -> None:
        if answer.error is not None and self.machine.state == "idle":
            self.again(self._join)

    def _track(self, number: int, kind: Any) -> LocalTrack:
        metadata = {"of": self.name, "number": number}
        return LocalTrack(number, kind, f"{self.name}-track-{number}", f"{self.name}-stream-{number}", metadata)

    def _say(self) -> None:
        self._said += 1
        self.ask(SendAll(msgspec.Raw(encode_data({"from": self.name, "n": self._said}))))

    def close(self) -> None:
        """Leave for good."""
        self.closed = True
        self.ask(Leave())

    def hear(self, event: Any) -> None:
        """Keep the books of members and their tracks."""
        super().hear(event)
        match event:
            case MemberJoined(peer_id):
                self._claim(peer_id not in self.seen, f"{peer_id} joined twice")
                self.seen[peer_id] = {}
            case MemberLeft(peer_id):
                self._claim(not self.seen.pop(peer_id, {0: None}), f"a track outlived {peer_id}, or it never joined")
            case AtPeer(peer_id, TrackSeen(number, _, _, metadata)):
                self._claim(number not in self.seen.get(peer_id, {}), f"a track of {peer_id} was seen twice")
                self.seen.setdefault(peer_id, {})[number] = metadata
            case AtPeer(peer_id, TrackGone(number)):
                seen = self.seen.get(peer_id, {})
                self._claim(number in seen, f"a track of {peer_id} went that never came")
                seen.pop(number, None)
            case _:
                pass

    # --- the engine ---

    @property
    def busy_effects(self) -> int:
        """How much is under way."""
        return super().busy_effects + sum(len(queue) for queue in self.work.values())

    def perform_media(self, order: Order) -> None:
        """Carry out an order for the engine."""
        match order:
            case OpenConnection(pc, servers, relay_only):
                self._made += 1
                ufrag = f"{self.name}/{self._made}"
                connection = SimConnection(
                    pc, ufrag, rolls_back=self.trickles, ice_servers=servers, relay_only=relay_only
                )
                self.connections[pc] = connection
                self.work[pc] = deque()
                self.world.media.opened(self, connection)
            case CloseConnection(pc):
                self.world.media.closed(self.connections.pop(pc))
                self._claim(not self.work.pop(pc), "work was left on a connection that is closed")
                self._claim(pc not in self.tracks.values(), "a track outlived its connection")
            case AddCandidate(pc, candidate):
                connection = self.connections[pc]
                self._claim(connection.described, "a candidate came ahead of the description")
                connection.candidates.append(candidate)
            case OpenChannel(pc, channel):
                self.connections[pc].channels.append(channel)
                self.world.media.channel(self.connections[pc])
            case TakeTrack(pc, mid, track):
                sends = any(section.mid == mid and section.remote_sends for section in self.connections[pc].sections)
                self._claim(sends, f"{mid} brings nothing")
                self.tracks[track] = pc
            case EndTrack(track):
                del self.tracks[track]
            case Begin(_, work):
                queue = self.work[work.pc]
                queue.append(order)
                if len(queue) == 1:
                    self._start(work.pc)
            case Abandon(effect):
                self._abandon(effect)
            case _:
                raise AssertionError(f"not for an engine: {order}")

    def _abandon(self, effect: int) -> None:
        for pc, queue in self.work.items():
            for begun in queue:
                if begun.effect == effect:
                    first = begun is queue[0]
                    queue.remove(begun)
                    if first and queue:
                        self._start(pc)
                    return
        self.mistakes.append(f"{effect} was abandoned and is not under way")

    def _start(self, pc: int) -> None:
        begun = self.work[pc][0]
        low, high = (5_000, 200_000) if isinstance(begun.work, MakeOffer | MakeAnswer) else (1_000, 20_000)
        self.world.after(round(self._entropy.uniform(low, high)), lambda: self._finish(pc, begun))

    def _finish(self, pc: int, begun: Begin) -> None:
        queue = self.work.get(pc)
        if not queue or queue[0] is not begun or self.is_dead:
            return
        if self.is_asleep:
            self.world.after(SECOND, lambda: self._finish(pc, begun))
            return
        queue.popleft()
        connection = self.connections[pc]
        found: list[Candidate | None] = []
        try:
            result = self._do(connection, begun.work)
        except EngineError as error:
            self.tell(EffectDone(begun.effect, error=error))
        else:
            if self.trickles and isinstance(result, Described):
                result = msgspec.structs.replace(result, complete=False)
                found = [Candidate("candidate:1", "0", 0), None] if not connection.trickled else []
                connection.trickled = True
            self.tell(EffectDone(begun.effect, result))
        if pc in self.connections:
            self.world.media.described(connection)
            self.world.media.channel(connection)
            for candidate in found:
                self.tell(CandidateGathered(pc, candidate))
        if self.work.get(pc):
            self._start(pc)

    def _do(self, connection: SimConnection, work: Any) -> Any:
        if isinstance(work, MakeOffer | MakeAnswer) and self.fails:
            self.fails -= 1
            raise MadeToFailError("a fault of the engine's")
        match work:
            case MakeOffer():
                return connection.offer(work)
            case MakeAnswer():
                return connection.answer(work)
            case TakeAnswer():
                return connection.take(work)
            case SwapSender():
                return connection.swap(work)
            case CountReceived():
                return self._received(connection)
            case _:
                raise AssertionError(f"not for an engine: {work}")

    def _received(self, connection: SimConnection) -> int:
        """Bytes grow with time for as long as anything arrives."""
        if self.world.media.is_heard(connection):
            self._bytes[connection.ufrag] = self.world.now
        return self._bytes.get(connection.ufrag, 0)
