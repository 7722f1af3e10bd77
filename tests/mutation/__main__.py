"""`python -m tests.mutation [--sample N] [--seconds S] [--seed N] [MODULE…]`: which faults would no test notice?

Each mutant runs the tests that are meant to hold its module in a child process of its own, until one fails. What nobody
notices is listed, with its line, and counts against the score. A mutant that makes a test hang is noticed.
`--sample` is how many of each module are tried, chosen by the seed; 0 tries all.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
HANG = 40
"""Seconds."""

MODULES: dict[str, tuple[str, ...]] = {
    "client/ladder": ("client/test_ladder.py", "client/test_session_reconnecting.py"),
    "client/heartbeat": ("client/test_heartbeat.py", "client/test_session_reconnecting.py"),
    "client/ledger": ("client/test_ledger.py", "client/test_ledger_model.py", "client/test_session_requests.py"),
    "client/subscriptions": ("client/test_subscriptions.py", "client/test_session_reconnecting.py"),
    "client/outbox": (
        "client/test_outbox_bounds.py",
        "client/test_outbox.py",
        "client/test_outbox_losses.py",
        "client/test_outbox_batches.py",
        "client/test_outbox_endings.py",
        "client/test_outbox_model.py",
        "client/test_session_outbox.py",
    ),
    "client/unacked": ("client/test_unacked.py", "client/test_outbox.py", "client/test_outbox_model.py"),
    "rtc/candidates": ("rtc/test_rtc_parts.py", "rtc/test_rtc_negotiation.py", "rtc/test_rtc_hostile.py"),
    "rtc/recovery": ("rtc/test_recovery_rungs.py", "rtc/test_rtc_parts.py", "rtc/test_rtc_recovery.py"),
    "rtc/matching": ("rtc/test_rtc_parts.py", "rtc/test_rtc_negotiation.py"),
    "rtc/inbox": (
        "rtc/test_inbox.py",
        "rtc/test_rtc_parts.py",
        "rtc/test_rtc_negotiation.py",
        "rtc/test_rtc_hostile.py",
    ),
    "room/grace": ("room/test_grace.py", "room/test_room_grace.py"),
    "room/roster": (
        "room/test_roster.py",
        "room/test_roster_ids.py",
        "room/test_roster_model.py",
        "room/test_room_presence.py",
    ),
    "room/membership": ("room/test_membership.py", "room/test_room_joining.py"),
    "room/replacing": ("room/test_replacing.py", "room/test_room_tracks.py"),
    "relay/registry": ("relay/test_registry.py", "relay/test_relay.py"),
}
"""What is tried, and the tests that come first."""


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a mutant in place of its module."""

    def __init__(self, name: str, source: str) -> None:
        self._name, self._source = name, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, f"<mutant of {self._name}>", "exec"), module.__dict__)


def is_noticed(module: str, mutant: Mutant | None) -> bool:
    """Whether a test fails. Without a mutant, none should."""
    folder = module.partition("/")[0]
    files = [str(ROOT / "tests/proto" / name) for name in MODULES[module]]
    child = os.fork()
    if child == 0:
        _run_tests(module, mutant, [file for file in files if os.path.exists(file)])
    deadline = time.monotonic() + HANG
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if code not in (0, 1):
                raise RuntimeError(f"the tests of {folder} could not be run: {code}")
            return code == 1
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _run_tests(module: str, mutant: Mutant | None, files: list[str]) -> None:
    """In the child: never returns."""
    import pytest

    if mutant is not None:
        sys.meta_path.insert(0, _Instead(f"metered_proto.{module.replace('/', '.')}", mutant.source))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    code = 3
    try:
        code = int(
            pytest.main(["-x", "-q", "-W", "ignore::pytest.PytestAssertRewriteWarning", "--hypothesis-seed=0", *files])
        )
        # A module that cannot even be imported ends collection, and is noticed as well.
        code = 1 if code == 2 else code
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    unknown = [name for name in options.modules if name not in MODULES]
    if unknown:
        parser.error(f"no such module: {', '.join(unknown)}")
    # What every child needs, and what no mutant is part of, is imported once.
    import h11  # noqa: F401
    import hypothesis.stateful  # noqa: F401
    import jwt  # noqa: F401
    import msgspec  # noqa: F401
    import pytest  # noqa: F401
    import wsproto  # noqa: F401

    tried = noticed = 0
    began = time.monotonic()
    for module in options.modules:
        path = ROOT / "metered_proto" / f"{module}.py"
        every = list(mutants(path.read_text()))
        dice = random.Random(f"{options.seed} {module}")
        chosen = dice.sample(every, min(options.sample or len(every), len(every)))
        if is_noticed(module, None):
            print(f"{module}: its tests fail as it is")
            return 1
        survivors = []
        for mutant in sorted(chosen):
            if time.monotonic() - began > options.seconds:
                break
            tried += 1
            if is_noticed(module, mutant):
                noticed += 1
            else:
                survivors.append(mutant)
        print(
            f"{module:24} {len(chosen) - len(survivors):>4} of {len(chosen):>4} noticed, {len(every)} possible",
            flush=True,
        )
        for mutant in survivors:
            print(f"    line {mutant.where:>4}  {mutant.what}", flush=True)
    print(f"{noticed} of {tried} noticed ({noticed / max(tried, 1):.0%}) in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
