"""How often something may happen, at its edges."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from metered_proto.machine import SECOND
from metered_proto.relay.limits import MAX_ADDRESSES, Allowance, Doorman, Meter


@pytest.mark.parametrize(("rate", "burst"), [(100.0, 200), (3.0, 7), (0.5, 1), (7.7, 1000)])
def test_a_meter_takes_exactly_a_burst_at_once(rate: float, burst: int) -> None:
    meter = Meter(rate, burst)
    assert sum(meter.take(1_000_000) for _ in range(burst + 50)) == burst


def test_a_meter_takes_its_rate_in_the_long_run() -> None:
    meter = Meter(100.0, 200)
    # 500 a second are offered for ten seconds: the burst, and then the rate.
    taken = sum(meter.take(turn * SECOND // 500) for turn in range(5000))
    assert 200 + 1000 - 2 <= taken <= 200 + 1000 + 2


def test_a_meter_at_its_rate_is_never_empty() -> None:
    meter = Meter(100.0, 1)
    assert all(meter.take(turn * 10_000) for turn in range(1000))


def test_a_meter_says_how_long_to_wait() -> None:
    meter = Meter(2.0, 1)
    assert meter.wait(0) == 0
    assert meter.take(0)
    wait = meter.wait(0)
    assert wait == SECOND // 2 - 1
    assert not meter.take(wait - 1)
    assert meter.take(wait)


@given(st.lists(st.integers(0, 300_000), max_size=80), st.integers(1, 20))
def test_a_meter_is_a_token_bucket(gaps: list[int], burst: int) -> None:
    meter, level, last, now = Meter(10.0, burst), float(burst), 0, 0
    for gap in gaps:
        now += gap
        level = min(float(burst), level + (now - last) * 10.0 / SECOND)
        last = now
        # The meter gives a microsecond's worth of credit.
        if meter.take(now):
            assert level >= 1 - 1e-4
            level -= 1
        else:
            assert level < 1


def test_the_doorman_lets_sixty_a_minute_pass_and_counts_the_others() -> None:
    doorman = Doorman(60)
    assert [doorman.knock("a", 5)[0] for _ in range(63)] == [0] * 60 + [1, 2, 3]
    assert doorman.knock("b", 5)[0] == 0
    assert doorman.knock("a", 20 * SECOND) == (4, 40 * SECOND + 5)
    assert doorman.knock("a", 60 * SECOND + 4)[0] == 5
    assert doorman.knock("a", 60 * SECOND + 5) == (0, 60 * SECOND)


def test_a_doorman_without_a_limit_remembers_nobody() -> None:
    doorman = Doorman(None)
    assert all(doorman.knock("a", 0) == (0, 0) for _ in range(100))
    assert len(doorman) == 0


def test_the_doorman_forgets_addresses_whose_minute_is_over() -> None:
    doorman = Doorman(60)
    for turn in range(1000):
        doorman.knock(str(turn), turn * SECOND)
    assert len(doorman) == 60


def test_the_doorman_remembers_only_so_many_addresses() -> None:
    doorman = Doorman(1)
    for turn in range(MAX_ADDRESSES + 100):
        doorman.knock(str(turn), turn)
    assert len(doorman) == MAX_ADDRESSES
    assert doorman.knock("0", MAX_ADDRESSES + 100)[0] == 0
    assert doorman.knock(str(MAX_ADDRESSES), MAX_ADDRESSES + 100)[0] == 1


def test_an_allowance_starts_afresh_with_each_period() -> None:
    allowance = Allowance(2, 10.0)
    assert [allowance.take(now * SECOND) for now in (0, 9, 9)] == [True, True, False]
    assert allowance.used(9 * SECOND) == 2
    assert allowance.wait(9 * SECOND) == SECOND
    assert allowance.used(10 * SECOND) == 0
    assert allowance.take(10 * SECOND)
    assert allowance.wait(10 * SECOND) == 10 * SECOND


def test_an_allowance_without_a_limit_counts() -> None:
    allowance = Allowance(None, 10.0)
    assert all(allowance.take(0) for _ in range(1000))
    assert allowance.used(0) == 1000
