"""Rooms of our peer and the published Python SDK: media, words, and calls that survive."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from metered_anyio import DataChannel, DCMessage
from testbed.guest import Guest, Seen
from testbed.stage import Stage
from testbed.tracks import BLUE, GREEN, RED, Colour, ColourTrack, ToneTrack, colour_of, has_pitch, is_colour

pytestmark = pytest.mark.anyio

IT = "middle"

PATIENT = 5.0
"""Seconds: when it is polite, it waits two before it offers."""

BACK = 3.0
"""Seconds after the return of the relay, or of a socket, within which there are pictures again."""


def sees(guest: Guest, colour: Colour, since: float = 0.0) -> bool:
    """Whether a picture of a colour has come after a moment."""
    return any(shows(seen, colour, since) for seen in guest.seen("video"))


def shows(seen: Seen, colour: Colour, since: float) -> bool:
    return seen.newest is not None and (seen.last_at or 0) > since and is_colour(colour_of(seen.newest), colour)


def hears(guest: Guest, hz: int) -> bool:
    return any(len(seen.recent) == 20 and has_pitch(seen.recent, hz) for seen in guest.seen("audio"))


def nothing_wrong(*guests: Guest) -> None:
    for guest in guests:
        assert guest.all("NegotiationError") == []
        assert guest.all("FatalError") == []


@pytest.mark.parametrize("first", ["we come first", "it comes first"])
async def test_media_both_ways(meeting: Stage, me: str, first: str) -> None:
    us, it = meeting.ours(me), meeting.published(IT)
    us.share("ours", ColourTrack(GREEN), ToneTrack(880), role="ours")
    it.share("its", ColourTrack(RED), ToneTrack(440), role="its")
    for guest in (us, it) if first == "we come first" else (it, us):
        await guest.join()
    await us.until(lambda: sees(us, RED) and hears(us, 440), "its media", PATIENT)
    await it.until(lambda: sees(it, GREEN) and hears(it, 880), "our media", PATIENT)
    for guest, name in ((us, "its"), (it, "ours")):
        assert {(seen.metadata["role"], tuple(seen.streams)) for seen in guest.tracks} == {(name, (name,))}
        assert [added.stream.id for added in guest.all("StreamAdded")] == [name]
    nothing_wrong(us, it)


@pytest.mark.parametrize("sender", ["we send", "it sends"])
async def test_a_viewer(meeting: Stage, me: str, sender: str) -> None:
    us, it = meeting.ours(me), meeting.published(IT)
    source, viewer = (us, it) if sender == "we send" else (it, us)
    source.share("stream", ColourTrack(BLUE), role="camera")
    await us.join()
    await it.join()
    await viewer.until(lambda: sees(viewer, BLUE), "a picture", PATIENT)
    assert viewer.tracks[0].metadata == {"role": "camera"}
    nothing_wrong(us, it)


async def test_tracks_come_and_go_in_mid_call(meeting: Stage, me: str) -> None:
    us, it = meeting.ours(me), meeting.published(IT)
    us.share("ours", ColourTrack(GREEN))
    it.share("its", ColourTrack(RED))
    await us.join()
    await it.join()
    await us.until(lambda: sees(us, RED), "its picture", PATIENT)
    await it.until(lambda: sees(it, GREEN), "our picture", PATIENT)
    screen = us.share("screen", ColourTrack(BLUE), role="screen")
    await it.until(lambda: sees(it, BLUE), "our screen", PATIENT)
    us.peer.remove_stream(screen)
    await asyncio.sleep(0.3)  # it tells nobody that a stream was removed
    its_screen = it.share("its-screen", ColourTrack(BLUE), role="screen")
    await us.until(lambda: sees(us, BLUE), "its-screen", PATIENT)
    it.peer.remove_stream(its_screen)
    assert (await us.heard("StreamRemoved")).stream.id == "its-screen"
    new = us.source(ColourTrack(BLUE))
    await us.peer.replace_track(us.sources[0], new)
    now = time.time()
    await it.until(
        lambda: any(shows(seen, BLUE, now) and seen.streams == ["ours"] for seen in it.tracks), "a new picture"
    )
    nothing_wrong(us, it)


async def test_both_add_a_track_at_the_same_moment_of_a_call(meeting: Stage, me: str) -> None:
    us, it = meeting.ours(me), meeting.published(IT)
    us.share("ours", ColourTrack(GREEN))
    it.share("its", ColourTrack(RED))
    await us.join()
    await it.join()
    await us.until(lambda: sees(us, RED), "its picture", PATIENT)
    await it.until(lambda: sees(it, GREEN), "our picture", PATIENT)
    us.share("our-screen", ColourTrack(BLUE))
    it.share("its-screen", ColourTrack(BLUE))
    await us.until(lambda: sees(us, BLUE), "its screen", PATIENT)
    await it.until(lambda: sees(it, BLUE), "our screen", PATIENT)
    nothing_wrong(us)


async def test_words_both_ways(meeting: Stage, me: str) -> None:
    us, it = meeting.ours(me), meeting.published(IT)
    await us.join()
    await it.join()
    await us.heard("PeerJoined")
    await it.heard("PeerJoined")
    text = "naïve ☃ 日本語 👩‍🚀"
    for one, other in ((us, it), (it, us)):
        await one.peer.send({"text": text})
        await one.peer.send_to(other.peer_id, [text])
        await other.until(lambda other=other: len(other.all("Data")) == 2, "all of it")
        assert [(data.kind, data.data) for data in other.all("Data")] == [
            ("broadcast", {"text": text}),
            ("direct", [text]),
        ]


@pytest.mark.parametrize("opener", ["we open", "it opens"])
async def test_a_data_channel_that_one_side_opens_alone(meeting: Stage, me: str, opener: str) -> None:
    us, it = meeting.ours(me), meeting.published(IT)
    await us.join()
    await it.join()
    await us.heard("PeerJoined")
    await it.heard("PeerJoined")
    one, other = (us, it) if opener == "we open" else (it, us)
    got: dict[str, list[Any]] = {"one": [], "other": []}
    made = one.library.DataChannel(one.remote(other.peer_id).create_data_channel("words"))
    made.on(one.library.DCMessage, lambda event: got["one"].append(event.data))
    raw = (await other.heard("DataChannelOpened", patience=PATIENT)).channel
    taken = other.library.DataChannel(raw)
    taken.on(other.library.DCMessage, lambda event: got["other"].append(event.data))
    await one.until(lambda: made.ready_state == "open", "it to open", PATIENT)
    await made.send("☃")
    await taken.send(b"\x00\xff")
    await us.until(lambda: got == {"one": [b"\x00\xff"], "other": ["☃"]}, "the words")
    made.close()
    assert DataChannel is us.library.DataChannel
    assert DCMessage is us.library.DCMessage


# --- lost sockets, killed relays ---

WAYS = {"we send": (True, False), "it sends": (False, True), "both send": (True, True)}


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("drop", ["our socket", "its socket", "the relay"])
async def test_a_call_survives(meeting: Stage, me: str, ways: str, drop: str) -> None:
    await survive(meeting, me, ways, drop, named=True)


@pytest.mark.parametrize("ways", WAYS)
async def test_a_call_survives_a_change_of_names(meeting: Stage, ways: str) -> None:
    """With keys, the relay makes up the names, and so it decides who is polite."""
    await survive(meeting, None, ways, "the relay", named=False)


async def survive(meeting: Stage, me: str | None, ways: str, drop: str, *, named: bool) -> None:
    we_send, it_sends = WAYS[ways]
    our_cable, its_cable = await meeting.cable(), await meeting.cable()
    us = meeting.ours(me, url=our_cable.url)
    it = meeting.published(IT if named else None, url=its_cable.url)
    if we_send:
        us.share("ours", ColourTrack(GREEN))
    if it_sends:
        it.share("its", ColourTrack(RED))
    await us.join()
    await it.join()

    async def pictures(since: float, skip: tuple[int, int] = (0, 0)) -> float:
        if it_sends:
            await us.until(lambda: any(shows(s, RED, since) for s in us.tracks[skip[0] :]), "its picture", PATIENT)
        if we_send:
            await it.until(lambda: any(shows(s, GREEN, since) for s in it.tracks[skip[1] :]), "our picture", PATIENT)
        return time.time()

    await pictures(0.0)
    # It makes a new connection each time, so what comes after that comes on new tracks.
    before = len(us.tracks), len(it.tracks)
    if drop == "our socket":
        await our_cable.out(0.5)
        back = time.time()
    elif drop == "its socket":
        await its_cable.out(0.5)
        back = time.time()
    else:
        back = await meeting.restart_relay(1.0)
    assert await pictures(back, before) - back < BACK
    if named:
        assert len(us.all("PeerJoined")) == 1
        assert us.all("PeerLeft") == []
    nothing_wrong(us)
