"""The histogram of durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_proto.latency import Latencies
from metered_proto.machine import SECOND

durations = st.lists(st.integers(0, 86_400 * SECOND), min_size=1, max_size=50)


def test_nothing_was_measured() -> None:
    assert Latencies().quantile(0.5) is None


@given(durations, st.floats(0, 1))
def test_a_quantile_is_never_below_and_at_most_an_eighth_above(measured: list[int], q: float) -> None:
    latencies = Latencies()
    for duration in measured:
        latencies.add(duration)
    exact = sorted(measured)[max(0, -int(-q * len(measured) // 1) - 1)]
    found = latencies.quantile(q)
    assert found is not None
    assert exact <= round(found * SECOND) <= exact * 1.125 + 1
    assert latencies.count == len(measured)


@given(durations)
def test_it_stays_small(measured: list[int]) -> None:
    latencies = Latencies()
    for duration in measured:
        latencies.add(duration)
        latencies.add(duration * 10**9)
        latencies.add(-duration)
    assert len(latencies._buckets) < 600


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_what_no_quantile_is(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Latencies().quantile(q)
