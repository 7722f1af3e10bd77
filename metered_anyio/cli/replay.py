"""`metered replay`: a recording, run through the code that is installed here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from metered_anyio.cli.common import Failure, JsonOption
from metered_anyio.cli.recordings import FileArgument, moment, opened, write_page
from metered_anyio.cli.screen import tell, write_json, write_line
from metered_proto.errors import RecordingFileError
from metered_proto.machine import SECOND
from metered_proto.replay import Divergence, Outcome, Recording, explain, page, run, transcript
from metered_proto.replay.diff import one_line


def replay(
    file: FileArgument,
    until: Annotated[
        str | None, typer.Option(metavar="STEP|TIME", help="Go no further than a step (120) or a time (12.5s, 3m).")
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff/--no-diff", help="Show the first step that differs, or only say which it is.")
    ] = True,
    export_html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all of it as one page of HTML.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recording through the code that is installed here.

    The machine in it is made anew and told the same facts at the same
    times. Exit code 0: it does what it did then. 3: it does otherwise, and
    the first step in which it does is shown. 1: the file cannot be read.
    """
    recording = opened(file)
    step, at = (None, None) if until is None else moment(until, "--until")
    try:
        outcome = run(recording, until_step=step, until=at)
        if export_html is not None:
            write_page(export_html, _page(file, recording, outcome))
    except RecordingFileError as error:
        raise Failure(f"{file}: {error}") from None
    if as_json:
        write_json(_as_json(recording, outcome))
    else:
        _say(outcome, diff=diff)
    if outcome.divergence is not None:
        raise typer.Exit(3)


def _say(outcome: Outcome, *, diff: bool) -> None:
    divergence = outcome.divergence
    if divergence is None:
        write_line(f"the same in {outcome.steps} steps, {outcome.at / SECOND:.3f} s")
    elif diff:
        write_line(str(divergence))
    else:
        write_line(f"step {divergence.step.number} differs, at {divergence.step.at / SECOND:.6f}")
    if outcome.cut_off:
        tell("the last line is cut off, and was left out")


def _as_json(recording: Recording, outcome: Outcome) -> dict[str, Any]:
    return {
        "machine": recording.header.machine,
        "library": recording.header.library,
        "steps": outcome.steps,
        "seconds": outcome.at / SECOND,
        "cutOff": outcome.cut_off,
        "divergence": None if outcome.divergence is None else _divergence(outcome.divergence),
    }


def _divergence(divergence: Divergence) -> dict[str, Any]:
    return {
        "step": divergence.step.number,
        "line": divergence.step.line,
        "seconds": divergence.step.at / SECOND,
        "fact": one_line(divergence.step.fact),
        "expected": [one_line(order) for order in divergence.expected],
        "got": [one_line(order) for order in divergence.got],
        "diff": str(divergence),
    }


def _page(file: Path, recording: Recording, outcome: Outcome) -> str:
    causes = explain(recording.header, recording.steps())
    return page(file.name, recording.header, causes, transcript(recording.steps()), outcome)
