"""Calls between two engines: offers, answers, candidates, tracks, over real sockets."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from rtc_kit import PATIENCE, Picture, Side, Tone, negotiate, shade_of, two_sides

from metered_anyio.rtc.encoders import VideoEncoder
from metered_proto.errors import PeerConnectionError
from metered_proto.rtc.words import CloseConnection, CountReceived, MakeAnswer, MakeOffer, SwapSender, TakeAnswer
from metered_proto.wire.sdp import read_sdp, track_for_mid

pytestmark = pytest.mark.anyio


async def shade(side: Side, mid: str) -> int:
    return shade_of(await side.received(mid).recv())


async def until_shade(side: Side, mid: str, wanted: int) -> None:
    """What was on its way comes first."""
    for _ in range(30):
        if await shade(side, mid) == pytest.approx(wanted, abs=6):
            return
    raise AssertionError(await shade(side, mid))


class TestACall:
    async def test_brings_sound_and_pictures_both_ways(self, tasks: Any) -> None:
        async with two_sides() as (a, b):
            a.add(Picture(200))
            a.add(Tone())
            b.add(Picture(50))
            b.add(Tone())
            offer, answer = await negotiate(a, b)
            assert offer.complete
            assert not answer.unfitted
            assert await shade(b, "0") == pytest.approx(200, abs=6)
            assert await shade(a, "0") == pytest.approx(50, abs=6)
            for side in (a, b):
                frame = await side.received("1").recv()
                assert (frame.sample_rate, frame.layout.name) == (48_000, "stereo")
                assert side.states == ["connecting", "connected"]
        await tasks()

    async def test_comes_to_its_end_once(self, tasks: Any) -> None:
        async with two_sides() as (a, b):
            a.add(Picture())
            await negotiate(a, b)
            await a.up()
            await b.up()
            track = b.received("0")
            a.close()
            await b.until(lambda: "closed" in b.states)
            assert b.states == ["connecting", "connected", "closed"]
            assert track.readyState == "live"  # that is for the room to say
            b.close()
            assert track.readyState == "ended"
            assert a.states == ["connecting", "connected"]
        await tasks()

    async def test_with_nothing_but_a_wish_to_receive(self) -> None:
        async with two_sides() as (a, b):
            b.add(Picture(90))
            _, answer = await negotiate(a, b, receive=("audio", "video"))
            assert not answer.unfitted
            assert await shade(a, "1") == pytest.approx(90, abs=6)


class TestSilence:
    async def test_is_noticed(self, monkeypatch: pytest.MonkeyPatch, tasks: Any) -> None:
        monkeypatch.setattr("metered_anyio.rtc.connection.SILENCE", 0.3)
        async with two_sides() as (a, b):
            a.add(Picture())
            track = a.tracks[0]
            await negotiate(a, b)
            await shade(b, "0")
            await a.engine.work(SwapSender(a.pc, track.key, None))
            await b.until(lambda: b.states[-1] == "disconnected")
            await a.engine.work(SwapSender(a.pc, track.key, track))
            a.tracks.clear()
            await b.until(lambda: b.states[-1] == "connected")
        await tasks()


class TestAPictureThatTheEncoderRefuses:
    async def test_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        contexts: list[Any] = []
        begin = VideoEncoder._open

        def refuse(encoder: VideoEncoder, *args: Any) -> Any:
            if len(contexts) < 3:
                contexts.append(begin(encoder, *args))
                raise ValueError(args)
            return begin(encoder, *args)

        monkeypatch.setattr(VideoEncoder, "_open", refuse)
        async with two_sides() as (a, b):
            a.add(Picture(90, fps=60))
            await negotiate(a, b)
            with anyio.fail_after(PATIENCE):
                for _ in range(10):
                    assert await shade(b, "0") == pytest.approx(90, abs=6)
        assert len({id(context) for context in contexts}) == 3  # none is used again


class TestTracks:
    async def test_each_section_has_its_own_stream_and_track(self) -> None:
        async with two_sides() as (a, b):
            tracks = [
                a.add(Picture(60), "cam"),
                a.add(Tone(), "cam"),
                a.add(Picture(160), "screen"),
                a.add(Tone(), None),
            ]
            offer, _ = await negotiate(a, b)
            facts = read_sdp(offer.sdp)
            for mid, track in zip("0123", tracks, strict=True):
                assert track_for_mid(facts, mid) == (track.stream_id, track.track_id)

    async def test_camera_microphone_and_screen_both_ways_in_any_order(self) -> None:
        async with two_sides() as (a, b):
            a.add(Tone(), "cam")
            a.add(Picture(60), "cam")
            a.add(Picture(120), "screen")
            b.add(Picture(180), "screen")
            b.add(Picture(240), "cam")
            b.add(Tone(), "cam")
            _, answer = await negotiate(a, b)
            assert not answer.unfitted
            assert [await shade(b, mid) for mid in "12"] == pytest.approx([60, 120], abs=8)
            assert [await shade(a, mid) for mid in "12"] == pytest.approx([180, 240], abs=8)

    async def test_what_does_not_fit_the_answer_waits_for_an_offer(self) -> None:
        async with two_sides() as (a, b):
            a.add(Tone())
            b.add(Picture(70))
            _, answer = await negotiate(a, b)
            assert answer.unfitted
            await negotiate(b, a)
            assert await shade(a, "1") == pytest.approx(70, abs=6)

    async def test_a_track_with_metadata_has_a_section_of_its_own(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture(20))
            b.add(Picture(220), metadata={"role": "camera"})
            _, answer = await negotiate(a, b)
            assert answer.unfitted
            assert read_sdp(answer.sdp).media[0].direction == "recvonly"
            await negotiate(b, a)
            assert await shade(a, "1") == pytest.approx(220, abs=6)
            assert await shade(b, "0") == pytest.approx(20, abs=6)

    async def test_is_added_and_removed_in_mid_call(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture(60))
            await negotiate(a, b)
            await shade(b, "0")
            first = b.received("0")
            camera = a.tracks.pop()
            a.add(Picture(160))
            offer, _ = await negotiate(a, b)
            a.engine.withdraw_track(camera.key)
            assert [section.direction for section in read_sdp(offer.sdp).media] == ["recvonly", "sendrecv"]
            assert first.readyState == "ended"
            await until_shade(b, "1", 160)

    async def test_a_section_is_not_used_again_unless_there_are_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with two_sides() as (a, b):
            a.add(Picture())
            await negotiate(a, b)
            a.tracks.clear()
            await negotiate(a, b)
            a.add(Picture())
            offer, _ = await negotiate(a, b)
            assert [section.direction for section in read_sdp(offer.sdp).media] == ["recvonly", "sendrecv"]
        monkeypatch.setattr("metered_anyio.rtc.senders.RESTING", 1)
        async with two_sides() as (a, b):
            a.add(Picture(60))
            await negotiate(a, b)
            await shade(b, "0")
            a.tracks.clear()
            await negotiate(a, b)
            a.add(Picture(160))
            offer, _ = await negotiate(a, b)
            assert len(read_sdp(offer.sdp).media) == 1
            await until_shade(b, "0", 160)

    async def test_takes_over_no_section_in_an_answer(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture())
            await negotiate(a, b)
            a.tracks.clear()
            await negotiate(a, b)
            a.add(Picture(), "new", {"role": "camera"})
            b.add(Tone())
            _, answer = await negotiate(b, a)
            assert answer.unfitted
            assert [section.direction for section in read_sdp(answer.sdp).media] == ["inactive", "recvonly"]

    async def test_is_swapped_without_a_negotiation(self) -> None:
        async with two_sides() as (a, b):
            camera, tone = Picture(60), a.add(Tone())
            old = a.add(camera)
            new = a.add(Picture(160, (96, 64)))
            a.tracks = [tone, old]
            await negotiate(a, b)
            await shade(b, "1")
            await a.engine.work(SwapSender(a.pc, old.key, new))
            await until_shade(b, "1", 160)
            reads = camera.reads
            await b.received("1").recv()
            assert camera.reads == reads
            await a.engine.work(SwapSender(a.pc, new.key, None))
            assert a.states == ["connecting", "connected"]


class TestAReoffer:
    @pytest.mark.parametrize("metadata", [None, {"role": "screen"}])
    async def test_gives_way_to_one_of_the_remote(self, metadata: Any) -> None:
        async with two_sides() as (a, b):
            a.add(Picture(40))
            await negotiate(a, b)
            assert await shade(b, "0") == pytest.approx(40, abs=6)
            a.add(Picture(120), "screen", metadata)
            await a.offer()  # which the remote never sees
            b.add(Tone())
            b.add(Picture(200), "other", {"role": "camera"})
            _, answer = await negotiate(b, a)
            assert answer.unfitted is (metadata is not None)
            _, answer = await negotiate(a, b)
            assert not answer.unfitted
            assert await shade(a, "2") == pytest.approx(200, abs=6)
            await until_shade(b, "2" if metadata is None else "3", 120)
            assert a.states == b.states == ["connecting", "connected"]

    async def test_that_was_made_twice_is_one(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture(40))
            await negotiate(a, b)
            a.add(Tone())
            await a.offer()
            a.add(Picture(120))
            offer, _ = await negotiate(a, b)
            assert [section.kind for section in read_sdp(offer.sdp).media] == ["video", "audio", "video"]
            assert await shade(b, "2") == pytest.approx(120, abs=6)

    async def test_with_a_channel_that_gave_way_still_opens_it(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture(40))
            await negotiate(a, b)
            channel = a.channel()
            await a.offer()
            b.add(Tone())
            _, answer = await negotiate(b, a)
            assert answer.unfitted
            await negotiate(a, b)
            await a.until(lambda: channel.ready_state == "open")

    async def test_keeps_what_was_negotiated(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture())
            a.add(Tone())
            offer, _ = await negotiate(a, b)
            b.add(Picture())
            b.add(Picture())
            again, _ = await negotiate(b, a)
            before, after = read_sdp(offer.sdp).media, read_sdp(again.sdp).media
            assert [section.mid for section in after] == ["0", "1", "2"]
            for old, new in zip(before, after, strict=False):
                assert old.extensions == new.extensions
                assert old.codecs == new.codecs
            assert after[2].codecs == before[0].codecs
            assert after[2].extensions == before[0].extensions

    async def test_from_a_new_connection_has_the_sections_of_the_old_one(self) -> None:
        async with two_sides() as (a, b):
            a.channel()
            a.add(Tone())
            a.add(Picture(40))
            b.add(Picture(80))
            await negotiate(b, a)
            offer, answer = await negotiate(a, b)
            assert [section.mid for section in read_sdp(offer.sdp).media] == ["0", "1", "2"]
            await b.up()
            old = a.sdp
            a.close()
            b.close()
            a.open()
            b.open()
            again, _ = await negotiate(a, b, like=old)
            before, after = read_sdp(answer.sdp).media, read_sdp(again.sdp).media
            for one, other in zip(before, after, strict=True):
                assert (one.kind, one.mid, one.extensions) == (other.kind, other.mid, other.extensions)
            assert read_sdp(again.sdp).media[0].setup == "active"
            assert await shade(b, "0") == pytest.approx(40, abs=6)
            assert await shade(a, "0") == pytest.approx(80, abs=6)

    async def test_from_a_new_connection_gives_each_track_its_old_section(self) -> None:
        async with two_sides() as (a, b):
            one, other = a.add(Picture(), "one", {"n": 1}), a.add(Picture(), "other", {"n": 2})
            await negotiate(a, b)
            like = a.sdp
            a.close()
            b.close()
            a.open()
            b.open()
            new = a.add(Picture(), "new", {"n": 3})
            a.tracks = [new, other]
            offer, _ = await negotiate(a, b, like=like)
            facts = read_sdp(offer.sdp)
            assert [section.direction for section in facts.media] == ["recvonly", "sendrecv", "sendrecv"]
            assert track_for_mid(facts, "1") == ("other", other.track_id)
            assert track_for_mid(facts, "2") == ("new", new.track_id)
            assert one.track_id not in offer.sdp


class TestWhatIsRefused:
    async def test_a_swap_for_what_is_not_there(self) -> None:
        async with two_sides() as (a, b):
            old = a.add(Picture())
            new = a.add(Picture())
            await negotiate(a, b)
            a.engine.withdraw_track(new.key)
            with pytest.raises(PeerConnectionError, match="no source"):
                await a.engine.work(SwapSender(a.pc, old.key, new))

    async def test_work_on_a_connection_that_is_not_there(self) -> None:
        async with two_sides() as (a, _):
            a.order(CloseConnection(a.pc))
            for work in (MakeOffer(a.pc, ()), MakeAnswer(a.pc, "", ()), TakeAnswer(a.pc, ""), CountReceived(a.pc)):
                with pytest.raises(PeerConnectionError):
                    await a.engine.work(work)

    @pytest.mark.parametrize(
        "sdp", ["", "v=0", "m=video", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n", "a=ice-pwd:SECRET"]
    )
    async def test_junk_instead_of_a_description(self, sdp: str) -> None:
        async with two_sides() as (a, _):
            with pytest.raises(PeerConnectionError) as caught:
                await a.engine.work(MakeAnswer(a.pc, sdp, ()))
            assert "SECRET" not in str(caught.value)

    async def test_an_answer_to_nothing(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture())
            _, answer = await negotiate(a, b)
            with pytest.raises(PeerConnectionError):
                await a.engine.work(TakeAnswer(a.pc, answer.sdp))
            await b.up()

    async def test_a_section_that_was_rejected_stays_so(self) -> None:
        async with two_sides() as (a, b):
            a.add(Picture(40))
            a.add(Picture(80))
            offer = await a.offer()
            head, first, second = offer.sdp.split("m=video")
            port, rest = second.strip().split(" ", 1)
            assert port != "0"
            cut = "m=video".join([head, first, " 0 " + rest + "\r\n"])
            offer = type(offer)(cut)
            answer = await b.answer(offer)
            assert [section.rejected for section in read_sdp(answer.sdp).media] == [False, True]
            await a.take(answer)
            assert await shade(b, "0") == pytest.approx(40, abs=6)
            b.add(Tone())
            again, _ = await negotiate(b, a)
            assert [section.rejected for section in read_sdp(again.sdp).media] == [False, True, False]
