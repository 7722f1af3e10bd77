"""Writing down what a machine is told and what it orders, while it runs.

A recording is a text of JSON lines: a header, then one line for each step.

    {"format":"metered-recording","version":1,"machine":"ClientPlan","plan":{…},"library":"0.1.0","started":null}
    {"at":0,"fact":{"type":"Asked","op":1,"call":{"type":"Connect"}},"orders":[…],"deadline":{"at":10000000,"why":"open"}}

`at` is the machine's own time. `deadline` is there where the driver asked for it after the step, which is when the
machine's time has an effect. `raised` is there in place of `orders` where the machine would not take the fact.

How it can be cheap: the most frequent facts and orders are given to `msgspec` as they are, one call for a step.
Secrets are looked for in many lines at once, and most have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from metered_proto.client import calls as client_calls
from metered_proto.events import Data, Direct, Message
from metered_proto.facts import (
    Asked,
    EffectDone,
    Fact,
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
from metered_proto.machine import SECOND, Deadline, Machine, Micros
from metered_proto.orders import (
    Abandon,
    AcceptLink,
    Answer,
    AnswerAll,
    Broadcast,
    CloseLink,
    Order,
    PingLink,
    Send,
    Tell,
    TellAll,
)
from metered_proto.relay.settings import RelaySettings
from metered_proto.replay.machines import Plan
from metered_proto.replay.notation import BAD_JSON, encode_json, tree
from metered_proto.replay.pseudonyms import Pseudonyms, plainly_asked
from metered_proto.replay.state import Unfit, freeze
from metered_proto.settings import ClientSettings

FORMAT: Final = "metered-recording"
VERSION: Final = 1

HELD: Final = 1 << 16
"""Bytes that are held back before secrets are looked for and the sink is called, ..."""

HELD_FOR: Final[Micros] = SECOND
"""... and for how long, as far as the machine is told anything at all."""

Segment: TypeAlias = tuple[int, Callable[[], object]]
"""After how many bytes a new segment begins, and what to call then."""

Sink: TypeAlias = Callable[[bytes], object]
"""Takes whole lines, one or many."""


class Recorder:
    """A machine that does as another does, and writes down what that is.

    `machine` must have been made of the `plan` a moment ago, and nobody else may drive it. `sink` is given whole lines,
    secrets replaced. `key` is a secret of whoever records, 16 random bytes: see `pseudonyms`. `started` is the wall
    clock's time at the machine's birth, in unix seconds, for people who read it.

    `segment` is for those who keep the newest part only: after so many bytes the function beside it is called, and what
    the sink is given from there on is a recording by itself, which begins with what the machine has in its head
    (`state`). A machine that cannot be frozen goes on in one piece.

    What the machine is asked beside its facts is not a step: a machine that changes by it cannot be recorded.
    """

    def __init__(
        self,
        machine: Machine,
        sink: Sink,
        *,
        plan: Plan,
        key: bytes,
        library: str = "",
        started: float | None = None,
        segment: Segment | None = None,
    ) -> None:
        self.machine = machine
        self._handle = machine.handle
        self._sink = sink
        self._pseudonyms = Pseudonyms(key)
        self._lines: list[bytes] = []  # without their line feeds
        self._held = 0
        self._latest = b""  # the line of the latest step, for as long as its deadline may be asked for
        self._flush_at: Micros = HELD_FOR
        self.steps = 0
        self._learn(plan)
        self._header = header_tree(plan, library, started)
        self._segment = segment
        self._segment_left = segment[0] if segment is not None else 0
        self._put(encode_json(self._header))

    # --- as a machine ---

    @property
    def deadline(self) -> Deadline | None:
        """The machine's."""
        deadline = self.machine.deadline
        if self._latest:
            self._lines.append(b'%b,"deadline":%b}' % (self._latest[:-1], encode_json(deadline)))
            self._latest = b""
        return deadline

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Have the machine take in a fact. What it raises, this raises."""
        if self._latest:
            self._lines.append(self._latest)
            self._latest = b""
        if self._held > HELD or now >= self._flush_at:
            self._flush_at = now + HELD_FOR
            self._hand_out()
            if self._segment is not None and self._segment_left <= 0:
                self._turn_over(now, *self._segment)
        if type(fact) is EffectDone and type(fact.result) is str:
            self._pseudonyms.learn(fact.result)  # a token
        try:
            orders = self._handle(now, fact)
        except Exception as error:
            self._put(raised_line(now, fact, error))
            self.steps += 1
            raise
        line = step_line(now, plainly_asked(fact) if type(fact) is LinkAsked else fact, orders)
        if b"\n" in line:
            line = _one_line(line)
        self._latest = line
        self._held += len(line)
        self.steps += 1
        return orders

    def beside(self, now: Micros, fact: Fact, orders: Sequence[Order]) -> None:
        """Write down a step that somebody took past `handle`; whoever rebuilds the machine knows how."""
        self.flush()
        self.steps += 1
        self._put(step_line(now, fact, orders))

    # --- what is held ---

    @property
    def held(self) -> int:
        """Bytes that the sink has not been given yet."""
        return self._held

    def flush(self) -> None:
        """Give the sink all there is."""
        if self._latest:
            self._lines.append(self._latest)
            self._latest = b""
        self._hand_out()

    def _put(self, line: bytes) -> None:
        self._lines.append(_one_line(line))
        self._held += len(line)

    def _hand_out(self) -> None:
        lines = self._lines
        if not lines:
            return
        self._lines, self._held = [], 0
        lines.append(b"")
        text = b"\n".join(lines)
        if self._pseudonyms.suspects(text):
            text = b"\n".join(map(self._cleaned, lines))
        self._segment_left -= len(text)
        self._sink(text)

    def _turn_over(self, now: Micros, size: int, begin: Callable[[], object]) -> None:
        try:
            nodes = freeze(self.machine)
        except Unfit:
            self._segment = None
            return
        begin()
        self._segment_left = size
        self._put(encode_json({**self._header, "at": now, "steps": self.steps, "state": nodes}))
        self._hand_out()
        self._segment_left = size  # whatever the header takes: else a large state would be written over and over

    def _cleaned(self, line: bytes) -> bytes:
        return self._pseudonyms.replace(line.decode()).encode() if self._pseudonyms.suspects(line) else line

    # --- secrets that are known by where they are ---

    def _learn(self, plan: Plan) -> None:
        settings = getattr(plan, "settings", None)
        client = getattr(settings, "client", settings)
        if isinstance(client, ClientSettings) and client.api_key is not None:
            self._pseudonyms.learn(client.api_key)
        if isinstance(settings, RelaySettings):
            self._pseudonyms.sign_with((secret.id, secret.secret) for secret in settings.secrets)
            for key in settings.keys:
                self._pseudonyms.learn(key.key)


# --- lines --------------------------------------------------------------------------------------------------


class _Step(msgspec.Struct):
    at: Micros
    fact: Any
    orders: Sequence[Any]


class _Send(msgspec.Struct, tag="Send"):
    link: int
    payload: msgspec.Raw


# What a publish makes: to the letter what `_Step` would be written as.
_WITH_SEND: Final = b'{"at":%d,"fact":%b,"orders":[{"type":"Send","link":%d,"payload":%b}]}'


class _Broadcast(msgspec.Struct, tag="Broadcast"):
    links: Any
    payload: msgspec.Raw
    skip: int | None


class _Data(msgspec.Struct, tag="Data"):
    sender_peer_id: str
    data: Any
    kind: str
    sender_metadata: dict[str, Any] | None


class _NotQuickError(Exception):
    """This fact or order takes the long way."""


def header_tree(plan: Plan, library: str, started: float | None) -> dict[str, Any]:
    """The first line."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "machine": type(plan).__name__,
        "plan": tree(plan),
        "library": library,
        "started": started,
    }


