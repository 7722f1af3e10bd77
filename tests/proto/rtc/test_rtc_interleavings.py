"""A short look into every order of things between two peers; `tests/exhaustive` has the long one."""

from __future__ import annotations

import pytest
from interleavings_kit import MISHAPS, START, begin, candidates_find_their_connection, explore, key_of, take
from sim_kit import Side, Step, World

WORLDS = 6


@pytest.mark.parametrize("mishaps", MISHAPS)
def test_two_peers_come_to_an_agreement_whatever_happens(mishaps: str) -> None:
    for start in START:
        reached = explore(begin(start, rolls_back=True), MISHAPS[mishaps], WORLDS)
        assert reached or (start, mishaps) == ("in a call", "nothing")


@pytest.mark.parametrize("mishaps", ["the relay is lost", "tracks come and go", "all of it"])
def test_even_where_no_offer_can_be_taken_back(mishaps: str) -> None:
    assert explore(begin("in a call", rolls_back=False), MISHAPS[mishaps], WORLDS)


@pytest.mark.parametrize("mishaps", ["nothing", "tracks come and go"])
def test_candidates_reach_the_connection_they_are_for(mishaps: str) -> None:
    assert candidates_find_their_connection(MISHAPS[mishaps], WORLDS)


def test_the_search_would_find_two_that_are_stuck() -> None:
    """Nothing that one side says ever arrives. Both give up in the end, and that is no agreement."""

    class Deaf(World):
        def steps(self) -> list[Step]:
            self.sides["a"].out.clear()
            return super().steps()

    world = Deaf(Side("a", polite=True), Side("b", polite=False), keep_told=False)
    take(world, ("video 1", "a"))
    assert not world.settle(wakes=200)
    assert world.sides["a"].peer.state == "closed"


def test_equal_worlds_are_known_to_be_equal() -> None:
    assert key_of(begin("both send", rolls_back=True)) == key_of(begin("both send", rolls_back=True))
    assert key_of(begin("both send", rolls_back=True)) != key_of(begin("the polite side sends", rolls_back=True))
