"""What an operator can ask of a relay (`Asked.call`), and what he is answered.

A call is checked when it is made: a bad name is a `TypeError` or `ValueError` there. What the relay itself has to
refuse comes as `Answer.error`.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from metered_proto.relay.settings import Limits
from metered_proto.wire.channels import check_channel, check_peer_id, is_pattern, is_reserved
from metered_proto.wire.codec import encode_data
from metered_proto.wire.tokens import MAX_PEER_METADATA_BYTES

OPERATOR: Final = "server"
"""Who a message is from that an operator published without saying so."""


class Kick(msgspec.Struct, frozen=True):
    """Close all sockets of a peer with 4020. Answered with their number, 0 for a peer that is not here."""

    peer_id: str

    def __post_init__(self) -> None:
        check_peer_id(self.peer_id)


class Drain(msgspec.Struct, frozen=True):
    """Shut the relay down: nobody comes in any more, all are told `going_away` and, after a grace, closed with 1001.

    `retry_after_ms` is what clients are told to wait before they come back. During the `grace` (seconds) they are
    served as ever. Answered when the last one is gone, with the number of those who were told. A second `Drain`
    can only make it end sooner.
    """

    retry_after_ms: int = 0
    grace: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.retry_after_ms, bool) or not isinstance(self.retry_after_ms, int):
            raise TypeError("retry_after_ms must be an int")
        if self.retry_after_ms < 0 or not 0 <= self.grace < math.inf:
            raise ValueError("retry_after_ms and grace must not be negative, nor infinite")


class PublishAs(msgspec.Struct, frozen=True):
    """Publish serialized `data` to everybody who listens to a channel. Answered with the number of sockets reached.

    Refused with `ServerRequestError("over_message_quota")`, or `OversizedPayloadError` for what no guest could
    have sent either.
    """

    channel: str
    data: msgspec.Raw
    sender: str | None = None
    peer_metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_literal(self.channel)
        if is_reserved(self.channel):
            raise ValueError("the channel is reserved")
        if not isinstance(self.data, msgspec.Raw) or not len(self.data):
            raise TypeError("data must be a msgspec.Raw that holds JSON")
        if self.sender is not None:
            check_peer_id(self.sender)
        if self.peer_metadata is not None and len(encode_data(self.peer_metadata)) > MAX_PEER_METADATA_BYTES:
            raise ValueError(f"peer_metadata must be at most {MAX_PEER_METADATA_BYTES} bytes serialized")


class Peers(msgspec.Struct, frozen=True):
    """Who is in a channel. Answered with a tuple of `PresencePeer`."""

    channel: str

    def __post_init__(self) -> None:
        _check_literal(self.channel)


class Usage(msgspec.Struct, frozen=True):
    """How much the relay is used. Answered with a `UsageReport`."""


class UsageReport(msgspec.Struct, frozen=True):
    """`connections` there are now, `messages` of this period, and what is allowed."""

    connections: int
    messages: int
    limits: Limits


class HttpCall(msgspec.Struct, frozen=True):
    """A request to the control plane, as it came. Answered with an `HttpReply`. Its repr shows no secret."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HttpCall({self.method!r}, {self.target.partition('?')[0]!r})"


class HttpReply(msgspec.Struct, frozen=True):
    """What to answer it with. Its repr shows the status alone: a body can be a token."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"HttpReply({self.status})"

    def header(self, name: str) -> str | None:
        """The value of a header, its name in lower case."""
        return dict(self.headers).get(name)


def _check_literal(channel: object) -> None:
    if is_pattern(check_channel(channel)):
        raise ValueError("a channel is needed here, not a pattern")
