"""Messages that go out together: how they are put together, refused, and told apart again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from outbox_kit import Desk, number

from metered_proto.client.outbox import (
    OF_THE_CHANNEL,
    TRIES,
    Delivered,
    Dropped,
    Entry,
    Loaded,
    OutboxCounters,
    Refused,
)
from metered_proto.machine import SECOND, Deadline
from metered_proto.settings import BatchOptions


class TestBatches:
    def options(self, **more: Any) -> BatchOptions:
        return BatchOptions(**{"max_messages": 3, "max_delay": 2.0, **more})

    def test_a_full_one_goes_out_at_once(self) -> None:
        desk = Desk(batch=self.options())
        desk.connect()
        ops = [desk.enqueue(number(n)) for n in range(4)]
        assert desk.sent() == [[(0, False), (1, False), (2, False)]]
        desk.ack("o1")
        assert [op in desk.answers for op in ops] == [True, True, True, False]
        assert desk.queue.counters == OutboxCounters(delivered=3, publishes=1)
        assert desk.queue.counters.delivered == 3

    def test_others_when_their_oldest_has_waited_long_enough(self) -> None:
        desk = Desk(batch=self.options())
        desk.connect()
        desk.enqueue(number(0))
        desk.sleep(1)
        desk.enqueue(number(1))
        assert desk.queue.deadline == Deadline(2 * SECOND, "outbox batch")
        desk.sleep(1)
        assert desk.sent() == [[(0, False), (1, False)]]

    def test_one_alone_is_no_batch(self) -> None:
        desk = Desk(batch=self.options())
        desk.connect()
        desk.enqueue(number(0))
        desk.sleep(2)
        assert desk.sent() == [(0, False)]

    def test_another_channel_behind_it_ends_it(self) -> None:
        desk = Desk(batch=self.options())
        desk.connect()
        for n, channel in enumerate("aabbb"):
            desk.enqueue(number(n), channel)
        assert desk.sent() == [[(0, False), (1, False)], [(2, False), (3, False), (4, False)]]

    def test_its_size_is_bounded(self) -> None:
        desk = Desk(batch=self.options(max_messages=100, max_bytes=1000))
        desk.connect()
        for n in range(40):
            desk.enqueue(number(n))
        desk.sleep(2)
        assert len(desk.frames) > 2
        assert sum(len(frame["data"]["items"]) for frame in desk.frames) == 40
        # None is over it, and there was no room for one more (some of it is kept for marks).
        assert all(500 < len(msgspec.json.encode(frame["data"])) <= 1000 for frame in desk.frames[:-1])

    def test_also_by_the_servers_cap(self) -> None:
        desk = Desk(batch=self.options(max_messages=100))
        for n in range(42):
            desk.enqueue(number(n))
        desk.sleep(2)
        desk.connect(cap=600)
        assert all(len(msgspec.json.encode(frame["data"])) <= 600 for frame in desk.frames)
        assert [n for batch in desk.sent() for n, _ in batch] == list(range(42))

    def test_one_that_is_larger_than_any_batch_goes_alone(self) -> None:
        desk = Desk(batch=self.options(max_bytes=300))
        desk.connect()
        desk.enqueue(b'{"n":1,"x":"%b"}' % (b"x" * 500))
        assert desk.sent() == [(1, False)]

    def test_batches_of_one(self) -> None:
        desk = Desk(batch=self.options(max_messages=1))
        desk.connect()
        for n in range(2):
            desk.enqueue(number(n))
        assert desk.sent() == [(0, False), (1, False)]

    def test_a_batch_that_comes_back_is_marked_message_by_message(self) -> None:
        desk = Desk(batch=self.options(max_messages=4))
        desk.enqueue(number(0))
        desk.enqueue(number(1))
        desk.sleep(2)
        desk.connect()
        desk.lose()
        desk.enqueue(number(2))
        desk.sleep(2)
        desk.sent()
        desk.connect()
        assert desk.sent() == [[(0, True), (1, True), (2, False)]]

    def test_one_that_is_refused_for_what_is_in_it_is_taken_apart(self) -> None:
        desk = Desk(batch=self.options())
        desk.connect()
        ops = [desk.enqueue(number(n)) for n in range(3)]
        desk.sent()
        desk.refuse("o1", "malformed_message")
        assert desk.sent() == [(0, True), (1, True), (2, True)]
        desk.ack("o2", "o4")
        desk.refuse("o3", "malformed_message")
        assert [desk.outcome(op) for op in ops] == [Delivered(), Refused("malformed_message", "why"), Delivered()]

    @pytest.mark.parametrize("code", sorted(OF_THE_CHANNEL))
    def test_one_that_is_refused_for_its_channel_is_refused_as_a_whole(self, code: str) -> None:
        desk = Desk(batch=self.options())
        desk.connect()
        ops = [desk.enqueue(number(n)) for n in range(3)]
        desk.refuse("o1", code)
        assert [desk.outcome(op) for op in ops] == [Refused(code, "why")] * 3
        assert desk.queue.counters.refused == 3
        assert desk.notes[0].context["count"] == 3

    def test_a_code_that_nobody_knows_takes_it_apart_in_the_end(self) -> None:
        desk = Desk(batch=self.options())
        desk.connect()
        ops = [desk.enqueue(number(n)) for n in range(3)]
        for _ in range(TRIES - 1):
            desk.refuse(desk.frames[-1]["requestId"], "brand_new")
            desk.resume()
        desk.sent()
        desk.refuse(f"o{TRIES}", "brand_new")
        # There was a pause and no success since, so the first of them has to try it out.
        assert desk.sent() == [(0, True)]
        desk.refuse(f"o{TRIES + 1}", "brand_new")
        assert desk.outcome(ops[0]) == Refused("brand_new", "why")
        assert desk.sent() == [(1, True)]
        desk.ack(f"o{TRIES + 2}")
        assert desk.sent() == [(2, True)]

    def test_what_comes_back_ahead_of_one_that_waits_is_none_of_it(self) -> None:
        desk = Desk(batch=self.options())
        desk.connect()
        desk.enqueue(number(0), "a")
        desk.sleep(2)
        desk.sent()
        desk.enqueue(number(1), "b")
        desk.enqueue(number(2), "b")
        desk.refuse("o1", "internal_error")
        desk.resume()
        desk.ack("o2")
        desk.resume()
        assert [frame["channel"] for frame in desk.frames] == ["a", "b"]
        assert desk.sent() == [(0, True), [(1, False), (2, False)]]

    @pytest.mark.parametrize("bound", [{"max_age": 1.0}, {"max_messages": 2}])
    def test_what_is_dropped_while_it_waits_is_none_of_it(self, bound: Any) -> None:
        desk = Desk(batch=self.options(), **bound)
        desk.connect()
        first = desk.enqueue(number(0), "a")
        desk.sleep(0.5)
        desk.enqueue(number(1), "a")
        desk.sleep(0.6)
        desk.enqueue(number(2), "b")
        assert isinstance(desk.outcome(first), Dropped)
        assert desk.sent() == [(1, False)]

    def test_of_two_outboxes_in_one_store_there_is_no_common_batch(self) -> None:
        entries = tuple(Entry.of(key, f"box{key // 3}", key, "c", f"{key}", number(key), 0) for key in range(1, 5))
        desk = Desk(Loaded(entries, 5), batch=self.options(max_messages=10))
        desk.sleep(2)
        desk.connect()
        assert desk.sent() == [[(1, False), (2, False)], [(3, False), (4, False)]]

    def test_the_pace_counts_publishes(self) -> None:
        desk = Desk(batch=self.options(), rate=1.0, burst=1)
        desk.connect()
        for n in range(6):
            desk.enqueue(number(n))
        assert len(desk.sent()) == 1
        desk.ack("o1")
        assert desk.queue.deadline == Deadline(SECOND // 2, "outbox pace")
