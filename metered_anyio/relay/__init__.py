"""The relay as a server."""

from metered_anyio.relay.server import RelayServer
from metered_proto.relay import Limits, PublishableKey, SecretKey

__all__ = ["Limits", "PublishableKey", "RelayServer", "SecretKey"]
