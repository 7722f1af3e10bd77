"""What a relay is started with: whom it knows, and how much it puts up with.

All structs are frozen and checked when they are made: a bad option is a `ValueError` or `TypeError` at once, and
neither the error nor a repr shows a secret.
"""

from __future__ import annotations

import math
import re
from typing import Final

import msgspec

from metered_proto.wire.channels import check_channel
from metered_proto.wire.messages import DEFAULT_MAX_MESSAGE_SIZE
from metered_proto.wire.tokens import PERMISSIONS, check_secret_key

ENVELOPE_ROOM: Final = 4096
"""Bytes a frame may have around its `data`: the longest channel name and `requestId`, even with every character
escaped, fit."""


class PublishableKey(msgspec.Struct, frozen=True):
    """A key that anybody may see, good for fixed channels and actions.

    `origins` is the list of web origins (`https://app.example`) it works from; None is everywhere. With a list, a
    client that sends no `Origin` is not let in either. A `suspended` key is answered with close code 4012.
    """

    key: str
    patterns: tuple[str, ...] = ("**",)
    permissions: tuple[str, ...] = PERMISSIONS
    origins: tuple[str, ...] | None = None
    suspended: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.key, str):
            raise TypeError(f"a publishable key must be a str, not {type(self.key).__name__}")
        if not _PUBLISHABLE.fullmatch(self.key):
            raise ValueError("a publishable key must be pk_live_ and then letters, digits, _ or -")
        _check_grants(self.patterns, self.permissions)
        if self.origins is not None:
            _check_words("origins", self.origins)

    def __repr__(self) -> str:
        return f"PublishableKey({self.key[:12]!r}…)"


class SecretKey(msgspec.Struct, frozen=True):
    """A pair that signs tokens and opens the control plane. Only its `id` may be shown.

    What a token asks for has to lie within `patterns`, and it gets no action that `permissions` do not have.
    """

    id: str
    secret: str
    patterns: tuple[str, ...] = ("**",)
    permissions: tuple[str, ...] = PERMISSIONS
    suspended: bool = False

    def __post_init__(self) -> None:
        check_secret_key(self.id, self.secret)
        _check_grants(self.patterns, self.permissions)

    def __repr__(self) -> str:
        return f"SecretKey({self.id!r})"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a relay takes. Durations in seconds, sizes in bytes; None turns a limit off."""

    max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE
    """Bytes of serialized `data`; what `welcome` says. More of it: close 1009."""
    channels: int = 100
    """Subscriptions of one connection, patterns included. One more: `channel_limit_exceeded`."""
    message_rate: float | None = 100.0
    """Frames a second from one connection, in the long run. Over it: close 4011."""
    message_burst: int = 200
    """Frames that may come at once."""
    connects_per_minute: int | None = 60
    """Connection attempts from one address, refused ones included. Over it: HTTP 429."""
    max_connections: int | None = None
    """Connections at once. One more: close 4010."""
    message_quota: int | None = None
    """Messages of all together in a period. One more: `over_message_quota`."""
    quota_period: float = 30 * 86_400.0
    """How long a period is; the first one begins with the relay."""
    max_queue: int = 1 << 20
    """Bytes that may wait for a connection that reads too slowly. Over it: close 1008."""
    ping_interval: float = 30.0
    """Between the WebSocket pings to a connection."""
    pong_timeout: float = 10.0
    """How long a connection may leave a ping without any answer."""
    close_timeout: float = 10.0
    """How long a connection may take to open or to close before it is cut."""
    token_margin: float = 0.25
    """How long before the end of its token a connection is closed with 4002."""
    control_rate: float | None = 100.0
    """Calls a second to the control plane with one secret key. Over it: HTTP 429."""
    control_burst: int = 200
    """Calls that may come at once."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None and name in _CAN_BE_OFF:
                continue
            if isinstance(value, bool) or not isinstance(value, int if name in _COUNTS else int | float):
                raise TypeError(f"{name} must be a number")
            if not 0 < value < math.inf and not (name == "token_margin" and value == 0):
                raise ValueError(f"{name} must be positive and finite")
        if self.pong_timeout > self.ping_interval:
            raise ValueError("pong_timeout must not be longer than ping_interval")

    @property
    def max_frame(self) -> int:
        """Bytes of a whole inbound text message; the byte layer ends a connection that sends more with 1009."""
        return self.max_message_size + ENVELOPE_ROOM


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a relay has to know.

    `born_at` is the unix time, in seconds, at which the machine's time is 0. It is how a relay without a clock
    knows what `serverTime` is and when a token is over.
    """

    born_at: float
    keys: tuple[PublishableKey, ...] = ()
    secrets: tuple[SecretKey, ...] = ()
    limits: Limits = msgspec.field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.born_at < math.inf:
            raise ValueError("born_at must be a unix time in seconds")
        if len({key.key for key in self.keys}) < len(self.keys):
            raise ValueError("a publishable key is given twice")
        if len({secret.id for secret in self.secrets}) < len(self.secrets):
            raise ValueError("a secret key's id is given twice")


_PUBLISHABLE: Final = re.compile(r"pk_live_[A-Za-z0-9_-]{1,128}")
_CAN_BE_OFF: Final = ("message_rate", "connects_per_minute", "max_connections", "message_quota", "control_rate")
_COUNTS: Final = (
    "max_message_size",
    "channels",
    "message_burst",
    "connects_per_minute",
    "max_connections",
    "message_quota",
    "max_queue",
    "control_burst",
)


def _check_grants(patterns: object, permissions: object) -> None:
    for pattern in _check_words("patterns", patterns):
        check_channel(pattern)
    for permission in _check_words("permissions", permissions):
        if permission not in PERMISSIONS:
            raise ValueError(f"permissions must be among {', '.join(PERMISSIONS)}")


def _check_words(name: str, words: object) -> tuple[str, ...]:
    if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{name} must be a tuple of str")
    return words
