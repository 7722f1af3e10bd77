"""Publishes that nobody acknowledges: answered once they are on their way.

Without acknowledgements nothing says how fast the server keeps up, but the link does: while it is blocked, whoever
publishes waits until it has drained, so a fast publisher fills no memory.
"""

from __future__ import annotations

from metered_proto.errors import DisconnectedError
from metered_proto.facts import Fact, LinkBlocked, LinkDown, LinkDrained, Withdrawn
from metered_proto.machine import Deadline, Micros
from metered_proto.orders import Answer, Order


class Unacked:
    """Who waits for the link to drain."""

    deadline: Deadline | None = None

    def __init__(self) -> None:
        self._blocked: int | None = None  # the link that is
        self._waiting: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def sent(self, op: int, link: int) -> list[Order]:
        """A message was handed to the link."""
        if self._blocked != link:
            return [Answer(op)]
        self._waiting[op] = None
        return []

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Take in what happens to the link."""
        waiting = self._waiting
        match fact:
            case LinkBlocked(link):
                self._blocked = link
            case LinkDrained():
                self._blocked, self._waiting = None, {}
                return [Answer(op) for op in waiting]
            case LinkDown(_, code, reason):
                self._blocked, self._waiting = None, {}
                return [Answer(op, error=DisconnectedError(code, reason)) for op in waiting]
            case Withdrawn(op):
                waiting.pop(op, None)
            case _:
                pass
        return []
