"""The core's tests are to be run at every change, so a property is tried on few examples each time, and on others
the next time; `HYPOTHESIS_PROFILE=thorough` tries more of those that set no number of their own."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from hypothesis import settings

# The helper of these tests is a module beside them; test files are loaded by path, so it has to be findable.
sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


# What collecting makes stays. It is not to be looked through for garbage again and again, neither now nor later.
gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
