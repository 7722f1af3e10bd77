"""A device process with a file outbox, killed at random moments: nothing that was accepted is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_twenty_five_kills_of_a_whole_device() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.device_kills", "--kills", "25", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["kills"] == 25
    assert figures["accepted"] > 50
    found = [figures[what] for what in ("lost", "delivered_twice", "out_of_order", "gaps", "unmarked_repeats")]
    assert found == [0, 0, 0, 0, 0]
