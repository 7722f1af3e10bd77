"""The core's tests are to be run at every change, so a property is tried on few examples each time, and on others
the next time; `HYPOTHESIS_PROFILE=thorough` tries more of those that set no number of their own."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_finish() -> None:
    """Four thousand tests, once collected, are not to be looked through for garbage again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
