"""What asyncio and trio do differently, in one place.

The rest of the package is written against `Backend`: a clock, a callback after the current pass of the loop, a
one-shot waiter, an alarm that can be moved, a watch on a socket, and tasks that belong to nobody's nursery. anyio
has most of these, but as something to await; here they are calls, so that a fact is handled to its end in the very
callback that brought it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    import trio

T = TypeVar("T")

_log = logging.getLogger("metered_anyio")

Callback = Callable[[], object]


class Waiter(Protocol[T]):
    """Something to await that is settled once, from the same thread. `asyncio.Future` is one."""

    def done(self) -> bool:
        """Settled or cancelled."""
        ...

    def set_result(self, result: T, /) -> None:
        """Let the one who waits go on with `result`."""
        ...

    def __await__(self) -> Generator[Any, None, T]: ...


class Alarm(Protocol):
    """Calls back once after the time it is set to. It may do so early: whoever sets it looks at the clock."""

    def set(self, at: float | None) -> None:
        """Move the alarm to `at` (the backend's clock, seconds), or let it rest."""
        ...


class Watch(Protocol):
    """A callback for as long as something holds: here, that a socket can be read or written."""

    def cancel(self) -> None:
        """Stop watching. Idempotent."""
        ...


@runtime_checkable
class Watchable(Protocol):
    """What stands in for a socket: it is in memory, so it has to say itself when it is ready."""

    def watch_readable(self, callback: Callback, /) -> Watch:
        """As `Backend.watch_readable`."""
        ...

    def watch_writable(self, callback: Callback, /) -> Watch:
        """As `Backend.watch_writable`."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Wire(Watchable, Protocol):
    """What stands in for a connected socket."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Take what there is room for. Raises `BlockingIOError` without any, `OSError` once the connection is lost."""
        ...

    def recv(self, size: int, /) -> bytes:
        """What is there, b"" at the end. Raises `BlockingIOError` if nothing is, `OSError` without a connection."""
        ...

    def shutdown(self, how: int, /) -> None:
        """Say that nothing more will be sent."""
        ...


class Backend(Protocol):
    """An event loop, as this package needs it. All calls are made from the loop's own thread."""

    name: str

    def time(self) -> float:
        """The loop's clock, in seconds."""
        ...

    def call_soon(self, callback: Callback, /) -> object:
        """Call back after everything that is ready now has had its turn."""
        ...

    def call_from_thread(self, callback: Callback) -> None:
        """Call back in the loop's thread, in the order of the calls; this one may be made from any other thread.

        Raises `RuntimeError` once the loop has ended.
        """
        ...

    def waiter(self) -> Waiter[Any]:
        """A new waiter."""
        ...

    def alarm(self, callback: Callback) -> Alarm:
        """A new alarm, at rest."""
        ...

    def watch_readable(self, sock: socket.socket | Watchable, callback: Callback) -> Watch:
        """Call back whenever `sock` can be read, until cancelled. Cancel before closing the socket."""
        ...

    def watch_writable(self, sock: socket.socket | Watchable, callback: Callback) -> Watch:
        """Call back whenever `sock` can be written, until cancelled. Cancel before closing the socket."""
        ...

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task in the background, in the context (`contextvars`) that was current when the backend was made.

        It must not raise.
        """
        ...

    def cancel_scope(self) -> anyio.CancelScope:
        """A new cancel scope. Unlike `anyio.CancelScope()`, this works outside of a task, too."""
        ...

    def is_failure(self, error: BaseException) -> bool:
        """Whether what a foreign coroutine raised in this task is its own failure, and no order to this task to end."""
        ...


def current_backend() -> Backend:
    """The backend of the running event loop. Raises anyio's `NoEventLoopError` (a `RuntimeError`) outside of one."""
    native = anyio.lowlevel.current_token().native_token
    if isinstance(native, asyncio.AbstractEventLoop):
        return AsyncioBackend(native)
    return TrioBackend()


F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, None]])


