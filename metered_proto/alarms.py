"""Deadlines of many things of a kind, each known by a number.

`Rounds` is for delays that are all equally long (the next ping, the pong, the end of a closing): a queue, since
what is set later rings later. `Alarms` is for any point in time (the end of a token): a heap. Setting an alarm
again moves it; setting and cancelling are cheap, and neither keeps more than a small multiple of what is set.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

from metered_proto.machine import Micros


class Rounds:
    """Alarms that ring `span` after they are set."""

    __slots__ = ("_at", "_span")

    def __init__(self, span: Micros) -> None:
        self._span = span
        # An OrderedDict and no dict: taking the first out of a dict again and again walks over all that was taken
        # before.
        self._at: OrderedDict[int, Micros] = OrderedDict()

    @property
    def next(self) -> Micros | None:
        """When the first one rings."""
        return next(iter(self._at.values())) if self._at else None

    def set_at(self, key: int) -> Micros | None:
        """When the alarm for `key` was set; None if it is not."""
        at = self._at.get(key)
        return None if at is None else at - self._span

    def set(self, key: int, now: Micros) -> None:
        """Ring for `key`, a span from now."""
        self._at[key] = now + self._span
        self._at.move_to_end(key)

    def cancel(self, key: int) -> None:
        """Do not ring for `key`."""
        self._at.pop(key, None)

    def due(self, now: Micros) -> list[int]:
        """Take out those whose time has come, in the order of their times."""
        rung: list[int] = []
        while self._at and next(iter(self._at.values())) <= now:
            rung.append(self._at.popitem(last=False)[0])
        return rung

    def __len__(self) -> int:
        return len(self._at)


class Alarms:
    """Alarms at any time."""

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[int, Micros] = {}
        # May hold alarms that were moved or cancelled since: those that `_at` does not confirm.
        self._heap: list[tuple[Micros, int]] = []

    @property
    def next(self) -> Micros | None:
        """When the first one rings."""
        heap = self._heap
        while heap and self._at.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def set(self, key: int, at: Micros) -> None:
        """Ring for `key` at a point in time."""
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        self._tidy()

    def cancel(self, key: int) -> None:
        """Do not ring for `key`."""
        if self._at.pop(key, None) is not None:
            self._tidy()

    def due(self, now: Micros) -> list[int]:
        """Take out those whose time has come, in the order of their times."""
        rung: list[int] = []
        while (at := self.next) is not None and at <= now:
            key = heapq.heappop(self._heap)[1]
            del self._at[key]
            rung.append(key)
        return rung

    def _tidy(self) -> None:
        # Rebuilding costs as much as the alarms that were thrown away since the last time: nothing, shared out.
        if len(self._heap) > 2 * len(self._at) + 16:
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._at)
