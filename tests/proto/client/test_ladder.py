"""The ladder: how long each attempt waits, and how many there are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_proto.client.ladder import Ladder
from metered_proto.entropy import Entropy
from metered_proto.machine import SECOND, micros
from metered_proto.settings import ReconnectOptions


def ladder(seed: int = 1, **options: float) -> Ladder:
    return Ladder(ReconnectOptions(**options), Entropy(seed))


def seconds(steps: Ladder, count: int) -> list[float | None]:
    return [None if (step := steps.climb()) is None else step / SECOND for _ in range(count)]


class TestDelays:
    def test_the_defaults(self) -> None:
        assert seconds(ladder(jitter_ratio=0), 9) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]

    def test_min_of_initial_times_multiplier_to_the_n_minus_1_and_max(self) -> None:
        assert seconds(ladder(initial_delay=1, multiplier=3, max_delay=20, jitter_ratio=0), 5) == [1, 3, 9, 20, 20]

    def test_a_multiplier_of_one_does_not_climb(self) -> None:
        assert seconds(ladder(initial_delay=2, multiplier=1, jitter_ratio=0), 3) == [2, 2, 2]

    def test_a_success_starts_at_the_bottom_again(self) -> None:
        steps = ladder(jitter_ratio=0)
        assert seconds(steps, 3) == [0.5, 1, 2]
        steps.reset()
        assert steps.attempts == 0
        assert seconds(steps, 2) == [0.5, 1]

    @pytest.mark.parametrize("multiplier", [2, 2.0, 1e300])
    def test_a_number_too_large_for_a_float_is_only_the_longest_delay(self, multiplier: float) -> None:
        steps = ladder(jitter_ratio=0, multiplier=multiplier, max_attempts=math.inf)
        for _ in range(1_100):
            wait = steps.climb()
        assert wait == 30 * SECOND


class TestJitter:
    def test_within_the_ratio_and_not_always_the_same(self) -> None:
        first = {ladder(seed).climb() for seed in range(50)}
        assert len(first) > 40
        assert all(400_000 <= delay <= 600_000 for delay in first if delay is not None)

    def test_the_same_seed_gives_the_same_delays(self) -> None:
        assert seconds(ladder(7), 20) == seconds(ladder(7), 20) != seconds(ladder(8), 20)


class TestAttempts:
    def test_so_many_and_no_more(self) -> None:
        steps = ladder(max_attempts=2, jitter_ratio=0)
        assert seconds(steps, 4) == [0.5, 1, None, None]

    def test_a_hundred_unless_told_otherwise(self) -> None:
        assert seconds(ladder(), 101).index(None) == 100

    def test_infinitely_many(self) -> None:
        assert None not in seconds(ladder(max_attempts=math.inf), 300)


class TestFloor:
    def test_what_the_server_asked_for_is_the_least(self) -> None:
        delays = [ladder(seed, jitter_ratio=0.2).climb(30 * SECOND) for seed in range(50)]
        assert all(30 * SECOND <= delay <= 36 * SECOND for delay in delays if delay is not None)
        assert len(set(delays)) > 40, "a fleet that was told the same number comes back spread"

    def test_without_jitter_it_is_exact(self) -> None:
        assert ladder(jitter_ratio=0).climb(30 * SECOND) == 30 * SECOND

    def test_below_the_own_delay_it_changes_nothing(self) -> None:
        assert ladder(3).climb(1000) == ladder(3).climb()

    def test_it_may_be_beyond_the_longest_delay(self) -> None:
        assert ladder(jitter_ratio=0).climb(600 * SECOND) == 600 * SECOND

    def test_one_in_the_past_changes_nothing(self) -> None:
        assert ladder(3).climb(-5 * SECOND) == ladder(3).climb()


@st.composite
def options(draw: st.DrawFn) -> ReconnectOptions:
    initial = draw(st.floats(0.001, 100))
    return ReconnectOptions(
        initial_delay=initial,
        multiplier=draw(st.floats(1, 1e6)),
        max_delay=draw(st.floats(initial, 1000)),
        jitter_ratio=draw(st.floats(0, 1)),
        max_attempts=draw(st.integers(1, 30) | st.just(math.inf)),
    )


@given(options(), st.integers(), st.integers(0, 700 * SECOND), st.integers(1, 40))
def test_any_valid_options_stay_within_their_bounds(
    options: ReconnectOptions, seed: int, floor: int, climbs: int
) -> None:
    steps = Ladder(options, Entropy(seed))
    for attempt in range(1, climbs + 1):
        delay = steps.climb(floor)
        if attempt > options.max_attempts:
            assert delay is None
            continue
        try:
            middle = min(options.initial_delay * options.multiplier ** (attempt - 1), options.max_delay)
        except OverflowError:
            middle = options.max_delay
        high = max(micros(middle * (1 + options.jitter_ratio)), round(floor * (1 + options.jitter_ratio)))
        low = max(micros(middle * (1 - options.jitter_ratio)), floor)
        assert delay is not None
        assert low - 1 <= delay <= high + 1
        assert delay >= floor
