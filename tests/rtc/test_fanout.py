"""One source for many senders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import av
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.video.frame import PictureType
from rtc_kit import Picture, Tone, flat

from metered_anyio.encoding import Encoding
from metered_anyio.logger import ContainedLogger, NoopLogger
from metered_anyio.rtc.encoded import Encoded
from metered_anyio.rtc.encoders import VideoEncoder
from metered_anyio.rtc.fanout import FanOut
from metered_anyio.rtc.frames import VideoShaper
from metered_anyio.rtc.outlet import VIDEO_QUEUE, Feed, Outlet

pytestmark = pytest.mark.anyio


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


class Log(NoopLogger):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, msg: str, ctx: Any = None, /) -> None:
        self.lines.append(msg)


def fan(source: Any, executor: ThreadPoolExecutor, ended: list[str] | None = None, log: Any = None) -> FanOut:
    over: list[str] = [] if ended is None else ended
    return FanOut(source, executor, ContainedLogger(log or NoopLogger()), lambda: over.append("ended"))


async def read(outlet: Outlet, count: int) -> list[Encoded]:
    async with asyncio.timeout(5):
        return [(await outlet.next())[0] for _ in range(count)]


def viewer(out: FanOut, *codecs: str, **options: Any) -> Outlet:
    """Somebody who takes these codecs."""
    outlet = Outlet(out.source.kind)
    outlet.feed_from(Feed(out, Encoding(**options)))
    outlet.open(codecs or (("VP8",) if out.source.kind == "video" else ("opus",)))
    return outlet


async def test_is_read_and_encoded_once_for_all(executor: ThreadPoolExecutor) -> None:
    source = Picture(fps=100)
    out = fan(source, executor)
    outlets = [viewer(out) for _ in range(4)]
    got = await asyncio.gather(*(read(outlet, 20) for outlet in outlets))
    assert source.reads <= 25
    assert len({id(frame) for frames in got for frame in frames}) == 20
    out.close()


async def test_is_read_only_while_somebody_listens(executor: ThreadPoolExecutor, tasks: Any) -> None:
    source = Picture(fps=200)
    out, outlet = fan(source, executor), Outlet("video")
    feed = Feed(out, Encoding())
    outlet.feed_from(feed)
    await asyncio.sleep(0.02)
    assert source.reads == 0  # nobody can be sent to yet
    outlet.open(["VP8"])
    await read(outlet, 2)
    outlet.feed_from(None)
    await asyncio.sleep(0)
    reads = source.reads
    await asyncio.sleep(0.03)
    assert source.reads == reads
    assert source.readyState == "live"
    outlet.feed_from(feed)
    assert (await read(outlet, 2))[0].key
    outlet.stop()
    await tasks()


async def test_a_sender_that_stalls_hurts_nobody(executor: ThreadPoolExecutor) -> None:
    out = fan(Picture(fps=200), executor)
    slow, fast = viewer(out), viewer(out)
    first = (await read(slow, 1))[0]
    await read(fast, 3 * VIDEO_QUEUE)
    assert fast.frames_dropped == 0
    assert slow.frames_dropped >= VIDEO_QUEUE
    later = (await read(slow, 1))[0]
    assert later.key  # it goes on with a complete picture
    assert later.pts > first.pts
    out.close()


async def test_sound_comes_in_packets_of_20_ms(executor: ThreadPoolExecutor) -> None:
    out = fan(Tone(8000), executor)
    frames = await read(viewer(out), 5)
    assert [frame.pts - frames[0].pts for frame in frames] == [0, 960, 1920, 2880, 3840]
    assert all(frame.level == 127 and len(frame.payloads) == 1 for frame in frames)
    out.close()


@pytest.mark.parametrize("error", [MediaStreamError(), OSError("unplugged")])
async def test_the_end_of_a_source_is_told_and_ends_no_sender(executor: ThreadPoolExecutor, error: Exception) -> None:
    class Short(Picture):
        async def recv(self) -> av.VideoFrame:
            if self.reads == 3:
                raise error
            return await super().recv()

    ended: list[str] = []
    log = Log()
    outlet = viewer(fan(Short(fps=200), executor, ended, log))
    await read(outlet, 3)
    await silence(outlet)
    assert ended == ["ended"]
    assert len(log.lines) == (0 if isinstance(error, MediaStreamError) else 1)
    outlet.feed_from(Feed(fan(Picture(fps=100), executor), Encoding()))
    _, at = await outlet.next()
    assert at > 0
    outlet.stop()


async def test_a_source_that_was_broken_off_inside_is_at_its_end(executor: ThreadPoolExecutor) -> None:
    class Cancelled(Picture):
        async def recv(self) -> av.VideoFrame:
            inner = asyncio.create_task(asyncio.sleep(9))
            inner.cancel()
            await inner
            raise AssertionError

    ended: list[str] = []
    await silence(viewer(fan(Cancelled(), executor, ended)))
    assert ended == ["ended"]


async def test_a_source_that_is_stopped_while_it_has_nothing_to_give(executor: ThreadPoolExecutor, tasks: Any) -> None:
    class Stuck(Picture):
        async def recv(self) -> av.VideoFrame:
            if self.reads == 3:
                await asyncio.Event().wait()
            return await super().recv()

    ended: list[str] = []
    source = Stuck(fps=200)
    outlet = viewer(fan(source, executor, ended))
    await read(outlet, 3)
    await asyncio.sleep(0.3)
    assert not ended
    source.stop()
    await asyncio.sleep(0.7)
    assert ended == ["ended"]
    outlet.stop()
    await tasks()


class TestAnotherReader:
    async def test_begins_when_the_one_before_is_gone(self, executor: ThreadPoolExecutor, tasks: Any) -> None:
        class Stubborn(Picture):
            inside = 0

            async def recv(self) -> av.VideoFrame:
                self.inside += 1
                assert self.inside == 1
                try:
                    return await super().recv()
                except asyncio.CancelledError:
                    await asyncio.sleep(0.05)
                    return self._frame  # without a word
                finally:
                    self.inside -= 1

        ended: list[str] = []
        out = fan(Stubborn(fps=50), executor, ended)
        outlet = viewer(out)
        for _ in range(3):
            await read(outlet, 2)
            await asyncio.sleep(0.005)  # it is waiting for the next one
            outlet.feed_from(None)
            outlet.feed_from(Feed(out, Encoding()))
        await read(outlet, 2)
        out.close()
        await asyncio.sleep(0.06)
        await tasks()
        assert not ended

    async def test_does_not_use_what_a_thread_still_uses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        using: set[int] = set()
        shape = VideoShaper.shape

        def slow(shaper: VideoShaper, frame: av.VideoFrame, max_height: int | None = None) -> av.VideoFrame:
            assert id(shaper) not in using
            using.add(id(shaper))
            time.sleep(0.03)
            using.remove(id(shaper))
            return shape(shaper, frame, max_height)

        monkeypatch.setattr(VideoShaper, "shape", slow)
        with ThreadPoolExecutor(4) as executor:
            ended: list[str] = []
            out = fan(Picture(format="rgb24", fps=200), executor, ended)
            outlet = viewer(out)
            await read(outlet, 1)
            for _ in range(5):
                outlet.feed_from(None)
                outlet.feed_from(Feed(out, Encoding()))
                await asyncio.sleep(0.01)
            await read(outlet, 2)
            out.close()
            assert not ended
            assert out.frames_skipped == 0


async def test_what_cannot_be_a_frame_is_the_end(executor: ThreadPoolExecutor) -> None:
    class Odd(Picture):
        async def recv(self) -> Any:
            return "a frame"

    ended: list[str] = []
    await silence(viewer(fan(Odd(), executor, ended)))
    assert ended == ["ended"]


async def test_a_frame_that_nobody_can_use_is_passed_over(executor: ThreadPoolExecutor) -> None:
    class Flawed(Picture):
        async def recv(self) -> av.VideoFrame:
            frame = await super().recv()
            return av.VideoFrame() if self.reads % 2 else frame

    log = Log()
    out = fan(Flawed(fps=200), executor, None, log)
    await read(viewer(out), 4)
    assert out.frames_skipped >= 4
    assert len(log.lines) == 1
    out.close()


async def test_a_source_that_knows_no_time_does_not_take_all_of_ours(executor: ThreadPoolExecutor) -> None:
    class Hasty(MediaStreamTrack):
        kind = "video"
        reads = 0

        async def recv(self) -> av.VideoFrame:
            frame = av.VideoFrame(16, 16)
            frame.pts, frame.time_base = self.reads * 3000, Fraction(1, 90_000)
            self.reads += 1
            return frame

    source = Hasty()
    out = fan(source, executor)
    await read(viewer(out), 1)
    await asyncio.sleep(0.2)
    assert source.reads < 40  # 30 a second, and half a second ahead
    out.close()


async def silence(outlet: Outlet) -> None:
    """Nothing comes any more."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await outlet.next()


