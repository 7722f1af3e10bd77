"""What an engine measures."""

from __future__ import annotations

from typing import Any

import pytest
from rtc_kit import Picture, Tone, negotiate, shade_of, two_sides

from metered_proto.errors import PeerConnectionError
from metered_proto.rtc.words import CountReceived

pytestmark = pytest.mark.anyio


async def test_of_a_connection_that_has_done_nothing() -> None:
    async with two_sides() as (a, _):
        stats = await a.engine.stats(a.pc)
        assert (stats.state, stats.local, stats.remote, stats.tracks) == ("new", None, None, ())
        assert stats.bytes_sent == stats.bytes_received == 0
        assert await a.engine.work(CountReceived(a.pc)) == 0
        a.close()
        with pytest.raises(PeerConnectionError):
            await a.engine.stats(a.pc)


async def test_of_a_call() -> None:
    async with two_sides() as (a, b):
        picture, tone = a.add(Picture(fps=60)), a.add(Tone())
        await negotiate(a, b)
        for mid in ("0", "1"):
            for _ in range(20):
                await b.received(mid).recv()
        sent, received = await a.engine.stats(a.pc), await b.engine.stats(b.pc)
        assert sent.local is not None
        assert sent.remote is not None
        assert (sent.local.type, sent.local.protocol) == ("host", "udp")
        assert sent.bytes_sent > 0
        assert sent.packets_sent >= 40
        assert {track.key: (track.kind, track.codec) for track in sent.tracks} == {
            picture.key: ("video", "VP8"),
            tone.key: ("audio", "opus"),
        }
        assert {track.key for track in received.tracks} == set(b.taken.values())
        for track in (*sent.tracks, *received.tracks):
            assert track.frames >= 20
            assert track.packets >= 20
            assert track.bytes > 0
            assert track.bitrate is not None
            assert track.bitrate > 0
        assert all(track.packets_lost == 0 and track.jitter is not None for track in received.tracks)


async def test_what_came_in_only_grows() -> None:
    async with two_sides() as (a, b):
        a.add(Tone())
        await negotiate(a, b)
        counts: list[Any] = []
        for _ in range(5):
            await b.received("0").recv()
            counts.append(await b.engine.work(CountReceived(b.pc)))
        assert counts == sorted(counts)
        assert counts[-1] > counts[0] > 0


async def test_data_channels_measure_the_way_there_and_back() -> None:
    async with two_sides() as (a, b):
        channel = a.channel()
        await negotiate(a, b)
        other = await b.arrived()
        got: list[Any] = []
        other.on_message = got.append
        await a.until(lambda: channel.ready_state == "open")
        channel.send("hello")
        await b.until(lambda: got)
        await a.until(lambda: a.engine.connection(a.pc).sctp._srtt is not None)
        stats = await a.engine.stats(a.pc)
        assert stats.round_trip_time is not None
        assert 0 <= stats.round_trip_time < 1


async def test_a_received_track_can_be_sent_on() -> None:
    async with two_sides() as (a, b):
        a.add(Picture(160))
        await negotiate(a, b)
        b.add(b.received("0"))
        await negotiate(b, a)
        for _ in range(5):
            assert shade_of(await a.received("0").recv()) == pytest.approx(160, abs=6)
