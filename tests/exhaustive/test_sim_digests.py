"""Same inputs, same outputs: a hundred runs have the fingerprints that are kept, on every Python and hash seed.

A change of what a machine does changes them. Then they are made anew (`sim_digests_kit.py` says how), on any Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sim_digests_kit import KEPT, digests

pytestmark = pytest.mark.slow


def test_the_runs_are_those_that_are_kept() -> None:
    assert digests() == json.loads(KEPT.read_text())


@pytest.mark.parametrize("hash_seed", ["0", "1", "random"])
def test_the_hash_seed_changes_nothing(hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("sim_digests_kit.py")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(KEPT.read_text())
