"""The only loop: a machine, its links, its timer and its effects.

A fact goes in, the orders that come out are carried out at once and in order, all without waiting. Facts that
arise meanwhile (a handler that calls back, a socket that breaks under a write) queue up behind. What was written
to links goes out together, once at the end of the loop's pass; but at once if a lone caller waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Protocol

import anyio
import anyio.lowlevel

from metered_anyio.backend import Backend, Waiter
from metered_anyio.clock import Clock
from metered_anyio.sockets import Link
from metered_proto.facts import Asked, EffectDone, Fact, LinkAsked, Withdrawn, Woken
from metered_proto.machine import Machine, Micros
from metered_proto.orders import (
    Abandon,
    AcceptLink,
    Answer,
    AnswerAll,
    Begin,
    Broadcast,
    CloseLink,
    Note,
    OpenLink,
    Order,
    PingLink,
    RefuseLink,
    Send,
    Tell,
)
from metered_proto.websocket import server_text_frame
from metered_proto.websocket_events import PlainRequest, Requested


class Host(Protocol):
    """What a machine's surroundings can do, beyond links and timers."""

    def open_link(self, number: int, target: str) -> None:
        """Set about opening a link; `pump.links[number]` follows, or `LinkDown`."""
        ...

    def close_unopened(self, number: int) -> None:
        """Stop opening a link that has no socket yet."""
        ...

    async def work(self, work: Any) -> Any:
        """Do what a `Begin` orders."""
        ...

    def tell(self, event: Any) -> None:
        """Hand an event to the application."""
        ...

    def note(self, note: Note) -> None:
        """Log."""
        ...

    def http(self, link: Link, request: PlainRequest) -> None:
        """A plain HTTP request came instead of an upgrade."""
        ...

    def settle(self) -> None:
        """Called after each fact has been dealt with: a place to notice that the machine has come to its end."""
        ...


_GRANTED = Answer(0)
"""What each of many who wait is told; whom it is for, they know."""


class _Held:
    """Broadcasts to the same links, one after the other."""

    __slots__ = ("frames", "links", "skip")

    def __init__(self, links: Collection[int], skip: int | None) -> None:
        self.links = links
        self.skip = skip
        self.frames: list[bytes] = []


