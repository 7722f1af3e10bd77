"""Options: every one with its default, and a bad value is an error where it is given."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.settings import ClientSettings, ReconnectOptions, SubscribeOptions, check_duration

KEY = "pk_live_q7Wd0aZtNw5xKfB3"
DURATIONS = ["token_provider_timeout", "open_timeout", "welcome_timeout", "ack_timeout"]


def made(**options: Any) -> ClientSettings:
    return ClientSettings(**{"api_key": KEY, **options})


class TestClientSettings:
    """The rows of the reference's options that a machine has to know."""

    @each_row(
        ("name", "default"),
        [
            ("url", "wss://rms.metered.ca"),
            ("token_provider_timeout", 10.0),
            ("reconnect", ReconnectOptions()),
            ("inactivity_timeout", 60.0),
            ("auto_resubscribe", True),
            ("open_timeout", 10.0),
            ("welcome_timeout", 10.0),
            ("ack_timeout", 15.0),
        ],
    )
    def test_defaults(self, name: str, default: object) -> None:
        assert getattr(made(), name) == default

    def test_these_are_all(self) -> None:
        assert set(ClientSettings.__struct_fields__) == {
            "api_key", "url", "reconnect", "inactivity_timeout", "token_provider_timeout", "auto_resubscribe",
            "open_timeout", "welcome_timeout", "ack_timeout",
        }  # fmt: skip

    def test_frozen(self) -> None:
        with pytest.raises(AttributeError):
            made().url = "wss://other.example"  # type: ignore[misc]

    def test_no_key_means_tokens(self) -> None:
        assert made(api_key=None).api_key is None

    @pytest.mark.parametrize("key", ["", "a\ud800"])
    def test_bad_keys(self, key: str) -> None:
        with pytest.raises(ValueError, match="api_key"):
            made(api_key=key)

    @pytest.mark.parametrize("key", [5, b"pk_live_x", ["pk_live_x"]])
    def test_a_key_is_a_str(self, key: object) -> None:
        with pytest.raises(TypeError, match="api_key must be a str"):
            made(api_key=key)

    @pytest.mark.parametrize("url", ["https://rms.metered.ca", "ws://rms.metered.ca", "wss://", f"wss://h/?key={KEY}"])
    def test_bad_urls(self, url: str) -> None:
        with pytest.raises(ValueError, match="url must be") as caught:
            made(url=url)
        assert KEY not in str(caught.value)

    def test_a_url_is_a_str(self) -> None:
        with pytest.raises(TypeError, match="url must be a str"):
            made(url=b"wss://rms.metered.ca")

    def test_reconnect_off(self) -> None:
        assert made(reconnect=None).reconnect is None

    @pytest.mark.parametrize("reconnect", [True, False, {}, 5])
    def test_reconnect_of_another_type(self, reconnect: object) -> None:
        with pytest.raises(TypeError, match="reconnect must be"):
            made(reconnect=reconnect)

    @each_row("name", DURATIONS)
    @each_row("value", [0.001, 5, 1e9])
    def test_good_durations(self, name: str, value: float) -> None:
        assert getattr(made(**{name: value}), name) == value

    @each_row("name", DURATIONS)
    @each_row("value", [0, -0.0, -1, math.inf, -math.inf, math.nan, 10**400])
    def test_durations_that_do_not_end_or_do_not_begin(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=name):
            made(**{name: value})

    @each_row("name", [*DURATIONS, "inactivity_timeout"])
    @each_row("value", [None, "5", True, [5], 5j])
    def test_durations_that_are_no_numbers(self, name: str, value: object) -> None:
        with pytest.raises(TypeError, match=f"{name} must be a number"):
            made(**{name: value})

    @pytest.mark.parametrize("value", [0, -5, 0.5, 60, math.inf, -math.inf])
    def test_inactivity_timeout_may_be_anything_but(self, value: float) -> None:
        assert made(inactivity_timeout=value).inactivity_timeout == value

    def test_nan(self) -> None:
        with pytest.raises(ValueError, match="inactivity_timeout must not be NaN"):
            made(inactivity_timeout=math.nan)

    @pytest.mark.parametrize("value", [None, 1, "yes"])
    def test_auto_resubscribe_is_a_bool(self, value: object) -> None:
        with pytest.raises(TypeError, match="auto_resubscribe must be True or False"):
            made(auto_resubscribe=value)

    def test_repr_shows_no_key(self) -> None:
        assert repr(made()) == "ClientSettings(url='wss://rms.metered.ca', api_key=***)"
        assert repr(made(api_key=None)) == "ClientSettings(url='wss://rms.metered.ca', api_key=None)"

    def test_nor_does_what_the_rich_library_shows(self) -> None:
        assert made().__rich_repr__() == [("url", "wss://rms.metered.ca"), ("api_key", "***")]
        assert made(api_key=None).__rich_repr__()[1] == ("api_key", None)


