"""Local candidates: host ones at once, those of servers as they come in (trickle, RFC 8838).

aioice waits for its STUN and TURN servers before it lets a description be made, for up to five seconds if one is
silent. Here they are asked after the description is out, and what they say is signalled then. Only where nothing but
a relay may be used there is nothing to describe before the TURN server has answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from metered_anyio.rtc import private, private_ice
from metered_proto.errors import PeerConnectionError
from metered_proto.events import IceServer

PATIENCE: Final = 5.0
"""Seconds until a server counts as silent."""


class Gatherer:
    """Gathers for one connection. `found` gets the candidates that come late, and None after the last one."""

    def __init__(
        self,
        servers: Sequence[IceServer],
        relay_only: bool,
        found: Callable[[Any | None], object],
        failed: Callable[[PeerConnectionError], object],
    ) -> None:
        self.relay_only = relay_only
        self._found = found
        self._failed = failed
        self._stun: tuple[str, int] | None = None
        self._turn: dict[str, Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._complete = False
        self._ice: private_ice.IceConnection | None = None
        try:
            # One STUN and one TURN address is all that aioice uses, and the room sees to it which.
            asked = private.connection_kwargs(
                [private.ice_server(server.urls, server.username, server.credential) for server in servers]
            )
        except ValueError:
            self._failed(PeerConnectionError("gather", "the address of an ICE server cannot be read"))
            asked = {}
        if not relay_only:
            self._stun = asked.get("stun_server")
        if "turn_server" in asked:
            self._turn = {name: asked[name] for name in asked if name.startswith("turn_")}

    @property
    def complete(self) -> bool:
        """Whether all candidates are there."""
        return self._complete or (self._stun is None and self._turn is None)

    def serve(self, ice: private_ice.IceConnection) -> None:
        """Gather for this transport, of which a connection has one."""
        if self._ice is None:
            self._ice = ice
            private_ice.gather_with(ice, self._hosts)

    async def relay_first(self) -> None:
        """Where only a relay may be used: wait for it."""
        if self.relay_only and not self.complete:
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._ask())
            await asyncio.wait([self._task])
            self._complete = True

    def start_late(self) -> None:
        """Ask the servers. Call it when the description is out, or about to be."""
        if not self.complete and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._late())

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
        if tasks := [*filter(None, (self._task, self._opening))]:
            await asyncio.wait(tasks)

    async def _hosts(self) -> None:
        assert self._ice is not None
        addresses: list[str] = []
        if not self.relay_only:
            # Without any network, two programs on one machine can still talk.
            addresses = private_ice.get_host_addresses(use_ipv4=True, use_ipv6=True) or ["127.0.0.1"]
        # Not to be broken off: what has been opened by then would be known to nobody, and stay open.
        self._opening = asyncio.get_running_loop().create_task(private_ice.gather_hosts(self._ice, addresses))
        await asyncio.shield(self._opening)

    async def _late(self) -> None:
        assert self._ice is not None
        private_ice.hold_failure(self._ice)
        try:
            await self._ask()
        finally:
            private_ice.release_failure(self._ice)
        self._complete = True
        self._found(None)

    async def _ask(self) -> None:
        assert self._ice is not None
        questions: list[Coroutine[Any, Any, None]] = []
        if self._stun is not None:
            questions += [self._ask_stun(each) for each in private_ice.host_protocols(self._ice) if _is_ipv4(each)]
        if self._turn is not None:
            questions.append(self._ask_turn(self._turn))
        tasks = [asyncio.get_running_loop().create_task(question) for question in questions]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _ask_stun(self, protocol: Any) -> None:
        assert self._ice is not None
        assert self._stun is not None
        try:
            async with asyncio.timeout(PATIENCE):
                candidate, _ = await private_ice.server_reflexive_candidate(protocol, self._stun)
        except Exception as error:
            self._failed(PeerConnectionError("gather", f"the STUN server did not answer ({type(error).__name__})"))
            return
        host = protocol.local_candidate
        if (candidate.host, candidate.port) != (host.host, host.port):  # otherwise redundant (RFC 8445 section 5.1.3)
            self._add(candidate)

    async def _ask_turn(self, turn: dict[str, Any]) -> None:
        assert self._ice is not None
        ice = self._ice
        try:
            async with asyncio.timeout(PATIENCE):
                candidate, protocol = await private_ice.relayed_candidate(
                    component=1,
                    hide_related_address=self.relay_only,
                    protocol_factory=lambda: private_ice.StunProtocol(ice),
                    **turn,
                )
        except Exception as error:
            self._failed(PeerConnectionError("gather", f"the TURN server gave us no relay ({type(error).__name__})"))
            return
        private_ice.add_protocol(ice, protocol)
        self._add(candidate)

    def _add(self, candidate: Any) -> None:
        assert self._ice is not None
        private_ice.local_candidates(self._ice).append(candidate)
        if not self.relay_only:
            self._found(private.candidate_from_aioice(candidate))


def _is_ipv4(protocol: Any) -> bool:
    return ":" not in protocol.local_candidate.host
