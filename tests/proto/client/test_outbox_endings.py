"""Waiting until an outbox is empty, closing it, and what its store is told."""

from __future__ import annotations

import pytest
from outbox_kit import Desk, number, stored

from metered_proto.client.outbox import LEAP, Attempted, Dropped, Enqueue, Flush, Kept
from metered_proto.errors import NotConnectedError
from metered_proto.facts import Withdrawn
from metered_proto.orders import Send
from metered_proto.settings import BatchOptions


class TestFlush:
    def test_nothing_to_wait_for(self) -> None:
        desk = Desk()
        assert desk.outcome(desk.ask(Flush())) is None

    def test_it_waits_for_all_that_was_enqueued_before_it(self) -> None:
        desk = Desk(window=2)
        desk.connect()
        first = [desk.enqueue(number(n)) for n in range(3)]
        flush = desk.ask(Flush())
        desk.enqueue(number(3))
        both = desk.ask(Flush())
        desk.ack("o1", "o2")
        assert flush not in desk.answers
        desk.ack("o3")
        assert desk.outcome(flush) is None
        assert list(desk.answers) == [*first, flush]
        desk.ack("o4")
        assert desk.outcome(both) is None

    def test_what_was_enqueued_after_it_does_not_count(self) -> None:
        desk = Desk()
        desk.connect()
        desk.enqueue()
        flush = desk.ask(Flush())
        desk.enqueue()
        desk.ack("o2")
        assert flush not in desk.answers
        desk.ack("o1")
        assert flush in desk.answers

    def test_whatever_became_of_it(self) -> None:
        desk = Desk(max_messages=2, max_age=5)
        for n in range(2):
            desk.enqueue(number(n))
        flush = desk.ask(Flush())
        desk.enqueue(number(2))  # drops 0
        assert flush not in desk.answers
        desk.sleep(5)  # drops 1
        assert flush in desk.answers

    def test_a_batch_does_not_wait_then(self) -> None:
        desk = Desk(batch=BatchOptions())
        desk.connect()
        desk.enqueue(number(1))
        desk.enqueue(number(2))
        assert desk.sent() == []
        desk.ask(Flush())
        assert desk.sent() == [[(1, False), (2, False)]]

    def test_withdrawn(self) -> None:
        desk = Desk(batch=BatchOptions())
        desk.enqueue()
        flush = desk.ask(Flush())
        desk.give(Withdrawn(flush))
        desk.connect()
        desk.sleep(1)
        desk.ack("o1")
        assert flush not in desk.answers


class TestTheEnd:
    def test_without_a_file_what_is_left_is_dropped(self) -> None:
        desk = Desk(window=1)
        desk.connect()
        ops = [desk.enqueue(number(n)) for n in range(2)]
        flush = desk.ask(Flush())
        desk.lose(1000)
        desk.take(desk.queue.closed())
        assert [desk.outcome(op) for op in ops] == [Dropped("closed")] * 2
        assert desk.outcome(flush) == NotConnectedError("closed")
        assert (len(desk.queue), desk.queue.held_bytes, desk.queue.deadline) == (0, 0, None)
        assert desk.queue.counters.dropped == 2

    def test_with_one_it_is_kept(self) -> None:
        desk = Desk(stored(1))
        desk.connect()
        op = desk.enqueue(number(2))
        desk.take(desk.queue.closed())
        assert desk.outcome(op) == Kept()
        assert desk.forgotten == []
        assert desk.queue.counters.dropped == 0

    def test_nothing_is_taken_in_any_more(self) -> None:
        desk = Desk()
        late = desk.draft()
        desk.take(desk.queue.closed())
        assert desk.queue.closed() == []
        with pytest.raises(NotConnectedError):
            desk.draft()
        assert desk.outcome(desk.ask(Enqueue(late))) == Dropped("closed")
        assert desk.outcome(desk.ask(Flush())) == NotConnectedError("closed")

    def test_what_was_put_off_and_is_in_the_store(self) -> None:
        desk = Desk(stored())
        late = desk.draft()
        desk.take(desk.queue.closed())
        assert desk.outcome(desk.ask(Enqueue(late))) == Kept()
        assert desk.queue.counters.dropped == 0


class TestTheStore:
    def test_an_attempt_is_noted_ahead_of_what_it_covers_and_far_beyond(self) -> None:
        desk = Desk(stored())
        desk.enqueue(number(1))
        orders = desk.queue.opened(0, 1, 65_536)
        assert [type(order) for order in orders] == [Attempted, Send]
        assert orders[0] == Attempted(1 + LEAP)
        desk.link = 1
        for n in range(2, LEAP + 2):
            desk.enqueue(number(n))
            desk.ack(f"o{n}")
        assert desk.attempted == []
        desk.enqueue(number(LEAP + 2))
        assert desk.attempted == [LEAP + 2 + LEAP]

    def test_all_that_waits_is_covered_at_once(self) -> None:
        desk = Desk(stored(), max_messages=1000, window=1)
        for n in range(700):
            desk.enqueue(number(n))
        desk.connect()
        assert desk.attempted == [700]

    def test_what_ended_is_forgotten(self) -> None:
        desk = Desk(stored(), batch=BatchOptions(max_messages=2))
        desk.connect()
        for n in range(4):
            desk.enqueue(number(n))
        desk.ack("o2")
        assert desk.forgotten == [3, 4]
        desk.refuse("o1", "invalid_channel")
        assert desk.forgotten == [3, 4, 1, 2]

    def test_the_next_life_marks_what_was_attempted(self) -> None:
        desk = Desk(stored(1, 2, 3, attempted_through=2))
        desk.connect()
        assert desk.sent() == [(1, True), (2, True), (3, False)]
        assert desk.attempted == [3 + LEAP]

    def test_in_memory_there_is_nobody_to_tell(self) -> None:
        desk = Desk()
        desk.connect()
        desk.enqueue()
        desk.ack("o1")
        assert (desk.attempted, desk.forgotten) == ([], [])
