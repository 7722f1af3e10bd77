"""What an application can ask a client session for, and the work that a session asks of its driver.

Names and data are checked where a call is made, so a session never sees a bad one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from metered_proto.wire.channels import check_channel, check_peer_id, is_plain_channel
from metered_proto.wire.codec import encode_data


class Call(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The base of what goes into an `Asked`."""


class Connect(Call, frozen=True):
    """Answered once the server's welcome came, or with `SignallingConnectError`."""


MAX_CLOSE_REASON: Final = 123
"""Bytes of UTF-8 that fit into a close frame beside the code (RFC 6455, section 5.5)."""


class Close(Call, frozen=True):
    """Close for good. `code` is 1000 or one of the application's own, 3000 to 4999 (RFC 6455, section 7.4)."""

    code: int = 1000
    reason: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.code, bool) or not isinstance(self.code, int):
            raise TypeError(f"code must be an int, not {type(self.code).__name__}")
        if self.code != 1000 and not 3000 <= self.code <= 4999:
            raise ValueError(f"code must be 1000 or between 3000 and 4999, not {self.code}")
        if not isinstance(self.reason, str):
            raise TypeError(f"reason must be a str, not {type(self.reason).__name__}")
        try:
            size = len(self.reason.encode())
        except UnicodeEncodeError:
            raise ValueError("reason must not hold a lone surrogate: UTF-8 cannot carry it") from None
        if size > MAX_CLOSE_REASON:
            raise ValueError(f"reason must not be longer than {MAX_CLOSE_REASON} bytes of UTF-8, not {size}")


class Subscribe(Call, frozen=True):
    """Listen to a channel or a pattern."""

    channel: str
    include_sender_metadata: bool = False

    def __post_init__(self) -> None:
        check_channel(self.channel)
        if not isinstance(self.include_sender_metadata, bool):
            raise TypeError("include_sender_metadata must be True or False")


class Unsubscribe(Call, frozen=True):
    """Stop listening. While there is no connection, this still takes the subscription off the list to restore."""

    channel: str

    def __post_init__(self) -> None:
        check_channel(self.channel)


class Publish(Call, frozen=True):
    """Publish serialized `data` to a channel; `Publish.of` takes any JSON value.

    Answered on the server's acknowledgement; without `ack`, as soon as the message is on its way.
    """

    channel: str
    data: msgspec.Raw
    ack: bool = True

    def __post_init__(self) -> None:
        if not is_plain_channel(self.channel):
            check_channel(self.channel)

    @classmethod
    def of(cls, channel: str, data: object, ack: bool = True) -> Publish:
        """Check the name, serialize the data. Raises `TypeError` or `ValueError`."""
        return cls(channel, msgspec.Raw(encode_data(data)), ack)


class PublishMany(Call, frozen=True):
    """Publish many messages, in order, with one answer: when the last is acknowledged, or `PublishManyError`.

    If one is too large, none is sent.
    """

    messages: tuple[Publish, ...]


class SendTo(Call, frozen=True):
    """Send serialized `data` to one peer; `SendTo.of` takes any JSON value."""

    peer_id: str
    data: msgspec.Raw

    def __post_init__(self) -> None:
        check_peer_id(self.peer_id)

    @classmethod
    def of(cls, peer_id: str, data: object) -> SendTo:
        """Check the id, serialize the data. Raises `TypeError` or `ValueError`."""
        return cls(peer_id, msgspec.Raw(encode_data(data)))


class FetchToken(msgspec.Struct, frozen=True, tag=True):
    """Work for the driver: ask the token provider. `EffectDone.result` is the token."""
