"""Names: of channels, of peers, of requests; and the patterns that stand for many channels.

A name without a `*` is a literal, and its backslashes are ordinary characters. One with a `*` in it, escaped or
not, is a pattern and has to match the whole name of a channel:

    *     any run of characters but `/`, also an empty one
    **    any run of characters, also an empty one
    \\*    a star               \\\\    a backslash               (a backslash before anything else is itself)

Each check comes in two forms: `check_…` for the caller of an API, who gets a `TypeError` or `ValueError` at the
call, and `…_problem` for a server, which answers the wire's error code.

How patterns are matched: a pattern is a list of literal characters with a gap before each of them and one after
the last; a gap holds nothing, `*` or `**`. "The first i characters are matched" is state i, and the states that
are possible at once are the bits of one integer. A character moves the states that wait for it one up and keeps
those whose gap takes it. That is one step a character of the name, whatever the pattern: nothing ever backtracks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from metered_proto.wire.close_codes import ErrorCode

MAX_CHANNEL_BYTES: Final = 256
"""The longest channel name or pattern, in bytes of UTF-8."""

MAX_PEER_ID: Final = 128
"""The longest peer id; it is ASCII, so characters are bytes."""

MAX_REQUEST_ID: Final = 128
"""The longest `requestId`, in characters."""

RESERVED_PREFIXES: Final = ("_metered/", "_internal/", "_system/")
"""Channels that begin like this, in upper or lower case, are the service's own."""

MAX_COVER_STEPS: Final = 10_000
"""Steps after which `Pattern.covers` gives up and says no."""


def check_channel(name: object) -> str:
    """Return the name of a channel, or the pattern for some. Raises `TypeError` or `ValueError`.

    A reserved name passes: it is well formed, and whether one may use it is another question (`is_reserved`).
    """
    if not isinstance(name, str):
        raise TypeError(f"a channel must be a str, not {type(name).__name__}")
    if (fault := _channel_fault(name)) is not None:
        raise ValueError(f"a channel {fault}")
    return name


def is_plain_channel(name: object) -> bool:
    """Whether it takes no closer look to tell that a name is good: all ASCII, as nearly every name is."""
    return type(name) is str and name.isascii() and name.isprintable() and 0 < len(name) <= MAX_CHANNEL_BYTES


def channel_problem(name: str) -> ErrorCode | None:
    """The error code that answers a request for this channel or pattern; None for a good name."""
    if _channel_fault(name) is not None:
        return ErrorCode.INVALID_CHANNEL
    return ErrorCode.CHANNEL_RESERVED if is_reserved(name) else None


def is_reserved(name: str) -> bool:
    """Whether the name begins with one of `RESERVED_PREFIXES`, in any case."""
    return name.startswith("_") and name.lower().startswith(RESERVED_PREFIXES)


def is_pattern(name: str) -> bool:
    """Whether a subscription to `name` is one to a pattern: it has no presence then."""
    return "*" in name


def check_peer_id(peer_id: object) -> str:
    """Return a peer id: 1 to 128 printable ASCII characters. Raises `TypeError` or `ValueError`."""
    if not isinstance(peer_id, str):
        raise TypeError(f"a peer id must be a str, not {type(peer_id).__name__}")
    if peer_id_problem(peer_id) is not None:
        raise ValueError(f"a peer id must be 1 to {MAX_PEER_ID} printable ASCII characters")
    return peer_id


def peer_id_problem(peer_id: str) -> ErrorCode | None:
    """The error code that answers a request which names this peer id; None for a good one."""
    return None if _PEER_ID.fullmatch(peer_id) else ErrorCode.INVALID_PEER_ID


def check_request_id(request_id: object) -> str:
    """Return a request id: 1 to 128 characters that UTF-8 can carry. Raises `TypeError` or `ValueError`."""
    if not isinstance(request_id, str):
        raise TypeError(f"a request id must be a str, not {type(request_id).__name__}")
    if not 1 <= len(request_id) <= MAX_REQUEST_ID or _SURROGATE.search(request_id):
        raise ValueError(f"a request id must be 1 to {MAX_REQUEST_ID} characters, without lone surrogates")
    return request_id


