"""A server says anything at all, line by line: the client gives orders, and no exception, and tells what it was told.
While it is connected it stays so, unless it closes the link itself."""

from __future__ import annotations

from collections.abc import Hashable

from metered_proto.client import ClientSession, Connect, Subscribe
from metered_proto.entropy import Entropy
from metered_proto.facts import Asked, LinkDown, LinkUp, Received
from metered_proto.orders import CloseLink, OpenLink, Order
from metered_proto.settings import ClientSettings

WELCOME = '{"type":"welcome","peerId":"me","expiresAt":null,"serverTime":1700000000000,"maxMessageSize":65536}'
WORDS = (
    WELCOME.encode(),
    b'{"type":"message","channel":"c","from":"p","data":1}',
    b'{"type":"ack","requestId":"r"}',
    b'{"type":"pong"}',
    b'{"type":"error","code":"x"}',
    b'{"type":"going_away","retryAfterMs":5}',
    b'{"type":"direct","from":"p","data":1}',
    b"\n",
    b'{"type":"presence","event":"joined","channel":"c","peers":[]}',
    b'"requestId":"',
    b'"expiresAt":1',
)


class Scene:
    """A client that has connected."""

    def __init__(self) -> None:
        self.session = ClientSession(ClientSettings(api_key="pk_live_x"), Entropy(1))
        self.now = self.ops = self.used = self.link = 0
        self.connect()
        self.ask(Subscribe("c"))

    def connect(self) -> None:
        for order in self.ask(Connect()):
            if isinstance(order, OpenLink):
                self.link = order.link
        self.give(LinkUp(self.link))
        self.give(Received(self.link, [WELCOME]))
        assert self.session.state == "connected"

    def ask(self, call: object) -> list[Order]:
        self.ops += 1
        return self.give(Asked(self.ops, call))

    def give(self, fact: object) -> list[Order]:
        self.now += 1000
        return self.session.handle(self.now, fact)  # type: ignore[arg-type]


_scene = Scene()


def check(data: bytes) -> Hashable:
    global _scene
    if _scene.used == 500 or _scene.session.state != "connected":
        _scene = Scene()
    scene = _scene
    scene.used += 1
    payloads = [line.decode(errors="replace") if index % 7 else line for index, line in enumerate(data.split(b"\n"), 1)]
    outcome = []
    for order in scene.give(Received(scene.link, payloads)):
        outcome.append(type(order).__name__ + type(getattr(order, "event", None)).__name__)
        if isinstance(order, CloseLink):
            scene.give(LinkDown(scene.link, 1006))
    return (scene.session.state, tuple(outcome[:6]))