def step_line(now: Micros, fact: Fact, orders: Sequence[Order]) -> bytes:
    """The line of a step, without a line feed. A deadline goes ahead of its last character."""
    try:
        check = _FACTS[type(fact)]
        if check is not None and not check(fact):
            raise _NotQuickError
        if len(orders) == 1:
            order = orders[0]
            if type(order) is Send:
                return _WITH_SEND % (now, encode_json(fact), order.link, order.payload)
            quick = _ORDERS[type(order)]
            return encode_json(_Step(now, fact, orders if quick is None else [quick(order)]))
        return encode_json(_Step(now, fact, list(map(_quickly, orders))))
    except (KeyError, _NotQuickError, *BAD_JSON):
        pass
    return b'{"at":%d,"marks":true,"fact":%b,"orders":[%b]}' % (now, _written(fact), b",".join(map(_written, orders)))


def _one_line(line: bytes) -> bytes:
    """Line feeds stand between the parts of a JSON text that somebody else wrote; in a string there cannot be one."""
    return line.replace(b"\n", b" ")


def raised_line(now: Micros, fact: Fact, error: Exception) -> bytes:
    """The line of a step that the machine refused."""
    return b'{"at":%d,"marks":true,"fact":%b,"raised":%b}' % (now, _written(fact), _written(error))


