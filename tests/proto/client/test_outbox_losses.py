"""What an outbox drops, or the server refuses, ends with its reason and takes nothing else with it."""

from __future__ import annotations

from typing import Any

import pytest
from outbox_kit import Desk, number, stored
from table_kit import each_row

from metered_proto.client.outbox import PASSING, TRIES, Delivered, Dropped, Enqueue, Entry, Loaded, Refused
from metered_proto.errors import OutboxFullError
from metered_proto.machine import SECOND, Deadline
from metered_proto.settings import BatchOptions
from metered_proto.wire.close_codes import ErrorCode


class TestOverflow:
    def test_the_oldest_goes(self) -> None:
        desk = Desk(max_messages=2)
        ops = [desk.enqueue(number(n)) for n in range(3)]
        assert desk.outcome(ops[0]) == Dropped("overflow")
        desk.connect()
        assert desk.sent() == [(1, False), (2, False)]

    def test_but_not_one_that_is_on_its_way(self) -> None:
        desk = Desk(max_messages=2, window=1)
        desk.connect()
        ops = [desk.enqueue(number(n)) for n in range(3)]
        assert desk.outcome(ops[1]) == Dropped("overflow")
        desk.ack("o1")
        assert desk.sent() == [(0, False), (2, False)]

    def test_if_all_are_on_their_way_the_new_one_goes(self) -> None:
        desk = Desk(max_messages=2)
        desk.connect()
        desk.enqueue()
        desk.enqueue()
        assert desk.queue.draft(0, "c", b"1") == Dropped("overflow")
        assert len(desk.queue) == 2

    def test_by_bytes(self) -> None:
        size = Desk().draft(number(1)).size
        desk = Desk(max_bytes=2 * size + 1)
        ops = [desk.enqueue(number(n)) for n in range(1, 4)]
        assert desk.outcome(ops[0]) == Dropped("overflow")
        assert (len(desk.queue), desk.queue.held_bytes) == (2, 2 * size)

    def test_the_newest_goes(self) -> None:
        desk = Desk(max_messages=2, overflow="drop_newest")
        desk.enqueue(number(1))
        desk.enqueue(number(2))
        assert desk.queue.draft(0, "c", number(3)) == Dropped("overflow")
        assert desk.queue.counters.dropped == 1
        desk.connect()
        desk.ack()
        assert desk.sent() == [(1, False), (2, False)]
        # Its number is used up, so that the receiver sees the gap.
        assert desk.draft().seq == 4

    def test_the_call_is_refused(self) -> None:
        desk = Desk(max_messages=2, overflow="reject")
        desk.enqueue()
        desk.enqueue()
        with pytest.raises(OutboxFullError) as caught:
            desk.queue.draft(0, "c", b"1")
        assert (caught.value.messages, caught.value.bytes) == (2, desk.queue.held_bytes)
        desk.connect()
        desk.ack()
        assert desk.draft().seq == 3

    @pytest.mark.parametrize("overflow", ["reject", "drop_newest"])
    def test_drafts_that_are_not_enqueued_yet_count(self, overflow: Any) -> None:
        desk = Desk(max_messages=2, overflow=overflow)
        drafts = [desk.draft(), desk.draft()]
        if overflow == "reject":
            with pytest.raises(OutboxFullError):
                desk.draft()
        else:
            assert desk.queue.draft(0, "c", b"1") == Dropped("overflow")
        desk.queue.discard(drafts[0])
        assert isinstance(desk.queue.draft(0, "c", b"1"), Entry)

    def test_what_was_put_off_is_held_to_the_bounds_too(self) -> None:
        desk = Desk(max_messages=2)
        drafts = [desk.draft(number(n)) for n in range(4)]
        ops = [desk.ask(Enqueue(draft)) for draft in drafts]
        assert [op in desk.answers for op in ops] == [True, True, False, False]

    def test_it_is_noted_ever_more_rarely(self) -> None:
        desk = Desk(max_messages=1)
        for _ in range(101):
            desk.enqueue()
        assert [note.context["count"] for note in desk.notes] == [1, 2, 4, 8, 16, 32, 64]
        assert desk.notes[0].level == "warning"

    def test_a_store_that_holds_more_than_there_is_room_for(self) -> None:
        desk = Desk(stored(1, 2, 3), max_messages=2)
        assert len(desk.queue) == 3
        desk.connect()
        assert desk.forgotten == [1]
        assert desk.sent() == [(2, False), (3, False)]

    def test_unless_nothing_accepted_may_be_dropped(self) -> None:
        desk = Desk(stored(1, 2, 3), max_messages=2, overflow="reject")
        with pytest.raises(OutboxFullError):
            desk.draft()
        desk.connect()
        assert desk.sent() == [(1, False), (2, False), (3, False)]


