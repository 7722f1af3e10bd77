"""The outbox: what it accepts arrives in order, numbered, and marked where it may be a repeat."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from outbox_kit import Desk, number, stored

from metered_proto.client import outbox as module
from metered_proto.client.envelope import KEY
from metered_proto.client.ledger import Ledger
from metered_proto.client.outbox import Delivered, Enqueue, Entry, OutboxQueue
from metered_proto.entropy import Entropy
from metered_proto.errors import OversizedPayloadError
from metered_proto.facts import LinkDown, LinkUp, Withdrawn, Woken
from metered_proto.machine import SECOND, Deadline
from metered_proto.settings import Outbox


class TestSending:
    def test_what_waits_goes_out_in_order_once_connected(self) -> None:
        desk = Desk()
        ops = [desk.enqueue(number(n)) for n in range(3)]
        assert desk.sent() == []
        desk.connect()
        assert [frame["requestId"] for frame in desk.frames] == ["o1", "o2", "o3"]
        desk.ack()
        assert desk.sent() == [(0, False), (1, False), (2, False)]
        assert [desk.outcome(op) for op in ops] == [Delivered()] * 3
        assert (len(desk.queue), desk.queue.held_bytes, desk.queue.in_flight) == (0, 0, 0)
        assert desk.queue.deadline is None

    def test_while_connected_it_goes_out_at_once(self) -> None:
        desk = Desk()
        desk.connect()
        desk.enqueue(number(1))
        assert desk.sent() == [(1, False)]

    def test_the_frame(self) -> None:
        desk = Desk()
        desk.connect()
        desk.enqueue(b"21.5", "fleet/a/telemetry")
        desk.enqueue(b'{"t":1}', "fleet/a/telemetry", "mine")
        desk.enqueue(b"{}", "other")
        stamps = [frame["data"][KEY] for frame in desk.frames]
        box = stamps[0]["outbox"]
        assert len(box) == 16
        assert stamps == [
            {"id": f"{box}-1", "outbox": box, "seq": 1, "wrapped": True},
            {"id": "mine", "outbox": box, "seq": 2},
            {"id": f"{box}-3", "outbox": box, "seq": 1},
        ]
        assert [frame["channel"] for frame in desk.frames] == ["fleet/a/telemetry", "fleet/a/telemetry", "other"]

    def test_two_outboxes_have_two_names(self) -> None:
        ones = {OutboxQueue(Outbox(), Entropy(seed)).draft(0, "c", b"1") for seed in range(3)}
        assert len({one.outbox for one in ones if isinstance(one, Entry)}) == 3

    def test_no_more_than_the_window_waits_for_an_answer(self) -> None:
        desk = Desk(window=2)
        desk.connect()
        for n in range(5):
            desk.enqueue(number(n))
        assert desk.sent() == [(0, False), (1, False)]
        desk.ack("o1")
        assert desk.sent() == [(2, False)]
        assert desk.queue.in_flight == 2

    def test_with_a_rate_the_burst_is_a_window_too(self) -> None:
        desk = Desk(window=50, rate=100.0, burst=3)
        desk.connect()
        for n in range(10):
            desk.enqueue(number(n))
        desk.sleep(10)
        assert desk.sent() == [(0, False), (1, False), (2, False)]

    def test_the_pace(self) -> None:
        desk = Desk(rate=10.0, burst=2)
        desk.connect()
        for n in range(5):
            desk.enqueue(number(n))
        desk.ack()
        assert len(desk.sent()) == 2
        assert desk.queue.deadline == Deadline(50_000, "outbox pace")
        desk.sleep(0.049999)
        desk.give(Woken())
        assert desk.sent() == []
        desk.sleep(0.000001)
        assert desk.sent() == [(2, False)]
        desk.ack("o3")
        desk.sleep(0.2)
        assert desk.sent() == [(3, False), (4, False)]

    def test_beside_the_ledger_no_name_is_taken_twice(self) -> None:
        desk = Desk()
        desk.connect()
        ledger = Ledger(15)
        for n in range(1, 20):
            desk.enqueue()
            assert ledger.enter(0, n) not in desk.queue
        assert not any(frame["requestId"] in ledger for frame in desk.frames)

    def test_answers_to_others_are_none_of_its_business(self) -> None:
        desk = Desk()
        desk.connect()
        desk.enqueue()
        assert desk.queue.settled(0, "1", None) == []
        assert desk.queue.settled(0, "o2", None) == []
        assert "1" not in desk.queue
        assert desk.queue.handle(0, LinkUp(9)) == []
        assert desk.queue.handle(0, LinkDown(9, 1006)) == []
        assert desk.queue.in_flight == 1


class TestChecks:
    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (("", b"1"), ValueError),
            ((7, b"1"), TypeError),
            (("c", b"nonsense"), ValueError),
            (("c", b'{"__meteredOutbox":1}'), ValueError),
            (("c", b"1", ""), ValueError),
            (("c", b"1", 7), TypeError),
        ],
    )
    def test_bad_arguments_change_nothing(self, arguments: Any, error: type[Exception]) -> None:
        desk = Desk()
        with pytest.raises(error):
            desk.queue.draft(0, *arguments)
        entry = desk.draft()
        assert (entry.key, entry.seq) == (1, 1)

    def test_over_the_servers_cap_with_its_envelope(self) -> None:
        desk = Desk()
        desk.connect(cap=200)
        with pytest.raises(OversizedPayloadError) as caught:
            desk.enqueue(b'"' + b"x" * 150 + b'"')
        assert caught.value.cap == 200
        assert caught.value.size > 200
        assert desk.draft(b"1").seq == 1

    def test_what_fits_still_fits_when_it_is_sent_again(self) -> None:
        desk = Desk()
        size = desk.draft(b'"x"').size
        desk.connect(cap=size)
        desk.enqueue(b'"y"')
        desk.lose()
        desk.connect(cap=size)
        assert [len(msgspec.json.encode(frame["data"])) for frame in desk.frames] == [size - 19, size]

    def test_before_the_first_connect_the_usual_cap_counts(self) -> None:
        desk = Desk()
        with pytest.raises(OversizedPayloadError) as caught:
            desk.enqueue(b'"' + b"x" * 65_536 + b'"')
        assert caught.value.cap == 65_536

    def test_over_the_whole_of_the_outbox(self) -> None:
        with pytest.raises(OversizedPayloadError) as caught:
            Desk(max_bytes=20).enqueue()
        assert caught.value.cap == 20

    def test_a_cap_that_shrank(self) -> None:
        desk = Desk(loaded=stored())
        large = desk.enqueue(b'{"n":1,"x":"' + b"x" * 300 + b'"}')
        small = desk.enqueue(number(2))
        desk.connect(cap=200)
        assert desk.outcome(large).code == "oversized"
        size = int(desk.outcome(large).message.split()[0])
        assert 300 < size < 500
        assert desk.sent() == [(2, False)]
        assert small not in desk.answers
        assert desk.forgotten == [1]


class TestNumbers:
    def test_a_discarded_draft_has_used_its_numbers(self) -> None:
        desk = Desk()
        desk.queue.discard(desk.draft())
        entry = desk.draft()
        assert (entry.key, entry.seq) == (2, 2)

    def test_they_go_on_where_the_store_left_them(self) -> None:
        desk = Desk(stored(5, next_key=9, sequences={"c": 7}))
        entry = desk.draft()
        assert (entry.key, entry.seq, entry.outbox) == (9, 8, "0123456789abcdef")
        assert desk.draft(channel="d").seq == 1

    def test_too_many_channels_begin_a_new_outbox(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_CHANNELS", 2)
        desk = Desk()
        first = [desk.draft(channel=name) for name in "abab"]
        assert [entry.seq for entry in first] == [1, 1, 2, 2]
        second = [desk.draft(channel=name) for name in "cab"]
        assert {entry.outbox for entry in first}.isdisjoint({entry.outbox for entry in second[:2]})
        assert [entry.seq for entry in second] == [1, 1, 1]
        assert second[2].outbox != second[1].outbox
        for entry in first + second:
            desk.ask(Enqueue(entry))
        desk.connect()
        assert [frame["data"][KEY]["outbox"] for frame in desk.frames] == [entry.outbox for entry in first + second]
        # What was drafted before does not turn the page back.
        assert desk.draft(channel="b").seq == 2

    def test_a_recorded_run_is_the_same_without_the_drafts(self) -> None:
        live, again = Desk(), Desk(seed=2)
        for n, channel in enumerate("aabba"):
            entry = live.draft(number(n), channel)
            live.ask(Enqueue(entry))
            again.ask(Enqueue(entry))
        entry = live.draft()
        assert again.queue.draft(0, "c", b'{"n":1}') == entry
        live.connect()
        again.connect()
        assert live.frames == again.frames


class TestComingBack:
    def test_what_was_on_its_way_goes_out_again_first_and_marked(self) -> None:
        desk = Desk(window=2)
        desk.connect()
        ops = [desk.enqueue(number(n)) for n in range(3)]
        desk.lose()
        assert desk.queue.in_flight == 0
        assert not any(op in desk.answers for op in ops)
        desk.sent()
        desk.connect()
        assert [frame["requestId"] for frame in desk.frames] == ["o3", "o4"]
        desk.ack()
        assert desk.sent() == [(0, True), (1, True), (2, False)]
        assert desk.queue.counters.redelivered == 2

    def test_no_answer_in_time(self) -> None:
        desk = Desk()
        desk.connect()
        op = desk.enqueue(number(1))
        desk.sleep(1)
        desk.enqueue(number(2))
        assert desk.queue.deadline == Deadline(15 * SECOND, "outbox ack")
        desk.sleep(14)
        assert desk.sent() == [(1, False), (2, False), (1, True)]
        assert desk.notes[-1].message == "no acknowledgement came, sending again"
        desk.ack("o1")  # too late for that one, and the repeat is on its way
        assert op not in desk.answers
        desk.ack("o3")
        assert desk.outcome(op) == Delivered()

    def test_what_is_sent_again_takes_no_more_room(self) -> None:
        desk = Desk(max_messages=2, window=1)
        desk.connect()
        desk.enqueue(number(1))
        desk.sleep(15)
        assert desk.sent() == [(1, False), (1, True)]
        desk.enqueue(number(2))
        assert len(desk.queue) == 2

    def test_what_comes_back_finds_its_place(self) -> None:
        desk = Desk(window=3)
        desk.connect()
        for n in range(5):
            desk.enqueue(number(n))
        desk.ack("o2")  # 3 goes out as o4
        desk.sleep(1)
        desk.refuse("o3", "internal_error")  # 2 comes back
        desk.refuse("o1", "internal_error")  # and then 0, which belongs before it
        desk.lose()  # and then 3, which belongs after it
        desk.sent()
        desk.connect()
        desk.sleep(2)
        for _ in range(4):
            desk.ack(desk.frames[-1]["requestId"])
        assert desk.sent() == [(0, True), (2, True), (3, True), (4, False)]

    def test_nobody_waits_for_the_receipt_and_it_is_delivered_all_the_same(self) -> None:
        desk = Desk()
        op = desk.enqueue(number(1))
        desk.give(Withdrawn(op))
        desk.connect()
        assert desk.sent() == [(1, False)]
        desk.ack("o1")
        assert desk.answers == {}
        assert len(desk.queue) == 0

    def test_withdrawing_what_is_not_there(self) -> None:
        desk = Desk()
        desk.give(Withdrawn(7))
        assert desk.answers == {}
