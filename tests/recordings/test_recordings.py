"""Every recording beside this file runs through the code of today to the letter.

A fault that is mended leaves its recording here. Where a machine does otherwise on purpose, look at what
`metered replay` says of it, and make it anew (`make.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metered_proto.replay import Recording, run

HERE = Path(__file__).parent
RECORDINGS = sorted(HERE.glob("*.jsonl"))


@pytest.mark.parametrize("path", RECORDINGS, ids=[path.stem for path in RECORDINGS])
def test_it_does_the_same_today(path: Path) -> None:
    outcome = run(Recording.of(path.read_bytes()))
    assert outcome.divergence is None, str(outcome.divergence)
    assert outcome.steps > 5
    assert not outcome.cut_off


def test_the_real_call_is_there() -> None:
    assert {"call-alice", "call-bob", "call-relay"} <= {path.stem for path in RECORDINGS}


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_the_same_runs_make_the_same_bytes_whatever_hashes_are(seed: str) -> None:
    """And on every Python: the bytes in the files were made by another one than some of those that check them."""
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from runs_kit import RUNS\n"
        "for name, run in RUNS.items():\n"
        "    path = Path(sys.argv[2], name.replace(' ', '-') + '.jsonl')\n"
        "    assert run().data == path.read_bytes(), path"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(HERE.parent / "proto" / "replay"), str(HERE)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
