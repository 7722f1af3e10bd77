"""How often pictures may leave, over a clock that stands still until it is moved."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_media.video_pacing import VideoPacing


class Hands:
    """A clock."""

    def __init__(self) -> None:
        self.at = 50.0

    def __call__(self) -> float:
        return self.at


def test_one_a_period() -> None:
    clock = Hands()
    pacing = VideoPacing(25, clock)
    dues = []
    for _ in range(100):
        clock.at += max(0.0, pacing.wait())
        dues.append(pacing.leave())
    assert dues == pytest.approx([50 + number / 25 for number in range(100)])


def test_a_source_that_is_slower_is_not_held_back() -> None:
    clock = Hands()
    pacing = VideoPacing(30, clock)
    for _ in range(200):
        clock.at += 1 / 29.97
        assert pacing.wait() <= 1e-9
        pacing.leave()


def test_a_source_that_is_twice_as_fast_is_halved() -> None:
    clock = Hands()
    pacing = VideoPacing(30, clock)
    sent = 0
    for _ in range(600):
        clock.at += 1 / 60
        if pacing.wait() <= 0.002:
            pacing.leave()
            sent += 1
    assert sent == 300


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60))
def test_never_two_at_once(stalls: list[float]) -> None:
    clock = Hands()
    pacing = VideoPacing(10, clock)
    left = []
    for stall in stalls:
        clock.at += max(0.0, pacing.wait()) + stall
        due = pacing.leave()
        left.append((clock.at, due))
        assert -1e-9 <= clock.at - due <= 0.1 + 1e-9
    for (before, one), (after, other) in itertools.pairwise(left):
        assert after - before >= 0.05 - 1e-9
        assert other > one
