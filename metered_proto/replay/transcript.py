"""A recording as a conversation: who said what to whom, step by step.

There are lanes: the application, the machine, the network (the server, or for a relay each guest), and for a room the
engine with the real peer connections. What is the same many times over is one entry with a count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec

from metered_proto.errors import RecordingFileError
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
from metered_proto.machine import Micros
from metered_proto.orders import (
    Abandon,
    AcceptLink,
    Answer,
    AnswerAll,
    Begin,
    Broadcast,
    CloseLink,
    Note,
    OpenLink,
    Order,
    PingLink,
    RefuseLink,
    Send,
    Tell,
    TellAll,
)
from metered_proto.replay.diff import one_line
from metered_proto.replay.reading import Step
from metered_proto.room.words import AtPeer

ODD_TYPES: Final = "a field of another type than it has"

Lane: TypeAlias = Literal["application", "machine", "network", "engine", "log"]

LANES: Final[tuple[Lane, ...]] = ("application", "machine", "network", "engine")

LONGEST: Final = 200
"""Characters of one entry."""


class Entry(msgspec.Struct, frozen=True):
    """One thing that was said. `count` of them in a row were alike; `level` is how much it matters."""

    at: Micros
    step: int
    source: Lane
    target: Lane
    text: str
    level: Literal["usual", "notable", "trouble"] = "usual"
    count: int = 1


def transcript(steps: Iterable[Step]) -> Iterator[Entry]:
    """The entries of some steps, like ones in a row counted together. Raises `RecordingFileError` for odd ones."""
    last: Entry | None = None
    for entry in _entries(steps):
        if last is not None and _alike(last, entry):
            last = msgspec.structs.replace(last, count=last.count + entry.count)
            continue
        if last is not None:
            yield last
        last = entry
    if last is not None:
        yield last


def _alike(one: Entry, other: Entry) -> bool:
    return (one.source, one.target, one.text) == (other.source, other.target, other.text)


def _entries(steps: Iterable[Step]) -> Iterator[Entry]:
    for step in steps:
        try:
            yield from list(_of_step(step))
        except Exception:  # what stands in a file may be of any type
            raise RecordingFileError(step.line, ODD_TYPES) from None


def _of_step(step: Step) -> Iterator[Entry]:
    yield from _told(step)
    if step.raised is not None:
        yield _entry(step, "machine", "application", f"raises {one_line(step.raised)}", "trouble")
    for order in step.orders:
        yield from _ordered(step, order)


def _entry(step: Step, source: Lane, target: Lane, text: str, level: Any = "usual", count: int = 1) -> Entry:
    return Entry(step.at, step.number, source, target, clean(text), level, count)


def clean(text: str, longest: int = LONGEST) -> str:
    """Text of somebody else's on one line: no control characters, and not too long."""
    shown = "".join(character if character.isprintable() else "·" for character in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


# --- facts --------------------------------------------------------------------------------------------------


def _told(step: Step) -> Iterator[Entry]:
    fact: Fact = step.fact
    match fact:
        case Received(link, payloads):
            for payload in payloads:
                yield _entry(step, "network", "machine", f"{frame(payload)} on link {link}")
        case Asked(_, call):
            yield _entry(step, "application", "machine", words(call))
        case LinkUp(link):
            yield _entry(step, "network", "machine", f"link {link} is up", "notable")
        case LinkDown(link, code, reason):
            yield _entry(step, "network", "machine", f"link {link} is down: {code} {reason}".rstrip(), "trouble")
        case LinkAsked(link, target, address):
            path = target.partition("?")[0]
            yield _entry(step, "network", "machine", f"link {link} asks to come in: {path} from {address}", "notable")
        case LinkBlocked(link, queued):
            yield _entry(step, "network", "machine", f"link {link} takes no more: {queued} bytes wait", "trouble")
        case LinkDrained(link):
            yield _entry(step, "network", "machine", f"link {link} takes more again")
        case Heard(link):
            yield _entry(step, "network", "machine", f"a sign of life on link {link}")
        case Withdrawn(op):
            yield _entry(step, "application", "machine", f"no longer waits for answer {op}")
        case EffectDone(_, result, error):
            if error is not None:
                yield _entry(step, "engine", "machine", f"work failed: {one_line(error)}", "trouble")
            else:
                yield _entry(step, "engine", "machine", f"work is done: {type(result).__name__}")
        case Woken():
            if step.orders:
                yield _entry(step, "machine", "machine", "a timer ran out")
        case _:
            level = "trouble" if "failed" in one_line(fact) else "notable"
            yield _entry(step, "engine", "machine", words(fact), level)


# --- orders -------------------------------------------------------------------------------------------------


def _ordered(step: Step, order: Order) -> Iterator[Entry]:
    match order:
        case Send(link, payload):
            yield _entry(step, "machine", "network", f"{frame(payload)} on link {link}")
        case Broadcast(links, payload):
            yield _entry(step, "machine", "network", f"{frame(payload)} to {len(links)} links")
        case OpenLink(link, target):
            yield _entry(step, "machine", "network", f"open link {link} to {target.partition('?')[0]}", "notable")
        case CloseLink(link, code, reason):
            yield _entry(step, "machine", "network", f"close link {link}: {code} {reason}".rstrip(), "notable")
        case AcceptLink(link):
            yield _entry(step, "machine", "network", f"let link {link} in")
        case RefuseLink(link, status, reason):
            yield _entry(step, "machine", "network", f"refuse link {link}: {status} {reason}", "trouble")
        case PingLink(link):
            yield _entry(step, "machine", "network", f"ping on link {link}")
        case Answer(_, value, error):
            if error is not None:
                yield _entry(step, "machine", "application", f"no: {one_line(error)}", "trouble")
            else:
                yield _entry(step, "machine", "application", "done" if value is None else f"done: {words(value)}")
        case AnswerAll(ops):
            yield _entry(step, "machine", "application", "done", count=len(ops))
        case Tell(event):
            yield _entry(step, "machine", "application", words(event), _level(event))
        case TellAll(events):
            for event in events:
                yield _entry(step, "machine", "application", words(event), _level(event))
        case Begin(_, work):
            yield _entry(step, "machine", "engine", words(work))
        case Abandon():
            yield _entry(step, "machine", "engine", "never mind")
        case Note(level, message, context):
            text = f"{message} {' '.join(f'{name}={value}' for name, value in context.items())}".rstrip()
            yield _entry(step, "machine", "log", text, "trouble" if level in ("warning", "error") else "usual")
        case _:
            yield _entry(step, "machine", "engine", words(order))


_TROUBLE: Final = ("Disconnected", "ServerError", "TokenProviderError", "FatalError", "NegotiationError", "Gap")
_NOTABLE: Final = ("Connected", "StateChange", "Joined", "Left", "MemberJoined", "MemberLeft", "GoingAway", "AtPeer")


def _level(event: Any) -> Literal["usual", "notable", "trouble"]:
    name = type(event).__name__
    return "trouble" if name in _TROUBLE else "notable" if name in _NOTABLE else "usual"


# --- words for them -----------------------------------------------------------------------------------------


def words(value: Any) -> str:
    """A call, an event, work or an order in few words: what it is, and the names in it, without its data."""
    if isinstance(value, AtPeer):
        return f"{value.peer_id}: {words(value.event)}"
    if isinstance(value, Exception):
        return one_line(value)
    if not isinstance(value, msgspec.Struct):
        return type(value).__name__
    name = type(value).__name__
    if name == "StateChange":
        return f"{value.from_} → {value.to}"  # type: ignore[attr-defined]
    shown = []
    for field in value.__struct_fields__:
        inside = getattr(value, field)
        if isinstance(inside, str | int) and field not in ("sdp", "data", "redelivered", "ack") and inside != "":
            shown.append(f"{field}={clean(str(inside), 60)}")
        elif isinstance(inside, Exception):
            shown.append(one_line(inside))
        elif isinstance(inside, msgspec.Struct):
            shown.append(words(inside))
    return f"{name}({', '.join(shown)})"


class _Frame(msgspec.Struct):
    """As much of a frame as tells what it is. None of it can be relied on."""

    type: str = "?"
    channel: str | None = None
    to: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    code: str | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Signal(msgspec.Struct):
    type: str | None = None
    description: dict[str, Any] | None = None


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_signal = msgspec.json.Decoder(_Signal).decode


def frame(payload: str | bytes) -> str:
    """A frame in few words."""
    try:
        found = _decode_frame(payload)
    except (ValueError, RecursionError):
        return f"{len(payload)} {'bytes' if isinstance(payload, bytes) else 'characters'} that are no frame"
    parts = [found.type]
    if found.channel is not None:
        parts.append(found.channel)
    if found.to is not None:
        parts.append(f"to {found.to}")
    if found.from_ is not None:
        parts.append(f"from {found.from_}")
    if found.code is not None:
        parts.append(found.code)
    if b'"rtc-' in bytes(found.data)[:40]:
        parts.append(_signal(found.data))
    return " ".join(parts)


def _signal(data: msgspec.Raw) -> str:
    try:
        signal = _decode_signal(data)
    except (ValueError, RecursionError):
        return "(a signal)"
    side = signal.description.get("type") if signal.description is not None else None
    return f"({side})" if isinstance(side, str) else f"({signal.type})"
