"""The options of a room: frozen, and validated when they are made."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from metered_proto.events import IceServer
from metered_proto.rtc.options import RtcOptions
from metered_proto.settings import ClientSettings, check_count, check_duration
from metered_proto.wire.ice_servers import MAX_ICE_SERVERS, parse_ice_servers

IceTransportPolicy: TypeAlias = Literal["all", "relay"]
"""Which ways a peer connection may take (RFC 8829 section 4.1.1): `relay` is through a TURN server only."""

ICE_TRANSPORT_POLICIES: Final[tuple[IceTransportPolicy, ...]] = get_args(IceTransportPolicy)


class RoomSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a room's machine has to know. Durations are float seconds.

    `client` is how the relay is reached. A room lives on its subscription, so `auto_resubscribe` must be on.
    `ice_servers` are used where the server gives none of its own. `rtc` has the timings of the peer connections.

    A member that has left the channel is kept for `grace` seconds while bytes arrive from it, and for `silence`
    seconds when none do. After a reconnect the snapshot of who is there must come within `reconcile_timeout`; it is
    asked for twice more, and as long each time. At most `signal_rate` signals a second go out, `signal_burst` of
    them at once: a relay closes a connection that sends more than 100 messages a second (4011), and the
    application wants to send, too.
    """

    client: ClientSettings
    rtc: RtcOptions = RtcOptions()
    ice_servers: tuple[IceServer, ...] = ()
    ice_transport_policy: IceTransportPolicy = "all"
    reconcile_timeout: float = 10.0
    grace: float = 10.0
    silence: float = 3.0
    signal_rate: float = 80.0
    signal_burst: int = 120

    def __post_init__(self) -> None:
        if not isinstance(self.client, ClientSettings):
            raise TypeError(f"client must be ClientSettings, not {type(self.client).__name__}")
        if not self.client.auto_resubscribe:
            raise ValueError("auto_resubscribe must be True: a room comes back by its subscription")
        if not isinstance(self.rtc, RtcOptions):
            raise TypeError(f"rtc must be RtcOptions, not {type(self.rtc).__name__}")
        _check_ice_servers(self.ice_servers)
        if self.ice_transport_policy not in ICE_TRANSPORT_POLICIES:
            raise ValueError(
                f"ice_transport_policy must be one of {', '.join(ICE_TRANSPORT_POLICIES)},"
                f" not {self.ice_transport_policy!r}"
            )
        for name in ("reconcile_timeout", "grace", "silence", "signal_rate"):
            check_duration(name, getattr(self, name))
        check_count("signal_burst", self.signal_burst)

    @property
    def peer_options(self) -> RtcOptions:
        """What every peer machine of the room is made with."""
        if self.ice_transport_policy == "all":
            return self.rtc
        return msgspec.structs.replace(self.rtc, relay_only=True)


def _check_ice_servers(servers: object) -> None:
    if not isinstance(servers, tuple) or not all(isinstance(server, IceServer) for server in servers):
        raise TypeError("ice_servers must be a tuple of IceServer")
    if len(servers) > MAX_ICE_SERVERS:
        raise ValueError(f"ice_servers must not hold more than {MAX_ICE_SERVERS}")
    for number, server in enumerate(servers, 1):
        entry = {"urls": list(server.urls), "username": server.username, "credential": server.credential}
        if not parse_ice_servers([entry]):
            raise ValueError(f"number {number} of ice_servers is no STUN or TURN server")
