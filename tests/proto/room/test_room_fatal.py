"""What fires `FatalError`: every row of the table, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from table_kit import each_row

from metered_proto.errors import MeteredRealtimeError, ReconcileTimeoutError, ServerRequestError, SignallingConnectError
from metered_proto.events import FatalError, Left, StateChange
from metered_proto.facts import EffectDone
from metered_proto.orders import CloseLink
from metered_proto.room.words import MemberLeft

Converse = Callable[..., Any]

CLOSE_CODES = [
    (4001, "invalid_token"),
    (4002, "token_expired"),
    (4003, "channel_not_authorized"),
    (4012, "account_suspended"),
    (4020, "admin_disconnect"),
]

SERVER_ERRORS = [
    "account_suspended",
    "channel_not_authorized",
    "action_not_permitted",
    "invalid_token",
    "token_expired",
]


def fatal(talk: Any) -> list[Exception]:
    return [event.err for event in talk.told if isinstance(event, FatalError)]


@each_row(("code", "name"), CLOSE_CODES)
def test_a_terminal_close(code: int, name: str, converse: Converse) -> None:
    talk = converse()
    talk.joins("bob")
    talk.forget()
    talk.link_goes_down(code, "as it happens")
    [error] = fatal(talk)
    assert isinstance(error, MeteredRealtimeError)
    assert name in str(error)
    assert str(code) in str(error)
    assert isinstance(talk.told[0], FatalError)
    assert MemberLeft("bob") in talk.told
    assert talk.told[-2:] == [StateChange("joined", "closed"), Left("me", "room", name)]


@each_row(("code", "name"), CLOSE_CODES)
def test_a_terminal_close_while_reconnecting(code: int, name: str, converse: Converse) -> None:
    talk = converse()
    talk.joins("bob")
    talk.link_goes_down()
    talk.until_woken()
    talk.link_goes_down(code)
    [error] = fatal(talk)
    assert error == ServerRequestError(name, f"the connection was closed with {code}")
    assert talk.state == "closed"


def test_an_expired_token_is_not_final_where_there_are_fresh_ones(converse: Converse) -> None:
    talk = converse(api_key=None)
    talk.joins()
    talk.link_goes_down(4002)
    assert talk.state == "reconnecting"
    assert not fatal(talk)
    talk.comes_back()
    assert talk.state == "joined"


@each_row("code", SERVER_ERRORS)
def test_a_fatal_error_of_the_server(code: str, converse: Converse) -> None:
    talk = converse()
    talk.joins("bob")
    talk.forget()
    talk.refuse(None, code, "that is it")
    assert fatal(talk) == [ServerRequestError(code, "that is it")]
    assert talk.told[-1] == Left("me", "room", code)
    assert [order for order in talk.orders if isinstance(order, CloseLink)]


def test_a_second_one_in_the_same_read_changes_nothing(joined: Any) -> None:
    error = {"type": "error", "code": "account_suspended", "message": "no"}
    joined.server(error, error, {"type": "message", "channel": "room", "from": "bob", "data": 1})
    assert len(fatal(joined)) == 1
    assert joined.told[-1] == Left("me", "room", "account_suspended")


@each_row("code", ["over_message_quota", "backend_error", "internal_error", "something_new"])
def test_other_errors_of_the_server_are_not_fatal(code: str, converse: Converse) -> None:
    talk = converse()
    talk.joins("bob")
    talk.forget()
    talk.refuse(None, code)
    assert talk.told == []
    assert talk.state == "joined"


def test_an_error_that_belongs_to_a_request_is_raised_there(joined: Any) -> None:
    op = joined.sends()
    joined.refuse(joined.sent[-1], "account_suspended")
    assert joined.error(op) == ServerRequestError("account_suspended", "no", str(op))
    assert not fatal(joined)


def test_a_subscription_that_is_not_restored_for_good(talk: Any) -> None:
    talk.joins("bob")
    talk.link_goes_down()
    talk.until_woken()
    talk.is_welcomed()
    for _ in range(4):
        talk.refuse(talk.requests("subscribe")[-1], "channel_not_authorized")
        assert talk.state == "reconnecting" or fatal(talk)
        if talk.state == "reconnecting":
            talk.until_woken()
    [error] = fatal(talk)
    assert "channel_not_authorized" in str(error)
    assert talk.state == "closed"


def test_the_token_provider_fails_past_its_threshold(converse: Converse) -> None:
    """It may still recover, so the room goes on trying; who takes the event as final leaves."""
    talk = converse(api_key=None)
    talk.joins("bob")
    talk.link_goes_down()
    for _ in range(4):
        talk.until_woken()
        talk.give(
            EffectDone(talk.effect, error=OSError("mint?token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"))
        )
    told = fatal(talk)
    assert [str(error).partition(":")[0] for error in told] == [
        "token provider failed 3 consecutive attempts",
        "token provider failed 4 consecutive attempts",
    ]
    assert all(isinstance(error, MeteredRealtimeError) for error in told)
    assert "c2lnbmF0dXJl" not in str(told[0])
    assert isinstance(told[0].__cause__, OSError)
    assert talk.state == "reconnecting"
    talk.comes_back("bob")
    assert talk.state == "joined"


def test_the_token_provider_fails_past_its_threshold_while_joining(converse: Converse) -> None:
    talk = converse(api_key=None)
    for attempt in (1, 2, 3):
        op = talk.asks_to_join()
        talk.give(EffectDone(talk.effect, error=OSError("no mint")))
        assert isinstance(talk.error(op), SignallingConnectError)
        assert len(fatal(talk)) == (attempt == 3)
    assert talk.state == "idle"


def test_no_snapshot_comes(talk: Any) -> None:
    talk.joins("bob")
    talk.link_goes_down()
    talk.until_woken()
    talk.gets_in()
    talk.advance(60)
    [error] = fatal(talk)
    assert isinstance(error, ReconcileTimeoutError)
    assert talk.told[-1] == Left("me", "room", "reconcile_timeout")


def test_a_ladder_that_ends_closes_the_room_without_one(converse: Converse) -> None:
    talk = converse(reconnect={"max_attempts": 1})
    talk.joins("bob")
    talk.link_goes_down()
    talk.until_woken()
    talk.link_goes_down(503, "busy")
    assert not fatal(talk)
    assert talk.told[-2:] == [StateChange("reconnecting", "closed"), Left("me", "room", "503 busy")]


def test_without_reconnecting_a_drop_is_the_end(converse: Converse) -> None:
    talk = converse(no_reconnect=True)
    talk.joins()
    talk.link_goes_down()
    assert talk.told[-1] == Left("me", "room", "1006")


@pytest.mark.parametrize("code", [1001, 1008, 1009, 4000, 4010, 4011])
def test_other_closes_are_passing(code: int, talk: Any) -> None:
    talk.joins()
    talk.link_goes_down(code)
    assert talk.state == "reconnecting"
    assert not fatal(talk)
