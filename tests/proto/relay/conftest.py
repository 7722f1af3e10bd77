"""A relay with guests to talk through: conversations that read as such, with no socket and no clock."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from metered_proto.entropy import Entropy
from metered_proto.facts import Asked, Fact, LinkAsked, LinkDown, LinkUp, Received, Woken
from metered_proto.machine import SECOND, micros
from metered_proto.orders import AcceptLink, Answer, Broadcast, CloseLink, Note, Order, PingLink, RefuseLink, Send
from metered_proto.relay import HttpCall, HttpReply, Limits, PublishableKey, Relay, RelaySettings, SecretKey
from metered_proto.wire.tokens import mint

BORN_AT = 1_800_000_000.0
KEY = PublishableKey("pk_live_test")
SECRET = SecretKey("sk_id_test", "sk_secret_0123456789abcdef")


class Guest:
    """One socket, seen from its far end."""

    def __init__(self, world: World, link: int) -> None:
        self.world = world
        self.link = link
        self.inbox: list[dict[str, Any]] = []
        self.refused: RefuseLink | None = None
        self.closed: CloseLink | None = None
        self.pings = 0
        self.peer_id = ""

    def say(self, *frames: Any) -> list[dict[str, Any]]:
        """Send frames (dicts, or raw str and bytes) in one read; returns what came to this guest by it."""
        texts = [json.dumps(frame, ensure_ascii=False) if isinstance(frame, dict) else frame for frame in frames]
        self.world.tell(Received(self.link, texts))
        return self.heard()

    def ask(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Send one request with the id `r`."""
        return self.say({"type": kind, "requestId": "r", **fields})

    def heard(self) -> list[dict[str, Any]]:
        """Everything that came since the last look."""
        inbox, self.inbox = self.inbox, []
        return inbox

    def hang_up(self, code: int = 1000) -> None:
        self.world.tell(LinkDown(self.link, code))


class World:
    """A relay, its time, and everybody who ever came to it."""

    def __init__(
        self,
        *,
        keys: tuple[PublishableKey, ...] = (KEY,),
        secrets: tuple[SecretKey, ...] = (SECRET,),
        seed: int = 1,
        **limits: Any,
    ) -> None:
        self.settings = RelaySettings(born_at=BORN_AT, keys=keys, secrets=secrets, limits=Limits(**limits))
        self.relay = Relay(self.settings, Entropy(seed))
        self.now = 0
        self.guests: dict[int, Guest] = {}
        self.answers: dict[int, Answer] = {}
        self.notes: list[Note] = []
        self.orders: list[Order] = []
        self._links = 0
        self._ops = 0

    # --- driving it ---

    def tell(self, fact: Fact) -> list[Order]:
        """Hand the relay a fact, and carry out what it orders."""
        orders = self.relay.handle(self.now, fact)
        self.orders += orders
        for order in orders:
            self._carry_out(order)
        return orders

    def _carry_out(self, order: Order) -> None:
        match order:
            case Send(link, payload):
                self.guests[link].inbox.append(json.loads(payload))
            case Broadcast(links, payload, skip):
                assert len(set(links)) == len(tuple(links))
                for link in links:
                    if link != skip:
                        self.guests[link].inbox.append(json.loads(payload))
            case CloseLink(link):
                assert self.guests[link].closed is None or order.abort
                self.guests[link].closed = order
            case RefuseLink(link):
                self.guests[link].refused = order
            case PingLink(link):
                self.guests[link].pings += 1
            case Answer(op):
                assert op not in self.answers
                self.answers[op] = order
            case Note():
                self.notes.append(order)
            case _:
                assert isinstance(order, AcceptLink)

    def wait(self, seconds: float) -> None:
        """Let time pass, waking the relay whenever it wants to be."""
        end = self.now + micros(seconds)
        while (deadline := self.relay.deadline) is not None and deadline.at <= end:
            self.now = max(self.now, deadline.at)
            self.tell(Woken())
        self.now = end

    # --- guests ---

    def knock(self, target: str, *, origin: str | None = None, address: str = "192.0.2.1", up: bool = True) -> Guest:
        """Ask to come in; if that is granted, finish the handshake."""
        self._links += 1
        guest = self.guests[self._links] = Guest(self, self._links)
        self.tell(LinkAsked(guest.link, target, address, origin))
        if guest.refused is None and up:
            self.tell(LinkUp(guest.link))
        if guest.inbox:
            guest.peer_id = guest.inbox[0]["peerId"]
        return guest

    def enter(self, key: str = KEY.key, **how: Any) -> Guest:
        """Come in with a publishable key; the welcome is not left in the inbox."""
        guest = self.knock(f"/v1?key={quote(key, safe='')}", **how)
        assert guest.closed is None
        assert [frame["type"] for frame in guest.heard()] == ["welcome"]
        return guest

    def token(self, peer_id: str, *, key: SecretKey = SECRET, **claims: Any) -> str:
        now = int(BORN_AT + self.now / SECOND)
        return mint(key_id=key.id, secret=key.secret, peer_id=peer_id, now=now, **claims)

    def enter_as(self, peer_id: str, **claims: Any) -> Guest:
        """Come in with a token; the welcome is not left in the inbox."""
        guest = self.knock(f"/v1?token={self.token(peer_id, **claims)}")
        assert guest.closed is None
        assert [frame["type"] for frame in guest.heard()] == ["welcome"]
        return guest

    # --- the operator ---

    def ask(self, call: Any) -> int:
        """Ask something of the relay; returns the number of the question."""
        self._ops += 1
        self.tell(Asked(self._ops, call))
        return self._ops

    def answer(self, call: Any) -> Any:
        """Ask, and return the value of the answer."""
        answer = self.answers[self.ask(call)]
        assert answer.error is None
        return answer.value

    def http(
        self, method: str, target: str, body: Any = b"", *, credential: str | None = f"{SECRET.id}:{SECRET.secret}"
    ) -> tuple[int, Any]:
        """Call the control plane; returns the status and the JSON of the body."""
        reply = self.http_reply(method, target, body, credential=credential)
        return reply.status, json.loads(reply.body)

    def http_reply(
        self, method: str, target: str, body: Any = b"", *, credential: str | None = f"{SECRET.id}:{SECRET.secret}"
    ) -> HttpReply:
        headers = (("Authorization", f"Bearer {credential}"),) if credential is not None else ()
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        reply = self.answer(HttpCall(method, target, headers, raw))
        assert isinstance(reply, HttpReply)
        assert reply.header("content-type") == "application/json"
        return reply


@pytest.fixture
def world():
    """A function that makes a relay: `world(channels=3)`."""
    return World


@pytest.fixture
def relay():
    """A relay with one publishable key and one secret key, and the limits of the service."""
    return World()
