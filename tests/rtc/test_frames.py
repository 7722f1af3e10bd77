"""Frames of any kind, made fit for encoders."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from rtc_kit import flat, shade_of

from metered_anyio.rtc.frames import AudioShaper, VideoShaper
from metered_anyio.rtc.timing import AUDIO_CLOCK, SAMPLES

FORMATS = ["yuv420p", "rgb24", "bgr24", "gray", "yuv422p", "nv12", "rgba", "bgra", "yuv444p", "yuvj420p"]


class TestPictures:
    @pytest.mark.parametrize("size", [(64, 48), (63, 47), (2, 2), (1, 1), (322, 242)])
    @pytest.mark.parametrize("format", FORMATS)
    def test_of_any_format_and_size_come_out_alike(self, format: str, size: tuple[int, int]) -> None:
        frame = flat(170, size, format)
        shaped = VideoShaper().shape(frame)
        assert shaped is not frame
        assert shaped.format.name == "yuv420p"
        assert shaped.width % 2 == shaped.height % 2 == 0
        assert shade_of(shaped) == pytest.approx(170, abs=20 if format == "yuvj420p" else 4)

    @pytest.mark.parametrize("format", ["yuv420p", "rgb24"])
    def test_share_no_pixels_with_the_application(self, format: str) -> None:
        frame = flat(170, (64, 48), format)
        shaped = VideoShaper().shape(frame)
        plane = frame.planes[0]
        plane.update(bytes(plane.buffer_size))
        assert shade_of(shaped) == pytest.approx(170, abs=4)

    @pytest.mark.parametrize(
        ("size", "highest", "expected"),
        [
            ((640, 480), 240, (320, 240)),
            ((1280, 720), 360, (640, 360)),
            ((321, 241), 120, (160, 120)),
            ((640, 480), 720, (640, 480)),
            ((64, 48), 17, (22, 16)),
            ((8000, 16), 16, (8000, 16)),
        ],
    )
    def test_are_no_higher_than_wanted(self, size: tuple[int, int], highest: int, expected: tuple[int, int]) -> None:
        shaped = VideoShaper().shape(flat(170, size), highest)
        assert (shaped.width, shaped.height) == expected
        assert shade_of(shaped) == pytest.approx(170, abs=4)

    def test_too_large_ones_are_none(self) -> None:
        assert VideoShaper().shape(av.VideoFrame(8192, 2))
        for size in ((8193, 2), (2, 17_000)):
            with pytest.raises(ValueError, match="too large"):
                VideoShaper().shape(av.VideoFrame(*size))


class TestSound:
    @pytest.mark.parametrize("format", ["s16", "flt", "s16p", "fltp", "u8", "s32"])
    @pytest.mark.parametrize(
        ("rate", "layout"), [(8000, "mono"), (16_000, "mono"), (44_100, "stereo"), (48_000, "5.1")]
    )
    def test_of_any_kind_comes_out_alike(self, format: str, rate: int, layout: str) -> None:
        shaper = AudioShaper()
        shaped: list[av.AudioFrame] = []
        for number in range(10):
            frame = av.AudioFrame(format, layout, rate // 50)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts, frame.time_base = rate, number * (rate // 50), Fraction(1, rate)
            shaped += shaper.shape(frame)
        assert len(shaped) >= 8
        for frame in shaped:
            assert (frame.format.name, frame.layout.name, frame.sample_rate) == ("s16", "stereo", AUDIO_CLOCK)
            assert frame.samples == SAMPLES

    def test_may_change_midway(self) -> None:
        shaper = AudioShaper()
        out = 0
        for rate in (8000, 48_000, 16_000):
            for number in range(5):
                frame = av.AudioFrame("s16", "mono", rate // 50)
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                frame.sample_rate, frame.pts, frame.time_base = rate, number * (rate // 50), Fraction(1, rate)
                out += len(shaper.shape(frame))
        assert out >= 9

    def test_that_is_as_it_should_be_is_left_alone(self) -> None:
        shaper = AudioShaper()
        frame = av.AudioFrame("s16", "stereo", SAMPLES)
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_CLOCK, 0, Fraction(1, AUDIO_CLOCK)
        assert shaper.shape(frame) == [frame]
        odd = av.AudioFrame("s16", "stereo", 500)
        odd.sample_rate, odd.pts, odd.time_base = AUDIO_CLOCK, SAMPLES, Fraction(1, AUDIO_CLOCK)
        assert shaper.shape(odd) == []
        frame.pts = SAMPLES + 500
        (following,) = shaper.shape(frame)  # behind what is kept of the odd one
        assert following.samples == SAMPLES
        assert following is not frame

    @pytest.mark.parametrize("rate", [0, 1, 999, 10_000_000])
    def test_of_a_rate_that_no_sound_has_is_refused(self, rate: int) -> None:
        frame = av.AudioFrame("s16", "mono", 1000)
        frame.sample_rate = rate
        with pytest.raises(ValueError, match="samples a second"):
            AudioShaper().shape(frame)
