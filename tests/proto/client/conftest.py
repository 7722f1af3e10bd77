"""A conversation with a client session, in virtual time: the test plays the network, the server and the application.

Whatever a test is about, the conversation watches over the promises that hold at all times; a broken one fails at
once, at the line that broke it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metered_proto.client.calls import Connect, FetchToken, Publish, SendTo, Subscribe, Unsubscribe
from metered_proto.client.deduplicator import Deduplicator
from metered_proto.client.envelope import unseal
from metered_proto.client.outbox import Attempted, Enqueue, Entry, Flush, Forget, Loaded, OutboxQueue
from metered_proto.client.session import TRANSITIONS, ClientSession
from metered_proto.entropy import Entropy
from metered_proto.events import Disconnected, StateChange
from metered_proto.facts import Asked, EffectDone, Fact, Heard, LinkDown, LinkUp, Received, Withdrawn, Woken
from metered_proto.machine import micros
from metered_proto.orders import (
    Abandon,
    Answer,
    AnswerAll,
    Begin,
    CloseLink,
    Note,
    OpenLink,
    Order,
    Send,
    Tell,
    TellAll,
)
from metered_proto.settings import ClientSettings, Outbox, ReconnectOptions

# The helper of the outbox's tests is a module beside them; test files are loaded by path, so it has to be findable.
sys.path.insert(0, str(Path(__file__).parent))

KEY = "pk_live_q7Wd0aZtNw5xKfB3"
TOKEN = "fresh-token/91f2c0de4b"
"""It looks like nothing in particular, so nothing but knowing it keeps it out of a text."""

WELCOME: dict[str, Any] = {
    "type": "welcome",
    "peerId": "me",
    "expiresAt": None,
    "serverTime": 1_700_000_000_000,
    "maxMessageSize": 65_536,
}


class Conversation:
    """One session and everything it said so far."""

    def __init__(
        self,
        *,
        api_key: str | None = KEY,
        seed: int = 1,
        reconnect: Any = None,
        no_reconnect: bool = False,
        outbox: dict[str, Any] | None = None,
        loaded: Loaded | None = None,
        deduplicator: Deduplicator | None = None,
        **more: Any,
    ) -> None:
        options = None if no_reconnect else ReconnectOptions(**{"jitter_ratio": 0, **(reconnect or {})})
        self.settings = ClientSettings(api_key=api_key, reconnect=options, **more)
        self.loaded = Loaded() if loaded is None else loaded
        self.outbox: OutboxQueue | None = None
        if outbox is not None:
            self.outbox = OutboxQueue(
                Outbox(**{"rate": None, **outbox}), Entropy(seed), loaded, ack_timeout=self.settings.ack_timeout
            )
        self.session = ClientSession(self.settings, Entropy(seed), outbox=self.outbox, deduplicator=deduplicator)
        self.now = 0
        self.orders: list[Order] = []
        self.sent: list[dict[str, Any]] = []
        self.told: list[Any] = []
        self.notes: list[Note] = []
        self.opened: list[OpenLink] = []
        self.closes: list[CloseLink] = []
        self.answers: dict[int, Answer] = {}
        self.edges: list[tuple[str, str, str]] = []
        self.forgotten: list[int] = []
        self.attempted_through = self.loaded.attempted_through
        self._keys = {entry.id: entry.key for entry in self.loaded.entries}
        # The keys of what went out, or may have in an earlier life.
        self._carried = {key for key in self._keys.values() if key <= self.attempted_through}
        self._newest = 0
        self.link = 0
        self.effect = 0
        self._ops = 0
        self._asked: set[int] = set()
        self._withdrawn: set[int] = set()
        self._links: dict[int, str] = {}
        self._effects: set[int] = set()
        self._state = "idle"
        self._over = False
        self._watch_the_phase()

    def _watch_the_phase(self) -> None:
        enter = self.session._enter

        def watched(trigger: Any, *args: Any, **kwargs: Any) -> list[Order]:
            before = self.session._phase.name
            orders = enter(trigger, *args, **kwargs)
            self.edges.append((before, trigger, self.session._phase.name))
            return orders

        self.session._enter = watched  # type: ignore[method-assign]

    # --- the application ---

    @property
    def state(self) -> str:
        return self.session.state

    def asks(self, call: object) -> int:
        """Ask for something; returns its number."""
        self._ops += 1
        self._asked.add(self._ops)
        self.give(Asked(self._ops, call))
        return self._ops

    def publishes(self, channel: str = "room", data: object = 1) -> int:
        return self.asks(Publish.of(channel, data))

    def sends(self, peer_id: str = "you", data: object = 1) -> int:
        return self.asks(SendTo.of(peer_id, data))

    def subscribes(self, channel: str = "room", include_sender_metadata: bool = False) -> int:
        return self.asks(Subscribe(channel, include_sender_metadata))

    def unsubscribes(self, channel: str = "room") -> int:
        return self.asks(Unsubscribe(channel))

    def drafts(self, data: object = 1, channel: str = "fleet", message_id: str | None = None) -> Entry:
        """The first half of enqueueing: what a driver puts into its store."""
        assert self.outbox is not None
        entry = self.outbox.draft(self.now, channel, msgspec.json.encode(data), message_id)
        assert isinstance(entry, Entry), entry
        return entry

    def enters(self, entry: Entry) -> int:
        """The second half."""
        self._keys[entry.id] = entry.key
        return self.asks(Enqueue(entry))

    def enqueues(self, data: object = 1, channel: str = "fleet", message_id: str | None = None) -> int:
        return self.enters(self.drafts(data, channel, message_id))

    def flushes(self) -> int:
        return self.asks(Flush())

    def outcome(self, op: int) -> Any:
        """What became of a message that was enqueued."""
        assert self.answers[op].error is None
        return self.answers[op].value

    @property
    def carried(self) -> list[dict[str, Any]]:
        """The publishes of the outbox among what was sent."""
        return [frame for frame in self.sent if str(frame.get("requestId")).startswith("o")]

    def ack_carried(self) -> None:
        """The server acknowledges every publish of the outbox that this list of what was sent has."""
        self.server(*[{"type": "ack", "requestId": frame["requestId"]} for frame in self.carried])

    def withdraws(self, op: int) -> None:
        if op not in self.answers:
            self._withdrawn.add(op)
        self.give(Withdrawn(op))

    def error(self, op: int) -> Exception | None:
        """How `op` failed; None where it did not. It has to be answered."""
        return self.answers[op].error

    def waits(self, op: int) -> bool:
        """Whether `op` is still to be answered."""
        return op not in self.answers and op not in self._withdrawn

    # --- the network and the token provider ---

    def token_comes(self, token: object = TOKEN) -> None:
        self.give(EffectDone(self.effect, token))

    def token_fails(self, error: Exception | None = None) -> None:
        self.give(EffectDone(self.effect, error=error or OSError("no route")))

    def link_comes_up(self) -> None:
        self.give(LinkUp(self.link))

    def link_goes_down(self, code: int = 1006, reason: str = "") -> None:
        self.give(LinkDown(self.link, code, reason))

    # --- the server ---

    def server(self, *frames: dict[str, Any] | str | bytes) -> None:
        """The server says something, all of it in one read."""
        payloads = [
            frame if isinstance(frame, str | bytes) else msgspec.json.encode(frame).decode() for frame in frames
        ]
        self.give(Received(self.link, payloads))

    def pong(self) -> None:
        """A WebSocket pong comes."""
        self.give(Heard(self.link))

    def welcome(self, **fields: Any) -> None:
        self.server({**WELCOME, **fields})

    def ack(self, op: int | str) -> None:
        self.server({"type": "ack", "requestId": str(op)})

    def refuse(self, op: int | str | None, code: str = "channel_not_authorized", message: str = "no") -> None:
        frame = {"type": "error", "code": code, "message": message}
        self.server(frame if op is None else {**frame, "requestId": str(op)})

    # --- whole passages ---

    def asks_to_connect(self) -> int:
        """As far as an attempt goes without the network's help: its link is being opened."""
        op = self.asks(Connect())
        if self.settings.api_key is None:
            self.token_comes()
        return op

    def link_is_made(self, **welcome: Any) -> None:
        """The attempt that is being made succeeds."""
        if self.session._phase.name == "fetching":
            self.token_comes()
        self.link_comes_up()
        self.welcome(**welcome)

    def connects(self, **welcome: Any) -> int:
        """From idle to connected."""
        op = self.asks(Connect())
        self.link_is_made(**welcome)
        assert self.state == "connected"
        return op

    def comes_back(self, **welcome: Any) -> None:
        """From lost to connected again."""
        self.until_woken()
        self.link_is_made(**welcome)
        assert self.state == "connected"

    def subscribed(self, channel: str = "room", include_sender_metadata: bool = False) -> None:
        """Subscribe, and let the server agree."""
        self.ack(self.subscribes(channel, include_sender_metadata))

    def forget(self) -> None:
        """Start new lists of what was said."""
        self.orders, self.sent, self.told, self.notes, self.opened, self.closes = [], [], [], [], [], []

    # --- time ---

    def until_woken(self) -> float:
        """Let time pass until the session wants to be woken, and wake it; returns how many seconds that was."""
        due = self.session.deadline
        assert due is not None, "nothing is due"
        waited = due.at - self.now
        self.now = due.at
        self.give(Woken())
        return waited / 1_000_000

    def advance(self, seconds: float) -> None:
        """Let time pass, waking the session whenever it wants to be."""
        end = self.now + micros(seconds)
        wakes = 0
        while (due := self.session.deadline) is not None and due.at <= end:
            wakes += 1
            assert wakes < 10_000, f"the session is busy: {due}"
            self.now = max(self.now, due.at)
            self.give(Woken())
        self.now = end

    def sleeps(self, seconds: float) -> None:
        """The machine sleeps: time passes and nobody wakes the session until the end of it."""
        self.now += micros(seconds)
        self.give(Woken())

    # --- the promises ---

    def give(self, fact: Fact) -> list[Order]:
        """Hand over one fact, and hold what comes back to what was promised."""
        match fact:
            case LinkUp(link) if self._links.get(link) == "opening":
                self._links[link] = "up"
            case LinkDown(link) if link in self._links:
                self._links[link] = "gone"
            case EffectDone(effect):
                self._effects.discard(effect)
            case _:
                pass
        edges = len(self.edges)
        phase = self.session._phase.name
        orders = self.session.handle(self.now, fact)
        for order in orders:
            self._take(order)
        for before, trigger, after in self.edges[edges:]:
            assert before == phase, "the phase changed without a transition"
            assert TRANSITIONS[before, trigger] == after  # type: ignore[index]
            phase = after  # type: ignore[assignment]
        assert self.session._phase.name == phase, "the phase changed without a transition"
        assert self.session.state == self._state, "the application was not told of a change of state"
        due = self.session.deadline
        if isinstance(fact, Woken):
            assert due is None or due.at > self.now, f"woken, and at once wants to be woken again: {due}"
        if self.state == "closed":
            assert due is None
        return orders

    def _watch_the_outbox(self, frame: dict[str, Any]) -> None:
        """What an outbox publishes is in order, marked where it went out before, and its store knows ahead of it."""
        opened = unseal(frame["data"])
        assert opened, "no envelope"
        for one in opened:
            key = self._keys[one.id]
            before = key in self._carried
            assert one.redelivered == before, "a repeat without its mark, or a mark without a repeat"
            assert before or key > self._newest, "out of order"
            assert key not in self.forgotten, "sent after its end"
            assert not self.loaded.durable or key <= self.attempted_through, "sent ahead of the note in the store"
            self._carried.add(key)
            self._newest = max(self._newest, key)

    def _hear_out(self, answer: Answer) -> None:
        assert answer.op in self._asked, "answered what nobody asked"
        assert answer.op not in self.answers, "answered twice"
        assert answer.op not in self._withdrawn, "answered what was withdrawn"
        self.answers[answer.op] = answer

    def _hear(self, event: Any) -> None:
        assert not self._over, "told something after the end"
        if isinstance(event, StateChange):
            assert event.from_ == self._state != event.to
            self._state = event.to
        if isinstance(event, Disconnected) and not event.will_reconnect:
            self._over = True
        self.told.append(event)

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
                if self.outbox is not None and str(self.sent[-1].get("requestId")).startswith("o"):
                    self._watch_the_outbox(self.sent[-1])
            case OpenLink(link, target):
                assert link not in self._links, "a link's number is used once"
                assert "up" not in self._links.values(), "one link is open at a time"
                assert "opening" not in self._links.values(), "one link is open at a time"
                self._links[link] = "opening"
                self.link = link
                assert target not in repr(order), "the credential shows"
                self.opened.append(order)
            case CloseLink(link):
                assert self._links[link] in ("up", "opening"), "closed a link that is not open"
                self._links[link] = "gone"
                self.closes.append(order)
            case Begin(effect, work):
                assert work == FetchToken()
                assert not self._effects, "one token is fetched at a time"
                self._effects.add(effect)
                self.effect = effect
            case Abandon(effect):
                self._effects.remove(effect)
            case Answer():
                self._hear_out(order)
            case AnswerAll(ops):
                for op in ops:
                    self._hear_out(Answer(op))
            case Forget(keys):
                assert self.loaded.durable, "there is nobody to forget"
                assert not set(keys) & set(self.forgotten), "forgotten twice"
                self.forgotten += keys
            case Attempted(through):
                assert self.loaded.durable, "there is nobody to take note"
                assert through > self.attempted_through, "that is no news"
                self.attempted_through = through
            case Tell(event):
                self._hear(event)
            case TellAll(events):
                assert len(events) > 1, "that could have been one"
                assert len(set(map(type, events))) == 1, "events of several classes"
                for event in events:
                    self._hear(event)
            case Note():
                self.notes.append(order)
            case _:
                raise AssertionError(f"not for the driver of a client: {order}")


@pytest.fixture(scope="session")
def converse() -> Callable[..., Conversation]:
    """Begin a conversation: takes `ClientSettings`, with `reconnect` as a dictionary. No jitter unless asked for."""
    return Conversation


@pytest.fixture
def talk() -> Conversation:
    """A conversation with a key that has not begun."""
    return Conversation()


@pytest.fixture
def online() -> Conversation:
    """A conversation with a key: connected, and with new lists."""
    talk = Conversation()
    talk.connects()
    talk.forget()
    return talk
