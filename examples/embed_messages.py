"""The client inside somebody else's WebSocket, at the level of messages: here the library is `websockets`.

    python -m examples.embed_messages ws://127.0.0.1:8787 pk_live_demo

The library connects, frames, pings and closes. `ClientSession` decides: it is told of links and messages, and says
what to send, what to tell the application, and when to connect again.
"""

import os
import sys
import time
from contextlib import suppress

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from metered_proto.client import Call, ClientSession, Close, Connect, Publish, Subscribe
from metered_proto.entropy import Entropy
from metered_proto.facts import Asked, Fact, LinkDown, LinkUp, Received, Woken
from metered_proto.orders import Answer, AnswerAll, CloseLink, OpenLink, Send, Tell, TellAll
from metered_proto.settings import ClientSettings


class Loop:
    """Drives one session over one WebSocket at a time. A link, in facts and orders, is the number of a WebSocket."""

    def __init__(self, session: ClientSession) -> None:
        self.session, self.born, self.ops = session, time.monotonic(), 0
        self.answers = dict[int, Answer]()
        self.websocket: ClientConnection | None = None

    def ask(self, call: Call) -> Exception | None:
        """Ask for something, turn until it is answered, return what went wrong."""
        self.ops += 1
        self.feed(Asked(self.ops, call))
        while self.ops not in self.answers:
            self.turn(1.0)
        return self.answers.pop(self.ops).error

    def turn(self, seconds: float) -> None:
        """Wait for a message or the deadline, but no longer than `seconds`; deal with what came."""
        if (deadline := self.session.deadline) is not None:
            seconds = min(seconds, max(0.0, deadline.at / 1e6 - (time.monotonic() - self.born)))
        if self.websocket is None:
            time.sleep(seconds)
        else:
            try:
                self.feed(Received(self.link, [self.websocket.recv(timeout=seconds)]))
            except TimeoutError:
                pass
            except ConnectionClosed as closed:
                self.websocket = None
                code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "connection lost")
                self.feed(LinkDown(self.link, code, reason))
        self.feed(Woken())  # ahead of its deadline this does nothing

    def feed(self, fact: Fact) -> None:
        """Tell the machine what happened; do what it says."""
        for order in self.session.handle(int((time.monotonic() - self.born) * 1e6), fact):
            match order:
                case OpenLink(link, target):
                    self.open(link, target)
                case Send(_, payload) if self.websocket is not None:
                    with suppress(ConnectionClosed):  # the next recv says so too, and with the code
                        self.websocket.send(payload, text=True)
                case CloseLink(_, code, reason) if self.websocket is not None:
                    self.websocket.close(code, reason)
                    self.websocket = None
                case Answer(op):
                    self.answers[op] = order
                case AnswerAll(ops):
                    self.answers |= {op: Answer(op) for op in ops}
                case Tell(event):
                    print(event, flush=True)
                case TellAll(events):
                    print(*events, sep="\n", flush=True)

    def open(self, link: int, target: str) -> None:
        """Connect, for as long as it takes. As no deadline can come meanwhile, no link is ever closed half open."""
        self.link = link
        try:
            self.websocket = connect(target, open_timeout=10, close_timeout=1)
        except InvalidStatus as refused:
            self.feed(LinkDown(link, refused.response.status_code, refused.response.reason_phrase))
        except (OSError, WebSocketException) as error:
            self.feed(LinkDown(link, 1006, type(error).__name__))
        else:
            self.feed(LinkUp(link))


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


if __name__ == "__main__":
    main(*sys.argv[1:])
