"""Requests in flight: who waits for which acknowledgement, and until when.

Every request waits equally long, so the oldest entry is always the first to run out, and the order in which
entries were made is all the bookkeeping that time needs. A batch is many requests with one answer, given when the
last of them has its own.
"""

from __future__ import annotations

import msgspec

from metered_proto.client.calls import Subscribe
from metered_proto.errors import AckTimeoutError, DisconnectedError, PublishManyError
from metered_proto.facts import Fact, LinkDown, Withdrawn, Woken
from metered_proto.machine import Deadline, Micros, micros
from metered_proto.orders import Answer, Order


class Pending(msgspec.Struct, gc=False):
    """One request in flight. `op` is None once its caller has stopped waiting, or where a batch waits instead."""

    op: int | None
    due: Micros


class PendingSubscribe(Pending):
    """A subscribe: the subscriptions have to hear the outcome, under the number they gave it."""

    call: Subscribe
    serial: int


class Batch(msgspec.Struct):
    """What waits for several requests."""

    op: int | None
    open: int
    failed: list[tuple[int, Exception]]


class PendingPart(Pending, gc=True):
    """One of a batch: the `index`th."""

    batch: Batch
    index: int


class Ledger:
    """The requests of one connection after another, by request id."""

    def __init__(self, ack_timeout: float) -> None:
        self._timeout = micros(ack_timeout)
        self._seconds = ack_timeout
        self._open: dict[str, Pending] = {}
        self._batches: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._open

    @property
    def deadline(self) -> Deadline | None:
        """When the oldest request runs out of time."""
        for request in self._open.values():
            return Deadline(request.due, "ack")
        return None

    def sent_at(self, request: Pending) -> Micros:
        """When a request was entered."""
        return request.due - self._timeout

    # --- entering ---

    def enter(self, now: Micros, op: int) -> str:
        """Enter a request that is about to be sent; returns its request id."""
        request_id = str(op)
        self._open[request_id] = Pending(op, now + self._timeout)
        return request_id

    def enter_subscribe(self, now: Micros, op: int, call: Subscribe, serial: int) -> str:
        """Enter a subscribe."""
        request_id = str(op)
        self._open[request_id] = PendingSubscribe(op, now + self._timeout, call, serial)
        return request_id

    def enter_batch(self, now: Micros, op: int, count: int) -> list[str]:
        """Enter `count` requests, at least one, that are answered together; returns their request ids."""
        batch = self._batches[op] = Batch(op, count, [])
        due = now + self._timeout
        request_ids = [f"{op}.{index}" for index in range(count)]
        for index, request_id in enumerate(request_ids):
            self._open[request_id] = PendingPart(None, due, batch, index)
        return request_ids

    # --- ending ---

    def settle(self, request_id: str) -> Pending | None:
        """Take out the request that an answer came for, if it is one of ours."""
        return self._open.pop(request_id, None)

    def end(self, request: Pending, error: Exception | None) -> list[Order]:
        """The outcome of a request that was taken out: what is to be said to whoever still waits."""
        if isinstance(request, PendingPart):
            return self._end_part(request.batch, request.index, error)
        return [] if request.op is None else [Answer(request.op, error=error)]

    def _end_part(self, batch: Batch, index: int, error: Exception | None) -> list[Order]:
        batch.open -= 1
        if error is not None:
            batch.failed.append((index, error))
        if batch.open or batch.op is None:
            return []
        del self._batches[batch.op]
        failed = sorted(batch.failed, key=lambda failure: failure[0])
        return [Answer(batch.op, error=PublishManyError(tuple(failed)) if failed else None)]

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Time out what is due; fail everything when the link is lost; forget who no longer waits."""
        orders: list[Order] = []
        match fact:
            case Woken():
                for request in self._take_due(now):
                    orders += self.end(request, AckTimeoutError(self._seconds))
            case LinkDown(_, code, reason):
                lost, self._open = self._open, {}
                for request in lost.values():
                    orders += self.end(request, DisconnectedError(code, reason))
            case Withdrawn(op):
                self._forget(op)
            case _:
                pass
        return orders

    def _take_due(self, now: Micros) -> list[Pending]:
        due: list[str] = []
        for request_id, request in self._open.items():
            if request.due > now:
                break
            due.append(request_id)
        return [self._open.pop(request_id) for request_id in due]

    def _forget(self, op: int) -> None:
        # The entries stay: their answers are still on the way, and must not pass for somebody else's.
        request = self._open.get(str(op))
        if request is not None:
            request.op = None
        batch = self._batches.pop(op, None)
        if batch is not None:
            batch.op = None
