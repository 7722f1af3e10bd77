"""A room at a relay of ours, and whoever comes: our own peers, the published Python SDK, browsers.

A guest with a name has a token, and keeps its id over reconnects; one without has the publishable key, and gets a new
id each time. Whose id sorts lower is the polite one, so names choose who that is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import metered_anyio
from metered_anyio.relay import Limits, PublishableKey, RelayServer, SecretKey
from testbed.access import KEY, ROOM, SECRET, SECRET_ID, token
from testbed.browser import Browser, Studio
from testbed.cable import Cable
from testbed.guest import Guest, library

OURS = metered_anyio


class Stage:
    """The relay and the guests of one test. Leaving it closes all of them."""

    def __init__(self, studio: Studio | None = None) -> None:
        self._studio = studio
        self._exits = AsyncExitStack()
        self.relay: RelayServer

    async def __aenter__(self) -> Self:
        await self._open(0)
        self._exits.push_async_callback(self._close_relay)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    # --- the relay ---

    async def kill_relay(self) -> int:
        """Stop the relay at once, without a word to anybody. Returns its port, for `open_relay`."""
        port = self.relay.port
        await self.relay.close()
        return port

    async def open_relay(self, port: int) -> float:
        """Have a relay again where it was; returns when, in Unix seconds."""
        await self._open(port)
        return time.time()

    async def restart_relay(self, down_for: float) -> float:
        """Kill it, and open it again after so many seconds; returns when that was, in Unix seconds."""
        port = await self.kill_relay()
        await asyncio.sleep(down_for)
        return await self.open_relay(port)

    async def cable(self) -> Cable:
        """A cable to the relay, for `url=cable.url`."""
        return await self._exits.enter_async_context(Cable(self.relay.port))

    async def _open(self, port: int) -> None:
        limits = Limits(connects_per_minute=None)
        self.relay = RelayServer(
            keys=[PublishableKey(KEY)], secrets=[SecretKey(SECRET_ID, SECRET)], limits=limits, port=port
        )
        await self.relay.start()

    async def _close_relay(self) -> None:
        await self.relay.close()

    # --- guests ---

    def ours(self, name: str | None = None, **options: Any) -> Guest:
        """A peer of ours that has not joined. `claims` go into its token."""
        return self._guest(OURS, name, options)

    def published(self, name: str | None = None, **options: Any) -> Guest:
        """A peer of the published SDK that has not joined."""
        return self._guest(library(), name, options)

    def guest(self, kind: str, name: str | None = None, **options: Any) -> Guest:
        """`ours` or `published`, by name."""
        return self.ours(name, **options) if kind == "ours" else self.published(name, **options)

    async def page(self) -> Browser:
        """A page that is in no room yet."""
        assert self._studio is not None, "this stage has no browser"
        browser = await self._studio.browser()
        self._exits.push_async_callback(browser.close)
        return browser

    async def browser(self, name: str | None = None, *, url: str | None = None, **options: Any) -> Browser:
        """A browser that has joined. Options as for `Browser.join`."""
        browser = await self.page()
        await self.bring(browser, name, url=url, **options)
        return browser

    async def bring(self, browser: Browser, name: str | None = None, *, url: str | None = None, **options: Any) -> None:
        """Have a page join. `claims` go into its token."""
        claims = options.pop("claims", {})
        access = {"key": KEY} if name is None else {"token": token(name, **claims)}
        await browser.join(url or self.relay.url, ROOM, **access, **options)

    def _guest(self, module: Any, name: str | None, options: dict[str, Any]) -> Guest:
        claims = options.pop("claims", {})
        quick = module.ReconnectOptions(initial_delay=0.05, max_delay=0.5, jitter_ratio=0.0)
        access: dict[str, Any] = {"api_key": KEY} if name is None else {"token_provider": _provider(name, claims)}
        guest = Guest(module, **{"url": self.relay.url, "reconnect": quick, **access, **options})
        self._exits.push_async_callback(guest.close)
        return guest


def _provider(name: str, claims: dict[str, Any]) -> Callable[[], Awaitable[str]]:
    async def provide() -> str:
        return token(name, **claims)

    return provide
