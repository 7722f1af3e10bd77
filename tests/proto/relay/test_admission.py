"""Who may come in, and with what word everybody else is sent away."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from table_kit import each_row

from metered_proto.relay import PublishableKey, RelaySettings, SecretKey
from metered_proto.relay.admission import (
    KEY_MEMORY,
    TOKEN_MEMORY,
    Access,
    Admission,
    Identity,
    Refused,
    TurnedAway,
    publishing_problem,
)
from metered_proto.wire.channels import Pattern
from metered_proto.wire.close_codes import ErrorCode
from metered_proto.wire.tokens import mint

NOW = 1_800_000_000
SECRET = "sk_secret_0123456789abcdef"
SETTINGS = RelaySettings(
    born_at=0.0,
    keys=(
        PublishableKey("pk_live_open"),
        PublishableKey("pk_live_web", origins=("https://App.example",)),
        PublishableKey("pk_live_late", suspended=True),
    ),
    secrets=(
        SecretKey("sk_id_all", SECRET),
        SecretKey("sk_id_some", SECRET, patterns=("fleet/**", "lobby"), permissions=("subscribe", "presence")),
        SecretKey("sk_id_late", SECRET, suspended=True),
    ),
)


def judge(target: str, origin: str | None = None, wall: float = NOW):
    return Admission(SETTINGS).judge(target, origin, wall)


def judge_token(key_id: str = "sk_id_all", wall: float = NOW, secret: str = SECRET, **claims):
    token = mint(key_id=key_id, secret=secret, peer_id="alice", now=NOW, **claims)
    return judge(f"/v1?token={token}", wall=wall)


@each_row("path", ["/", "/v1/", "/v2", "", "v1", "/v1/x", "http://h/v1", "/V1"])
def test_another_path_is_not_found(path: str) -> None:
    assert judge(f"{path}?key=pk_live_open") == Refused(404, "Not Found")


def test_a_key_lets_in_a_guest_whom_the_relay_will_name() -> None:
    identity = judge("/v1?key=pk_live_open")
    assert isinstance(identity, Identity)
    assert (identity.peer_id, identity.expires_at, identity.metadata, identity.peer_metadata) == (None,) * 4
    access = identity.access
    assert access.may_publish
    assert access.may_subscribe
    assert access.may_send
    assert access.sees_presence


def test_a_credential_is_percent_decoded() -> None:
    assert isinstance(judge("/v1?key=pk%5Flive%5fopen"), Identity)
    token = mint(key_id="sk_id_all", secret=SECRET, peer_id="alice", now=NOW)
    encoded = "".join(f"%{ord(character):02X}" for character in token)
    assert isinstance(judge(f"/v1?token={encoded}"), Identity)


def test_other_parameters_do_not_matter() -> None:
    assert isinstance(judge("/v1?sdk=py&&key=pk_live_open&x"), Identity)


@each_row(
    "query",
    [
        "",
        "?",
        "?key",
        "?key=",
        "?key=nobody",
        "?token=",
        "?token=a.b.c",
        "?key=%ff",
        "?KEY=pk_live_open",
        "?x=1",
        "?key=pk_live_open&key=pk_live_open",
        "?key=pk_live_open&token=x",
        "?key=pk_live_open%20",
    ],
)
def test_anything_but_one_good_credential_is_an_invalid_token(query: str) -> None:
    verdict = judge(f"/v1{query}")
    assert isinstance(verdict, TurnedAway)
    assert (verdict.code, verdict.reason) == (4001, "invalid_token")


def test_what_the_log_is_told_holds_no_credential() -> None:
    for query in ("key=pk_live_nobody", "token=eyJhbGciOiJub25lIn0.e30.x", "key=pk_live_a&token=abc"):
        verdict = judge(f"/v1?{query}")
        assert isinstance(verdict, TurnedAway)
        for secret in ("pk_live_nobody", "eyJ", "abc"):
            assert secret not in repr(verdict)
    assert "TURN" not in repr(Identity(Access((), ()), "alice", metadata={"iceServers": "TURN"}))


def test_a_key_with_origins_works_from_these_alone() -> None:
    assert isinstance(judge("/v1?key=pk_live_web", "https://app.example"), Identity)
    for origin in (None, "https://evil.example", "http://app.example", "null", ""):
        assert judge("/v1?key=pk_live_web", origin) == Refused(403, "Forbidden")
    assert isinstance(judge("/v1?key=pk_live_open", "https://evil.example"), Identity)


def test_a_suspended_account_is_told_so() -> None:
    for verdict in (judge("/v1?key=pk_live_late"), judge_token("sk_id_late")):
        assert isinstance(verdict, TurnedAway)
        assert (verdict.code, verdict.reason) == (4012, "account_suspended")


def test_a_token_says_who_its_bearer_is() -> None:
    identity = judge_token(metadata={"a": 1}, peer_metadata={"name": "Alice"}, expires_in=60)
    assert isinstance(identity, Identity)
    assert identity.peer_id == "alice"
    assert identity.expires_at == NOW + 60
    assert identity.metadata == {"a": 1}
    assert identity.peer_metadata == {"name": "Alice"}


def test_a_token_that_is_over_is_told_so() -> None:
    verdict = judge_token(expires_in=60, wall=NOW + 60)
    assert isinstance(verdict, TurnedAway)
    assert (verdict.code, verdict.reason) == (4002, "token_expired")
    assert isinstance(judge_token(expires_in=60, wall=NOW + 59.9), Identity)


def test_a_token_signed_by_another_key_is_invalid() -> None:
    for verdict in (judge_token(secret="sk_secret_somebody_elses"), judge_token("sk_id_unknown")):
        assert isinstance(verdict, TurnedAway)
        assert verdict.code == 4001


def test_a_token_without_claims_of_its_own_has_its_key_s() -> None:
    identity = judge_token("sk_id_some")
    assert isinstance(identity, Identity)
    assert identity.access.reaches("fleet/1/x")
    assert not identity.access.reaches("elsewhere")
    assert not identity.access.may_publish
    assert identity.access.may_subscribe


@pytest.mark.parametrize("channels", [[], ["fleet/7/*"], ["lobby", "fleet/**"], ["fleet/a"]])
def test_a_token_may_ask_for_a_part_of_its_key_s_channels(channels: list[str]) -> None:
    identity = judge_token("sk_id_some", channels=channels)
    assert isinstance(identity, Identity)
    assert identity.access.patterns == tuple(map(Pattern, channels))


@pytest.mark.parametrize("channels", [["**"], ["fleet/7", "other"], ["*"], ["lobby*"]])
def test_a_token_that_asks_for_more_is_not_authorized(channels: list[str]) -> None:
    verdict = judge_token("sk_id_some", channels=channels)
    assert isinstance(verdict, TurnedAway)
    assert (verdict.code, verdict.reason) == (4003, "channel_not_authorized")


def test_permissions_of_a_token_count_where_its_key_has_them() -> None:
    identity = judge_token("sk_id_some", permissions=["publish", "subscribe"])
    assert isinstance(identity, Identity)
    access = identity.access
    assert access.may_subscribe
    assert (access.may_publish, access.sees_presence, access.may_send) == (False, False, False)


def test_guests_of_one_key_share_what_it_is_good_for() -> None:
    admission = Admission(SETTINGS)
    first, second = (admission.judge("/v1?key=pk_live_open", None, NOW) for _ in range(2))
    assert isinstance(first, Identity)
    assert isinstance(second, Identity)
    assert first.access is second.access


def test_why_one_may_not_publish() -> None:
    access = Access([Pattern("fleet/*/telemetry"), Pattern("lobby")], ["publish"])
    for channel, problem in {
        "fleet/7/telemetry": None,
        "lobby": None,
        "fleet/7/8/telemetry": ErrorCode.CHANNEL_NOT_AUTHORIZED,
        "": ErrorCode.INVALID_CHANNEL,
        "a\n": ErrorCode.INVALID_CHANNEL,
        "x" * 257: ErrorCode.INVALID_CHANNEL,
        "fleet/*/telemetry": ErrorCode.INVALID_CHANNEL,
        "_Metered/x": ErrorCode.CHANNEL_RESERVED,
    }.items():
        assert access.publishing(channel) is access.publishing(channel) is problem
    mute = Access([Pattern("**")], ["subscribe"])
    assert mute.publishing("lobby") is ErrorCode.ACTION_NOT_PERMITTED
    assert mute.publishing("_system/x") is ErrorCode.CHANNEL_RESERVED
    assert publishing_problem("lobby") is None


def test_why_one_may_not_subscribe() -> None:
    access = Access([Pattern("fleet/**")], ["subscribe"])
    for channel, problem in {
        "fleet/7": None,
        "fleet/*/telemetry": None,
        "fleet/**": None,
        "**": ErrorCode.CHANNEL_NOT_AUTHORIZED,
        "*/7": ErrorCode.CHANNEL_NOT_AUTHORIZED,
        "lobby": ErrorCode.CHANNEL_NOT_AUTHORIZED,
        "a\x00*": ErrorCode.INVALID_CHANNEL,
        "_internal/*": ErrorCode.CHANNEL_RESERVED,
    }.items():
        assert access.subscribing(channel) is problem
    assert Access([Pattern("**")], ["publish"]).subscribing("x") is ErrorCode.ACTION_NOT_PERMITTED


@pytest.mark.parametrize("memory", [TOKEN_MEMORY, KEY_MEMORY])
def test_what_is_remembered_of_channels_is_bounded(memory: int) -> None:
    access = Access([Pattern("a*")], ["publish"], memory=memory)
    for turn in range(memory * 3):
        assert access.publishing(f"a{turn}") is None
        assert access.publishing(f"b{turn}") is ErrorCode.CHANNEL_NOT_AUTHORIZED
        assert len(access._verdicts) <= memory


def test_a_target_of_any_kind_is_judged() -> None:
    for target in (
        "/v1?" + "key=x&" * 10_000,
        "/v1?" + quote("\x00\ud83d\ude00", errors="replace"),
        "?" * 1000,
        "/v1?%",
    ):
        assert isinstance(judge(target), Refused | TurnedAway)
