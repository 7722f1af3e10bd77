"""Why a connection ended, and whether to come back.

Close codes are RFC 6455 section 7.4: the 1000 range is the RFC's, the 4000 range is the service's own. A plain
HTTP answer to the upgrade is read as a close with its status for a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType

import msgspec

from metered_proto.machine import SECOND, Micros

CONCURRENT_LIMIT_DELAY: Micros = 30 * SECOND
"""The least to wait before the first attempt after `CONCURRENT_LIMIT`."""


class WsCloseCode(IntEnum):
    """The close codes that mean something here. Any other may come, and is passed on as it came."""

    NORMAL = 1000
    """Closed because one side wanted to."""
    GOING_AWAY = 1001
    """The server is shutting down or restarting. Come back, not before the `retryAfterMs` of its `going_away`."""
    ABNORMAL = 1006
    """The connection ended without a close frame. Never on the wire."""
    POLICY_VIOLATION = 1008
    """The server objected to something. Come back."""
    MESSAGE_TOO_BIG = 1009
    """A message was over the receiver's cap. Come back."""
    INACTIVITY = 4000
    """Sent by the client: nothing arrived for `inactivity_timeout`. Come back."""
    INVALID_TOKEN = 4001
    """The token or the key is not valid. Stop."""
    TOKEN_EXPIRED = 4002
    """The token is over. Come back with a fresh one; stop where nobody provides one."""
    CHANNEL_NOT_AUTHORIZED = 4003
    """The credential does not reach the channel. Stop."""
    CONCURRENT_LIMIT = 4010
    """Too many connections at once. Come back, the first time after 30 s at the earliest."""
    MESSAGE_RATE = 4011
    """Too many messages a second. Come back."""
    ACCOUNT_SUSPENDED = 4012
    """The account is suspended. Stop."""
    ADMIN_DISCONNECT = 4020
    """An administrator closed the connection. Stop."""


class ErrorCode(StrEnum):
    """The codes of `error` frames known today. A client passes an unknown one through as it came."""

    MALFORMED_MESSAGE = "malformed_message"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_CHANNEL = "invalid_channel"
    INVALID_PEER_ID = "invalid_peer_id"
    CHANNEL_NOT_AUTHORIZED = "channel_not_authorized"
    CHANNEL_RESERVED = "channel_reserved"
    CHANNEL_LIMIT_EXCEEDED = "channel_limit_exceeded"
    PEER_NOT_FOUND = "peer_not_found"
    MISSING_DATA = "missing_data"
    ACTION_NOT_PERMITTED = "action_not_permitted"
    OVER_MESSAGE_QUOTA = "over_message_quota"
    BACKEND_ERROR = "backend_error"
    INTERNAL_ERROR = "internal_error"


SYMBOLIC_NAMES: Mapping[int, str] = MappingProxyType(
    {
        WsCloseCode.INVALID_TOKEN: "invalid_token",
        WsCloseCode.TOKEN_EXPIRED: "token_expired",
        WsCloseCode.CHANNEL_NOT_AUTHORIZED: "channel_not_authorized",
        WsCloseCode.ACCOUNT_SUSPENDED: "account_suspended",
        WsCloseCode.ADMIN_DISCONNECT: "admin_disconnect",
    }
)
"""What a close that can be final is called in an error's message."""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """Whether to reconnect, and the least to wait before the first attempt."""

    reconnect: bool
    min_delay: Micros = 0


def verdict(code: int, *, can_refresh: bool) -> Verdict:
    """What a client does about a connection that ended with `code` (a close code or an HTTP status).

    `can_refresh` says that somebody provides fresh tokens. A code nobody knows is taken for a passing trouble:
    giving up for good needs a reason.
    """
    if code in _FINAL or (code == WsCloseCode.TOKEN_EXPIRED and not can_refresh):
        return _STOP
    return _RECONNECT_LATER if code == WsCloseCode.CONCURRENT_LIMIT else _RECONNECT


_FINAL = frozenset(
    {
        WsCloseCode.INVALID_TOKEN,
        WsCloseCode.CHANNEL_NOT_AUTHORIZED,
        WsCloseCode.ACCOUNT_SUSPENDED,
        WsCloseCode.ADMIN_DISCONNECT,
    }
)
_STOP = Verdict(reconnect=False)
_RECONNECT = Verdict(reconnect=True)
_RECONNECT_LATER = Verdict(reconnect=True, min_delay=CONCURRENT_LIMIT_DELAY)
