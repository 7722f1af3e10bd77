"""The user's own application in a box: `virtual_room`, an in-memory relay and network, in virtual time.

    async with virtual_room() as box:
        async with SignallingClient(url=box.url, api_key=box.api_key) as client:
            await box.outage(36_000)

The application is the one that runs in production: its clients and peers are given `box.url`, and know nothing else.
Real are the clients, the rooms, the relay, and the WebSocket bytes between them. TCP, TLS, name servers and WebRTC are
simulated, see `docs/testing.md`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from metered_anyio.backend import Backend, current_backend
from metered_anyio.dial import DialError
from metered_anyio.logger import ContainedLogger, Logger
from metered_anyio.relay import RelayServer
from metered_anyio.stand_in import register, withdraw
from metered_anyio.testing.virtual_network import MemoryListener, MemoryWire, Timetable, Traffic
from metered_anyio.testing.virtual_time import stop_for_threads
from metered_proto.entropy import Entropy
from metered_proto.facts import Fact
from metered_proto.relay import Limits, PublishableKey, SecretKey, Stats
from metered_proto.wire.tokens import mint

if TYPE_CHECKING:
    from metered_anyio.testing.virtual_engine import Hub, VirtualEngine

API_KEY = "pk_live_virtual"
SECRET_KEY = SecretKey("sk_id_virtual", "virtual-secret-of-no-value")


class Path:
    """The way from some clients to the relay, and to each other's peer connections. `url` leads over it.

    `latency` and `jitter` are seconds one way, and may be changed at any time: what is under way is not affected.
    `traffic` counts.
    """

    def __init__(self, box: VirtualRoom, host: str, latency: float, jitter: float) -> None:
        self.url = f"wss://{host}"
        self.latency = latency
        self.jitter = jitter
        self.traffic = Traffic()
        self._box = box
        self._host = host
        self._entropy = box.entropy.fork(f"path {host}")
        self._wires: list[MemoryWire] = []
        self._cut = self._silent = self.peers_cut = False
        self._healed = anyio.Event()
        self._seeds = 0

    def __repr__(self) -> str:
        return f"<Path {self.url} {'silent' if self._silent else 'cut' if self._cut else 'up'}>"

    # --- what can happen to it ---

    async def cut(self, *, silently: bool = False, peers: bool = False) -> None:
        """Nothing gets through until `heal`.

        Connections break and new ones are refused at once; or `silently` nobody is told: they stay open, and what is
        sent on them waits, as on a half-open TCP connection. With `peers` nothing gets through between peers either.
        """
        self._cut, self._silent = not silently, silently
        self.peers_cut = self.peers_cut or peers
        if self._cut:
            self._break()
        self._box.changed()
        await anyio.lowlevel.checkpoint()

    async def heal(self) -> None:
        """Everything gets through again. What was held back arrives."""
        self._cut = self._silent = self.peers_cut = False
        self._healed.set()
        self._healed = anyio.Event()
        for wire in self._open_wires():
            wire.flow()
        self._box.changed()
        await anyio.lowlevel.checkpoint()

    async def outage(self, seconds: float, *, silently: bool = False, peers: bool = False) -> None:
        """`cut`, and `heal` after that time."""
        await self.cut(silently=silently, peers=peers)
        await anyio.sleep(seconds)
        await self.heal()

    async def drop(self) -> None:
        """Break the connections there are. New ones are not in the way of anything."""
        self._break()
        await anyio.lowlevel.checkpoint()

    # --- as StandIn has it ---

    async def dial(self) -> MemoryWire:
        """A connection to the relay."""
        while self._silent:
            await self._healed.wait()
        await anyio.sleep(2 * self.delay())
        listener = self._box.listener
        if self._cut or listener is None:
            self.traffic.refused += 1
            raise DialError("connection refused")
        ours, theirs = self._wire("bytes_up"), self._wire("bytes_down")
        ours.join(theirs)
        self._wires = [*self._open_wires(), ours]
        self.traffic.connections += 1
        listener.knock(theirs, "192.0.2.1")
        return ours

    def make_engine(self, feed: Callable[[Fact], None], logger: ContainedLogger, backend: Backend) -> VirtualEngine:
        """Simulated peer connections."""
        from metered_anyio.testing.virtual_engine import VirtualEngine

        return VirtualEngine(feed, logger, backend, self._box.hub, self)

    def seed(self) -> bytes:
        """A seed for one more client."""
        self._seeds += 1
        return f"{self._box.seed} {self._host} {self._seeds}".encode()

    def delay(self) -> float:
        """The seconds that the next thing takes, one way."""
        return self.latency + (self._entropy.uniform(0, self.jitter) if self.jitter else 0.0)

    def _wire(self, counter: str) -> MemoryWire:
        def count(size: int) -> None:
            setattr(self.traffic, counter, getattr(self.traffic, counter) + size)

        return MemoryWire(self._box.timetable, self.delay, lambda: self._silent, count)

    def _open_wires(self) -> list[MemoryWire]:
        return [wire for wire in self._wires if wire.open]

    def _break(self) -> None:
        for wire in self._open_wires():
            self.traffic.broken += 1
            wire.break_off()


class VirtualRoom:
    """What `virtual_room` gives: the relay, the paths to it, and the time.

    `url` and `api_key` are what clients are given, `token` and `token_provider` what those with tokens are. `relay` is
    the running `RelayServer`: `publish`, `kick`, `peers`, `usage`, `stats`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        latency: float = 0.0,
        jitter: float = 0.0,
        url: str = "wss://room.invalid",
        keys: Iterable[PublishableKey | str] = (),
        secrets: Iterable[SecretKey] = (),
        limits: Limits | None = None,
        logger: Logger | None = None,
    ) -> None:
        self.url = url
        self.api_key = API_KEY
        self.secret_key = SECRET_KEY
        self.seed = seed
        self.entropy = Entropy(f"virtual room {seed}")
        self.relay: RelayServer
        self.listener: MemoryListener | None = None
        self.timetable: Timetable
        self.hub: Hub
        self._latency, self._jitter = latency, jitter
        self._keys = (API_KEY, *keys)
        self._secrets = (SECRET_KEY, *secrets)
        self._limits = limits or Limits(connects_per_minute=None)  # all come from one address here
        self._logger = logger
        self._paths: dict[str, Path] = {}
        self._born = self._born_wall = 0.0
        self._relays = 0

    def __repr__(self) -> str:
        return f"<VirtualRoom {self.url} at {self.now:.3f} s>"

    # --- time and credentials ---

    @property
    def now(self) -> float:
        """Seconds since the box was opened, in its own time."""
        return self.timetable.now() - self._born

    @property
    def wall(self) -> float:
        """What the wall clock says in the box, in unix seconds. The relay judges tokens by it, not by `time.time()`."""
        return self._born_wall + self.now

    def token(self, peer_id: str, **claims: Any) -> str:
        """A token for a peer, as of now; further arguments are those of `metered_proto.wire.tokens.mint`."""
        key = self.secret_key
        return mint(key_id=key.id, secret=key.secret, peer_id=peer_id, now=int(self.wall), **claims)

    def token_provider(self, peer_id: str, **claims: Any) -> Callable[[], Awaitable[str]]:
        """A token provider for a client or a peer."""

        async def provide() -> str:
            return self.token(peer_id, **claims)

        return provide

    # --- what can happen ---

    def path(self, name: str, *, latency: float | None = None, jitter: float | None = None) -> Path:
        """A path of its own for some clients, who are given its `url`: it can be slow, or cut, for them alone.

        The same name gives the same path. `name` is a label of a host name. Raises `ValueError` for another one.
        """
        if not name.isascii() or not name.replace("-", "").isalnum() or name.startswith("-"):
            raise ValueError(f"a path needs a name of letters, digits and hyphens, not {name!r}")
        found = self._paths.get(name.lower())
        if found is None:
            host = f"{name.lower()}.{self._host}"
            latency = self._latency if latency is None else latency
            found = self._open_path(name.lower(), host, latency, self._jitter if jitter is None else jitter)
        return found

    @property
    def latency(self) -> float:
        """Seconds that everything takes one way on the path of `url`."""
        return self._paths[""].latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._paths[""].latency = seconds

    async def cut(self, *, silently: bool = False, peers: bool = False) -> None:
        """Cut all paths: see `Path.cut`."""
        for path in self._paths.values():
            await path.cut(silently=silently, peers=peers)

    async def heal(self) -> None:
        """Heal all paths: see `Path.heal`."""
        for path in self._paths.values():
            await path.heal()

    async def outage(self, seconds: float, *, silently: bool = False, peers: bool = False) -> None:
        """Nothing gets through for that time, for nobody."""
        await self.cut(silently=silently, peers=peers)
        await anyio.sleep(seconds)
        await self.heal()

    async def drop(self) -> None:
        """Break all connections there are."""
        for path in self._paths.values():
            await path.drop()

    async def restart_relay(self, down: float = 0.0, *, drain: bool = False) -> None:
        """Stop the relay, at once or in good order, and start another one `down` seconds later."""
        if drain:
            await self.relay.drain(int(down * 1000))
        await self.relay.close()
        await anyio.sleep(down)
        await self._start_relay()

    def traffic(self) -> dict[str, Traffic]:
        """What went over each path, by its host."""
        return {path.url.removeprefix("wss://"): path.traffic for path in self._paths.values()}

    def stats(self) -> Stats:
        """What the relay counts, since it was started last."""
        return self.relay.stats()

    # --- its life ---

    async def open(self) -> None:
        """Register the host, and start the relay."""
        from metered_anyio.testing.virtual_engine import Hub

        stop_for_threads()
        self.timetable = Timetable(current_backend())
        self.hub = Hub(self.timetable)
        self._born, self._born_wall = self.timetable.now(), time.time()
        self._host = self.url.removeprefix("wss://")
        if self._host == self.url or not self._host or "/" in self._host or ":" in self._host:
            raise ValueError("url must be wss://HOST")
        self._open_path("", self._host, self._latency, self._jitter)
        await self._start_relay()

    async def close(self) -> None:
        """Take everything back."""
        for path in self._paths.values():
            withdraw(path.url.removeprefix("wss://"))
        await self.relay.close()
        # What breaks with it is told while there is still a clock.
        for path in self._paths.values():
            await path.drop()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        self.timetable.close()

    def changed(self) -> None:
        """A path is not what it was."""
        self.hub.changed()

    def _open_path(self, name: str, host: str, latency: float, jitter: float) -> Path:
        path = Path(self, host, latency, jitter)
        register(host, path)
        self._paths[name] = path
        return path

    async def _start_relay(self) -> None:
        self.relay = _MemoryRelay(
            self, keys=self._keys, secrets=self._secrets, limits=self._limits, logger=self._logger
        )
        await self.relay.start()

    def listen(self) -> MemoryListener:
        """The relay is there."""
        self.listener = MemoryListener(self.timetable, self._not_listening)
        return self.listener

    def _not_listening(self) -> None:
        self.listener = None

    def relay_seed(self) -> bytes:
        """A seed for one more relay."""
        self._relays += 1
        return f"{self.seed} relay {self._relays}".encode()


