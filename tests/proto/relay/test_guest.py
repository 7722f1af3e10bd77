"""The course of a guest's life: every row of the table is lived through, and nothing else ever happens."""

from __future__ import annotations

import pytest

from metered_proto.facts import LinkBlocked, LinkDown, LinkUp
from metered_proto.relay import Kick
from metered_proto.relay.guest import LIFE, Guest, State, Step


@pytest.fixture
def lived(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[State, Step], State]:
    """Every step that any guest takes, and where it led."""
    steps: dict[tuple[State, Step], State] = {}
    take = Guest.take

    def taken(guest: Guest, step: Step) -> None:
        before = guest.state
        take(guest, step)
        steps[before, step] = guest.state

    monkeypatch.setattr(Guest, "take", taken)
    return steps


def test_every_row_is_taken_and_no_other(world, lived) -> None:
    relay = world(max_queue=10_000)
    relay.knock("/elsewhere")  # new: refuse
    relay.knock("/v1?key=bad")  # new: accept; asking: close; closing, in the end: abort
    failed = relay.knock("/v1?key=pk_live_test", up=False)
    failed.hang_up()  # asking: down
    relay.knock("/v1?key=pk_live_test", up=False)  # asking, in the end: abort
    left = relay.enter()  # asking: welcome
    left.hang_up()  # member: down
    kicked = relay.enter()
    relay.answer(Kick(kicked.peer_id))  # member: close
    kicked.hang_up()  # closing: down
    slow = relay.enter()
    relay.tell(LinkBlocked(slow.link, 10_001))  # member: abort
    relay.wait(10)
    assert lived == dict(LIFE)


def test_every_state_can_be_reached_and_all_roads_end() -> None:
    assert {state for state, _ in LIFE} | {State.GONE} == set(State) == {State.NEW, *LIFE.values()}
    assert {step for _, step in LIFE} == set(Step)
    assert all(state is not State.GONE for state, _ in LIFE)


def test_what_is_not_in_the_table_does_not_happen() -> None:
    for state in State:
        for step in Step:
            guest = Guest(1)
            guest.state = state
            if (state, step) in LIFE:
                guest.take(step)
                assert guest.state is LIFE[state, step]
            else:
                with pytest.raises(KeyError):
                    guest.take(step)


def test_only_a_member_is_one() -> None:
    guest = Guest(1)
    for state in State:
        guest.state = state
        assert guest.is_member() is (state is State.MEMBER)


def test_what_is_gone_is_forgotten(relay) -> None:
    for target in ("/v1?key=pk_live_test", "/v1?key=bad", "/x"):
        guest = relay.knock(target)
        relay.tell(LinkDown(guest.link, 1006))
        assert relay.tell(LinkUp(guest.link)) == []
    machine = relay.relay
    assert machine._guests == machine._verdicts == {}
    assert machine.deadline is None
