"""What a relay is started with: checked at once, and silent about secrets."""

from __future__ import annotations

import math

import pytest
from table_kit import each_row

from metered_proto.relay import Limits, PublishableKey, RelaySettings, SecretKey
from metered_proto.wire.tokens import PERMISSIONS

SECRET = "sk_secret_0123456789abcdef"


def test_the_defaults_are_the_service_s() -> None:
    limits = Limits()
    assert limits.max_message_size == 65_536
    assert limits.channels == 100
    assert (limits.message_rate, limits.message_burst) == (100.0, 200)
    assert limits.connects_per_minute == 60
    assert (limits.ping_interval, limits.pong_timeout) == (30.0, 10.0)
    assert limits.token_margin == 0.25
    assert limits.max_queue == 1 << 20
    assert limits.max_connections is None
    assert limits.message_quota is None
    key = PublishableKey("pk_live_x")
    assert (key.patterns, key.permissions, key.origins, key.suspended) == (("**",), PERMISSIONS, None, False)


def test_a_frame_may_be_as_long_as_its_data_and_an_envelope() -> None:
    name = "\\u0065" * 256  # 256 characters of one byte, each escaped: the longest way to write the longest name
    request_id = "\\ud83d\\ude00" * 128
    envelope = f'{{"type":"publish","channel":"{name}","requestId":"{request_id}","data":}}'
    assert len(envelope) + 65_536 <= Limits().max_frame


@each_row("key", ["", "pk_live_", "pk_test_x", "pk_live_a b", "pk_live_ä", "pk_live_a:b", "x" * 10])
def test_a_bad_publishable_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="pk_live_") as caught:
        PublishableKey(key)
    assert not key or key == "pk_live_" or key not in str(caught.value)


@each_row(
    ("fields", "error"),
    [
        ({"key": 5}, TypeError),
        ({"patterns": "**"}, TypeError),
        ({"patterns": ["**"]}, TypeError),
        ({"patterns": ("",)}, ValueError),
        ({"patterns": ("a\x00",)}, ValueError),
        ({"permissions": "publish"}, TypeError),
        ({"permissions": ("fly",)}, ValueError),
        ({"origins": "https://a.example"}, TypeError),
        ({"origins": (1,)}, TypeError),
    ],
)
def test_a_bad_grant_is_refused(fields: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        PublishableKey(**{"key": "pk_live_x", **fields})


@pytest.mark.parametrize(
    ("id", "secret"),
    [("sk_x", SECRET), ("sk_id_", SECRET), ("sk_id_x", "short"), ("sk_id_x", "s" * 600), ("sk_id_x", "a b" * 10)],
)
def test_a_bad_secret_key_is_refused_and_not_shown(id: str, secret: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        SecretKey(id, secret)
    assert secret not in str(caught.value)


def test_no_repr_shows_a_secret() -> None:
    settings = RelaySettings(
        born_at=0.0, keys=(PublishableKey("pk_live_abcdefghijkl"),), secrets=(SecretKey("sk_id_x", SECRET),)
    )
    assert SECRET not in repr(settings)
    assert "pk_live_abcdefghijkl" not in repr(settings)
    assert "sk_id_x" in repr(settings)
    assert "pk_live_abcd" in repr(settings)


@each_row("name", Limits.__struct_fields__)
@each_row("value", [-1, math.nan, math.inf, True, "1"])
def test_a_limit_is_a_positive_number(name: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError), match=name):
        Limits(**{name: value})


@each_row("name", sorted(set(Limits.__struct_fields__) - {"token_margin"}))
def test_only_the_margin_of_a_token_may_be_zero(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})
    assert Limits(token_margin=0).token_margin == 0


@pytest.mark.parametrize(
    "name", ["message_rate", "connects_per_minute", "max_connections", "message_quota", "control_rate"]
)
def test_these_limits_can_be_turned_off(name: str) -> None:
    assert getattr(Limits(**{name: None}), name) is None


def test_other_limits_cannot() -> None:
    with pytest.raises(TypeError, match="channels"):
        Limits(channels=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="channels"):
        Limits(channels=1.5)  # type: ignore[arg-type]


def test_a_pong_is_due_before_the_next_ping() -> None:
    assert Limits(ping_interval=10, pong_timeout=10).pong_timeout == 10
    with pytest.raises(ValueError, match="pong_timeout"):
        Limits(ping_interval=9, pong_timeout=10)


def test_settings_are_checked_as_a_whole() -> None:
    key, secret = PublishableKey("pk_live_x"), SecretKey("sk_id_x", SECRET)
    with pytest.raises(ValueError, match="twice"):
        RelaySettings(born_at=0.0, keys=(key, key))
    with pytest.raises(ValueError, match="twice"):
        RelaySettings(born_at=0.0, secrets=(secret, secret))
    for born_at in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="born_at"):
            RelaySettings(born_at=born_at)
