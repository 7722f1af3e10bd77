"""Every recording beside this file runs through the code of today to the letter.

A fault that is mended leaves its recording here; README.md says which is of what. Where a machine does otherwise on
purpose, look at what `metered replay` says of it, and make it anew (`make.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metered_proto.replay import Recording, run
from metered_proto.wire.close_codes import verdict

HERE = Path(__file__).parent
RECORDINGS = sorted(HERE.glob("*.jsonl"))


@pytest.mark.parametrize("path", RECORDINGS, ids=[path.stem for path in RECORDINGS])
def test_it_does_the_same_today(path: Path) -> None:
    outcome = run(Recording.of(path.read_bytes()))
    assert outcome.divergence is None, str(outcome.divergence)
    assert outcome.steps >= 3
    assert not outcome.cut_off


def test_each_is_in_the_index() -> None:
    index = (HERE / "README.md").read_text()
    assert [path.stem for path in RECORDINGS if f"`{path.stem}`" not in index] == []


@pytest.mark.parametrize(
    ("name", "target", "stand_in"),
    [
        ("mended-late-answer", "metered_proto.rtc.connection.Connection.is_late", lambda self, sdp: False),
        ("mended-offer-retried", "metered_proto.rtc.retries.OfferRetries.failed", lambda self, now, wish: False),
        ("mended-promise", "metered_proto.rtc.peer.RtcPeer._promised", lambda self, now, meta: []),
        ("rule-key-expired", "metered_proto.client.session.verdict", lambda code, **_: verdict(code, can_refresh=True)),
        ("rule-glare", "metered_proto.rtc.peer.RtcPeer._answer_anew", lambda self, now, heard: []),
    ],
)
def test_with_its_fault_again_it_differs(
    name: str, target: str, stand_in: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, stand_in)
    outcome = run(Recording.of((HERE / f"{name}.jsonl").read_bytes()))
    assert outcome.divergence is not None


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
