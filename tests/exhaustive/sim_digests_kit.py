"""The fingerprints of a hundred simulated runs, for whoever compares them.

python tests/exhaustive/sim_digests_kit.py            # print them as JSON
python tests/exhaustive/sim_digests_kit.py --write    # after a change of what machines do: keep them
"""

from __future__ import annotations

import hashlib
import json
import sys
from itertools import islice
from pathlib import Path

from metered_proto.sim import SCENARIOS, digest, simulate

KEPT = Path(__file__).with_name("sim_digests.json")
RUNS = 100


def digests() -> dict[str, str]:
    """One fingerprint for each scenario: of all of its runs among the first hundred."""
    runs = ((name, seed) for seed in range(RUNS) for name in SCENARIOS)
    found = {name: hashlib.sha256() for name in SCENARIOS}
    for name, seed in islice(runs, RUNS):
        world, _ = simulate(SCENARIOS[name](seed))
        found[name].update(digest(world.steps).encode())
    return {name: each.hexdigest() for name, each in found.items()}


if __name__ == "__main__":
    text = json.dumps(digests(), indent=1) + "\n"
    if "--write" in sys.argv:
        KEPT.write_text(text)
    else:
        print(text, end="")
