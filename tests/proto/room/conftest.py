"""A conversation with a room, in virtual time: the test plays the network, the server, the engine and the application.

The conversation watches over the promises that hold at all times, as the client's does; a broken one fails at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metered_proto.client.calls import FetchToken
from metered_proto.entropy import Entropy
from metered_proto.events import Left, StateChange
from metered_proto.facts import Asked, EffectDone, Fact, LinkDown, LinkUp, Received, Withdrawn, Woken
from metered_proto.machine import micros
from metered_proto.orders import Abandon, Answer, Begin, CloseLink, Note, OpenLink, Order, Send, Tell
from metered_proto.room.room import TRANSITIONS, Room
from metered_proto.room.settings import RoomSettings
from metered_proto.room.words import AddTrack, AtPeer, Join, Leave, MemberJoined, MemberLeft, SendAll, SendOne
from metered_proto.rtc.words import (
    AddCandidate,
    CloseConnection,
    ConnectionChanged,
    EndTrack,
    LocalTrack,
    OpenChannel,
    OpenConnection,
    TakeTrack,
)
from metered_proto.settings import ClientSettings, ReconnectOptions
from metered_proto.wire.codec import encode_data

# The kit of these tests is a module beside them; test files are loaded by path, so it has to be findable.
sys.path.insert(0, str(Path(__file__).parent))

from peer_kit import ScriptedPeer

KEY = "pk_live_q7Wd0aZtNw5xKfB3"
TOKEN = "fresh-token/91f2c0de4b"

WELCOME: dict[str, Any] = {"type": "welcome", "peerId": "me", "expiresAt": None, "serverTime": 1_700_000_000_000}

ENGINE = (OpenConnection, CloseConnection, AddCandidate, OpenChannel, TakeTrack, EndTrack)


class Conversation:
    """One room and everything it said so far."""

    def __init__(
        self,
        *,
        api_key: str | None = KEY,
        reconnect: dict[str, Any] | None = None,
        no_reconnect: bool = False,
        client: dict[str, Any] | None = None,
        make_peer: Any = None,
        seed: int = 1,
        **more: Any,
    ) -> None:
        options = None if no_reconnect else ReconnectOptions(**{"jitter_ratio": 0, **(reconnect or {})})
        settings = ClientSettings(api_key=api_key, reconnect=options, **{"inactivity_timeout": 0, **(client or {})})
        self.machines: list[ScriptedPeer] = []
        """Every machine that was ever made for a member."""
        made = self._make if make_peer is None else make_peer
        self.room = Room(RoomSettings(client=settings, **more), Entropy(seed), make_peer=made)
        self.now = 0
        self.orders: list[Order] = []
        self.sent: list[dict[str, Any]] = []
        self.told: list[Any] = []
        self.notes: list[Note] = []
        self.answers: dict[int, Answer] = {}
        self.edges: list[tuple[str, str, str]] = []
        self.link = 0
        self.effect = 0
        self.opened: list[OpenLink] = []
        self._links: dict[int, str] = {}
        self._ops = 0
        self._asked: set[int] = set()
        self._withdrawn: set[int] = set()
        self._state = "idle"
        self._members: list[str] = []
        self._over = False
        enter = self.room._enter

        def watched(trigger: Any, orders: list[Order]) -> None:
            before = self.room.state
            enter(trigger, orders)
            self.edges.append((before, trigger, self.room.state))

        self.room._enter = watched  # type: ignore[method-assign]

    def _make(self, *args: Any, **kwargs: Any) -> ScriptedPeer:
        peer = ScriptedPeer(*args, **kwargs)
        self.machines.append(peer)
        return peer

    # --- the application ---

    @property
    def state(self) -> str:
        return self.room.state

    @property
    def members(self) -> list[str]:
        return list(self.room.members)

    def peer(self, peer_id: str) -> ScriptedPeer:
        """The machine of a member."""
        found = self.room.peer(peer_id)
        assert isinstance(found, ScriptedPeer)
        return found

    def asks(self, call: object) -> int:
        self._ops += 1
        self._asked.add(self._ops)
        self.give(Asked(self._ops, call))
        return self._ops

    def asks_to_join(self, channel: str = "room", **options: Any) -> int:
        return self.asks(Join(channel, **options))

    def leaves(self, reason: str | None = None) -> int:
        return self.asks(Leave(reason))

    def sends(self, data: object = 1) -> int:
        return self.asks(SendAll(msgspec.Raw(encode_data(data))))

    def sends_to(self, peer_id: Any, data: object = 1) -> int:
        return self.asks(SendOne(peer_id, msgspec.Raw(encode_data(data))))

    def adds(self, key: int, **fields: Any) -> int:
        return self.asks(AddTrack(track(key, **fields)))

    def withdraws(self, op: int) -> None:
        if op not in self.answers:
            self._withdrawn.add(op)
        self.give(Withdrawn(op))

    def error(self, op: int) -> Exception | None:
        """How `op` failed; None where it did not. It has to be answered."""
        return self.answers[op].error

    def waits(self, op: int) -> bool:
        return op not in self.answers and op not in self._withdrawn

    # --- the network ---

    def token_comes(self) -> None:
        self.give(EffectDone(self.effect, TOKEN))

    def link_comes_up(self) -> None:
        self.give(LinkUp(self.link))

    def link_goes_down(self, code: int = 1006, reason: str = "") -> None:
        self.give(LinkDown(self.link, code, reason))

    # --- the server ---

    def server(self, *frames: dict[str, Any] | str) -> None:
        """The server says something, all of it in one read."""
        texts = [frame if isinstance(frame, str) else msgspec.json.encode(frame).decode() for frame in frames]
        self.give(Received(self.link, texts))

    def welcome(self, peer_id: str = "me", **fields: Any) -> None:
        self.server({**WELCOME, "peerId": peer_id, **fields})

    def requests(self, kind: str) -> list[dict[str, Any]]:
        """The requests of one type among what was sent."""
        return [frame for frame in self.sent if frame["type"] == kind]

    def ack(self, frame: dict[str, Any]) -> None:
        self.server({"type": "ack", "requestId": frame["requestId"]})

    def refuse(self, frame: dict[str, Any] | None, code: str, message: str = "no") -> None:
        error = {"type": "error", "code": code, "message": message}
        self.server(error if frame is None else {**error, "requestId": frame["requestId"]})

    def presence(self, *joined: str, left: tuple[str, ...] = (), channel: str = "room", **metadata: Any) -> None:
        """A presence; `metadata` has what is said about some of those who joined."""
        peers = [{"peerId": peer, **({"metadata": metadata[peer]} if peer in metadata else {})} for peer in joined]
        gone = [{"peerId": peer} for peer in left]
        self.server({"type": "presence", "channel": channel, "joined": peers, "left": gone})

    def direct(self, sender: str, data: object, **fields: Any) -> None:
        self.server({"type": "direct", "from": sender, "data": data, **fields})

    def message(self, sender: str, data: object, channel: str = "room", **fields: Any) -> None:
        self.server({"type": "message", "channel": channel, "from": sender, "data": data, **fields})

    # --- the engine ---

    def connection(self, peer_id: str, state: str = "connected") -> None:
        """A member's connection is in another state; a first one is made on the way."""
        peer = self.peer(peer_id)
        if peer.pc is None:
            peer.says = peer.connects()
            self.direct(peer_id, {"type": "rtc-ice", "candidate": None})
        assert peer.pc is not None
        self.give(ConnectionChanged(peer.pc, state))  # type: ignore[arg-type]

    # --- whole passages ---

    def joins(self, *others: str, peer_id: str = "me", channel: str = "room", **welcome: Any) -> int:
        """From idle to joined, with the snapshot."""
        op = self.asks_to_join(channel)
        self.gets_in(peer_id, **welcome)
        self.presence(*others, channel=channel)
        assert self.state == "joined"
        return op

    def gets_in(self, peer_id: str = "me", **welcome: Any) -> None:
        """The server welcomes us and takes the subscribe; no snapshot yet."""
        self.is_welcomed(peer_id, **welcome)
        self.ack(self.requests("subscribe")[-1])

    def is_welcomed(self, peer_id: str = "me", **welcome: Any) -> None:
        if self.link == 0 or self._links[self.link] == "gone":
            self.token_comes()
        self.link_comes_up()
        self.welcome(peer_id, **welcome)

    def comes_back(self, *others: str, peer_id: str = "me", **metadata: Any) -> None:
        """From lost to joined again."""
        assert self.state == "reconnecting"
        self.until_woken()
        self.gets_in(peer_id)
        self.presence(*others, **metadata)

    def forget(self) -> None:
        """Start new lists of what was said."""
        self.orders, self.sent, self.told, self.notes = [], [], [], []
        for machine in self.machines:
            machine.facts = []

    # --- time ---

    def until_woken(self) -> float:
        """Let time pass until the room wants to be woken, and wake it; returns how many seconds that was."""
        due = self.room.deadline
        assert due is not None, "nothing is due"
        waited = due.at - self.now
        self.now = max(self.now, due.at)
        self.give(Woken())
        return waited / 1_000_000

    def advance(self, seconds: float) -> None:
        """Let time pass, waking the room whenever it wants to be."""
        end = self.now + micros(seconds)
        wakes = 0
        while (due := self.room.deadline) is not None and due.at <= end:
            wakes += 1
            assert wakes < 10_000, f"the room is busy: {due}"
            self.now = max(self.now, due.at)
            self.give(Woken())
        self.now = end

    # --- the promises ---

    def give(self, fact: Fact) -> list[Order]:
        """Hand over one fact, and hold what comes back to what was promised."""
        match fact:
            case LinkUp(link) if self._links.get(link) == "opening":
                self._links[link] = "up"
            case LinkDown(link) if link in self._links:
                self._links[link] = "gone"
            case _:
                pass
        edges, state = len(self.edges), self.room.state
        orders = self.room.handle(self.now, fact)
        for order in orders:
            self._take(order)
        for before, trigger, after in self.edges[edges:]:
            assert before == state, "the state changed without a transition"
            assert TRANSITIONS[before, trigger] == after  # type: ignore[index]
            state = after  # type: ignore[assignment]
        assert self.room.state == state == self._state, "the application was not told of a change of state"
        assert self.members == self._members, "the application was not told who is there"
        assert list(self.room._company.roster) == self.members, "the roster and the machines differ"
        due = self.room.deadline
        if isinstance(fact, Woken):
            assert due is None or due.at > self.now, f"woken, and at once wants to be woken again: {due}"
        if self.state == "closed":
            assert due is None
        if self.state in ("idle", "closed"):
            assert not self._members
            assert "up" not in self._links.values(), "a link is left open"
            assert "opening" not in self._links.values(), "a link is still being opened"
            assert not self.room._company.members._owners, "numbers of nobody are kept"
        return orders

    def _take(self, order: Order) -> None:
        self.orders.append(order)
        if not isinstance(order, OpenLink):
            text = f"{order!r} {order.error!s}" if isinstance(order, Answer) else repr(order)
            assert KEY not in text
            assert TOKEN not in text
        match order:
            case Send(link, payload):
                assert self._links[link] == "up", "sent on a link that is not up"
                self.sent.append(msgspec.json.decode(payload))
            case OpenLink(link):
                assert link not in self._links, "a link's number is used once"
                assert not {"up", "opening"} & set(self._links.values()), "one link is open at a time"
                self._links[link] = "opening"
                self.link = link
                self.opened.append(order)
            case CloseLink(link):
                assert self._links[link] in ("up", "opening"), "closed a link that is not open"
                self._links[link] = "gone"
            case Begin(effect, work) if effect > 0:
                assert work == FetchToken()
                assert effect > self.effect, "an effect's number is used once"
                self.effect = effect
            case Begin() | Abandon():
                pass
            case Answer(op):
                assert op in self._asked, "answered what nobody asked"
                assert op not in self.answers, "answered twice"
                assert op not in self._withdrawn, "answered what was withdrawn"
                self.answers[op] = order
            case Tell(event):
                assert not self._over, "told something after the end"
                self._hears(event)
            case Note():
                self.notes.append(order)
            case _:
                assert isinstance(order, ENGINE), f"not for the driver of a room: {order}"

    def _hears(self, event: Any) -> None:
        self.told.append(event)
        match event:
            case StateChange(before, after):
                assert before == self._state != after
                self._state = after
            case MemberJoined(peer_id):
                assert peer_id not in self._members, "joined twice"
                self._members.append(peer_id)
            case MemberLeft(peer_id):
                self._members.remove(peer_id)
            case AtPeer(peer_id):
                assert peer_id in self._members, "an event of somebody who is not there"
            case Left():
                assert self._state == "closed"
                self._over = True
            case _:
                pass


def track(key: int, kind: Any = "video", **fields: Any) -> LocalTrack:
    return LocalTrack(key, kind, fields.pop("track_id", f"track-{key}"), **fields)


@pytest.fixture(scope="session")
def converse() -> Callable[..., Conversation]:
    """Begin a conversation: takes the options of `RoomSettings`, with those of the client as dictionaries."""
    return Conversation


@pytest.fixture
def talk() -> Conversation:
    """A conversation with a key that has not begun."""
    return Conversation()


@pytest.fixture
def joined() -> Conversation:
    """A conversation with a key: alone in the room, and with new lists."""
    talk = Conversation()
    talk.joins()
    talk.forget()
    return talk


@pytest.fixture(scope="session")
def make_track() -> Callable[..., LocalTrack]:
    """A track of ours: `make_track(key, kind, stream_id=…)`."""
    return track
