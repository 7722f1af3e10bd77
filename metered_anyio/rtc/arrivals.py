"""Reports on when packets arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01), by which a browser finds out
how fast it may send. aiortc knows the packets' numbers, but reports nothing; without it a browser stays at 300 kbit/s.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from metered_anyio.rtc import private
from metered_proto.wire.transport_feedback import Arrivals

INTERVAL: Final = 0.05
"""Seconds between two reports."""


class ArrivalReports:
    """Reports on one transport, from the first numbered packet on."""

    def __init__(self, dtls: Any) -> None:
        self._dtls = dtls
        self._arrivals = Arrivals()
        self._task: asyncio.Task[None] | None = None
        self._sender = 0
        self._media = 0

    def arrived(self, number: int, ssrc: int, receiver: Any) -> bool:
        """A packet with this number came. True if it is the first one."""
        loop = asyncio.get_running_loop()
        self._arrivals.add(number, round(loop.time() * 1_000_000))
        self._media = ssrc
        if self._task is not None:
            return False
        self._sender = private.rtcp_ssrc(receiver) or 1
        self._task = loop.create_task(self._run())
        return True

    def close(self) -> None:
        """No more reports."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            for report in self._arrivals.reports(self._sender, self._media):
                await private.send_rtcp(self._dtls, report)
