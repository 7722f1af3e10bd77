"""The relay among guests who mean harm: no exception, no growth, and nobody else is hurt."""

from __future__ import annotations

import json
import random
import sys

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model_kit import modest

from metered_proto.entropy import Entropy
from metered_proto.facts import (
    Asked,
    Fact,
    Heard,
    LinkAsked,
    LinkBlocked,
    LinkDown,
    LinkDrained,
    LinkUp,
    Received,
    Woken,
)
from metered_proto.orders import Answer, Broadcast, CloseLink, Order, RefuseLink, Send
from metered_proto.relay import (
    Drain,
    HttpCall,
    Kick,
    Limits,
    Peers,
    PublishableKey,
    PublishAs,
    Relay,
    RelaySettings,
    SecretKey,
    Usage,
    registry,
)
from metered_proto.wire.codec import Malformed, decode_server_frame

KINDS = ("subscribe", "unsubscribe", "publish", "send", "ping", "welcome", "ack", "dance", "", "message")
VALUES = (
    "null", "true", "1", "-0.0", "1e999", '""', '"c"', '"a/*"', '"**"', '"' + "*a" * 128 + '"', '"' + "x" * 300 + '"',
    "[]", "{}", '"\\ud800"', '"\\u0000"', '"_metered/x"', '"peer"', "[" * 200 + "]" * 200, "[" * 3000, "NaN", "01", "",
    '{"a":{"b":[null]}}', '"' + "\\ud83d\\ude00" * 60 + '"', '"\x7f"', "'c'",
)  # fmt: skip
FIELDS = ("channel", "to", "data", "requestId", "includeSenderMetadata", "type", "metadata", "__proto__", "")


def hostile_frames(count: int, seed: int = 1) -> list[str | bytes]:
    """Frames of every kind of wrong that comes to mind, some of them right by accident."""
    dice = random.Random(seed)
    frames: list[str | bytes] = []
    for _ in range(count):
        fields = [f'"type":"{dice.choice(KINDS)}"']
        fields += [f'"{dice.choice(FIELDS)}":{dice.choice(VALUES)}' for _ in range(dice.randrange(6))]
        dice.shuffle(fields)
        text = "{" + ",".join(fields) + "}"
        match dice.randrange(8):
            case 0:
                text = text[: dice.randrange(len(text))]
            case 1:
                cut = dice.randrange(len(text))
                text = text[:cut] + chr(dice.choice((0, 10, 127, 233, 0xFFFD, 0x1F600))) + text[cut:]
            case 2:
                text = dice.choice(("", " ", "[]", "0", '"x"', "\ufeff{}", "[" * 9000, '{"a":' * 5000, "{}{}", "\x00"))
        frames.append(text.encode() if dice.randrange(20) == 0 else text)
    return frames


def footprint(relay: Relay) -> int:
    """Everything the relay holds on to, roughly in bytes."""
    seen: set[int] = set()
    total = 0
    todo: list[object] = [relay]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        total += sys.getsizeof(thing)
        if isinstance(thing, dict):
            todo += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple):
            todo += thing
        else:
            todo += [getattr(thing, name) for name in getattr(thing, "__slots__", ()) if hasattr(thing, name)]
            todo += vars(thing).values() if hasattr(thing, "__dict__") else ()
    return total


def test_ten_thousand_hostile_frames_hurt_nobody(world) -> None:
    relay = world(message_rate=None)
    bad, good, witness = relay.enter_as("bad"), relay.enter_as("good"), relay.enter_as("witness")
    witness.ask("subscribe", channel="quiet")
    frames = hostile_frames(10_000)
    sizes = []
    for start in range(0, len(frames), 100):
        for order in relay.relay.handle(relay.now, Received(bad.link, frames[start : start + 100])):
            if isinstance(order, Send | Broadcast):
                assert not isinstance(decode_server_frame(order.payload.decode()), Malformed)
            assert not isinstance(order, CloseLink)
        sizes.append(footprint(relay.relay))
    # Whatever it will hold of this guest it holds after a tenth of it.
    assert max(sizes) <= sizes[9] * 1.5
    assert max(sizes) < 500_000
    stats = relay.relay.stats()
    assert stats.frames_in == 10_001
    assert stats.malformed > 5_000
    assert bad.closed is None
    # The others did not notice.
    assert good.heard() == witness.heard() == []
    assert good.ask("publish", channel="quiet", data=1) == [{"type": "ack", "requestId": "r"}]
    assert [frame["data"] for frame in witness.heard()] == [1]
    bad.hang_up()
    good.hang_up()
    witness.hang_up()
    assert relay.relay.stats().connections == relay.relay.stats().channels == 0


