"""Every option of `SignallingClient`: its default, and what is refused, at construction and without showing it."""

from __future__ import annotations

import inspect
import logging
import math
import ssl
from typing import Any

import pytest

from metered_anyio import (
    ReconnectOptions,
    SignallingClient,
    SignallingClientOptions,
    StdlibLogger,
    SubscribeOptions,
)

KEY = "pk_live_not_to_be_seen"


async def provider() -> str:
    return "token"


def test_defaults_of_the_options() -> None:
    options = SignallingClientOptions(api_key=KEY)
    assert options.token_provider is None
    assert options.url == "wss://rms.metered.ca"
    assert options.token_provider_timeout == 10.0
    assert options.logger is None
    assert options.reconnect is True
    assert options.inactivity_timeout == 60.0
    assert options.auto_resubscribe is True
    assert options.ssl_context is None


def test_the_keywords_are_the_fields_of_the_options_with_the_same_defaults() -> None:
    keywords = inspect.signature(SignallingClient.__init__).parameters
    for name, parameter in inspect.signature(SignallingClientOptions).parameters.items():
        assert keywords[name].default == parameter.default


def test_defaults_of_reconnect_options() -> None:
    options = ReconnectOptions()
    assert options.initial_delay == 0.5
    assert options.multiplier == 2.0
    assert options.max_delay == 30.0
    assert options.jitter_ratio == 0.2
    assert options.max_attempts == 100
    assert ReconnectOptions(max_attempts=math.inf).max_attempts == math.inf


def test_defaults_of_subscribe_options() -> None:
    assert SubscribeOptions().include_sender_metadata is False


@pytest.mark.parametrize("options", [{}, {"api_key": KEY, "token_provider": provider}])
def test_exactly_one_of_api_key_and_token_provider(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of api_key and token_provider") as caught:
        SignallingClient(**options)
    assert KEY not in str(caught.value)


def test_one_object_is_the_same_as_keywords() -> None:
    assert SignallingClient(SignallingClientOptions(api_key=KEY, url="ws://localhost:1")).state == "idle"
    assert SignallingClient(SignallingClientOptions(token_provider=provider)).state == "idle"


def test_options_and_keywords_together_are_refused() -> None:
    with pytest.raises(TypeError, match="not both"):
        SignallingClient(SignallingClientOptions(api_key=KEY), reconnect=False)
    with pytest.raises(TypeError, match="SignallingClientOptions, not dict"):
        SignallingClient({"api_key": KEY})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("url", "ws://rms.metered.ca", ValueError),
        ("url", "https://rms.metered.ca", ValueError),
        ("url", "wss://rms.metered.ca/v1", ValueError),
        ("url", f"wss://rms.metered.ca?key={KEY}", ValueError),
        ("url", f"wss://user:{KEY}@rms.metered.ca", ValueError),
        ("url", "", ValueError),
        ("url", None, TypeError),
        ("token_provider_timeout", 0, ValueError),
        ("token_provider_timeout", -1, ValueError),
        ("token_provider_timeout", math.nan, ValueError),
        ("token_provider_timeout", math.inf, ValueError),
        ("token_provider_timeout", "10", TypeError),
        ("inactivity_timeout", math.nan, ValueError),
        ("inactivity_timeout", "60", TypeError),
        ("auto_resubscribe", 1, TypeError),
        ("reconnect", 3, TypeError),
        ("reconnect", None, TypeError),
        ("logger", object(), TypeError),
        ("logger", logging.getLogger, TypeError),
        ("ssl_context", True, TypeError),
    ],
)
def test_a_bad_option_is_refused_at_construction(name: str, value: object, error: type[Exception]) -> None:
    given: dict[str, Any] = {"api_key": KEY, name: value}
    with pytest.raises(error) as caught:
        SignallingClient(**given)
    assert KEY not in str(caught.value)
    with pytest.raises(error):
        SignallingClient(SignallingClientOptions(**given))


@pytest.mark.parametrize(
    ("api_key", "error"), [("", ValueError), (7, TypeError), ("\ud800secret", ValueError), (b"pk", TypeError)]
)
def test_a_bad_api_key_is_refused_and_not_shown(api_key: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        SignallingClient(api_key=api_key)
    assert "secret" not in str(caught.value)


def test_a_token_provider_has_to_be_callable() -> None:
    with pytest.raises(TypeError, match="token_provider must be callable"):
        SignallingClient(token_provider="eyJhbGciOi")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [0, -1.0, math.inf, -math.inf])
def test_an_inactivity_timeout_may_be_off(timeout: float) -> None:
    SignallingClient(api_key=KEY, inactivity_timeout=timeout)


@pytest.mark.parametrize("url", ["ws://localhost", "ws://127.0.0.1:8080", "ws://[::1]:1/", "wss://rms.metered.ca:444"])
def test_urls_that_are_taken(url: str) -> None:
    SignallingClient(api_key=KEY, url=url)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("initial_delay", 0),
        ("initial_delay", math.nan),
        ("multiplier", 0.5),
        ("multiplier", math.inf),
        ("max_delay", 0.1),
        ("max_delay", math.inf),
        ("jitter_ratio", -0.1),
        ("jitter_ratio", 1.1),
        ("max_attempts", 0),
        ("max_attempts", 2.5),
        ("max_attempts", math.nan),
    ],
)
def test_bad_reconnect_options(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        ReconnectOptions(**{name: value})


def test_nothing_shows_a_key() -> None:
    options = SignallingClientOptions(api_key=KEY)
    client = SignallingClient(options)
    assert repr(client) == "<SignallingClient idle wss://rms.metered.ca>"
    for shown in (repr(options), str(options), repr(client), str(client), repr(SignallingClientOptions())):
        assert KEY not in shown
    wrong = SignallingClientOptions(api_key=KEY, url=f"wss://user:hunter2@host/?token={KEY}")
    assert "hunter2" not in repr(wrong)
    assert KEY not in repr(wrong)


def test_a_fresh_client() -> None:
    client = SignallingClient(api_key=KEY, logger=StdlibLogger(), ssl_context=ssl.create_default_context())
    assert client.state == "idle"
    assert client.peer_id is None
    assert client.max_message_size == 65_536
    assert client.ice_servers == ()
    assert client.dropped_events == 0
