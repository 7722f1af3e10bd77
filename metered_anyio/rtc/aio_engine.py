"""The engine in the application's own asyncio loop."""

from __future__ import annotations

from collections.abc import Callable

from metered_anyio.logger import Logger
from metered_anyio.rtc.crossing import Direct
from metered_anyio.rtc.front import Front
from metered_proto.facts import Fact


class AioEngine(Front):
    """Peer connections in the running asyncio loop. See `metered_anyio.rtc.engine.Engine`."""

    def __init__(self, feed: Callable[[Fact], None], logger: Logger) -> None:
        super().__init__(feed, logger, Direct())
