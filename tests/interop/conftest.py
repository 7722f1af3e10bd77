"""The published Python SDK and our own client, side by side at our own relay.

A `Stage` is one relay and the clients that visit it. A `Visitor` is a client of either library together with all
it was told; the two have the same public API, so that most tests here are told once and hold for both. The
published SDK runs on asyncio alone, and so does everything here.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import pytest

import metered_anyio
from metered_anyio.relay import Limits, PublishableKey, RelayServer, SecretKey
from metered_proto.wire.tokens import mint

PATIENCE = 5.0
"""Seconds until a test gives up on something that should happen at once."""

EVENTS = (
    "Connected",
    "Disconnected",
    "StateChange",
    "Message",
    "Direct",
    "Presence",
    "ServerError",
    "GoingAway",
    "TokenProviderError",
)

KEY = "pk_live_interop"
SECRET_ID, SECRET = "sk_id_interop", "sk_secret_interop_0123456789abcdef"

KEYS = (
    PublishableKey(KEY),
    PublishableKey("pk_live_suspended", suspended=True),
    PublishableKey("pk_live_room", patterns=("room/**",)),
    PublishableKey("pk_live_listener", permissions=("subscribe",)),
    PublishableKey("pk_live_website", origins=("https://app.example",)),
)


class Visitor:
    """One client, of either library, and what it was told, in order."""

    def __init__(self, library: ModuleType, client: Any) -> None:
        self.library = library
        self.client = client
        self.told: list[Any] = []
        self._told = asyncio.Event()
        for name in EVENTS:
            client.on(getattr(library, name), self._on_event)

    def _on_event(self, event: Any) -> None:
        self.told.append(event)
        self._told.set()

    @property
    def peer_id(self) -> str:
        return self.all("Connected")[-1].peer_id

    @property
    def states(self) -> list[str]:
        """The states gone through, the first one included."""
        changes = self.all("StateChange")
        return [changes[0].from_, *(change.to for change in changes)]

    @property
    def messages(self) -> list[tuple[str, str, Any]]:
        return [(event.channel, event.sender_peer_id, event.data) for event in self.all("Message")]

    @property
    def directs(self) -> list[tuple[str, Any]]:
        return [(event.sender_peer_id, event.data) for event in self.all("Direct")]

    @property
    def presence(self) -> list[tuple[str, list[str], list[str]]]:
        return [
            (event.channel, sorted(peer.peer_id for peer in event.joined), sorted(peer.peer_id for peer in event.left))
            for event in self.all("Presence")
        ]

    def all(self, kind: str) -> list[Any]:
        """All events of a kind so far."""
        return [event for event in self.told if type(event).__name__ == kind]

    async def heard(self, kind: str, count: int = 1) -> list[Any]:
        """Wait until `count` events of a kind have come; returns them."""
        await self.until(lambda: len(self.all(kind)) >= count, f"{count} {kind}")
        return self.all(kind)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition that can become true only with an event."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            pytest.fail(f"waited for {what}, was told {self.told}")

    async def in_state(self, state: str) -> None:
        """Wait for the client to be in `state`, and to have said so."""
        await self.until(lambda: self.client.state == state and self.states[-1] == state, f"state {state}")

    async def caught_up(self, relay: RelayServer) -> None:
        """Return when all that the relay has for this visitor so far has arrived: a message behind it has."""
        channel = f"caught-up/{len(self.told)}"
        await self.client.subscribe(channel)
        before = len(self.messages)
        await relay.publish(channel, "the last", sender="usher")
        await self.until(lambda: (channel, "usher", "the last") in self.messages[before:], "the last message")
        await self.client.unsubscribe(channel)
        self.told = [event for event in self.told if getattr(event, "channel", None) != channel]

    def forget(self) -> None:
        """Forget what was told, but for who we are."""
        self.told = self.all("Connected")


class Stage:
    """The relays and visitors of one test. Leaving it closes all of them."""

    def __init__(self, libraries: dict[str, ModuleType], exits: contextlib.AsyncExitStack) -> None:
        self._libraries = libraries
        self._exits = exits
        self.relay: RelayServer

    async def open(self, *, port: int = 0, **limits: Any) -> RelayServer:
        """Open a relay: from now on, visitors go there."""
        secret = SecretKey(SECRET_ID, SECRET)
        # Tests come from one address, all of them.
        limits = {"connects_per_minute": None, **limits}
        self.relay = RelayServer(keys=KEYS, secrets=[secret], limits=Limits(**limits), port=port)
        await self.relay.start()
        self._exits.push_async_callback(self.relay.close)
        return self.relay

    async def restart(self, *, down_for: float = 0.0, **limits: Any) -> RelayServer:
        """Kill the relay, and open another one where it was."""
        port = self.relay.port
        await self.relay.close()
        await asyncio.sleep(down_for)
        return await self.open(port=port, **limits)

    def invite(self, library: str, **options: Any) -> Visitor:
        """A visitor that has not connected."""
        module = self._libraries[library]
        if "token_provider" not in options:
            options.setdefault("api_key", KEY)
        options.setdefault("url", None if "url" in options else self.relay.url)
        # No jitter and no waiting: how long to wait has its own tests.
        quick = module.ReconnectOptions(initial_delay=0.02, max_delay=0.1, jitter_ratio=0.0)
        options.setdefault("reconnect", quick)
        visitor = Visitor(module, module.SignallingClient(**options))
        self._exits.push_async_callback(visitor.client.close)
        return visitor

    async def visit(self, library: str, **options: Any) -> Visitor:
        """A visitor that is connected."""
        visitor = self.invite(library, **options)
        await visitor.client.connect()
        return visitor

    async def known_as(
        self, library: str, peer_id: str, *, claims: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        """A visitor with a token, connected."""

        async def provider() -> str:
            return token(peer_id, **(claims or {}))

        return await self.visit(library, token_provider=provider, **options)


def token(peer_id: str, *, expires_in: int = 3600, **claims: Any) -> str:
    """A token signed with the secret that the relay knows."""
    return mint(key_id=SECRET_ID, secret=SECRET, peer_id=peer_id, now=int(time.time()), expires_in=expires_in, **claims)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def libraries() -> dict[str, ModuleType]:
    """Both libraries, by name."""
    try:
        published = importlib.import_module("metered_realtime")
    except ImportError:
        pytest.skip("the published SDK is not installed (pip install metered-realtime==1.0.2)")
    return {"published": published, "ours": metered_anyio}


@pytest.fixture
def scene() -> type[Stage]:
    """`Stage`, for a test that runs an event loop of its own."""
    return Stage


@pytest.fixture
async def stage(libraries: dict[str, ModuleType]) -> AsyncIterator[Stage]:
    """A stage with a relay."""
    async with contextlib.AsyncExitStack() as exits:
        stage = Stage(libraries, exits)
        await stage.open()
        yield stage


@pytest.fixture(params=["published", "ours"])
def library(request: pytest.FixtureRequest) -> str:
    """Each library in turn."""
    return str(request.param)


@pytest.fixture(params=["published to published", "published to ours", "ours to published"])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The libraries of two who talk; ours with ours is told elsewhere."""
    first, _, second = str(request.param).partition(" to ")
    return first, second


@pytest.fixture(name="token")
def token_fixture() -> Callable[..., str]:
    """`token`, for test modules."""
    return token


@pytest.fixture
def secret_header() -> dict[str, str]:
    """What opens the control plane."""
    return {"Authorization": f"Bearer {SECRET_ID}:{SECRET}"}
