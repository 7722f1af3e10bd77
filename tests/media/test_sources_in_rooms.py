"""Sound and pictures of the application's own, sent to somebody over a real connection. On both event loops."""

from __future__ import annotations

import array
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy
import pytest

from metered_anyio import MediaStream, MeteredPeer, PeerJoined, Track
from metered_anyio.relay import RelayServer
from metered_media import AudioSource, Cleared, Played, VideoSource, iter_audio, iter_frames, iter_video

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

KEY = "pk_live_demo"


@asynccontextmanager
async def sent(*tracks: Any) -> AsyncIterator[tuple[MeteredPeer, list[Any]]]:
    """Somebody sends tracks, and somebody receives them."""
    received: list[Any] = []
    with anyio.fail_after(60):
        async with (
            RelayServer(keys=[KEY]) as relay,
            MeteredPeer(api_key=KEY, url=relay.url) as agent,
            MeteredPeer(api_key=KEY, url=relay.url) as person,
        ):

            @person.on(PeerJoined)
            async def meet(event: PeerJoined) -> None:
                event.peer.on(Track, lambda told: received.append(told.track))

            for track in tracks:
                agent.add_track(track, MediaStream([track]))
            await person.join("room")
            await agent.join("room")
            while len(received) < len(tracks):  # noqa: ASYNC110 - a list has no event
                await anyio.sleep(0.01)
            yield agent, received


def tone(seconds: float, hz: float = 440) -> bytes:
    samples = (int(12_000 * math.sin(2 * math.pi * hz * n / 16_000)) for n in range(int(seconds * 16_000)))
    return array.array("h", samples).tobytes()


def loudness(samples: Iterable[int]) -> float:
    return float(numpy.sqrt(numpy.mean(numpy.square(numpy.asarray(samples, dtype=float)))))


async def test_an_agent_is_heard_as_loud_as_it_spoke_and_is_quiet_when_interrupted() -> None:
    source = AudioSource()
    told: list[Any] = []
    source.on(Played, told.append)
    source.on(Cleared, told.append)
    async with sent(source) as (_, (track,)), iter_audio(track, frame_ms=20) as arrays:
        async with anyio.create_task_group() as group:
            await source.push(tone(0.5), marker="greeting")
            group.start_soon(source.push, tone(20))
            heard = [loudness(await anext(arrays)) for _ in range(60)]
            assert max(heard) == pytest.approx(12_000 / math.sqrt(2), rel=0.2)
            assert source.clear() > 5
        await anyio.sleep(0.5)  # what is on its way
        while arrays.position < 0 or len(heard) < 1000:
            heard.append(loudness(await anext(arrays)))
            if max(heard[-10:]) < 50:
                break
        assert max(heard[-10:]) < 50
    assert [event.marker for event in told] == ["greeting"]
    assert told[0].at == 0.5


async def test_whoever_comes_late_sees_the_slide() -> None:
    source = VideoSource()
    slide = numpy.zeros((120, 160, 3), dtype=numpy.uint8)
    slide[:, :] = (200, 60, 30)
    source.push(slide)
    async with sent(source) as (_, (track,)), iter_video(track) as arrays:
        array = await anext(arrays)
        assert array.shape == (120, 160, 3)
        assert array[60, 80].astype(int).tolist() == pytest.approx([200, 60, 30], abs=25)
        await anext(arrays)  # still there


async def test_an_agent_that_ends_is_taken_back() -> None:
    source = AudioSource()
    async with sent(source) as (_, (track,)):
        await source.push(tone(0.2))
        source.end()
        arrays = [array async for array in iter_audio(track)]  # ends with the track
    assert arrays[0].shape == (1600,)
    assert source.readyState == "ended"
    assert source.played_seconds == 0.2


async def test_an_async_handler_reads_every_track_of_somebody_at_once() -> None:
    voice, camera = AudioSource(), VideoSource()
    kinds: set[str] = set()
    both = anyio.Event()
    with anyio.fail_after(60):
        async with (
            RelayServer(keys=[KEY]) as relay,
            MeteredPeer(api_key=KEY, url=relay.url) as agent,
            MeteredPeer(api_key=KEY, url=relay.url) as person,
        ):

            @person.on(PeerJoined)
            def met(event: PeerJoined) -> None:
                @event.peer.on(Track)
                async def track(told: Track) -> None:
                    async for _ in iter_frames(told.track):  # neither ends
                        kinds.add(told.track.kind)
                        if len(kinds) == 2:
                            both.set()

            agent.add_stream(MediaStream([voice, camera], id="agent"))
            camera.push(numpy.zeros((48, 64, 3), numpy.uint8))
            await person.join("room")
            await agent.join("room")
            await both.wait()