class TestAge:
    def test_what_is_too_old_is_dropped_to_the_microsecond(self) -> None:
        desk = Desk(max_age=10)
        op = desk.enqueue()
        desk.sleep(5)
        later = desk.enqueue()
        assert desk.queue.deadline == Deadline(10 * SECOND, "outbox expiry")
        desk.sleep(4.999999)
        assert op not in desk.answers
        desk.sleep(0.000001)
        assert desk.outcome(op) == Dropped("expired")
        assert later not in desk.answers
        assert desk.queue.deadline == Deadline(15 * SECOND, "outbox expiry")

    def test_not_while_it_is_on_its_way(self) -> None:
        desk = Desk(max_age=10)
        desk.connect()
        op = desk.enqueue()
        desk.sleep(11)
        assert op not in desk.answers
        desk.lose()
        assert desk.outcome(op) == Dropped("expired")

    def test_ages_are_carried_over_from_the_store(self) -> None:
        desk = Desk(stored(1, 2, born=-8 * SECOND), max_age=10)
        assert desk.queue.deadline == Deadline(2 * SECOND, "outbox expiry")
        desk.sleep(2)
        assert desk.forgotten == [1, 2]
        assert desk.queue.counters.dropped == 2

    def test_a_clock_that_was_set_makes_nothing_older_than_what_came_before_it(self) -> None:
        ages = (5, 9, -3)  # of keys 1, 2 and 3, in seconds; the last from the future
        entries = tuple(
            Entry.of(key, "b", key, "c", f"b-{key}", number(key), -age * SECOND) for key, age in enumerate(ages, 1)
        )
        desk = Desk(Loaded(entries, 4, "b", durable=True), max_age=10)
        desk.sleep(5)
        assert desk.forgotten == [1, 2]
        desk.sleep(5)
        assert desk.forgotten == [1, 2, 3]


