"""The outbox: what it accepts arrives or is accounted for, in order, marked where it may be a repeat."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from table_kit import each_row

from metered_proto.client import outbox as module
from metered_proto.client.envelope import KEY
from metered_proto.client.ledger import Ledger
from metered_proto.client.outbox import (
    LEAP,
    OF_THE_CHANNEL,
    PASSING,
    TRIES,
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
from metered_proto.facts import Asked, Fact, LinkDown, LinkUp, Withdrawn, Woken
from metered_proto.machine import SECOND, Deadline, micros
from metered_proto.orders import Answer, Note, Order, Send
from metered_proto.settings import BatchOptions, Outbox
from metered_proto.wire.close_codes import ErrorCode


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
        assert desk.sent() == [(2, False)]
        assert small not in desk.answers
        assert desk.forgotten == [1]


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
        assert desk.queue.counters.publishes == 1

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
