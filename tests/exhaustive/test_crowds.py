"""Rooms with many in them, in front of the relay's own machine."""

from __future__ import annotations

import pytest
from world_kit import World

pytestmark = pytest.mark.slow


def test_a_crowd_that_joins_at_once_keeps_within_the_limits_of_the_relay() -> None:
    """The newcomer has to call everybody, at a rate that the relay takes."""
    world = World()
    others = [world.place(f"p{number:02}", f"p{number:02}") for number in range(60)]
    for place in others:
        place.joins()
    last = world.place("zoe", "zoe")
    for number in range(4):
        last.sends(number, metadata={"role": str(number)})
    last.joins()
    world.run(30)
    world.agree()
    assert last.room.session.counters.connects == 1
    assert all(last.is_connected_to(place) for place in others)
