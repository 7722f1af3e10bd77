"""A divergence on one screen: the steps before, what was expected, what came instead."""

from __future__ import annotations

import difflib
import itertools
from typing import TYPE_CHECKING, Any, Final

import msgspec

from metered_proto.machine import SECOND, Deadline, Micros
from metered_proto.replay.notation import BAD_JSON, encode_json, tree

if TYPE_CHECKING:
    from metered_proto.replay.reading import Step
    from metered_proto.replay.replaying import Divergence

WIDTH: Final = 118
ROWS: Final = 40
"""One screen."""


def show_divergence(divergence: Divergence) -> str:
    """The text, of at most `ROWS` lines."""
    step = divergence.step
    rows = [f"step {step.number} differs, at {show_time(step.at)} (line {step.line})", ""]
    rows += [_short(f"  {each.number:>6}  {show_time(each.at)}  {_step(each)}") for each in divergence.before]
    rows += [_short(f"> {step.number:>6}  {show_time(step.at)}  {one_line(step.fact)}"), ""]
    if divergence.expected or divergence.got:
        rows += _compared(divergence.expected, divergence.got)
    else:
        rows += [
            "- wants to be woken " + _deadline(divergence.expected_deadline),
            "+ wants to be woken " + _deadline(divergence.got_deadline),
        ]
    rows += ["", "- the recording    + this code"]
    if len(rows) > ROWS:
        rows = [*rows[: ROWS - 3], f"  … {len(rows) - ROWS + 1} lines more", *rows[-2:]]
    return "\n".join(rows)


def show_time(at: Micros) -> str:
    """A time of the machine's, in seconds."""
    return f"{at // SECOND}.{at % SECOND:06}"


def _step(step: Step) -> str:
    given = step.raised or ", ".join(type(order).__name__ for order in step.orders) or "nothing"
    return f"{one_line(step.fact)}  →  {given}"


def one_line(value: Any) -> str:
    """A fact, an order or an error on one line. Without secrets, if it is of a recording: there are none in it."""
    if isinstance(value, Exception):
        return f"{type(value).__name__}: {value}"
    try:
        fields = msgspec.json.decode(encode_json(tree(value)))
    except BAD_JSON:
        return f"{type(value).__name__}(…)"
    return f"{type(value).__name__}({_arguments(fields)})" if isinstance(fields, dict) else _value(fields)


def _arguments(fields: dict[str, Any]) -> str:
    inside = (f"{name}={_value(value)}" for name, value in fields.items() if name not in ("$", "type"))
    return ", ".join(inside)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        name = value.get("$", value.get("type"))
        if name == "dict":
            return _json(value.get("json", value.get("items")))
        if isinstance(name, str) and name not in ("publish", "send", "subscribe", "message", "direct"):
            return f"{name}({_arguments(value)})"
    return _json(value)


def _json(value: Any) -> str:
    return encode_json(value).decode()


def _short(text: str) -> str:
    text = "".join(character if character.isprintable() else "·" for character in text)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _compared(expected: tuple[Any, ...], got: tuple[Any, ...]) -> list[str]:
    """Order by order; those that differ in a field only, field by field."""
    rows: list[str] = []
    left, right = [_rows(order) for order in expected], [_rows(order) for order in got]
    matcher = difflib.SequenceMatcher(
        None, ["\n".join(each) for each in left], ["\n".join(each) for each in right], False
    )
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            rows += [_short(f"  {each[0]}") for each in left[a:b]]
            continue
        before = [row for each in left[a:b] for row in each]
        after = [row for each in right[c:d] for row in each]
        found = [row for row in difflib.ndiff(before, after, None, None) if not row.startswith("?")]
        rows += map(_short, _where_they_part(found))
    return rows


def _where_they_part(rows: list[str]) -> list[str]:
    """Long values that begin alike are shown from a little before the place in which they part."""
    rows = list(rows)
    for at, (one, other) in enumerate(itertools.pairwise(rows)):
        if one.startswith("- ") and other.startswith("+ ") and max(len(one), len(other)) > WIDTH:
            common = _common(one[2:], other[2:])
            if common > WIDTH // 2:
                for each in (at, at + 1):
                    rows[each] = f"{rows[each][:20]} … {rows[each][2 + common - 20 :]}"
    return rows


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _rows(order: Any) -> list[str]:
    """An order as a row with its name, and one for each field."""
    if not isinstance(order, msgspec.Struct):
        return [one_line(order)]
    try:
        fields = msgspec.json.decode(encode_json(tree(order)))
    except BAD_JSON:
        return [f"{type(order).__name__}(…)"]
    return [
        type(order).__name__,
        *(f"    {name} = {_value(value)}" for name, value in fields.items() if name not in ("$", "type")),
    ]


def _deadline(deadline: Deadline | msgspec.UnsetType | None) -> str:
    if not isinstance(deadline, Deadline):
        return "never"
    return f"at {show_time(deadline.at)} for {deadline.why}"
