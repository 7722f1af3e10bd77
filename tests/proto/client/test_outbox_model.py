"""The outbox against a list: whatever the server, the network, the clock and the process do, the promises hold.

The test plays the application, the server and a store that outlives the process, and keeps of each message only what
was promised to whom.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model_kit import modest

from metered_proto.client.deduplicator import Deduplicator, Delivery
from metered_proto.client.envelope import unseal
from metered_proto.client.outbox import (
    Attempted,
    Delivered,
    Dropped,
    Enqueue,
    Entry,
    Flush,
    Forget,
    Kept,
    Loaded,
    OutboxQueue,
    Refused,
)
from metered_proto.entropy import Entropy
from metered_proto.errors import NotConnectedError, OutboxFullError, OversizedPayloadError, ServerRequestError
from metered_proto.events import Gap, Message
from metered_proto.facts import Asked, LinkDown, Withdrawn, Woken
from metered_proto.machine import SECOND
from metered_proto.orders import Answer, Note, Order, Send
from metered_proto.settings import BatchOptions, Outbox

CODES = st.sampled_from(["internal_error", "over_message_quota", "malformed_message", "channel_not_authorized", "new"])

OPTIONS = st.fixed_dictionaries(
    {
        "max_messages": st.integers(2, 8),
        "max_bytes": st.sampled_from([500, 100_000]),
        "max_age": st.sampled_from([None, 40.0]),
        "overflow": st.sampled_from(["drop_oldest", "drop_newest", "reject"]),
        "rate": st.sampled_from([None, 2.0]),
        "burst": st.integers(1, 3),
        "window": st.integers(1, 4),
        "batch": st.none() | st.builds(BatchOptions, max_messages=st.integers(1, 3), max_bytes=st.just(400)),
    }
)


@dataclass
class Disk:
    """The store: what was written to it, and what a crash may bring back."""

    entries: dict[int, Entry] = field(default_factory=dict)
    forgotten: dict[int, Entry] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    outbox: str | None = None
    next_key: int = 1
    attempted: int = 0

    def keep(self, entry: Entry) -> None:
        assert entry.key >= self.next_key
        self.entries[entry.key] = entry
        self.sequences[entry.channel] = entry.seq
        self.outbox = entry.outbox
        self.next_key = entry.key + 1

    def load(self, now: int) -> Loaded:
        entries = tuple(
            msgspec.structs.replace(entry, born=min(entry.born - now, 0)) for _, entry in sorted(self.entries.items())
        )
        return Loaded(entries, self.next_key, self.outbox, dict(self.sequences), self.attempted, durable=True)


class OutboxAgainstAList(RuleBasedStateMachine):
    @initialize(options=OPTIONS)
    def begin(self, options: dict[str, Any]) -> None:
        self.options = Outbox(**options)
        self.disk = Disk()
        self.lives = 0
        self.ops = 0
        self.links = 0
        self.accepted: set[int] = set()  # keys that may not get lost
        self.ended: dict[int, Any] = {}  # by key: what the outbox said became of it
        self.acked: set[int] = set()
        self.refused: set[int] = set()
        self.sent: set[str] = set()  # message ids that ever went out
        self.ids: dict[str, int] = {}
        self.reader = Deduplicator()
        self.read: list[tuple[str, int]] = []
        self.be_born()

    def be_born(self) -> None:
        self.lives += 1
        self.birth = getattr(self, "now", 0)
        loaded = self.disk.load(self.birth)
        self.now = self.birth
        self.queue = OutboxQueue(self.options, Entropy(self.lives), loaded)
        self.held: list[int] = [entry.key for entry in loaded.entries]  # in order
        self.over = len(self.held) > self.options.max_messages
        self.up = False
        self.in_flight: dict[str, list[int]] = {}
        self.first_sent = 0  # the highest key that went out in this life
        self.waiting: dict[int, int | None] = {}  # by op: the key it is about, None for a flush
        self.withdrawn: set[int] = set()

    @property
    def time(self) -> int:
        return self.now - self.birth

    # --- the application ---

    @rule(channel=st.sampled_from("ab"), size=st.sampled_from([1, 30, 300]))
    def enqueue(self, channel: str, size: int) -> None:
        was = len(self.queue), self.queue.held_bytes
        try:
            entry = self.queue.draft(self.time, channel, b'"%b"' % (b"x" * size))
        except OutboxFullError:
            assert self.options.overflow == "reject"
            assert (len(self.queue), self.queue.held_bytes) == was
            return
        except OversizedPayloadError:
            assert size == 300
            assert self.options.max_bytes == 500 or self.cap < 500
            return
        if isinstance(entry, Dropped):
            assert self.options.overflow != "reject"
            return
        self.disk.keep(msgspec.structs.replace(entry, born=self.now))
        self.accepted.add(entry.key)
        self.ids[entry.id] = entry.key
        self.held.append(entry.key)
        self.ops += 1
        self.waiting[self.ops] = entry.key
        self.take(self.queue.handle(self.time, Asked(self.ops, Enqueue(entry))))

    @rule()
    def flush(self) -> None:
        self.ops += 1
        self.waiting[self.ops] = None
        self.flushing = {self.ops: list(self.held)}
        self.take(self.queue.handle(self.time, Asked(self.ops, Flush())))

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.waiting)
    def withdraw(self, which: int) -> None:
        op = list(self.waiting)[which % len(self.waiting)]
        self.withdrawn.add(op)
        del self.waiting[op]
        self.take(self.queue.handle(self.time, Withdrawn(op)))

    # --- the network and the server ---

    cap = 65_536

    @rule(cap=st.sampled_from([65_536, 65_536, 300]))
    @precondition(lambda self: not self.up)
    def connect(self, cap: int) -> None:
        self.up = True
        self.cap = cap
        self.links += 1
        self.take(self.queue.opened(self.time, self.links, cap))

    @rule(code=st.sampled_from([1006, 1006, 1009]))
    @precondition(lambda self: self.up)
    def lose(self, code: int) -> None:
        self.up = False
        self.in_flight.clear()
        if code == 1009:
            self.refused |= self.accepted  # the server does not say over what it closes
        self.take(self.queue.handle(self.time, LinkDown(self.links, code)))

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.in_flight)
    def ack(self, which: int) -> None:
        request_id = list(self.in_flight)[which % len(self.in_flight)]
        self.acked.update(self.in_flight.pop(request_id))
        self.take(self.queue.settled(self.time, request_id, None))

    @rule(which=st.integers(0, 9), code=CODES)
    @precondition(lambda self: self.in_flight)
    def refuse(self, which: int, code: str) -> None:
        request_id = list(self.in_flight)[which % len(self.in_flight)]
        self.refused.update(self.in_flight.pop(request_id))
        self.take(self.queue.settled(self.time, request_id, ServerRequestError(code, "no", request_id)))

    @rule(seconds=st.sampled_from([0.0, 0.4, 1.0, 14.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + round(seconds * SECOND)
        for _ in range(500):
            due = self.queue.deadline
            if due is None or self.birth + due.at > end:
                break
            self.now = max(self.now, self.birth + due.at)
            for request_id in [one for one in self.in_flight if one not in self.queue]:
                del self.in_flight[request_id]
            self.take(self.queue.handle(self.time, Woken()))
        else:
            raise AssertionError(f"busy: {self.queue.deadline}")
        self.now = end

    @rule()
    def woken_early(self) -> None:
        self.take(self.queue.handle(self.time, Woken()))

    # --- the process ---

    @rule(brought_back=st.integers(0, 2))
    def die(self, brought_back: int) -> None:
        """A crash. What was forgotten last may not have got to the disk."""
        for key in list(self.disk.forgotten)[len(self.disk.forgotten) - brought_back :]:
            self.disk.entries[key] = self.disk.forgotten[key]
            self.ended.pop(key, None)
        self.disk.forgotten.clear()
        self.be_born()

    @rule()
    def end(self) -> None:
        """An orderly end. Everybody who waits is told what became of it."""
        if self.up:
            self.take(self.queue.handle(self.time, LinkDown(self.links, 1000)))
        orders = self.queue.closed()
        for order in orders:
            assert isinstance(order, Answer)
            key = self.waiting.pop(order.op)
            assert order.error == NotConnectedError("closed") if key is None else order.value == Kept()
        assert self.waiting == {}
        assert self.queue.deadline is None
        self.die(0)

    # --- what comes of it ---

    def take(self, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Send():
                    self.server_gets(order)
                case Attempted(through):
                    assert through > self.disk.attempted
                    self.disk.attempted = through
                case Forget(keys):
                    for key in keys:
                        self.held.remove(key)
                        self.ended.setdefault(key, "forgotten")
                        self.disk.forgotten[key] = self.disk.entries.pop(key)
                case Answer(op, value, error):
                    assert op not in self.withdrawn
                    key = self.waiting.pop(op)  # answered once
                    assert error is None
                    if key is None:
                        assert not set(self.flushing.get(op, ())) & set(self.held)
                    else:
                        self.came_to(key, value)
                case _:
                    assert isinstance(order, Note)

    def came_to(self, key: int, outcome: Any) -> None:
        assert self.ended[key] == "forgotten"
        self.ended[key] = outcome
        match outcome:
            case Delivered():
                assert key in self.acked
            case Refused("oversized"):
                assert self.cap == 300 or key in self.refused
            case Refused():
                assert key in self.refused
            case Dropped("overflow"):
                assert self.options.overflow == "drop_oldest"
            case _:
                assert outcome == Dropped("expired")
                assert self.options.max_age is not None

    def server_gets(self, order: Send) -> None:
        assert self.up
        assert order.link == self.links
        frame = msgspec.json.decode(order.payload)
        assert len(msgspec.json.encode(frame["data"])) <= self.cap
        opened = unseal(frame["data"])
        assert opened
        keys = [self.ids[one.id] for one in opened]
        assert frame["requestId"] not in self.in_flight
        self.in_flight[frame["requestId"]] = keys
        for one, key in zip(opened, keys, strict=True):
            assert key in self.held
            # A repeat never goes unmarked, in this life or another; and in this life first ones go out in order.
            assert one.redelivered or one.id not in self.sent
            assert key <= self.disk.attempted
            if key > self.first_sent:
                assert not [other for other in self.held if self.first_sent < other < key], "one was passed over"
                self.first_sent = key
            self.sent.add(one.id)
        for found in self.reader.read(Message(frame["channel"], "me", frame["data"])):
            if isinstance(found, Delivery):
                assert found.seq is not None
                self.read.append((found.channel, found.seq))
            else:
                assert isinstance(found, Gap)

    # --- what holds at all times ---

    @invariant()
    def the_bounds_hold(self) -> None:
        assert len(self.queue) == len(self.held)
        if not self.over:
            assert len(self.queue) <= self.options.max_messages
        else:
            self.over = len(self.queue) > self.options.max_messages
        assert self.queue.held_bytes == sum(self.disk.entries[key].size for key in self.held)
        limit = self.options.window if self.options.rate is None else min(self.options.window, self.options.burst)
        assert self.queue.in_flight <= limit

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.accepted == set(self.held) | set(self.ended)
        assert sorted(self.held) == sorted(self.disk.entries)

    @invariant()
    def a_reader_gets_each_once(self) -> None:
        assert len(self.read) == len(set(self.read))

    def teardown(self) -> None:
        """In the end the server comes to its senses, and everything that is left gets out."""
        if not hasattr(self, "queue"):
            return
        if not self.up:
            self.connect(65_536)
        for _ in range(200):
            if not self.held:
                break
            while self.in_flight:
                self.ack(0)
            self.time_passes(31.0)
        assert self.held == []
        assert self.waiting == {}
        assert self.queue.deadline is None


TestOutboxAgainstAList = OutboxAgainstAList.TestCase
TestOutboxAgainstAList.settings = modest(20, 40)
