"""Which STUN and which TURN server a connection uses.

An ICE agent may use no more than one of each, so each rebuild takes the next of either list: a server that is down
is left behind by trying.
"""

from __future__ import annotations

from metered_proto.events import IceServer


class ServerRotation:
    """One STUN and one TURN address at a time, out of all that were given."""

    __slots__ = ("_stun", "_turn", "_turns")

    def __init__(self, servers: tuple[IceServer, ...]) -> None:
        self._turns = 0
        self.replace(servers)

    def replace(self, servers: tuple[IceServer, ...]) -> None:
        """Use these from the next connection on. Raises nothing: addresses of another scheme are passed over."""
        each = [IceServer((url,), server.username, server.credential) for server in servers for url in server.urls]
        self._stun = [server for server in each if server.urls[0].lower().startswith(("stun:", "stuns:"))]
        self._turn = [server for server in each if server.urls[0].lower().startswith(("turn:", "turns:"))]

    def rotate(self) -> None:
        """The connection with these failed: the next one takes the next."""
        self._turns += 1

    @property
    def current(self) -> tuple[IceServer, ...]:
        """At most one STUN and one TURN server, each with one address."""
        return tuple(servers[self._turns % len(servers)] for servers in (self._stun, self._turn) if servers)
