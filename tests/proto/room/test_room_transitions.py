"""The table of states: each row is taken by a scenario of its own, and there is no way beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from table_kit import each_row

from metered_proto.room.room import TRANSITIONS, Trigger
from metered_proto.room.words import RoomState

Begin = Callable[..., Any]
Scenario = Callable[[Begin], Any]
SCENARIOS: dict[tuple[str, str], Scenario] = {}
"""By row: a conversation whose last step takes it."""


def takes(state: str, trigger: str) -> Callable[[Scenario], Scenario]:
    def note(scenario: Scenario) -> Scenario:
        SCENARIOS[state, trigger] = scenario
        return scenario

    return note


@takes("idle", "join")
def asked_to_join(begin: Begin) -> Any:
    talk = begin()
    talk.asks_to_join()
    return talk


@takes("idle", "leave")
def left_before_it_began(begin: Begin) -> Any:
    talk = begin()
    talk.leaves()
    talk.edges.pop()  # the way out of `leaving` follows at once
    return talk


@takes("joining", "ack")
def let_in(begin: Begin) -> Any:
    talk = begin()
    talk.joins()
    return talk


@takes("joining", "fail")
def nobody_there(begin: Begin) -> Any:
    talk = begin()
    talk.asks_to_join()
    talk.link_goes_down()
    return talk


@takes("joining", "leave")
def left_while_joining(begin: Begin) -> Any:
    talk = begin()
    talk.asks_to_join()
    talk.leaves()
    talk.edges.pop()
    return talk


@takes("joined", "drop")
def the_connection_is_lost(begin: Begin) -> Any:
    talk = begin()
    talk.joins()
    talk.link_goes_down()
    return talk


@takes("joined", "end")
def thrown_out(begin: Begin) -> Any:
    talk = begin()
    talk.joins()
    talk.link_goes_down(4020)
    return talk


@takes("joined", "leave")
def left_the_room(begin: Begin) -> Any:
    talk = begin()
    talk.joins()
    talk.leaves()
    talk.edges.pop()
    return talk


@takes("reconnecting", "reconciled")
def the_snapshot_came(begin: Begin) -> Any:
    talk = begin()
    talk.joins()
    talk.link_goes_down()
    talk.comes_back()
    return talk


@takes("reconnecting", "end")
def no_way_back(begin: Begin) -> Any:
    talk = begin()
    talk.joins()
    talk.link_goes_down()
    talk.until_woken()
    talk.link_goes_down(4001)
    return talk


@takes("reconnecting", "leave")
def left_while_reconnecting(begin: Begin) -> Any:
    talk = begin()
    talk.joins()
    talk.link_goes_down()
    talk.leaves()
    talk.edges.pop()
    return talk


@takes("leaving", "left")
def everything_is_closed(begin: Begin) -> Any:
    talk = begin()
    talk.joins("bob")
    talk.leaves()
    return talk


@each_row("row", TRANSITIONS, ids=" ".join)
def test_each_row_is_taken(row: tuple[RoomState, Trigger], converse: Begin) -> None:
    talk = SCENARIOS[row](converse)
    assert talk.edges[-1] == (*row, TRANSITIONS[row])


def test_gate(converse: Begin) -> None:
    """All rows are taken and nothing but the rows, whichever scenario takes them."""
    taken = {edge for scenario in SCENARIOS.values() for edge in scenario(converse).edges}
    assert taken == {(state, trigger, target) for (state, trigger), target in TRANSITIONS.items()}
    assert set(SCENARIOS) == set(TRANSITIONS)


def test_the_table_names_every_state_and_trigger_and_no_other() -> None:
    assert {state for state, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(get_args(RoomState))
    assert {trigger for _, trigger in TRANSITIONS} == set(get_args(Trigger))


def test_closed_is_the_end() -> None:
    assert not [state for state, _ in TRANSITIONS if state == "closed"]


def test_the_application_can_always_leave() -> None:
    leaves = {state for state, trigger in TRANSITIONS if trigger == "leave"}
    assert leaves == set(get_args(RoomState)) - {"leaving", "closed"}
