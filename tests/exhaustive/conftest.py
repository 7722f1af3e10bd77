"""Long searches through the core's machines. What they search with stands beside the core's own tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
for kits in ("rtc", "room"):
    sys.path.insert(0, str(Path(__file__).parents[1] / "proto" / kits))
