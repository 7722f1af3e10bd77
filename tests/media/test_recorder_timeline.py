"""Where frames belong in a file: arithmetic, without a clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metered_media.recorder_timeline import LOOKAHEAD, Alignment, AudioTimeline, Silence, Sound, VideoTimeline

RATE = 48_000
FRAME = 960
STEP = FRAME / RATE


class File:
    """What a timeline has written: for each stretch where it is, in seconds, and the frame, None for silence."""

    def __init__(self, began: float = 0.0) -> None:
        self.timeline = AudioTimeline(RATE, began)
        self.stretches: list[tuple[float, float, object]] = []
        self._samples = 0

    def take(self, pieces: Iterable[Silence | Sound]) -> None:
        for piece in pieces:
            frame = piece.frame if isinstance(piece, Sound) else None
            start = self._samples / RATE
            self._samples += piece.samples
            self.stretches.append((start, self._samples / RATE, frame))
        assert self._samples == self.timeline.written

    def start_of(self, frame: object) -> float:
        return next(start for start, _, found in self.stretches if found == frame)

    @property
    def silence(self) -> float:
        return sum(end - start for start, end, frame in self.stretches if frame is None)

    @property
    def end(self) -> float:
        return self._samples / RATE


def play(frames: Iterable[tuple[float, float]], until: float, *, began: float = 0.0) -> File:
    """Frames, numbered, as (arrival of its end, time stamp), and a look each 0.2 s, as the thread has it."""
    file = File(began)
    events: list[tuple[float, int, float]] = [
        (arrival, number, stamp) for number, (arrival, stamp) in enumerate(frames)
    ]
    events += [(tick * 0.2, -1, 0.0) for tick in range(int(began / 0.2), int(until / 0.2))]
    for at, number, stamp in sorted(events):
        if number >= 0:
            file.timeline.put(at, stamp, FRAME, number)
        file.take(file.timeline.due(at))
    file.take(file.timeline.rest(until))
    return file


def steady(count: int, *, first: int = 0, offset: float = 0.0) -> Iterator[tuple[float, float]]:
    for number in range(first, first + count):
        yield ((number + 1) * STEP + offset, 7000 + number * STEP)


def test_an_even_track_is_written_as_it_is() -> None:
    file = play(steady(250), 5.0)
    assert file.silence == 0
    assert file.end == 5.0
    assert all(end - start == pytest.approx(STEP) for start, end, _ in file.stretches)


def test_jitter_changes_nothing() -> None:
    dice = random.Random(5)
    late, before = [], 0.0
    for arrival, stamp in steady(500):
        before = max(before, arrival + dice.random() * 0.08)  # one after the other
        late.append((before if stamp > 7000 else arrival, stamp))
    file = play(late, 10.1)
    assert file.silence <= 0.15
    assert len([each for each in file.stretches if each[2] is not None]) == 500
    assert file.start_of(400) == pytest.approx(8.0, abs=0.025)


def test_a_pause_is_silence_if_time_stamps_go_on_over_it() -> None:
    file = play([*steady(100), *steady(100, first=250)], 7.0)
    assert file.start_of(100) == pytest.approx(5.0, abs=0.005)
    assert file.silence == pytest.approx(3.0, abs=0.005)


def test_a_pause_is_silence_if_time_stamps_stand_still_meanwhile() -> None:
    after = [(5.0 + number * STEP + STEP, 7000 + (100 + number) * STEP) for number in range(100)]
    file = play([*steady(100), *after], 7.0)
    assert file.start_of(100) == pytest.approx(5.0, abs=0.005)
    assert file.end == pytest.approx(7.0, abs=0.005)


def test_what_was_only_held_up_goes_where_it_belongs() -> None:
    # Nothing comes for 0.7 s, then all of it at once, faster than it is played.
    frames = [
        (max(arrival, 2.7 + number * 0.001) if arrival > 2 else arrival, stamp)
        for number, (arrival, stamp) in enumerate(steady(250))
    ]
    file = play(frames, 5.0)
    assert file.silence == 0
    assert file.start_of(101) == pytest.approx(101 * STEP, abs=0.005)


def test_time_stamps_that_begin_anew_do_no_harm() -> None:
    again = [(2.0 + (number + 1) * STEP, number * STEP) for number in range(100)]
    ahead = [(4.0 + (number + 1) * STEP, 90_000 + number * STEP) for number in range(50)]
    file = play([*steady(100), *again, *ahead], 5.0)
    assert file.silence == 0
    assert file.end == 5.0


def test_a_track_that_comes_late_begins_late() -> None:
    file = play(steady(100, offset=3.0), 5.0)
    assert file.stretches[0][2] is None
    assert file.start_of(0) == pytest.approx(3.0, abs=0.005)


@pytest.mark.parametrize("drift", [-2e-4, 2e-4])
def test_a_clock_that_runs_otherwise_is_followed(drift: float) -> None:
    # 0.2 ms in a second: 24 ms off after two minutes, if nobody did anything.
    frames = [((number + 1) * STEP, number * STEP * (1 + drift)) for number in range(6000)]
    file = play(frames, 120.0)
    assert file.silence < 0.03
    assert file.start_of(5900) == pytest.approx(5900 * STEP, abs=0.03)
    assert file.end == pytest.approx(120.0, abs=0.03)


def test_two_tracks_with_other_time_stamps_are_together() -> None:
    one = play(steady(200), 4.0)
    other = play([((n + 1) * STEP + 1.5, 123 + n * STEP) for n in range(125)], 4.0)
    assert other.start_of(0) - one.start_of(75) == pytest.approx(0.0, abs=0.005)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.floats(-1e6, 1e6), st.sampled_from([1, 20, 960, 2880])), min_size=1, max_size=60
    )
)
def test_whatever_stamps_say_the_file_is_as_long_as_it_took(given: list[tuple[float, float, int]]) -> None:
    timeline = AudioTimeline(RATE, 0.0)
    now = 0.0
    for gap, stamp, samples in given:
        now += gap
        timeline.put(now, stamp, samples, None)
        pieces = list(timeline.due(now))
        assert all(piece.samples > 0 for piece in pieces)
        assert timeline.written / RATE <= now + 2880 / RATE * 60
        assert timeline.written / RATE >= now - 2 * LOOKAHEAD - 0.2
    list(timeline.rest(now))
    assert timeline.written / RATE >= now - 0.2


def test_a_first_frame_that_was_late_costs_nothing_where_there_is_nothing_else() -> None:
    frames = [(arrival + (0.09 if number == 0 else 0), stamp) for number, (arrival, stamp) in enumerate(steady(100))]
    frames.sort(key=lambda frame: frame[1])
    for alone in (True, False):
        timeline = AudioTimeline(RATE, 0.09, alone=alone)
        for arrival, stamp in frames:
            timeline.put(max(arrival, 0.11), stamp, FRAME, None)
        written = sum(piece.samples for piece in timeline.rest(2.0))
        assert written == 96_000 if alone else written < 96_000  # beside pictures it is squeezed until it fits


def test_frames_without_end_do_not_wait_without_end() -> None:
    timeline = AudioTimeline(RATE, 0.0)
    for number in range(5000):
        timeline.put(number * 1e-5, number * 1e-5, 1, number)
        list(timeline.due(number * 1e-5))
    assert len(timeline._waiting) <= 501


# --- pictures ---


def test_pictures_keep_their_own_times() -> None:
    dice = random.Random(1)
    video = VideoTimeline(90_000, 100.0)
    times = [video.place(100 + n / 30 + (dice.random() * 0.02 if n else 0), 55 + n / 30) for n in range(100)]
    assert times == [n * 3000 for n in range(100)]


def test_a_pause_of_pictures_and_stills_in_it() -> None:
    video = VideoTimeline(1000, 0.0)
    assert video.still(10.0) is None  # nothing to repeat
    assert video.place(0.0, 9.0) == 0
    stills = [at for tick in range(50) if (at := video.still(tick * 0.2)) is not None]
    assert stills == [1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000]
    assert video.place(10.5, 9.03) == 10_500


def test_no_two_pictures_have_one_time() -> None:
    video = VideoTimeline(1000, 0.0)
    times = [video.place(5.0 + n * 1e-6, 1.0 - n) for n in range(20)]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


def test_the_last_picture_stays_until_the_end() -> None:
    video = VideoTimeline(1000, 0.0)
    assert video.last(4.0) is None
    video.place(0.5, 0.0)
    assert video.last(0.6) is None
    assert video.last(4.0) == 3900


def test_a_picture_that_leads() -> None:
    video = VideoTimeline(1000, 50.0)
    assert video.lead() == 0
    assert video.place(53.0, 0.0) == 3000


def test_an_alignment_is_that_of_the_least_delay() -> None:
    alignment = Alignment()
    mapping = alignment.mapping(10.2, 0.0)
    assert alignment.mapping(10.3, 0.2) is mapping
    assert mapping.offset == pytest.approx(10.1)