def keep_interrupts_out(run: F) -> F:
    """Make a function fit to run as a child of a background task.

    trio raises `KeyboardInterrupt` in whatever task happens to run, and does not count the children of a system
    task among those that are spared; there it would take the whole run down instead of reaching the main task.
    """
    if isinstance(anyio.lowlevel.current_token().native_token, asyncio.AbstractEventLoop):
        return run
    import trio

    return trio.lowlevel.enable_ki_protection(run)


# --- asyncio ------------------------------------------------------------------------------------------------


class AsyncioBackend:
    """asyncio, uvloop included."""

    name = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly
        self._context = contextvars.copy_context()
        # In a callback anyio cannot tell which loop it is on unless `anyio.run` began it all (or sniffio is missing),
        # but here, in a task, it can.
        self.cancel_scope: Callable[[], anyio.CancelScope] = type(anyio.CancelScope())
        self.time = loop.time
        self.call_soon = loop.call_soon
        self.waiter: Callable[[], asyncio.Future[Any]] = loop.create_future

    def call_from_thread(self, callback: Callback) -> None:
        self._loop.call_soon_threadsafe(callback, context=self._context)

    def alarm(self, callback: Callback) -> Alarm:
        return _AsyncioAlarm(self._loop, callback, self._context)

    def watch_readable(self, sock: socket.socket | Watchable, callback: Callback) -> Watch:
        if isinstance(sock, Watchable):
            return sock.watch_readable(callback)
        return _AsyncioWatch(self._loop.add_reader, self._loop.remove_reader, sock.fileno(), callback)

    def watch_writable(self, sock: socket.socket | Watchable, callback: Callback) -> Watch:
        if isinstance(sock, Watchable):
            return sock.watch_writable(callback)
        return _AsyncioWatch(self._loop.add_writer, self._loop.remove_writer, sock.fileno(), callback)

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._loop.create_task(run(), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_failure(self, error: BaseException) -> bool:
        if isinstance(error, asyncio.CancelledError):
            # It may have come out of something that the coroutine awaited and somebody else cancelled.
            task = asyncio.current_task()
            return task is not None and not task.cancelling()
        return isinstance(error, Exception)


class _AsyncioAlarm:
    __slots__ = ("_callback", "_context", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callback, context: contextvars.Context) -> None:
        self._loop = loop
        self._callback = callback
        self._context = context
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float | None) -> None:
        handle = self._handle
        if handle is not None:
            # An earlier call does no harm, and moving the handle would cost more than a needless wake-up.
            if at is not None and handle.when() <= at:
                return
            handle.cancel()
        self._handle = None if at is None else self._loop.call_at(at, self._ring, context=self._context)

    def _ring(self) -> None:
        self._handle = None
        self._callback()


class _AsyncioWatch:
    __slots__ = ("_descriptor", "_remove")

    def __init__(
        self,
        add: Callable[[int, Callback], object],
        remove: Callable[[int], object],
        descriptor: int,
        callback: Callback,
    ) -> None:
        self._remove = remove
        self._descriptor: int | None = descriptor
        add(descriptor, callback)

    def cancel(self) -> None:
        if self._descriptor is not None:
            self._remove(self._descriptor)
            self._descriptor = None


# --- trio ---------------------------------------------------------------------------------------------------


class TrioBackend:
    """trio. What asyncio does with a callback takes a small system task here."""

    name = "trio"

    def __init__(self) -> None:
        import trio

        self._lowlevel = trio.lowlevel
        self._token = trio.lowlevel.current_trio_token()
        self.cancel_scope: Callable[[], anyio.CancelScope] = anyio.CancelScope
        self._context = contextvars.copy_context()
        self.time = trio.lowlevel.current_clock().current_time

    def waiter(self) -> Waiter[Any]:
        return _TrioWaiter(self._lowlevel)

    def call_soon(self, callback: Callback) -> object:
        self._token.run_sync_soon(_contained, callback)
        return None

    def call_from_thread(self, callback: Callback) -> None:
        self._token.run_sync_soon(_contained, callback)

    def alarm(self, callback: Callback) -> Alarm:
        return _TrioAlarm(self, callback)

    def watch_readable(self, sock: socket.socket | Watchable, callback: Callback) -> Watch:
        if isinstance(sock, Watchable):
            return sock.watch_readable(callback)
        return _TrioWatch(self, self._lowlevel.wait_readable, sock, callback)

    def watch_writable(self, sock: socket.socket | Watchable, callback: Callback) -> Watch:
        if isinstance(sock, Watchable):
            return sock.watch_writable(callback)
        return _TrioWatch(self, self._lowlevel.wait_writable, sock, callback)

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def contained() -> None:
            try:
                await run()
            except Exception:
                _log.exception("a background task failed")

        self._lowlevel.spawn_system_task(contained, context=self._context.copy())

    def is_failure(self, error: BaseException) -> bool:
        return isinstance(error, Exception)


