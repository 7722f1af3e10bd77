"""Requests in flight: who waits for which acknowledgement, and until when.

Every request waits equally long, so the oldest entry is always the first to run out, and the order in which
entries were made is all the bookkeeping that time needs.
"""

from __future__ import annotations

import msgspec

from metered_proto.client.calls import Subscribe
from metered_proto.errors import AckTimeoutError, DisconnectedError
from metered_proto.facts import Fact, LinkDown, Withdrawn, Woken
from metered_proto.machine import Deadline, Micros, micros
from metered_proto.orders import Answer, Order


class Pending(msgspec.Struct, gc=False):
    """One request in flight. `op` is None once its caller has stopped waiting."""

    op: int | None
    due: Micros
    subscribe: Subscribe | None = None
    """For a subscribe: what the subscriptions have to hear the outcome of, ..."""
    serial: int = 0
    """... and the number they gave it."""


class Ledger:
    """The requests of one connection after another, by request id."""

    def __init__(self, ack_timeout: float) -> None:
        self._timeout = micros(ack_timeout)
        self._seconds = ack_timeout
        self._open: dict[str, Pending] = {}

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

    def enter(self, now: Micros, op: int, subscribe: Subscribe | None = None, serial: int = 0) -> str:
        """Enter a request that is about to be sent; returns its request id."""
        request_id = str(op)
        self._open[request_id] = Pending(op, now + self._timeout, subscribe, serial)
        return request_id

    def settle(self, request_id: str) -> Pending | None:
        """Take out the request that an answer came for, if it is one of ours."""
        return self._open.pop(request_id, None)

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Time out what is due; fail everything when the link is lost; forget who no longer waits."""
        match fact:
            case Woken():
                return self._expire(now)
            case LinkDown(_, code, reason):
                lost, self._open = self._open, {}
                return [
                    Answer(request.op, error=DisconnectedError(code, reason))
                    for request in lost.values()
                    if request.op is not None
                ]
            case Withdrawn(op):
                # The entry stays: its answer is still on the way, and must not pass for somebody else's.
                request = self._open.get(str(op))
                if request is not None:
                    request.op = None
            case _:
                pass
        return []

    def _expire(self, now: Micros) -> list[Order]:
        due: list[str] = []
        for request_id, request in self._open.items():
            if request.due > now:
                break
            due.append(request_id)
        ops = [self._open.pop(request_id).op for request_id in due]
        return [Answer(op, error=AckTimeoutError(self._seconds)) for op in ops if op is not None]
