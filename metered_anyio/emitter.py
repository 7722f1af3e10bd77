"""`on`, `off`, `once` and `events`: how events reach an application.

A sync handler runs inline, in the order of registration. An async handler gets its events one after the other, in
order, from a queue of its own in a background task; a slow one holds up nobody else. Of events that bring something
to stay with (`Event.lasting`), several are handled side by side. Queues and streams are bounded: over the bound the
oldest event goes, every drop is counted, and each burst of drops is reported once.
What a handler raises is logged and goes no further.
"""

from __future__ import annotations

import inspect
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar, overload

import anyio

from metered_anyio.backend import Backend, Waiter, current_backend
from metered_anyio.logger import Logger
from metered_proto.events import Event
from metered_proto.wire.scrub import scrub

E = TypeVar("E", bound=Event)

Handler: TypeAlias = Callable[[E], object]
"""A function of one event, sync or async."""

HANDLER_QUEUE = 4096
"""Events that may wait for one async handler."""

SIDE_BY_SIDE = 256
"""Events that an async handler may stay with at the same time, if they are lasting ones."""

STREAM_SIZE = 4096
"""Events that may wait in one stream, unless it was made with another `maxsize`."""

DRAIN = 1.0
"""Seconds that async handlers get to finish when their client closes."""

# The emitters in whose handlers the current task runs: closing from inside a handler must not wait for it.
_handling: ContextVar[tuple[Emitter, ...]] = ContextVar("handling", default=())