class TestEncoding:
    async def test_there_is_one_encoder_a_codec(
        self, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[str] = []
        begin = VideoEncoder._open

        def count(encoder: VideoEncoder, *args: Any) -> Any:
            made.append(encoder.name)
            return begin(encoder, *args)

        monkeypatch.setattr(VideoEncoder, "_open", count)
        out = fan(Picture(fps=100, format="rgb24"), executor)
        viewers = [viewer(out, codec) for codec in ("VP8", "H264", "VP8", "H264")]
        await asyncio.gather(*(read(each, 10) for each in viewers))
        assert sorted(made) == ["libvpx", "libx264"]
        own = [viewer(out, "VP8", shared=False) for _ in range(2)]
        await asyncio.gather(*(read(each, 10) for each in own))
        assert sorted(made) == ["libvpx"] * 3 + ["libx264"]
        out.close()

    async def test_is_what_the_application_wants_if_the_remote_takes_it(self, executor: ThreadPoolExecutor) -> None:
        out = fan(Picture(fps=100), executor)
        wanted = viewer(out, "VP8", "H264", codec="H264")
        other = viewer(out, "VP8", codec="H264")
        await asyncio.gather(read(wanted, 3), read(other, 3))
        assert (wanted.codec, other.codec) == ("H264", "VP8")
        out.close()

    async def test_ends_with_its_last_viewer(self, executor: ThreadPoolExecutor) -> None:
        out = fan(Picture(fps=100), executor)
        stays, goes = viewer(out, "VP8"), viewer(out, "H264")
        await asyncio.gather(read(stays, 3), read(goes, 3))
        assert len(out._desk._lanes) == 2
        goes.stop()
        assert [lane.codec for lane in out._desk._lanes.values()] == ["VP8"]
        out.close()

    async def test_whoever_comes_late_starts_with_a_key_frame(self, executor: ThreadPoolExecutor) -> None:
        out = fan(Picture(fps=50), executor)
        first = viewer(out)
        keys = [frame.key for frame in await read(first, 5)]
        assert keys == [True, False, False, False, False]
        # Within the time in which there is no other: with what was sent since.
        second = viewer(out)
        began = asyncio.get_running_loop().time()
        assert [frame.key for frame in await read(second, 5)] == keys
        assert asyncio.get_running_loop().time() - began < 0.5
        # And later, with one of its own.
        await asyncio.gather(read(first, 40), read(second, 36))
        third = viewer(out)
        assert (await read(third, 1))[0].key
        assert any(frame.key for frame in await read(first, 3))
        out.close()

    async def test_key_frames_are_made_for_whoever_asks_but_not_all_the_time(
        self, executor: ThreadPoolExecutor
    ) -> None:
        out = fan(Picture(fps=100), executor)
        outlet = viewer(out)
        frames = await read(outlet, 5)
        for _ in range(30):
            outlet.ask_key_frame()
            frames += await read(outlet, 5)
        seconds = (frames[-1].pts - frames[0].pts) / 90_000
        assert 2 <= sum(frame.key for frame in frames) <= seconds / 0.5 + 2
        out.close()

    async def test_another_size_is_another_key_frame(self, executor: ThreadPoolExecutor) -> None:
        class Growing(Picture):
            async def recv(self) -> av.VideoFrame:
                frame = await super().recv()
                return flat(90, (128, 96)) if self.reads > 5 else frame

        out = fan(Growing(fps=100), executor)
        outlet = viewer(out)
        assert [frame.key for frame in await read(outlet, 8)] == [True, *[False] * 4, True, False, False]
        out.close()

    async def test_what_a_camera_calls_a_key_frame_is_none(self, executor: ThreadPoolExecutor) -> None:
        class AllIntra(Picture):
            async def recv(self) -> av.VideoFrame:
                frame = await super().recv()
                frame.pict_type = PictureType.I
                return frame

        out = fan(AllIntra(fps=100), executor)
        viewers = [viewer(out, "VP8"), viewer(out, "H264")]
        for frames in await asyncio.gather(*(read(each, 10) for each in viewers)):
            assert [frame.key for frame in frames] == [True, *[False] * 9]
        out.close()

    async def test_no_more_frames_and_no_larger_ones_than_wanted(self, executor: ThreadPoolExecutor) -> None:
        out = fan(Picture(fps=100, size=(320, 240)), executor)
        few, all_of_them = viewer(out, max_fps=20, max_height=120), viewer(out)
        await asyncio.gather(read(few, 10), read(all_of_them, 50))
        assert len(await read(few, 2)) == 2
        decoder = av.CodecContext.create("libvpx", "r")
        whole = viewer(out, max_height=60)
        (frame,) = await read(whole, 1)
        (picture,) = decoder.decode(av.Packet(b"".join(payload[4:] for payload in frame.payloads)))
        assert (picture.width, picture.height) == (80, 60)
        out.close()

    async def test_an_encoder_that_does_not_work_is_replaced(self, executor: ThreadPoolExecutor) -> None:
        if "h264_v4l2m2m" not in av.codecs_available:
            pytest.skip("this FFmpeg has no h264_v4l2m2m")
        log = Log()
        out = fan(Picture(fps=50), executor, None, log)
        outlet = viewer(out, "H264", codec="H264", encoder="h264_v4l2m2m")
        assert (await read(outlet, 5))[0].key
        manner = out.manner(outlet)
        assert manner is not None
        if manner.encoder == "libx264":  # there is no such device here
            assert len(log.lines) == 1
        out.close()

    async def test_one_that_is_too_slow_leaves_pictures_out(
        self, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encode = VideoEncoder.encode

        def slow(encoder: VideoEncoder, *args: Any, **options: Any) -> Any:
            time.sleep(0.05)
            return encode(encoder, *args, **options)

        monkeypatch.setattr(VideoEncoder, "encode", slow)
        source = Picture(fps=40)
        out = fan(source, executor)
        outlet = viewer(out)
        frames = await read(outlet, 20)
        assert outlet.frames_dropped >= 10
        assert frames[-1].pts / 90_000 == pytest.approx(source.reads / 40, abs=0.3)  # and does not fall behind
        out.close()


class TestSound:
    async def test_of_any_codec_is_encoded_once(self, executor: ThreadPoolExecutor) -> None:
        out = fan(Tone(), executor)
        viewers = [viewer(out, codec) for codec in ("opus", "opus", "PCMU", "PCMA", "G722")]
        got = await asyncio.gather(*(read(each, 5) for each in viewers))
        assert got[0] == got[1]
        assert [len(frames[-1].payloads[0]) for frames in got[2:]] == [160, 160, 160]
        assert all(frames[-1].pts - frames[-2].pts == 960 for frames in got)
        out.close()
