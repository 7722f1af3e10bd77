"""One guest says anything at all, line by line: the relay gives orders, and no exception. What others hear of it is
JSON (a number in it may be larger than anybody can hold: data is passed on as it came), and they stay connected."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import NoReturn

from metered_proto.entropy import Entropy
from metered_proto.facts import LinkAsked, LinkDown, LinkUp, Received, Woken
from metered_proto.orders import Broadcast, CloseLink, Order, Send
from metered_proto.relay import Limits, PublishableKey, Relay, RelaySettings

WORDS = (
    b'{"type":"subscribe","channel":"room"}',
    b'{"type":"publish","channel":"room","data":1}',
    b'{"type":"send","to":"x","data":1}',
    b'{"type":"unsubscribe","channel":"room"}',
    b'{"type":"ping"}',
    b'"requestId":"r"',
    b'"includeSenderMetadata":true',
    b"\n",
    b'"channel":',
    b"_metered/x",
    b"a/*",
    b"**",
)
LIMITS = Limits(message_rate=None, connects_per_minute=None)
WITNESS, GUEST = 1, 2


class Scene:
    """A relay with a witness, who is there for a while, and a guest who comes anew for each input."""

    def __init__(self) -> None:
        self.relay = Relay(RelaySettings(born_at=0, keys=(PublishableKey("pk_live_x"),), limits=LIMITS), Entropy(1))
        self.now = 0
        self.used = 0
        self.enter(WITNESS)
        self.give(Received(WITNESS, ['{"type":"subscribe","channel":"room"}']))

    def enter(self, link: int) -> None:
        self.give(LinkAsked(link, "/v1?key=pk_live_x", "192.0.2.1", None))
        self.give(LinkUp(link))

    def give(self, fact: object) -> list[Order]:
        self.now += 1000
        return self.relay.handle(self.now, fact)  # type: ignore[arg-type]


_scene = Scene()


def _no_json(word: str) -> NoReturn:
    raise AssertionError(f"{word} is no JSON")


def check(data: bytes) -> Hashable:
    global _scene
    if _scene.used == 2000:
        _scene = Scene()
    scene = _scene
    scene.used += 1
    scene.enter(GUEST)
    payloads = [line.decode(errors="replace") if index % 7 else line for index, line in enumerate(data.split(b"\n"), 1)]
    outcome = []
    for order in scene.give(Received(GUEST, payloads)):
        outcome.append(type(order).__name__)
        if isinstance(order, Send | Broadcast):
            json.loads(order.payload.decode(), parse_constant=_no_json)
        assert not (isinstance(order, CloseLink) and order.link == WITNESS)
    scene.give(LinkDown(GUEST, 1006))
    scene.give(Woken())
    stats = scene.relay.stats()
    assert stats.connections == 1
    return tuple(outcome[:6])
