"""Reading recordings, which may be cut off, damaged, or written by somebody who means harm.

Whatever is in a file, reading it ends in steps or in a `RecordingFileError`. It makes no other objects than `registry`
knows, runs no code, and holds one line at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from metered_proto.errors import RecordingFileError
from metered_proto.facts import Fact
from metered_proto.machine import Deadline, Micros
from metered_proto.orders import Order
from metered_proto.replay.machines import Plan
from metered_proto.replay.notation import BAD_JSON, Unreadable, read_struct, read_value
from metered_proto.replay.recorder import FORMAT, VERSION
from metered_proto.replay.registry import STRUCTS

MAX_LINE: Final = 64 << 20
"""Bytes of a line. An outbox may hold 16 MiB when a recording begins."""

MAX_NESTING: Final = 500
"""How deep a line may be nested."""


class Header(msgspec.Struct, frozen=True):
    """What a recording says about itself. `plan` is what the machine was made of."""

    machine: str
    plan: Plan
    library: str
    started: float | None
    """Unix seconds at the machine's time 0, if the recorder was told."""
    at: Micros = 0
    """When it begins: 0, or later for a segment of a longer recording."""
    steps: int = 0
    """The steps before it."""
    state: msgspec.Raw = msgspec.Raw()
    """What the machine had in its head by then, as `state.freeze` writes it; empty for one that had just been made."""


class Step(msgspec.Struct, frozen=True):
    """One step: at what time the machine was told what, and what it ordered."""

    number: int
    """From 1 on."""
    line: int
    """In the file, from 1 on."""
    at: Micros
    fact: Fact
    orders: tuple[Order, ...] = ()
    raised: Exception | None = None
    deadline: Deadline | msgspec.UnsetType | None = msgspec.UNSET
    """What the machine wanted to be woken for after this step; UNSET where nobody asked."""
    written: bytes = b""
    """The orders, or what was raised, as they stand in the file."""
    marks: bool = False


class _Line(msgspec.Struct):
    at: Micros
    fact: msgspec.Raw
    orders: msgspec.Raw = msgspec.Raw(b"[]")
    raised: msgspec.Raw = msgspec.Raw()
    deadline: Deadline | msgspec.UnsetType | None = msgspec.UNSET
    marks: bool = False


class _Header(msgspec.Struct):
    format: str
    version: int
    machine: str
    plan: msgspec.Raw
    library: str = ""
    started: float | None = None
    at: Micros = 0
    steps: int = 0
    state: msgspec.Raw = msgspec.Raw()


_decode_line: Callable[[bytes], _Line] = msgspec.json.Decoder(_Line).decode
_decode_header: Callable[[bytes], _Header] = msgspec.json.Decoder(_Header).decode


class Recording:
    """A recording: its header, and its steps as often as one likes.

    `lines` gives the lines of the file from its beginning, each time that it is called. Raises `RecordingFileError`
    where the first line is no header.
    """

    def __init__(self, lines: Callable[[], Iterable[bytes]]) -> None:
        self._lines = lines
        first = next(iter(lines()), b"")
        self.header = _read_header(first)
        self.cut_off = False
        """Whether the last line was incomplete, known once `steps` has come to the end."""

    @classmethod
    def of(cls, data: bytes) -> Recording:
        """A recording that is all in memory."""
        lines = data.splitlines(keepends=True)
        return cls(lambda: lines)

    def steps(self) -> Iterator[Step]:
        """The steps in order. Raises `RecordingFileError` at a line that is none; the last may be cut off."""
        numbered = enumerate(self._lines(), 1)
        next(numbered, None)
        before, count = self.header.at, self.header.steps
        for number, line in numbered:
            if not line.endswith(b"\n"):
                self.cut_off = True
                return
            if line.isspace():
                continue
            count += 1
            step = _read_step(number, count, line)
            if step.at < before:
                raise RecordingFileError(number, "time runs backwards")
            before = step.at
            yield step


def _check_line(number: int, line: bytes) -> None:
    if len(line) > MAX_LINE:
        raise RecordingFileError(number, f"a line of more than {MAX_LINE} bytes")
    # More brackets than that may stand in text; only then is it worth a closer look.
    if line.count(b"[") + line.count(b"{") > MAX_NESTING and _nesting(line) > MAX_NESTING:
        raise RecordingFileError(number, "nested too deeply")


def _nesting(line: bytes) -> int:
    depth = deepest = 0
    quoted = escaped = False
    for byte in line:
        if escaped:
            escaped = False
        elif byte == 0x5C:
            escaped = True
        elif byte == 0x22:
            quoted = not quoted
        elif not quoted and byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif not quoted and byte in b"]}":
            depth -= 1
    return deepest


def _read_header(line: bytes) -> Header:
    _check_line(1, line)
    try:
        header = _decode_header(line)
        if header.format != FORMAT:
            raise RecordingFileError(1, "this is no recording")
        if header.version != VERSION:
            raise RecordingFileError(1, f"a recording of version {header.version}, and this is for {VERSION}")
        kind = _plan_of(header.machine)
        plan = read_struct(header.plan, kind)
    except BAD_JSON as error:
        raise RecordingFileError(1, f"this is no recording: {_said(error)}") from None
    if type(plan) is not kind:
        raise RecordingFileError(1, "the plan is of another machine")
    more = (header.at, header.steps, msgspec.Raw(bytes(header.state)))
    return Header(header.machine, plan, header.library[:100], header.started, *more)


def _plan_of(name: str) -> type[Plan]:
    struct = STRUCTS.get(name)
    if struct is None or not issubclass(struct, Plan):
        raise Unreadable("a machine of no kind that is known")
    return struct


def _read_step(number: int, count: int, line: bytes) -> Step:
    _check_line(number, line)
    try:
        read = _decode_line(line)
        fact = read_value(read.fact, marks=read.marks)
        raised = read_value(read.raised) if read.raised else None
        orders = () if read.raised else tuple(read_value(read.orders, marks=read.marks))
    except (*BAD_JSON, KeyError) as error:
        raise RecordingFileError(number, _said(error)) from None
    if not isinstance(fact, Fact) or not (raised is None or isinstance(raised, Exception)):
        raise RecordingFileError(number, "a fact was expected")
    written = bytes(read.raised) if read.raised else bytes(read.orders)
    return Step(count, number, read.at, fact, orders, raised, read.deadline, written, read.marks)


def _said(error: Any) -> str:
    """What is wrong. Nothing of the file is quoted but names of fields and places."""
    return str(error)[:200] if isinstance(error, Unreadable | msgspec.MsgspecError) else type(error).__name__
