"""Publishing the lines of stdin: straight away, or through an outbox that is kept in a file.

Both send the lines in order without one waiting for the other, stop at the first that fails, let what is on its way
then come to its end, and say how many were acknowledged.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from time import monotonic
from typing import Any, Final, TypeAlias

import anyio

from metered_anyio.cli.common import BackendName, Failure, Misuse, Server, client_logger, until_signal
from metered_anyio.cli.common import run as run_on
from metered_anyio.cli.data import read_data
from metered_anyio.cli.lines import LineReader
from metered_anyio.cli.pacing import Pacer
from metered_anyio.cli.screen import without_secrets, write_json, write_line
from metered_anyio.cli.tasks import all_of
from metered_anyio.receipt import Receipt
from metered_anyio.signalling_client import SignallingClient
from metered_anyio.stats import OutboxStats
from metered_proto.client.outbox import Delivered, Refused
from metered_proto.errors import OutboxFullError, SignallingConnectError, SignallingError
from metered_proto.events import Disconnected
from metered_proto.settings import Outbox, ReconnectOptions

Rate: TypeAlias = tuple[float | None, int]
"""A rate, or None for no limit, and its burst."""

IN_FLIGHT: Final = 256
"""Publishes that may wait for their acknowledgement at a time. With a rate no more than its burst: what has stalled
on the way arrives all at once, and must not be over the server's limit then."""


def publish_stdin(
    server: Server,
    channel: str,
    descriptor: int,
    *,
    string: bool,
    count: int | None,
    rate: Rate,
    outbox: str | None,
    backend: BackendName,
    as_json: bool,
    verbose: bool,
) -> None:
    """Publish, and say how it went. Raises `Failure` unless every line was acknowledged."""
    source = Source(LineReader(descriptor), string=string, count=count)
    logger, (most, burst) = client_logger(verbose=verbose), rate
    window = IN_FLIGHT if most is None else min(IN_FLIGHT, burst)
    run: Run
    if outbox is None:
        run = StraightRun(server.client(reconnect=False, logger=logger), channel, source, rate, window)
    else:
        options = Outbox(path=outbox, overflow="reject", rate=most, burst=burst, window=window)
        forever = ReconnectOptions(max_attempts=math.inf, retry_first=True)
        client = server.client(
            reconnect=forever, logger=logger, outbox=options, on_expired=lambda: run.stop("the token has expired")
        )
        run = OutboxRun(client, channel, source)
    began = monotonic()
    try:
        run_on(lambda: until_signal(run.run), backend)
    finally:
        if run.client.peer_id is not None or source.taken:
            _report(run, channel, monotonic() - began, outbox, as_json=as_json)


def _report(run: Run, channel: str, seconds: float, outbox: str | None, *, as_json: bool) -> None:
    taken, done, earlier = run.source.taken, run.acknowledged, run.acknowledged_earlier
    if as_json:
        counted = {"lines": taken, "acknowledged": done, "earlier": earlier, "seconds": round(seconds, 3)}
        write_json({"channel": channel, "from": run.client.peer_id, **counted})
        return
    parts = [f"acknowledged {done} line{'' if done == 1 else 's'}"]
    if earlier:
        parts.append(f" and {earlier} of an earlier run")
    parts.append(f" in {seconds:.2f} s")
    if done < taken:
        parts.append(f", {taken - done} not")
    if run.waiting:
        parts.append(f", {run.waiting} wait in {outbox}")
    write_line("".join(parts))


class Source:
    """What is to be published, from lines."""

    def __init__(self, lines: LineReader, *, string: bool, count: int | None) -> None:
        self._lines = lines
        self._string = string
        self._count = count
        self.taken = 0
        """How many lines there were that are something to publish."""

    async def next(self) -> tuple[int, Any] | None:
        """The number of a line and what it says, or None at the end. Raises `Failure` for what says nothing."""
        if self.taken == self._count:
            return None
        while (text := await self._lines.next()) is not None:
            if self._string or text.strip():
                self.taken += 1
                try:
                    return self._lines.number, read_data(text, string=self._string)
                except Misuse as error:
                    raise Failure(f"line {self._lines.number}: {error}") from None
        return None


