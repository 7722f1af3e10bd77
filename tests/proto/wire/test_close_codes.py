"""Every close code has its verdict, and so has every number that is none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.wire.close_codes import SYMBOLIC_NAMES, ErrorCode, Verdict, WsCloseCode, verdict

RECONNECT = Verdict(reconnect=True)
STOP = Verdict(reconnect=False)

TABLE = [
    # code, its name, the verdict without a provider of tokens, the verdict with one
    (1000, WsCloseCode.NORMAL, RECONNECT, RECONNECT),
    (1001, WsCloseCode.GOING_AWAY, RECONNECT, RECONNECT),
    (1006, WsCloseCode.ABNORMAL, RECONNECT, RECONNECT),
    (1008, WsCloseCode.POLICY_VIOLATION, RECONNECT, RECONNECT),
    (1009, WsCloseCode.MESSAGE_TOO_BIG, RECONNECT, RECONNECT),
    (4000, WsCloseCode.INACTIVITY, RECONNECT, RECONNECT),
    (4001, WsCloseCode.INVALID_TOKEN, STOP, STOP),
    (4002, WsCloseCode.TOKEN_EXPIRED, STOP, RECONNECT),
    (4003, WsCloseCode.CHANNEL_NOT_AUTHORIZED, STOP, STOP),
    (4010, WsCloseCode.CONCURRENT_LIMIT, Verdict(True, 30_000_000), Verdict(True, 30_000_000)),
    (4011, WsCloseCode.MESSAGE_RATE, RECONNECT, RECONNECT),
    (4012, WsCloseCode.ACCOUNT_SUSPENDED, STOP, STOP),
    (4020, WsCloseCode.ADMIN_DISCONNECT, STOP, STOP),
]


@each_row(("code", "name", "without_provider", "with_provider"), TABLE)
def test_each_close_code(code: int, name: WsCloseCode, without_provider: Verdict, with_provider: Verdict) -> None:
    assert name == code
    assert verdict(code, can_refresh=False) == without_provider
    assert verdict(name, can_refresh=True) == with_provider


def test_the_table_has_every_code() -> None:
    assert [row[1] for row in TABLE] == list(WsCloseCode)


@given(st.integers(-1, 5000) | st.integers(), st.booleans())
def test_only_the_named_ones_stop(code: int, can_refresh: bool) -> None:
    outcome = verdict(code, can_refresh=can_refresh)
    stops = {4001, 4003, 4012, 4020} if can_refresh else {4001, 4002, 4003, 4012, 4020}
    assert outcome.reconnect == (code not in stops)
    assert outcome.min_delay == (30_000_000 if code == 4010 else 0)


@each_row("status", [400, 401, 403, 404, 426, 429, 500, 502, 503])
def test_an_http_answer_is_no_reason_to_give_up(status: int) -> None:
    assert verdict(status, can_refresh=False) == RECONNECT


def test_every_close_that_can_be_final_has_a_name() -> None:
    assert dict(SYMBOLIC_NAMES) == {
        4001: "invalid_token",
        4002: "token_expired",
        4003: "channel_not_authorized",
        4012: "account_suspended",
        4020: "admin_disconnect",
    }
    assert set(SYMBOLIC_NAMES) == {code for code in WsCloseCode if not verdict(code, can_refresh=False).reconnect}


def test_error_codes_are_the_text_of_the_wire() -> None:
    assert [str(code) for code in ErrorCode] == [
        "malformed_message",
        "unknown_type",
        "invalid_channel",
        "invalid_peer_id",
        "channel_not_authorized",
        "channel_reserved",
        "channel_limit_exceeded",
        "peer_not_found",
        "missing_data",
        "action_not_permitted",
        "over_message_quota",
        "backend_error",
        "internal_error",
    ]
    assert all(code == code.value and isinstance(code, str) for code in ErrorCode)
