"""`on`, `once`, `off` and `events`, as every object of the API that tells something has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from metered_anyio.emitter import Emitter, EventStream, Handler
from metered_proto.events import Event

E = TypeVar("E", bound=Event)


class Emitting:
    """The base of whatever has an emitter."""

    _emitter: Emitter

    @overload
    def on(self, event_type: type[E], /, *, concurrent: bool | None = ...) -> Callable[[Handler[E]], Handler[E]]: ...
    @overload
    def on(self, event_type: type[E], handler: Handler[E], /, *, concurrent: bool | None = ...) -> Handler[E]: ...
    def on(self, event_type: type[Any], handler: Any = None, /, *, concurrent: bool | None = None) -> Any:
        """Have `handler` called with each event of `event_type`; without one, a decorator.

        A sync handler runs inline. An async one runs in the background, one event after the other in order, or, if
        `concurrent`, as many at a time as there are events. What a handler raises is logged.

        With None it is one after the other but for what a handler may stay with (`PeerJoined`, `Track`, `StreamAdded`,
        `DataChannelOpened`), of which up to 256 are handled side by side.
        """
        self._wanted(event_type)
        return self._emitter.on(event_type, handler, concurrent=concurrent)

    @overload
    def once(self, event_type: type[E], /) -> Callable[[Handler[E]], Handler[E]]: ...
    @overload
    def once(self, event_type: type[E], handler: Handler[E], /) -> Handler[E]: ...
    def once(self, event_type: type[Any], handler: Any = None, /) -> Any:
        """Like `on`, for the next event only."""
        self._wanted(event_type)
        return self._emitter.once(event_type, handler)

    def off(self, event_type: type[E], handler: Handler[E], /) -> None:
        """Remove a handler; one that is not registered is ignored."""
        self._emitter.off(event_type, handler)

    def events(self, event_type: type[E], /, *, maxsize: int = 4096) -> EventStream[E]:
        """The events of one type from now on, as an async iterator and async context manager.

        Over `maxsize` unread events the oldest is dropped, counted and reported; `maxsize=0` sets no bound.
        """
        self._wanted(event_type)
        return self._emitter.events(event_type, maxsize=maxsize)

    def _wanted(self, event_type: object) -> None:
        """Somebody is about to listen. For those who have kept something for whoever listens first."""
