"""Promises that a trace keeps or breaks: functions of steps, of any run of any machines.

Each returns what it found, nothing where the promise was kept. `docs/promises.md` says what is promised.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

import msgspec

from metered_proto.client.calls import Publish, PublishMany, SendTo, Subscribe, Unsubscribe
from metered_proto.client.envelope import unseal
from metered_proto.client.requests import Request
from metered_proto.errors import MeteredRealtimeError
from metered_proto.events import Connected, Data, Disconnected, GoingAway, Message, StateChange
from metered_proto.facts import Asked, EffectDone, LinkAsked, Received, Withdrawn, Woken
from metered_proto.machine import SECOND, Micros, micros
from metered_proto.orders import Answer, AnswerAll, Note, OpenLink, Order, Send, Tell, TellAll
from metered_proto.replay import Drafted
from metered_proto.settings import ReconnectOptions
from metered_proto.sim.steps import Step, Violation
from metered_proto.wire.close_codes import verdict

STEADY: Final[Micros] = 10 * SECOND
"""After a connection that lasted so long, the ladder begins at its bottom."""

PATIENCE: Final = 20
"""So often a machine may be woken in one and the same microsecond."""


def each_asked_is_answered_once(steps: Iterable[Step], *, ended: Collection[str] = ()) -> list[Violation]:
    """Every `Asked` that was not withdrawn has one `Answer`. That there is one is looked for in hosts that `ended`."""
    promise = "each Asked is answered once"
    waiting: dict[tuple[str, int], int] = {}
    answered: dict[tuple[str, int], None] = {}
    found: list[Violation] = []
    for step in steps:
        if isinstance(step.fact, Asked):
            waiting[step.host, step.fact.op] = 1
        elif isinstance(step.fact, Withdrawn):
            waiting.pop((step.host, step.fact.op), None)
            answered[step.host, step.fact.op] = None
        for op in _answers(step.orders):
            key = (step.host, op)
            if isinstance(step.fact, Drafted):
                continue  # what is asked of an outbox directly has no number
            if waiting.pop(key, None) is None:
                how = "a second time, or after it was withdrawn" if key in answered else "though nobody asked"
                found.append(Violation(promise, step.host, f"{op} was answered {how}"))
            answered[key] = None
    found += [Violation(promise, host, f"{op} was never answered") for host, op in waiting if host in ended]
    return found


def _answers(orders: Iterable[Order]) -> Iterator[int]:
    for order in orders:
        if isinstance(order, Answer):
            yield order.op
        elif isinstance(order, AnswerAll):
            yield from order.ops


def every_timer_fires(steps: Iterable[Step]) -> list[Violation]:
    """Being woken at a deadline leads on: what was due is dealt with, and is not due again at once, for ever."""
    again: dict[str, tuple[Micros, int]] = {}
    found: list[Violation] = []
    for step in steps:
        if not isinstance(step.fact, Woken):
            continue
        at, count = again.get(step.host, (-1, 0))
        is_due = step.deadline is not None and step.deadline.at <= step.now
        count = (count if at == step.now else 0) + is_due
        again[step.host] = step.now, count
        if count == PATIENCE:
            assert step.deadline is not None
            what = f"woken {PATIENCE} times at {step.now}, and {step.deadline.why!r} is still due"
            found.append(Violation("every timer fires", step.host, what))
    return found


def delays_are_the_ladders(steps: Iterable[Step], ladders: dict[str, ReconnectOptions]) -> list[Violation]:
    """Every wait before an attempt is what the ladder of the host's options says, give or take its jitter.

    `ladders` are the options of those hosts that are client sessions.
    """
    states: dict[str, _Ladder] = {}
    found: list[Violation] = []
    for step in steps:
        options = ladders.get(step.host)
        if options is None:
            continue
        state = states.setdefault(step.host, _Ladder())
        for order in step.orders:
            if isinstance(order, Tell):
                match order.event:
                    case Connected():
                        state.welcomed_at = step.now
                    case GoingAway(retry_after_ms):
                        state.floor = step.now + retry_after_ms * 1000
                    case Disconnected(_, _, will_reconnect=False) | StateChange(to="idle"):
                        state.rung = 0
                    case _:
                        pass
            elif isinstance(order, Note) and order.message in ("connection lost", "attempt failed"):
                if order.message == "connection lost" and step.now - state.welcomed_at >= STEADY:
                    state.rung = 0
                state.rung += 1
                if step.deadline is not None and step.deadline.why == "reconnect":
                    wait = step.deadline.at - step.now
                    least = verdict(order.context["code"], can_refresh=True).min_delay
                    if not state.allows(options, wait, max(least, state.floor - step.now)):
                        what = f"at {step.now} the wait of attempt {state.rung} is {wait / SECOND:.3f} s"
                        found.append(Violation("the waits are the ladder's", step.host, what))
            elif isinstance(order, Note) and order.message == "could not connect":
                state.rung = 0
    return found


class _Ladder(msgspec.Struct):
    """What an onlooker knows of a ladder."""

    rung: int = 0
    floor: Micros = 0
    welcomed_at: Micros = 0

    def allows(self, options: ReconnectOptions, wait: Micros, floor: Micros) -> bool:
        """Whether the wait may be so long."""
        delay = min(options.initial_delay * options.multiplier ** min(self.rung - 1, 60), options.max_delay)
        spread = options.jitter_ratio
        low, high = micros(delay * (1 - spread)) - 1, micros(delay * (1 + spread)) + 1
        if low <= wait <= high and wait >= floor:
            return True
        return low < floor <= wait <= floor * (1 + spread) + 1


# --- messages -----------------------------------------------------------------------------------------------


class _Publish(msgspec.Struct, tag="publish"):
    channel: str
    data: Any


class _Other(msgspec.Struct):
    type: str


_read_publish = msgspec.json.Decoder(_Publish).decode


class Sent(msgspec.Struct, frozen=True, gc=False):
    """One message, told by what every simulated application writes into it: who made it, and the how-manieth."""

    channel: str
    sender: str
    number: int
    redelivered: bool
    by_outbox: bool


def _sent(channel: str, data: Any) -> list[Sent]:
    opened = unseal(data)
    if opened is None:
        return [Sent(channel, data["from"], data["n"], False, False)] if _is_numbered(data) else []
    return [
        Sent(channel, one.data["from"], one.data["n"], one.redelivered, True)
        for one in opened
        if _is_numbered(one.data)
    ]


def _is_numbered(data: Any) -> bool:
    return isinstance(data, dict) and "from" in data and "n" in data


def taken_by_relays(steps: Iterable[Step]) -> Iterator[tuple[Step, int, Sent]]:
    """Every message that a relay was sent, in order: the step, the guest, the message."""
    for step in steps:
        if isinstance(step.fact, Received) and step.host.startswith("relay"):
            for payload in step.fact.payloads:
                if isinstance(payload, str) and '"publish"' in payload:
                    frame = _read_publish(payload)
                    for sent in _sent(frame.channel, frame.data):
                        yield step, step.fact.link, sent


def told(steps: Iterable[Step]) -> Iterator[tuple[Step, Sent]]:
    """Every message that an application was told, in order; those in rooms have no name of a channel."""
    for step in steps:
        for order in step.orders:
            events = order.events if isinstance(order, TellAll) else (order.event,) if isinstance(order, Tell) else ()
            for event in events:
                if isinstance(event, Message | Data):
                    for sent in _sent(event.channel if isinstance(event, Message) else "", event.data):
                        yield step, sent


def order_is_kept(steps: list[Step]) -> list[Violation]:
    """A relay gets what one connection sends to a channel in the order in which it was made, but for what was sent on
    that connection before; and whoever listens is told in the order in which the relay got it."""
    promise = "the order of a channel and a sender is kept"
    found: list[Violation] = []
    last: dict[tuple[str, int, str, bool], int] = {}
    before: dict[tuple[str, int, str, bool, int], None] = {}
    places: dict[tuple[str, str, int], list[int]] = {}
    for place, (step, guest, sent) in enumerate(taken_by_relays(steps)):
        key = (step.host, guest, sent.channel, sent.by_outbox)
        again = (*key, sent.number)
        if again not in before:
            before[again] = None
            if sent.number <= last.get(key, 0):
                what = f"{sent.sender} sent {sent.number} after {last[key]} to {sent.channel}"
                found.append(Violation(promise, step.host, what))
            last[key] = sent.number
        elif not sent.by_outbox:
            found.append(Violation(promise, step.host, f"{sent.sender} sent {sent.number} twice"))
        for channel in (sent.channel, ""):
            places.setdefault((channel, sent.sender, sent.number), []).append(place)
    reached: dict[str, int] = {}
    for step, sent in told(steps):
        at = reached.get(step.host, -1)
        nexts = [place for place in places.get((sent.channel, sent.sender, sent.number), ()) if place > at]
        if not nexts:
            what = f"{sent.sender}'s {sent.number} on {sent.channel} was told out of order, or was never sent"
            found.append(Violation(promise, step.host, what))
        else:
            reached[step.host] = nexts[0]
    return found


def nothing_is_told_twice(steps: Iterable[Step], *, deduplicating: Collection[str] = ()) -> list[Violation]:
    """No message is handed over twice: to those that leave out repeats never, to others not unless it is marked."""
    seen: dict[tuple[str, str, str, int], None] = {}
    found: list[Violation] = []
    for step, sent in told(steps):
        key = (step.host, sent.channel, sent.sender, sent.number)
        if key in seen and (step.host in deduplicating or not sent.redelivered):
            what = f"{sent.sender}'s {sent.number} on {sent.channel} was told twice"
            found.append(Violation("nothing is told twice", step.host, what))
        seen[key] = None
    return found


def repeats_are_marked(steps: Iterable[Step]) -> list[Violation]:
    """What an outbox sends a second time says so, whatever became of the first."""
    seen: dict[tuple[str, str, int], None] = {}
    found: list[Violation] = []
    for step in steps:
        for order in step.orders:
            if not isinstance(order, Send) or _OUTBOX not in order.payload or step.host.startswith("relay"):
                continue
            frame = _read_publish(order.payload)
            for sent in _sent(frame.channel, frame.data):
                key = (step.host, sent.channel, sent.number)
                if key in seen and not sent.redelivered:
                    what = f"{sent.number} was sent to {sent.channel} again, and is not marked"
                    found.append(Violation("what an outbox repeats is marked", step.host, what))
                seen[key] = None
    return found


def losses_are_told_at_once(steps: Iterable[Step]) -> list[Violation]:
    """With a connection ends the wait of everybody who asked something on it. An outbox goes on waiting."""
    waiting: dict[str, dict[int, None]] = {}
    found: list[Violation] = []
    for step in steps:
        ops = waiting.setdefault(step.host, {})
        if isinstance(step.fact, Asked) and isinstance(step.fact.call, _ON_A_CONNECTION):
            ops[step.fact.op] = None
        elif isinstance(step.fact, Withdrawn):
            ops.pop(step.fact.op, None)
        for op in _answers(step.orders):
            ops.pop(op, None)
        if ops and any(isinstance(order, Tell) and isinstance(order.event, Disconnected) for order in step.orders):
            what = f"at {step.now} the connection was lost, and {len(ops)} still wait for their answers"
            found.append(Violation("losses are told at once", step.host, what))
            ops.clear()
    return found


_ON_A_CONNECTION: Final = (Publish, PublishMany, SendTo, Subscribe, Unsubscribe, Request)
_OUTBOX: Final = b'"__meteredOutbox"'


# --- secrets ------------------------------------------------------------------------------------------------


def no_secret_is_shown(steps: Iterable[Step], secrets: Collection[str]) -> list[Violation]:
    """None of these is in a log line, in an error, in an event, or in the repr of a fact or of an order.

    What a link carries is not looked at: that is where credentials belong.
    """
    found: list[Violation] = []
    for step in steps:
        shown = [repr(step.fact)] if isinstance(step.fact, LinkAsked | EffectDone) else []
        for order in step.orders:
            if isinstance(order, Note | OpenLink):
                shown.append(repr(order))
            elif isinstance(order, Answer) and order.error is not None:
                shown.append(_whole(order.error))
            elif isinstance(order, Tell) and not isinstance(order.event, Message):
                shown.append(repr(order.event))
        text = "\n".join(shown)
        if text and any(secret in text for secret in secrets):
            what = f"{type(step.fact).__name__} at {step.at} led to something that shows a secret"
            found.append(Violation("no secret is shown", step.host, what))
    return found


def _whole(error: BaseException) -> str:
    """An error as a log would show it, with what it came from."""
    fields = [getattr(error, name) for name in error.fields] if isinstance(error, MeteredRealtimeError) else []
    cause = "" if error.__cause__ is None else _whole(error.__cause__)
    return f"{error!r} {error} {fields!r} {cause}"
