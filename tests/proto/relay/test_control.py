"""The REST control plane, call by call and error by error."""

from __future__ import annotations

import json

import msgspec
import pytest

from metered_proto.relay import HttpCall, Limits, SecretKey
from metered_proto.relay.control import MAX_BODY
from metered_proto.wire.tokens import verify

LIMITED = SecretKey("sk_id_lim", "sk_secret_fedcba9876543210", patterns=("fleet/**",), permissions=("subscribe",))
SUSPENDED = SecretKey("sk_id_sus", "sk_secret_suspended_suspended", suspended=True)
MAIN = SecretKey("sk_id_test", "sk_secret_0123456789abcdef")
AS_LIMITED = f"{LIMITED.id}:{LIMITED.secret}"


@pytest.fixture
def relay(world):
    return world(secrets=(MAIN, LIMITED, SUSPENDED))


# --- who may call -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer sk_id_test"),),
        (("authorization", "Bearer sk_id_test:"),),
        (("authorization", "Bearer sk_id_test:sk_secret_wrong"),),
        (("authorization", "Bearer sk_id_nobody:sk_secret_0123456789abcdef"),),
        (("authorization", "Bearer sk_id_nobody:no such key"),),
        (("authorization", f"Bearer {SUSPENDED.id}:{SUSPENDED.secret}"),),
        (("authorization", "Basic sk_id_test:sk_secret_0123456789abcdef"),),
        (("authorization", "sk_id_test:sk_secret_0123456789abcdef"),),
        (("authorization", "Bearer pk_live_test"),),
        (("authorization", "Bearer pk_live_test:sk_secret_0123456789abcdef"),),
        (("authorization", "Bearer sk_id_test:\ud800é"),),
        (("x-authorization", "Bearer sk_id_test:sk_secret_0123456789abcdef"),),
        (("authorization", "Bearer sk_id_test:sk_secret_0123456789abcdef"),) * 2,
    ],
)
def test_unauthorized_is_one_answer_whatever_was_wrong(relay, headers) -> None:
    for method, target in (("GET", "/v1/usage"), ("POST", "/v1/tokens"), ("GET", "/nowhere")):
        reply = relay.answer(HttpCall(method, target, headers, b"x" * (MAX_BODY + 1)))
        assert reply.status == 401
        assert json.loads(reply.body) == {"error": "unauthorized", "message": "a valid secret key is needed"}
        assert reply.header("www-authenticate") == "Bearer"


@pytest.mark.parametrize("name", ["Authorization", "AUTHORIZATION", "authorization"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_names_of_headers_and_schemes_have_no_case(relay, name: str, scheme: str) -> None:
    headers = (("accept", "*/*"), (name, f"{scheme} {MAIN.id}:{MAIN.secret}"))
    assert relay.answer(HttpCall("GET", "/v1/usage", headers)).status == 200


def test_calls_over_the_rate_are_told_when_to_come_back(world) -> None:
    relay = world(control_rate=0.5, control_burst=2)
    assert [relay.http("GET", "/v1/usage")[0] for _ in range(3)] == [200, 200, 429]
    reply = relay.http_reply("GET", "/v1/usage")
    assert (reply.status, reply.header("retry-after")) == (429, "2")
    relay.wait(2)
    assert relay.http("GET", "/v1/usage")[0] == 200


def test_calls_are_not_limited_where_the_limit_is_off(world) -> None:
    relay = world(control_rate=None)
    assert all(relay.http("GET", "/v1/usage")[0] == 200 for _ in range(300))


def test_a_body_over_the_limit_is_too_large(relay) -> None:
    fits = b'{"data":"' + b"x" * (MAX_BODY - 11) + b'"}'
    assert len(fits) == MAX_BODY
    assert relay.http("POST", "/v1/channels/c/publish", fits)[0] == 200
    assert relay.http("POST", "/v1/channels/c/publish", fits + b" ") == (
        413,
        {"error": "invalid_request", "message": "the body is over 32768 bytes"},
    )


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/"),
        ("GET", "/v2/usage"),
        ("POST", "/v1/usage"),
        ("GET", "/v1/tokens"),
        ("GET", "/v1/channels/a/b/peers"),
        ("PUT", "/v1/channels/a/publish"),
        ("GET", "/v1/peers/alice"),
        ("DELETE", "/v1/peers"),
        ("GET", "/v1/usage/"),
        ("get", "/v1/usage"),
    ],
)
def test_everything_else_is_not_found(relay, method: str, target: str) -> None:
    status, body = relay.http(method, target)
    assert (status, body["error"]) == (404, "not_found")


def test_a_query_does_not_matter(relay) -> None:
    assert relay.http("GET", "/v1/usage?verbose=1")[0] == 200


def test_a_relay_that_shuts_down_serves_no_more_calls(relay) -> None:
    from metered_proto.relay import Drain

    relay.ask(Drain())
    status, body = relay.http("GET", "/v1/usage")
    assert (status, body["error"]) == (503, "internal_error")


