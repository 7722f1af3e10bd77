"""The candidates of the remote that come after its description (trickle, RFC 8838): `RemoteCandidates`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from metered_anyio.rtc import private
from metered_anyio.rtc.mending import reason_of
from metered_proto.errors import PeerConnectionError
from metered_proto.wire.signals import Candidate

CANDIDATES: Final = 1024
"""That one connection uses; of more it is not told."""


class RemoteCandidates:
    """Hands them to one connection. `failed` hears of those that it cannot use."""

    def __init__(self, failed: Callable[[PeerConnectionError], object]) -> None:
        self._failed = failed
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, transport: Any, candidate: Candidate | None) -> None:
        """Use one on this ICE transport; None: there are no more."""
        parsed = None
        if candidate is not None:
            self._count += 1
            if self._count > CANDIDATES:
                return
            try:
                parsed = _parsed(candidate.candidate)
            except (ValueError, AssertionError, IndexError):
                self._failed(PeerConnectionError("candidate", "it cannot be read"))
                return
        # A task, because a candidate that hides behind a multicast name takes its time.
        task = asyncio.get_running_loop().create_task(self._add(transport, parsed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """No more of them."""
        for task in self._tasks:
            task.cancel()

    async def _add(self, transport: Any, parsed: Any | None) -> None:
        try:
            await transport.addRemoteCandidate(parsed)
        except Exception as error:
            self._failed(PeerConnectionError("candidate", reason_of(error)))


def _parsed(text: str) -> Any:
    return private.candidate_from_sdp(text.removeprefix("a=").removeprefix("candidate:"))
