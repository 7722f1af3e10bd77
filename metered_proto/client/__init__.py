"""The client as a machine: one signalling connection that comes back, and what is asked over it."""

from metered_proto.client.calls import (
    Call,
    Close,
    Connect,
    FetchToken,
    Publish,
    PublishMany,
    SendTo,
    Subscribe,
    Unsubscribe,
)
from metered_proto.client.session import ClientSession

__all__ = [
    "Call",
    "ClientSession",
    "Close",
    "Connect",
    "FetchToken",
    "Publish",
    "PublishMany",
    "SendTo",
    "Subscribe",
    "Unsubscribe",
]
