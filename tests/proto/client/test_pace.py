"""The pace: never more than the rate and its burst, and never less where it matters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_proto.client.pace import Pace
from metered_proto.machine import SECOND


def taken_by(pace: Pace, end: int) -> list[int]:
    """Take as soon as one may, until `end`."""
    times = []
    now = 0
    while (now := max(now, pace.free_at)) <= end:
        pace.take(now)
        times.append(now)
    return times


def test_a_burst_and_then_the_rate() -> None:
    times = taken_by(Pace(10, 3), SECOND)
    assert times == [0, 0, 0, *range(50_000, SECOND, 100_000)]


def test_rest_earns_a_new_burst_and_no_more() -> None:
    pace = Pace(10, 3)
    for _ in range(3):
        pace.take(0)
    for _ in range(3):
        assert pace.free_at <= 60 * SECOND
        pace.take(60 * SECOND)
    assert pace.free_at > 60 * SECOND


def test_no_rate() -> None:
    pace = Pace(None, 1)
    for _ in range(1000):
        assert pace.free_at <= 7
        pace.take(7)


@given(rate=st.floats(0.1, 5000), burst=st.integers(1, 200), start=st.integers(0, 10**9))
def test_in_any_span_no_more_than_the_burst_and_what_the_rate_gives(rate: float, burst: int, start: int) -> None:
    pace = Pace(rate, burst)
    times = []
    now = start
    for _ in range(2 * burst + 10):
        now = max(now, pace.free_at)
        pace.take(now)
        times.append(now)
    assert times[burst - 1] == start
    for first in range(0, len(times), 7):
        for last in range(first, len(times), 5):
            allowed = burst + rate * (times[last] - times[first]) / SECOND
            assert last - first + 1 <= allowed + 0.51
    # And it is as fast as that: after the burst, one each cost.
    assert times[-1] - start == pytest.approx((len(times) - burst - 0.5) * SECOND / rate, abs=2 * len(times))
