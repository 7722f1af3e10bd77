"""The receiving side: every message once, gaps told, and no bound that a stranger can move."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_proto.client.deduplicator import Deduplicator, Delivery
from metered_proto.client.envelope import KEY
from metered_proto.events import Gap, Message


def message(
    *seqs: int,
    outbox: str = "box",
    channel: str = "c",
    sender: str = "me",
    redelivered: bool = False,
    id: str | None = None,
) -> Message:
    """One message, or several as a batch."""

    def stamp(seq: int) -> dict[str, Any]:
        return {"id": id or f"{outbox}-{seq}", "seq": seq, "redelivered": redelivered}

    if len(seqs) == 1:
        return Message(channel, sender, {KEY: {"outbox": outbox, **stamp(seqs[0])}, "n": seqs[0]})
    batch = {"outbox": outbox, "batch": [stamp(seq) for seq in seqs]}
    return Message(channel, sender, {KEY: batch, "items": [{"n": seq} for seq in seqs]})


def read(reader: Deduplicator, *seqs: int, **more: Any) -> list[int | tuple[int]]:
    """The numbers of what was delivered, and gaps as a tuple of what was missed."""
    found: list[int | tuple[int]] = []
    for one in reader.read(message(*seqs, **more)):
        if isinstance(one, Gap):
            found.append((one.missed,))
        else:
            assert one.seq is not None
            assert one.data == {"n": one.seq}
            found.append(one.seq)
    return found


class TestDeliveries:
    def test_what_is_delivered(self) -> None:
        data = {KEY: {"id": "mine", "outbox": "box", "seq": 3, "redelivered": True}, "temp": 21}
        [one] = Deduplicator().read(Message("c", "me", data, {"name": "Me"}))
        assert one == Delivery({"temp": 21}, "mine", 3, True, "c", "me", {"name": "Me"})

    def test_a_batch_is_delivered_one_by_one(self) -> None:
        assert read(Deduplicator(), 1, 2, 3) == [1, 2, 3]

    @pytest.mark.parametrize("data", [None, 7, {"temp": 21}, {KEY: "x", "temp": 21}, {KEY: {"seq": 1}}])
    def test_what_came_through_no_outbox_is_delivered_as_it_is_and_every_time(self, data: Any) -> None:
        reader = Deduplicator()
        for _ in range(2):
            [one] = reader.read(Message("c", "me", data, {"name": "Me"}))
            assert one == Delivery(data, None, None, False, "c", "me", {"name": "Me"})
            assert isinstance(one, Delivery)
            assert one.data is data


class TestRepeats:
    def test_they_are_dropped_and_counted(self) -> None:
        reader = Deduplicator()
        assert [read(reader, seq) for seq in (1, 2, 1, 2, 3)] == [[1], [2], [], [], [3]]
        assert reader.repeats == 2

    def test_however_late_they_come(self) -> None:
        reader = Deduplicator()
        read(reader, *range(1, 50_001))
        assert read(reader, 1, redelivered=True) == []
        assert read(reader, 25_000) == []

    def test_also_within_a_batch_and_part_of_one(self) -> None:
        reader = Deduplicator()
        assert read(reader, 1, 2, 2, 1) == [1, 2]
        assert read(reader, 2, 3, redelivered=True) == [3]

    def test_channels_and_outboxes_are_counted_apart(self) -> None:
        reader = Deduplicator()
        assert read(reader, 1) == [1]
        assert read(reader, 1, channel="d") == [1]
        assert read(reader, 1, outbox="other") == [1]

    def test_a_redelivery_that_is_the_first_to_come_is_delivered(self) -> None:
        assert read(Deduplicator(), 5, redelivered=True) == [5]


class TestGaps:
    def test_missed_ones_are_told_ahead_of_what_shows_it(self) -> None:
        reader = Deduplicator()
        assert read(reader, 1) == [1]
        assert reader.read(message(4))[0] == Gap("c", "me", 2)
        assert read(reader, 5, 8) == [5, (2,), 8]

    def test_the_first_to_come_shows_none(self) -> None:
        assert read(Deduplicator(), 1000) == [1000]

    def test_what_comes_late_fills_them_once(self) -> None:
        reader = Deduplicator()
        read(reader, 1)
        assert read(reader, 5) == [(3,), 5]
        assert [read(reader, seq) for seq in (3, 3, 2, 4, 2, 4)] == [[3], [], [2], [4], [], []]

    def test_what_was_published_before_we_listened_may_come_late_too(self) -> None:
        reader = Deduplicator()
        assert read(reader, 100) == [100]
        assert read(reader, 50, redelivered=True) == [50]
        assert read(reader, 50, redelivered=True) == []


class TestBounds:
    def test_the_outbox_unheard_of_the_longest_is_forgotten(self) -> None:
        reader = Deduplicator(max_outboxes=2)
        read(reader, 1, outbox="a")
        read(reader, 1, outbox="b")
        assert read(reader, 1, outbox="a") == []
        read(reader, 1, outbox="c")  # b has to go
        assert read(reader, 1, outbox="a") == []
        assert read(reader, 1, outbox="b") == [1]

    def test_the_oldest_gap_is_forgotten_and_then_in_doubt_what_is_new_is_delivered(self) -> None:
        reader = Deduplicator(max_holes=2)
        for seq in (1, 3, 5, 7):  # holes at 2, 4 and 6, of which 2 is forgotten
            read(reader, seq)
        assert read(reader, 4) == [4]
        assert read(reader, 6, redelivered=True) == [6]
        # Whether 2 came cannot be known: marked it passes for a repeat, unmarked it cannot be one.
        assert read(reader, 2, redelivered=True) == []
        assert read(reader, 2) == [2]
        assert read(reader, 3, redelivered=True) == []
        assert read(reader, 7) == []

    def test_splitting_a_gap_makes_two(self) -> None:
        reader = Deduplicator(max_holes=2)
        read(reader, 1)
        read(reader, 100)
        for seq in (50, 25):  # three holes, the lowest of which is forgotten
            assert read(reader, seq) == [seq]
        assert read(reader, 10, redelivered=True) == []
        assert read(reader, 30, redelivered=True) == [30]

    def test_whatever_strangers_send_nothing_grows(self) -> None:
        reader = Deduplicator(max_outboxes=8, max_holes=4, max_ids=16)
        for at in range(3000):
            reader.read(message(1 + (at * 7919) % 2**53, outbox=f"box{at % 20}", id=f"id{at}"))
            reader.read(message(2**53 - at * 2, outbox="jumps"))
        assert len(reader._streams) <= 8
        assert len(reader._ids) <= 16
        assert all(len(stream._holes) <= 4 for stream in reader._streams.values())

    @pytest.mark.parametrize("name", ["max_outboxes", "max_holes", "max_ids"])
    @pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError)])
    def test_bad_bounds(self, name: str, value: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match=name):
            Deduplicator(**{name: value})


class TestIdsOfTheSendersOwn:
    def test_enqueued_twice_under_one_id_it_is_delivered_once(self) -> None:
        reader = Deduplicator()
        assert read(reader, 1, id="reading 7") == [1]
        assert read(reader, 2, id="reading 7") == []
        assert read(reader, 3, id="reading 8") == [3]

    def test_also_by_another_life_of_the_device(self) -> None:
        reader = Deduplicator()
        assert read(reader, 1, id="reading 7") == [1]
        assert read(reader, 1, id="reading 7", outbox="another") == []

    def test_not_across_channels(self) -> None:
        reader = Deduplicator()
        assert read(reader, 1, id="reading 7") == [1]
        assert read(reader, 1, id="reading 7", channel="d") == [1]

    def test_the_one_unheard_of_the_longest_is_forgotten(self) -> None:
        reader = Deduplicator(max_ids=2)
        for seq, id in enumerate("aba", 1):
            read(reader, seq, id=id)
        read(reader, 4, id="c")  # b has to go
        assert read(reader, 5, id="a") == []
        assert read(reader, 6, id="b") == [6]


class TestWhoSends:
    def test_a_reconnect_under_another_peer_id_is_the_same_outbox(self) -> None:
        reader = Deduplicator()
        assert read(reader, 1, sender="me") == [1]
        assert read(reader, 1, sender="me again", redelivered=True) == []

    def test_by_sender_nobody_can_pretend(self) -> None:
        reader = Deduplicator(by_sender=True)
        assert read(reader, 1, sender="me") == [1]
        assert read(reader, 2, sender="mallory") == [2]
        assert read(reader, 2, sender="me") == [2]
        assert read(reader, 3, id="x", sender="mallory") == [3]
        assert read(reader, 3, id="x", sender="me") == [3]


@given(
    order=st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=60),
    start=st.integers(0, 5),
)
def test_against_a_set(order: list[tuple[int, bool]], start: int) -> None:
    """With room for every hole, it is a set of numbers and the highest of them."""
    reader = Deduplicator(max_holes=100)
    seen: set[int] = set()
    for seq, redelivered in order:
        seq += start
        expected: list[int | tuple[int]] = []
        if seen and seq > max(seen) + 1:
            expected.append((seq - max(seen) - 1,))
        if seq not in seen:
            expected.append(seq)
        seen.add(seq)
        assert read(reader, seq, redelivered=redelivered) == expected
