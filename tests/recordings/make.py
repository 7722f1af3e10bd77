"""Make the recordings of short runs and of mended faults anew: `python tests/recordings/make.py`.

To be run when a machine does otherwise on purpose, after a look at what `metered replay` says of each. The recordings
of the call (`call-*.jsonl`) are of real peers with video; `tests/anyio/test_recording.py` makes such.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "proto" / "replay"))

from mended import made  # noqa: E402
from runs_kit import RUNS  # noqa: E402

for name, run in RUNS.items():
    (HERE / f"{name.replace(' ', '-')}.jsonl").write_bytes(run().data)
for name, data in made().items():
    (HERE / f"{name}.jsonl").write_bytes(data)
