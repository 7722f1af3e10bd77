"""Calls that may use nothing but a TURN server, a real coturn."""

from __future__ import annotations

import pytest

from testbed.guest import Guest
from testbed.stage import Stage
from testbed.tracks import GREEN, RED, Colour, ColourTrack, colour_of, is_colour
from testbed.turn_server import TurnServer

pytestmark = pytest.mark.anyio


def sees(guest: Guest, colour: Colour) -> bool:
    return any(seen.newest and is_colour(colour_of(seen.newest), colour) for seen in guest.tracks)


async def test_a_call_over_a_turn_server_alone(stage: Stage, turn: TurnServer) -> None:
    """Servers and credentials come as they do in the field: in the metadata of the token."""
    claims = {"metadata": {"iceServers": turn.ice_servers}}
    us = stage.ours("alice", claims=claims, ice_transport_policy="relay")
    they = stage.ours("zoe", claims=claims, ice_transport_policy="relay")
    us.share("ours", ColourTrack(GREEN))
    they.share("theirs", ColourTrack(RED))
    await us.join()
    await they.join()
    await us.until(lambda: sees(us, RED), "their picture")
    await they.until(lambda: sees(they, GREEN), "our picture")
    assert turn.allocations == 2
    for guest, other in ((us, they), (they, us)):
        stats = await guest.remote(other.peer_id).stats()
        assert stats.local is not None
        assert stats.remote is not None
        assert (stats.local.type, stats.remote.type) == ("relay", "relay")


async def test_one_side_behind_a_turn_server(stage: Stage, turn: TurnServer) -> None:
    claims = {"metadata": {"iceServers": turn.ice_servers}}
    us = stage.ours("alice", claims=claims, ice_transport_policy="relay")
    they = stage.ours("zoe")
    us.share("ours", ColourTrack(GREEN))
    await us.join()
    await they.join()
    await they.until(lambda: sees(they, GREEN), "our picture")
    assert turn.allocations == 1
