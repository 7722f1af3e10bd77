"""`metered sim`: simulated runs by the thousand, and what to do about one that breaks a promise."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from metered_anyio.cli.common import Failure, JsonOption, Misuse
from metered_anyio.cli.screen import write_json, write_line
from metered_anyio.cli.sim_runs import Totals, endless, plan_of, run_all, tasks
from metered_proto.machine import SECOND, Micros, micros
from metered_proto.sim import SCENARIOS, Plan, Violation, dump, load, recordings, shrink, simulate

SEEDS: Final = 100
SHOWN: Final = 5
"""Failures that are shown in full, and made small."""


def sim(
    scenario: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="One of the scenarios; may be given several times. Default: all."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", min=1, help=f"So many seeds of each scenario. Default: {SEEDS}.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="This seed alone.")] = None,
    first: Annotated[int, typer.Option(metavar="N", min=0, help="The seed to begin with.")] = 0,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Go on for so long: 90s, 10m, 8h. Seeds never end.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Leave out what a plan has later than this: 90s, 2m.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=256, help="Processes at a time. Default: one a processor.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep what breaks a promise: its plan, made small, and a recording of each machine."
        ),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Run a plan that was kept, in place of a scenario.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate relays, clients and rooms under faults, and look whether
    every promise is kept.

    Time is virtual and everything is drawn from a seed: the same seed is
    the same run. Exit code 0 means that nothing was broken. What breaks a
    promise is shown with its seed and with as little as it takes.
    """
    if plan is not None:
        _show_plan(plan, save)
        return
    names = _names(scenario)
    last = micros(_seconds(until, "--until")) if until is not None else None
    if seed is not None and (seeds is not None or for_ is not None):
        raise Misuse("--seed is one seed: it goes with neither --seeds nor --for")
    if seeds is not None and for_ is not None:
        raise Misuse("--seeds and --for: give one of them, not both")
    chosen = range(first, first + (seeds or SEEDS)) if seed is None else range(seed, seed + 1)
    stop_at = None if for_ is None else time.monotonic() + _seconds(for_, "--for")
    todo = tasks(names, chosen, last) if stop_at is None else endless(names, first, last)
    count = None if stop_at is not None else len(names) * len(chosen)
    began = time.perf_counter()
    totals: dict[str, Totals] = {name: Totals() for name in names}
    for name, part in _watched(run_all(todo, jobs or os.cpu_count() or 1, stop_at), count):
        totals[name].add(part)
    _report(totals, time.perf_counter() - began, as_json=as_json)
    broken = [(name, *one) for name, part in totals.items() for one in part.broken]
    for name, number, violations in broken[:SHOWN]:
        _show_failure(plan_of(name, number, last), violations, save, say=_nothing if as_json else write_line)
    if broken:
        more = len(broken) - SHOWN
        raise Failure(f"{len(broken)} runs broke a promise" + (f", {more} are not shown" if more > 0 else ""))


def _names(given: list[str] | None) -> list[str]:
    for name in given or ():
        if name not in SCENARIOS:
            raise Misuse(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    return list(dict.fromkeys(given)) if given else list(SCENARIOS)


_TIME = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")


def _seconds(text: str, option: str) -> float:
    found = _TIME.fullmatch(text)
    if found is None:
        raise Misuse(f"{option} must be a time such as 90s, 10m or 8h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _watched(parts: Iterator[tuple[str, Totals]], count: int | None) -> Iterator[tuple[str, Totals]]:
    """The same, with its progress on stderr if that is a terminal."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield from parts
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[broken]} broken"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        bar = progress.add_task("runs", total=count, broken=0)
        broken = 0
        for name, part in parts:
            broken += len(part.broken)
            progress.update(bar, advance=part.runs, broken=broken)
            yield name, part


def _report(totals: dict[str, Totals], elapsed: float, *, as_json: bool) -> None:
    whole = Totals()
    for part in totals.values():
        whole.add(part)
    if as_json:
        rows = {name: _row(part) for name, part in totals.items()}
        write_json({"scenarios": rows, "total": _row(whole), "seconds": round(elapsed, 1)})
        return
    width = max(len(name) for name in totals)
    columns = ("runs", 8), ("hours", 9), ("reconnects", 11), ("faults", 9), ("steps", 12), ("back", 7), ("broken", 7)
    write_line(" ".join((" " * width, *(f"{name:>{size}}" for name, size in columns))))
    for name, part in [*totals.items(), ("all", whole)]:
        write_line(
            f"{name:<{width}} {part.runs:>8,} {part.simulated / SECOND / 3600:>9,.1f} {part.reconnects:>11,}"
            f" {part.faults:>9,} {part.steps:>12,} {_span(part.back_after):>7} {len(part.broken):>7,}"
        )
    write_line(f"{whole.steps / max(elapsed, 0.001):,.0f} steps a second, {elapsed:.1f} s")


def _row(part: Totals) -> dict[str, object]:
    return {
        "runs": part.runs,
        "simulated_hours": round(part.simulated / SECOND / 3600, 2),
        "reconnects": part.reconnects,
        "faults": part.faults,
        "steps": part.steps,
        "back_after": part.back_after / SECOND,
        "broken": [seed for seed, _ in part.broken],
    }


def _span(span: Micros) -> str:
    return f"{span / SECOND:.1f} s"


def _nothing(line: str) -> None:
    """What is for people is not said where JSON is wanted."""


def _show_failure(
    plan: Plan, violations: tuple[Violation, ...], save: Path | None, say: Callable[[str], None] = write_line
) -> None:
    say("")
    say(f"{plan.scenario}, seed {plan.seed}: metered sim --scenario {plan.scenario} --seed {plan.seed}")
    for violation in violations:
        say(f"  {violation}")
    small = shrink(plan)
    say(f"  as little as it takes ({len(small.script)} of {len(plan.script)} acts):")
    _show_script(small, say)
    if save is not None:
        _keep(small, save, say)


def _show_script(plan: Plan, say: Callable[[str], None]) -> None:
    for act in sorted(plan.script, key=lambda act: act.at):
        say(f"    {act.at / SECOND:9.3f} s  {act.who or 'relay':<10} {act.what}")


def _keep(plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
    world, _ = simulate(plan)
    stem = f"{plan.scenario}-{plan.seed}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem}.plan.json").write_bytes(dump(plan) + b"\n")
        for name, recording in recordings(world).items():
            (folder / f"{stem}.{name.replace('/', '-')}.jsonl").write_bytes(recording)
    except OSError as error:
        raise Failure(f"cannot write to {folder}: {error.strerror}") from None
    say(f"  kept: {folder / stem}.plan.json, and a recording of each machine beside it")


def _show_plan(file: Path, save: Path | None) -> None:
    try:
        plan = load(file.read_bytes())
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise Failure(f"{file} is not a plan: {error}") from None
    _, run = simulate(plan)
    _show_script(plan, write_line)
    write_line(f"{run.steps:,} steps, {_span(run.simulated)}, {run.reconnects} reconnects, {run.faults} faults")
    for violation in run.violations:
        write_line(f"  {violation}")
    if save is not None:
        _keep(plan, save, write_line)
    if run.violations:
        raise Failure("a promise was broken")
