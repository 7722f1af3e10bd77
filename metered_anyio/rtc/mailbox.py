"""A bounded queue between threads and event loops: any thread puts, a task on any event loop takes."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Self, TypeVar

import anyio

from metered_anyio.rtc.sleepers import Sleepers

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Keeps up to `capacity` things, for one reader or several. Each thing goes to one of them, in order.

    Whoever puts chooses what happens when it is full: `put` drops the oldest, `offer` refuses, `put_wait` holds up
    its thread and `send` its task until there is room. After `end` what is kept can still be taken, and nothing more
    goes in. `dropped` counts what `put` lost.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self.capacity = capacity
        self.dropped = 0
        self._items: deque[T] = deque()
        self._ended = False
        self._guard = threading.Lock()
        self._room = threading.Condition(self._guard)
        self._takers = Sleepers(self._guard)
        self._senders = Sleepers(self._guard)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def ended(self) -> bool:
        """Whether `end` was called. Something may still be there to be taken."""
        return self._ended

    def put(self, item: T) -> bool:
        """Put it in, and if need be drop the oldest for it. False if that was so, or it has ended."""
        with self._guard:
            if self._ended:
                return False
            full = len(self._items) >= self.capacity
            if full:
                self._items.popleft()
                self.dropped += 1
            self._add(item)
            return not full

    def offer(self, item: T) -> bool:
        """Put it in if there is room. False if there is none, or it has ended."""
        with self._guard:
            if self._ended or len(self._items) >= self.capacity:
                return False
            self._add(item)
            return True

    def put_wait(self, item: T, timeout: float | None = None) -> bool:
        """Put it in as soon as there is room, for a thread without an event loop.

        False if it has ended, or there was no room within `timeout` seconds.
        """
        with self._room:
            self._room.wait_for(lambda: self._ended or len(self._items) < self.capacity, timeout)
            if self._ended or len(self._items) >= self.capacity:
                return False
            self._add(item)
            return True

    async def send(self, item: T) -> bool:
        """Put it in as soon as there is room. False if it has ended."""
        while True:
            with self._guard:
                if self._ended:
                    return False
                if len(self._items) < self.capacity:
                    self._add(item)
                    return True
                sleeper = self._senders.join()
            await self._senders.sleep(sleeper)

    async def take(self) -> T:
        """The oldest, as soon as there is one. Raises `anyio.EndOfStream` once it has ended and is empty."""
        while True:
            with self._guard:
                if self._items:
                    return self._pop()
                if self._ended:
                    raise anyio.EndOfStream
                sleeper = self._takers.join()
            await self._takers.sleep(sleeper)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.take()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def take_nowait(self) -> T | None:
        """The oldest, or None if there is none now."""
        with self._guard:
            return self._pop() if self._items else None

    def clear(self) -> int:
        """Forget what is kept, and say how much that was. It is not counted as dropped."""
        with self._guard:
            count = len(self._items)
            self._items.clear()
            self._senders.call_all()
            self._room.notify_all()
            return count

    def end(self) -> bool:
        """Nothing more goes in. True for the first call."""
        with self._guard:
            if self._ended:
                return False
            self._ended = True
            self._takers.call_all()
            self._senders.call_all()
            self._room.notify_all()
            return True

    def _add(self, item: T) -> None:
        self._items.append(item)
        self._takers.call_one()

    def _pop(self) -> T:
        item = self._items.popleft()
        self._senders.call_one()
        self._room.notify()
        return item
