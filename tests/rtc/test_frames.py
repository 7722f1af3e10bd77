"""Frames of any kind, made fit for encoders."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from av.video.frame import PictureType
from rtc_kit import flat, shade_of

from metered_anyio.rtc.frames import AudioShaper, VideoShaper
from metered_anyio.rtc.timing import AUDIO_CLOCK, SAMPLES

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

    def test_too_large_ones_are_none(self) -> None:
        assert VideoShaper().shape(av.VideoFrame(8192, 2), 1)
        for size in ((8193, 2), (2, 17_000)):
            with pytest.raises(ValueError, match="too large"):
                VideoShaper().shape(av.VideoFrame(*size), 1)


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
