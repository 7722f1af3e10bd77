"""Frames of sound as arrays of one size."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metered_media.audio_chunking import AudioChunker


def frame(value: int, at: int | None, *, samples: int = 320, rate: int = 16_000, layout: str = "mono") -> av.AudioFrame:
    channels = 1 if layout == "mono" else 2
    made = av.AudioFrame("s16", layout, samples)
    made.planes[0].update(numpy.full(samples * channels, value, dtype=numpy.int16).tobytes())
    made.sample_rate, made.pts = rate, at
    if at is not None:
        made.time_base = Fraction(1, rate)
    return made


def chunks(chunker: AudioChunker, frames: list[av.AudioFrame]) -> list[tuple[float, Any]]:
    found = [chunk for each in frames for chunk in chunker.feed(each)]
    return found + chunker.finish()


def test_all_of_one_size_and_the_last_filled_up() -> None:
    found = chunks(AudioChunker(16_000, "mono", 512, 5), [frame(7, n * 320) for n in range(5)])
    assert [array.shape for _, array in found] == [(512,)] * 4
    assert [position for position, _ in found] == [0.0, 0.032, 0.064, 0.096]
    assert all(array.dtype == numpy.int16 and array.flags.writeable for _, array in found)
    assert found[3][1].tolist() == [7] * 64 + [0] * 448


def test_stereo_has_a_column_a_channel() -> None:
    found = chunks(AudioChunker(16_000, "stereo", 160, 5), [frame(7, 0, layout="stereo")])
    assert [array.shape for _, array in found] == [(160, 2)] * 2
    mixed = chunks(AudioChunker(16_000, "mono", 160, 5), [frame(7, 0, layout="stereo")])
    assert [array.tolist() for _, array in mixed] == [[7] * 160] * 2


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_any_rate(rate: int) -> None:
    frames = [frame(5000, n * rate // 50, samples=rate // 50, rate=rate) for n in range(50)]
    found = chunks(AudioChunker(16_000, "mono", 1600, 5), frames)
    assert len(found) == 10
    assert abs(int(found[4][1][800]) - 5000) < 50


def test_a_gap_is_silent() -> None:
    chunker = AudioChunker(16_000, "mono", 320, 5)
    found = chunks(chunker, [frame(1, 0), frame(2, 320), frame(3, 5 * 320)])
    assert [array[0] for _, array in found] == [1, 2, 0, 0, 0, 3]
    assert [round(position * 50) for position, _ in found] == [0, 1, 2, 3, 4, 5]
    assert chunker.gaps == 1


def test_a_long_gap_is_left_out_and_the_position_tells() -> None:
    found = chunks(AudioChunker(16_000, "mono", 320, 0.1), [frame(1, 0), frame(3, 16_000 * 60)])
    assert [array[0] for _, array in found] == [1, 0, 0, 0, 0, 0, 3]
    assert found[-1][0] == pytest.approx(60)


def test_a_source_that_begins_anew_loses_nothing() -> None:
    found = chunks(AudioChunker(16_000, "mono", 320, 5), [frame(1, 32_000), frame(2, 0), frame(3, 320)])
    assert [array[0] for _, array in found] == [1, 2, 3]


def test_times_that_are_a_little_off_are_no_gap() -> None:
    chunker = AudioChunker(16_000, "mono", 320, 5)
    found = chunks(chunker, [frame(n, n * 320 + (n % 3) * 10) for n in range(1, 20)])
    assert [array[0] for _, array in found] == list(range(1, 20))
    assert chunker.gaps == 0


def test_without_times_there_are_no_gaps() -> None:
    found = chunks(AudioChunker(16_000, "mono", 320, 5), [frame(1, None), frame(2, None)])
    assert [array[0] for _, array in found] == [1, 2]


def test_the_format_may_change() -> None:
    frames = [frame(1000, 0), frame(1000, 960, samples=960, rate=48_000, layout="stereo")]
    found = chunks(AudioChunker(16_000, "mono", 320, 5), frames)
    assert len(found) == 2


def test_the_frames_stay_as_they_are() -> None:
    one = frame(1, 640)
    AudioChunker(48_000, "stereo", 960, 5).feed(one)
    assert (one.pts, one.samples, one.sample_rate) == (640, 320, 16_000)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 2000), st.sampled_from([0, 0, 0, 200, 5000])), min_size=1, max_size=12),
    st.sampled_from([160, 512, 1600]),
)
def test_as_long_as_the_times_say(pieces: list[tuple[int, int]], size: int) -> None:
    chunker = AudioChunker(16_000, "mono", size, 5)
    frames, at = [], 0
    for samples, gap in pieces:
        at += gap if frames else 0
        frames.append(frame(1, at, samples=samples))
        at += samples
    found = chunks(chunker, frames)
    assert len(found) == -(-at // size)
    assert sum(int(array.sum()) for _, array in found) == sum(samples for samples, _ in pieces)
