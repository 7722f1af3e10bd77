"""An outbox with everything around it, for the tests of what it does."""

from __future__ import annotations

from typing import Any

import msgspec

from metered_proto.client.envelope import KEY
from metered_proto.client.outbox import Attempted, Enqueue, Entry, Forget, Loaded, OutboxQueue
from metered_proto.entropy import Entropy
from metered_proto.errors import ServerRequestError
from metered_proto.facts import Asked, Fact, LinkDown, Woken
from metered_proto.machine import SECOND, micros
from metered_proto.orders import Answer, Note, Order, Send
from metered_proto.settings import Outbox


class Desk:
    """An outbox, and everything around it: the application, the store, the server."""

    def __init__(self, loaded: Loaded | None = None, *, seed: int = 1, **options: Any) -> None:
        self.queue = OutboxQueue(Outbox(**{"rate": None, **options}), Entropy(seed), loaded)
        self.now = 0
        self.link = 0
        self.ops = 0
        self.frames: list[dict[str, Any]] = []
        self.answers: dict[int, Answer] = {}
        self.asked: set[int] = set()
        self.forgotten: list[int] = []
        self.attempted: list[int] = []
        self.notes: list[Note] = []

    # --- the application ---

    def draft(self, data: bytes = b'{"n":1}', channel: str = "c", message_id: str | None = None) -> Entry:
        entry = self.queue.draft(self.now, channel, data, message_id)
        assert isinstance(entry, Entry)
        return entry

    def enqueue(self, data: bytes = b'{"n":1}', channel: str = "c", message_id: str | None = None) -> int:
        return self.ask(Enqueue(self.draft(data, channel, message_id)))

    def ask(self, call: Any) -> int:
        self.ops += 1
        self.asked.add(self.ops)
        self.give(Asked(self.ops, call))
        return self.ops

    def outcome(self, op: int) -> Any:
        answer = self.answers[op]
        return answer.value if answer.error is None else answer.error

    # --- the connection ---

    def connect(self, cap: int = 65_536) -> None:
        self.link += 1
        self.take(self.queue.opened(self.now, self.link, cap))

    def lose(self, code: int = 1006) -> None:
        self.give(LinkDown(self.link, code))

    def ack(self, *request_ids: str) -> None:
        for request_id in request_ids or [frame["requestId"] for frame in self.frames]:
            self.take(self.queue.settled(self.now, request_id, None))

    def refuse(self, request_id: str, code: str) -> None:
        self.take(self.queue.settled(self.now, request_id, ServerRequestError(code, "why", request_id)))

    # --- time ---

    def sleep(self, seconds: float) -> None:
        """Time passes, and the outbox is woken whenever it wants to be."""
        end = self.now + micros(seconds)
        for _ in range(10_000):
            due = self.queue.deadline
            if due is None or due.at > end:
                break
            self.now = max(self.now, due.at)
            self.give(Woken())
        else:
            raise AssertionError(f"the outbox is busy: {self.queue.deadline}")
        self.now = end

    def resume(self) -> float:
        """Until the next publish goes out; returns how many seconds that was."""
        before, sent = self.now, len(self.frames)
        while len(self.frames) == sent:
            due = self.queue.deadline
            assert due is not None
            self.now = due.at
            self.give(Woken())
        return (self.now - before) / SECOND

    # --- what comes of it ---

    def give(self, fact: Fact) -> None:
        self.take(self.queue.handle(self.now, fact))

    def take(self, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Send(link, payload):
                    assert link == self.link
                    frame = msgspec.json.decode(payload)
                    assert (frame["type"], frame["requestId"][0]) == ("publish", "o")
                    assert frame["requestId"] in self.queue
                    self.frames.append(frame)
                case Answer(op):
                    assert op in self.asked
                    assert op not in self.answers
                    self.answers[op] = order
                case Forget(keys):
                    self.forgotten += keys
                case Attempted(through):
                    self.attempted.append(through)
                case Note():
                    self.notes.append(order)
                case _:
                    raise AssertionError(order)

    def sent(self) -> list[Any]:
        """What was sent since the last time, each as (n, whether it was marked), a batch as a list of those."""
        frames, self.frames = self.frames, []
        return [_seen(frame["data"]) for frame in frames]


def _seen(data: dict[str, Any]) -> Any:
    stamp = data[KEY]
    if "batch" in stamp:
        pairs = zip(data["items"], stamp["batch"], strict=True)
        return [(item["n"], each.get("redelivered", False)) for item, each in pairs]
    return data["n"], stamp.get("redelivered", False)


def number(n: int) -> bytes:
    return b'{"n":%d}' % n


def stored(*keys: int, born: int = 0, channel: str = "c", **more: Any) -> Loaded:
    """A store that outlives the process, with entries of these keys."""
    entries = tuple(
        Entry.of(key, "0123456789abcdef", key, channel, f"0123456789abcdef-{key}", number(key), born) for key in keys
    )
    fields = {"next_key": max(keys, default=0) + 1, "sequences": {channel: max(keys, default=0)}}
    return Loaded(entries, **{"outbox": "0123456789abcdef", "durable": True, **fields, **more})
