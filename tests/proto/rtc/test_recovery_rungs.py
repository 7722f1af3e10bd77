"""The delays between rebuilds: what lasted counts once, and a budget is a budget."""

from __future__ import annotations

import pytest

from metered_proto.machine import SECOND
from metered_proto.rtc.recovery import STEADY, Recovery


def test_each_rebuild_waits_longer_until_there_are_none_left() -> None:
    recovery = Recovery((0, 1, 2))
    assert [recovery.climb(number) for number in range(5)] == [0, SECOND, 2 * SECOND, None, None]
    assert recovery.attempts == 3


def test_a_good_connection_long_ago_makes_only_the_first_rebuild_quick() -> None:
    recovery = Recovery((0, 1, 2))
    recovery.climb(0)
    recovery.came_up(0)
    waits = [recovery.climb(STEADY + number * 30 * SECOND) for number in range(3)]
    assert waits == [0, SECOND, 2 * SECOND], "nothing came up in between"


@pytest.mark.parametrize(("lasted", "wait"), [(STEADY + 1, 0), (STEADY, 0), (STEADY - 1, SECOND)])
def test_how_long_is_a_while(lasted: int, wait: int) -> None:
    recovery = Recovery((0, 1, 2))
    recovery.climb(0)
    recovery.came_up(5)
    assert recovery.attempts == 0
    assert recovery.climb(5 + lasted) == wait


def test_beginning_anew_forgets_everything() -> None:
    recovery = Recovery((0, 1))
    recovery.climb(0)
    recovery.climb(0)
    assert recovery.climb(0) is None
    recovery.reset()
    assert [recovery.climb(0), recovery.climb(0), recovery.climb(0)] == [0, SECOND, None]