def _written(value: Any) -> bytes:
    try:
        return encode_json(tree(value))
    except BAD_JSON:  # an application's data, nested too deeply for us
        return encode_json({"$": "unknown", "kind": type(value).__name__})


_STR: Final = frozenset({str})

_QUICK_CALLS: Final = frozenset(
    {
        client_calls.Publish,
        client_calls.SendTo,
        client_calls.Subscribe,
        client_calls.Unsubscribe,
        client_calls.Connect,
        client_calls.Close,
    }
)


def _all_text(fact: Received) -> bool:
    payloads = fact.payloads
    return type(payloads[0]) is str if len(payloads) == 1 else _STR.issuperset(map(type, payloads))


# Facts that `msgspec` writes so that they can be read back: always, or where the test here says so.
_FACTS: Final[dict[type[Fact], Callable[[Any], bool] | None]] = {
    Received: _all_text,
    Asked: lambda fact: type(fact.call) in _QUICK_CALLS,
    Woken: None,
    Heard: None,
    LinkAsked: None,
    LinkUp: None,
    LinkDown: None,
    LinkBlocked: None,
    LinkDrained: None,
    Withdrawn: None,
}


def _quick_answer(order: Answer) -> Answer:
    if order.value is None and order.error is None:
        return order
    raise _NotQuickError


def _quick_tell(order: Tell) -> Tell:
    event = order.event
    kind = type(event)
    if kind is Message or kind is Direct:
        return order
    if kind is Data:
        return Tell(_Data(event.sender_peer_id, event.data, event.kind, event.sender_metadata))
    raise _NotQuickError


def _quick_tell_all(order: TellAll) -> TellAll:
    if type(order.events[0]) is Message:
        return order
    raise _NotQuickError


def _quickly(order: Order) -> Any:
    quick = _ORDERS[type(order)]
    return order if quick is None else quick(order)


# Orders that `msgspec` writes so that they can be read back: as they are, or as what is made of them here.
_ORDERS: Final[dict[type[Order], Callable[[Any], Any] | None]] = {
    Send: lambda order: _Send(order.link, msgspec.Raw(order.payload)),
    Broadcast: lambda order: _Broadcast(order.links, msgspec.Raw(order.payload), order.skip),
    AnswerAll: None,
    Answer: _quick_answer,
    Tell: _quick_tell,
    TellAll: _quick_tell_all,
    PingLink: None,
    AcceptLink: None,
    CloseLink: None,
    Abandon: None,
}