class Pattern:
    """A channel pattern, or a literal name, ready to be compared. Two with the same text are equal."""

    __slots__ = ("_any_gap", "_end", "_gaps", "_literals", "_prefix", "_segment_gap", "_suffix", "_waits", "text")

    text: str
    """What it was made from. Hold it to `check_channel` first where it comes from outside."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._literals, self._gaps = _parse(text)
        end = len(self._literals)
        self._end = 1 << end
        self._waits: dict[str, int] = {}
        for index, character in enumerate(self._literals):
            self._waits[character] = self._waits.get(character, 0) | 1 << index
        self._any_gap = sum(1 << index for index, gap in enumerate(self._gaps) if gap == "**")
        self._segment_gap = self._any_gap | sum(1 << index for index, gap in enumerate(self._gaps) if gap == "*")
        # What stands before the first gap and after the last: most names fail at one of them, at the speed of C.
        # A pattern without gaps is all prefix.
        filled = [index for index, gap in enumerate(self._gaps) if gap]
        self._prefix = self._literals[: filled[0]] if filled else self._literals
        self._suffix = self._literals[filled[-1] :] if filled else ""

    def matches(self, name: str) -> bool:
        """Whether the whole of `name` matches, in at most one step for each of its characters."""
        if not self._segment_gap:
            return name == self._prefix
        if not (name.startswith(self._prefix) and name.endswith(self._suffix)):
            return False
        states = 1 << len(self._prefix)
        for character in name[len(self._prefix) :]:
            states = self._step(states, character)
            if not states:
                return False
        return bool(states & self._end)

    def covers(self, other: Pattern | str) -> bool:
        """Whether this matches every name that `other` matches.

        Exact, by searching for a name that `other` matches and this does not; except that a pair of patterns so
        tangled that the search takes more than `MAX_COVER_STEPS` is answered with False, the safe side.
        """
        inner = other if isinstance(other, Pattern) else Pattern(other)
        if inner.text == self.text:
            return True
        if not inner._segment_gap:
            return self.matches(inner._prefix)
        if not self._segment_gap or not inner._prefix.startswith(self._prefix):
            return False
        # What a gap of the inner pattern takes matters only as far as this pattern tells it apart: characters that
        # it does not name are all alike, and the empty string, which is no character, stands for them.
        alphabet = [*dict.fromkeys([*self._literals, "/"]), ""]
        # A pair is a state of the inner pattern and the states of this one that the same text leads to.
        todo = [(0, 1)]
        seen = set(todo)
        steps = 0
        while todo:
            index, states = todo.pop()
            if index == len(inner._literals) and not states & self._end:
                return False
            gap = inner._gaps[index]
            moves = [(character, index) for character in alphabet if character != "/" or gap == "**"] if gap else []
            if index < len(inner._literals):
                moves.append((inner._literals[index], index + 1))
            for character, target in moves:
                steps += 1
                if steps > MAX_COVER_STEPS:
                    return False
                pair = (target, self._widest(self._step(states, character)))
                if pair not in seen:
                    seen.add(pair)
                    todo.append(pair)
        return True

    def _step(self, states: int, character: str) -> int:
        gaps = self._any_gap if character == "/" else self._segment_gap
        return (states & self._waits.get(character, 0)) << 1 | states & gaps

    def _widest(self, states: int) -> int:
        # From a state with `**` before its character, everything can still be matched that a lower state could
        # match: the lower ones add nothing.
        if wide := states & self._any_gap:
            top = wide.bit_length() - 1
            return states >> top << top
        return states

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Pattern) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def covered_by_any(name: Pattern | str, patterns: Iterable[Pattern]) -> bool:
    """Whether one of `patterns`, on its own, covers `name`."""
    inner = name if isinstance(name, Pattern) else Pattern(name)
    return any(pattern.covers(inner) for pattern in patterns)


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_PEER_ID: Final = re.compile(rf"[ -~]{{1,{MAX_PEER_ID}}}")
_TOKEN: Final = re.compile(r"\\([\\*])|(\*+)|(.)", re.DOTALL)


def _channel_fault(name: str) -> str | None:
    if is_plain_channel(name):
        return None
    if not name:
        return "must not be empty"
    if _SURROGATE.search(name):
        return "must not hold a lone surrogate: UTF-8 cannot carry it"
    if len(name) > MAX_CHANNEL_BYTES or len(name.encode()) > MAX_CHANNEL_BYTES:
        return f"must not be longer than {MAX_CHANNEL_BYTES} bytes of UTF-8"
    if _CONTROL.search(name):
        return "must not hold control characters (U+0000 to U+001F, U+007F to U+009F)"
    return None


def _parse(text: str) -> tuple[str, list[str]]:
    """The literal characters, and the gap before each of them and after the last: nothing, `*` or `**`."""
    if not is_pattern(text):
        return text, [""] * (len(text) + 1)
    literals: list[str] = []
    gaps = [""]
    for escaped, stars, plain in _TOKEN.findall(text):
        if stars:
            gaps[-1] = stars[:2]  # three stars and more mean what two mean
        else:
            literals.append(escaped or plain)
            gaps.append("")
    return "".join(literals), gaps
