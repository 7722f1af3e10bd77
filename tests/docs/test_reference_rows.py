"""Every row of the protocol's and the client's tables has a test that names it.

That a name stands in a test does not make the test a good one. That it stands in none means that there is none.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

import metered_anyio
from metered_anyio import WsCloseCode
from metered_proto.wire.close_codes import ErrorCode

TESTS = Path(__file__).resolve().parent.parent

ROWS = {
    "states": "idle connecting connected reconnecting closed",
    "options": (
        "api_key token_provider url token_provider_timeout logger reconnect inactivity_timeout auto_resubscribe"
        " initial_delay multiplier max_delay jitter_ratio max_attempts retry_first include_sender_metadata"
    ),
    "members": "connect close subscribe unsubscribe publish send state on off once events",
    "events": (
        "Connected Disconnected StateChange Message Direct Presence ServerError GoingAway TokenProviderError"
        " peer_id server_time expires_at is_reconnect max_message_size ice_servers code reason will_reconnect"
        " from_ to channel sender_peer_id data sender_metadata joined left message request_id retry_after_ms"
        " consecutive_failures err"
    ),
    "errors": (
        "MeteredRealtimeError SignallingError NotConnectedError SignallingConnectError ServerRequestError"
        " AckTimeoutError DisconnectedError OversizedPayloadError MeteredPeerSendError MeteredPeerStateError"
        " MeteredPeerOversizedError MeteredPeerReplaceTrackError ReconcileTimeoutError IceRecoveryExhaustedError"
        " DataChannelOverflowError"
    ),
    "close codes": "1001 1008 1009 4000 4001 4002 4003 4010 4011 4012 4020",
    "error codes": (
        "malformed_message unknown_type invalid_channel invalid_peer_id channel_not_authorized channel_reserved"
        " channel_limit_exceeded peer_not_found missing_data action_not_permitted over_message_quota backend_error"
        " internal_error"
    ),
    "frames": (
        "subscribe unsubscribe publish send ping welcome ack error message direct presence going_away pong"
        " includeSenderMetadata requestId peerId expiresAt serverTime maxMessageSize fromMetadata retryAfterMs"
    ),
    "claims": "sub exp channels permissions metadata peerMetadata kid",
    "control plane": (
        "/v1/tokens /v1/channels/ /peers /publish /v1/peers/ /v1/usage invalid_request unauthorized not_found"
    ),
    "room states": "idle joining joined reconnecting leaving closed",
    "room members": (
        "join joined close send send_to add_stream add_track remove_stream remove_track get_stream_metadata"
        " get_track_metadata replace_track on off once events state peer_id channel remote_peers"
    ),
    "room events": (
        "Joined Left StateChange PeerJoined PeerLeft Data FatalError peer_id channel reason peer sender_peer_id data"
        " kind sender_metadata err broadcast direct"
    ),
    "room codes": (
        "reserved_channel invalid_state not_joined self_send invalid_args track_already_attached"
        " account_suspended channel_not_authorized action_not_permitted invalid_token token_expired admin_disconnect"
    ),
    "remote peers": (
        "id metadata state polite pc send create_data_channel ordered max_retransmits max_packet_life_time protocol"
        " idle connecting connected reconnecting closed Track StreamAdded StreamRemoved DataChannelOpened"
        " ConnectionReset NegotiationError IceCandidateError track streams stream"
    ),
    "streams": "get_tracks get_audio_tracks get_video_tracks add_track remove_track",
    "data channels": (
        "max_buffered_amount buffered_amount_low_threshold max_queued_sends label ready_state buffered_amount send"
        " close DCOpen DCClose DCError DCMessage queued cap"
    ),
    "signals": "rtc-description rtc-ice __meteredTrackMeta sdpMid sdpMLineIndex trackId streamId",
}
MEMBERS = {
    "members": metered_anyio.SignallingClient,
    "room members": metered_anyio.MeteredPeer,
    "streams": metered_anyio.MediaStream,
}
TOLD = ("events", "room events", "remote peers", "data channels")
NAMES = [(table, name) for table, names in ROWS.items() for name in names.split()]


@cache
def words() -> str:
    """All that the other tests say."""
    return "\n".join(path.read_text("utf-8") for path in TESTS.rglob("test_*.py") if path != Path(__file__).resolve())


@pytest.mark.parametrize(("table", "name"), NAMES, ids=[f"{table}: {name}" for table, name in NAMES])
def test_a_row_has_a_test_that_names_it(table: str, name: str) -> None:
    assert re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", words()), f"no test names {name}"


def test_the_tables_here_are_whole() -> None:
    assert {str(code.value) for code in ErrorCode} == set(ROWS["error codes"].split())
    ours = {str(int(code)) for code in WsCloseCode} - {"1000", "1006"}
    assert ours == set(ROWS["close codes"].split())
    told = [word for row in TOLD for word in ROWS[row].split() if word[0].isupper()]
    for name in (*ROWS["errors"].split(), *told):
        assert hasattr(metered_anyio, name)


def test_every_member_of_a_table_is_there() -> None:
    for row, owner in MEMBERS.items():
        assert [name for name in ROWS[row].split() if not hasattr(owner, name)] == []