def test_replies_are_not_to_be_stored(relay) -> None:
    assert relay.http_reply("GET", "/v1/usage").header("cache-control") == "no-store"


# --- POST /v1/tokens ----------------------------------------------------------------------------------------


def test_a_token_is_minted_and_lets_its_bearer_in(relay) -> None:
    body = {
        "peerId": "alice",
        "channels": ["fleet/*"],
        "permissions": ["subscribe", "presence"],
        "expiresInSec": 60,
        "metadata": {"iceServers": []},
        "peerMetadata": {"name": "Alice"},
    }
    status, answer = relay.http("POST", "/v1/tokens", body)
    assert status == 200
    assert set(answer) == {"token", "expiresAt"}
    assert answer["expiresAt"] == 1_800_000_060
    claims = verify(answer["token"], {MAIN.id: MAIN.secret}, 1_800_000_000)
    assert (claims.peer_id, claims.channels, claims.expires_at) == ("alice", ("fleet/*",), 1_800_000_060)
    alice = relay.knock(f"/v1?token={answer['token']}")
    (welcome,) = alice.heard()
    assert welcome["metadata"] == {"iceServers": []}


def test_a_token_needs_no_more_than_a_peer(relay) -> None:
    status, answer = relay.http("POST", "/v1/tokens", {"peerId": "bob", "unknown": 1, "channels": None})
    assert status == 200
    assert answer["expiresAt"] == 1_800_003_600


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff",
        b"[" * 5000,
        [],
        {},
        {"peerId": ""},
        {"peerId": "ä"},
        {"peerId": "x" * 129},
        {"peerId": 5},
        {"peerId": "a", "channels": "c"},
        {"peerId": "a", "channels": [""]},
        {"peerId": "a", "channels": ["c"] * 101},
        {"peerId": "a", "permissions": ["fly"]},
        {"peerId": "a", "permissions": ["send"] * 17},
        {"peerId": "a", "expiresInSec": 0},
        {"peerId": "a", "expiresInSec": 86_401},
        {"peerId": "a", "expiresInSec": True},
        {"peerId": "a", "expiresInSec": "60"},
        {"peerId": "a", "metadata": []},
        {"peerId": "a", "metadata": {"x": "y" * 8192}},
        {"peerId": "a", "peerMetadata": {"x": "y" * 4096}},
    ],
)
def test_a_bad_request_for_a_token_is_invalid(relay, body) -> None:
    status, answer = relay.http("POST", "/v1/tokens", body)
    assert (status, answer["error"]) == (400, "invalid_request")
    assert answer["message"]


@pytest.mark.parametrize("expires", [1, 86_400])
def test_a_token_lives_from_a_second_to_a_day(relay, expires: int) -> None:
    assert relay.http("POST", "/v1/tokens", {"peerId": "a", "expiresInSec": expires})[0] == 200


def test_a_token_does_not_go_beyond_its_key(relay) -> None:
    status, answer = relay.http("POST", "/v1/tokens", {"peerId": "a", "channels": ["**"]}, credential=AS_LIMITED)
    assert (status, answer["error"]) == (403, "channel_not_authorized")
    body = {"peerId": "a", "channels": ["fleet/1"], "permissions": ["publish"]}
    status, answer = relay.http("POST", "/v1/tokens", body, credential=AS_LIMITED)
    assert (status, answer["error"]) == (403, "action_not_permitted")
    body["permissions"] = ["subscribe"]
    assert relay.http("POST", "/v1/tokens", body, credential=AS_LIMITED)[0] == 200


# --- GET /v1/channels/:id/peers -----------------------------------------------------------------------------


def test_the_peers_of_a_channel_are_listed(relay) -> None:
    relay.enter_as("alice", peer_metadata={"name": "Alice"}).ask("subscribe", channel="room/ä b")
    relay.enter_as("bob").ask("subscribe", channel="room/ä b")
    assert relay.http("GET", "/v1/channels/room%2F%C3%A4%20b/peers") == (
        200,
        {"channel": "room/ä b", "peers": [{"peerId": "alice", "metadata": {"name": "Alice"}}, {"peerId": "bob"}]},
    )
    assert relay.http("GET", "/v1/channels/empty/peers") == (200, {"channel": "empty", "peers": []})


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("", 400, "invalid_request"),
        ("a%00", 400, "invalid_request"),
        ("%FF", 400, "invalid_request"),
        ("a%2F%2A", 400, "invalid_request"),
        ("x" * 257, 400, "invalid_request"),
        ("_System%2Fx", 400, "channel_reserved"),
        ("lobby", 403, "channel_not_authorized"),
        ("fleet%2F1", 403, "action_not_permitted"),
    ],
)
def test_a_channel_a_key_may_not_see_or_publish_to(relay, name: str, status: int, code: str) -> None:
    found = relay.http("GET", f"/v1/channels/{name}/peers", credential=AS_LIMITED)
    assert (found[0], found[1]["error"]) == (status, code)
    found = relay.http("POST", f"/v1/channels/{name}/publish", {"data": 1}, credential=AS_LIMITED)
    assert (found[0], found[1]["error"]) == (status, code)