class TestReconnectOptions:
    @pytest.mark.parametrize(
        ("name", "default"),
        [
            ("initial_delay", 0.5),
            ("multiplier", 2.0),
            ("max_delay", 30.0),
            ("jitter_ratio", 0.2),
            ("max_attempts", 100),
            ("retry_first", False),
        ],
    )
    def test_defaults(self, name: str, default: object) -> None:
        assert getattr(ReconnectOptions(), name) == default
        assert len(ReconnectOptions.__struct_fields__) == 6

    @each_row(
        "good",
        [
            {"initial_delay": 30},
            {"initial_delay": 31.5, "max_delay": 31.5},
            {"multiplier": 1},
            {"jitter_ratio": 0},
            {"jitter_ratio": 1},
            {"max_attempts": 1},
            {"max_attempts": 5.0},
            {"max_attempts": math.inf},
            {"retry_first": True},
        ],
    )
    def test_good(self, good: dict[str, Any]) -> None:
        options = ReconnectOptions(**good)
        assert {name: getattr(options, name) for name in good} == good

    @each_row(
        ("name", "value"),
        [
            ("initial_delay", 0),
            ("initial_delay", -1),
            ("initial_delay", math.inf),
            ("initial_delay", 30.1),  # longer than max_delay
            ("multiplier", 0.9),
            ("multiplier", -2),
            ("multiplier", math.inf),
            ("multiplier", 10**400),
            ("max_delay", 0),
            ("max_delay", 0.4),  # shorter than initial_delay
            ("max_delay", math.inf),
            ("jitter_ratio", -0.1),
            ("jitter_ratio", 1.1),
            ("max_attempts", 0),
            ("max_attempts", -1),
            ("max_attempts", 2.5),
            ("max_attempts", -math.inf),
            *[
                (name, math.nan)
                for name in ("initial_delay", "multiplier", "max_delay", "jitter_ratio", "max_attempts")
            ],
        ],
    )
    def test_bad_values(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=name):
            ReconnectOptions(**{name: value})

    @each_row("name", ReconnectOptions.__struct_fields__)
    @each_row("value", [None, "1", [1]])
    def test_wrong_types(self, name: str, value: Any) -> None:
        with pytest.raises(TypeError, match=name):
            ReconnectOptions(**{name: value})

    def test_a_bool_is_no_number(self) -> None:
        with pytest.raises(TypeError, match="max_attempts must be a number, not bool"):
            ReconnectOptions(max_attempts=True)

    def test_by_name_only(self) -> None:
        with pytest.raises(TypeError):
            ReconnectOptions(0.5)  # type: ignore[misc]


class TestSubscribeOptions:
    def test_default(self) -> None:
        assert SubscribeOptions().include_sender_metadata is False

    def test_by_position_and_by_name(self) -> None:
        assert SubscribeOptions(True) == SubscribeOptions(include_sender_metadata=True)

    @pytest.mark.parametrize("value", [None, 1, "yes"])
    def test_it_is_a_bool(self, value: Any) -> None:
        with pytest.raises(TypeError, match="include_sender_metadata must be True or False"):
            SubscribeOptions(value)


@given(st.floats() | st.integers() | st.booleans() | st.none() | st.text(max_size=3))
def test_any_value_is_a_duration_or_a_clear_error(value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 < value < math.inf:
        assert check_duration("x", value) == float(value)
    else:
        with pytest.raises(ValueError if is_number else TypeError, match="x must"):
            check_duration("x", value)


def test_options_can_be_written_down_and_read_back() -> None:
    options = ReconnectOptions(initial_delay=1, max_attempts=7, retry_first=True)
    assert msgspec.json.decode(msgspec.json.encode(options), type=ReconnectOptions) == options
