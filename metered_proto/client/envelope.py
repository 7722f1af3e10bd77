"""The envelope that an outbox puts around what it publishes, so that receivers can tell repeats and gaps.

Everything hangs on one reserved key, `__meteredOutbox`. A message that is a JSON object carries it among its own:

    {"__meteredOutbox": {"id": "5f0c…-7", "outbox": "5f0c…", "seq": 3}, "temp": 21.5}

Any other JSON value is wrapped, and says so, because `{"value": …}` is also something that people publish:

    {"__meteredOutbox": {"id": "5f0c…-8", "outbox": "5f0c…", "seq": 4, "wrapped": true}, "value": 21.5}

A batch is one publish of several messages to one channel:

    {"__meteredOutbox": {"outbox": "5f0c…", "batch": [{"id": "5f0c…-9", "seq": 5}, …]}, "items": [{"temp": 21.5}, …]}

`id` stays the same however often the message is sent: the sender's own word for it, or the outbox and a number.
`seq` counts the messages of this outbox to this channel, from 1, one by one: what was dropped has had its number, so
a receiver sees the gap. `"redelivered": true` stands wherever the message may have been delivered before; without it,
it was not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from metered_proto.wire.codec import encode_data

KEY: Final = "__meteredOutbox"
"""The reserved key. Data that has it already cannot go through an outbox."""

MAX_MESSAGE_ID: Final = 128
"""The longest message id, in characters."""

MessageId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MESSAGE_ID)]
OutboxId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Seq: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class Stamp(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What stands under the key of a single message."""

    id: MessageId
    outbox: OutboxId
    seq: Seq
    redelivered: bool = False
    wrapped: bool = False


class BatchStamp(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is said of one message of a batch."""

    id: MessageId
    seq: Seq
    redelivered: bool = False


class Batch(msgspec.Struct, frozen=True):
    """What stands under the key of a batch."""

    outbox: OutboxId
    batch: Sequence[BatchStamp]


class Opened(msgspec.Struct, frozen=True):
    """One message out of its envelope."""

    outbox: str
    id: str
    seq: int
    redelivered: bool
    data: Any


BATCH_ROOM: Final = 160
"""What a batch takes at most beyond its messages (`batch_share`), in bytes."""


def check_data(data: bytes) -> bytes:
    """Return serialized data, without space around it, if it is JSON that an envelope can take. Raises `ValueError`.

    What cannot be sent must not get into an outbox: there it would be tried again and again.
    """
    try:
        str(data, "utf-8")
        checked = bytes(_as_it_is(data))
        if checked.startswith(b"{") and (_KEY_BYTES in checked or b"\\u" in checked):  # the key may be escaped
            reserved = KEY in msgspec.json.decode(checked, type=dict[str, msgspec.Raw])
        else:
            reserved = False
    except (ValueError, RecursionError):
        raise ValueError("data is not JSON") from None
    if reserved:
        raise ValueError(f"data must not have the key {KEY}: it is reserved for the outbox")
    return checked


def check_message_id(message_id: object) -> str:
    """Return a message id: 1 to 128 characters that UTF-8 can carry. Raises `TypeError` or `ValueError`."""
    if not isinstance(message_id, str):
        raise TypeError(f"message_id must be a str, not {type(message_id).__name__}")
    if not 1 <= len(message_id) <= MAX_MESSAGE_ID:
        raise ValueError(f"message_id must be 1 to {MAX_MESSAGE_ID} characters, not {len(message_id)}")
    encode_data(message_id)  # refuses lone surrogates
    return message_id


def seal(data: bytes, *, id: str, outbox: str, seq: int, redelivered: bool = False) -> bytes:
    """Put one message (see `check_data`) into its envelope, without reading it again."""
    if not data.startswith(b"{"):
        stamp = Stamp(id, outbox, seq, redelivered, wrapped=True)
        return b'%b%b,"value":%b}' % (_OPENING, _encode(stamp), data)
    rest = data[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return b"%b%b%b%b" % (_OPENING, _encode(Stamp(id, outbox, seq, redelivered)), comma, rest)


def seal_batch(outbox: str, stamps: Sequence[BatchStamp], items: Sequence[bytes]) -> bytes:
    """Put several messages into one envelope."""
    return b'%b%b,"items":[%b]}' % (_OPENING, _encode(Batch(outbox, stamps)), b",".join(items))


def batch_share(data: bytes, *, id: str, seq: int) -> int:
    """How much of a batch one message takes, in bytes, the mark of a redelivery counted."""
    return len(data) + len(_encode(BatchStamp(id, seq, redelivered=True))) + 2  # and a comma each


def unseal(data: Any) -> list[Opened] | None:
    """Take what was published out of its envelope; None where it is in none, or in none that makes sense.

    Never raises, and changes nothing of `data`.
    """
    if type(data) is not dict or type(under := data.get(KEY)) is not dict:
        return None
    try:
        if "batch" in under:
            return _unseal_batch(data, msgspec.convert(under, Batch))
        stamp = msgspec.convert(under, Stamp)
    except (ValueError, RecursionError):
        return None
    if not stamp.wrapped:
        inside: Any = {name: value for name, value in data.items() if name != KEY}
    elif "value" in data:
        inside = data["value"]
    else:
        return None
    return [Opened(stamp.outbox, stamp.id, stamp.seq, stamp.redelivered, inside)]


def _unseal_batch(data: dict[str, Any], batch: Batch) -> list[Opened] | None:
    items = data.get("items")
    if type(items) is not list or len(items) != len(batch.batch):
        return None
    return [
        Opened(batch.outbox, stamp.id, stamp.seq, stamp.redelivered, item)
        for stamp, item in zip(batch.batch, items, strict=True)
    ]


_KEY_BYTES: Final = KEY.encode()
_OPENING: Final = b'{"%b":' % _KEY_BYTES
_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
_as_it_is: Callable[[bytes], msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw).decode
