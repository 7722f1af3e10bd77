"""A receipt: what became, or will become, of a message in the outbox."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from metered_anyio.backend import Waiter, current_backend
from metered_proto.client.outbox import Outcome


class Receipt:
    """For one message that was enqueued. Awaiting it gives the outcome, however often and from however many tasks.

    The outcome is `Delivered`, `Dropped(why)`, `Refused(code, message)`, or `Kept` if the client was closed and the
    message waits in a file for the next one. Nobody has to await it: the message goes its way regardless.
    """

    __slots__ = ("_outcome", "_waiters", "message_id")

    def __init__(self, message_id: str | None, outcome: Outcome | None = None) -> None:
        self.message_id = message_id
        """What receivers know the message by; None for one that was dropped before it got an id."""
        self._outcome = outcome
        self._waiters: list[Waiter[Outcome]] = []

    def __repr__(self) -> str:
        return f"<Receipt {self.message_id} {self._outcome or 'pending'}>"

    @property
    def outcome(self) -> Outcome | None:
        """What became of the message; None as long as that is open."""
        return self._outcome

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._outcome is not None

    def settle(self, outcome: Outcome) -> None:
        """Called once, by the client."""
        self._outcome = outcome
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome)

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self._wait().__await__()

    async def _wait(self) -> Outcome:
        if self._outcome is None:
            waiter: Waiter[Outcome] = current_backend().waiter()
            self._waiters.append(waiter)
            try:
                return await waiter
            except BaseException:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise
        return self._outcome