class Emitter:
    """Handlers and streams by event class. Naming a base class, `Event` itself say, means all that derive from it.

    With a `parent`, async handlers are run and ended by that one: the objects of one client have an emitter each, and
    come to their end together.
    """

    def __init__(self, logger: Logger, parent: Emitter | None = None) -> None:
        self._logger = logger
        self._parent = parent
        self._entries: list[_Entry] = []
        self._routes: dict[type[Event], tuple[_Entry, ...]] = {}  # another one whenever the entries change
        self._backend: Backend | None = None if parent is None else parent._backend
        self._scopes: dict[anyio.CancelScope, None] = {}
        self._idle: list[Waiter[Any]] = []
        self._ended = False
        self.dropped = 0
        """Events that a full queue or stream lost so far."""

    def child(self, logger: Logger | None = None) -> Emitter:
        """An emitter for something that belongs to the same client. It logs as this one does, unless told otherwise."""
        return Emitter(self._logger if logger is None else logger, self)

    def bind(self, backend: Backend) -> None:
        """Run async handlers on this backend from now on."""
        self._backend = backend

    @overload
    def on(self, event_type: type[E], /, *, concurrent: bool | None = ...) -> Callable[[Handler[E]], Handler[E]]: ...
    @overload
    def on(self, event_type: type[E], handler: Handler[E], /, *, concurrent: bool | None = ...) -> Handler[E]: ...
    def on(self, event_type: type[Any], handler: Any = None, /, *, concurrent: bool | None = None) -> Any:
        """Have `handler` called with each event of `event_type`; without one, a decorator.

        `concurrent` starts an async handler anew for each event, whether or not the last is done. None: for lasting
        events, up to `SIDE_BY_SIDE` of them.
        """
        return self._register(event_type, handler, once=False, concurrent=concurrent)

    @overload
    def once(self, event_type: type[E], /) -> Callable[[Handler[E]], Handler[E]]: ...
    @overload
    def once(self, event_type: type[E], handler: Handler[E], /) -> Handler[E]: ...
    def once(self, event_type: type[Any], handler: Any = None, /) -> Any:
        """Like `on`, for the next event only."""
        return self._register(event_type, handler, once=True, concurrent=False)

    def off(self, event_type: type[E], handler: Handler[E], /) -> None:
        """Remove a handler that `on` or `once` registered. What still waits for it is dropped. Else a no-op."""
        _check(event_type)
        for entry in [entry for entry in self._entries if entry.is_for(event_type, handler)]:
            self._remove(entry)

    def events(self, event_type: type[E], /, *, maxsize: int = STREAM_SIZE) -> EventStream[E]:
        """The events of `event_type` from now on, as an async iterator; `maxsize=0` sets no bound."""
        _check(event_type)
        if isinstance(maxsize, bool) or not isinstance(maxsize, int):
            raise TypeError(f"maxsize must be an int, not {type(maxsize).__name__}")
        if maxsize < 0:
            raise ValueError(f"maxsize must not be negative, but is {maxsize}")
        stream: EventStream[E] = EventStream(self, event_type, maxsize)
        if self._ended:
            stream.end()
        else:
            entry = _StreamEntry(self, event_type, stream)
            stream.detach = lambda: self._remove(entry)
            self._add(entry)
        return stream

    def emit(self, event: Event) -> None:
        """Hand an event to everybody who wants it."""
        for entry in self._route(type(event)):
            entry.deliver(event)

    def emit_all(self, events: Sequence[Event]) -> None:
        """Hand events of one class to everybody who wants them: `emit` for each, but whoever is alone gets a run."""
        waiting = iter(events)
        for event in waiting:
            self.emit(event)
            route = self._route(type(event))
            if len(route) == 1:
                route[0].deliver_run(waiting)

    def _route(self, kind: type[Event]) -> tuple[_Entry, ...]:
        route = self._routes.get(kind)
        if route is None:
            # A copy first: a stream that the garbage collector finds meanwhile takes its entry out of the list.
            route = tuple(entry for entry in tuple(self._entries) if issubclass(kind, entry.event_type))
            self._routes[kind] = route
        return route

    def end_streams(self) -> None:
        """No more events will come: streams end once they are read to their end."""
        self._ended = True
        for entry in list(self._entries):
            if isinstance(entry, _StreamEntry):
                entry.end()
                self._remove(entry)

    async def finish(self) -> None:
        """End streams, let async handlers finish what waits for them, for `DRAIN` seconds, then cancel; remove all.

        Returns when the last handler has ended: one that does not let itself be cancelled can take its time.
        """
        self.end_streams()
        with anyio.move_on_after(DRAIN):
            await self._handlers_ended()
        for scope in list(self._scopes):
            scope.cancel()
        for entry in list(self._entries):
            self._remove(entry)
        await self._handlers_ended()

    async def _handlers_ended(self) -> None:
        if self._scopes and self._backend is not None:
            waiter = self._backend.waiter()
            self._idle.append(waiter)
            await waiter

    def in_handler(self) -> bool:
        """Whether the current task is running one of this emitter's async handlers, or one of its children's."""
        return self in _handling.get()

    # --- for entries ---

    def returned(self, handler: Callable[[Any], object], event: Event, result: object) -> None:
        """A handler that was called returned something; if that is to be awaited, await it in the background."""
        # A coroutine runs only if somebody awaits it. Tasks and futures, which a handler may return by the way
        # (`lambda event: group.start_soon(client.close)`), run by themselves, and are not to be waited for.
        if isinstance(result, Coroutine):
            self.background(handler, event, result)

    def background(self, handler: Callable[[Any], Any], event: Event, result: Awaitable[Any]) -> None:
        """Await what a handler returned, on its own."""

        async def run() -> None:
            await self.attempt(handler, event, result)

        self.spawn(run)

    async def attempt(
        self, handler: Callable[[Any], Awaitable[Any]], event: Event, result: Awaitable[Any] | None = None
    ) -> None:
        """Await an async handler, or what a handler returned already, and report if it raises."""
        try:
            await (handler(event) if result is None else result)
        except BaseException as error:
            if self._backend is None or not self._backend.is_failure(error):
                raise
            self.failed(handler, event, error)

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a handler's task, to be waited for and cancelled by `finish`."""
        if self._parent is not None:
            self._parent.spawn(run)
            return
        if self._backend is None:
            raise RuntimeError("an emitter has to be bound before it emits")
        scope = self._backend.cancel_scope()
        self._scopes[scope] = None

        async def contained() -> None:
            if not self.in_handler():
                _handling.set((*_handling.get(), self))
            try:
                with scope:
                    await run()
            finally:
                del self._scopes[scope]
                if not self._scopes:
                    idle, self._idle = self._idle, []
                    for waiter in idle:
                        if not waiter.done():
                            waiter.set_result(None)

        self._backend.spawn(contained)

    def failed(self, handler: object, event: Event, error: BaseException) -> None:
        """Report a handler that raised."""
        context = {"event": type(event).__name__, "handler": _name(handler), "error": scrub(repr(error))}
        self._logger.error("a handler raised", context)

    def lost(self) -> None:
        """Count a drop."""
        self.dropped += 1
        if self._parent is not None:
            self._parent.lost()

    def overflowed(self, what: str, event_type: type[Event]) -> None:
        """Report the first drop of a burst."""
        self._logger.warning(f"{what} is full, the oldest events are dropped", {"event": event_type.__name__})

    def recovered(self, what: str, event_type: type[Event], count: int) -> None:
        """Report the end of a burst."""
        self._logger.warning(f"{what} has room again", {"event": event_type.__name__, "dropped": count})

    # --- registration ---

    def _register(self, event_type: type[Any], handler: Any, *, once: bool, concurrent: bool | None) -> Any:
        _check(event_type)
        if handler is None:
            return lambda given: self._register(event_type, given, once=once, concurrent=concurrent)
        if not callable(handler):
            raise TypeError(f"a handler must be callable, not {type(handler).__name__}")
        entry: _Entry
        if _is_async(handler) and not concurrent:
            most = SIDE_BY_SIDE if event_type.lasting and concurrent is None else 1
            entry = _QueueEntry(self, event_type, handler, once=once, most=most)
        else:
            entry = _CallEntry(self, event_type, handler, once=once)
        self._add(entry)
        return handler

    def _add(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._routes = {}

    def _remove(self, entry: _Entry) -> None:
        entry.removed()
        if entry in self._entries:
            self._entries.remove(entry)
            self._routes = {}

    def spent(self, entry: _Entry) -> None:
        """An entry has had the only event it wanted."""
        self._entries.remove(entry)
        self._routes = {}


class EventStream(Generic[E]):
    """An async iterator over events, and an async context manager that unsubscribes on exit.

    It ends when the client closes, after what was waiting in it has been read. `dropped` counts what was lost.
    """

    def __init__(self, emitter: Emitter, event_type: type[E], maxsize: int) -> None:
        self._emitter = emitter
        self._event_type = event_type
        self._maxsize = maxsize
        self._waiting: deque[E] = deque()
        self._reader: Waiter[Any] | None = None
        self._backend: Backend | None = None
        self._ended = False
        self._burst = 0
        self.dropped = 0
        self.detach: Callable[[], None] = lambda: None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            if self._reader is not None:
                raise RuntimeError("this stream is being read by another task")
            if self._backend is None:
                self._backend = current_backend()
            self._reader = self._backend.waiter()
            try:
                await self._reader
            finally:
                self._reader = None
        if self._burst:
            self._emitter.recovered("an event stream", self._event_type, self._burst)
            self._burst = 0
        return self._waiting.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Unsubscribe. What waits unread is dropped."""
        self._waiting.clear()
        self.end()
        self.detach()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._wake()

    def push(self, event: E) -> None:
        """Take in an event."""
        if self._ended:  # by a handler before it
            return
        if self._maxsize and len(self._waiting) >= self._maxsize:
            self._waiting.popleft()
            self.dropped += 1
            self._emitter.lost()
            if not self._burst:
                self._emitter.overflowed("an event stream", self._event_type)
            self._burst += 1
        self._waiting.append(event)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class _Entry(Protocol):
    event_type: type[Event]

    def deliver(self, event: Any) -> None: ...

    def deliver_run(self, events: Iterator[Any]) -> None:
        """Take events off. Where that runs the application's code, only until the entries of the emitter change:
        others may want the rest.
        """
        ...

    def is_for(self, event_type: type[Event], handler: object) -> bool: ...

    def removed(self) -> None: ...


class _CallEntry:
    """A handler that is called at once: a sync one, or an async one that wants to run concurrently."""

    def __init__(
        self, emitter: Emitter, event_type: type[Event], handler: Callable[[Any], object], *, once: bool
    ) -> None:
        self.event_type = event_type
        self._emitter = emitter
        self._handler = handler
        self._once = once
        self._off = False

    def deliver(self, event: Event) -> None:
        if self._off:  # by a handler before this one
            return
        if self._once:
            self._off = True
            self._emitter.spent(self)
        try:
            result = self._handler(event)
        except Exception as error:
            self._emitter.failed(self._handler, event, error)
            return
        if result is not None:
            self._emitter.returned(self._handler, event, result)

    def deliver_run(self, events: Iterator[Event]) -> None:
        if self._once:
            return
        # `deliver`, without a call for each: a busy subscriber lives here.
        emitter, handler = self._emitter, self._handler
        routes = emitter._routes
        for event in events:
            try:
                result = handler(event)
            except Exception as error:
                emitter.failed(handler, event, error)
                result = None
            if result is not None:
                emitter.returned(handler, event, result)
            if emitter._routes is not routes:
                return

    def is_for(self, event_type: type[Event], handler: object) -> bool:
        return self.event_type is event_type and self._handler == handler

    def removed(self) -> None:
        self._off = True


class _QueueEntry:
    """An async handler and the events that wait for it. Its tasks, `most` of them, run only while there are any."""

    def __init__(
        self,
        emitter: Emitter,
        event_type: type[Event],
        handler: Callable[[Any], Awaitable[Any]],
        *,
        once: bool,
        most: int,
    ) -> None:
        self.event_type = event_type
        self._emitter = emitter
        self._handler = handler
        self._once = once
        self._off = False
        self._queue: deque[Event] = deque()
        self._most = most
        self._running = 0
        self._burst = 0

    def deliver(self, event: Event) -> None:
        if self._off:
            return
        if self._once:
            self._off = True
            self._emitter.spent(self)
        if len(self._queue) >= HANDLER_QUEUE:
            self._queue.popleft()
            self._emitter.lost()
            if not self._burst:
                self._emitter.overflowed("the queue of an async handler", self.event_type)
            self._burst += 1
        self._queue.append(event)
        if self._running < self._most:
            self._running += 1
            self._emitter.spawn(self._run)

    def deliver_run(self, events: Iterator[Event]) -> None:
        if not self._once:
            for event in events:
                self.deliver(event)

    async def _run(self) -> None:
        try:
            while self._queue:
                event = self._queue.popleft()
                await self._emitter.attempt(self._handler, event)
            if self._burst:
                self._emitter.recovered("the queue of an async handler", self.event_type, self._burst)
                self._burst = 0
        finally:
            self._running -= 1

    def is_for(self, event_type: type[Event], handler: object) -> bool:
        return self.event_type is event_type and self._handler == handler

    def removed(self) -> None:
        self._off = True
        self._queue.clear()


class _StreamEntry:
    """A stream, held weakly: one that was left in the middle of an `async for` is not fed for ever."""

    def __init__(self, emitter: Emitter, event_type: type[Event], stream: EventStream[Any]) -> None:
        self.event_type = event_type
        self._emitter = emitter
        self._stream = weakref.ref(stream, self._dropped)

    def deliver(self, event: Event) -> None:
        stream = self._stream()
        if stream is not None:
            stream.push(event)

    def deliver_run(self, events: Iterator[Any]) -> None:
        stream = self._stream()
        if stream is not None:
            for event in events:
                stream.push(event)

    def end(self) -> None:
        stream = self._stream()
        if stream is not None:
            stream.end()

    def is_for(self, event_type: type[Event], handler: object) -> bool:
        return False

    def removed(self) -> None:
        pass

    def _dropped(self, _: object) -> None:
        self._emitter._remove(self)


def _check(event_type: object) -> None:
    if not isinstance(event_type, type) or not issubclass(event_type, Event):
        raise TypeError(f"events are named by their class, not by {event_type!r:.80}")


def _is_async(handler: Any) -> bool:
    while hasattr(handler, "func") and not inspect.isroutine(handler):  # functools.partial
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def _name(handler: object) -> str:
    return getattr(handler, "__qualname__", type(handler).__name__)
