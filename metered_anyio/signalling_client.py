"""`SignallingClient`: pub/sub and directed messages on one connection that comes back by itself.

All decisions are `metered_proto.client.ClientSession`'s. This is its surroundings: sockets, the clock, the token
provider, handlers and streams. It works the same on asyncio and on trio, as an async context manager or by plain
`connect()` and `close()` from any task.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import anyio

from metered_anyio.emitting import Emitting
from metered_anyio.logger import Logger
from metered_anyio.options import Record, SignallingClientOptions, TokenProviderFn, checked, settings_from
from metered_anyio.outbox_store import OutboxStore, SqliteStore, open_store
from metered_anyio.pump import Pump
from metered_anyio.receipt import Receipt
from metered_anyio.stats import ClientStats, client_stats
from metered_anyio.surroundings import Surroundings
from metered_proto.client import (
    ClientSession,
    Close,
    Connect,
    Publish,
    PublishMany,
    SendTo,
    Subscribe,
    Unsubscribe,
)
from metered_proto.client.deduplicator import Deduplicator
from metered_proto.client.outbox import Attempted, Dropped, Enqueue, Flush, Forget, Loaded, OutboxQueue
from metered_proto.client.requests import AnswerRequests, Request, reply, reply_error
from metered_proto.client.session import State
from metered_proto.errors import NotConnectedError, OversizedPayloadError, RequestFailedError, SignallingError
from metered_proto.events import IceServer, RequestReceived
from metered_proto.orders import Order, TellAll
from metered_proto.settings import ClientSettings, Outbox, ReconnectOptions, SubscribeOptions
from metered_proto.wire.codec import encode_data
from metered_proto.wire.scrub import scrub

if TYPE_CHECKING:
    from metered_anyio.recorded_drafts import RecordedDrafts

R = TypeVar("R", bound="Responder")

SignallingClientState: TypeAlias = State

Responder: TypeAlias = Callable[[RequestReceived], Any]
"""Answers a question: returns any JSON value, or an awaitable of one."""

MAX_RESPONDING = 64
"""Questions of peers that are being answered at a time."""


def _ignore(value: Any, error: Exception | None) -> None:
    """An answer that nobody needs."""


class SignallingClient(Emitting):
    """A client of the signalling service, or of a relay of one's own.

    Exactly one of `api_key` (`pk_live_…`) and `token_provider` (an async function that returns a JWT, asked before
    every attempt and given `token_provider_timeout` seconds) is needed. `url` is the server without its path;
    `wss` only, but for this machine. `reconnect` is `ReconnectOptions`, or False to stay down. A connection on
    which nothing arrives for `inactivity_timeout` seconds is replaced; zero, less, or infinity turns that off.
    `auto_resubscribe` restores subscriptions after a reconnect. `ssl_context` replaces the system's trust store.
    `outbox` is what `enqueue` needs; `deduplicate` is for receiving from outboxes: each message is told once, as it was
    enqueued, and what is missing is told as `Gap`. `record` is a file, a directory or `RecordOptions`: what the client
    is told and does is recorded there, to be replayed (`metered replay`).

    Raises `TypeError` or `ValueError` for bad options, which never show what they hold, and `OutboxStoreError` where
    the outbox's file cannot be used.
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
        outbox: Outbox | None = None,
        deduplicate: Deduplicator | bool = False,
        record: Record = None,
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
            outbox=outbox,
            deduplicate=deduplicate,
            record=record,
        )
        options = checked(options, keywords)
        self._settings = ClientSettings(**settings_from(options))
        self._around = _Around(options)
        self._logger = self._around.logger
        self._emitter = self._around.emitter
        entropy = self._around.entropy()
        loaded: Loaded | None = None
        self._store: OutboxStore | None = None
        self._queue: OutboxQueue | None = None
        if options.outbox is not None:
            self._store = self._around.store = open_store(options.outbox, self._logger)
            loaded = self._store.load()
            self._queue = OutboxQueue(
                options.outbox, entropy.fork("outbox"), loaded, ack_timeout=self._settings.ack_timeout
            )
        deduplicator = Deduplicator() if options.deduplicate is True else options.deduplicate or None
        self._session = ClientSession(self._settings, entropy, outbox=self._queue, deduplicator=deduplicator)
        self._around.machine = self._session
        self._drafts: OutboxQueue | RecordedDrafts | None = self._queue
        if self._around.records:
            from metered_anyio.recording import record_client

            plan = (self._settings, entropy.seed, options.outbox, loaded, deduplicator)
            self._drafts = record_client(self._around, plan, self._queue)
        self._responder: Responder | None = None
        self._responding = 0
        self._unsent = 0  # answers that did not reach their askers
        self._pump: Pump | None = None

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
        self._around.check_loop()
        await self._running().ask(Connect())

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close for good: end all streams, let async handlers finish for up to a second, remove all handlers.

        Idempotent. Called from one of the client's own handlers, it does not wait for that handler.
        """
        call = Close(code, reason)
        if self._session.state != "closed":
            self._around.check_loop()
            await self._running().ask(call)
        await self._around.gone()

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            # There is no body whose end would close us: after success, if we were cancelled in that very moment, and
            # where the outbox's file would stay locked, so that nobody could try again with a new client.
            if self.state == "connected" or isinstance(self._store, SqliteStore):
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

    async def publish(self, channel: str, data: Any, *, ack: bool = True) -> None:
        """Hand `data`, any JSON value, to every other subscriber of a channel. Returns on the server's ack.

        With `ack=False` the server is not asked for one, and this returns as soon as the message is on its way; on a
        connection that takes no more for the moment, that is when it does again.

        What JSON has no word for goes out as `msgspec` writes it: dates and times as ISO 8601, bytes as base64,
        dataclasses as objects.

        Raises `TypeError` or `ValueError` for a bad name or data, `NotConnectedError` and `OversizedPayloadError`
        before anything is sent, `ServerRequestError`, `DisconnectedError` or `AckTimeoutError` after.
        """
        call = Publish.of(channel, data, ack)
        if self._pump is None:
            raise NotConnectedError(self.state)
        await self._pump.ask(call)

    async def publish_many(self, items: Iterable[tuple[str, Any]]) -> None:
        """Publish many messages, given as `(channel, data)`, in order. Returns once all are acknowledged.

        Cheaper than as many calls of `publish`, since nobody is woken for each. Raises as `publish` does before
        anything is sent, and `PublishManyError` if some failed. Mind the server's message rate.
        """
        await self._ask(PublishMany(tuple(Publish.of(channel, data) for channel, data in items)))

    async def send(self, peer_id: str, data: Any) -> None:
        """Hand `data` to one peer. Returns on the server's ack; raises as `publish` does."""
        await self._ask(SendTo.of(peer_id, data))

    async def _ask(self, call: Any) -> Any:
        if self._pump is None:
            raise NotConnectedError(self.state)
        return await self._pump.ask(call)

    # --- questions and answers ---

    async def request(self, peer_id: str, data: Any, *, timeout: float = 10.0) -> Any:
        """Ask a peer, and return what it answers. The wire shape is in `metered_proto.client.requests`.

        Raises `RequestTimeoutError` after `timeout` seconds, `RequestFailedError` if the peer says no,
        `ServerRequestError` (`peer_not_found`), `DisconnectedError`, `NotConnectedError`, `OversizedPayloadError`, and
        `TypeError` or `ValueError` for bad arguments.
        """
        return await self._ask(Request.of(peer_id, data, timeout))

    def respond(self, handler: R) -> R:
        """Answer the questions of peers with what `handler` returns: a decorator, for one function a client.

        It is given a `RequestReceived`, whose `data` is the question, and returns any JSON value; it may be async, and
        up to `MAX_RESPONDING` questions are answered at a time, further ones with `busy`. `RequestFailedError` raised
        in it reaches the asker as it is; any other exception is logged, and reaches the asker as `handler_failed`; an
        answer over the server's cap as `oversized`.
        """
        if not callable(handler):
            raise TypeError(f"a handler must be callable, not {type(handler).__name__}")
        first, self._responder = self._responder is None, handler
        if first:
            self._emitter.on(RequestReceived, self._answer, concurrent=True)
            if self._pump is not None:
                self._pump.ask_later(AnswerRequests(), _ignore)
        return handler

    async def _answer(self, question: RequestReceived) -> None:
        assert self._responder is not None
        if self._responding >= 2 * MAX_RESPONDING:
            return  # not even that can be said to everybody who floods us; they will not wait for ever
        self._responding += 1
        try:
            await self._reply(question, await self._find_answer(question, self._responder))
        finally:
            self._responding -= 1

    async def _find_answer(self, question: RequestReceived, responder: Responder) -> SendTo:
        if self._responding > MAX_RESPONDING:
            return reply_error(question, "busy", "too many questions at a time")
        try:
            answer = responder(question)
            if isinstance(answer, Awaitable):
                answer = await answer
            return reply(question, answer)
        except RequestFailedError as error:
            return reply_error(question, error.code, error.message)
        except BaseException as error:
            if not self._running().backend.is_failure(error):
                raise
            self._logger.error("a request handler raised", {"error": scrub(repr(error))})
            return reply_error(question, "handler_failed")

    async def _reply(self, question: RequestReceived, call: SendTo) -> None:
        try:
            try:
                await self._ask(call)
            except OversizedPayloadError as error:
                await self._ask(reply_error(question, "oversized", f"the answer has {error.size} bytes"))
        except SignallingError as error:  # then the asker hears of it by its own timeout
            self._unsent += 1
            if not self._unsent & (self._unsent - 1):  # askers that leave must not fill our log
                context = {"peer_id": call.peer_id, "error": repr(error), "count": self._unsent}
                self._logger.warning("an answer could not be sent", context)

    # --- the outbox ---

    def enqueue(self, channel: str, data: Any, *, message_id: str | None = None) -> Receipt:
        """Put a message into the outbox. Never waits, and works in every state but `closed`.

        It is sent in order once there is a connection, again until the server has acknowledged it, and carries an id
        that receivers know repeats by (`message_id`, or one that is made up). With a file, what this has returned a
        receipt for survives the process and a power cut: returning takes one sync to disk. Call it from the event
        loop's thread.

        Raises `TypeError` or `ValueError` for bad arguments, `OversizedPayloadError` over the server's cap,
        `OutboxFullError` (with `overflow="reject"`), `OutboxStoreError` if the file cannot take it,
        `NotConnectedError` on a closed client, `RuntimeError` without an outbox.
        """
        if self._drafts is None or self._store is None:
            raise RuntimeError("this client was made without an outbox")
        pump = self._running()
        entry = self._drafts.draft(pump.clock.now(), channel, encode_data(data), message_id)
        if isinstance(entry, Dropped):
            return Receipt(message_id, entry)
        try:
            self._store.keep(entry)
        except BaseException:
            self._drafts.discard(entry)
            raise
        receipt = Receipt(entry.id)
        pump.ask_later(Enqueue(entry), lambda outcome, error: receipt.settle(outcome))
        return receipt

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything enqueued so far has ended, one way or another; False if that takes over `timeout` s.

        Raises `NotConnectedError` if the client is closed meanwhile, `RuntimeError` without an outbox.
        """
        if self._queue is None:
            raise RuntimeError("this client was made without an outbox")
        with anyio.move_on_after(timeout):
            await self._running().ask(Flush())
            return True
        return not len(self._queue) and self.state != "closed"

    def stats(self) -> ClientStats:
        """What was counted so far, and how things stand. Cheap."""
        return client_stats(self._session, self._queue, self._emitter, self._pump)

    def _running(self) -> Pump:
        """The pump, on the loop that is running now if nothing binds the client to another."""
        if self._pump is None:
            self._pump = self._around.start()
            if self._responder is not None:
                self._pump.ask_later(AnswerRequests(), _ignore)
        return self._pump


class _Around(Surroundings):
    """The session's surroundings, and the file of its outbox."""

    store: OutboxStore | None = None

    def perform(self) -> Mapping[type[Order], Callable[[Any], None]]:
        told: dict[type[Order], Callable[[Any], None]] = {TellAll: lambda order: self.emitter.emit_all(order.events)}
        store = self.store
        if store is None:
            return told
        return {
            **told,
            Forget: lambda order: store.forget(order.keys),
            Attempted: lambda order: store.attempted(order.through),
        }

    def settle(self) -> None:
        if self.store is not None:
            self.store.tidy()
        super().settle()

    def finished(self) -> None:
        if self.store is not None:
            self.store.close()
