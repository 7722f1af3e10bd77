"""`metered explain`: what happened in a recording, and why."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metered_anyio.cli.common import Failure, JsonOption
from metered_anyio.cli.recordings import FileArgument, moment, opened, write_page
from metered_anyio.cli.screen import tell, write_json
from metered_proto.errors import RecordingFileError
from metered_proto.machine import SECOND, Micros
from metered_proto.replay import Cause, Entry, Step, explain, page, transcript
from metered_proto.replay.diff import show_time

STYLES: Final = {"usual": "", "notable": "bold", "trouble": "red"}


def explain_command(
    file: FileArgument,
    since: Annotated[str | None, typer.Option(metavar="STEP|TIME", help="Show what is said from here on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="STEP|TIME", help="And up to here.")] = None,
    last: Annotated[int, typer.Option(metavar="N", min=0, help="Show no more than the last N entries.")] = 200,
    export_html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all of it as one page of HTML.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what happened in a recording, and why.

    First the answers: why the connection was lost, how long it waited for
    which attempt, why a peer is idle, why a guest was closed. Then who said
    what to whom, step by step.
    """
    recording = opened(file)
    from_step, from_time = (None, None) if since is None else moment(since, "--since")
    to_step, to_time = (None, None) if until is None else moment(until, "--until")

    def chosen(steps: Iterable[Step], *, begin: bool = True) -> Iterator[Step]:
        for step in steps:
            if (to_step is not None and step.number > to_step) or (to_time is not None and step.at > to_time):
                return
            if begin and _before(step, from_step, from_time):
                continue
            yield step

    try:
        causes = explain(recording.header, chosen(recording.steps(), begin=False))
        entries = list(deque(transcript(chosen(recording.steps())), maxlen=last))
        if export_html is not None:
            everything = transcript(recording.steps())
            write_page(export_html, page(file.name, recording.header, causes, everything))
    except RecordingFileError as error:
        raise Failure(f"{file}: {error}") from None
    if as_json:
        write_json({"causes": [_cause(cause) for cause in causes], "entries": [_entry(entry) for entry in entries]})
    else:
        console = Console(highlight=False, markup=False, emoji=False)
        console.print(_causes(causes) if causes else "Nothing that needs explaining.")
        console.print(_entries(entries))
    if recording.cut_off:
        tell("the last line is cut off, and was left out")


def _before(step: Step, number: int | None, at: Micros | None) -> bool:
    return (number is not None and step.number < number) or (at is not None and step.at < at)


def _causes(causes: list[Cause]) -> Table:
    table = Table("seconds", "step", "what", "why", box=None, header_style="dim", pad_edge=False)
    for cause in causes:
        table.add_row(show_time(cause.at), str(cause.step), Text(cause.what, "bold"), Text(cause.why))
    return table


def _entries(entries: list[Entry]) -> Table:
    table = Table("seconds", "step", "from", "to", "what", box=None, header_style="dim", pad_edge=False)
    for entry in entries:
        times = f"  × {entry.count}" if entry.count > 1 else ""
        what = Text(entry.text + times, STYLES[entry.level])
        table.add_row(show_time(entry.at), str(entry.step), entry.source, entry.target, what)
    return table


def _cause(cause: Cause) -> dict[str, object]:
    return {
        "seconds": cause.at / SECOND,
        "step": cause.step,
        "kind": cause.kind,
        "what": cause.what,
        "why": cause.why,
    }


def _entry(entry: Entry) -> dict[str, object]:
    return {
        "seconds": entry.at / SECOND,
        "step": entry.step,
        "from": entry.source,
        "to": entry.target,
        "what": entry.text,
        "level": entry.level,
        "count": entry.count,
    }
