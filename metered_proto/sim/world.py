"""The world: one heap, one clock, one seed, and everybody in it.

Everything that happens is an act at a time on one heap; acts of the same time happen in the order in which they were
put there. Nothing is drawn but from the seed, so a plan and its seed always lead to the same run, to the last order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from metered_proto.entropy import Entropy
from metered_proto.events import IceServer
from metered_proto.facts import LinkDown
from metered_proto.machine import SECOND, Micros
from metered_proto.relay import Drain, Kick, PublishableKey, SecretKey
from metered_proto.sim.hosts import Application, ClientHost, PeerHost, RelayHost
from metered_proto.sim.media import Media
from metered_proto.sim.paths import Path, Socket
from metered_proto.sim.plan import (
    FAULTS,
    Act,
    Client,
    Cut,
    Dies,
    EngineFails,
    HalfOpen,
    Kicked,
    Latency,
    Leaps,
    MediaLost,
    Plan,
    RelayDies,
    RelayDrains,
    Sleeps,
    Slow,
    Stall,
    TokensFail,
    TurnDown,
)
from metered_proto.sim.steps import Step
from metered_proto.wire.tokens import mint

BORN_AT: Final = 1_800_000_000
"""When the world begins, in unix seconds."""

KEY: Final = PublishableKey("pk_live_sim_7d1f0a93c2")
SECRET: Final = SecretKey("sk_id_sim", "sk_secret_sim_51c09be2d7f04a66")
TURN_PASSWORD: Final = "turn-password-8e21"  # noqa: S105 - nobody is let in anywhere by it

BUSY: Final = 2_000_000
"""After so many acts a run is ended: somebody is busy for ever."""


class World:
    """Everything of one run. `run` lets time pass; `steps` is the trace."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.now: Micros = 0
        self.steps: list[Step] = []
        self.acts = 0
        self._seed = f"sim/{plan.scenario}/{plan.seed}"
        self.entropy = Entropy(self._seed)
        self.key, self.secret = KEY, SECRET
        self.ice_servers: tuple[IceServer, ...] = (
            IceServer(("stun:stun.example",)),
            IceServer(("turn:turn.example",), "sim", TURN_PASSWORD),
        )
        self.media = Media(self, self.entropy.fork("media"))
        self.credentials: list[str] = [KEY.key, SECRET.secret, TURN_PASSWORD]
        """What must not be seen anywhere."""
        self._heap: list[tuple[Micros, int, Callable[[], None]]] = []
        self._pushed = 0
        self._numbers = 0
        self._paths: dict[str, Path] = {}
        self._tokens = self.entropy.fork("tokens")
        self._tokens_fail_until: Micros = 0
        self._tokens_fail_how = ""
        self._lives = 0
        self.relay: RelayHost | None = None
        self.past_relays: list[RelayHost] = []
        self.clients: dict[str, ClientHost] = {}
        self.peers: dict[str, PeerHost] = {}
        self.start_relay()
        for number, spec in enumerate(plan.hosts, 1):
            own_seed = f"{self._seed}/host/{spec.name}"
            if isinstance(spec, Client):
                self.clients[spec.name] = ClientHost(self, spec, number, own_seed)
            else:
                self.peers[spec.name] = PeerHost(self, spec, number, own_seed)
        self.hosts: dict[str, Application] = {**self.clients, **self.peers}
        for act in plan.script:
            self.at(act.at, partial(self._play, act))
        for host in self.hosts.values():
            self.after(0, host.begin)

    # --- time ---

    @property
    def wall(self) -> float:
        """Unix seconds."""
        return BORN_AT + self.now / SECOND

    def at(self, at: Micros, act: Callable[[], None]) -> None:
        """Let something happen at a time."""
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, act))

    def after(self, span: Micros, act: Callable[[], None]) -> None:
        """Let something happen in a while; after nothing, as soon as what is happening has happened."""
        self.at(self.now + span, act)

    def run(self, until: Micros) -> None:
        """Let time pass."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            at, _, act = heapq.heappop(heap)
            if at > self.now:
                self.now = at
            self.acts += 1
            if self.acts > BUSY:
                raise RuntimeError("the world does not come to rest")
            act()
        self.now = max(self.now, until)

    def next_number(self) -> int:
        """A number that nothing else has."""
        self._numbers += 1
        return self._numbers

    # --- the relay ---

    def path(self, host: str) -> Path:
        """The way from a host to the relay."""
        path = self._paths.get(host)
        if path is None:
            path = self._paths[host] = Path(self.entropy.fork(f"path/{host}"))
        return path

    def start_relay(self) -> None:
        """Start a relay that knows nobody."""
        self._lives += 1
        name = f"relay/{self._lives}"
        self.relay = RelayHost(self, name, f"{self._seed}/{name}")

    def connect(self, host: Application, link: int, target: str) -> None:
        """A host opens a link."""
        relay = self.relay
        if relay is None:
            self.at(self.path(host.name).arrival(self.now), lambda: host.tell(LinkDown(link, 1006, "refused")))
            return
        address = urlsplit(target)
        guest = self.next_number()
        socket = Socket(self, host, link, relay, guest, f"{address.path}?{address.query}")
        host.links[link] = socket

    def fetch_token(self, peer_id: str, lifetime: int, done: Callable[[object], None]) -> None:
        """The application's backend makes a token, or does not."""
        delay = round(self._tokens.uniform(5_000, 200_000))
        how = self._tokens_fail_how if self.now < self._tokens_fail_until else ""
        if how == "fails":
            self.after(delay, lambda: done(ConnectionError("the token server is down")))
        elif how == "nonsense":
            self.after(delay, lambda: done(""))
        else:
            token = mint(
                key_id=SECRET.id,
                secret=SECRET.secret,
                peer_id=peer_id,
                now=int(self.wall),
                expires_in=lifetime,
                metadata={
                    "iceServers": [{"urls": "turn:turn.example", "username": "sim", "credential": TURN_PASSWORD}]
                },
                peer_metadata={"name": peer_id},
            )
            self.credentials.append(token)
            self.after(delay + 60 * SECOND if how == "slow" else delay, lambda: done(token))

    # --- the script ---

    def _play(self, act: Act) -> None:
        host = self.hosts.get(act.who)
        if host is None:
            self._to_all(act.what)
        elif host.is_dead or host.closed:
            return  # it is over for this one
        elif isinstance(act.what, FAULTS):
            self._to_one(host, act.what)
        elif host.is_asleep:
            self.after(SECOND, lambda: self._play(act))
        else:
            host.pursue(act.what)

    def _to_all(self, what: Any) -> None:
        match what:
            case RelayDies(span, silently):
                self._relay_ends(span, silently=silently)
            case RelayDrains(span, grace, retry_after_ms):
                if self.relay is not None:
                    self.relay.ask(Drain(retry_after_ms, grace))
                    # A process that has told everybody goodbye waits for them no longer than this.
                    self.after(round(grace * SECOND) + 2 * SECOND, lambda: self._relay_ends(span, silently=False))
            case TokensFail(span, how):
                self._tokens_fail_until, self._tokens_fail_how = self.now + span, how
            case TurnDown(span):
                self.media.turn_is_down(span)
            case _:
                raise ValueError(f"whom {type(what).__name__} happens to is not there")

    def _relay_ends(self, span: Micros, *, silently: bool) -> None:
        relay, self.relay = self.relay, None
        if relay is not None:
            self.past_relays.append(relay)
            relay.die(silently=silently)
            self.after(span, self.start_relay)

    def _to_one(self, host: Application, what: Any) -> None:
        path, now = self.path(host.name), self.now
        match what:
            case Cut():
                for socket in list(host.links.values()):
                    socket.cut()
            case HalfOpen():
                for socket in host.links.values():
                    socket.fall_silent()
            case Stall(span):
                path.stalled_until = max(path.stalled_until, now + span)
            case Slow(span, rate):
                path.rate, path.slow_until = rate, now + span
            case Latency(latency, jitter):
                path.latency, path.jitter = latency, jitter
            case MediaLost(span, other):
                self.media.lose(host.name, other, span)
            case Sleeps(span, stops_clock):
                host.sleep(span, stops_clock=stops_clock)
            case Leaps(by):
                host.leap(by)
            case Dies(silently):
                host.die(silently=silently)
            case Kicked():
                peer_id = host.peer_id
                if self.relay is not None and peer_id is not None:
                    self.relay.ask(Kick(peer_id))
            case EngineFails(count):
                if isinstance(host, PeerHost):
                    host.fails += count
            case _:
                raise ValueError(f"{type(what).__name__} does not happen to a single host")
