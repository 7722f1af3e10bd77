"""What comes on the screen: plain lines, coloured ones on a terminal, and complaints.

Most of what is shown was written by somebody else. So nothing of it is taken for rich's markup, and whatever a
terminal could obey (control characters, changes of the writing direction) is shown as an escape, `\\u001b`.
The escapes are JSON's, so JSON that goes through here keeps its meaning.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final, TypeAlias

import msgspec
from rich.console import Console
from rich.text import Text

from metered_proto.wire.scrub import MASK, scrub

Cell: TypeAlias = tuple[str, str]
"""A piece of a line and its rich style."""


class Unwritable(Exception):  # noqa: N818 - says what stdout is
    """Stdout takes no more: the disk is full, or, with no message, nobody reads it any longer."""


def write_line(text: str) -> None:
    """One line on stdout, there at once. Raises `Unwritable`."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise Unwritable from None
    except OSError as error:
        raise Unwritable(f"cannot write: {error.strerror}") from None


def write_cells(*cells: Cell) -> None:
    """One line of cells on stdout, in colour if that is a terminal."""
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        write_line(" ".join(printable(text) for text, _ in cells))
        return
    line = Text(" ").join(Text(printable(text), style) for text, style in cells)
    # rich only paints. It is not to write: it ends the whole process when the other end of a pipe is gone.
    with console.capture() as painted:
        console.print(line, end="")
    write_line(painted.get())


def write_json(value: Any) -> None:
    """One JSON value as one line on stdout."""
    write_line(as_json(value))


def as_json(value: Any) -> str:
    """A value as compact JSON that is safe on a screen. Raises `RecursionError` for what is nested too deeply."""
    return printable(msgspec.json.encode(value).decode())


def complain(message: str) -> None:
    """One line on stderr about what went wrong."""
    tell(f"metered: {' '.join(message.split())}")


def without_secrets(text: str) -> str:
    """A text that may quote what was typed, or what a server said, without the secrets in it."""
    return _SECRET_PAIR.sub(rf"\1:{MASK}", scrub(text))


def tell(message: str) -> None:
    """One line on stderr, there at once."""
    sys.stderr.write(f"{printable(message)}\n")
    sys.stderr.flush()


def word(text: str) -> str:
    """A name as one word: in JSON's quotes if it holds spaces or quotes of its own."""
    return text if _PLAIN_WORD.fullmatch(text) else as_json(text)


def printable(text: str) -> str:
    """The text, with JSON's escape in place of each character that is not for showing."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


_SECRET_PAIR: Final = re.compile(r"(sk_id_[\w-]*):\S+")
_PLAIN_WORD: Final = re.compile(r"[^\s\"']+")
