"""Sources of packets: what viewers get of them as they are, and what those get who take another codec."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import anyio
import av
import pytest
from aiortc.codecs.h264 import h264_depayload
from aiortc.codecs.opus import OpusDecoder
from aiortc.jitterbuffer import JitterFrame
from rtc_kit import PATIENCE, Picture, Tone, flat, negotiate, shade_of, two_sides

from metered_anyio.encoding import Encoding
from metered_anyio.logger import ContainedLogger, NoopLogger
from metered_anyio.rtc.encoders import AudioEncoder, Unit, VideoEncoder
from metered_anyio.rtc.fanout import FanOut
from metered_anyio.rtc.outlet import Feed, Outlet

pytestmark = pytest.mark.anyio


class Packets(Picture):
    """A picture of `shade` as packets, with a key frame every so often."""

    def __init__(self, codec: str = "H264", *, group: int = 30, fps: float = 100, shade: int = 90) -> None:
        super().__init__(fps=fps)
        self.codec: str | None = codec
        self.asked = 0
        self.packets = True
        self._group = group
        self._shade = shade
        self._encoder = VideoEncoder(codec, None, lambda _, __: None)
        self._made = 0

    def ask_key_frame(self) -> None:
        self.asked += 1

    async def recv(self) -> Any:
        frame = await super().recv()
        pts = frame.pts
        frame = flat(self._shade, (64, 48))
        frame.pts, frame.time_base = pts, Fraction(1, 90_000)
        if not self.packets:
            return frame
        key = self._made % self._group == 0
        self._made += 1
        (unit,) = self._encoder.encode(frame, key=key, bitrate=200_000, most=200_000)
        return packet_of(unit)


def packet_of(unit: Unit) -> av.Packet[Any]:
    packet: av.Packet[Any] = av.Packet(unit.data)
    packet.pts, packet.time_base, packet.is_keyframe = unit.pts, Fraction(1, 90_000), unit.key
    return packet


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def fan(source: Any, executor: ThreadPoolExecutor) -> FanOut:
    return FanOut(source, executor, ContainedLogger(NoopLogger()), lambda: None)


def viewer(out: FanOut, *codecs: str, **options: Any) -> Outlet:
    outlet = Outlet(out.source.kind)
    outlet.feed_from(Feed(out, Encoding(**options)))
    outlet.open(codecs)
    return outlet


async def read(outlet: Outlet, count: int) -> list[Any]:
    async with asyncio.timeout(5):
        return [(await outlet.next())[0] for _ in range(count)]


class TestViewers:
    async def test_of_the_same_codec_get_packets_as_they_are(self, executor: ThreadPoolExecutor) -> None:
        out = fan(Packets(), executor)
        one, other = viewer(out, "VP8", "H264"), viewer(out, "H264")
        first, second = await asyncio.gather(read(one, 10), read(other, 10))
        assert first == second
        assert first[0].key
        assert one.codec == "H264"
        decoder = av.CodecContext.create("h264", "r")
        for frame in first:
            whole = b"".join(h264_depayload(payload) for payload in frame.payloads)
            for picture in decoder.decode(av.Packet(whole)):
                assert shade_of(picture) == pytest.approx(90, abs=4)
        manner = out.manner(one)
        assert manner is not None
        assert manner.passthrough
        assert manner.encoder is None
        out.close()

    async def test_who_come_late_start_at_once_with_what_is_kept(self, executor: ThreadPoolExecutor) -> None:
        source = Packets(group=1000)
        out = fan(source, executor)
        early = viewer(out, "H264")
        sent = await read(early, 60)
        late = viewer(out, "H264")
        assert await read(late, 50) == sent[:50]
        following, kept = await asyncio.gather(read(early, 20), read(late, 30))
        assert kept[:10] == sent[50:]
        assert kept[10:] == following  # and it goes on with what everybody gets
        assert source.asked == 0
        out.close()

    async def test_who_come_late_see_the_past_in_no_time(self, executor: ThreadPoolExecutor) -> None:
        out = fan(Packets(group=1000, fps=50), executor)
        early = viewer(out, "H264")
        await read(early, 40)
        late = viewer(out, "H264")
        times = [(await late.next())[1] for _ in range(40)]
        assert times == sorted(set(times))
        assert times[-1] - times[0] < 0.2 * 90_000
        later = (await late.next())[1]
        assert 0 < later - times[-1] < 0.2 * 90_000
        out.close()

    async def test_who_lost_something_get_what_is_kept_once_more(
        self, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("metered_anyio.rtc.video_desk.AGAIN", 0.2)
        source = Packets(group=1000)
        out = fan(source, executor)
        outlet = viewer(out, "H264")
        sent = await read(outlet, 20)
        await asyncio.sleep(0.6)
        for _ in range(10):
            outlet.ask_key_frame()
        again = await read(outlet, 20)
        assert again == sent
        assert source.asked == 1  # it may be asked for once in a while only
        out.close()

    async def test_of_another_codec_get_it_encoded_anew(self, executor: ThreadPoolExecutor) -> None:
        out = fan(Packets(group=10), executor)
        viewers = [viewer(out, "H264"), viewer(out, "VP8"), viewer(out, "VP8")]
        got = await asyncio.gather(*(read(each, 20) for each in viewers))
        assert got[1] == got[2]
        decoder = av.CodecContext.create("libvpx", "r")
        for frame in got[1]:
            (picture,) = decoder.decode(av.Packet(b"".join(payload[4:] for payload in frame.payloads)))
            assert shade_of(picture) == pytest.approx(90, abs=6)
        assert sum(frame.key for frame in got[1]) == 1  # the source's key frames are not its own
        assert out._desk._decoder is not None
        for each in viewers[1:]:
            each.stop()
        await read(viewers[0], 3)
        assert out._desk._decoder is None
        out.close()

    async def test_of_another_codec_need_not_wait_for_a_key_frame(self, executor: ThreadPoolExecutor) -> None:
        out = fan(Packets(group=1000), executor)
        await read(viewer(out, "H264"), 30)
        assert (await read(viewer(out, "VP8"), 3))[0].key
        out.close()


async def test_a_source_may_go_over_to_frames_and_back(executor: ThreadPoolExecutor) -> None:
    source = Packets(group=10)
    out = fan(source, executor)
    outlet = viewer(out, "VP8", "H264")
    frames = await read(outlet, 15)
    source.packets, source.codec = False, None
    frames += await read(outlet, 15)
    source.packets, source.codec = True, "H264"
    frames += await read(outlet, 25)
    assert outlet.codec == "H264"
    decoder = av.CodecContext.create("h264", "r")
    origins: list[object] = []
    for frame in frames:
        if not origins or frame.origin != origins[-1]:
            assert frame.key  # what comes from elsewhere cannot go on where the other ended
            origins.append(frame.origin)
        decoder.decode(av.Packet(b"".join(h264_depayload(payload) for payload in frame.payloads)))
    assert len(origins) == 3
    out.close()


async def test_too_much_of_it_is_not_kept(executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_anyio.rtc.video_desk.GROUP_COUNT", 20)
    source = Packets(group=60)
    out = fan(source, executor)
    early = viewer(out, "H264")
    await read(early, 30)
    late = viewer(out, "H264")
    assert (await read(late, 1))[0].key
    assert source.asked == 1  # not at once: there was one just before
    out.close()


async def test_nothing_of_before_is_sent_when_it_is_read_again(executor: ThreadPoolExecutor) -> None:
    out = fan(Packets(group=20), executor)
    outlet = viewer(out, "H264")
    before = await read(outlet, 25)
    outlet.feed_from(None)
    await asyncio.sleep(0.1)
    outlet.feed_from(Feed(out, Encoding()))
    after = await read(outlet, 2)
    assert after[0].key
    assert after[0] not in before
    out.close()


async def test_a_player_that_does_not_name_its_codec(executor: ThreadPoolExecutor) -> None:
    source = Packets()
    del source.codec
    out = fan(source, executor)
    outlet = viewer(out, "VP8", "H264")
    await read(outlet, 3)
    assert outlet.codec == "H264"
    out.close()


class Opus(Tone):
    codec = "opus"

    def __init__(self) -> None:
        super().__init__(layout="stereo")
        self._encoder = AudioEncoder("opus", None)

    async def recv(self) -> Any:
        (unit,) = self._encoder.encode(await super().recv())
        packet: av.Packet[Any] = av.Packet(unit.data)
        packet.pts, packet.time_base = unit.pts, Fraction(1, 48_000)
        return packet


async def test_sound_is_passed_on_and_encoded_for_others(executor: ThreadPoolExecutor) -> None:
    out = fan(Opus(), executor)
    same, other = viewer(out, "opus"), viewer(out, "PCMU")
    passed, made = await asyncio.gather(read(same, 5), read(other, 5))
    assert [frame.pts for frame in passed] == [0, 960, 1920, 2880, 3840]
    assert OpusDecoder().decode(JitterFrame(data=passed[0].payloads[0], timestamp=0))
    assert all(len(frame.payloads[0]) == 160 for frame in made[1:])
    out.close()


async def test_packets_of_sound_need_no_times(executor: ThreadPoolExecutor) -> None:
    class Timeless(Opus):
        async def recv(self) -> Any:
            return av.Packet(bytes(await super().recv()))

    out = fan(Timeless(), executor)
    for outlet in (viewer(out, "opus"), viewer(out, "PCMU")):
        async with asyncio.timeout(20):
            times = [(await outlet.next())[1] for _ in range(3)]
        assert times == sorted(set(times))
    out.close()


class TestInACall:
    @pytest.mark.parametrize("codec", ["H264", "VP8"])
    async def test_packets_are_seen(self, codec: str) -> None:
        async with two_sides() as (a, b):
            a.add(Packets(codec, fps=30, shade=120))
            await negotiate(a, b)
            with anyio.fail_after(PATIENCE):
                for _ in range(10):
                    assert shade_of(await b.received("0").recv()) == pytest.approx(120, abs=6)
            (stats,) = (await a.engine.stats(a.pc)).tracks
            assert (stats.codec, stats.passthrough, stats.encoder, stats.key_frames) == (codec, True, None, 1)

    async def test_the_side_that_answers_sends_packets_too(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture(60))
            b.add(Packets("H264", fps=30, shade=120))
            _, answer = await negotiate(a, b)
            assert "H264" in answer.sdp.split("a=rtpmap:")[1].splitlines()[0]
            with anyio.fail_after(PATIENCE):
                assert shade_of(await a.received("0").recv()) == pytest.approx(120, abs=6)
                assert shade_of(await b.received("0").recv()) == pytest.approx(60, abs=6)
            (stats,) = [each for each in (await b.engine.stats(b.pc)).tracks if each.direction == "send"]
            assert (stats.codec, stats.passthrough) == ("H264", True)

    async def test_what_is_wanted_is_offered_first_and_sent(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture(60), encoding=Encoding(codec="H264"))
            a.add(Tone(), encoding=Encoding(codec="PCMU"))
            offer, answer = await negotiate(a, b)
            for description in (offer, answer):
                video, audio = sorted(description.sdp.split("m=")[1:], key=lambda section: section[0] != "v")
                codecs = [line for line in video.splitlines() if line.startswith("a=rtpmap")]
                assert "H264" in codecs[0]
                assert any("VP8" in line for line in codecs)  # whoever does not know it gets what it knows
                parameters = next(line for line in video.splitlines() if line.startswith("a=fmtp"))
                assert "profile-level-id=42e01f" in parameters
                assert "packetization-mode=1" in parameters
                assert "PCMU" in next(line for line in audio.splitlines() if line.startswith("a=rtpmap"))
            with anyio.fail_after(PATIENCE):
                assert shade_of(await b.received("0").recv()) == pytest.approx(60, abs=6)
                await b.received("1").recv()
            stats = {each.kind: each for each in (await a.engine.stats(a.pc)).tracks}
            assert (stats["video"].codec, stats["video"].encoder, stats["video"].shared) == ("H264", "libx264", True)
            assert stats["video"].target_bitrate
            assert stats["audio"].codec == "PCMU"
            again, _ = await negotiate(a, b)  # nothing is called by another name
            assert [line for line in again.sdp.splitlines() if "rtpmap" in line] == [
                line for line in offer.sdp.splitlines() if "rtpmap" in line
            ]
