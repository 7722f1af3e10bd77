"""How long somebody is kept."""

from __future__ import annotations

from metered_proto.machine import micros
from metered_proto.room.grace import MEASURE_EVERY, Graces


def walk(graces: Graces, until: float, received: dict[float, int] | None = None) -> list[tuple[float, str]]:
    """Let time pass; returns when member 1 was to be measured, and when it was over."""
    seen: list[tuple[float, str]] = []
    count = 0
    while (at := graces.next) is not None and at <= micros(until):
        over, look = graces.due(at)
        seen += [(at / 1e6, "over")] * len(over) + [(at / 1e6, "look")] * len(look)
        for second, bytes_ in (received or {}).items():
            if micros(second) <= at:
                count = max(count, bytes_)
        for member in look:
            graces.measured(at, member, count)
    return seen


def test_silence_ends_it_early() -> None:
    graces = Graces(10, 3)
    graces.begin(0, 1)
    graces.measured(0, 1, 500)
    seen = walk(graces, 20, {0.0: 500})
    assert seen[-1] == (3.0, "over")
    assert [what for _, what in seen[:-1]] == ["look"] * 5
    assert (1 in graces, len(graces), graces.next) == (False, 0, None)


def test_bytes_prolong_it() -> None:
    graces = Graces(10, 3)
    graces.begin(0, 1)
    graces.measured(0, 1, 0)
    seen = walk(graces, 20, {second / 2: second for second in range(1, 9)})
    assert seen[-1] == (7.0, "over"), "three seconds after the last that arrived, at 4 s"


def test_but_not_for_ever() -> None:
    graces = Graces(10, 3)
    graces.begin(0, 1)
    seen = walk(graces, 20, {second / 2: second for second in range(1, 100)})
    assert seen[-1] == (10.0, "over")


def test_the_first_measurement_is_where_counting_begins() -> None:
    graces = Graces(10, 3)
    graces.begin(0, 1)
    graces.measured(micros(2), 1, 10_000)
    assert walk(graces, 20, {0.0: 10_000})[-1] == (3.0, "over")


def test_without_measurements_it_is_silence() -> None:
    graces = Graces(10, 3)
    graces.begin(0, 1)
    for quarter in range(12):
        assert graces.due(quarter * MEASURE_EVERY // 2)[0] == []
    assert graces.due(micros(3)) == ([1], [])


def test_whoever_is_back_is_not_looked_after() -> None:
    graces = Graces(10, 3)
    graces.begin(0, 1)
    graces.end(1)
    graces.end(1)
    graces.measured(0, 1, 5)
    assert (graces.next, len(graces)) == (None, 0)


def test_all_at_once() -> None:
    graces = Graces(10, 3)
    graces.begin(0, 1)
    graces.begin(1, 2)
    assert 2 in graces
    graces.clear()
    assert graces.next is None


def test_it_is_over_for_whoever_looks_late_too() -> None:
    graces = Graces(10, 3)
    graces.begin(0, 1)
    assert graces.due(micros(3) + 1) == ([1], [])


def test_a_count_that_goes_back_is_no_sign_of_life() -> None:
    # A connection that was rebuilt counts from nothing.
    graces = Graces(10, 3)
    graces.begin(0, 1)
    graces.measured(0, 1, 500)
    graces.measured(micros(2), 1, 100)
    assert graces.due(micros(3)) == ([1], [])