def _contained(callback: Callback) -> None:
    # What escapes from a system task or from such a callback takes the whole run down, so a bug is logged, as
    # asyncio would log it. Only Cancelled, at the end of the run, is let through.
    try:
        callback()
    except Exception:
        _log.exception("a callback failed")


class _TrioWaiter(Generic[T]):
    __slots__ = ("_done", "_lowlevel", "_result", "_task")

    def __init__(self, lowlevel: Any) -> None:
        self._lowlevel = lowlevel  # the module: not `import`ed at every waiter
        self._task: Any = None
        self._done = False
        self._result: T | None = None

    def done(self) -> bool:
        return self._done

    def set_result(self, result: T, /) -> None:
        self._result = result
        self._done = True
        if self._task is not None:
            task, self._task = self._task, None
            self._lowlevel.reschedule(task)

    def __await__(self) -> Generator[Any, None, T]:
        if not self._done:
            lowlevel = self._lowlevel
            self._task = lowlevel.current_task()
            yield from lowlevel.wait_task_rescheduled(self._give_up).__await__()
        return self._result  # type: ignore[return-value]

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        self._done = True
        succeeded: trio.lowlevel.Abort = self._lowlevel.Abort.SUCCEEDED
        return succeeded


class _TrioAlarm:
    """A task that sleeps in a cancel scope whose deadline is moved; it runs only while the alarm is set."""

    __slots__ = ("_at", "_backend", "_callback", "_rings", "_scope")

    def __init__(self, backend: TrioBackend, callback: Callback) -> None:
        self._backend = backend
        self._callback = callback
        self._at: float | None = None
        self._rings = 0.0  # when the task wakes: perhaps too early, never too late
        self._scope: anyio.CancelScope | None = None

    def set(self, at: float | None) -> None:
        self._at = at
        if at is None:
            if self._scope is not None:
                self._scope.cancel()
        elif self._scope is None:
            self._rings = at
            self._scope = anyio.CancelScope()
            self._backend.spawn(self._run)
        elif at < self._rings:
            self._rings = self._scope.deadline = at

    async def _run(self) -> None:
        try:
            while self._at is not None:
                self._rings = self._at
                with anyio.CancelScope(deadline=self._at) as self._scope:
                    await anyio.sleep_forever()
                if self._at is not None and self._backend.time() >= self._at:
                    self._at = None
                    _contained(self._callback)
        finally:
            self._scope = None


class _TrioWatch:
    __slots__ = ("_callback", "_cancelled", "_descriptor", "_scope", "_wait")

    def __init__(
        self,
        backend: TrioBackend,
        wait: Callable[[int], Awaitable[None]],
        sock: socket.socket,
        callback: Callback,
    ) -> None:
        self._wait = wait
        self._descriptor = sock.fileno()
        self._callback = callback
        self._cancelled = False
        self._scope = anyio.CancelScope()
        backend.spawn(self._run)

    def cancel(self) -> None:
        self._cancelled = True
        self._scope.cancel()

    async def _run(self) -> None:
        wait, descriptor, callback = self._wait, self._descriptor, self._callback
        with self._scope:
            while not self._cancelled:
                await wait(descriptor)
                try:  # `_contained`, without the call
                    callback()
                except Exception:
                    _log.exception("a callback failed")
