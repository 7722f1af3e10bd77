"""`python -m tests.mutation [--sample N] [--seed N] [MODULE…]`: which faults would no test notice?

cosmic-ray puts one fault at a time into a copy of the tree, and runs the tests that are meant to hold the module until
one fails. What nobody notices is listed with its change, and counts against the score. A test that hangs has noticed.
`--sample` is how many faults of each module are tried, chosen by the seed; 0 tries all.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SETTINGS = Path(__file__).parent / "cosmic-ray.toml"

NOT_INSTALLED = 2
"""What the program ends with where cosmic-ray is missing."""

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
"""What is tried, and the tests that are meant to hold it."""


class Score(NamedTuple):
    """How many of the faults of a module were tried, how many noticed, and the changes that were not."""

    possible: int
    tried: int
    noticed: int
    survivors: tuple[str, ...]


def score(module: str, tree: Path, *, sample: int, seed: int) -> Score:
    """Try faults of a module in a copy of the tree. Raises `RuntimeError` if its tests fail as it is."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

    path = f"metered_proto/{module}.py"
    tests = " ".join(f"tests/proto/{name}" for name in MODULES[module])
    config, session = tree / "session.toml", tree / "session.sqlite"
    session.unlink(missing_ok=True)
    config.write_text(SETTINGS.read_text().format(python=sys.executable, module=path, tests=tests))
    # This run leaves compiled files behind, for those of the faults to start sooner.
    _run(tree, "cosmic_ray.cli", "baseline", str(config))
    for compiled in (tree / path).parent.glob(f"__pycache__/{Path(path).stem}.*"):
        compiled.unlink()
    _run(tree, "cosmic_ray.cli", "init", str(config), str(session))
    _run(tree, "cosmic_ray.tools.filters.operators_filter", str(session), str(config))
    with use_db(str(session), WorkDB.Mode.open) as database:
        possible = sorted(database.pending_work_items, key=lambda item: repr(item.mutations))
        chosen = random.Random(f"{seed} {module}").sample(possible, min(sample or len(possible), len(possible)))
        left_out = [item.job_id for item in possible if item not in chosen]
        database.set_multiple_results(left_out, WorkResult(WorkerOutcome.SKIPPED))
    # Two faults within a second, of the same size, look the same to Python's cache of compiled files.
    _run(tree, "cosmic_ray.cli", "exec", str(config), str(session), PYTHONDONTWRITEBYTECODE="1")
    with use_db(str(session), WorkDB.Mode.open) as database:
        results = [
            result for _, result in database.completed_work_items if result.worker_outcome != WorkerOutcome.SKIPPED
        ]
    survivors = tuple(sorted(result.diff or "" for result in results if result.test_outcome == TestOutcome.SURVIVED))
    return Score(len(possible), len(results), len(results) - len(survivors), survivors)


def copy_tree(folder: Path) -> Path:
    """What the tests of the core need, in a folder of its own."""
    for name in ("metered_proto", "metered_anyio", "metered_media", "tests/proto"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("tests/*.py"), ROOT / "pyproject.toml"):
        shutil.copy(file, folder / file.relative_to(ROOT))
    return folder


def _run(tree: Path, module: str, *arguments: str, **environment: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(
        command, cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{module} {arguments[0]} ended with {ended.returncode}\n{ended.stdout}{ended.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    unknown = [name for name in options.modules if name not in MODULES]
    if unknown:
        parser.error(f"no such module: {', '.join(unknown)}")
    if importlib.util.find_spec("cosmic_ray") is None:
        print("Mutation testing needs cosmic-ray, which is not installed. The extra `mutation` brings it.")
        return NOT_INSTALLED
    tried = noticed = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        for module in options.modules:
            each = score(module, tree, sample=options.sample, seed=options.seed)
            tried += each.tried
            noticed += each.noticed
            print(f"{module:24} {each.noticed:>4} of {each.tried:>4} noticed, {each.possible} possible", flush=True)
            for change in each.survivors:
                print("\n".join(f"    {line}" for line in change.splitlines() if line.strip()), flush=True)
    print(f"{noticed} of {tried} noticed ({noticed / max(tried, 1):.0%}) in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