class TestRefusals:
    @each_row("code", sorted(set(ErrorCode) - PASSING))
    def test_one_that_is_final_ends_the_message_and_no_other(self, code: str) -> None:
        desk = Desk()
        desk.connect()
        ops = [desk.enqueue(number(n)) for n in range(2)]
        desk.refuse("o1", code)
        desk.ack("o2")
        assert [desk.outcome(op) for op in ops] == [Refused(code, "why"), Delivered()]
        assert desk.notes[0].context == {"code": code, "channel": "c", "count": 1}

    def test_they_are_noted_ever_more_rarely(self) -> None:
        desk = Desk()
        desk.connect()
        for n in range(1, 21):
            desk.enqueue()
            desk.refuse(f"o{n}", "missing_data")
        assert [note.context["count"] for note in desk.notes] == [1, 2, 4, 8, 16]

    @pytest.mark.parametrize("code", sorted(PASSING))
    def test_one_that_passes_pauses_the_outbox(self, code: str) -> None:
        desk = Desk()
        desk.connect()
        op = desk.enqueue(number(1))
        desk.enqueue(number(2))
        desk.sent()
        desk.refuse("o1", code)
        desk.refuse("o2", code)
        desk.enqueue(number(3))
        assert desk.queue.deadline == Deadline(SECOND, "outbox pause")
        desk.sleep(0.999)
        assert desk.sent() == []
        desk.sleep(0.001)
        assert desk.sent() == [(1, True)]  # one to try it out
        desk.ack("o3")
        assert desk.sent() == [(2, True), (3, False)]
        assert desk.outcome(op) == Delivered()
        assert desk.queue.counters.pauses == 1

    def test_pauses_grow_to_half_a_minute_and_begin_anew_after_a_success(self) -> None:
        desk = Desk()
        desk.connect()
        desk.enqueue()
        waits = []
        for _ in range(8):
            desk.refuse(desk.frames[-1]["requestId"], "over_message_quota")
            waits.append(desk.resume())
        assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
        desk.ack(desk.frames[-1]["requestId"])
        desk.enqueue()
        desk.refuse(desk.frames[-1]["requestId"], "over_message_quota")
        assert desk.queue.deadline == Deadline(desk.now + SECOND, "outbox pause")
        assert [note.context["seconds"] for note in desk.notes] == [1, 2, 4, 8, 16, 30, 30, 30, 1]

    def test_an_answer_during_the_pause_does_not_end_it(self) -> None:
        desk = Desk()
        desk.connect()
        for n in range(3):
            desk.enqueue(number(n))
        desk.sent()
        desk.refuse("o1", "backend_error")
        desk.ack("o2")
        assert desk.sent() == []
        desk.sleep(1)  # o3 still waits for its answer, and so does the trial
        assert desk.sent() == []
        desk.ack("o3")
        assert desk.sent() == [(0, True)]

    def test_a_pause_outlasts_the_connection(self) -> None:
        desk = Desk()
        desk.connect()
        desk.enqueue()
        desk.refuse("o1", "over_message_quota")
        desk.lose()
        desk.sent()
        desk.connect()
        assert desk.sent() == []
        desk.sleep(1)
        assert desk.sent() == [(1, True)]

    def test_a_code_that_nobody_knows_is_taken_for_passing_at_first(self) -> None:
        desk = Desk()
        desk.connect()
        op = desk.enqueue()
        for _ in range(TRIES - 1):
            desk.refuse(desk.frames[-1]["requestId"], "brand_new")
            assert op not in desk.answers
            desk.resume()
        desk.refuse(desk.frames[-1]["requestId"], "brand_new")
        assert desk.outcome(op) == Refused("brand_new", "why")
        assert len(desk.frames) == TRIES


class TestTooBigForTheServer:
    """The server closes with 1009 and does not say over what."""

    def test_the_largest_is_given_up_after_a_few_times(self) -> None:
        desk = Desk()
        ops = [desk.enqueue(b'{"n":%d,"x":"%b"}' % (n, b"x" * size)) for n, size in enumerate((10, 500, 20))]
        for _ in range(TRIES):
            assert desk.answers == {}
            desk.connect()
            assert desk.queue.in_flight == 3
            desk.lose(1009)
        assert desk.outcome(ops[1]).code == "oversized"
        desk.sent()
        desk.connect()
        desk.ack()
        assert desk.sent() == [(0, True), (2, True)]

    def test_a_batch_is_taken_apart_first(self) -> None:
        desk = Desk(batch=BatchOptions())
        for n in range(3):
            desk.enqueue(number(n))
        desk.sleep(1)
        desk.connect()
        assert len(desk.sent()[0]) == 3
        desk.lose(1009)
        desk.connect()
        assert desk.sent() == [(0, True), (1, True), (2, True)]

    def test_alone_it_vanishes_without_leaving_anything_in_flight(self) -> None:
        desk = Desk()
        op = desk.enqueue()
        for _ in range(TRIES):
            desk.connect()
            desk.lose(1009)
        assert desk.outcome(op).code == "oversized"
        assert (len(desk.queue), desk.queue.held_bytes, desk.queue.in_flight) == (0, 0, 0)

    def test_nothing_of_ours_was_on_its_way(self) -> None:
        desk = Desk()
        desk.connect()
        desk.lose(1009)
        assert desk.queue.deadline is None
