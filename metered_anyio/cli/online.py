"""Being connected until told to stop, whatever the network does, and saying on stderr how that goes."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio

from metered_anyio.cli.common import Failure
from metered_anyio.cli.screen import complain, tell, without_secrets, word
from metered_anyio.signalling_client import SignallingClient
from metered_proto.events import Connected, Disconnected, GoingAway, ServerError
from metered_proto.settings import ReconnectOptions

FOREVER = ReconnectOptions(max_attempts=math.inf)


class Online:
    """One connection that comes back by itself."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._scope = anyio.CancelScope()
        self._over = False
        self._failure: Exception | None = None

    async def stay(self, client: SignallingClient, begin: Callable[[], Awaitable[object]]) -> None:
        """Connect, do what is to be done first, and stay until the end. Raises what `end` was given."""
        client.on(Disconnected, self._on_disconnected)
        client.on(Connected, self._on_connected)
        client.on(GoingAway, self._on_going_away)
        client.on(ServerError, self._on_server_error)
        with self._scope:
            async with client:
                await begin()
                await anyio.sleep_forever()
        if self._failure is not None:
            raise self._failure

    def end(self, failure: Exception | None = None) -> None:
        """It is over, by a failure or because all is done. What comes later counts no more."""
        if not self._over:
            self._over, self._failure = True, failure
        self._scope.cancel()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over

    def expired(self) -> None:
        """The token is over, and there is no other."""
        self.end(Failure("the token has expired"))

    def say(self, message: str) -> None:
        """One line on stderr, unless it is to be quiet there."""
        if not self._quiet:
            tell(message)

    def _on_connected(self, event: Connected) -> None:
        if event.is_reconnect:
            self.say(f"connected again as {word(event.peer_id)}")

    def _on_disconnected(self, event: Disconnected) -> None:
        why = f"{event.code} {without_secrets(event.reason)}".rstrip()
        if event.will_reconnect:
            self.say(f"connection lost: {why}")
        else:
            self.end(Failure(f"disconnected for good: {why}"))

    def _on_going_away(self, event: GoingAway) -> None:
        wait = f", back in {event.retry_after_ms / 1000:g} s at the earliest" if event.retry_after_ms else ""
        self.say(f"the server is going away{wait}")

    def _on_server_error(self, event: ServerError) -> None:
        complain(without_secrets(f"the server reports {event.code}: {event.message}"))
