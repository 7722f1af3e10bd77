"""Every order of things between two negotiating peers, in depth.

How far it goes is said in worlds that are looked into: `METERED_INTERLEAVINGS`, 160 unless it is set. With 160 every
order of the first seven steps has been tried, or of the first five where everything may happen; with 2500 it is
eleven, or seven.
"""

from __future__ import annotations

import os

import pytest
from interleavings_kit import MISHAPS, START, begin, candidates_find_their_connection, explore

WORLDS = int(os.environ.get("METERED_INTERLEAVINGS", "160"))

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mishaps", MISHAPS)
@pytest.mark.parametrize("start", START)
def test_two_peers_come_to_an_agreement_whatever_happens(start: str, mishaps: str) -> None:
    reached = explore(begin(start, rolls_back=True), MISHAPS[mishaps], WORLDS)
    assert reached or (start, mishaps) == ("in a call", "nothing")


@pytest.mark.parametrize("mishaps", ["the relay is lost", "tracks come and go", "all of it"])
def test_even_where_no_offer_can_be_taken_back(mishaps: str) -> None:
    assert explore(begin("in a call", rolls_back=False), MISHAPS[mishaps], WORLDS)


@pytest.mark.parametrize("mishaps", ["nothing", "connections fail", "tracks come and go", "one side reconciles"])
def test_candidates_reach_the_connection_they_are_for(mishaps: str) -> None:
    assert candidates_find_their_connection(MISHAPS[mishaps], WORLDS)
