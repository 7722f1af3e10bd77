"""The client inside a loop of your own, at the level of bytes: a bare `selectors` loop and one plain socket.

    python -m examples.embed_bytes ws://127.0.0.1:8787 pk_live_demo

`ClientSession` decides, `WebSocket` turns bytes into messages and back, and neither does any I/O: that is left to you.
"""

import os
import socket
import sys
import time
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from urllib.parse import urlsplit

from metered_proto.client import Call, ClientSession, Close, Connect, Publish, Subscribe
from metered_proto.entropy import Entropy
from metered_proto.facts import Asked, Fact, Heard, LinkDown, LinkUp, Received, Woken
from metered_proto.orders import Answer, AnswerAll, CloseLink, OpenLink, Send, Tell, TellAll
from metered_proto.settings import ClientSettings
from metered_proto.websocket import Closed, MaskKeys, Messages, Opened, Refused, Reply, State, WebSocket
from metered_proto.websocket import Heard as ControlFrame


class Loop:
    """Drives one session over one socket at a time. A link, in facts and orders, is the number of a socket."""

    def __init__(self, session: ClientSession) -> None:
        self.session, self.born, self.ops = session, time.monotonic(), 0
        self.selector, self.random, self.answers = DefaultSelector(), MaskKeys(os.urandom), dict[int, Answer]()

    def ask(self, call: Call) -> Exception | None:
        """Ask for something, turn until it is answered, return what went wrong."""
        self.ops += 1
        self.feed(Asked(self.ops, call))
        while self.ops not in self.answers:
            self.turn(1.0)
        return self.answers.pop(self.ops).error

    def turn(self, seconds: float) -> None:
        """Wait for the socket or the deadline, but no longer than `seconds`; deal with what came."""
        if (deadline := self.session.deadline) is not None:
            seconds = min(seconds, max(0.0, deadline.at / 1e6 - (time.monotonic() - self.born)))
        if self.selector.get_map():
            self.selector.modify(self.socket, EVENT_READ | EVENT_WRITE if self.out else EVENT_READ)
        for _, ready in self.selector.select(seconds):
            self.write()
            if ready & EVENT_READ:
                self.read()
        self.feed(Woken())  # ahead of its deadline this does nothing

    def feed(self, fact: Fact) -> None:
        for order in self.session.handle(int((time.monotonic() - self.born) * 1e6), fact):
            match order:
                case OpenLink(link, target):
                    self.open(link, target)
                case Send(_, payload):
                    self.out += self.websocket.frame(payload)
                case CloseLink() if order.abort or self.websocket.state is not State.OPEN:
                    self.drop()
                case CloseLink(_, code, reason):
                    self.out += self.websocket.close(code, reason)
                case Answer(op):
                    self.answers[op] = order
                case AnswerAll(ops):
                    self.answers |= {op: Answer(op) for op in ops}
                case Tell(event):
                    print(event, flush=True)
                case TellAll(events):
                    print(*events, sep="\n", flush=True)

    def open(self, link: int, target: str) -> None:
        self.drop()  # the link before may still be in its closing handshake
        parts = urlsplit(target)
        self.websocket = WebSocket.client(parts.netloc, f"{parts.path}?{parts.query}", random=self.random)
        self.link, self.socket, self.out = link, socket.socket(), self.websocket.open()
        self.socket.setblocking(False)
        self.socket.connect_ex((parts.hostname or "", parts.port or 80))  # reading will tell how it went
        self.selector.register(self.socket, EVENT_READ)

    def write(self) -> None:
        with suppress(OSError):  # blocked: there will be another time. Broken: reading will tell
            self.out = self.out[self.socket.send(self.out) :]

    def read(self) -> None:
        data = b""  # the end of the stream, however it comes about
        with suppress(OSError):
            data = self.socket.recv(65536)
        for event in self.websocket.receive(data):
            match event:
                case Opened():
                    self.feed(LinkUp(self.link))
                case Messages(payloads):
                    self.feed(Received(self.link, payloads))
                case ControlFrame():
                    self.feed(Heard(self.link))
                case Reply(owed):
                    self.out += owed
                case Closed(code, reason) | Refused(code, reason):
                    self.drop()
                    self.feed(LinkDown(self.link, code, reason))

    def drop(self) -> None:
        if self.selector.get_map():
            self.write()  # such as the close frame that answers theirs
            self.selector.unregister(self.socket)
            self.socket.close()


def main(url: str, key: str, count: str = "10") -> None:
    loop = Loop(ClientSession(ClientSettings(api_key=key, url=url), Entropy(os.urandom(16))))
    if problem := loop.ask(Connect()) or loop.ask(Subscribe("room/lobby")):
        raise SystemExit(str(problem))
    for number in range(1, int(count) + 1):
        print(f"publish {number}:", loop.ask(Publish.of("room/lobby", {"number": number})) or "ok", flush=True)
        pause = time.monotonic() + 1.0
        while (left := pause - time.monotonic()) > 0:
            loop.turn(left)
    loop.ask(Close())
    loop.turn(1.0)  # the rest of the closing handshake


if __name__ == "__main__":
    main(*sys.argv[1:])
