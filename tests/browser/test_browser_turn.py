"""A browser and we, each behind a TURN server and nothing else: a real coturn."""

from __future__ import annotations

import pytest

from testbed import MissingError
from testbed.stage import Stage
from testbed.tracks import GREEN, RED, ColourTrack, colour_of, is_colour
from testbed.turn_server import TurnServer

pytestmark = pytest.mark.anyio


async def test_relay_only_on_both_sides(stage: Stage, me: str) -> None:
    server = TurnServer()
    try:
        await server.__aenter__()
    except MissingError as missing:
        pytest.skip(str(missing))
    try:
        claims = {"metadata": {"iceServers": server.ice_servers}}
        guest = stage.ours(me, claims=claims, ice_transport_policy="relay")
        guest.share("ours", ColourTrack(GREEN))
        await guest.join()
        share = {"cam": {"colour": RED}}
        browser = await stage.browser("middle", claims=claims, share=share, rtc={"iceTransportPolicy": "relay"})
        await browser.sees(lambda tracks: any(is_colour(one.colour, GREEN) for one in tracks))
        await guest.until(lambda: any(s.newest and is_colour(colour_of(s.newest), RED) for s in guest.tracks), "red")
        stats = await guest.remote("middle").stats()
        assert stats.local is not None
        assert stats.remote is not None
        assert (stats.local.type, stats.remote.type) == ("relay", "relay")
        assert browser.errors == []
    finally:
        await server.__aexit__(None, None, None)
