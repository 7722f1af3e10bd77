"""The two sides of "no reading is lost", and the sensors: without processes, clocks or sockets."""

from __future__ import annotations

import random
from typing import Any

from examples.demo.buffer import Buffer
from examples.demo.deliveries import Deliveries
from examples.demo.readings import Host


def seqs(readings: list[dict[str, Any]]) -> list[int]:
    return [reading["seq"] for reading in readings]


def test_a_reading_is_due_until_it_is_sent_and_again_when_no_confirmation_comes() -> None:
    buffer = Buffer(patience=3.0)
    buffer.add(1, {"load": 0.5})
    buffer.add(2, {"load": 0.6})
    batch = buffer.due(0.0, 100)
    assert batch == [{"seq": 1, "load": 0.5}, {"seq": 2, "load": 0.6}]
    buffer.sent(batch, 0.0)
    assert buffer.due(2.9, 100) == []
    buffer.confirm([1, 99])
    assert seqs(buffer.due(3.0, 100)) == [2]
    buffer.confirm([2])
    assert not buffer


def test_a_lost_connection_makes_everything_due() -> None:
    buffer = Buffer()
    buffer.add(1, {})
    buffer.sent(buffer.due(0.0, 100), 0.0)
    buffer.connection_lost()
    assert seqs(buffer.due(0.0, 100)) == [1]


def test_a_confirmation_may_overtake_the_acknowledgement() -> None:
    buffer = Buffer()
    buffer.add(1, {})
    batch = buffer.due(0.0, 100)
    buffer.confirm([1])
    buffer.sent(batch, 0.0)
    assert buffer.due(100.0, 100) == []


def test_a_batch_has_a_limit_and_starts_with_the_oldest() -> None:
    buffer = Buffer()
    for seq in range(1, 6):
        buffer.add(seq, {})
    assert seqs(buffer.due(0.0, 3)) == [1, 2, 3]


def test_a_full_buffer_lets_the_oldest_go_and_counts_it() -> None:
    buffer = Buffer(limit=2)
    for seq in (1, 2, 3):
        buffer.add(seq, {})
    assert seqs(buffer.due(0.0, 100)) == [2, 3]
    assert buffer.discarded == 1
    assert buffer.fullest == 2


def test_a_repeat_counts_once_and_is_confirmed_again() -> None:
    deliveries = Deliveries()
    assert deliveries.take("p1", {"readings": [{"seq": 1, "load": 1.0}, {"seq": 2, "load": 2.0}]}, 10.0)
    assert deliveries.confirmations() == [1, 2]
    assert deliveries.confirmations() == []
    assert deliveries.take("p2", {"readings": [{"seq": 1, "load": 1.0}, {"seq": 3, "load": 3.0}]}, 14.5)
    assert deliveries.confirmations() == [1, 3]
    assert deliveries.seqs == {1, 2, 3}
    assert deliveries.repeats == 1
    assert deliveries.longest_gap == 4.5
    assert deliveries.peer_id == "p2"


def test_the_latest_reading_is_the_newest_not_the_last_to_come() -> None:
    deliveries = Deliveries()
    deliveries.take("p", {"readings": [{"seq": 7, "load": 7.0}]}, 0.0)
    deliveries.take("p", {"readings": [{"seq": 3, "load": 3.0}]}, 1.0)
    assert deliveries.latest["load"] == 7.0


def test_what_makes_no_sense_is_left_alone() -> None:
    deliveries = Deliveries()
    lists: tuple[Any, ...] = (1, [1], [{}], [{"seq": "1"}])
    nonsense: list[Any] = [None, [], {}, *({"readings": readings} for readings in lists)]
    for data in nonsense:
        assert not deliveries.take("p", data, 0.0)
    assert not deliveries.take("p", {"readings": [{"seq": 1}, {"seq": 2, "load": "high"}]}, 0.0)
    assert deliveries.seqs == set()
    assert deliveries.confirmations() == []


def test_both_sides_together_lose_nothing_whatever_is_lost_between_them() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        buffer, deliveries, now = Buffer(patience=3.0), Deliveries(), 0.0
        for seq in range(1, 101):
            now += 0.5
            buffer.add(seq, {})
            batch = buffer.due(now, 10)
            if chance.random() < 0.5:
                deliveries.take("p", {"readings": batch}, now)
            if chance.random() < 0.8:
                buffer.sent(batch, now)
            confirmations = deliveries.confirmations()
            if chance.random() < 0.5:
                buffer.confirm(confirmations)
            if chance.random() < 0.05:
                buffer.connection_lost()
        while buffer:
            now += 3.0
            deliveries.take("p", {"readings": buffer.due(now, 10)}, now)
            buffer.confirm(deliveries.confirmations())
        assert deliveries.seqs == set(range(1, 101))


def test_a_reading_of_this_host() -> None:
    host = Host()
    reading = host.read()
    assert set(reading) == {"at", "load", "memory", "disk", "sending", "receiving", "temperature"}
    assert 0 < reading["memory"] <= 100
    assert 0 <= reading["disk"] <= 100
    assert reading["sending"] >= 0
    assert Deliveries().take("p", {"readings": [{"seq": 1, **reading}]}, 0.0)
