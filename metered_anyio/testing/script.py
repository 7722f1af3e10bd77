"""What a cassette plays and what it waits for: a recording of a client, as a script for both ends of its connection.

Decides nothing about time and touches no event loop: `cassette.py` does.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec

from metered_proto.client.envelope import KEY as OUTBOX_KEY
from metered_proto.facts import Asked, LinkDown, LinkUp, Received
from metered_proto.orders import OpenLink, Send
from metered_proto.replay import Step


class Open(msgspec.Struct, frozen=True):
    """The client opens a connection."""


class Up(msgspec.Struct, frozen=True):
    """It is up."""


class Say(msgspec.Struct, frozen=True):
    """The server says this."""

    payloads: tuple[str | bytes, ...]


class Down(msgspec.Struct, frozen=True):
    """The connection is gone."""

    code: int
    reason: str


class Hear(msgspec.Struct, frozen=True):
    """The client says this; `asked` if its application asked for it."""

    frame: dict[str, Any]
    asked: bool


Action: TypeAlias = Open | Up | Say | Down | Hear

_BY_ITSELF: Final = frozenset({"ping"})
"""Frames that a client sends when time passes, which it does otherwise on a cassette."""


def script_of(steps: Iterable[Step]) -> list[Action]:
    """The script of a recorded client."""
    script: list[Action] = []
    for step in steps:
        match step.fact:
            case LinkUp():
                script.append(Up())
            case Received(_, payloads):
                script.append(Say(tuple(payloads)))
            case LinkDown(_, code, reason):
                script.append(Down(code, reason))
            case _:
                pass
        for order in step.orders:
            if isinstance(order, OpenLink):
                script.append(Open())
            elif isinstance(order, Send) and (frame := read_frame(order.payload)).get("type") not in _BY_ITSELF:
                script.append(Hear(frame, isinstance(step.fact, Asked)))
    return script


def read_frame(payload: str | bytes) -> dict[str, Any]:
    """A frame as a dictionary; an empty one for what is none."""
    try:
        frame = msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return {}
    return frame if isinstance(frame, dict) else {}


class Comparison:
    """What the client should have said, beside what it said.

    A frame belongs to the first one that was not taken yet of the same type, to the same channel or peer: so what
    matters is the order in each channel, and not how channels take turns.
    """

    def __init__(self) -> None:
        self._heard: list[dict[str, Any]] = []
        self._names: dict[str, str] = {}  # request ids of the recording, and what they are called now
        self._missing: list[dict[str, Any]] = []
        self._pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def hear(self, payload: str | bytes) -> None:
        """The client said this."""
        frame = read_frame(payload)
        if frame.get("type") not in _BY_ITSELF:
            self._heard.append(frame)

    def has(self, expected: dict[str, Any]) -> bool:
        """Whether something has come that belongs to this."""
        return any(_where(frame) == _where(expected) for frame in self._heard)

    def take(self, expected: dict[str, Any]) -> None:
        """This was to come: what belongs to it is dealt with, or it is missing."""
        for at, frame in enumerate(self._heard):
            if _where(frame) == _where(expected):
                del self._heard[at]
                break
        else:
            self._missing.append(expected)
            return
        recorded, now = expected.get("requestId"), frame.get("requestId")
        if isinstance(recorded, str) and isinstance(now, str):
            self._names[recorded] = now
        self._pairs.append((expected, frame))

    def renamed(self, payloads: Iterable[str | bytes]) -> list[str | bytes]:
        """What the server says, with the request ids of now; without answers to what was never asked."""
        said: list[str | bytes] = []
        for payload in payloads:
            frame = read_frame(payload)
            request_id = frame.get("requestId")
            if frame.get("type") in ("ack", "error") and isinstance(request_id, str):
                if (name := self._names.get(request_id)) is not None:
                    said.append(msgspec.json.encode({**frame, "requestId": name}).decode())
            else:
                said.append(payload)
        return said

    def unasked(self) -> list[str]:
        """Acknowledgements for what was said and is not in the recording."""
        heard, self._heard = self._heard, []
        ids = [frame["requestId"] for frame in heard if isinstance(frame.get("requestId"), str)]
        return [msgspec.json.encode({"type": "ack", "requestId": request_id}).decode() for request_id in ids]

    def difference(self) -> str | None:
        """What differs, as a readable diff; None if nothing does."""
        changed = [(one, other) for one, other in self._pairs if _content(one) != _content(other)]
        if not (changed or self._missing or self._heard):
            return None
        expected = [_line(one) for one, _ in changed] + [_line(frame) for frame in self._missing]
        got = [_line(other) for _, other in changed] + [_line(frame) for frame in self._heard]
        rows = [row for row in difflib.ndiff(expected, got, None, None) if not row.startswith("?")]
        if len(rows) > 40:
            rows = [*rows[:38], f"  … {len(rows) - 38} lines more"]
        return "\n".join(("what the application sent differs from the recording", *rows, "- recorded    + sent"))


def _where(frame: dict[str, Any]) -> tuple[Any, Any, Any]:
    return frame.get("type"), frame.get("channel"), frame.get("to")


def _content(frame: dict[str, Any]) -> dict[str, Any]:
    """A frame without what differs from run to run: the id of the request, and the marks of an outbox."""
    content = {name: value for name, value in frame.items() if name != "requestId"}
    data = content.get("data")
    if isinstance(data, dict) and OUTBOX_KEY in data:
        content["data"] = {name: value for name, value in data.items() if name != OUTBOX_KEY}
    return content


def _line(frame: dict[str, Any]) -> str:
    return msgspec.json.encode(_content(frame)).decode()
