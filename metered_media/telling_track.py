"""A track of ours that also tells events: `on`, `once`, `off` and `events` as everywhere in the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from metered_anyio.emitter import EventStream, Handler
from metered_anyio.logger import Logger
from metered_anyio.rtc.frame_track import BranchingTrack
from metered_media.notices import Notices
from metered_proto.events import Event

E = TypeVar("E", bound=Event)


class TellingTrack(BranchingTrack):
    """Events are named by their class. The names that aiortc's tracks know, `"ended"` that is, go on working, too."""

    def __init__(self, kind: str, *, logger: Logger | None = None) -> None:
        self._notices = Notices(logger)
        super().__init__(kind)

    @overload
    def on(self, event: type[E], /, *, concurrent: bool | None = ...) -> Callable[[Handler[E]], Handler[E]]: ...
    @overload
    def on(self, event: type[E], handler: Handler[E], /, *, concurrent: bool | None = ...) -> Handler[E]: ...
    @overload
    def on(self, event: str, handler: Callable[..., Any] | None = ..., /) -> Any: ...
    def on(self, event: Any, handler: Any = None, /, **options: Any) -> Any:
        """Have `handler` called with each event of a class; without one, a decorator. As on every object that tells."""
        if isinstance(event, str):
            return super().on(event, handler)
        return self._notices.on(event, handler, **options)

    @overload
    def once(self, event: type[E], /) -> Callable[[Handler[E]], Handler[E]]: ...
    @overload
    def once(self, event: type[E], handler: Handler[E], /) -> Handler[E]: ...
    @overload
    def once(self, event: str, handler: Callable[..., Any] | None = ..., /) -> Any: ...
    def once(self, event: Any, handler: Any = None, /) -> Any:
        """Like `on`, for the next event only."""
        if isinstance(event, str):
            return super().once(event, handler)
        return self._notices.once(event, handler)

    def off(self, event_type: type[E], handler: Handler[E], /) -> None:
        """Remove a handler of a class of events; one that is not registered is ignored."""
        self._notices.off(event_type, handler)

    def events(self, event_type: type[E], /, *, maxsize: int = 4096) -> EventStream[E]:
        """The events of one type from now on, as an async iterator. It ends with the track."""
        return self._notices.events(event_type, maxsize=maxsize)

    def _close(self) -> None:
        super()._close()
        self._notices.end()