class Run(ABC):
    """One run of the command."""

    def __init__(self, client: SignallingClient, channel: str, source: Source) -> None:
        self.client = client
        self.source = source
        self.acknowledged = 0
        """How many of these lines the server has acknowledged, ..."""
        self.acknowledged_earlier = 0
        """... how many that an earlier run has left, ..."""
        self.waiting = 0
        """... and how many this run leaves to the next one."""
        self._channel = channel
        self._over = False  # nothing more is to be taken from the source
        self._reading: anyio.CancelScope | None = None
        self._whole: anyio.CancelScope | None = None
        self._closing = False
        self._failure: Failure | None = None

    async def run(self) -> None:
        """Connect, publish, and close. Raises `Failure`."""
        self.client.on(Disconnected, self._on_disconnected)
        try:
            with anyio.CancelScope() as self._whole:
                await self._publish_all()
        finally:
            self._closing = True
            with anyio.CancelScope(shield=True):
                await self.client.close()
        if self._failure is not None:
            raise self._failure

    @abstractmethod
    async def _publish_all(self) -> None: ...

    def stop(self, why: str) -> None:
        """There is no way on: give up what is on its way as well."""
        self._fail(why)
        if self._whole is not None:
            self._whole.cancel()

    async def _take(self) -> tuple[int, Any] | None:
        """The number of the next line, and what it says. None at the end. For one task at a time."""
        if self._over:
            return None
        with anyio.CancelScope() as self._reading:
            try:
                taken = await self.source.next()
            except Failure as failure:
                self._fail(str(failure))
                return None
            if taken is None:
                self._over = True
            return taken
        return None

    def _fail(self, why: str) -> None:
        if self._failure is None:
            self._failure = Failure(without_secrets(why))
        self._over = True
        if self._reading is not None:
            self._reading.cancel()

    def _on_disconnected(self, event: Disconnected) -> None:
        if not event.will_reconnect and not self._closing:
            self.stop(f"disconnected: {event.code} {event.reason}".rstrip())


class StraightRun(Run):
    """Publishes on one connection, as it would a single message."""

    def __init__(
        self,
        client: SignallingClient,
        channel: str,
        source: Source,
        rate: Rate,
        window: int,
    ) -> None:
        super().__init__(client, channel, source)
        self._rate = rate
        self._window = window

    async def _publish_all(self) -> None:
        await self.client.connect()
        pacer, line = Pacer(*self._rate), anyio.Lock()

        async def work() -> None:
            while True:
                async with line:
                    taken = await self._take()
                    if taken is None:
                        return
                    await pacer.turn()
                # Nothing is waited for between here and there, so lines go out in the order they were read in.
                number, payload = taken
                try:
                    await self.client.publish(self._channel, payload)
                except (SignallingError, ValueError) as error:
                    self._fail(f"line {number}: {error}")
                else:
                    self.acknowledged += 1

        await all_of([work] * self._window)


class OutboxRun(Run):
    """Puts lines into an outbox, with a connection or without one, and waits until they have left it."""

    def __init__(self, client: SignallingClient, channel: str, source: Source) -> None:
        super().__init__(client, channel, source)
        self._receipts: deque[tuple[int, Receipt]] = deque()  # with the numbers of their lines, those that are open

    async def _publish_all(self) -> None:
        try:
            await all_of([self._connect, self._enqueue_and_settle])
        finally:
            while self._receipts and self._receipts[0][1].done():
                self._settle()
            stats = self._stats()
            self.waiting = stats.messages
            self.acknowledged_earlier = stats.counters.delivered - self.acknowledged

    async def _connect(self) -> None:
        try:
            await self.client.connect()
        except SignallingConnectError as error:
            self.stop(str(error))

    async def _enqueue_and_settle(self) -> None:
        enqueued, ended = anyio.create_memory_object_stream[None](math.inf)

        async def enqueue() -> None:
            with enqueued:
                while (taken := await self._take()) is not None:
                    number, payload = taken
                    try:
                        self._receipts.append((number, await self._enqueue(payload)))
                    except (SignallingError, ValueError) as error:
                        self._fail(f"line {number}: {error}")
                    else:
                        await enqueued.send(None)

        async def settle() -> None:
            with ended:
                async for _ in ended:
                    await self._receipts[0][1]
                    self._settle()
            await self.client.flush()  # what an earlier run has left

        await all_of([enqueue, settle])
        if self._failure is None and (refused := self._stats().counters.refused):
            self._fail(f"{refused} of an earlier run were refused")

    async def _enqueue(self, payload: Any) -> Receipt:
        while True:
            try:
                return self.client.enqueue(self._channel, payload)
            except OutboxFullError:
                await self.client.flush()

    def _settle(self) -> None:
        number, receipt = self._receipts.popleft()
        match receipt.outcome:
            case Delivered():
                self.acknowledged += 1
            case Refused(code, message):
                self._fail(f"line {number}: {code}: {message}")

    def _stats(self) -> OutboxStats:
        stats = self.client.stats().outbox
        assert stats is not None
        return stats
