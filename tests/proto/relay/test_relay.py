"""The relay, in conversations."""

from __future__ import annotations

import json

import msgspec
import pytest

from metered_proto.entropy import Entropy
from metered_proto.errors import LocalProtocolError, OversizedPayloadError, ServerRequestError
from metered_proto.facts import (
    Asked,
    EffectDone,
    Heard,
    LinkAsked,
    LinkBlocked,
    LinkDown,
    LinkDrained,
    LinkUp,
    Received,
    Withdrawn,
    Woken,
)
from metered_proto.machine import micros
from metered_proto.orders import AcceptLink, Broadcast, CloseLink, RefuseLink, Send
from metered_proto.relay import Drain, Kick, Peers, PublishableKey, PublishAs, Relay, RelaySettings, SecretKey, Usage
from metered_proto.wire.channels import MAX_CHANNEL_BYTES
from metered_proto.wire.close_codes import ErrorCode

ACK = {"type": "ack", "requestId": "r"}


def error(code: str, request_id: str | None = "r") -> dict[str, str]:
    return {"type": "error", "code": code} | ({"requestId": request_id} if request_id is not None else {})


def codes(frames: list[dict]) -> list[tuple[str, str | None]]:
    """The codes and request ids of error frames, their messages aside."""
    assert all(frame["type"] == "error" for frame in frames)
    return [(frame["code"], frame.get("requestId")) for frame in frames]


def presence(channel: str, *, joined: tuple = (), left: tuple = ()) -> dict:
    def listed(peers: tuple) -> list[dict]:
        return [{"peerId": peer} if isinstance(peer, str) else peer for peer in peers]

    return {"type": "presence", "channel": channel, "joined": listed(joined), "left": listed(left)}


class TestComingIn:
    def test_a_guest_of_a_key_is_welcomed_and_named(self, relay) -> None:
        relay.wait(1.5)
        guest = relay.knock("/v1?key=pk_live_test")
        (welcome,) = guest.heard()
        assert welcome == {
            "type": "welcome",
            "peerId": guest.peer_id,
            "expiresAt": None,
            "serverTime": 1_800_000_001_500,
            "maxMessageSize": 65_536,
        }
        assert guest.peer_id.startswith("peer_")

    def test_the_upgrade_is_accepted_before_anything_is_said(self, relay) -> None:
        assert relay.tell(LinkAsked(1, "/v1?key=pk_live_test", "192.0.2.1")) == [AcceptLink(1)]

    def test_the_bearer_of_a_token_is_who_it_says_and_gets_its_metadata_once(self, relay) -> None:
        token = relay.token("alice", expires_in=60, metadata={"iceServers": [{"urls": "stun:s"}]})
        (welcome,) = relay.knock(f"/v1?token={token}").heard()
        assert welcome["peerId"] == "alice"
        assert welcome["expiresAt"] == 1_800_000_060
        assert welcome["metadata"] == {"iceServers": [{"urls": "stun:s"}]}

    def test_names_of_guests_differ_and_depend_on_the_seed_alone(self, world) -> None:
        one, same, other = (world(seed=seed) for seed in (7, 7, 8))
        names = [[w.enter().peer_id for _ in range(20)] for w in (one, same, other)]
        assert names[0] == names[1]
        assert len({*names[0], *names[2]}) == 40

    def test_a_name_that_is_taken_is_not_given_again(self, world) -> None:
        taken = world().enter().peer_id
        relay = world()
        relay.enter_as(taken)
        assert relay.enter().peer_id != taken

    @pytest.mark.parametrize(
        ("target", "code", "reason"),
        [
            ("/v1?key=pk_live_other", 4001, "invalid_token"),
            ("/v1", 4001, "invalid_token"),
            ("/v1?key=pk_live_gone", 4012, "account_suspended"),
        ],
    )
    def test_a_bad_credential_is_closed_after_the_upgrade(self, world, target: str, code: int, reason: str) -> None:
        relay = world(keys=(PublishableKey("pk_live_gone", suspended=True),))
        guest = relay.knock(target)
        assert guest.closed == CloseLink(guest.link, code, reason)
        assert guest.heard() == []
        assert relay.relay.stats().closed == {code: 1}

    def test_a_token_beyond_its_key_is_closed_with_4003(self, world) -> None:
        key = SecretKey("sk_id_test", "sk_secret_0123456789abcdef", patterns=("fleet/**",))
        relay = world(secrets=(key,))
        guest = relay.knock(f"/v1?token={relay.token('alice', channels=['**'])}")
        assert (guest.closed.code, guest.closed.reason) == (4003, "channel_not_authorized")

    def test_another_path_and_another_origin_are_refused_by_http(self, world) -> None:
        relay = world(keys=(PublishableKey("pk_live_web", origins=("https://a.example",)),))
        assert relay.knock("/").refused == RefuseLink(1, 404, "Not Found")
        assert relay.knock("/v1?key=pk_live_web").refused == RefuseLink(2, 403, "Forbidden")
        assert relay.knock("/v1?key=pk_live_web", origin="https://a.example").refused is None
        assert relay.relay.stats().refused == {404: 1, 403: 1}

    def test_sixty_attempts_a_minute_from_one_address(self, relay) -> None:
        for _ in range(30):
            relay.knock("/v1?key=pk_live_test")
            relay.knock("/v1?key=bad")
        relay.wait(20)
        assert relay.knock("/v1?key=pk_live_test").refused == RefuseLink(61, 429, "Too Many Requests", 40)
        assert relay.knock("/v1?key=pk_live_test", address="192.0.2.2").refused is None
        relay.wait(40)
        assert relay.knock("/v1?key=pk_live_test").refused is None

    def test_attempts_over_the_rate_are_logged_ever_more_rarely(self, relay) -> None:
        for _ in range(60 + 100):
            relay.knock("/")
        assert [note.context["over"] for note in relay.notes] == [1, 2, 4, 8, 16, 32, 64]

    def test_the_concurrent_limit(self, world) -> None:
        relay = world(max_connections=2)
        first, _ = relay.enter(), relay.enter()
        assert relay.knock("/v1?key=pk_live_test").closed == CloseLink(3, 4010, "concurrent_limit")
        first.hang_up()
        relay.enter()

    def test_a_token_that_ends_during_the_handshake_is_closed_at_once(self, relay) -> None:
        guest = relay.knock(f"/v1?token={relay.token('alice', expires_in=5)}", up=False)
        relay.wait(6)
        relay.tell(LinkUp(guest.link))
        relay.wait(0)
        assert (guest.closed.code, guest.closed.reason) == (4002, "token_expired")

    def test_a_handshake_that_never_ends_is_cut(self, relay) -> None:
        guest = relay.knock("/v1?key=pk_live_test", up=False)
        assert relay.relay.deadline.why == "open or close timeout"
        relay.wait(10)
        assert guest.closed == CloseLink(guest.link, 1008, "timeout", abort=True)
        assert relay.tell(LinkUp(guest.link)) == []
        assert relay.tell(LinkDown(guest.link, 1006)) == []

    def test_a_handshake_that_fails_is_forgotten(self, relay) -> None:
        guest = relay.knock("/v1?key=pk_live_test", up=False)
        assert relay.tell(LinkDown(guest.link, 1006)) == []
        assert relay.relay.deadline is None


