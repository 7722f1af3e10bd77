"""Sound between the application and the frames, to the sample, without time and loop."""

from __future__ import annotations

import array
import math
import random
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metered_media.audio_pacing import RATE, SAMPLES
from metered_media.audio_queue import SILENCE, AudioQueue
from metered_media.audio_shaping import Sound
from metered_media.events import Cleared, Played

OURS = ("s16", "stereo", RATE)


def raw(data: bytes, layout: str = "mono", rate: int = 16_000) -> Sound:
    return Sound(("s16", layout, rate), len(data) // (2 if layout == "mono" else 4), [memoryview(data)])


def ramp(samples: int, begin: int = 1) -> bytes:
    """Stereo at 48 kHz: each sample has its number, and none is silent."""
    return array.array("h", [(begin + n // 2) % 30_000 + 1 for n in range(samples * 2)]).tobytes()


def sine(samples: int, rate: int) -> bytes:
    return array.array("h", [int(9000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(samples)]).tobytes()


def put(queue: AudioQueue, sound: Sound, most: int = 10**9) -> None:
    while sound.samples and queue.write(sound, most):
        pass


def drain(queue: AudioQueue) -> bytes:
    queue.close()
    parts = []
    while queue.buffered:
        parts.append(queue.frame())
    return b"".join(parts)


def test_what_is_ours_already_comes_out_as_it_went_in() -> None:
    queue = AudioQueue(RATE)
    data = ramp(2500)
    put(queue, raw(data, "stereo", RATE))
    assert queue.buffered == 2500
    out = drain(queue)
    assert out == data + bytes(3 * SAMPLES * 4 - len(data))
    assert (queue.played, queue.position, queue.buffered) == (2500, 2500, 0)
    assert queue.frame() == SILENCE


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_as_long_as_what_went_in_at_any_rate_and_as_loud(rate: int) -> None:
    queue = AudioQueue(10 * RATE)
    samples = rate // 2 + 1
    put(queue, raw(sine(samples, rate), "mono", rate))
    wanted = -(-samples * RATE // rate)
    assert queue.buffered == wanted
    out = array.array("h", drain(queue))
    assert queue.played == wanted
    assert out[0::2] == out[1::2]
    middle = out[4_000:20_000:2]
    assert max(middle) == pytest.approx(9000, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    layout=st.sampled_from(["mono", "stereo"]),
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
)
def test_any_chunks_make_the_same_sound(rate: int, layout: str, seed: int, cuts: list[int]) -> None:
    data = random.Random(seed).randbytes(3000 * (2 if layout == "mono" else 4))
    whole, parts = AudioQueue(10 * RATE), AudioQueue(10 * RATE)
    put(whole, raw(data, layout, rate))
    sound = raw(data, layout, rate)
    at = 0
    for cut in sorted(cuts):
        if cut > at:
            parts.write(sound, cut - at)
            at = cut
    put(parts, sound)
    assert drain(whole) == drain(parts)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(0, 4000), st.sampled_from([8_000, 16_000, 24_000, 48_000])),
            st.tuples(st.just("frame"), st.integers(1, 5), st.none()),
            st.tuples(st.just("clear"), st.none(), st.none()),
        ),
        max_size=25,
    )
)
def test_every_sample_is_buffered_played_or_cleared(steps: list[Any]) -> None:
    queue = AudioQueue(RATE // 4)
    pushed = cleared = marked = 0
    told: list[Any] = []
    for what, number, rate in steps:
        if what == "push":
            region = queue.begin(marked)
            sound = raw(random.Random(number).randbytes(number * 2), "mono", rate)
            before = sound.samples
            put(queue, sound, 480)
            pushed += (before - sound.samples) * RATE // rate
            queue.finish(region, whole=not sound.samples)
            marked += 1
        elif what == "frame":
            for _ in range(number):
                assert len(queue.frame()) == len(SILENCE)
        else:
            cleared += queue.clear()
            assert queue.buffered == 0
        assert queue.buffered <= queue.capacity
        assert queue.buffered + queue.played + cleared == pushed
        assert queue.position == queue.played + cleared
        told, queue.events = told + queue.events, []
    drain(queue)
    told += queue.events
    assert [event.marker for event in told] == list(range(marked))


def test_running_dry_is_silence_and_nothing_is_kept_back() -> None:
    queue = AudioQueue(RATE)
    put(queue, raw(sine(400, 16_000)))  # 1200 samples of ours
    first, second, third = queue.frame(), queue.frame(), queue.frame()
    assert first != SILENCE
    assert second[: 239 * 4] != bytes(239 * 4)
    assert second[240 * 4 :] == bytes(720 * 4)
    assert third == SILENCE
    assert queue.played == 1200


def test_a_producer_that_is_just_in_time_gets_one_frame_of_head_start() -> None:
    queue = AudioQueue(RATE)
    frames = []
    for number in range(20):
        put(queue, raw(sine(16_000, 16_000)[number * 640 : (number + 1) * 640]))
        frames.append(queue.frame())
    assert [number for number, frame in enumerate(frames) if frame == SILENCE] == [1]
    whole = AudioQueue(RATE)
    put(whole, raw(sine(16_000, 16_000)[640:]))
    assert b"".join(frames[2:]) == b"".join(whole.frame() for _ in range(18))  # without a seam


def test_markers_are_exact() -> None:
    queue = AudioQueue(RATE)
    for marker, samples in (("a", 960), ("b", 1), ("c", 0), ("d", 958), ("e", 100)):
        region = queue.begin(marker)
        put(queue, raw(ramp(samples), "stereo", RATE))
        queue.finish(region, whole=True)
    told: list[list[Any]] = []
    for _ in range(3):
        queue.frame()
        told.append(queue.events)
        queue.events = []
    assert told == [
        [Played("a", 960 / RATE)],
        [Played("b", 961 / RATE), Played("c", 961 / RATE), Played("d", 1919 / RATE)],
        [Played("e", 2019 / RATE)],
    ]


def test_the_end_of_a_marker_is_behind_what_the_resampler_looks_ahead_at() -> None:
    queue = AudioQueue(RATE)
    region = queue.begin("word")
    put(queue, raw(sine(640, 16_000)))
    queue.finish(region, whole=True)
    queue.frame()
    assert queue.events == []
    queue.frame()
    assert queue.events == [Played("word", 1920 / RATE)]


def test_cleared_says_how_much_was_heard() -> None:
    queue = AudioQueue(RATE)
    for marker, samples in (("a", 960), ("b", 1920), ("c", 960)):
        region = queue.begin(marker)
        put(queue, raw(ramp(samples), "stereo", RATE))
        queue.finish(region, whole=True)
    queue.frame()
    queue.frame()
    assert queue.clear() == 1920
    assert queue.events == [Played("a", 0.02), Cleared("b", 0.02), Cleared("c", 0.0)]
    region = queue.begin("d")
    put(queue, raw(ramp(960), "stereo", RATE))
    queue.finish(region, whole=True)
    queue.frame()
    assert queue.events[3:] == [Played("d", 0.06)]


@pytest.mark.parametrize("format", ["s16", "s16p", "flt", "fltp", "s32", "u8", "dblp"])
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_frames_of_any_format(format: str, layout: str) -> None:
    frame = av.AudioFrame(format, layout, 4410)
    frame.sample_rate = 44_100
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    queue = AudioQueue(RATE)
    put(queue, Sound.of_frame(frame), 1000)
    assert queue.buffered == 4800
    assert len(drain(queue)) == 5 * len(SILENCE)


def test_formats_may_change() -> None:
    queue = AudioQueue(RATE)
    put(queue, raw(sine(320, 16_000)))
    put(queue, raw(ramp(960), "stereo", RATE))
    put(queue, raw(sine(160, 8_000), "mono", 8_000))
    assert queue.buffered == 2880
    out = drain(queue)
    assert out[SAMPLES * 4 : 2 * SAMPLES * 4] == ramp(960)
