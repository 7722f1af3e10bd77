"""What our sources and encoders make is decoded by a browser, by its own account."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.children import Child, Crew
from metered_media import AudioSource, from_file, open_file
from testbed.browser import Browser, Received
from testbed.clips import Pictures, clip, write
from testbed.guest import Guest
from testbed.stage import Stage
from testbed.tracks import BLUE, ColourTrack, is_colour

pytestmark = pytest.mark.anyio

ME, IT = "alice", "middle"

RATE = 16_000
PATIENT = 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where clips are."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Viewers in processes of their own, each with one codec."""
    with Crew() as crew:
        yield crew


class Watch:
    """What a browser decoded between two moments, of the one track of a kind that it gets."""

    def __init__(self, browser: Browser, kind: str = "video") -> None:
        self._browser, self._kind = browser, kind

    async def look(self) -> dict[str, Any]:
        (entry,) = await self._browser.inbound(ME, self._kind)
        return {**entry, "at": time.monotonic()}

    async def watch(self, seconds: float) -> dict[str, float]:
        """Rates a second over some time, of each number in the entry."""
        before = await self.look()
        await asyncio.sleep(seconds)
        after = await self.look()
        took = after["at"] - before["at"]
        return {
            name: (value - before[name]) / took
            for name, value in after.items()
            if isinstance(value, int | float) and isinstance(before.get(name), int | float) and name != "at"
        }


def pictures(tracks: list[Received], frames: int = 10) -> list[Received]:
    """The live pictures among tracks."""
    return [one for one in tracks if one.kind == "video" and one.live and one.frames >= frames]


async def sent(guest: Guest, kind: str = "video") -> list[Any]:
    """What we know of each track that we send, remote by remote."""
    stats = await guest.peer.stats()
    tracks = [track for remote in stats.remotes.values() if remote is not None for track in remote.tracks]
    return [track for track in tracks if track.direction == "send" and track.kind == kind]


def tone(hz: float, seconds: float) -> bytes:
    """Samples in s16, mono."""
    turn = 2 * math.pi * hz / RATE
    samples = np.sin(np.arange(round(seconds * RATE)) * turn) * 12_000
    return bytes(samples.astype(np.int16))


@pytest.mark.parametrize("codec", ["VP8", "H264"])
@pytest.mark.parametrize("me", [ME, "zoe"], ids=["we are polite", "it is polite"])
async def test_what_we_encode_is_decoded(stage: Stage, codec: str, me: str) -> None:
    guest = stage.ours(me)
    guest.send("ours", ColourTrack(BLUE, noise=True), codec=codec)
    await guest.join()
    browser = await stage.browser(IT)
    (seen,) = pictures(await browser.sees(pictures))
    assert is_colour(seen.colour, BLUE)
    (entry,) = await browser.inbound(me)
    assert entry["codec"] == codec
    assert entry["framesDecoded"] >= 10
    (told,) = await sent(guest)
    assert told.codec == codec
    assert browser.errors == []


@pytest.mark.parametrize(
    ("name", "codec"), [("h264_high", "H264"), ("vp8", "VP8"), ("h264_b", None), ("h264_422", None)]
)
async def test_a_file_is_decoded_as_it_is_or_encoded_where_that_cannot_be(
    stage: Stage, folder: Path, name: str, codec: str | None
) -> None:
    player = await open_file(clip(folder, name), loop=True, passthrough=True)
    try:
        guest = stage.ours(ME)
        guest.send("ours", player.video)
        await guest.join()
        browser = await stage.browser(IT)
        await browser.sees(lambda tracks: pictures(tracks, 30))
        found = await Watch(browser).watch(1.5)
        assert 25 <= found["framesDecoded"] <= 35
        (told,) = await sent(guest)
        assert told.passthrough == (codec is not None)
        if codec is not None:
            assert (await Watch(browser).look())["codec"] == codec
        assert browser.errors == []
    finally:
        player.stop()


async def test_a_late_viewer_of_packets_has_a_picture_at_once(stage: Stage, folder: Path) -> None:
    """Key frames are ten seconds apart, so waiting for the next one would show."""
    path = write(folder / "rare.mp4", video=Pictures(gop=300), seconds=10)
    player = await open_file(path, loop=True, passthrough=True)
    try:
        guest = stage.ours(ME)
        guest.send("ours", player.video)
        await guest.join()
        first = await stage.browser("first")
        await first.sees(lambda tracks: pictures(tracks, 60))
        late = await stage.page()
        await stage.bring(late, "late")
        state = await late.heard("remote-state", to="connected")
        shown = await late.heard("first-frame")
        assert shown["at"] - state["at"] < 1.0
        assert (await sent(guest))[0].passthrough
    finally:
        player.stop()


