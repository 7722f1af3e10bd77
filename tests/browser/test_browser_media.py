"""Pictures and sound between us and a browser, both ways, in both roles, in every order."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from testbed.browser import Browser, Received
from testbed.guest import Guest
from testbed.stage import Stage
from testbed.tracks import BLUE, GREEN, RED, YELLOW, Colour, ColourTrack, ToneTrack, colour_of, has_pitch, is_colour

pytestmark = pytest.mark.anyio

IT = "middle"

SOON = 3.0
"""Seconds that nothing here needs. What is really fast enough is for the benchmarks to say."""


def shows(tracks: list[Received], colour: Colour) -> bool:
    """Whether a browser sees a live picture of a colour."""
    return any(one.kind == "video" and one.live and one.frames > 3 and is_colour(one.colour, colour) for one in tracks)


def sounds(tracks: list[Received], hz: int) -> bool:
    """Whether a browser hears a pitch."""
    return any(one.kind == "audio" and one.live and one.hz is not None and abs(one.hz - hz) < 15 for one in tracks)


def sees(guest: Guest, colour: Colour) -> bool:
    """Whether we get a live picture of a colour."""
    return any(seen.newest is not None and is_colour(colour_of(seen.newest), colour) for seen in guest.seen("video"))


def hears(guest: Guest, hz: int) -> bool:
    """Whether we get a pitch."""
    return any(len(seen.recent) == 20 and has_pitch(seen.recent, hz) for seen in guest.seen("audio"))


def nothing_wrong(browser: Browser, *guests: Guest) -> None:
    assert browser.errors == []
    for guest in guests:
        assert guest.all("NegotiationError") == []
        assert guest.all("FatalError") == []


async def test_its_camera_and_microphone_reach_us(stage: Stage, me: str) -> None:
    guest = stage.ours(me)
    await guest.join()
    browser = await stage.browser(
        IT, share={"cam": {"camera": True, "microphone": True, "metadata": {"role": "camera"}}}
    )
    await guest.until(
        lambda: all(guest.seen(kind) and guest.seen(kind)[0].frames > 5 for kind in ("audio", "video")), "media"
    )
    (video,), (audio,) = guest.seen("video"), guest.seen("audio")
    assert (video.newest.width, video.newest.height) in {(640, 480), (480, 360), (320, 240)}
    assert video.metadata == audio.metadata == {"role": "camera"}
    assert video.streams == audio.streams
    (added,) = guest.all("StreamAdded")
    assert [track.kind for track in added.stream.get_tracks()] == ["audio", "video"]
    nothing_wrong(browser, guest)


@pytest.mark.parametrize("first", ["we come first", "it comes first"])
async def test_our_picture_and_sound_reach_a_viewer(stage: Stage, me: str, first: str) -> None:
    guest = stage.ours(me)
    guest.share("ours", ToneTrack(880), ColourTrack(GREEN), role="bridge", label="naïve ☃")
    if first == "we come first":
        await guest.join()
        browser = await stage.browser(IT)
    else:
        browser = await stage.browser(IT)
        await guest.join()
    tracks = await browser.sees(lambda tracks: shows(tracks, GREEN) and sounds(tracks, 880))
    assert {(one.kind, tuple(one.streams)) for one in tracks} == {("audio", ("ours",)), ("video", ("ours",))}
    assert [one.metadata for one in tracks] == [{"role": "bridge", "label": "naïve ☃"}] * 2
    added = await browser.heard("stream-added")
    assert (added["stream"], added["metadata"]) == ("ours", {"role": "bridge", "label": "naïve ☃"})
    nothing_wrong(browser, guest)


async def test_both_ways_at_once(stage: Stage, me: str) -> None:
    guest = stage.ours(me)
    guest.share("ours", ToneTrack(880), ColourTrack(GREEN))
    await guest.join()
    browser = await stage.browser(IT, share={"cam": {"colour": RED, "hz": 440}})
    await browser.sees(lambda tracks: shows(tracks, GREEN) and sounds(tracks, 880))
    await guest.until(lambda: sees(guest, RED) and hears(guest, 440), "its media")
    nothing_wrong(browser, guest)


OURS = {
    "cam": lambda: ("cam", [ColourTrack(GREEN)]),
    "mic": lambda: ("mic", [ToneTrack(880)]),
    "screen": lambda: ("screen", [ColourTrack(BLUE)]),
}
THEIRS = {"cam": {"colour": RED}, "mic": {"hz": 440}, "screen": {"colour": YELLOW}}
ORDERS = list(itertools.permutations(OURS))


@pytest.mark.parametrize("number", range(len(ORDERS)))
async def test_camera_microphone_and_screen_both_ways_in_any_order(stage: Stage, number: int) -> None:
    """Each with its own picture, metadata and stream, whichever order; roles and orders are combined by turns."""
    guest = stage.ours("alice" if number % 2 else "zoe")
    for name in ORDERS[number]:
        stream, tracks = OURS[name]()
        guest.share(stream, *tracks, role=name)
    await guest.join()
    share = {name: {**THEIRS[name], "metadata": {"role": name}} for name in ORDERS[-1 - number]}
    browser = await stage.browser(IT, share=share)
    tracks = await browser.sees(lambda all: shows(all, GREEN) and shows(all, BLUE) and sounds(all, 880))
    assert len(tracks) == 3
    wanted = {"cam": GREEN, "screen": BLUE}
    for one in tracks:
        (stream,) = one.streams
        assert one.metadata == {"role": stream}
        assert stream == "mic" if one.kind == "audio" else is_colour(one.colour, wanted[stream])
    await guest.until(lambda: sees(guest, RED) and sees(guest, YELLOW) and hears(guest, 440), "its media")
    assert len(guest.tracks) == 3
    for seen in guest.tracks:
        role = seen.metadata["role"]
        if seen.track.kind == "audio":
            assert role == "mic"
        else:
            assert is_colour(colour_of(seen.newest), {"cam": RED, "screen": YELLOW}[role]), seen
    assert len({stream for seen in guest.tracks for stream in seen.streams}) == 3
    nothing_wrong(browser, guest)


async def test_it_believes_in_enough_bandwidth(stage: Stage, me: str) -> None:
    guest = stage.ours(me)
    await guest.join()
    plan = {"colour": RED, "noise": True, "width": 640, "height": 480}
    browser = await stage.browser(IT, share={"cam": plan})
    async with asyncio.timeout(8):
        while await browser.bandwidth(me) < 1_500_000:  # noqa: ASYNC110 - the page is asked
            await asyncio.sleep(0.1)


# --- changes in mid-call ---


async def call(stage: Stage, me: str) -> tuple[Guest, Browser]:
    """A call with pictures both ways."""
    guest = stage.ours(me)
    guest.share("ours", ColourTrack(GREEN), role="camera")
    await guest.join()
    browser = await stage.browser(IT, share={"cam": {"colour": RED, "metadata": {"role": "camera"}}})
    await browser.sees(lambda tracks: shows(tracks, GREEN), patience=SOON)
    await guest.until(lambda: sees(guest, RED), "its picture", SOON)
    return guest, browser


async def test_tracks_of_ours_come_and_go_in_mid_call(stage: Stage, me: str) -> None:
    guest, browser = await call(stage, me)
    screen = guest.share("screen", ColourTrack(BLUE), ToneTrack(880), role="screen")
    tracks = await browser.sees(lambda tracks: shows(tracks, BLUE) and sounds(tracks, 880), patience=SOON)
    assert [one.metadata for one in tracks if one.streams == ["screen"]] == [{"role": "screen"}] * 2
    guest.peer.remove_stream(screen)
    assert (await browser.heard("stream-removed", patience=SOON))["stream"] == "screen"
    guest.share("again", ColourTrack(YELLOW), role="again")
    await browser.sees(lambda tracks: shows(tracks, YELLOW), patience=SOON)
    assert (await browser.heard("stream-added", count=3))["metadata"] == {"role": "again"}
    assert shows(await browser.tracks(), GREEN)
    nothing_wrong(browser, guest)


async def test_both_add_a_track_at_the_same_moment(stage: Stage, me: str) -> None:
    guest, browser = await call(stage, me)
    guest.share("screen", ColourTrack(BLUE), role="screen")
    await browser.share("screen", colour=YELLOW, metadata={"role": "screen"})
    tracks = await browser.sees(lambda tracks: shows(tracks, BLUE), patience=SOON)
    assert next(one for one in tracks if one.streams == ["screen"]).metadata == {"role": "screen"}
    await guest.until(lambda: sees(guest, YELLOW), "its screen", SOON)
    assert guest.seen("video")[-1].metadata == {"role": "screen"}
    assert guest.all("NegotiationError") == []


async def test_tracks_of_its_come_and_go_in_mid_call(stage: Stage, me: str) -> None:
    guest, browser = await call(stage, me)
    await browser.share("screen", colour=BLUE, hz=440, metadata={"role": "screen"})
    await guest.until(lambda: sees(guest, BLUE) and hears(guest, 440), "its screen", SOON)
    added = guest.all("StreamAdded")[-1]
    assert added.metadata == {"role": "screen"}
    asked = time.time()
    await browser.unshare("screen")
    removed = await guest.heard("StreamRemoved", patience=SOON)
    assert removed.stream.id == added.stream.id
    await guest.until(lambda: len(guest.seen("video")) == 1 and not guest.seen("audio"), "the end of its tracks", SOON)
    assert time.time() - asked < SOON
    await browser.share("again", colour=YELLOW, metadata={"role": "again"})
    await guest.until(lambda: sees(guest, YELLOW), "its next picture", SOON)
    assert guest.all("StreamAdded")[-1].metadata == {"role": "again"}
    assert sees(guest, RED)
    nothing_wrong(browser, guest)


@pytest.mark.parametrize("ours", ["video", "audio", "nothing"])
async def test_a_viewer_begins_to_send(stage: Stage, me: str, ours: str) -> None:
    """Its sections have to fit into what we offered first, numbers of header extensions included."""
    guest = stage.ours(me)
    if ours != "nothing":
        guest.share("ours", ColourTrack(GREEN) if ours == "video" else ToneTrack(880), role="ours")
    await guest.join()
    browser = await stage.browser(IT)
    if ours == "video":
        await browser.sees(lambda tracks: shows(tracks, GREEN))
    elif ours == "audio":
        await browser.sees(lambda tracks: sounds(tracks, 880))
    await browser.share("cam", camera=True, microphone=True, metadata={"role": "camera"})
    await guest.until(lambda: all(any(s.frames for s in guest.seen(kind)) for kind in ("audio", "video")), "its media")
    assert [seen.metadata for seen in guest.tracks] == [{"role": "camera"}] * 2
    nothing_wrong(browser, guest)


async def test_one_track_of_a_stream_goes_the_other_stays(stage: Stage, me: str) -> None:
    guest = stage.ours(me)
    await guest.join()
    browser = await stage.browser(IT, share={"cam": {"colour": RED, "hz": 440}})
    await guest.until(lambda: sees(guest, RED) and hears(guest, 440), "its media")
    await browser.remove_track("cam", "audio")
    await guest.until(lambda: not guest.seen("audio"), "the end of its sound", SOON)
    assert guest.all("StreamRemoved") == []
    await browser.add_track("cam", hz=660)
    await guest.until(lambda: hears(guest, 660), "its next sound", SOON)
    assert guest.seen("audio")[0].streams == guest.seen("video")[0].streams
    assert len(guest.all("StreamAdded")) == 1
    nothing_wrong(browser, guest)


async def test_a_track_of_ours_is_replaced_in_mid_call(stage: Stage, me: str) -> None:
    guest, browser = await call(stage, me)
    for colour in (BLUE, YELLOW, GREEN, BLUE):
        (old,) = [track for track in guest.sources if track.readyState == "live"][-1:]
        new = guest.source(ColourTrack(colour))
        await guest.peer.replace_track(old, new)
        await browser.sees(lambda tracks, colour=colour: shows(tracks, colour), f"{colour}", SOON)
        old.stop()
    assert len(browser.all("track")) == 1
    assert len(browser.all("sent", type="offer")) == 0
    nothing_wrong(browser, guest)


async def test_a_track_of_its_is_replaced_in_mid_call(stage: Stage, me: str) -> None:
    guest, browser = await call(stage, me)
    for colour in (BLUE, YELLOW):
        await browser.replace("cam", "video", {"colour": colour})
        await guest.until(lambda colour=colour: sees(guest, colour), f"{colour}", SOON)
    assert len(guest.tracks) == 1
    assert guest.all("StreamRemoved") == []
    nothing_wrong(browser, guest)


async def test_a_track_of_ours_that_ends_is_told(stage: Stage, me: str) -> None:
    guest, browser = await call(stage, me)
    guest.sources[0].stop()
    assert (await browser.heard("stream-removed", patience=SOON))["stream"] == "ours"
    nothing_wrong(browser, guest)
