"""Waiting for what nobody announces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def reached(condition: Callable[[], object], patience: float, pause: float = 0.002) -> bool:
    """Wait until something is true; False if it is not after `patience` seconds. Looks every `pause` seconds."""
    until = time.monotonic() + patience
    while not condition():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(pause)
    return True
