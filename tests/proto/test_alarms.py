"""Alarms in rounds and at any time, against the plainest model there is."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from metered_proto.alarms import Alarms, Rounds


def test_a_round_rings_a_span_later_in_the_order_of_setting() -> None:
    rounds = Rounds(30)
    assert rounds.next is None
    rounds.set(7, 100)
    rounds.set(3, 110)
    assert rounds.next == 130
    assert (rounds.set_at(7), rounds.set_at(3), rounds.set_at(99)) == (100, 110, None)
    assert rounds.due(129) == []
    assert rounds.due(130) == [7]
    assert rounds.due(500) == [3]
    assert rounds.next is None


def test_setting_a_round_again_moves_it_behind_the_others() -> None:
    rounds = Rounds(30)
    rounds.set(1, 0)
    rounds.set(2, 5)
    rounds.set(1, 10)
    assert rounds.next == 35
    assert rounds.due(100) == [2, 1]


def test_what_is_cancelled_does_not_ring() -> None:
    for alarms in (Rounds(10), Alarms()):
        alarms.set(1, 10)
        alarms.set(2, 10)
        alarms.cancel(1)
        alarms.cancel(1)
        alarms.cancel(99)
        assert len(alarms) == 1
        assert alarms.due(1000) == [2]


@pytest.mark.parametrize("cancels", [False, True])
def test_alarms_that_are_moved_or_cancelled_for_ever_do_not_pile_up(cancels: bool) -> None:
    alarms = Alarms()
    for turn in range(10_000):
        alarms.set(turn % 5, turn)
        if cancels:
            alarms.cancel(turn % 5)
        assert len(alarms._heap) <= 2 * len(alarms) + 16
    assert len(alarms) == (0 if cancels else 5)


@given(
    st.lists(st.tuples(st.sampled_from(["set", "cancel", "due"]), st.integers(0, 5), st.integers(0, 50)), max_size=60)
)
def test_alarms_ring_like_a_table_that_is_searched(steps: list[tuple[str, int, int]]) -> None:
    alarms, table = Alarms(), {}
    for step, key, at in steps:
        if step == "set":
            alarms.set(key, at)
            table[key] = at
        elif step == "cancel":
            alarms.cancel(key)
            table.pop(key, None)
        else:
            expected = sorted((when, who) for who, when in table.items() if when <= at)
            assert alarms.due(at) == [who for _, who in expected]
            table = {who: when for who, when in table.items() if when > at}
        assert alarms.next == min(table.values(), default=None)
        assert len(alarms) == len(table)
