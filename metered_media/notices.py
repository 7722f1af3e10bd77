"""What sources and recordings tell, from whatever thread, in the loop of the application that listens."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Final

from metered_anyio.backend import AsyncioBackend, Backend, current_backend
from metered_anyio.emitter import Emitter
from metered_anyio.emitting import Emitting
from metered_anyio.logger import ContainedLogger, Logger, NoopLogger
from metered_proto.events import Event

_HELD: Final = 256  # events that wait for a loop to be told in


class Notices(Emitting):
    """`on`, `once`, `off` and `events`, and `tell` for the owner.

    Handlers run in the loop in which somebody first listened. Who listens before there is a loop is told in the first
    one in which the owner is used (`bind`). Nobody listening, or a loop that has ended, does no harm.
    """

    def __init__(self, logger: Logger | None = None) -> None:
        self._emitter = Emitter(ContainedLogger(NoopLogger() if logger is None else logger))
        self._backend: Backend | None = None
        self._listening = False
        self._ended = False
        self._held: deque[Event] = deque(maxlen=_HELD)
        self._guard = threading.Lock()

    def bind(self) -> None:
        """Tell in the loop that runs here, if somebody listens and no other was found yet. Cheap to call often."""
        if self._backend is None and self._listening:
            backend = _running_backend()
            if backend is None:
                return
            self._emitter.bind(backend)
            with self._guard:
                self._backend = backend
                held = list(self._held)
                self._held.clear()
                for event in held:
                    self._pass(backend, event)
                if self._ended:
                    self._end(backend)

    def tell(self, event: Event) -> None:
        """Tell everybody who listens, soon and in order. May be called in any thread."""
        if not self._listening:
            return
        with self._guard:
            if self._ended:
                return
            if self._backend is None:
                self._held.append(event)
            else:
                self._pass(self._backend, event)

    def end(self) -> None:
        """Nothing more is told: streams end once they are read to their end. May be called in any thread."""
        with self._guard:
            if self._ended:
                return
            self._ended = True
            if self._backend is not None:
                self._end(self._backend)
            elif not self._listening:
                self._emitter.end_streams()

    async def finish(self) -> None:
        """End, and let async handlers finish, for about a second. In the loop that is told."""
        self.end()
        if self._backend is not None:
            told = self._backend.waiter()
            self._backend.call_from_thread(lambda: None if told.done() else told.set_result(None))
            await told  # behind everything that was told
        await self._emitter.finish()

    def _wanted(self, event_type: object) -> None:
        self._listening = True
        self.bind()

    def _pass(self, backend: Backend, event: Event) -> None:
        try:
            backend.call_from_thread(lambda: self._emitter.emit(event))
        except RuntimeError:
            pass  # that loop has ended

    def _end(self, backend: Backend) -> None:
        try:
            backend.call_from_thread(self._emitter.end_streams)
        except RuntimeError:
            pass


def _running_backend() -> Backend | None:
    try:
        return current_backend()
    except RuntimeError:
        pass
    try:
        return AsyncioBackend(asyncio.get_running_loop())  # in a callback, where anyio cannot always tell
    except RuntimeError:
        return None
