"""The ids that were ours: which of them count, when there have been more than are kept."""

from __future__ import annotations

from metered_proto.events import Presence, PresencePeer
from metered_proto.room.roster import FORMER_IDS, Changes, Roster


def somebody(peer_id: str) -> Presence:
    return Presence("room", (PresencePeer(peer_id),), ())


def nobody(peer_id: str) -> bool:
    return False


def test_to_be_called_the_same_again_costs_nothing() -> None:
    roster = Roster(10)
    roster.is_now("me")
    for number in range(FORMER_IDS):
        roster.is_now(f"n{number}")
    for _ in range(3):
        roster.is_now(f"n{FORMER_IDS - 1}")
    assert roster.delta(somebody("me"), nobody) == Changes(), "the oldest of them is still known"


def test_one_that_is_ours_again_begins_anew() -> None:
    roster = Roster(100)
    for name in ("me", "n0", "me"):
        roster.is_now(name)
    for number in range(1, FORMER_IDS + 1):
        roster.is_now(f"n{number}")
    assert roster.delta(somebody("me"), nobody) == Changes()
    assert roster.delta(somebody("n0"), nobody) == Changes(joined=("n0",)), "which was ours before it"
