"""The table of phases: each row is taken by a scenario of its own, and there is no way beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from table_kit import each_row

from metered_proto.client.calls import Close, Connect
from metered_proto.client.session import TRANSITIONS, PhaseName, Trigger

Begin = Callable[..., Any]
Scenario = Callable[[Begin], Any]
SCENARIOS: dict[tuple[str, str], Scenario] = {}
"""By row: a conversation whose last step takes it."""


def takes(phase: str, trigger: str) -> Callable[[Scenario], Scenario]:
    def note(scenario: Scenario) -> Scenario:
        SCENARIOS[phase, trigger] = scenario
        return scenario

    return note


@takes("idle", "fetch")
def the_first_attempt_with_tokens(begin: Begin) -> Any:
    talk = begin(api_key=None)
    talk.asks(Connect())
    return talk


@takes("idle", "open")
def the_first_attempt_with_a_key(begin: Begin) -> Any:
    talk = begin()
    talk.asks(Connect())
    return talk


@takes("idle", "close")
def closed_before_it_began(begin: Begin) -> Any:
    talk = begin()
    talk.asks(Close())
    return talk


@takes("fetching", "open")
def the_token_comes(begin: Begin) -> Any:
    talk = begin(api_key=None)
    talk.asks(Connect())
    talk.token_comes()
    return talk


@takes("fetching", "retry")
def the_token_does_not_come_on_a_reconnect(begin: Begin) -> Any:
    talk = begin(api_key=None)
    talk.connects()
    talk.link_goes_down()
    talk.until_woken()
    talk.token_fails()
    return talk


@takes("fetching", "fail")
def the_first_token_does_not_come(begin: Begin) -> Any:
    talk = begin(api_key=None)
    talk.asks(Connect())
    talk.token_fails()
    return talk


@takes("fetching", "end")
def the_last_attempt_gets_no_token(begin: Begin) -> Any:
    talk = begin(api_key=None, reconnect={"max_attempts": 1})
    talk.connects()
    talk.link_goes_down()
    talk.until_woken()
    talk.token_fails()
    return talk


@takes("fetching", "close")
def closed_while_a_token_is_fetched(begin: Begin) -> Any:
    talk = begin(api_key=None)
    talk.asks(Connect())
    talk.asks(Close())
    return talk


@takes("opening", "up")
def the_link_comes_up(begin: Begin) -> Any:
    talk = begin()
    talk.asks(Connect())
    talk.link_comes_up()
    return talk


@takes("opening", "retry")
def nobody_there_on_a_reconnect(begin: Begin) -> Any:
    talk = begin()
    talk.connects()
    talk.link_goes_down()
    talk.until_woken()
    talk.link_goes_down()
    return talk


@takes("opening", "fail")
def nobody_there_on_the_first_connect(begin: Begin) -> Any:
    talk = begin()
    talk.asks(Connect())
    talk.link_goes_down()
    return talk


@takes("opening", "end")
def nobody_there_on_the_last_attempt(begin: Begin) -> Any:
    talk = begin(reconnect={"max_attempts": 1})
    talk.connects()
    talk.link_goes_down()
    talk.until_woken()
    talk.link_goes_down()
    return talk


@takes("opening", "close")
def closed_while_the_link_is_opened(begin: Begin) -> Any:
    talk = begin()
    talk.asks(Connect())
    talk.asks(Close())
    return talk


@takes("greeting", "welcome")
def the_server_says_welcome(begin: Begin) -> Any:
    talk = begin()
    talk.connects()
    return talk


@takes("greeting", "retry")
def lost_ahead_of_a_second_welcome(begin: Begin) -> Any:
    talk = begin()
    talk.connects()
    talk.link_goes_down()
    talk.until_woken()
    talk.link_comes_up()
    talk.link_goes_down()
    return talk


@takes("greeting", "fail")
def lost_ahead_of_the_first_welcome(begin: Begin) -> Any:
    talk = begin()
    talk.asks(Connect())
    talk.link_comes_up()
    talk.link_goes_down(4001)
    return talk


@takes("greeting", "end")
def turned_away_for_good(begin: Begin) -> Any:
    talk = begin()
    talk.connects()
    talk.link_goes_down()
    talk.until_woken()
    talk.link_comes_up()
    talk.link_goes_down(4001)
    return talk


@takes("greeting", "close")
def closed_ahead_of_the_welcome(begin: Begin) -> Any:
    talk = begin()
    talk.asks(Connect())
    talk.link_comes_up()
    talk.asks(Close())
    return talk


@takes("online", "retry")
def the_connection_is_lost(begin: Begin) -> Any:
    talk = begin()
    talk.connects()
    talk.link_goes_down()
    return talk


@takes("online", "end")
def thrown_out(begin: Begin) -> Any:
    talk = begin()
    talk.connects()
    talk.link_goes_down(4020)
    return talk


@takes("online", "close")
def closed_while_connected(begin: Begin) -> Any:
    talk = begin()
    talk.connects()
    talk.asks(Close())
    return talk


@takes("waiting", "fetch")
def the_wait_is_over_with_tokens(begin: Begin) -> Any:
    talk = begin(api_key=None)
    talk.connects()
    talk.link_goes_down()
    talk.until_woken()
    return talk


@takes("waiting", "open")
def the_wait_is_over_with_a_key(begin: Begin) -> Any:
    talk = begin()
    talk.connects()
    talk.link_goes_down()
    talk.until_woken()
    return talk


@takes("waiting", "fail")
def called_off_between_two_first_attempts(begin: Begin) -> Any:
    talk = begin(reconnect={"retry_first": True})
    op = talk.asks(Connect())
    talk.link_goes_down()
    talk.withdraws(op)
    return talk


@takes("waiting", "close")
def closed_while_it_waits(begin: Begin) -> Any:
    talk = begin()
    talk.connects()
    talk.link_goes_down()
    talk.asks(Close())
    return talk


@each_row("row", TRANSITIONS, ids=" ".join)
def test_each_row_is_taken(row: tuple[PhaseName, Trigger], converse: Begin) -> None:
    talk = SCENARIOS[row](converse)
    assert talk.edges[-1] == (*row, TRANSITIONS[row])


def test_gate(converse: Begin) -> None:
    """All rows are taken and nothing but the rows, whichever scenario takes them."""
    taken = {edge for scenario in SCENARIOS.values() for edge in scenario(converse).edges}
    assert taken == {(phase, trigger, target) for (phase, trigger), target in TRANSITIONS.items()}
    assert set(SCENARIOS) == set(TRANSITIONS)


def test_the_table_names_every_phase_and_trigger_and_no_other() -> None:
    assert {phase for phase, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(get_args(PhaseName))
    assert {trigger for _, trigger in TRANSITIONS} == set(get_args(Trigger))


def test_closed_is_the_end() -> None:
    assert not [phase for phase, _ in TRANSITIONS if phase == "closed"]


def test_from_every_other_phase_the_application_can_close() -> None:
    assert {phase for phase, trigger in TRANSITIONS if trigger == "close"} == set(get_args(PhaseName)) - {"closed"}
