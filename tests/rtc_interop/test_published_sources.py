"""Our sources and encoders with the published Python SDK as viewer and listener, and its sources with us as viewer."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metered_media import AudioSource, Cleared, Played, VideoSource, from_file, open_file
from testbed.clips import Pictures, clip, number_of, picture, write
from testbed.guest import Guest, Seen, library
from testbed.stage import Stage
from testbed.tracks import GREEN, RED, ColourTrack, colour_of, has_pitch, is_colour

pytestmark = pytest.mark.anyio

ME, IT = "alice", "middle"

RATE = 16_000

KINDS = ("published", "ours")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where clips are."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(params=KINDS)
async def viewer(request: pytest.FixtureRequest, meeting: Stage) -> Guest:
    """Who looks and listens, in the room."""
    guest = meeting.guest(request.param, IT)
    await guest.join()
    return guest


def tone(hz: float, seconds: float) -> bytes:
    """Samples in s16, mono."""
    turn = 2 * math.pi * hz / RATE
    samples = np.sin(np.arange(round(seconds * RATE)) * turn) * 12_000
    return bytes(samples.astype(np.int16))


def loudness(frame: Any) -> float:
    """The square mean of a frame in s16."""
    samples = np.frombuffer(bytes(frame.planes[0]), np.int16)[: frame.samples * len(frame.layout.channels)]
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def hears(guest: Guest, hz: int) -> bool:
    return any(len(seen.recent) == 20 and has_pitch(seen.recent, hz) for seen in guest.seen("audio"))


def sees(guest: Guest, frames: int = 10) -> bool:
    return any(seen.frames >= frames for seen in guest.seen("video"))


async def told_of_the_end(viewer: Guest) -> None:
    """Within a second of its last frame. The published SDK tells nobody that a track is over; it is only quiet."""
    (seen,) = viewer.tracks
    if viewer.library.__name__ == "metered_anyio":
        await viewer.heard("StreamRemoved")
        assert time.time() - (seen.last_at or 0) < 1.5
        assert seen.over
    else:
        await viewer.until(lambda: time.time() - (seen.last_at or 0) > 0.5, "quiet")


@asynccontextmanager
async def going_on(work: Any) -> AsyncIterator[None]:
    """Something that is done meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_what_we_encode_is_seen(meeting: Stage, viewer: Guest, codec: str) -> None:
    guest = meeting.ours(ME)
    guest.send("ours", ColourTrack(GREEN, noise=True), codec=codec)
    await guest.join()
    await viewer.until(lambda: sees(viewer, 15), "pictures")
    assert is_colour(colour_of(viewer.seen("video")[0].newest), GREEN)
    remotes = (await guest.peer.stats()).remotes
    assert {track.codec for each in remotes.values() if each for track in each.tracks} == {codec}


@pytest.mark.parametrize("name", ["h264", "vp8", "h264_b", "mjpeg"])
async def test_packets_of_a_file_are_seen_in_their_order(
    meeting: Stage, viewer: Guest, folder: Path, name: str
) -> None:
    """Whether they are sent as they are, or what they show is encoded."""
    player = await open_file(clip(folder, name), passthrough=True)
    try:
        guest = meeting.ours(ME)
        guest.send("ours", player.video)
        numbers: list[int] = []
        async with going_on(note_numbers(viewer, numbers)):
            await guest.join()
            await viewer.until(lambda: len(numbers) >= 40, "pictures")
        assert numbers == sorted(numbers)
        assert numbers[-1] - numbers[0] <= len(numbers) + 8
    finally:
        player.stop()


async def test_the_tenth_pass_of_a_file_shows_what_the_first_did(meeting: Stage, viewer: Guest, folder: Path) -> None:
    path = write(folder / f"loop-{viewer.library.__name__}.mp4", video=Pictures(), seconds=0.5)
    player = from_file(path, loop=True)
    try:
        guest = meeting.ours(ME)
        guest.send("ours", player.video)
        numbers: list[int] = []
        async with going_on(note_numbers(viewer, numbers)):
            await guest.join()
            await viewer.until(lambda: numbers, "pictures")
            began = time.monotonic()
            await viewer.until(lambda: len(numbers) >= 140, "ten passes")
        took = time.monotonic() - began
        assert 140 / 34 < took < 140 / 24
        last = numbers[-20:]
        steps = [(new - old) % 15 for old, new in itertools.pairwise(last)]
        assert set(numbers) == set(range(15))
        assert sum(steps) <= len(steps) + 4
    finally:
        player.stop()


async def note_numbers(viewer: Guest, numbers: list[int]) -> None:
    """Keep what number each new picture has."""
    newest = None
    while True:
        for seen in viewer.seen("video", live=False):
            if seen.newest is not newest and seen.newest is not None:
                newest = seen.newest
                numbers.append(number_of(newest))
        await asyncio.sleep(0.003)


