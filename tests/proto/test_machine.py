"""Time, deadlines, and machines made of machines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.facts import Fact, LinkUp, Woken
from metered_proto.machine import SECOND, Composite, Deadline, Machine, Micros, micros, soonest
from metered_proto.orders import Note, Order


class Alarm:
    """A machine with one alarm: it rings at `at`, and then is done."""

    def __init__(self, name: str, at: Micros | None) -> None:
        self.name = name
        self.at = at
        self.heard: list[tuple[Micros, Fact]] = []

    @property
    def deadline(self) -> Deadline | None:
        return None if self.at is None else Deadline(self.at, self.name)

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        self.heard.append((now, fact))
        if self.at is None or now < self.at:
            return []
        self.at = None
        return [Note("info", self.name)]


class Clock(Composite):
    """Alarms side by side."""

    def __init__(self, *parts: Machine) -> None:
        self.parts = parts

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        return self.wake(now) if isinstance(fact, Woken) else []


def rung(orders: list[Order]) -> list[str]:
    return [order.message for order in orders if isinstance(order, Note)]


class TestMicros:
    @each_row(
        ("seconds", "expected"),
        [
            (0, 0),
            (1, SECOND),
            (0.5, 500_000),
            (15.0, 15_000_000),
            (0.0000014, 1),
            (0.1 + 0.2, 300_000),
            (-1.5, -1_500_000),
        ],
    )
    def test_seconds_become_whole_microseconds(self, seconds: float, expected: Micros) -> None:
        result = micros(seconds)
        assert result == expected
        assert type(result) is int

    @pytest.mark.parametrize(("seconds", "error"), [(float("inf"), OverflowError), (float("nan"), ValueError)])
    def test_a_span_without_an_end_is_no_span(self, seconds: float, error: type[Exception]) -> None:
        with pytest.raises(error):
            micros(seconds)


class TestSoonest:
    def test_nothing_is_due(self) -> None:
        assert soonest([]) is None
        assert soonest([None, None]) is None

    def test_the_earliest(self) -> None:
        assert soonest([Deadline(3, "c"), None, Deadline(1, "a"), Deadline(2, "b")]) == Deadline(1, "a")

    def test_of_two_at_once_the_first_named(self) -> None:
        assert soonest([Deadline(1, "a"), Deadline(1, "b")]) == Deadline(1, "a")
        assert soonest(iter([None, Deadline(1, "b"), Deadline(1, "a")])) == Deadline(1, "b")

    @given(st.lists(st.none() | st.builds(Deadline, st.integers(0, 5), st.text(max_size=2))))
    def test_it_is_what_sorting_gives(self, deadlines: list[Deadline | None]) -> None:
        due = sorted((d for d in deadlines if d is not None), key=lambda d: d.at)  # stable, as soonest is
        assert soonest(deadlines) == (due[0] if due else None)


class TestComposite:
    def test_without_parts_nothing_is_due(self) -> None:
        assert Composite().deadline is None
        assert Composite().wake(10**9) == []

    def test_its_deadline_is_its_parts_soonest(self) -> None:
        assert Clock(Alarm("b", 2), Alarm("never", None), Alarm("a", 1)).deadline == Deadline(1, "a")

    def test_waking_reaches_the_parts_that_are_due_in_the_order_of_the_parts(self) -> None:
        late, soon, never, now = Alarm("late", 9), Alarm("soon", 3), Alarm("never", None), Alarm("now", 2)
        clock = Clock(late, soon, never, now)
        assert rung(clock.wake(3)) == ["soon", "now"]
        assert late.heard == []
        assert never.heard == []
        assert soon.heard == [(3, Woken())]

    def test_waking_early_or_twice_is_harmless(self) -> None:
        alarm = Alarm("a", 5)
        clock = Clock(alarm)
        assert clock.wake(4) == []
        assert alarm.heard == []
        assert rung(clock.wake(5)) == ["a"]
        assert clock.wake(5) == []
        assert clock.deadline is None

    def test_waking_late_rings_all_that_is_overdue(self) -> None:
        assert rung(Clock(Alarm("a", 1), Alarm("b", 2)).wake(100)) == ["a", "b"]

    def test_a_whole_is_a_part_as_well(self) -> None:
        inner = Clock(Alarm("deep", 4), Alarm("later", 6))
        outer = Clock(Alarm("flat", 5), inner)
        assert outer.deadline == Deadline(4, "deep")
        assert rung(outer.wake(5)) == ["flat", "deep"]
        assert outer.deadline == Deadline(6, "later")
        assert outer.handle(6, LinkUp(1)) == []
        assert rung(outer.handle(6, Woken())) == ["later"]