class TestListening:
    def test_subscribing_is_acknowledged_and_then_says_who_is_there(self, relay) -> None:
        alice = relay.enter_as("alice", peer_metadata={"name": "Alice"})
        bob, carol = relay.enter_as("bob"), relay.enter_as("carol")
        assert alice.ask("subscribe", channel="room") == [ACK, presence("room")]
        assert bob.ask("subscribe", channel="room") == [
            ACK,
            presence("room", joined=({"peerId": "alice", "metadata": {"name": "Alice"}},)),
        ]
        assert alice.heard() == [presence("room", joined=("bob",))]
        carol.say({"type": "subscribe", "channel": "room"})
        assert alice.heard() == bob.heard() == [presence("room", joined=("carol",))]

    def test_without_a_request_id_there_is_a_snapshot_and_no_ack(self, relay) -> None:
        assert relay.enter().say({"type": "subscribe", "channel": "room"}) == [presence("room")]

    def test_subscribing_again_gives_a_fresh_snapshot_and_new_options_and_no_broadcast(self, relay) -> None:
        alice, bob = relay.enter_as("alice"), relay.enter_as("bob", peer_metadata={"n": 1})
        for guest in (alice, bob):
            guest.ask("subscribe", channel="room")
        alice.heard()
        assert alice.ask("subscribe", channel="room", includeSenderMetadata=True) == [
            ACK,
            presence("room", joined=({"peerId": "bob", "metadata": {"n": 1}},)),
        ]
        assert bob.heard() == []
        bob.ask("publish", channel="room", data=1)
        assert alice.heard()[0]["fromMetadata"] == {"n": 1}
        alice.ask("subscribe", channel="room")
        bob.ask("publish", channel="room", data=1)
        assert "fromMetadata" not in alice.heard()[0]

    def test_a_peer_is_present_once_however_many_sockets_it_has(self, relay) -> None:
        watcher = relay.enter_as("watcher")
        watcher.ask("subscribe", channel="room")
        first, second = relay.enter_as("alice"), relay.enter_as("alice")
        assert first.ask("subscribe", channel="room") == [ACK, presence("room", joined=("watcher",))]
        assert second.ask("subscribe", channel="room") == [ACK, presence("room", joined=("watcher",))]
        assert watcher.heard() == [presence("room", joined=("alice",))]
        assert first.heard() == []
        first.hang_up()
        assert watcher.heard() == []
        second.ask("unsubscribe", channel="room")
        assert watcher.heard() == [presence("room", left=("alice",))]

    def test_leaving_tells_the_others_with_metadata(self, relay) -> None:
        watcher, alice = relay.enter_as("watcher"), relay.enter_as("alice", peer_metadata={"n": 1})
        for guest in (watcher, alice):
            guest.ask("subscribe", channel="room")
        watcher.heard()
        alice.hang_up(1006)
        assert watcher.heard() == [presence("room", left=({"peerId": "alice", "metadata": {"n": 1}},))]

    def test_unsubscribing_is_acknowledged_also_where_there_is_nothing_to_end(self, relay) -> None:
        alice, bob = relay.enter(), relay.enter()
        assert alice.ask("unsubscribe", channel="room") == [ACK]
        assert alice.ask("unsubscribe", channel="") == [ACK]
        alice.ask("subscribe", channel="room")
        assert alice.ask("unsubscribe", channel="room") == [ACK]
        bob.ask("publish", channel="room", data=1)
        assert alice.heard() == []

    def test_a_pattern_hears_every_channel_that_matches_and_takes_no_part_in_presence(self, relay) -> None:
        backend, device = relay.enter_as("backend"), relay.enter_as("device")
        assert backend.ask("subscribe", channel="fleet/*/telemetry") == [ACK]
        assert device.ask("subscribe", channel="fleet/7/telemetry") == [ACK, presence("fleet/7/telemetry")]
        assert backend.heard() == []
        device.ask("publish", channel="fleet/7/telemetry", data={"t": 1})
        device.ask("publish", channel="fleet/7/8/telemetry", data={"t": 2})
        assert backend.heard() == [
            {"type": "message", "channel": "fleet/7/telemetry", "from": "device", "data": {"t": 1}}
        ]
        assert backend.ask("unsubscribe", channel="fleet/*/telemetry") == [ACK]
        device.ask("publish", channel="fleet/7/telemetry", data=3)
        assert backend.heard() == []
        backend.hang_up()
        assert device.heard() == []

    def test_a_literal_and_a_pattern_that_both_match_bring_a_message_once(self, relay) -> None:
        alice, bob = relay.enter(), relay.enter_as("bob", peer_metadata={"n": 1})
        for name in ("a/b", "a/*", "**"):
            alice.ask("subscribe", channel=name, includeSenderMetadata=name == "a/*")
        alice.heard()
        bob.ask("publish", channel="a/b", data=1)
        (message,) = alice.heard()
        assert message["fromMetadata"] == {"n": 1}

    def test_without_the_presence_permission_nobody_is_seen_and_one_is_seen_oneself(self, relay) -> None:
        alice = relay.enter_as("alice", permissions=["subscribe", "publish"])
        bob = relay.enter_as("bob")
        assert alice.ask("subscribe", channel="room") == [ACK]
        assert bob.ask("subscribe", channel="room")[1] == presence("room", joined=("alice",))
        assert alice.heard() == []
        bob.hang_up()
        assert alice.heard() == []

    def test_what_one_may_not_subscribe_to(self, relay) -> None:
        alice = relay.enter_as("alice", channels=["fleet/**"])
        for channel, code in {
            "": ErrorCode.INVALID_CHANNEL,
            "x" * (MAX_CHANNEL_BYTES + 1): ErrorCode.INVALID_CHANNEL,
            "é" * (MAX_CHANNEL_BYTES // 2) + "x": ErrorCode.INVALID_CHANNEL,
            "a\x1f": ErrorCode.INVALID_CHANNEL,
            "a\x7f": ErrorCode.INVALID_CHANNEL,
            "a\x9f": ErrorCode.INVALID_CHANNEL,
            "_metered/x": ErrorCode.CHANNEL_RESERVED,
            "_INTERNAL/x": ErrorCode.CHANNEL_RESERVED,
            "_System/*": ErrorCode.CHANNEL_RESERVED,
            "lobby": ErrorCode.CHANNEL_NOT_AUTHORIZED,
            "**": ErrorCode.CHANNEL_NOT_AUTHORIZED,
        }.items():
            assert alice.ask("subscribe", channel=channel) == [error(code)]
        assert alice.say({"type": "subscribe", "channel": "lobby"}) == [error("channel_not_authorized", None)]
        assert alice.ask("subscribe", channel="fleet/" + "x" * (MAX_CHANNEL_BYTES - 6))[0] == ACK
        mute = relay.enter_as("mute", permissions=["publish"])
        assert mute.ask("subscribe", channel="room") == [error("action_not_permitted")]

    def test_a_hundred_channels_patterns_included(self, relay) -> None:
        alice = relay.enter_as("alice")
        for number in range(50):
            assert alice.ask("subscribe", channel=f"c{number}")[0] == ACK
            assert alice.ask("subscribe", channel=f"p{number}/*")[0] == ACK
        for channel in ("one/more", "one/more/*"):
            assert alice.ask("subscribe", channel=channel) == [error("channel_limit_exceeded")]
        assert alice.ask("subscribe", channel="c0")[0] == ACK
        alice.ask("unsubscribe", channel="p0/*")
        assert alice.ask("subscribe", channel="one/more")[0] == ACK


class TestTalking:
    def test_everybody_else_who_listens_gets_it(self, relay) -> None:
        alice, bob, carol = relay.enter_as("alice"), relay.enter_as("bob"), relay.enter_as("carol")
        for guest in (alice, bob):
            guest.ask("subscribe", channel="room")
        alice.heard()
        assert alice.ask("publish", channel="room", data={"a": [1, None]}) == [ACK]
        message = {"type": "message", "channel": "room", "from": "alice", "data": {"a": [1, None]}}
        assert bob.heard() == [message]
        assert carol.heard() == []
        assert carol.ask("publish", channel="room", data=0) == [ACK]
        assert alice.heard() == bob.heard() == [{**message, "from": "carol", "data": 0}]

    def test_the_other_sockets_of_the_publisher_get_it_too(self, relay) -> None:
        one, two = relay.enter_as("alice"), relay.enter_as("alice")
        for guest in (one, two):
            guest.ask("subscribe", channel="room")
        one.ask("publish", channel="room", data=1)
        assert [frame["data"] for frame in two.heard()] == [1]

    def test_without_a_request_id_a_success_is_silent(self, relay) -> None:
        alice = relay.enter()
        assert alice.say({"type": "publish", "channel": "c", "data": 1}) == []
        assert alice.say({"type": "unsubscribe", "channel": "c"}) == []

    @pytest.mark.parametrize("data", ["null", "0", "false", '""', "[ ]", '{ "a":1.50, "\\u00e9": 1e3 }'])
    def test_data_arrives_as_it_was_written(self, relay, data: str) -> None:
        alice, bob = relay.enter(), relay.enter()
        bob.ask("subscribe", channel="c")
        alice.say(f'{{"type":"publish","channel":"c","data":{data}}}')
        alice.say(f'{{"data":{data},"to":"{bob.peer_id}","type":"send"}}')
        payloads = [order.payload for order in relay.orders if isinstance(order, Broadcast | Send)][-2:]
        assert [b'"data":%s}' % data.encode() in payload for payload in payloads] == [True, True]

    def test_a_message_is_one_broadcast(self, relay) -> None:
        guests = [relay.enter() for _ in range(20)]
        for guest in guests:
            guest.say({"type": "subscribe", "channel": "c"})
        orders = relay.tell(Received(guests[0].link, ['{"type":"publish","channel":"c","data":1}']))
        assert len(orders) == 1
        assert orders[0].links == tuple(guest.link for guest in guests)
        assert orders[0].skip == guests[0].link

    def test_metadata_is_stamped_on_messages_for_those_who_asked_and_on_every_direct(self, relay) -> None:
        alice = relay.enter_as("alice", peer_metadata={"name": "Alice"})
        bob, carol = relay.enter_as("bob"), relay.enter_as("carol")
        bob.ask("subscribe", channel="c", includeSenderMetadata=True)
        carol.ask("subscribe", channel="c")
        bob.heard()
        alice.ask("publish", channel="c", data=1)
        assert bob.heard()[0]["fromMetadata"] == {"name": "Alice"}
        assert "fromMetadata" not in carol.heard()[0]
        alice.ask("send", to="carol", data=1)
        assert carol.heard() == [{"type": "direct", "from": "alice", "data": 1, "fromMetadata": {"name": "Alice"}}]
        carol.ask("send", to="bob", data=1)
        assert bob.heard() == [{"type": "direct", "from": "carol", "data": 1}]

    def test_a_direct_reaches_all_sockets_of_a_peer_whatever_they_listen_to(self, relay) -> None:
        alice, *sockets = relay.enter_as("alice"), relay.enter_as("bob"), relay.enter_as("bob")
        assert alice.ask("send", to="bob", data={"x": 1}) == [ACK]
        for socket in sockets:
            assert socket.heard() == [{"type": "direct", "from": "alice", "data": {"x": 1}}]
        assert alice.ask("send", to="alice", data=1) == [{"type": "direct", "from": "alice", "data": 1}, ACK]

    def test_what_one_may_not_publish(self, relay) -> None:
        alice = relay.enter_as("alice", channels=["fleet/*"])
        for channel, code in {
            "": ErrorCode.INVALID_CHANNEL,
            "x" * (MAX_CHANNEL_BYTES + 1): ErrorCode.INVALID_CHANNEL,
            "fleet/*": ErrorCode.INVALID_CHANNEL,
            "_system/x": ErrorCode.CHANNEL_RESERVED,
            "lobby": ErrorCode.CHANNEL_NOT_AUTHORIZED,
        }.items():
            assert alice.ask("publish", channel=channel, data=1) == [error(code)]
        assert alice.say({"type": "publish", "channel": "lobby", "data": 1}) == [error("channel_not_authorized", None)]
        assert alice.ask("publish", channel="fleet/1") == [error("missing_data")]
        assert alice.ask("publish", channel="fleet/1", data=None) == [ACK]
        mute = relay.enter_as("mute", permissions=["subscribe"])
        assert mute.ask("publish", channel="fleet/1", data=1) == [error("action_not_permitted")]

    def test_what_one_may_not_send(self, relay) -> None:
        alice = relay.enter_as("alice")
        for to, code in {
            "": ErrorCode.INVALID_PEER_ID,
            "x" * 129: ErrorCode.INVALID_PEER_ID,
            "ä": ErrorCode.INVALID_PEER_ID,
            "a\n": ErrorCode.INVALID_PEER_ID,
            "nobody": ErrorCode.PEER_NOT_FOUND,
            "x" * 128: ErrorCode.PEER_NOT_FOUND,
        }.items():
            assert alice.ask("send", to=to, data=1) == [error(code)]
        assert alice.ask("send", to="alice") == [error("missing_data")]
        mute = relay.enter_as("mute", permissions=["publish"])
        assert mute.ask("send", to="alice", data=1) == [error("action_not_permitted")]

    def test_a_peer_that_left_is_not_found(self, relay) -> None:
        alice, bob = relay.enter_as("alice"), relay.enter_as("bob")
        bob.hang_up()
        assert alice.ask("send", to="bob", data=1) == [error("peer_not_found")]

    @pytest.mark.parametrize("kind", ["publish", "send"])
    def test_data_over_the_limit_closes_with_1009(self, world, kind: str) -> None:
        relay = world(max_message_size=100)
        alice = relay.enter_as("alice")
        target = {"channel": "c"} if kind == "publish" else {"to": "alice"}
        assert ACK in alice.ask(kind, **target, data="é" * 49)
        alice.ask(kind, **target, data="x" * 99)
        assert alice.closed == CloseLink(alice.link, 1009, "message too big")

    def test_a_frame_over_the_limit_closes_with_1009(self, relay) -> None:
        cap = relay.settings.limits.max_frame
        alice, bob = relay.enter(), relay.enter()
        assert alice.say('{"type":"ping"}'.ljust(cap)) == [{"type": "pong"}]
        assert alice.say('{"type":"ping"}'.ljust(cap + 1)) == []
        assert alice.closed.code == 1009
        bob.say(b"x" * (cap + 1))
        assert bob.closed.code == 1009

    def test_the_quota_of_a_period(self, world) -> None:
        relay = world(message_quota=3, quota_period=20)
        alice = relay.enter_as("alice")
        assert alice.ask("publish", channel="c", data=1) == [ACK]
        assert ACK in alice.ask("send", to="alice", data=1)
        assert alice.ask("send", to="nobody", data=1) == [error("peer_not_found")]
        assert alice.ask("publish", channel="c", data=1) == [ACK]
        assert alice.ask("publish", channel="c", data=1) == [error("over_message_quota")]
        assert alice.ask("send", to="alice", data=1) == [error("over_message_quota")]
        assert alice.ask("subscribe", channel="c")[0] == ACK
        relay.wait(20)
        assert alice.ask("publish", channel="c", data=1) == [ACK]

    def test_ping_is_answered_by_pong_alone(self, relay) -> None:
        alice = relay.enter()
        assert alice.say({"type": "ping"}) == [{"type": "pong"}]
        assert alice.ask("ping") == [{"type": "pong"}]


class TestBadFrames:
    @pytest.mark.parametrize(
        ("frame", "code", "request_id"),
        [
            ("", "malformed_message", None),
            ("{", "malformed_message", None),
            ("[]", "malformed_message", None),
            ("null", "malformed_message", None),
            (b"{}", "malformed_message", None),
            ("[" * 20_000, "malformed_message", None),
            ("{}", "unknown_type", None),
            ({"type": "dance", "requestId": "r"}, "unknown_type", "r"),
            ({"type": 5, "requestId": "r"}, "unknown_type", "r"),
            ({"type": "welcome", "requestId": "r"}, "unknown_type", "r"),
            ({"type": "subscribe", "requestId": "r"}, "malformed_message", "r"),
            ({"type": "subscribe", "channel": 5, "requestId": "r"}, "malformed_message", "r"),
            ({"type": "subscribe", "channel": "c", "includeSenderMetadata": 1}, "malformed_message", None),
            ({"type": "publish", "data": 1, "requestId": "r"}, "malformed_message", "r"),
            ({"type": "send", "to": None, "data": 1}, "malformed_message", None),
            ({"type": "ping", "requestId": 7}, "malformed_message", None),
            ({"type": "ping", "requestId": ""}, "malformed_message", None),
            ({"type": "publish", "channel": "c", "data": 1, "requestId": "x" * 129}, "malformed_message", None),
        ],
    )
    def test_it_is_answered_and_the_connection_lives(self, relay, frame, code: str, request_id: str | None) -> None:
        alice = relay.enter()
        assert codes(alice.say(frame)) == [(code, request_id)]
        assert alice.say({"type": "ping"}) == [{"type": "pong"}]
        assert relay.relay.stats().malformed == 1

    def test_the_longest_request_id_is_fine(self, relay) -> None:
        longest = "é" * 128
        assert relay.enter().say({"type": "unsubscribe", "channel": "c", "requestId": longest}) == [
            {"type": "ack", "requestId": longest}
        ]

    def test_a_bad_request_does_nothing(self, relay) -> None:
        alice, bob = relay.enter(), relay.enter()
        bob.ask("subscribe", channel="c")
        alice.say({"type": "publish", "channel": "c", "data": 1, "requestId": ""})
        assert bob.heard() == []

    def test_unknown_fields_are_ignored(self, relay) -> None:
        assert relay.enter().ask("subscribe", channel="c", colour="red")[0] == ACK

    def test_they_are_logged_ever_more_rarely_and_never_quoted(self, world) -> None:
        relay = world(message_rate=None)
        alice = relay.enter()
        relay.notes.clear()
        for _ in range(1000):
            alice.say('{"type":"sk_secret_0123456789abcdef"}')
        assert [note.context["so_far"] for note in relay.notes] == [2**n for n in range(10)]
        assert "sk_secret" not in repr(relay.notes)

    def test_one_read_with_good_and_bad_frames_is_the_same_as_many(self, world) -> None:
        frames = [
            '{"type":"subscribe","channel":"c","requestId":"1"}',
            "garbage",
            '{"type":"publish","channel":"c","data":1,"requestId":"2"}',
            b"\x00",
            '{"type":"ping"}',
        ]
        whole, split = world().enter(), world().enter()
        assert whole.say(*frames) == [answer for frame in frames for answer in split.say(frame)]


class TestLimitsOfAMember:
    def test_two_hundred_at_once_and_not_one_more(self, relay) -> None:
        alice = relay.enter()
        assert len(alice.say(*[{"type": "ping"}] * 200)) == 200
        assert alice.say({"type": "ping"}, {"type": "ping"}) == []
        assert alice.closed == CloseLink(alice.link, 4011, "message_rate")

    def test_a_hundred_a_second_for_ever(self, relay) -> None:
        alice = relay.enter()
        alice.say(*[{"type": "ping"}] * 200)
        for _ in range(300):
            relay.wait(0.01)
            assert alice.say({"type": "ping"}) == [{"type": "pong"}]
        relay.wait(0.005)
        alice.say({"type": "ping"})
        assert alice.closed.code == 4011

    def test_bad_frames_count_too(self, relay) -> None:
        alice = relay.enter()
        alice.say(*["garbage"] * 201)
        assert alice.closed.code == 4011

    def test_the_rate_can_be_off(self, world) -> None:
        alice = world(message_rate=None).enter()
        assert len(alice.say(*[{"type": "ping"}] * 2000)) == 2000

    def test_frames_after_a_close_do_not_count(self, relay) -> None:
        alice, bob = relay.enter(), relay.enter()
        bob.ask("subscribe", channel="c")
        relay.answer(Kick(alice.peer_id))
        assert alice.say({"type": "publish", "channel": "c", "data": 1}) == []
        assert bob.heard() == []

    def test_a_close_is_followed_by_departure_at_once_and_the_link_is_cut_in_the_end(self, relay) -> None:
        alice, bob = relay.enter_as("alice"), relay.enter()
        for guest in (alice, bob):
            guest.ask("subscribe", channel="c")
        alice.say(*[{"type": "ping"}] * 250)
        assert alice.closed.code == 4011
        assert bob.heard()[-1] == presence("c", left=("alice",))
        relay.wait(10)
        assert alice.closed == CloseLink(alice.link, 1008, "timeout", abort=True)
        assert relay.relay.stats().closed == {4011: 1}

    def test_a_token_ends_a_quarter_of_a_second_early(self, relay) -> None:
        alice = relay.enter_as("alice", expires_in=5)
        assert relay.relay.deadline.at == 4_750_000
        assert relay.relay.deadline.why == "token expiry"
        relay.wait(4.749)
        assert alice.closed is None
        relay.wait(0.001)
        assert alice.closed == CloseLink(alice.link, 4002, "token_expired")

    def test_leaving_early_takes_the_timer_along(self, relay) -> None:
        relay.enter_as("alice", expires_in=5).hang_up()
        assert relay.relay.deadline is None


class TestSigns:
    """WebSocket pings every 30 s, and 10 s for a sign of life."""

    def test_a_guest_is_pinged_as_long_as_it_lives(self, relay) -> None:
        alice = relay.enter()
        for turn in range(1, 6):
            relay.wait(29)
            assert relay.relay.deadline.why == "ping"
            relay.wait(1)
            assert alice.pings == turn
            assert relay.relay.deadline.why == "pong"
            relay.tell(Heard(alice.link))
            relay.wait(0)
        assert alice.closed is None

    def test_a_message_is_as_good_as_a_pong(self, relay) -> None:
        alice = relay.enter()
        relay.wait(35)
        alice.say({"type": "ping"})
        relay.wait(20)
        assert alice.closed is None

    def test_silence_for_ten_seconds_is_the_end(self, relay) -> None:
        alice, bob = relay.enter_as("alice"), relay.enter()
        for guest in (alice, bob):
            guest.ask("subscribe", channel="c")
        relay.wait(30)
        relay.tell(Heard(bob.link))
        relay.wait(9.999)
        assert alice.closed is None
        bob.heard()
        relay.wait(0.001)
        assert alice.closed == CloseLink(alice.link, 1001, "no pong", abort=True)
        assert bob.closed is None
        assert bob.heard() == [presence("c", left=("alice",))]

    def test_a_sign_before_the_ping_does_not_count(self, relay) -> None:
        alice = relay.enter()
        relay.wait(30)
        relay.tell(Heard(alice.link))
        relay.wait(29.9)
        alice.say({"type": "ping"})
        relay.wait(10.1)
        assert alice.closed.reason == "no pong"

    def test_waking_early_late_or_twice_is_harmless(self, relay) -> None:
        alice = relay.enter()
        assert relay.tell(Woken()) == []
        relay.now = 500_000_000
        assert len(relay.tell(Woken())) == 1
        assert relay.tell(Woken()) == []
        assert alice.pings == 1
        relay.now = 505_000_000
        relay.tell(Heard(alice.link))
        relay.wait(20)
        assert alice.closed is None

    def test_how_long_answers_took_is_counted(self, relay) -> None:
        alice, bob = relay.enter(), relay.enter()
        assert relay.relay.stats().ping_p50 is None
        for guest, seconds in ((alice, 0.1), (bob, 0.4)):
            relay.wait(0 if guest.pings else 30)
            relay.now += micros(seconds)
            relay.tell(Heard(guest.link))
            relay.tell(Heard(guest.link))
        stats = relay.relay.stats()
        assert stats.ping_p50 == pytest.approx(0.1, rel=0.125)
        assert stats.ping_p99 == pytest.approx(0.5, rel=0.125)
        alice.say({"type": "ping"})
        relay.wait(30)
        alice.say({"type": "ping"})
        relay.now += micros(9)
        relay.tell(Heard(alice.link))
        assert relay.relay.stats().ping_p99 == stats.ping_p99, "after another sign of life it says nothing"

    def test_not_for_one_who_is_being_closed(self, relay) -> None:
        alice = relay.enter_as("alice")
        relay.wait(30)
        relay.answer(Kick("alice"))
        assert relay.tell(Heard(alice.link)) == []
        assert relay.relay.stats().ping_p50 is None

    def test_signs_of_those_who_are_gone_do_not_matter(self, relay) -> None:
        assert relay.tell(Heard(99)) == []


class TestSlowConsumers:
    def test_one_who_does_not_read_is_cut_when_too_much_waits(self, world) -> None:
        relay = world(max_queue=10_000, message_rate=None)
        slow, quick = relay.enter_as("slow"), relay.enter_as("quick")
        for guest in (slow, quick):
            guest.ask("subscribe", channel="c")
        relay.tell(LinkBlocked(slow.link, 5_000))
        for _ in range(4):
            quick.ask("publish", channel="c", data="x" * 1000)
        assert slow.closed is None
        stats = relay.relay.stats()
        assert stats.blocked == 1
        assert 9_000 < stats.queued_bytes < 10_000
        heard = quick.ask("publish", channel="c", data="x" * 1000)
        assert slow.closed == CloseLink(slow.link, 1008, "slow consumer", abort=True)
        assert heard == [ACK, presence("c", left=("slow",))]
        stats = relay.relay.stats()
        assert (stats.slow_consumers, stats.blocked, stats.queued_bytes) == (1, 0, 0)
        assert relay.tell(LinkDown(slow.link, 1006)) == []

    def test_one_who_catches_up_is_not(self, world) -> None:
        relay = world(max_queue=10_000, message_rate=None)
        slow, quick = relay.enter(), relay.enter()
        slow.ask("subscribe", channel="c")
        for _ in range(20):
            relay.tell(LinkBlocked(slow.link, 5_000))
            for _ in range(4):
                quick.ask("publish", channel="c", data="x" * 1000)
            relay.tell(LinkDrained(slow.link))
        assert slow.closed is None

    def test_all_of_a_crowd_may_be_cut_at_once(self, world) -> None:
        relay = world(max_queue=100_000, message_rate=None, connects_per_minute=None)
        crowd = [relay.enter() for _ in range(1200)]
        for guest in crowd:
            relay.relay.handle(relay.now, Received(guest.link, ['{"type":"subscribe","channel":"c"}']))
        for guest in crowd[1:]:
            relay.relay.handle(relay.now, LinkBlocked(guest.link, 100_000))
        orders = relay.relay.handle(relay.now, Received(crowd[0].link, ['{"type":"publish","channel":"c","data":1}']))
        assert sum(isinstance(order, CloseLink) for order in orders) == 1199
        assert relay.relay.stats().connections == 1

    def test_one_who_does_not_read_the_welcome_counts_too(self, world) -> None:
        relay = world(max_queue=100)
        guest = relay.knock("/v1?key=pk_live_test", up=False)
        relay.tell(LinkBlocked(guest.link, 50))
        relay.tell(LinkUp(guest.link))
        assert guest.closed == CloseLink(guest.link, 1008, "slow consumer", abort=True)

    def test_one_who_was_cut_for_two_reasons_is_cut_once(self, world) -> None:
        relay = world(max_queue=200)
        first, second = relay.enter_as("a" * 100), relay.enter_as("b")
        for guest in (first, second):
            guest.ask("subscribe", channel="c")
        for guest in (first, second):
            relay.tell(LinkBlocked(guest.link, 150))
        relay.wait(40)
        assert [guest.closed.reason for guest in (first, second)] == ["no pong", "no pong"]
        assert relay.relay.stats().slow_consumers == 0

    def test_those_who_are_gone_are_not_counted(self, relay) -> None:
        assert relay.tell(LinkBlocked(99, 1 << 30)) == []
        assert relay.tell(LinkDrained(99)) == []


class TestTheOperator:
    def test_kick_closes_all_sockets_of_a_peer(self, relay) -> None:
        one, two, other = relay.enter_as("alice"), relay.enter_as("alice"), relay.enter_as("bob")
        for guest in (one, two, other):
            guest.ask("subscribe", channel="c")
        other.heard()
        assert relay.answer(Kick("alice")) == 2
        assert [guest.closed for guest in (one, two)] == [
            CloseLink(one.link, 4020, "admin_disconnect"),
            CloseLink(two.link, 4020, "admin_disconnect"),
        ]
        assert other.heard() == [presence("c", left=("alice",))]
        assert relay.answer(Kick("alice")) == 0

    def test_publish_as_reaches_listeners(self, relay) -> None:
        alice = relay.enter()
        alice.ask("subscribe", channel="c", includeSenderMetadata=True)
        data = msgspec.Raw(b'{"x":1}')
        assert relay.answer(PublishAs("c", data)) == 1
        assert relay.answer(PublishAs("c", data, "desk", {"n": 1})) == 1
        assert relay.answer(PublishAs("nobody/here", data)) == 0
        message = {"type": "message", "channel": "c", "data": {"x": 1}}
        assert alice.heard() == [{**message, "from": "server"}, {**message, "from": "desk", "fromMetadata": {"n": 1}}]

    def test_publish_as_is_refused_like_anybody(self, world) -> None:
        relay = world(message_quota=1, max_message_size=10)
        too_big, fits = msgspec.Raw(b'"xxxxxxxxx"'), msgspec.Raw(b'"xxxxxxxx"')
        assert relay.answers[relay.ask(PublishAs("c", too_big))].error == OversizedPayloadError(11, 10)
        assert relay.answer(PublishAs("c", fits)) == 0
        refused = relay.answers[relay.ask(PublishAs("c", fits))].error
        assert isinstance(refused, ServerRequestError)
        assert refused.code == "over_message_quota"

    def test_peers_and_usage(self, relay) -> None:
        relay.enter_as("alice").ask("subscribe", channel="c")
        assert [peer.peer_id for peer in relay.answer(Peers("c"))] == ["alice"]
        report = relay.answer(Usage())
        assert (report.connections, report.messages, report.limits) == (1, 0, relay.settings.limits)

    def test_stats_are_a_copy_of_what_was_counted(self, relay) -> None:
        alice, bob = relay.enter_as("alice"), relay.enter_as("bob")
        bob.ask("subscribe", channel="c")
        alice.ask("publish", channel="c", data="1234")
        alice.ask("send", to="nobody", data=1)
        stats = relay.relay.stats()
        assert (stats.connections, stats.peers, stats.channels, stats.welcomed) == (2, 2, 1, 2)
        assert (stats.frames_in, stats.messages_in, stats.bytes_in, stats.messages_out) == (3, 1, 6, 1)
        assert stats.bytes_out == len('{"type":"message","channel":"c","from":"alice","data":"1234"}')
        assert stats.errors == {"peer_not_found": 1}
        stats.errors["peer_not_found"] = 99
        assert relay.relay.stats().errors == {"peer_not_found": 1}


class TestDrain:
    def test_all_are_told_and_served_until_the_grace_is_over(self, relay) -> None:
        alice, bob = relay.enter_as("alice"), relay.enter_as("bob")
        for guest in (alice, bob):
            guest.ask("subscribe", channel="c")
        alice.heard()
        op = relay.ask(Drain(retry_after_ms=2500, grace=3.0))
        assert alice.heard() == [{"type": "going_away", "retryAfterMs": 2500}]
        assert bob.heard()[-1] == {"type": "going_away", "retryAfterMs": 2500}
        assert relay.relay.deadline.why == "end of grace"
        assert alice.ask("publish", channel="c", data=1) == [ACK]
        assert len(bob.heard()) == 1
        assert relay.knock("/v1?key=pk_live_test").refused == RefuseLink(3, 503, "Service Unavailable", 3)
        relay.wait(3)
        assert alice.closed == CloseLink(alice.link, 1001, "going_away")
        assert bob.closed == CloseLink(bob.link, 1001, "going_away")
        assert alice.heard() == bob.heard() == []
        alice.hang_up(1001)
        assert op not in relay.answers
        bob.hang_up(1001)
        assert relay.answers[op].value == 2

    def test_without_a_grace_the_close_follows_at_once(self, relay) -> None:
        alice = relay.enter()
        orders = relay.tell(Asked(77, Drain()))
        assert [type(order) for order in orders[1:]] == [Broadcast, CloseLink]
        alice.hang_up()
        assert relay.answers[77].value == 1

    def test_nobody_here_means_done_at_once(self, relay) -> None:
        assert relay.answer(Drain(grace=60)) == 0
        assert relay.relay.deadline is None
        assert relay.answer(Drain()) == 0

    def test_it_is_done_when_all_left_by_themselves(self, relay) -> None:
        alice = relay.enter()
        op = relay.ask(Drain(grace=60))
        alice.hang_up()
        assert relay.answers[op].value == 1
        assert relay.relay.deadline is None

    def test_those_who_do_not_go_are_cut(self, relay) -> None:
        alice = relay.enter()
        op = relay.ask(Drain())
        relay.wait(10)
        assert alice.closed.abort
        assert relay.answers[op].value == 1

    def test_one_who_is_about_to_come_in_is_turned_round(self, relay) -> None:
        late = relay.knock("/v1?key=pk_live_test", up=False)
        op = relay.ask(Drain())
        relay.tell(LinkUp(late.link))
        assert late.closed == CloseLink(late.link, 1001, "going_away")
        assert late.heard() == []
        late.hang_up()
        assert relay.answers[op].value == 0

    def test_a_second_one_can_only_hurry_it(self, relay) -> None:
        alice = relay.enter()
        first, second = relay.ask(Drain(grace=10)), relay.ask(Drain(grace=60))
        assert relay.relay.deadline.at == 10_000_000
        third = relay.ask(Drain())
        assert alice.closed.code == 1001
        fourth = relay.ask(Drain())
        assert len(alice.heard()) == 1
        alice.hang_up()
        assert [relay.answers[op].value for op in (first, second, third, fourth)] == [1, 1, 1, 1]

    def test_withdrawing_the_question_does_not_stop_it(self, relay) -> None:
        alice = relay.enter()
        op = relay.ask(Drain(grace=1))
        relay.tell(Withdrawn(op))
        relay.tell(Withdrawn(12345))
        relay.wait(1)
        assert alice.closed.code == 1001
        alice.hang_up()
        assert op not in relay.answers


class TestTheDriver:
    """Mistakes on this side of the wire."""

    def test_a_link_comes_but_once(self, relay) -> None:
        alice = relay.enter()
        with pytest.raises(LocalProtocolError, match="in already"):
            relay.tell(LinkAsked(alice.link, "/v1", "192.0.2.1"))
        with pytest.raises(LocalProtocolError, match="up already"):
            relay.tell(LinkUp(alice.link))
        assert alice.say({"type": "ping"}) == [{"type": "pong"}]

    def test_a_relay_is_not_told_of_effects_nor_asked_for_anything(self, relay) -> None:
        with pytest.raises(LocalProtocolError, match="EffectDone"):
            relay.tell(EffectDone(1))
        with pytest.raises(LocalProtocolError, match="dict"):
            relay.tell(Asked(1, {}))

    def test_links_it_does_not_know_are_none_of_its_business(self, relay) -> None:
        for fact in (LinkUp(9), LinkDown(9, 1006), Received(9, ["x"]), Heard(9), LinkBlocked(9, 1), LinkDrained(9)):
            assert relay.tell(fact) == []

    def test_what_comes_while_closing_does_not_matter(self, relay) -> None:
        guest = relay.knock("/v1?key=bad")
        for fact in (LinkUp(guest.link), Received(guest.link, ["x"]), Heard(guest.link), LinkBlocked(guest.link, 1)):
            assert relay.tell(fact) == []

    def test_two_runs_with_the_same_facts_are_the_same(self, world) -> None:
        def run() -> list:
            relay = world(seed=3)
            guests = [relay.enter() for _ in range(5)]
            for guest in guests:
                guest.ask("subscribe", channel="c", includeSenderMetadata=True)
                guest.ask("subscribe", channel="*")
            guests[2].ask("publish", channel="c", data=1)
            relay.wait(100)
            return relay.orders

        assert run() == run()


def test_no_secret_ever_reaches_the_log(world) -> None:
    relay = world(max_connections=3, message_rate=1, message_burst=3)
    token = relay.token("alice", metadata={"iceServers": "sk_turn_credential"}, expires_in=2)
    for target in (f"/v1?token={token}", f"/v1?token={token}x", "/v1?key=pk_live_test", "/v1?key=pk_live_wrong", "/x"):
        guest = relay.knock(target)
        guest.say({"type": "publish", "channel": "c"}, '{"key":"pk_live_test', *["x"] * 9)
    relay.http("POST", "/v1/tokens", {"peerId": "a"})
    relay.http("POST", "/v1/tokens", {"peerId": 5})
    relay.wait(60)
    relay.answer(Kick("alice"))
    assert len(relay.notes) > 8
    log = json.dumps([msgspec.to_builtins(note) for note in relay.notes])
    for secret in (token[:20], token[-20:], "pk_live_", "sk_secret_", "sk_turn_credential"):
        assert secret not in log


def test_an_idle_relay_wants_nothing() -> None:
    relay = Relay(RelaySettings(born_at=0.0), Entropy(1))
    assert relay.deadline is None
    assert relay.handle(0, Woken()) == []
