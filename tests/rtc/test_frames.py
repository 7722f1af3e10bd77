"""Frames of any kind, made fit for encoders, and a steady time for what is sent."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import pytest
from av.video.frame import PictureType
from rtc_kit import flat, shade_of

from metered_anyio.rtc.frames import AUDIO_CLOCK, SAMPLES, VIDEO_CLOCK, AudioShaper, Timeline, VideoShaper

FORMATS = ["yuv420p", "rgb24", "bgr24", "gray", "yuv422p", "nv12", "rgba", "bgra", "yuv444p", "yuvj420p"]


class TestPictures:
    @pytest.mark.parametrize("size", [(64, 48), (63, 47), (2, 2), (1, 1), (322, 242)])
    @pytest.mark.parametrize("format", FORMATS)
    def test_of_any_format_and_size_come_out_alike(self, format: str, size: tuple[int, int]) -> None:
        frame = flat(170, size, format)
        frame.pts, frame.time_base = 3000, Fraction(1, 90_000)
        copies = VideoShaper().shape(frame, 3)
        assert len({id(copy) for copy in (*copies, frame)}) == 4
        for copy in copies:
            assert copy.format.name == "yuv420p"
            assert copy.width % 2 == copy.height % 2 == 0
            assert (copy.pts, copy.time_base) == (3000, Fraction(1, 90_000))
            assert shade_of(copy) == pytest.approx(170, abs=20 if format == "yuvj420p" else 4)

    def test_share_no_pixels(self) -> None:
        frame = flat(170, (64, 48))
        one, other = VideoShaper().shape(frame, 2)
        for changed in (frame, one):
            plane = changed.planes[0]
            plane.update(bytes(plane.buffer_size))
        assert shade_of(other) == pytest.approx(170, abs=4)

    def test_are_no_key_frames_of_their_own(self) -> None:
        frame = flat(170, (64, 48))
        frame.pict_type = PictureType.I
        assert [copy.pict_type for copy in VideoShaper().shape(frame, 2)] == [PictureType.NONE] * 2
        assert frame.pict_type == PictureType.I


class TestSound:
    @pytest.mark.parametrize("format", ["s16", "flt", "s16p", "fltp", "u8", "s32"])
    @pytest.mark.parametrize(
        ("rate", "layout"), [(8000, "mono"), (16_000, "mono"), (44_100, "stereo"), (48_000, "5.1")]
    )
    def test_of_any_kind_comes_out_alike(self, format: str, rate: int, layout: str) -> None:
        shaper = AudioShaper()
        one: list[av.AudioFrame] = []
        other: list[av.AudioFrame] = []
        for number in range(10):
            frame = av.AudioFrame(format, layout, rate // 50)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts, frame.time_base = rate, number * (rate // 50), Fraction(1, rate)
            first, second = shaper.shape(frame, 2)
            one += first
            other += second
        assert len(one) == len(other) >= 8
        for frame in (*one, *other):
            assert (frame.format.name, frame.layout.name, frame.sample_rate) == ("s16", "stereo", AUDIO_CLOCK)
            assert frame.samples == SAMPLES
        assert not {id(frame) for frame in one} & {id(frame) for frame in other}

    def test_may_change_midway(self) -> None:
        shaper = AudioShaper()
        out = 0
        for rate in (8000, 48_000, 16_000):
            for number in range(5):
                frame = av.AudioFrame("s16", "mono", rate // 50)
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                frame.sample_rate, frame.pts, frame.time_base = rate, number * (rate // 50), Fraction(1, rate)
                out += sum(len(copy) for copy in shaper.shape(frame, 1))
        assert out >= 9


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
            item: Any = SimpleNamespace(pts=None if own < 0 else round(own * 1000), time_base=Fraction(1, 1000))
            timeline.place(item)
            assert item.time_base == Fraction(1, VIDEO_CLOCK)
            out.append(item.pts // 90)
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