async def test_pushed_sound_is_heard(stage: Stage) -> None:
    source = AudioSource(input_rate=RATE)
    guest = stage.ours(ME)
    guest.send("voice", source)
    await guest.join()
    browser = await stage.browser(IT)
    pushing = asyncio.create_task(source.push(tone(880, 20)))
    try:
        await browser.sees(lambda tracks: any(one.hz is not None and abs(one.hz - 880) < 15 for one in tracks))
        found = await Watch(browser, "audio").watch(2)
        # What a browser adds up is the square of its level, and that is of the loudest sample of late.
        assert found["totalAudioEnergy"] == pytest.approx((12_000 / 32_768) ** 2, rel=0.3)
        assert found["totalSamplesDuration"] == pytest.approx(1, abs=0.15)
        assert browser.errors == []
    finally:
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)


async def test_viewers_of_different_codecs_have_all_pictures_of_one_source(stage: Stage, crew: Crew) -> None:
    """Two take VP8, a browser among them, and two H.264; the source is RGB, which no encoder takes as it is."""
    url = stage.relay.url
    others = {codec: crew.hire("audience", codec.lower(), url, codec) for codec in ("VP8", "H264")}
    guest = stage.ours(ME)
    guest.send("ours", ColourTrack(BLUE, format="rgb24", noise=True))
    await guest.join()
    for codec, count in (("VP8", 1), ("H264", 2)):
        await ask(others[codec], "come", count)
    browser = await stage.browser(IT)
    await browser.sees(pictures)
    for child in others.values():
        await ask(child, "watch", "video", 10)
    before = {codec: await ask(child, "counts", "video") for codec, child in others.items()}
    seen = await Watch(browser).watch(3)
    after = {codec: await ask(child, "counts", "video") for codec, child in others.items()}
    rates = [seen["framesDecoded"]]
    for codec in others:
        took = after[codec]["at"] - before[codec]["at"]
        rates += [
            (now - then) / took for now, then in zip(after[codec]["frames"], before[codec]["frames"], strict=True)
        ]
        assert after[codec]["codecs"] == [codec]
    assert len(rates) == 4
    assert all(27 <= rate <= 33 for rate in rates), rates
    told = await sent(guest)
    assert sorted(track.codec for track in told) == ["H264", "H264", "VP8", "VP8"]
    assert all(track.shared for track in told)


async def test_pictures_that_are_each_a_whole_do_not_become_key_frames(stage: Stage, folder: Path) -> None:
    player = await open_file(clip(folder, "mjpeg"), loop=True)
    try:
        guest = stage.ours(ME)
        guest.send("ours", player.video)
        await guest.join()
        browser = await stage.browser(IT)
        await browser.sees(lambda tracks: pictures(tracks, 30))
        found = await Watch(browser).watch(2)
        assert found["framesDecoded"] > 25
        assert found["keyFramesDecoded"] < 2
    finally:
        player.stop()


async def test_a_file_that_ends_is_told(stage: Stage, folder: Path) -> None:
    """Within a second of its last picture."""
    player = from_file(write(folder / "short.mp4", video=Pictures(), seconds=3))
    try:
        guest = stage.ours(ME)
        browser = await stage.browser(IT)
        guest.send("ours", player.video)
        await guest.join()
        await browser.sees(lambda tracks: pictures(tracks, 60))
        removed = await browser.heard("stream-removed", patience=PATIENT)
        (seen,) = await browser.tracks()
        assert seen.lastAt is not None
        assert seen.frames >= 80
        assert removed["at"] - seen.lastAt < 1
        assert browser.errors == []
    finally:
        player.stop()


async def test_the_tenth_pass_of_a_file_is_as_the_first(stage: Stage, folder: Path) -> None:
    path = write(folder / "loop.mp4", video=Pictures(), seconds=0.5)
    player = from_file(path, loop=True)
    try:
        guest = stage.ours(ME)
        guest.send("ours", player.video)
        await guest.join()
        browser = await stage.browser(IT)
        await browser.sees(pictures)
        used, rates = [], []
        for _ in range(4):  # two passes and a half each, at least
            before = time.process_time()
            rates.append((await Watch(browser).watch(1.25))["framesDecoded"])
            used.append(time.process_time() - before)
        assert all(26 <= rate <= 34 for rate in rates), rates
        assert used[-1] < 2 * used[0] + 0.1
        assert browser.errors == []
    finally:
        player.stop()


async def ask(child: Child, command: str, *arguments: object) -> Any:
    """Have a viewer do something, while our own loop goes on."""
    return await asyncio.to_thread(child.ask, command, *arguments)
