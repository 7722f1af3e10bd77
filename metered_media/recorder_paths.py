"""Which file a recording goes to: names made of what people call themselves, which never leave their directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from metered_media.errors import RecordingError
from metered_media.recorder_format import FORMATS, Format

PEER: Final = "{peer}"
"""In a path: the place of the person's name."""

LONGEST: Final = 120
"""Characters of a person's name in a file's name. Names that are longer are cut."""


def file_name(peer_id: str) -> str:
    """A peer id as a name for a file, the same for no other id, except for ids that are cut.

    Letters, digits, `_`, `-`, `~` and dots stay, but for a dot at the start; anything else becomes `%` and two digits.
    """
    name = quote(peer_id, safe="", errors="surrogatepass")
    if name.startswith("."):
        name = "%2E" + name[1:]
    return name[:LONGEST] or "%"


@dataclass(frozen=True, slots=True)
class Target:
    """Where files go: `directory`, and the name of each, in which `{peer}` may stand, without its suffix.

    `replace` says whether a file that is there already may be written over; without, another number is taken.
    """

    directory: Path
    stem: str
    format: Format
    replace: bool

    def paths(self, peer_id: str | None) -> Iterator[Path]:
        """The names for a person's files, best first: `name`, `name-2`, `name-3` and so on."""
        stem = self.stem if peer_id is None else self.stem.replace(PEER, file_name(peer_id))
        number = 1
        while True:
            yield self.directory / f"{stem if number == 1 else f'{stem}-{number}'}.{self.format.suffix}"
            number += 1

    def next_path(self, peer_id: str | None, taken: Callable[[Path], bool]) -> Path:
        """The first of them that is free. `taken` says which are not, those on the disk aside."""
        for number, path in enumerate(self.paths(peer_id)):
            if not taken(path) and ((self.replace and number == 0) or not os.path.lexists(path)):
                return path
        raise AssertionError  # there is no last one


def target(path: str | os.PathLike[str], format: str | None, *, several: bool) -> Target:
    """What a caller's path means. With `several`, files of several people go there.

    A directory (which is made, if its parent is there) means a file for each person in it, and so does a name with
    `{peer}`; else it is the file itself. Raises `RecordingError` for what cannot be written to, `TypeError` or
    `ValueError` for what makes no sense.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a path, not {type(path).__name__}")
    if format is not None and format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    whole = Path(os.fspath(path))
    if PEER in str(whole.parent):
        raise ValueError(f"{PEER} may stand in the file's name alone, not in its directory")
    if whole.is_dir() or (several and PEER not in whole.name):
        if several and whole.suffix.removeprefix(".") in FORMATS and not whole.is_dir():
            raise RecordingError(str(whole), f"it is to hold several people: give a directory, or {PEER} in the name")
        return Target(_directory(whole), PEER, FORMATS[format or "mp4"], replace=False)
    suffix = whole.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise RecordingError(str(whole), f"its name must end in {', '.join(f'.{name}' for name in FORMATS)}")
    if format is not None and format != suffix:
        raise ValueError(f"format is {format}, but the name ends in .{suffix}")
    if not whole.parent.is_dir():
        raise RecordingError(str(whole), "there is no such directory")
    if not os.access(whole.parent, os.W_OK):
        raise RecordingError(str(whole), "the directory cannot be written to")
    return Target(whole.parent, whole.name.removesuffix(whole.suffix), FORMATS[suffix], replace=PEER not in whole.name)


def _directory(path: Path) -> Path:
    try:
        path.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise RecordingError(str(path), "there is no directory to make it in") from None
    except OSError as error:
        raise RecordingError(str(path), error.strerror or type(error).__name__) from None
    if not os.access(path, os.W_OK):
        raise RecordingError(str(path), "the directory cannot be written to")
    return path
