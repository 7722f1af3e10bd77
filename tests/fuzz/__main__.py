"""`python -m tests.fuzz [--inputs N] [--seconds S] [--seed N] [TARGET…]`: fuzz, and say how it went.

`--inputs` is how many in total, over all targets alike; `--seconds` ends each target's run earlier. An input that
breaks an invariant is made small and kept under `tests/fuzz/found`; put it into the corpus with the repair.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.driver import TARGETS, Fault, keep, load, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--inputs", type=int, default=150_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    print(f"seed {options.seed}")
    total, began, faults = 0, time.monotonic(), 0
    for name in options.targets:
        share = -(-options.inputs // len(options.targets))
        try:
            report = run(load(name), inputs=share, seconds=options.seconds, seed=options.seed)
        except Fault as fault:
            faults += 1
            print(fault, f"\n  kept as {keep(fault)}", flush=True)
            continue
        total += report.inputs
        rate = report.inputs / max(report.seconds, 1e-9)
        print(
            f"{name:18} {report.inputs:>10,} inputs {report.seconds:>8.1f} s {rate:>8,.0f}/s "
            f"{report.outcomes:>7,} outcomes {report.grown:>+7,} objects",
            flush=True,
        )
    print(f"{'total':18} {total:>10,} inputs {time.monotonic() - began:>8.1f} s, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