class _MemoryRelay(RelayServer):
    """The relay of production, listening in memory."""

    def __init__(self, box: VirtualRoom, **options: Any) -> None:
        super().__init__(**options)
        self._box = box

    @property
    def url(self) -> str:
        return self._box.url

    def _listen(self) -> MemoryListener:
        return self._box.listen()

    def _wall(self) -> float:
        return self._box.wall

    def _seed(self) -> bytes:
        return self._box.relay_seed()


@asynccontextmanager
async def virtual_room(
    *,
    seed: int = 0,
    latency: float = 0.0,
    jitter: float = 0.0,
    url: str = "wss://room.invalid",
    keys: Iterable[PublishableKey | str] = (),
    secrets: Iterable[SecretKey] = (),
    limits: Limits | None = None,
    logger: Logger | None = None,
) -> AsyncIterator[VirtualRoom]:
    """A relay and a network in memory, for everybody who is made meanwhile with its `url` (or that of a `path`).

    `url` may be the one that the application has built in, `wss://HOST`. `latency` and `jitter` are seconds one way,
    `keys`, `secrets` and `limits` the relay's, beside `box.api_key` and `box.secret_key`; `logger` is the relay's.
    With the same `seed` all delays are the same again. Run it in virtual time (`run_virtual`, or `virtual_backend` for
    anyio's pytest plugin), or in real time.

    Raises `ValueError` for another kind of url, and if another box has that host.
    """
    box = VirtualRoom(
        seed=seed,
        latency=latency,
        jitter=jitter,
        url=url,
        keys=keys,
        secrets=secrets,
        limits=limits,
        logger=logger,
    )
    await box.open()
    try:
        yield box
    finally:
        await box.close()
