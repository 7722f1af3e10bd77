"""One time for all passes, when things are due, and when a lost camera is tried again: arithmetic, without a clock."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metered_media.continuous import BEHIND, Continuous, Playing
from metered_media.healing import DENIED, LONGEST, QUICK, Healing
from metered_proto.entropy import Entropy


def test_a_loop_goes_on_where_the_pass_before_it_ended() -> None:
    times, seen = Continuous(), []
    for _ in range(3):
        times.begin(base=10.0)
        seen += [times.place("video", 10.0 + number / 4, 0.25) for number in range(4)]
    assert seen == [number / 4 for number in range(12)]


def test_sound_and_pictures_stay_together_over_passes() -> None:
    times = Continuous()
    for number in range(10):
        times.begin(base=0.0)
        for at in (0.0, 0.5):
            assert times.place("video", at, 0.5) == pytest.approx(number * 1.1 + at)
            assert times.place("audio", at, 0.6 if at else 0.5) == pytest.approx(number * 1.1 + at)


def test_what_has_no_time_follows_the_last() -> None:
    times = Continuous()
    times.begin()
    assert [times.place("video", None, 0.5) for _ in range(3)] == [0.0, 0.5, 1.0]


def test_a_camera_that_comes_back_goes_on_with_the_clock() -> None:
    times = Continuous(live=True)
    times.begin(0.5)
    assert times.place("video", 1000.0, 0.1) == 0.5
    times.begin(30.0)
    assert times.place("video", 3.0, 0.1) == 30.0


def test_a_clock_that_is_set_leaves_no_hole_and_does_not_run_back() -> None:
    times = Continuous(live=True)
    times.begin(0.0)
    found = [times.place("video", own, 0.1) for own in (5.0, 5.1, 9000.0, 9000.1, 2.0, 2.1)]
    assert found == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


@given(
    st.lists(
        st.tuples(st.sampled_from(["audio", "video"]), st.none() | st.floats(-1e6, 1e6), st.floats(-1, 20)), max_size=30
    ),
    st.booleans(),
)
@settings(max_examples=80)
def test_time_never_runs_back(things: list[tuple[str, float | None, float]], live: bool) -> None:
    times = Continuous(live=live)
    times.begin(0.0)
    placed: dict[str, list[float]] = {"audio": [], "video": []}
    for kind, own, lasts in things:
        placed[kind].append(times.place(kind, own, lasts))
    for found in placed.values():
        assert all(one < other for one, other in itertools.pairwise(found))


def test_things_are_due_in_their_own_time() -> None:
    playing = Playing()
    assert playing.due(3.0, 100.0) == 100.0
    assert playing.due(3.5, 100.1) == 100.5


def test_a_reader_that_is_late_is_waited_for_without_a_burst() -> None:
    playing = Playing()
    playing.due(0.0, 100.0)
    assert playing.due(0.1, 102.0) == 102.0
    assert playing.due(0.2, 102.0) == pytest.approx(102.1)


def test_what_is_far_behind_the_other_is_left_out() -> None:
    playing = Playing()
    for number in range(11):
        playing.due(number / 10, 100.0 + number / 10)
    assert playing.due(0.2, 101.0) is None
    assert playing.due(0.2, 101.0, may_skip=False) is not None
    assert playing.due(1.0 - BEHIND / 2, 101.0) is not None


def test_after_a_rest_it_goes_on_from_there() -> None:
    playing = Playing()
    playing.due(5.0, 100.0)
    playing.rest()
    assert playing.due(5.1, 400.0) == 400.0


def test_a_lost_camera_is_tried_soon_and_then_steadily() -> None:
    healing = Healing(Entropy(1), 10.0)
    tries = [healing.next() for _ in range(40)]
    assert [one.number for one in tries] == list(range(1, 41))
    assert tries[0].after < 0.31
    assert all(one.after <= 1.2 * LONGEST for one in tries)
    # Back within 3 s of its return: the longest pause, and the longest quick try that it interrupts.
    assert {one.timeout for one in tries} == {QUICK, 10.0}
    assert healing.found() == 40
    assert healing.next().after < 0.31


def test_wrong_credentials_are_not_tried_often() -> None:
    assert Healing(Entropy(1), 10.0).next(denied=True).after >= 0.8 * DENIED


def test_a_try_never_takes_longer_than_the_caller_allows() -> None:
    healing = Healing(Entropy(1), 1.0)
    assert {healing.next().timeout for _ in range(8)} == {1.0}
