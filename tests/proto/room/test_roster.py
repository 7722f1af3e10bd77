"""Presence in, changes out."""

from __future__ import annotations

from typing import Any

from metered_proto.events import Presence, PresencePeer
from metered_proto.room.roster import FORMER_IDS, Changes, Roster


def presence(joined: str = "", left: str = "", **metadata: Any) -> Presence:
    return Presence(
        "room",
        tuple(PresencePeer(name, metadata.get(name)) for name in joined.split()),
        tuple(PresencePeer(name) for name in left.split()),
    )


def nobody(peer_id: str) -> bool:
    return False


def everybody(peer_id: str) -> bool:
    return True


def roster_of(names: str, **more: Any) -> Roster:
    roster = Roster(**more)
    roster.is_now("me")
    roster.snapshot(presence(names), nobody)
    return roster


def test_a_first_snapshot() -> None:
    roster = Roster()
    roster.is_now("me")
    assert roster.snapshot(presence("a me b"), nobody) == Changes(joined=("a", "b"))
    assert (list(roster), len(roster), "a" in roster, "me" in roster) == (["a", "b"], 2, True, False)


def test_a_later_snapshot() -> None:
    roster = roster_of("a b c")
    changes = roster.snapshot(presence("d c b", c={"n": 1}), nobody)
    assert changes == Changes(left=("a",), stayed=("c", "b"), updated=("c",), joined=("d",))
    assert list(roster) == ["b", "c", "d"]
    assert roster.metadata("c") == {"n": 1}


def test_a_delta() -> None:
    roster = roster_of("a b")
    assert roster.delta(presence("c", left="a x"), nobody) == Changes(left=("a",), joined=("c",))
    assert list(roster) == ["b", "c"]


def test_who_is_kept_is_away_until_it_is_back() -> None:
    roster = roster_of("a b")
    assert roster.delta(presence(left="a"), everybody) == Changes(away=("a",))
    assert roster.is_away("a")
    assert list(roster) == ["a", "b"]
    assert roster.delta(presence(left="a"), everybody) == Changes()
    assert roster.delta(presence("a"), nobody) == Changes(returned=("a",))
    assert not roster.is_away("a")


def test_who_is_away_may_be_given_up_by_the_next_word() -> None:
    roster = roster_of("a b")
    roster.delta(presence(left="a"), everybody)
    assert roster.snapshot(presence("b"), nobody) == Changes(left=("a",), stayed=("b",))


def test_who_is_away_may_be_given_up_by_us() -> None:
    roster = roster_of("a b")
    roster.delta(presence(left="a"), everybody)
    roster.remove("a")
    assert list(roster) == ["b"]


def test_without_the_server_nobody_is_away() -> None:
    roster = roster_of("a")
    roster.delta(presence(left="a"), everybody)
    roster.recall()
    assert not roster.is_away("a")
    assert roster.snapshot(presence("a"), nobody) == Changes(stayed=("a",))


def test_left_and_joined_at_once() -> None:
    roster = roster_of("a b")
    assert roster.delta(presence("a", left="a"), nobody) == Changes(left=("a",), joined=("a",))
    assert roster.delta(presence("a", left="a"), everybody) == Changes(returned=("a",))


def test_there_is_a_limit() -> None:
    roster = roster_of("a b", limit=2)
    assert roster.delta(presence("c d b"), nobody) == Changes(stayed=("b",), refused=2)
    assert roster.delta(presence("c", left="a"), nobody) == Changes(left=("a",), joined=("c",))


class TestOurOwnIds:
    def test_a_former_one_is_not_somebody(self) -> None:
        roster = roster_of("a")
        roster.is_now("me2")
        assert roster.own_id == "me2"
        assert roster.snapshot(presence("a me"), nobody) == Changes(stayed=("a",))
        assert roster.delta(presence("me"), nobody) == Changes()

    def test_until_it_has_left(self) -> None:
        roster = roster_of("")
        roster.is_now("me2")
        roster.delta(presence(left="me"), nobody)
        assert roster.delta(presence("me"), nobody) == Changes(joined=("me",))

    def test_or_is_missing(self) -> None:
        roster = roster_of("")
        roster.is_now("me2")
        roster.snapshot(presence(), nobody)
        assert roster.delta(presence("me"), nobody) == Changes(joined=("me",))

    def test_it_may_be_ours_again(self) -> None:
        roster = roster_of("")
        roster.is_now("me2")
        roster.is_now("me")
        assert roster.snapshot(presence("me me2"), nobody) == Changes()

    def test_there_is_a_limit(self) -> None:
        roster = roster_of("")
        for number in range(FORMER_IDS + 1):
            roster.is_now(f"n{number}")
        assert roster.delta(presence("me n0"), nobody) == Changes(joined=("me",))

    def test_with_everybody_gone_we_are_nobody(self) -> None:
        roster = roster_of("a")
        roster.is_now("me2")
        roster.clear()
        assert (len(roster), roster.own_id) == (0, None)
        assert roster.delta(presence("me"), nobody) == Changes(joined=("me",))
