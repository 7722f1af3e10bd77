"""What the pytest plugin offers of `virtual_room`, as plain functions: the plugin makes fixtures of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from metered_anyio.testing.virtual_box import VirtualRoom
from metered_anyio.testing.virtual_box import virtual_room as open_virtual_room


async def virtual_room() -> AsyncIterator[VirtualRoom]:
    """A box with nothing but defaults, open for one test. The test's `anyio_backend` says in which time it runs."""
    async with open_virtual_room() as box:
        yield box
