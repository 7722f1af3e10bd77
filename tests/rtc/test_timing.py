"""How fast a source may be read, and the steady time of what is sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from metered_anyio.rtc.timing import AHEAD, LATE, LEAP, VIDEO_CLOCK, Cap, Pace, Timeline


class TestTheTimeOfASender:
    def sent(self, *frames: tuple[float, float | None]) -> list[int]:
        """Times in ms of frames that come at some second with a time of their own in seconds; None cuts before it."""
        clock = SimpleNamespace(now=0.0)
        timeline = Timeline(VIDEO_CLOCK, VIDEO_CLOCK // 1000, lambda: clock.now)
        out = []
        for now, own in frames:
            clock.now = now
            if own is None:
                timeline.cut()
                continue
            out.append(timeline.stamp(None if own < 0 else round(own * 1000), Fraction(1, 1000)) // 90)
        return out

    def test_begins_at_zero_and_follows_the_source(self) -> None:
        assert self.sent((1, 7.0), (1.05, 7.04), (1.06, 7.08)) == [0, 40, 80]

    def test_goes_on_when_the_source_is_swapped(self) -> None:
        assert self.sent((1, 7.0), (1.04, 7.04), (1.04, None), (1.24, 0.0), (1.28, 0.04)) == [0, 40, 240, 280]

    def test_goes_on_when_the_source_begins_again_or_jumps(self) -> None:
        assert self.sent((1, 7.0), (1.04, 7.04), (1.08, 0.0), (1.12, 0.04)) == [0, 40, 80, 120]
        assert self.sent((1, 7.0), (1.04, 1000.0), (1.08, 1000.04)) == [0, 40, 80]

    def test_never_stands_still(self) -> None:
        assert self.sent((1, 7.0), (1, 7.0), (1, 7.0)) == [0, 1, 2]

    def test_of_a_source_that_has_none_is_ours(self) -> None:
        assert self.sent((1, -1), (1.04, -1), (1.08, 5.0), (1.2, 5.04)) == [0, 40, 80, 120]

    def test_does_not_run_away_from_ours(self) -> None:
        fast = self.sent(*((number / 30, number / 15) for number in range(300)))
        slow = self.sent(*((number / 30, number / 60) for number in range(300)))
        for number, (fast_at, slow_at) in enumerate(zip(fast, slow, strict=True)):
            assert fast_at <= (number / 30 + LEAP) * 1000 + 1
            assert slow_at >= (number / 30 - LATE) * 1000 - 1

    def test_of_frames_in_bursts_is_ours(self) -> None:
        assert self.sent(*((number // 5 / 10, -1) for number in range(20)))[-5] == 300


class TestThePaceOfASource:
    def read(self, frames: Iterable[tuple[float | None, float]], **frame: Any) -> list[float]:
        """When each frame came, in seconds; each has a time of its own and takes some time to come."""
        clock = SimpleNamespace(now=0.0)
        pace = Pace(lambda: clock.now)
        came = []
        for own, took in frames:
            clock.now += took
            came.append(clock.now)
            pts = None if own is None else round(own * 1_000_000)
            item = SimpleNamespace(pts=pts, time_base=Fraction(1, 1_000_000), **frame)
            clock.now += pace.ahead(item, took)
        return came

    def test_one_that_keeps_time_is_not_held(self) -> None:
        assert self.read((n / 30, 1 / 30) for n in range(90))[-1] == pytest.approx(3, abs=0.01)
        assert self.read((n / 120, 1 / 120) for n in range(360))[-1] == pytest.approx(3, abs=0.01)

    def test_one_that_does_not_may_run_ahead_a_little(self) -> None:
        assert self.read((n / 30, 0) for n in range(300))[-1] == pytest.approx(10 - AHEAD, abs=0.1)
        assert self.read((n / 30, 0.003) for n in range(300))[-1] == pytest.approx(10 - AHEAD, abs=0.1)

    def test_a_gap_in_a_file_is_a_gap(self) -> None:
        assert self.read((n / 30 + (n > 30) * 3, 0) for n in range(90))[-1] == pytest.approx(6 - AHEAD, abs=0.1)

    def test_a_jump_of_one_that_keeps_time_holds_nothing_up(self) -> None:
        for jump in (-3, 0.4, 0.6, 3, 100):
            came = self.read((n / 30 + (n > 30) * jump, 1 / 30) for n in range(90))
            assert max(after - before for before, after in itertools.pairwise(came)) < 0.04, jump
        late = self.read((n / 30 + (n > 30) * 2, 0 if 20 < n < 35 else 1 / 30) for n in range(90))
        assert max(after - before for before, after in itertools.pairwise(late)) < 0.04

    def test_pictures_without_a_time_come_no_faster_than_any_camera(self) -> None:
        assert self.read((None, 0) for _ in range(2400))[-1] == pytest.approx(10 - AHEAD, abs=0.1)
        assert self.read((None, 1 / 120) for _ in range(240))[-1] == pytest.approx(2, abs=0.01)

    def test_sound_without_a_time_lasts_as_long_as_it_does(self) -> None:
        came = self.read(((None, 0) for _ in range(500)), samples=960, sample_rate=48_000)
        assert came[-1] == pytest.approx(10 - AHEAD, abs=0.1)


class TestACap:
    @pytest.mark.parametrize(
        ("fps", "cap", "expected"), [(30, 30, 90), (30, 15, 45), (30, 10, 30), (30, 20, 60), (15, 30, 45), (60, 24, 72)]
    )
    def test_lets_through_so_many_a_second(self, fps: int, cap: int, expected: int) -> None:
        gate = Cap(cap, VIDEO_CLOCK)
        passed = sum(gate.lets_through(number * VIDEO_CLOCK // fps) for number in range(3 * fps))
        assert passed == pytest.approx(expected, abs=2)

    def test_does_not_make_up_for_a_pause(self) -> None:
        gate = Cap(10, 1000)
        times = [0, 50, 100, 5000, 5050, 5100, 5150, 5200]
        assert [at for at in times if gate.lets_through(at)] == [0, 100, 5000, 5100, 5200]
