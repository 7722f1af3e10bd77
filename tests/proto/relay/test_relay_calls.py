"""What an operator can ask: checked when it is made, and silent about secrets."""

from __future__ import annotations

import math

import msgspec
import pytest

from metered_proto.relay import Drain, HttpCall, HttpReply, Kick, Peers, PublishAs

RAW = msgspec.Raw(b"1")


def test_good_calls_are_made() -> None:
    assert Kick("alice").peer_id == "alice"
    assert Drain() == Drain(0, 0.0)
    assert PublishAs("c", RAW).sender is None
    assert Peers("_system/c").channel == "_system/c"


@pytest.mark.parametrize("peer_id", ["", "x" * 129, "ä", "a\n"])
def test_a_bad_peer_id_is_refused(peer_id: str) -> None:
    with pytest.raises(ValueError, match="peer id"):
        Kick(peer_id)
    with pytest.raises(ValueError, match="peer id"):
        PublishAs("c", RAW, peer_id)


@pytest.mark.parametrize("channel", ["", "a\x00", "x" * 257, "a/*"])
def test_a_bad_channel_is_refused(channel: str) -> None:
    with pytest.raises(ValueError, match="channel"):
        Peers(channel)
    with pytest.raises(ValueError, match="channel"):
        PublishAs(channel, RAW)


def test_nobody_publishes_to_a_reserved_channel() -> None:
    with pytest.raises(ValueError, match="reserved"):
        PublishAs("_Metered/x", RAW)


@pytest.mark.parametrize("data", [None, b"1", "1", msgspec.Raw()])
def test_data_is_raw_json(data: object) -> None:
    with pytest.raises(TypeError, match="Raw"):
        PublishAs("c", data)  # type: ignore[arg-type]


def test_metadata_is_held_to_what_a_token_could_carry() -> None:
    assert PublishAs("c", RAW, "a", {"x": "y" * (4096 - 8)}).peer_metadata
    with pytest.raises(ValueError, match="4096"):
        PublishAs("c", RAW, "a", {"x": "y" * (4096 - 7)})
    with pytest.raises(TypeError):
        PublishAs("c", RAW, "a", {"x": object()})


def test_a_drain_takes_times_that_make_sense() -> None:
    for bad in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match="grace"):
            Drain(0, bad)
    with pytest.raises(ValueError, match="retry_after_ms"):
        Drain(-1)
    for odd in (1.5, True, "1"):
        with pytest.raises(TypeError, match="retry_after_ms"):
            Drain(odd)  # type: ignore[arg-type]


def test_a_request_and_its_reply_do_not_show_what_is_in_them() -> None:
    call = HttpCall("GET", "/v1/usage?key=pk_live_x", (("Authorization", "Bearer sk_secret_x"),), b"sk_secret_y")
    assert repr(call) == "HttpCall('GET', '/v1/usage')"
    reply = HttpReply(200, b'{"token":"eyJ"}', (("retry-after", "3"),))
    assert repr(reply) == "HttpReply(200)"
    assert reply.header("retry-after") == "3"
    assert reply.header("location") is None
