"""`python -m benchmarks`: run all cases, print a table or, with `--json`, one JSON document."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from importlib.metadata import version

import msgspec

from benchmarks.core import cases
from benchmarks.measure import Result, measure


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each case; the median counts (default 9)")
    parser.add_argument("--sample", type=float, default=0.05, help="CPU seconds a side and round (default 0.05)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose name has this in it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    chosen = [case for case in cases() if options.only in case.name]
    if not chosen:
        parser.error(f"no case has {options.only!r} in its name")
    results = [measure(case, rounds=options.rounds, sample=options.sample) for case in chosen]
    if options.json:
        document = {"run": _run(), "results": results}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    else:
        print("\n".join(_table(results)))


def _run() -> dict[str, str]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in ("metered-sansio", "msgspec", "wsproto")},
    }


def _table(results: Sequence[Result]) -> list[str]:
    width = max(len(result.name) for result in results)
    lines = [", ".join(f"{name} {value}" for name, value in _run().items()), ""]
    lines.append(f"{'µs of CPU time, medians':<{width}}  {'ours':>8}  {'theirs':>8}  ours ÷ theirs")
    lines += [
        f"{result.name:<{width}}  {result.ours:8.3f}  {result.theirs:8.3f}  {result.ratio:5.2f} × {result.against}"
        for result in results
    ]
    return lines


if __name__ == "__main__":
    main()
