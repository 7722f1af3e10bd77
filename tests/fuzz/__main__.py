"""`python -m tests.fuzz [--inputs N] [--seconds S] [--seed N] [--jobs N] [TARGET…]`: fuzz, and say how it went.

`--inputs` is how many for each target; `--seconds` ends a target's run earlier. Each target runs under atheris in a
process of its own. What reached something new is kept under `tests/fuzz/found`, where the next run begins. An input
that breaks an invariant is kept there in `faults`; put it into the corpus with the repair.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.loading import CORPUS, FOUND, HERE, LIMIT, TARGETS, load

HANG = 10
"""Seconds over one input."""

MEMORY = 512
"""Megabytes of a target's process."""

NOT_INSTALLED = 2
"""What the program ends with where atheris is missing."""


class Report(NamedTuple):
    """How the run of a target went. `edges` are the branches of `metered_proto` that were taken."""

    target: str
    inputs: int
    seconds: float
    edges: int
    megabytes: int
    fault: str


def run(target: str, *, inputs: int, seconds: int, seed: int) -> Report:
    """One target, in a process of its own. `seconds` 0 leaves the time open."""
    found, faults = FOUND / target, FOUND / "faults"
    for folder in (found, faults):
        folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-runs={inputs}",
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={LIMIT}",
        f"-timeout={HANG}",
        f"-rss_limit_mb={MEMORY}",
        f"-dict={_dictionary(target)}",
        f"-artifact_prefix={faults}/{target}-",
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "tests.fuzz.guided", target, *options, str(found), str(CORPUS / target)]
    began = time.monotonic()
    ended = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, check=False)
    said = (ended.stdout + ended.stderr).decode(errors="replace")
    return Report(
        target,
        _last(r"stat::number_of_executed_units: (\d+)", said),
        time.monotonic() - began,
        _last(r" cov: (\d+)", said),
        _last(r"stat::peak_rss_mb: +(\d+)", said),
        "" if ended.returncode == 0 else _fault(said),
    )


def _fault(said: str) -> str:
    """What a run said at its end, without its progress."""
    return "\n".join(line for line in said.splitlines() if line.strip() and not line.startswith("#"))[-4000:]


def _last(pattern: str, text: str) -> int:
    numbers = re.findall(pattern, text)
    return int(numbers[-1]) if numbers else 0


def _dictionary(target: str) -> Path:
    """The target's words in libFuzzer's form."""
    path = FOUND / f"{target}.dict"
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in load(target).words if word)
    path.write_text("".join(f'"{word}"\n' for word in quoted))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--inputs", type=int, default=100_000, help="for each target; -1 is without end")
    parser.add_argument("--seconds", type=int, default=20, help="for each target at most; 0 is without end")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    if importlib.util.find_spec("atheris") is None:
        print("Fuzzing needs atheris, which is not installed. The extra `fuzz` brings it where there is a build of it.")
        print("Without it: FUZZ_INPUTS=10000 python -m pytest tests/fuzz, whose inputs Hypothesis makes.")
        return NOT_INSTALLED
    print(f"seed {options.seed}")
    began, reports = time.monotonic(), []
    with ThreadPoolExecutor(options.jobs) as pool:
        for report in pool.map(
            lambda name: run(name, inputs=options.inputs, seconds=options.seconds, seed=options.seed), options.targets
        ):
            reports.append(report)
            print(
                f"{report.target:18} {report.inputs:>11,} inputs {report.seconds:>7.1f} s "
                f"{report.inputs / report.seconds:>9,.0f}/s {report.edges:>6,} edges {report.megabytes:>4} MB",
                flush=True,
            )
            if report.fault:
                print(report.fault, flush=True)
    total, faults = sum(report.inputs for report in reports), sum(bool(report.fault) for report in reports)
    print(f"{'total':18} {total:>11,} inputs {time.monotonic() - began:>7.1f} s, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