async def test_pushed_pictures_are_seen(meeting: Stage, viewer: Guest) -> None:
    source = VideoSource()
    guest = meeting.ours(ME)
    guest.send("ours", source)
    await guest.join()
    array = np.zeros((240, 320, 3), np.uint8)
    array[:] = RED
    for _ in range(60):
        source.push(array)
        await asyncio.sleep(1 / 30)
    await viewer.until(lambda: sees(viewer, 15), "pictures")
    assert is_colour(colour_of(viewer.seen("video")[0].newest), RED)
    source.end()
    await told_of_the_end(viewer)


async def test_pushed_sound_is_heard(meeting: Stage, viewer: Guest) -> None:
    source = AudioSource(input_rate=RATE)
    guest = meeting.ours(ME)
    guest.send("voice", source)
    played: list[Any] = []
    source.on(Played, played.append)
    await guest.join()
    await source.push(tone(880, 1.5), marker="what we said")
    await viewer.until(lambda: hears(viewer, 880), "the tone")
    await source.wait_for_playout()
    assert source.played_seconds == pytest.approx(1.5, abs=0.01)
    await guest.until(lambda: played, "the marker")
    assert [event.marker for event in played] == ["what we said"]
    source.end()
    await told_of_the_end(viewer)


async def test_nothing_old_is_heard_after_an_interruption(meeting: Stage, viewer: Guest) -> None:
    """What was sent before `clear` is all that is heard of it: at most one frame more."""
    source = AudioSource(input_rate=RATE)
    guest = meeting.ours(ME)
    guest.send("voice", source)
    cleared: list[Any] = []
    source.on(Cleared, cleared.append)
    loud: list[float] = []
    async with going_on(note_loudness(viewer, loud)):
        await guest.join()
        async with going_on(source.push(tone(440, 8), marker="a long answer")):
            await viewer.until(lambda: sum(level > 1000 for level in loud) >= 25, "the tone")
            dropped = source.clear()
            sent = source.played_seconds
            await viewer.until(lambda: loud[-5:] and max(loud[-5:]) < 100, "silence")
        assert dropped > 3
        # The frame that was being sent, and what an encoder smears into the next one.
        assert sum(level > 1000 for level in loud) <= math.ceil(sent / 0.02) + 2
        await guest.until(lambda: cleared, "what became of the answer")
        assert cleared[0].marker == "a long answer"
        assert cleared[0].heard == pytest.approx(sent, abs=0.03)
        await source.push(tone(880, 1))
        await viewer.until(lambda: hears(viewer, 880), "the next answer")


async def note_loudness(viewer: Guest, loud: list[float]) -> None:
    """Keep how loud each frame of the first sound is."""
    taken: set[int] = set()
    kept: list[Any] = []  # so that no other frame gets the id of one that was taken
    while True:
        for seen in viewer.seen("audio"):
            for frame in seen.recent:
                if id(frame) not in taken:
                    taken.add(id(frame))
                    kept.append(frame)
                    loud.append(loudness(frame))
        await asyncio.sleep(0.01)


async def test_the_end_of_a_file_is_told(meeting: Stage, viewer: Guest, folder: Path) -> None:
    """Within a second of its last picture."""
    player = from_file(write(folder / f"short-{viewer.library.__name__}.mp4", video=Pictures(), seconds=2))
    try:
        guest = meeting.ours(ME)
        guest.send("ours", player.video)
        await guest.join()
        await viewer.until(lambda: sees(viewer, 50), "pictures")
        await told_of_the_end(viewer)
        assert player.video is not None
        assert player.video.readyState == "ended"
    finally:
        player.stop()


@pytest.mark.parametrize("what", ["from_file", "AudioSource"])
async def test_we_get_what_its_sources_give(meeting: Stage, folder: Path, what: str) -> None:
    its = meeting.published(IT)
    guest = meeting.ours(ME)
    await guest.join()
    if what == "from_file":
        player = library().from_file(str(write(folder / "its.mp4", video=Pictures(), seconds=5)))
        its.send("its", player.video)
        await its.join()
        await guest.until(lambda: sees(guest, 30), "its pictures")
        newest: Seen = guest.seen("video")[0]
        assert 0 < number_of(newest.newest) < 150
    else:
        source = library().AudioSource(input_rate=RATE)
        its.send("its", source)
        await its.join()
        async with going_on(source.push(tone(880, 10))):
            await guest.until(lambda: hears(guest, 880), "its tone")


def test_pictures_of_clips_can_be_told_apart() -> None:
    assert [number_of(picture(number, (320, 240))) for number in (0, 1, 77)] == [0, 1, 77]
