"""The engine in a thread of its own, for applications whose event loop aiortc cannot live in: trio's."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final

import anyio

from metered_anyio.backend import Backend
from metered_anyio.logger import Logger
from metered_anyio.rtc.front import Front
from metered_proto.errors import PeerConnectionError
from metered_proto.facts import Fact

_JOIN: Final = 1.5  # seconds; closing everything takes one at most
_BEAT: Final = 1.0  # seconds between two looks at whether the application's loop is still there


class ThreadEngine(Front):
    """Peer connections in an asyncio loop in a thread. See `metered_anyio.rtc.engine.Engine`.

    The thread starts with the first thing that is to be done in it, and ends with `aclose`, or when the application's
    loop has ended without it. Sources of tracks are
    read in its loop. `backend` is that of the application's loop, in which everything arrives.
    """

    def __init__(self, feed: Callable[[Fact], None], logger: Logger, backend: Backend) -> None:
        super().__init__(feed, logger, ThreadCrossing(backend))


class ThreadCrossing:
    """See `metered_anyio.rtc.crossing.Crossing`."""

    threaded = True

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # An empty one: that of the application says that trio runs, to whoever asks it by way of anyio.
        self._context = contextvars.Context()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._end: asyncio.Event | None = None
        self._last: Callable[[], Coroutine[Any, Any, None]] | None = None
        # What comes while a result is on its way to the task that waits for it: it must not overtake the result.
        self._held: deque[Callable[[], object]] = deque()
        self._delivering = 0

    def to_app(self, callback: Callable[..., object], *args: Any) -> None:
        self._cross(lambda: self._arrive(lambda: callback(*args)))

    def to_engine(self, callback: Callable[..., object], *args: Any) -> None:
        if not self._closed:
            self._running_loop().call_soon_threadsafe(callback, *args, context=self._context)

    async def call(self, run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if self._closed:
            raise PeerConnectionError("closed", "the engine is closed")
        waiter = self._backend.waiter()
        delivered = False

        def deliver() -> None:
            nonlocal delivered
            if not waiter.done():
                delivered = True
                self._delivering += 1
                waiter.set_result(None)

        loop = self._running_loop()
        future: Future[Any] = self._context.copy().run(asyncio.run_coroutine_threadsafe, run(), loop)
        future.add_done_callback(lambda _: self._cross(deliver))
        try:
            await waiter
        except BaseException:
            future.cancel()
            if delivered:
                self._backend.call_soon(self._release)
            raise
        # The task goes on to report the result in this very step; whatever was held back follows it.
        self._backend.call_soon(self._release)
        try:
            return future.result()
        except CancelledError:
            raise PeerConnectionError("closed", "the engine is closed") from None

    def at_end(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._last = run

    async def aclose(self) -> None:
        self._closed = True
        thread, loop, end = self._thread, self._loop, self._end
        if thread is None or loop is None or end is None:
            return
        loop.call_soon_threadsafe(end.set)
        with anyio.move_on_after(_JOIN):
            while thread.is_alive():  # noqa: ASYNC110 - there is nothing to be told by
                await anyio.sleep(0.002)

    # --- the application's side ---

    def _arrive(self, callback: Callable[[], object]) -> None:
        if self._delivering or self._held:
            self._held.append(callback)
        else:
            callback()

    def _release(self) -> None:
        self._delivering -= 1
        while self._held and not self._delivering:
            self._held.popleft()()

    # --- the other side ---

    def _cross(self, callback: Callable[[], object]) -> None:
        try:
            self._backend.call_from_thread(callback)
        except RuntimeError:
            # The application's loop has ended, and nobody is left to be told, or to close anything.
            self._closed = True
            if self._end is not None:
                self._end.set()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._end = asyncio.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._loop, self._end), name="metered-rtc", daemon=True
            )
            self._thread.start()
        return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop, end: asyncio.Event) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._live(end))
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    async def _live(self, end: asyncio.Event) -> None:
        while not end.is_set():
            try:
                async with asyncio.timeout(_BEAT):
                    await end.wait()
            except TimeoutError:
                self._cross(_nothing)
        if self._last is not None:
            await self._last()


def _nothing() -> None:
    """To be called, if somebody is there to do so."""
