"""How long the stateful models are searched: a little at every change, `MODEL_DEPTH` times as much when asked to."""

from __future__ import annotations

import os

from hypothesis import settings

DEPTH = int(os.environ.get("MODEL_DEPTH", "1"))


def modest(examples: int, steps: int) -> settings:
    """So many runs of so many steps each, or `MODEL_DEPTH` times as many."""
    return settings(max_examples=examples * DEPTH, stateful_step_count=steps, deadline=None)
