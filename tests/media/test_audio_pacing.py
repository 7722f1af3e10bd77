"""When frames are due, over a clock that stands still until it is moved."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_media.audio_pacing import CLOSEST, LATEST, RATE, SAMPLES, AudioPacing


class Hands:
    """A clock."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def test_a_day_of_frames_is_exact() -> None:
    clock = Hands(0.0)
    pacing = AudioPacing(clock)
    pacing.leave()
    for number in range(1, 4_320_000, 60_007):
        pacing._next = number * SAMPLES
        clock.at = number * SAMPLES / RATE - 0.005
        assert pacing.wait() == pytest.approx(0.005, abs=1e-9)
        clock.at += pacing.wait()
        assert pacing.leave() == number * SAMPLES
    assert pacing.skipped == 0


def test_the_first_is_due_at_once_and_the_next_20_ms_later() -> None:
    clock = Hands()
    pacing = AudioPacing(clock)
    assert pacing.wait() <= 0
    assert pacing.leave() == 0
    assert pacing.wait() == pytest.approx(0.02)
    clock.at += 0.02
    assert pacing.wait() <= 1e-9
    assert pacing.leave() == SAMPLES


def test_a_small_delay_is_made_good_without_a_burst() -> None:
    clock = Hands()
    pacing = AudioPacing(clock)
    pacing.leave()
    clock.at += 0.07  # 50 ms late
    assert pacing.leave() == SAMPLES
    left = []
    while True:
        wait = pacing.wait()
        assert wait >= CLOSEST - 1e-9
        clock.at += wait
        left.append(pacing.leave())
        if wait > CLOSEST + 1e-9:
            break
    assert left == [SAMPLES * number for number in range(2, 2 + len(left))]
    assert clock.at == pytest.approx(1000 + left[-1] / RATE)
    assert pacing.skipped == 0


@pytest.mark.parametrize(("stall", "frames"), [(0.0801, 3), (1.0, 49), (86_400.019, 4_319_999)])
def test_after_a_stall_time_jumps_and_nothing_bursts(stall: float, frames: int) -> None:
    clock = Hands()
    pacing = AudioPacing(clock)
    pacing.leave()
    clock.at += stall
    pts = pacing.leave()
    assert pacing.skipped == frames
    assert pts == (frames + 1) * SAMPLES
    assert 0 <= stall - pts / RATE < 0.02 + 1e-6
    assert pacing.wait() >= CLOSEST - 1e-9


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=60))
def test_never_a_burst_and_never_away_from_time(stalls: list[float]) -> None:
    clock = Hands(0.0)
    pacing = AudioPacing(clock)
    left: list[tuple[float, int]] = []
    for stall in stalls:
        clock.at += max(0.0, pacing.wait()) + stall
        left.append((clock.at, pacing.leave()))
    for (before, one), (after, other) in itertools.pairwise(left):
        assert after - before >= CLOSEST - 1e-9
        assert other >= one + SAMPLES
        assert (other - one) % SAMPLES == 0
    began = left[0][0]
    assert all(-1e-9 <= at - began - pts / RATE <= LATEST + 1e-9 for at, pts in left)
