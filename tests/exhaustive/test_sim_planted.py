"""Bugs that are planted on purpose, and have to be found: what proves that no violations means something.

Each patch under `tests/planted` is applied to a copy of the package, and simulated runs are made with that copy in a
process of its own, until one breaks a promise.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLANTED = ROOT / "tests" / "planted"
SEEDS = 200
"""A planted bug has to be found within so many seeds."""

SEARCH = """
import sys
from metered_proto.sim import SCENARIOS, simulate

for seed in range(int(sys.argv[2])):
    _, run = simulate(SCENARIOS[sys.argv[1]](seed))
    if run.violations:
        print(seed, *dict.fromkeys(violation.promise for violation in run.violations), sep="; ")
        break
else:
    print("nothing")
"""

WHERE = {
    "dropped-replay": ("device", "patterns"),
    "ladder-off-by-one": ("drain", "half_open"),
    "skipped-survivor": ("relay_killed", "pair"),
}
"""In which scenarios each is looked for."""

PROMISES = {
    "dropped-replay": "subscriptions are there",
    "ladder-off-by-one": "the waits are the ladder's",
    "skipped-survivor": "calls are up, with all their tracks",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the core, to be spoilt."""
    shutil.copytree(ROOT / "metered_proto", tmp_path / "metered_proto", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def search(package: Path, scenario: str, seeds: int) -> str:
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, scenario, str(seeds)],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def plant(package: Path, name: str) -> None:
    patch = shutil.which("patch")
    if patch is None:
        pytest.skip("the program patch is not installed")
    done = subprocess.run(
        [patch, "--strip=1", "--forward", "--fuzz=2", f"--input={PLANTED / name}.patch"],
        cwd=package,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"tests/planted/{name}.patch does not apply any more: plant it anew\n{done.stdout}"


def test_every_planted_bug_is_looked_for() -> None:
    assert {path.stem for path in PLANTED.glob("*.patch")} == set(WHERE) == set(PROMISES)


@pytest.mark.parametrize(("name", "scenario"), [(name, one) for name, where in WHERE.items() for one in where])
def test_a_planted_bug_is_found(package: Path, name: str, scenario: str) -> None:
    plant(package, name)
    found = search(package, scenario, SEEDS)
    assert PROMISES[name] in found


@pytest.mark.parametrize("scenario", sorted({scenario for where in WHERE.values() for scenario in where}))
def test_without_it_nothing_is(package: Path, scenario: str) -> None:
    assert search(package, scenario, SEEDS) == "nothing"
