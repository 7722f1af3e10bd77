"""Figures, what they have to reach, and how they are shown."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.turns import Samples

PUBLISHED = f"metered-realtime {version('metered-realtime')}"
WEBSOCKETS = f"websockets {version('websockets')}"
WSPROTO = f"wsproto {version('wsproto')}"
BARE = f"msgspec {version('msgspec')}"


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a figure has to reach: a ratio `at_least`, or a value `at_most`."""

    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        return f"≥ {self.at_least:g} ×" if self.at_least is not None else f"≤ {self.at_most:g}"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `ratio` says how many times better ours is, whether less or more is better."""

    group: str
    name: str
    unit: str
    ours: float
    peer: str | None = None
    theirs: float | None = None
    ratio: float | None = None
    target: Target | None = None

    @property
    def verdict(self) -> Literal["ok", "short"] | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        if self.target.at_most is not None:
            return "ok" if self.ours <= self.target.at_most else "short"
        reached = self.ratio is not None and self.target.at_least is not None and self.ratio >= self.target.at_least
        return "ok" if reached else "short"

    @property
    def is_loss(self) -> bool:
        """Whether this counts what must not happen at all, and it did."""
        return self.verdict == "short" and self.target is not None and self.target.at_most == 0


def compared(
    group: str,
    name: str,
    unit: str,
    samples: Samples,
    *,
    ours: str,
    theirs: str,
    peer: str,
    more_is_better: bool = False,
    at_least: float | None = None,
) -> Figure:
    """The figure of two sides that took turns."""
    return Figure(
        group=group,
        name=name,
        unit=unit,
        ours=samples.median(ours),
        peer=peer,
        theirs=samples.median(theirs),
        ratio=samples.ratio(ours, theirs) if more_is_better else samples.ratio(theirs, ours),
        target=None if at_least is None else Target(at_least=at_least),
    )


def document(figures: Sequence[Figure], *, quick: bool) -> bytes:
    """All of it as JSON."""
    rows = [{**msgspec.structs.asdict(figure), "verdict": figure.verdict} for figure in figures]
    return msgspec.json.format(msgspec.json.encode({"run": {**_run(), "quick": quick}, "figures": rows}))


def table(figures: Sequence[Figure], *, quick: bool) -> str:
    """All of it to read."""
    lines = [", ".join(_run().values())]
    if quick:
        lines.append("quick: everything runs, but too briefly for the figures to mean anything")
    width = max((len(figure.name) for figure in figures), default=0)
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            lines += ["", f"{group:<{width}}  {'ours':>9}  {'theirs':>9}  {'ratio':>7}  {'target':>8}"]
        theirs = "" if figure.theirs is None else _number(figure.theirs)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} ×"
        target = f"{figure.target or ''!s:>8} {figure.verdict or '':<5}"
        rest = figure.unit + ("" if figure.peer is None else f", against {figure.peer}")
        lines.append(f"{figure.name:<{width}}  {_number(figure.ours):>9}  {theirs:>9}  {ratio:>7}  {target}  {rest}")
    return "\n".join(lines)


def markdown(figures: Sequence[Figure], *, quick: bool) -> str:
    """All of it as a table for a page of the documentation."""
    lines = [", ".join(_run().values()) + (" (quick)" if quick else ""), ""]
    lines += ["|  | unit | ours | theirs | ratio | target |  |", "|---|---|---|---|---|---|---|"]
    for figure in figures:
        theirs = "" if figure.theirs is None else _number(figure.theirs)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} ×"
        cells = (
            figure.name,
            figure.unit,
            _number(figure.ours),
            theirs,
            ratio,
            figure.target or "",
            figure.verdict or "",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


def _run() -> dict[str, str]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "ours": f"metered-sansio {version('metered-sansio')}",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "an unknown processor"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} × {models[0]}" if models else platform.machine()