def test_names_that_are_used_once_do_not_pile_up(world, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MAX_ROUTES", 50)
    relay = world(message_rate=None)
    guest = relay.enter_as("alice", channels=["**"])
    steps = (
        ("subscribe", ""),
        ("publish", ""),
        ("send", ""),
        ("unsubscribe", ""),
        ("subscribe", "*"),
        ("unsubscribe", "*"),
    )
    sizes = []
    for turn in range(4):
        for number in range(96):
            name = f"{turn}/{number}".ljust(250, "x")
            frames = [
                f'{{"type":"{kind}","channel":"{name}{star}","to":"{name[:128]}","data":1}}' for kind, star in steps
            ]
            relay.relay.handle(0, Received(guest.link, frames))
        sizes.append(footprint(relay.relay))
    assert relay.relay.stats().messages_in == 384
    assert max(sizes) <= sizes[0] * 1.2


def test_guests_that_come_and_go_leave_nothing(world) -> None:
    relay = world(connects_per_minute=None)
    start = footprint(relay.relay)
    for turn in range(500):
        guest = relay.enter_as(f"peer {turn}", expires_in=86_400) if turn % 2 else relay.knock("/v1?key=bad")
        guest.say({"type": "subscribe", "channel": f"c{turn}"}, {"type": "subscribe", "channel": f"c{turn}/*"})
        relay.tell(LinkBlocked(guest.link, 10))
        guest.hang_up()
    relay.orders.clear()
    assert relay.relay.deadline is None
    assert footprint(relay.relay) < start + 5_000


@pytest.mark.parametrize("seed", range(5))
def test_targets_of_any_kind_are_answered(world, seed: int) -> None:
    relay = world(connects_per_minute=None)
    dice = random.Random(seed)
    token = relay.token("alice")
    for _ in range(200):
        text = dice.choice(("/v1?token=", "/v1?key=", "/v1?", "")) + token
        cut = dice.randrange(len(text))
        mangled = (
            text[:cut] + dice.choice(("", "%", "%00", "é", "&", ".", "\ud800", "A")) + text[cut + dice.randrange(3) :]
        )
        guest = relay.knock(mangled)
        assert guest.refused is not None or guest.closed is not None or guest.peer_id == "alice"


@pytest.mark.parametrize("seed", range(5))
def test_requests_of_any_kind_are_answered(world, seed: int) -> None:
    relay = world(control_rate=None)
    dice = random.Random(seed)
    targets = (
        "/v1/tokens",
        "/v1/channels/c/peers",
        "/v1/channels/c/publish",
        "/v1/peers/a",
        "/v1/usage",
        "/",
        "%",
        "?",
        "",
    )
    bodies = tuple(value.encode("utf-8", "replace") for value in VALUES)
    for _ in range(300):
        target = dice.choice(targets)
        cut = dice.randrange(len(target) + 1)
        target = target[:cut] + dice.choice(("", "", "%FF", "/", "é", "\x00")) + target[cut:]
        body = b'{"peerId":%s,"data":%s,"metadata":%s}' % tuple(dice.choice(bodies) for _ in range(3))
        status, answer = relay.http(dice.choice(("GET", "POST", "DELETE", "PUT")), target, body)
        assert status in (200, 400, 403, 404, 413)
        assert status == 200 or set(answer) == {"error", "message"}


class AnyFacts(RuleBasedStateMachine):
    """Facts in any order. Orders concern only links that are there, and watchers are told the truth about presence."""

    KEY = PublishableKey("pk_live_any")
    SECRET = SecretKey("sk_id_any", "sk_secret_any_any_any_any")
    LINKS = st.integers(1, 6)

    @initialize(cap=st.sampled_from([None, 3]))
    def start(self, cap: int | None) -> None:
        limits = Limits(max_queue=3000, channels=4, message_burst=50, max_connections=cap, connects_per_minute=None)
        options = RelaySettings(born_at=1e9, keys=(self.KEY,), secrets=(self.SECRET,), limits=limits)
        self.relay = Relay(options, Entropy(1))
        self.now = 0
        self.next_link = 0
        self.slots: dict[int, int] = {}
        self.waiting: set[int] = set()
        self.closed: set[int] = set()
        self.gone: set[int] = set()
        self.seen: dict[tuple[int, str], set[str]] = {}
        self.asked: set[int] = set()
        self.op = 0

    def tell(self, fact: Fact) -> list[Order]:
        orders = self.relay.handle(self.now, fact)
        for order in orders:
            if isinstance(order, Send):
                assert order.link not in self.closed | self.gone
                self.read(order.link, order.payload)
            elif isinstance(order, Broadcast):
                assert len(set(order.links)) == len(tuple(order.links))
                for link in order.links:
                    assert link not in self.closed | self.gone
                    if link != order.skip:
                        self.read(link, order.payload)
            elif isinstance(order, CloseLink):
                assert order.link not in self.gone
                assert order.abort or order.link not in self.closed
                self.closed.add(order.link)
                if order.abort:
                    self.gone.add(order.link)
            elif isinstance(order, RefuseLink):
                self.gone.add(order.link)
            elif isinstance(order, Answer):
                self.asked.remove(order.op)
        return orders

    def read(self, link: int, payload: bytes) -> None:
        frame = json.loads(payload)
        if frame["type"] == "presence":
            seen = self.seen.setdefault((link, frame["channel"]), set())
            seen |= {peer["peerId"] for peer in frame["joined"]}
            seen -= {peer["peerId"] for peer in frame["left"]}

    @rule(slot=LINKS, good=st.booleans(), up=st.booleans())
    def come(self, slot: int, good: bool, up: bool) -> None:
        self.next_link += 1
        link = self.slots[slot] = self.next_link
        self.tell(LinkAsked(link, f"/v1?key={self.KEY.key if good else 'no'}", "192.0.2.1"))
        if up and link not in self.gone:
            self.tell(LinkUp(link))
        elif link not in self.gone:
            self.waiting.add(link)

    @rule()
    def come_up(self) -> None:
        if self.waiting:
            link = min(self.waiting)
            self.waiting.remove(link)
            self.tell(LinkUp(link))

    @rule(slot=LINKS)
    def go(self, slot: int) -> None:
        link = self.slots.get(slot, 0)
        self.waiting.discard(link)
        self.tell(LinkDown(link, 1006))
        self.gone.add(link)

    @rule(slot=LINKS, frames=st.lists(st.tuples(st.sampled_from(KINDS[:5]), st.sampled_from("abc*")), max_size=6))
    def talk(self, slot: int, frames: list[tuple[str, str]]) -> None:
        peers = list(self.relay._registry._links_of)
        to = peers[0] if peers else "x"
        link = self.slots.get(slot, 0)
        for kind, channel in frames:
            # The model forgets a channel that it left, as a client does.
            if kind == "unsubscribe":
                self.seen.pop((link, channel), None)
            self.tell(Received(link, [f'{{"type":"{kind}","channel":"{channel}","to":"{to}","data":"{"x" * 100}"}}']))

    @rule(slot=LINKS, seed=st.integers(0, 1000))
    def talk_nonsense(self, slot: int, seed: int) -> None:
        self.tell(Received(self.slots.get(slot, 0), hostile_frames(3, seed)))

    @rule(slot=LINKS, queued=st.integers(0, 4000), drained=st.booleans())
    def press(self, slot: int, queued: int, drained: bool) -> None:
        link = self.slots.get(slot, 0)
        self.tell(LinkDrained(link) if drained else LinkBlocked(link, queued))

    @rule(slot=LINKS)
    def live(self, slot: int) -> None:
        self.tell(Heard(self.slots.get(slot, 0)))

    @rule(seconds=st.integers(0, 15))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1_000_000
        self.tell(Woken())
        deadline = self.relay.deadline
        assert deadline is None or deadline.at > self.now

    @rule(which=st.integers(0, 30))
    def ask(self, which: int) -> None:
        self.op += 1
        peers = list(self.relay._registry._links_of)
        calls = {
            0: Drain(1000, 5.0),
            1: Kick(peers[0] if peers else "x"),
            2: PublishAs("a", msgspec.Raw(b"1")),
            3: Peers("a"),
            4: HttpCall("GET", "/v1/usage"),
        }
        self.asked.add(self.op)
        self.tell(Asked(self.op, calls.get(which, Usage())))

    @invariant()
    def the_watchers_know_who_is_there(self) -> None:
        if not hasattr(self, "relay"):
            return
        registry = self.relay._registry
        for link, guest in self.relay._guests.items():
            if guest.is_member():
                for channel in registry.subscriptions(link):
                    if channel != "*" and "*" not in channel:
                        there = {peer.peer_id for peer in registry.peers(channel, but=guest.peer_id)}
                        assert self.seen.get((link, channel), set()) == there

    @invariant()
    def nothing_is_kept_of_those_who_are_gone(self) -> None:
        if hasattr(self, "relay"):
            relay = self.relay
            there = set(relay._guests)
            assert not there & self.gone
            for kept in (
                relay._verdicts,
                relay._pings._at,
                relay._pongs._at,
                relay._patience._at,
                relay._post._blocked,
            ):
                assert set(kept) <= there
            assert relay._registry.link_count == sum(guest.is_member() for guest in relay._guests.values())
            assert relay._post.overfull == []

    def teardown(self) -> None:
        if hasattr(self, "relay"):
            # All questions are answered in the end, a drain's after everybody is gone.
            self.asked.add(self.op + 1)
            self.tell(Asked(self.op + 1, Drain()))
            for link in sorted(set(self.slots.values()) | self.waiting):
                self.tell(LinkDown(link, 1006))
            self.now += 60_000_000
            self.tell(Woken())
            assert self.asked == set()
            assert self.relay._guests == {}


TestAnyFacts = AnyFacts.TestCase
TestAnyFacts.settings = modest(20, 40)