class Pump:
    """Drives one machine on one event loop."""

    def __init__(
        self,
        machine: Machine,
        host: Host,
        backend: Backend,
        *,
        eager: bool,
        perform: Mapping[type[Order], Callable[[Any], None]] | None = None,
    ) -> None:
        """`eager`: write at once while no more than one caller waits, instead of at the end of the pass.

        `perform` has what to do for orders that this one machine gives, beyond those that all do.
        """
        self.machine = machine
        self.backend = backend
        self.clock = Clock(backend.time)
        self.links: dict[int, Link] = {}
        self.bytes_in = 0
        self.bytes_out = 0
        self._host = host
        self._alarm = backend.alarm(self._on_alarm)
        self._rings_at: Micros | None = None  # what the alarm is set to
        self._facts: deque[Fact] = deque()
        self._orders: deque[list[Order]] = deque()  # those that `ask_now` could not let be carried out at once
        self._now: Micros = 0
        self._busy = False
        self._unflushed: list[Link] = []
        self._pass_scheduled = False
        self._eager = eager
        self._held: _Held | None = None
        self._stopped = False
        self._ops = 0
        self._waiter: Callable[[], Waiter[Answer]] = backend.waiter
        self._waiters: dict[int, Waiter[Answer]] = {}  # who holds up a task for an answer, ...
        self._later: dict[int, Callable[[Any, Exception | None], None]] = {}  # ... and who does not
        self._tasks = 0
        self._quiet: list[Waiter[Any]] = []
        self._effects: dict[int, anyio.CancelScope] = {}
        self._perform: dict[type[Order], Callable[[Any], None]] = {
            Send: self._send,
            Broadcast: self._broadcast,
            Answer: self._answer,
            AnswerAll: self._answer_all,
            PingLink: self._ping,
            CloseLink: self._close,
            OpenLink: self._open,
            AcceptLink: self._accept,
            RefuseLink: self._refuse,
            Begin: self._begin,
            Abandon: self._abandon,
            Note: self._note,
            **(perform or {}),
        }

    # --- facts in ---

    def feed(self, fact: Fact) -> None:
        """Hand a fact to the machine and carry out what it orders."""
        self._facts.append(fact)
        if self._busy:
            return
        self._work_off()
        if self._unflushed and not (self._eager and len(self._waiters) <= 1):
            if not self._pass_scheduled:
                self._schedule_pass()
        else:
            self._end_pass()

    async def ask(self, call: Any) -> Any:
        """Ask the machine for something and wait for the answer. Cancelling withdraws the question."""
        op = self._ops = self._ops + 1
        waiters = self._waiters
        waiter = waiters[op] = self._waiter()
        try:
            if len(waiters) > 1 and self._eager:
                # Others wait too, so there will be more: deal with all of them at the end of the pass.
                self._facts.append(Asked(op, call))
                if not self._pass_scheduled:
                    self._schedule_pass()
            else:
                self.feed(Asked(op, call))
                if waiter.done():
                    # Whoever asks in a loop, and is refused at once each time, must not hold up the event loop.
                    await anyio.lowlevel.checkpoint()
            answer = await waiter
        except BaseException:
            # Still there if the wait was broken off, or the machine would not take the call.
            if waiters.pop(op, None) is not None:
                self.feed(Withdrawn(op))
            raise
        if answer.error is None:
            return answer.value
        try:
            raise answer.error
        finally:
            del answer, waiter  # or this frame, which the error's traceback holds, would hold the error

    def ask_later(self, call: Any, answered: Callable[[Any, Exception | None], None]) -> None:
        """Ask the machine for something without waiting; `answered` is called with the value and the error."""
        self._ops += 1
        self._later[self._ops] = answered
        self.feed(Asked(self._ops, call))

    def ask_now(self, call: Any) -> Any:
        """Ask the machine for something that it answers at once, also from inside a handler; return or raise that.

        What else it orders takes its turn behind the orders that are being carried out.
        """
        self._ops += 1
        now = self._now if self._busy else self.clock.now()
        orders = self.machine.handle(now, Asked(self._ops, call))
        (answer,) = (order for order in orders if isinstance(order, Answer) and order.op == self._ops)
        self._orders.append([order for order in orders if order is not answer])
        if not self._busy:
            self._work_off()
            if not self._pass_scheduled:
                self._schedule_pass()
        if answer.error is not None:
            raise answer.error
        return answer.value

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task in the background; `quiet` waits for it. It must not raise."""
        self._tasks += 1

        async def counted() -> None:
            try:
                await run()
            finally:
                self._tasks -= 1
                self._perhaps_quiet()

        self.backend.spawn(counted)

    async def quiet(self) -> None:
        """Wait until every socket is closed and every task has ended."""
        if self.links or self._tasks:
            waiter = self.backend.waiter()
            self._quiet.append(waiter)
            await waiter

    def _perhaps_quiet(self) -> None:
        if not self.links and not self._tasks:
            waiters, self._quiet = self._quiet, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def stop(self) -> None:
        """Let the timer rest: nobody is left to be woken for."""
        self._stopped = True
        self._rest()

    def _work_off(self) -> None:
        self._busy = True
        facts, orders, perform = self._facts, self._orders, self._perform
        handle, tell = self.machine.handle, self._host.tell
        now = self._now = self.clock.now()  # what is dealt with together happens at the same time
        try:
            while facts or orders:
                for order in orders.popleft() if orders else handle(now, facts.popleft()):
                    kind = type(order)
                    if kind is Tell:  # the most frequent by far, so spared the detour
                        tell(order.event)  # type: ignore[attr-defined]
                    else:
                        perform[kind](order)
        finally:
            self._busy = False
            if self._held is not None:
                self._post()

    def _schedule_pass(self) -> None:
        self._pass_scheduled = True
        self.backend.call_soon(self._end_pass)

    def _end_pass(self) -> None:
        self._pass_scheduled = False
        if self._facts and not self._busy:
            self._work_off()
        while self._unflushed:
            links, self._unflushed = self._unflushed, []
            for link in links:
                link.flush()
        deadline = None if self._stopped else self.machine.deadline
        if deadline is None:
            self._rest()
        elif self._rings_at is None or deadline.at < self._rings_at:
            # Only ever moved ahead: deadlines move back with nearly every fact, and to be woken early does no harm.
            self._rings_at = deadline.at
            self._alarm.set(self.clock.loop_time(deadline.at))
        self._host.settle()

    def _rest(self) -> None:
        if self._rings_at is not None:
            self._rings_at = None
            self._alarm.set(None)

    def _on_alarm(self) -> None:
        self._rings_at = None
        self.feed(Woken())

    # --- what links report (see sockets.Driver) ---

    def want_flush(self, link: Link) -> None:
        """Flush `link` at the end of the pass."""
        self._unflushed.append(link)
        if not self._busy and not self._pass_scheduled:  # no fact is being dealt with, at whose end it would be flushed
            self._schedule_pass()

    def knocked(self, link: Link, request: Requested | PlainRequest) -> None:
        """Somebody wants in, or only has a question."""
        if isinstance(request, Requested):
            self.feed(LinkAsked(link.number, request.target, link.address, request.origin))
        else:
            self._host.http(link, request)

    def gone(self, link: Link) -> None:
        """The socket is closed."""
        self.links.pop(link.number, None)
        self._perhaps_quiet()

    # --- orders out ---

    def _send(self, order: Send) -> None:
        if self._held is not None and order.link != self._held.skip:
            self._post()
        link = self.links.get(order.link)
        if link is not None:
            link.send(order.payload)

    def _broadcast(self, order: Broadcast) -> None:
        # Only a server has many links, and what a server sends is not masked: one frame serves all. And what a busy
        # publisher sends goes to the same links again and again, so wait for more of it before going round.
        held = self._held
        if held is None or held.links is not order.links or held.skip != order.skip:
            self._post()
            held = self._held = _Held(order.links, order.skip)
        held.frames.append(server_text_frame(order.payload))

    def _post(self) -> None:
        """Hand out the broadcasts that were held back. Nothing that is written to one of their links overtakes them."""
        held, self._held = self._held, None
        if held is not None:
            frames, links, skip = b"".join(held.frames), self.links, held.skip
            for number in held.links:
                if number != skip and (link := links.get(number)) is not None:
                    link.post(frames)

    def _ping(self, order: PingLink) -> None:
        self._post()
        if (link := self.links.get(order.link)) is not None:
            link.ping()

    def _close(self, order: CloseLink) -> None:
        self._post()
        link = self.links.get(order.link)
        if link is None:
            self._host.close_unopened(order.link)
        else:
            link.close(order.code, order.reason, abort=order.abort)

    def _open(self, order: OpenLink) -> None:
        self._host.open_link(order.link, order.target)

    def _accept(self, order: AcceptLink) -> None:
        if (link := self.links.get(order.link)) is not None:
            link.accept()

    def _refuse(self, order: RefuseLink) -> None:
        if (link := self.links.get(order.link)) is not None:
            headers = [] if order.retry_after is None else [("Retry-After", str(order.retry_after))]
            link.respond(order.status, order.reason, headers)

    def _answer(self, order: Answer) -> None:
        waiter = self._waiters.pop(order.op, None)
        if waiter is None:
            if (answered := self._later.pop(order.op, None)) is not None:
                answered(order.value, order.error)
        elif not waiter.done():
            waiter.set_result(order)

    def _answer_all(self, order: AnswerAll) -> None:
        waiters, granted = self._waiters, _GRANTED
        for op in order.ops:
            waiter = waiters.pop(op, None)
            if waiter is None:
                self._answer(Answer(op))
            elif not waiter.done():
                waiter.set_result(granted)

    def _begin(self, order: Begin) -> None:
        scope = self._effects[order.effect] = self.backend.cancel_scope()

        async def run() -> None:
            result: Any = None
            error: Exception | None = None
            with scope:
                try:
                    result = await self._host.work(order.work)
                except BaseException as raised:
                    if not self.backend.is_failure(raised):
                        raise
                    error = raised if isinstance(raised, Exception) else RuntimeError("cancelled from within")
                self._effects.pop(order.effect, None)
                self.feed(EffectDone(order.effect, result, error))
                error = None  # or this frame, which the error's traceback holds, would hold the error

        self.spawn(run)

    def _abandon(self, order: Abandon) -> None:
        if (scope := self._effects.pop(order.effect, None)) is not None:
            scope.cancel()

    def _note(self, order: Note) -> None:
        self._host.note(order)
