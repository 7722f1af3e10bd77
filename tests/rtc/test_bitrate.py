"""What encoders are told to make, and what viewers get who can take too little."""

from __future__ import annotations

import pytest

from metered_anyio.rtc.bitrate import Governor, Ration, least_bitrate, usual_bitrate

VGA = (640, 480)


def run(governor: Governor, seconds: float, start: float = 0.0, size: tuple[int, int] = VGA) -> list[int]:
    """What it says at thirty frames a second."""
    return [governor.target(*size, start + number / 30) for number in range(int(seconds * 30))]


class TestWhatIsUsual:
    def test_for_a_picture(self) -> None:
        assert usual_bitrate("VP8", *VGA) == 1_700_000
        assert usual_bitrate("H264", *VGA) == 1_400_000
        assert 3_000_000 < usual_bitrate("VP8", 1280, 720) < 4_000_000
        assert usual_bitrate("VP8", 16, 16) > 0

    def test_is_what_it_begins_with(self) -> None:
        assert Governor("VP8", None, live=False).target(*VGA, 0) == 1_700_000
        assert Governor("VP8", 20_000_000, live=False).target(*VGA, 0) == 1_700_000  # nobody knows the way yet
        assert Governor("VP8", 300_000, live=False).target(*VGA, 0) == 300_000


class TestViewers:
    def test_the_slowest_counts_at_once(self) -> None:
        governor = Governor("H264", None, live=True)
        run(governor, 1)
        governor.estimate("fast", 5_000_000)
        governor.estimate("slow", 600_000)
        assert governor.target(*VGA, 1) == pytest.approx(570_000)

    def test_it_is_told_whether_one_of_them_holds_it_down(self) -> None:
        governor = Governor("VP8", 3_000_000, live=False)
        run(governor, 1)
        assert not governor.is_held  # below what is allowed, but only because it has just begun
        governor.estimate("slow", 600_000)
        run(governor, 1, 1)
        assert governor.is_held
        governor.forget("slow")
        run(governor, 1, 2)
        assert not governor.is_held

    @pytest.mark.parametrize("live", [True, False])
    def test_when_it_is_gone_the_bitrate_rises_slowly(self, live: bool) -> None:
        governor = Governor("H264", None, live=live)
        governor.estimate("fast", 5_000_000)
        governor.estimate("slow", 600_000)
        assert run(governor, 1)[-1] == 570_000
        governor.forget("slow")
        targets = run(governor, 30, 1)
        assert targets == sorted(targets)
        assert targets[60] < 800_000
        assert targets[-1] == 1_400_000
        # Each step of an encoder that cannot be told is another key frame.
        assert len(set(targets)) <= (25 if live else 6)

    def test_it_goes_no_higher_than_is_allowed(self) -> None:
        governor = Governor("VP8", 2_700_000, live=False)
        governor.estimate("viewer", 50_000_000)
        targets = run(governor, 30)
        assert targets[0] == 1_700_000
        assert max(targets) == targets[-1] <= 2_700_000
        assert targets[-1] > 2_400_000

    def test_small_changes_are_none_for_an_encoder_that_cannot_be_told(self) -> None:
        governor = Governor("VP8", None, live=False)
        targets = set()
        for number in range(100):
            governor.estimate("viewer", 1_650_000 + 100_000 * (number % 2))
            targets |= set(run(governor, 0.5, number / 2))
        assert len(targets) == 1

    def test_one_that_can_take_next_to_nothing_does_not_ruin_the_others(self) -> None:
        governor = Governor("VP8", None, live=False)
        run(governor, 1)
        governor.estimate("good", 5_000_000)
        governor.estimate("bad", 50_000)
        assert governor.is_short("bad")
        assert not governor.is_short("good")
        assert run(governor, 5, 1)[-1] == 1_700_000

    def test_it_never_goes_below_what_a_picture_needs(self) -> None:
        governor = Governor("VP8", None, live=False)
        run(governor, 1)
        governor.estimate("weak", least_bitrate(*VGA) * 0.6)
        assert not governor.is_short("weak")
        assert run(governor, 5, 1)[-1] == least_bitrate(*VGA)

    def test_another_size_begins_anew(self) -> None:
        governor = Governor("VP8", None, live=False)
        run(governor, 1)
        assert governor.target(1280, 720, 1) == usual_bitrate("VP8", 1280, 720)

    @pytest.mark.parametrize("estimate", [0.0, -1.0, 1e18])
    def test_whatever_a_remote_says_there_is_an_answer(self, estimate: float) -> None:
        governor = Governor("VP8", None, live=False)
        run(governor, 1)
        governor.estimate("odd", estimate)
        assert least_bitrate(*VGA) <= run(governor, 3, 1)[-1] <= 1_700_000


class TestARation:
    def test_is_so_many_bytes_in_the_long_run(self) -> None:
        ration = Ration(80_000, 0)
        sent = sum(1000 for number in range(3000) if ration.allows(1000, number / 30))
        assert sent * 8 / 100 == pytest.approx(80_000, rel=0.1)

    def test_is_saved_up_for_a_key_frame(self) -> None:
        ration = Ration(80_000, 0)
        assert ration.is_full(0)
        assert ration.allows(30_000, 0)
        assert not ration.allows(1, 0.1)
        assert not ration.is_full(1)
        assert ration.is_full(10)

    def test_may_change(self) -> None:
        ration = Ration(80_000, 0)
        assert ration.allows(30_000, 0)
        ration.change(8_000_000, 0)
        assert ration.allows(1, 0.1)
