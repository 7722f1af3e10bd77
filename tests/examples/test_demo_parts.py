"""What the backend has of a device, and the sensors: without processes, clocks or sockets."""

from __future__ import annotations

from typing import Any

from examples.demo.deliveries import Deliveries
from examples.demo.readings import Host


def test_each_reading_counts_once_whatever_connection_it_comes_on() -> None:
    deliveries = Deliveries()
    assert deliveries.take("p1", {"at": 1, "load": 1.0}, 10.0)
    assert deliveries.take("p1", {"at": 2, "load": 2.0}, 10.5)
    assert deliveries.take("p2", {"at": 3, "load": 3.0}, 14.5)
    assert deliveries.take("p2", {"at": 3, "load": 3.0}, 14.6)
    assert deliveries.readings == {1, 2, 3}
    assert deliveries.longest_gap == 4.0
    assert deliveries.peer_id == "p2"


def test_it_knows_what_it_misses() -> None:
    deliveries = Deliveries()
    deliveries.take("p", {"at": 2}, 0.0)
    assert deliveries.missing([1, 2, 3]) == [1, 3]


def test_the_latest_reading_is_the_newest_not_the_last_to_come() -> None:
    deliveries = Deliveries()
    deliveries.take("p", {"at": 7, "load": 7.0}, 0.0)
    deliveries.take("p", {"at": 3, "load": 3.0}, 1.0)
    assert deliveries.latest["load"] == 7.0


def test_what_makes_no_sense_is_left_alone() -> None:
    deliveries = Deliveries()
    nonsense: list[Any] = [None, [], {}, 1, {"at": "1"}, {"at": 1, "load": "high"}]
    for data in nonsense:
        assert not deliveries.take("p", data, 0.0)
    assert deliveries.readings == set()
    assert deliveries.last_at is None


def test_a_reading_of_this_host() -> None:
    host = Host()
    reading = host.read()
    assert set(reading) == {"at", "load", "memory", "disk", "sending", "receiving", "temperature"}
    assert 0 < reading["memory"] <= 100
    assert 0 <= reading["disk"] <= 100
    assert reading["sending"] >= 0
    assert Deliveries().take("p", reading, 0.0)
