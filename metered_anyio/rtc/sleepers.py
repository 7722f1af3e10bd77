"""Tasks that wait, each in its own event loop, to be called from any thread."""

from __future__ import annotations

import threading
from collections import deque

import anyio.lowlevel

from metered_anyio.backend import Backend, Waiter, current_backend


class Sleepers:
    """A line of waiting tasks beside some state that a lock guards. The first to come is the first to be called.

    Whoever was called looks at the state again: it may be called for nothing.
    """

    def __init__(self, guard: threading.Lock) -> None:
        self._guard = guard
        self._line: deque[Sleeper] = deque()
        self._native: object = None
        self._backend: Backend | None = None

    def join(self) -> Sleeper:
        """Get in line. The guard is held, so no call between the look at the state and this is missed."""
        loop = anyio.lowlevel.current_token().native_token
        if self._backend is None or loop is not self._native:
            self._native, self._backend = loop, current_backend()
        sleeper = Sleeper(self._backend)
        self._line.append(sleeper)
        return sleeper

    async def sleep(self, sleeper: Sleeper) -> None:
        """Wait to be called. The guard is not held."""
        try:
            await sleeper.waiter
        except BaseException:
            with self._guard:
                if sleeper in self._line:
                    self._line.remove(sleeper)
                else:
                    self.call_one()  # what it was called for is somebody else's now
            raise

    def call_one(self) -> None:
        """Call the first. The guard is held."""
        if self._line:
            self._line.popleft().call()

    def call_all(self) -> None:
        """Call everybody. The guard is held."""
        while self._line:
            self._line.popleft().call()


class Sleeper:
    """One task that waits, perhaps in another thread than the one that calls it."""

    __slots__ = ("_backend", "_thread", "waiter")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._thread = threading.get_ident()
        self.waiter: Waiter[None] = backend.waiter()

    def call(self) -> None:
        """Let it go on."""
        try:
            if self._thread == threading.get_ident():
                self._wake()
            else:
                self._backend.call_from_thread(self._wake)
        except RuntimeError:
            pass  # its loop has ended

    def _wake(self) -> None:
        if not self.waiter.done():
            self.waiter.set_result(None)
