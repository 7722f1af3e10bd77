"""The table of a peer's phases: each row is taken by a scenario of its own, and there is no way beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from table_kit import each_row
from talk_kit import CAMERA, SCREEN, Talk

from metered_proto.rtc.peer import TRANSITIONS, PhaseName, Trigger
from metered_proto.rtc.words import Reconcile, Shut

Scenario = Callable[[Talk], Any]
SCENARIOS: dict[tuple[str, str], Scenario] = {}
"""By row: a conversation whose last step takes it."""


def takes(phase: str, trigger: str) -> Callable[[Scenario], Scenario]:
    def note(scenario: Scenario) -> Scenario:
        SCENARIOS[phase, trigger] = scenario
        return scenario

    return note


@takes("idle", "begin")
def something_to_send(talk: Talk) -> None:
    talk.wants(CAMERA)


@takes("idle", "answer")
def the_remote_has_something(talk: Talk) -> None:
    talk.remote_offers()


@takes("idle", "shut")
def nothing_ever_happened(talk: Talk) -> None:
    talk.asks(Shut())


@takes("waiting", "rest")
def nothing_to_send_after_all(talk: Talk) -> None:
    talk.wants(CAMERA)
    talk.wants()


@takes("waiting", "offer")
def the_wait_is_over(talk: Talk) -> None:
    talk.wants(CAMERA)
    talk.until_woken()


@takes("waiting", "answer")
def the_remote_was_first(talk: Talk) -> None:
    talk.wants(CAMERA)
    talk.remote_offers()


@takes("waiting", "shut")
def gone_while_we_wait(talk: Talk) -> None:
    talk.wants(CAMERA)
    talk.asks(Shut())


@takes("offering", "described")
def our_offer_is_made(talk: Talk) -> None:
    talk.offers(CAMERA)


@takes("offering", "answer")
def the_remote_offers_ahead_of_us(talk: Talk) -> None:
    talk.wants(CAMERA)
    talk.until_woken()
    talk.remote_offers()


@takes("offering", "refused")
def another_track_cannot_be_offered(talk: Talk) -> None:
    talk.connects()
    talk.wants(CAMERA, SCREEN)
    talk.cannot()


@takes("offering", "lose")
def nothing_can_be_offered(talk: Talk) -> None:
    talk.wants(CAMERA)
    talk.until_woken()
    talk.cannot()


@takes("offering", "exhaust")
def nothing_could_ever_be_offered(talk: Talk) -> None:
    talk.wants(CAMERA)
    for _ in range(10):
        talk.until_woken()
        talk.cannot()


@takes("offering", "shut")
def gone_while_we_make_an_offer(talk: Talk) -> None:
    talk.wants(CAMERA)
    talk.until_woken()
    talk.asks(Shut())


@takes("offered", "accept")
def our_offer_is_answered(talk: Talk) -> None:
    talk.offers()
    talk.remote_answers()


@takes("offered", "answer")
def our_offer_gives_way(talk: Talk) -> None:
    talk.offers()
    talk.remote_offers()


@takes("offered", "lose")
def our_offer_fails(talk: Talk) -> None:
    talk.offers()
    talk.changes("failed")


@takes("offered", "exhaust")
def no_offer_is_ever_answered(talk: Talk) -> None:
    for _ in range(10):
        talk.offers()
        talk.changes("failed")


@takes("offered", "shut")
def gone_before_the_answer(talk: Talk) -> None:
    talk.offers()
    talk.asks(Shut())


@takes("taking", "agreed")
def the_answer_is_taken(talk: Talk) -> None:
    talk.offers()
    talk.remote_answers()
    talk.takes()


@takes("taking", "lose")
def the_answer_cannot_be_taken(talk: Talk) -> None:
    talk.offers()
    talk.remote_answers()
    talk.cannot()


@takes("taking", "exhaust")
def no_answer_can_ever_be_taken(talk: Talk) -> None:
    for _ in range(10):
        talk.offers()
        talk.remote_answers()
        talk.cannot()


@takes("taking", "shut")
def gone_after_the_answer(talk: Talk) -> None:
    talk.offers()
    talk.remote_answers()
    talk.asks(Shut())


@takes("answering", "described")
def our_answer_is_made(talk: Talk) -> None:
    talk.remote_offers()
    talk.describes()


@takes("answering", "answer")
def there_is_no_way_back_from_our_offer(talk: Talk) -> None:
    talk.connects()
    talk.wants(CAMERA, SCREEN)
    talk.describes()
    talk.remote_offers()
    talk.cannot()


@takes("answering", "refused")
def a_change_cannot_be_answered(talk: Talk) -> None:
    talk.is_called()
    talk.remote_offers("video sendrecv theirs t1", "video sendonly more t2")
    talk.cannot()


@takes("answering", "lose")
def the_call_cannot_be_answered(talk: Talk) -> None:
    talk.remote_offers()
    talk.cannot()


@takes("answering", "exhaust")
def no_call_can_ever_be_answered(talk: Talk) -> None:
    talk.wants(CAMERA)
    for number in range(10):
        talk.advance(2)
        talk.remote_offers(ufrag=f"they{number}")
        talk.cannot()


@takes("answering", "shut")
def gone_while_we_answer(talk: Talk) -> None:
    talk.remote_offers()
    talk.asks(Shut())


@takes("stable", "offer")
def there_is_more_to_send(talk: Talk) -> None:
    talk.connects()
    talk.wants(CAMERA, SCREEN)


@takes("stable", "answer")
def the_remote_has_more(talk: Talk) -> None:
    talk.connects()
    talk.remote_offers()


@takes("stable", "lose")
def the_connection_fails(talk: Talk) -> None:
    talk.connects()
    talk.changes("failed")


@takes("stable", "exhaust")
def it_never_comes_up(talk: Talk) -> None:
    for _ in range(10):
        talk.offers()
        talk.remote_answers()
        talk.takes()
        talk.changes("failed")


@takes("stable", "shut")
def gone_from_a_call(talk: Talk) -> None:
    talk.connects()
    talk.asks(Shut())


@takes("exhausted", "begin")
def the_relay_gives_new_hope(talk: Talk) -> None:
    nothing_could_ever_be_offered(talk)
    talk.asks(Reconcile(polite=True, replace=False))


@takes("exhausted", "rest")
def the_relay_is_back_and_nothing_is_wanted(talk: Talk) -> None:
    nothing_could_ever_be_offered(talk)
    talk.wants()
    talk.asks(Reconcile(polite=True, replace=False))


@takes("exhausted", "answer")
def the_remote_begins_anew(talk: Talk) -> None:
    nothing_could_ever_be_offered(talk)
    talk.remote_offers()


@takes("exhausted", "shut")
def gone_when_all_was_lost(talk: Talk) -> None:
    nothing_could_ever_be_offered(talk)
    talk.asks(Shut())


def at_once() -> Talk:
    """A conversation of a polite side in which no rebuild waits."""
    return Talk(polite=True, rebuild_delays=(0,) * 9)


@each_row("row", TRANSITIONS, ids=" ".join)
def test_each_row_is_taken(row: tuple[PhaseName, Trigger]) -> None:
    talk = at_once()
    SCENARIOS[row](talk)
    assert (*row, TRANSITIONS[row]) in talk.edges[-3:]


def test_gate() -> None:
    """All rows are taken and nothing but the rows, whichever scenario takes them."""
    taken: set[tuple[str, str, str]] = set()
    for scenario in SCENARIOS.values():
        talk = at_once()
        scenario(talk)
        taken.update(talk.edges)
    assert taken == {(phase, trigger, target) for (phase, trigger), target in TRANSITIONS.items()}
    assert set(SCENARIOS) == set(TRANSITIONS)


def test_the_table_names_every_phase_and_trigger_and_no_other() -> None:
    assert {phase for phase, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(get_args(PhaseName))
    assert {trigger for _, trigger in TRANSITIONS} == set(get_args(Trigger))


def test_shut_is_the_end() -> None:
    assert not [phase for phase, _ in TRANSITIONS if phase == "shut"]
    assert {phase for phase, trigger in TRANSITIONS if trigger == "shut"} == set(get_args(PhaseName)) - {"shut"}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.__name__)
def test_from_wherever_it_is_a_peer_can_be_shut(scenario: Scenario) -> None:
    talk = at_once()
    scenario(talk)
    op = talk.asks(Shut())
    assert op in talk.answers
    assert talk.state == "closed"
