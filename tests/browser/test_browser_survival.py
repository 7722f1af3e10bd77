"""Calls with a browser over lost sockets and killed relays: media again, with the same objects, without an error."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from testbed.browser import Browser, Received
from testbed.cable import Cable
from testbed.guest import Guest, Seen
from testbed.stage import Stage
from testbed.tracks import GREEN, RED, ColourTrack, colour_of, is_colour

pytestmark = pytest.mark.anyio

IT = "middle"

BACK = 3.0
"""Seconds after the return of the relay, or of a socket, within which there are pictures again."""


class Call:
    """A call with a browser. `ours` and `its` say who sends; `named` that ids are kept over reconnects."""

    def __init__(self, stage: Stage, me: str, *, ours: bool, its: bool, named: bool) -> None:
        self.stage, self.me, self.ours, self.its, self.named = stage, me, ours, its, named
        self.guest: Guest
        self.browser: Browser
        self.our_cable: Cable
        self.its_cable: Cable
        self._before = (0, 0)

    async def up(self) -> None:
        """Start it."""
        self.our_cable, self.its_cable = await self.stage.cable(), await self.stage.cable()
        self.guest = self.stage.ours(self.me if self.named else None, url=self.our_cable.url)
        if self.ours:
            self.guest.share("ours", ColourTrack(GREEN), role="ours")
        await self.guest.join()
        share: dict[str, Any] = {"cam": {"colour": RED, "metadata": {"role": "its"}}} if self.its else {}
        self.browser = await self.stage.browser(IT if self.named else None, url=self.its_cable.url, share=share)
        await self.pictures(0.0)
        # The browser makes a new connection each time, so what comes after that comes on new tracks.
        self._before = (len(self.guest.tracks), len(await self.browser.tracks()))

    async def pictures(self, since: float) -> float:
        """Wait for pictures that came after a moment, wherever there are to be some; returns when the last one came."""
        came = [since]
        if self.ours:
            tracks = await self.browser.sees(lambda tracks: self._new(tracks, since), patience=BACK + 3)
            came.append(max(one.lastAt or 0 for one in tracks))
        if self.its:
            await self.guest.until(
                lambda: any(seen.last_at and seen.last_at > since and seen.newest for seen in self._seen),
                "pictures",
                BACK + 3,
            )
            seen = self._seen[-1]
            assert is_colour(colour_of(seen.newest), RED)
            assert seen.metadata == {"role": "its"}
            came.append(seen.last_at or 0)
        return max(came)

    @property
    def _seen(self) -> list[Seen]:
        return [seen for seen in self.guest.tracks[self._before[0] :] if not seen.over]

    def _new(self, tracks: list[Received], since: float) -> bool:
        return any(
            one.live and (one.lastAt or 0) > since and is_colour(one.colour, GREEN) and one.metadata == {"role": "ours"}
            for one in tracks[self._before[1] :]
        )

    async def check(self, back: float) -> None:
        """There are pictures again soon after `back`, and nothing went wrong."""
        came = await self.pictures(back)
        assert came - back < BACK
        if self.named:
            assert len(self.guest.all("PeerJoined")) == 1
            assert self.guest.all("PeerLeft") == []
            assert [one.state for one in self.guest.peer.remote_peers] == ["connected"]
        await self.guest.until(lambda: self.guest.peer.state == "joined", "the room")
        assert self.guest.all("NegotiationError") == []
        assert self.browser.errors == []


WAYS = {"we send": (True, False), "it sends": (False, True), "both send": (True, True)}


@pytest.fixture(params=WAYS)
def ways(request: pytest.FixtureRequest) -> dict[str, bool]:
    ours, its = WAYS[request.param]
    return {"ours": ours, "its": its}


async def test_a_relay_that_dies_and_returns_with_tokens(stage: Stage, me: str, ways: dict[str, bool]) -> None:
    call = Call(stage, me, named=True, **ways)
    await call.up()
    await call.check(await stage.restart_relay(1.0))


async def test_a_relay_that_dies_and_returns_with_keys(stage: Stage, ways: dict[str, bool]) -> None:
    call = Call(stage, "", named=False, **ways)
    await call.up()
    await call.check(await stage.restart_relay(1.0))


async def test_pictures_go_on_while_there_is_no_relay(stage: Stage, me: str) -> None:
    call = Call(stage, me, named=True, ours=True, its=True)
    await call.up()
    port = await stage.kill_relay()
    await asyncio.sleep(0.5)
    await call.browser.forget_gaps()
    began = time.time()
    while time.time() < began + 2:
        await asyncio.sleep(0.2)
        (seen,) = call.guest.seen("video")
        (track,) = await call.browser.tracks()
        assert min(seen.last_at or 0, track.lastAt or 0) > time.time() - 0.5
        assert track.gap < 0.5
    await call.check(await stage.open_relay(port))


async def test_our_socket_is_cut(stage: Stage, me: str, ways: dict[str, bool]) -> None:
    call = Call(stage, me, named=True, **ways)
    await call.up()
    await call.our_cable.out(0.5)
    await call.check(time.time())


async def test_its_socket_is_cut(stage: Stage, me: str, ways: dict[str, bool]) -> None:
    call = Call(stage, me, named=True, **ways)
    await call.up()
    await call.its_cable.out(0.5)
    await call.check(time.time())
