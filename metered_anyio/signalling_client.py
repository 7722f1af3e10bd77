"""`SignallingClient`: pub/sub and directed messages on one connection that comes back by itself.

All decisions are `metered_proto.client.ClientSession`'s. This is its surroundings: sockets, the clock, the token
provider, handlers and streams. It works the same on asyncio and on trio, as an async context manager or by plain
`connect()` and `close()` from any task.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, overload
from urllib.parse import urlsplit

import anyio

from metered_anyio.backend import Backend, Waiter, current_backend
from metered_anyio.dial import DialError, dial, proxy_from_environment
from metered_anyio.emitter import Emitter, EventStream, Handler
from metered_anyio.logger import ContainedLogger, Logger, NoopLogger
from metered_anyio.pump import Pump
from metered_anyio.sockets import Link
from metered_anyio.tls import TlsPipe, default_context
from metered_proto.client import ClientSession, Close, Connect, FetchToken, Publish, SendTo, Subscribe, Unsubscribe
from metered_proto.client.session import State
from metered_proto.entropy import Entropy
from metered_proto.errors import NotConnectedError
from metered_proto.events import Event, IceServer
from metered_proto.facts import LinkDown
from metered_proto.masking import MaskKeys
from metered_proto.orders import Note
from metered_proto.settings import ClientSettings, ReconnectOptions, SubscribeOptions
from metered_proto.websocket import WebSocket
from metered_proto.websocket_events import PlainRequest
from metered_proto.wire.scrub import scrub_url

E = TypeVar("E", bound=Event)

TokenProviderFn: TypeAlias = Callable[[], Awaitable[str]]
"""Asked for a token (a JWT) before every attempt to connect."""

SignallingClientState: TypeAlias = State

PATIENCE = 1.8
"""Seconds after which `close` returns, even if a handler or a token provider refuses to be cancelled."""

_mask_keys = MaskKeys(os.urandom)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignallingClientOptions:
    """The options of `SignallingClient` as one object. Durations are float seconds; see there."""

    api_key: str | None = None
    token_provider: TokenProviderFn | None = None
    url: str = "wss://rms.metered.ca"
    token_provider_timeout: float = 10.0
    logger: Logger | None = None
    reconnect: ReconnectOptions | bool = True
    inactivity_timeout: float = 60.0
    auto_resubscribe: bool = True
    ssl_context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        # What is wrong with a url is said when it is used; until then it may hold anything, a credential as well.
        credential = "api_key" if self.api_key else "token_provider"
        return f"SignallingClientOptions(url={scrub_url(str(self.url))!r}, {credential}=***)"


class SignallingClient:
    """A client of the signalling service, or of a relay of one's own.

    Exactly one of `api_key` (`pk_live_…`) and `token_provider` (an async function that returns a JWT, asked before
    every attempt and given `token_provider_timeout` seconds) is needed. `url` is the server without its path;
    `wss` only, but for this machine. `reconnect` is `ReconnectOptions`, or False to stay down. A connection on
    which nothing arrives for `inactivity_timeout` seconds is replaced; zero, less, or infinity turns that off.
    `auto_resubscribe` restores subscriptions after a reconnect. `ssl_context` replaces the system's trust store.

    Raises `TypeError` or `ValueError` for bad options, which never show what they hold.
    """

    def __init__(
        self,
        options: SignallingClientOptions | None = None,
        /,
        *,
        api_key: str | None = None,
        token_provider: TokenProviderFn | None = None,
        url: str = "wss://rms.metered.ca",
        token_provider_timeout: float = 10.0,
        logger: Logger | None = None,
        reconnect: ReconnectOptions | bool = True,
        inactivity_timeout: float = 60.0,
        auto_resubscribe: bool = True,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        keywords = SignallingClientOptions(
            api_key=api_key,
            token_provider=token_provider,
            url=url,
            token_provider_timeout=token_provider_timeout,
            logger=logger,
            reconnect=reconnect,
            inactivity_timeout=inactivity_timeout,
            auto_resubscribe=auto_resubscribe,
            ssl_context=ssl_context,
        )
        if options is None:
            options = keywords
        elif not isinstance(options, SignallingClientOptions):
            raise TypeError(f"options must be SignallingClientOptions, not {type(options).__name__}")
        elif keywords != SignallingClientOptions():
            raise TypeError("give options as one object or as keywords, not both")
        if (options.api_key is None) == (options.token_provider is None):
            raise ValueError("exactly one of api_key and token_provider must be given")
        if options.token_provider is not None and not callable(options.token_provider):
            raise TypeError("token_provider must be callable")
        if options.ssl_context is not None and not isinstance(options.ssl_context, ssl.SSLContext):
            raise TypeError(f"ssl_context must be an ssl.SSLContext, not {type(options.ssl_context).__name__}")
        reconnect = options.reconnect
        if reconnect is None:  # which would pass for False below
            raise TypeError("reconnect must be ReconnectOptions or a bool, not NoneType")
        self._settings = ClientSettings(
            api_key=options.api_key,
            url=options.url,
            reconnect=ReconnectOptions() if reconnect is True else None if reconnect is False else reconnect,
            inactivity_timeout=options.inactivity_timeout,
            token_provider_timeout=options.token_provider_timeout,
            auto_resubscribe=options.auto_resubscribe,
        )
        self._token_provider = options.token_provider
        self._ssl_context = options.ssl_context
        self._logger: Logger = ContainedLogger(NoopLogger() if options.logger is None else options.logger)
        self._emitter = Emitter(self._logger)
        self.tell = self._emitter.emit  # as pump.Host has it: what the session tells goes straight to the handlers
        self._session = ClientSession(self._settings, Entropy(os.urandom(16)))
        self._pump: Pump | None = None
        self._dials: dict[int, anyio.CancelScope] = {}
        self._winding_down: list[Waiter[Any]] | None = None  # who waits for it; empty once it is over
        self._wound_down = False

    def __repr__(self) -> str:
        return f"<SignallingClient {self.state} {self._settings.url}>"

    # --- what it is ---

    @property
    def state(self) -> SignallingClientState:
        """`idle`, `connecting`, `connected`, `reconnecting` or `closed`."""
        return self._session.state

    @property
    def peer_id(self) -> str | None:
        """Our id, from the latest welcome; None before the first."""
        return self._session.peer_id

    @property
    def max_message_size(self) -> int:
        """The server's cap on serialized `data`, in bytes."""
        return self._session.max_message_size

    @property
    def ice_servers(self) -> tuple[IceServer, ...]:
        """The STUN and TURN servers that the latest welcome with any brought."""
        return self._session.ice_servers

    @property
    def dropped_events(self) -> int:
        """How many events full handler queues and streams have lost so far."""
        return self._emitter.dropped

    # --- connecting ---

    async def connect(self) -> None:
        """Connect, and return once the server has welcomed us. Does nothing while connected.

        Raises `SignallingConnectError`; the client is then idle and may try again, handlers kept. The first
        connect does not retry by itself unless `ReconnectOptions.retry_first` is set. On a closed client:
        `NotConnectedError`.
        """
        await self._running().ask(Connect())

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close for good: end all streams, let async handlers finish for up to a second, remove all handlers.

        Idempotent. Called from one of the client's own handlers, it does not wait for that handler.
        """
        call = Close(code, reason)
        if self._session.state != "closed":
            await self._running().ask(call)
        if self._winding_down is not None and not self._wound_down and not self._emitter.in_handler():
            waiter = self._running().backend.waiter()
            self._winding_down.append(waiter)
            await waiter

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            # Cancelled in the very moment of success: there is no body whose end would close us.
            if self.state == "connected":
                await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Winding down is bounded, and leaving it half done would leave tasks behind.
        with anyio.CancelScope(shield=True):
            await self.close()

    # --- asking ---

    async def subscribe(self, channel: str, options: SubscribeOptions | None = None) -> None:
        """Listen to a channel, or to all that match a pattern (`fleet/*/telemetry`). Returns on the server's ack.

        Raises `TypeError` or `ValueError` for a bad name, `NotConnectedError`, `ServerRequestError`,
        `DisconnectedError` or `AckTimeoutError`. In the last two cases the subscription is kept, and restored.
        """
        if options is not None and not isinstance(options, SubscribeOptions):
            raise TypeError(f"options must be SubscribeOptions, not {type(options).__name__}")
        await self._ask(Subscribe(channel, options is not None and options.include_sender_metadata))

    async def unsubscribe(self, channel: str) -> None:
        """Stop listening. Without a connection this raises `NotConnectedError`, but nothing will be restored either."""
        await self._ask(Unsubscribe(channel))

    async def publish(self, channel: str, data: Any) -> None:
        """Hand `data`, any JSON value, to every other subscriber of a channel. Returns on the server's ack.

        Raises `TypeError` or `ValueError` for a bad name or data, `NotConnectedError` and `OversizedPayloadError`
        before anything is sent, `ServerRequestError`, `DisconnectedError` or `AckTimeoutError` after.
        """
        call = Publish.of(channel, data)
        if self._pump is None:
            raise NotConnectedError(self.state)
        await self._pump.ask(call)

    async def send(self, peer_id: str, data: Any) -> None:
        """Hand `data` to one peer. Returns on the server's ack; raises as `publish` does."""
        await self._ask(SendTo.of(peer_id, data))

    async def _ask(self, call: Any) -> None:
        if self._pump is None:
            raise NotConnectedError(self.state)
        await self._pump.ask(call)

    # --- events ---

    @overload
    def on(self, event_type: type[E], /, *, concurrent: bool = ...) -> Callable[[Handler[E]], Handler[E]]: ...
    @overload
    def on(self, event_type: type[E], handler: Handler[E], /, *, concurrent: bool = ...) -> Handler[E]: ...
    def on(self, event_type: type[Any], handler: Any = None, /, *, concurrent: bool = False) -> Any:
        """Have `handler` called with each event of `event_type`; without one, a decorator.

        A sync handler runs inline. An async one runs in the background, one event after the other in order, or,
        if `concurrent`, as many at a time as there are events. What a handler raises is logged.
        """
        return self._emitter.on(event_type, handler, concurrent=concurrent)

    @overload
    def once(self, event_type: type[E], /) -> Callable[[Handler[E]], Handler[E]]: ...
    @overload
    def once(self, event_type: type[E], handler: Handler[E], /) -> Handler[E]: ...
    def once(self, event_type: type[Any], handler: Any = None, /) -> Any:
        """Like `on`, for the next event only."""
        return self._emitter.once(event_type, handler)

    def off(self, event_type: type[E], handler: Handler[E], /) -> None:
        """Remove a handler; one that is not registered is ignored."""
        self._emitter.off(event_type, handler)

    def events(self, event_type: type[E], /, *, maxsize: int = 4096) -> EventStream[E]:
        """The events of one type from now on, as an async iterator and async context manager.

        Over `maxsize` unread events the oldest is dropped, counted and reported; `maxsize=0` sets no bound.
        """
        return self._emitter.events(event_type, maxsize=maxsize)

    # --- the session's surroundings (see pump.Host) ---

    def _running(self) -> Pump:
        """The pump, on the loop that is running now if nothing binds the client to another."""
        if self._pump is None:
            backend: Backend = current_backend()
            self._emitter.bind(backend)
            self._pump = Pump(self._session, self, backend, eager=True)
        return self._pump

    def settle(self) -> None:
        state = self._session.state
        if state == "idle" and self._pump is not None:
            # A connect failed or was called off. What is left of it does not get the time to close in good order.
            for link in list(self._pump.links.values()):
                link.close(1000, "", abort=True)
        elif state == "closed" and self._winding_down is None and self._pump is not None:
            self._winding_down = []
            self._emitter.end_streams()
            self._pump.backend.spawn(self._wind_down)

    async def _wind_down(self) -> None:
        pump = self._running()
        try:
            with anyio.move_on_after(PATIENCE):
                await self._emitter.finish()
                await pump.quiet()
        finally:
            self._wound_down = True
            for waiter in self._winding_down or ():
                if not waiter.done():
                    waiter.set_result(None)

    def note(self, note: Note) -> None:
        getattr(self._logger, note.level)(note.message, note.context)

    async def work(self, work: Any) -> str:
        assert isinstance(work, FetchToken) and self._token_provider is not None  # noqa: PT018
        return await self._token_provider()

    def open_link(self, number: int, target: str) -> None:
        pump = self._running()
        scope = self._dials[number] = pump.backend.cancel_scope()

        async def run() -> None:
            failure: LinkDown | None = None
            with scope:
                try:
                    await self._open(pump, number, target)
                except DialError as error:
                    failure = LinkDown(number, error.code, error.reason)
                except Exception as error:
                    failure = LinkDown(number, 1006, type(error).__name__)
            self._dials.pop(number, None)
            if failure is not None:
                pump.feed(failure)

        pump.spawn(run)

    def close_unopened(self, number: int) -> None:
        if (scope := self._dials.pop(number, None)) is not None:
            scope.cancel()

    async def _open(self, pump: Pump, number: int, target: str) -> None:
        parts = urlsplit(target)
        secure, host = parts.scheme == "wss", parts.hostname or ""
        port = parts.port or (443 if secure else 80)
        ws = WebSocket.client(parts.netloc, f"{parts.path}?{parts.query}", random=_mask_keys)
        tls = None
        if secure:
            context = self._ssl_context or await default_context()
            tls = TlsPipe(context, server_side=False, hostname=host)
        sock, early = await dial(host, port, proxy_from_environment(host, secure=secure))
        try:
            link = pump.links[number] = Link(number, pump, sock, ws, tls)
        except BaseException:
            sock.close()
            raise
        link.open(early)

    def http(self, link: Link, request: PlainRequest) -> None:
        raise AssertionError("a client is never asked")
