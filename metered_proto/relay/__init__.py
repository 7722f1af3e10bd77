"""The relay as one pure machine: who may come in, who listens to what, and what each request leads to."""

from metered_proto.relay.calls import Drain, HttpCall, HttpReply, Kick, Peers, PublishAs, Usage, UsageReport
from metered_proto.relay.relay import Relay
from metered_proto.relay.settings import Limits, PublishableKey, RelaySettings, SecretKey
from metered_proto.relay.stats import Stats

__all__ = [
    "Drain",
    "HttpCall",
    "HttpReply",
    "Kick",
    "Limits",
    "Peers",
    "PublishAs",
    "PublishableKey",
    "Relay",
    "RelaySettings",
    "SecretKey",
    "Stats",
    "Usage",
    "UsageReport",
]