# --- POST /v1/channels/:id/publish --------------------------------------------------------------------------


def test_an_operator_publishes_and_is_told_how_many_got_it(relay) -> None:
    alice, bob = relay.enter_as("alice"), relay.enter_as("bob")
    alice.ask("subscribe", channel="news")
    bob.ask("subscribe", channel="*", includeSenderMetadata=True)
    alice.heard()
    body = {"data": {"n": None}, "from": "desk", "peerMetadata": {"role": "editor"}}
    assert relay.http("POST", "/v1/channels/news/publish", body) == (200, {"delivered": 2})
    message = {"type": "message", "channel": "news", "from": "desk", "data": {"n": None}}
    assert alice.heard() == [message]
    assert bob.heard() == [{**message, "fromMetadata": {"role": "editor"}}]
    assert relay.http("POST", "/v1/channels/news/publish", {"data": None}) == (200, {"delivered": 2})
    assert alice.heard() == [{"type": "message", "channel": "news", "from": "server", "data": None}]
    assert relay.http("POST", "/v1/channels/a%2Fb/publish", {"data": 0}) == (200, {"delivered": 0})


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"data":"\xff"}',
        {},
        {"data": 1, "from": ""},
        {"data": 1, "from": 7},
        {"data": 1, "peerMetadata": []},
        {"data": 1, "peerMetadata": {"x": "y" * 4096}},
        b'{"data":1,"peerMetadata":{"x":' + b"[" * 3000 + b"]" * 3000 + b"}}",
    ],
)
def test_a_bad_publication_is_invalid(relay, body) -> None:
    status, answer = relay.http("POST", "/v1/channels/news/publish", body)
    assert (status, answer["error"]) == (400, "invalid_request")


def test_an_operator_is_held_to_the_size_of_messages_too(world) -> None:
    relay = world(max_message_size=10)
    assert relay.http("POST", "/v1/channels/c/publish", {"data": "x" * 8})[0] == 200
    status, answer = relay.http("POST", "/v1/channels/c/publish", {"data": "x" * 9})
    assert (status, answer["error"]) == (413, "invalid_request")


def test_an_operator_is_held_to_the_quota_too(world) -> None:
    relay = world(message_quota=1, quota_period=100)
    assert relay.http("POST", "/v1/channels/c/publish", {"data": 1})[0] == 200
    reply = relay.http_reply("POST", "/v1/channels/c/publish", {"data": 1})
    assert (reply.status, json.loads(reply.body)["error"]) == (429, "over_message_quota")
    assert reply.header("retry-after") == "100"
    relay.wait(100)
    assert relay.http("POST", "/v1/channels/c/publish", {"data": 1})[0] == 200


# --- DELETE /v1/peers/:id -----------------------------------------------------------------------------------


def test_all_sockets_of_a_peer_are_closed(relay) -> None:
    first, second, other = relay.enter_as("al ice"), relay.enter_as("al ice"), relay.enter_as("bob")
    assert relay.http("DELETE", "/v1/peers/al%20ice") == (200, {"closed": 2})
    for guest in (first, second):
        assert (guest.closed.code, guest.closed.reason) == (4020, "admin_disconnect")
    assert other.closed is None
    assert relay.http("DELETE", "/v1/peers/al%20ice") == (200, {"closed": 0})


@pytest.mark.parametrize("name", ["", "%00", "%FF", "x" * 129, "%C3%A4"])
def test_what_is_no_peer_id_is_invalid(relay, name: str) -> None:
    status, answer = relay.http("DELETE", f"/v1/peers/{name}")
    assert (status, answer["error"]) == (400, "invalid_request")


# --- GET /v1/usage ------------------------------------------------------------------------------------------


def test_usage_counts_connections_and_messages_of_this_period(world) -> None:
    relay = world(message_quota=5, quota_period=1000, max_connections=7, message_rate=None)
    alice = relay.enter()
    alice.ask("publish", channel="c", data=1)
    alice.ask("send", to=alice.peer_id, data=1)
    alice.ask("send", to="nobody", data=1)
    assert relay.http("GET", "/v1/usage") == (
        200,
        {
            "connections": 1,
            "messages": 2,
            "limits": {
                "maxConnections": 7,
                "messagesPerPeriod": 5,
                "messagesPerSecond": None,
                "messageBurst": None,
                "connectsPerMinute": 60,
                "channelsPerConnection": 100,
                "maxMessageSize": 65_536,
            },
        },
    )
    relay.wait(1000)
    assert relay.http("GET", "/v1/usage")[1]["messages"] == 0


def test_usage_shows_the_rate_with_its_burst(relay) -> None:
    limits = relay.http("GET", "/v1/usage")[1]["limits"]
    assert (limits["messagesPerSecond"], limits["messageBurst"]) == (100.0, 200)
    assert Limits().message_burst == 200
    assert msgspec.json.encode(limits)
