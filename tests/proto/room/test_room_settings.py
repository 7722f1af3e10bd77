"""The options of a room."""

from __future__ import annotations

from typing import Any

import pytest
from table_kit import each_row

from metered_proto.events import IceServer
from metered_proto.room.settings import RoomSettings
from metered_proto.rtc.options import RtcOptions
from metered_proto.settings import ClientSettings

CLIENT = ClientSettings(api_key="pk_live_q7Wd0aZtNw5xKfB3")
TURN = IceServer(("turn:turn.example:3478",), "user", "s3cret-credential")


def test_the_defaults() -> None:
    settings = RoomSettings(client=CLIENT)
    assert (settings.ice_servers, settings.ice_transport_policy) == ((), "all")
    assert (settings.reconcile_timeout, settings.grace, settings.silence) == (10, 10, 3)
    assert settings.peer_options == settings.rtc == RtcOptions()


def test_a_relay_only_room_has_relay_only_peers() -> None:
    settings = RoomSettings(client=CLIENT, rtc=RtcOptions(ask_delay=3), ice_transport_policy="relay")
    assert settings.peer_options == RtcOptions(ask_delay=3, relay_only=True)


def test_a_room_cannot_do_without_its_subscription() -> None:
    with pytest.raises(ValueError, match="auto_resubscribe"):
        RoomSettings(client=ClientSettings(api_key=None, auto_resubscribe=False))


@each_row(
    ("option", "value", "error"),
    [
        ("client", None, TypeError),
        ("rtc", None, TypeError),
        ("ice_servers", [TURN], TypeError),
        ("ice_servers", ("stun:stun.example",), TypeError),
        ("ice_servers", (IceServer(("http://stun.example",)),), ValueError),
        ("ice_servers", (IceServer(("turn:turn.example",)),), ValueError),
        ("ice_servers", (TURN,) * 17, ValueError),
        ("ice_transport_policy", "none", ValueError),
        ("reconcile_timeout", 0, ValueError),
        ("grace", float("inf"), ValueError),
        ("silence", "3", TypeError),
        ("signal_rate", -1, ValueError),
        ("signal_burst", 0, ValueError),
        ("signal_burst", 1.5, TypeError),
    ],
)
def test_a_bad_value_is_an_error_at_the_call(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=option):
        RoomSettings(**{"client": CLIENT, option: value})


def test_no_secret_shows() -> None:
    with pytest.raises(ValueError, match="number 2") as raised:
        RoomSettings(client=CLIENT, ice_servers=(TURN, IceServer(("turn:x y",), "u", "s3cret-credential")))
    assert "s3cret" not in str(raised.value)
    shown = repr(RoomSettings(client=CLIENT, ice_servers=(TURN,)))
    assert "s3cret" not in shown
    assert CLIENT.api_key not in shown
