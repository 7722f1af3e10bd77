"""What the commands about recordings share: opening one, and moments in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from metered_anyio.cli.common import Failure, Misuse
from metered_anyio.recording import open_recording
from metered_proto.errors import RecordingFileError
from metered_proto.machine import Micros, micros
from metered_proto.replay import Recording

FileArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE", help="A recording.")]

_MOMENT: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def opened(path: Path) -> Recording:
    """The recording in a file."""
    try:
        return open_recording(path)
    except OSError as error:
        raise Misuse(f"{path}: {error.strerror}") from None
    except RecordingFileError as error:
        raise Failure(f"{path}: {error}") from None


def moment(text: str, option: str) -> tuple[int | None, Micros | None]:
    """A step (`120`) or a time (`12.5s`, `3m`) in a recording."""
    if text.isdecimal() and len(text) < 18:
        return int(text), None
    found = _MOMENT.fullmatch(text)
    if found is None or len(text) > 30:
        raise Misuse(f"{option} takes a step (120) or a time (12.5s, 3m), not {text!r}")
    return None, micros(float(found[1]) * _UNITS[found[2]])


def write_page(path: Path, text: str) -> None:
    """Write a page. One that is there already is replaced."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
