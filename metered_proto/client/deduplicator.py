"""The receiving side of outboxes: repeats are dropped, gaps are told.

What has come of one outbox on one channel is kept as the highest number and the holes below it, so a repeat is known
for one however late it comes, and a message that comes late fills its hole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from math import inf
from typing import Any

import msgspec

from metered_proto.client.envelope import Opened, unseal
from metered_proto.events import Gap, Message
from metered_proto.settings import check_count


class Delivery(msgspec.Struct, frozen=True):
    """A message as it was enqueued. `message_id` and `seq` are None where it came through no outbox.

    `redelivered` says that it may have been delivered before, to others or to us: what was forgotten meanwhile, or
    happened in an earlier life of this process, cannot be known here.
    """

    data: Any
    message_id: str | None
    seq: int | None
    redelivered: bool
    channel: str
    sender_peer_id: str
    sender_metadata: dict[str, Any] | None = None


class Deduplicator:
    """Makes of messages as they came, deliveries without repeats.

    The last `max_outboxes` outboxes (each of them once a channel) are remembered, with `max_holes` gaps each in which
    something may still come late; and the last `max_ids` message ids that senders chose themselves, which make a
    repeat of the same id on the same channel known even if it was enqueued twice. Nothing grows beyond that,
    whatever is sent. What is in doubt is delivered rather than dropped.

    An outbox's id is its sender's own word, so whoever may publish to a channel can pretend to be another's outbox, and
    have that one's messages taken for repeats. With `by_sender` an outbox is one only together with the peer id that
    the server vouches for. That is right where peer ids come from tokens; one that the server makes up anew for each
    connection (publishable keys) would make strangers of an outbox before and after a reconnect.
    """

    def __init__(
        self, *, max_outboxes: int = 10_000, max_holes: int = 32, max_ids: int = 10_000, by_sender: bool = False
    ) -> None:
        self._max_outboxes = check_count("max_outboxes", max_outboxes)
        self._max_holes = check_count("max_holes", max_holes)
        self._max_ids = check_count("max_ids", max_ids)
        self._by_sender = by_sender
        self._streams: OrderedDict[tuple[str | None, str, str], _Stream] = OrderedDict()
        self._ids: OrderedDict[tuple[str | None, str, str], None] = OrderedDict()
        self.repeats = 0
        """How many repeats were dropped so far."""

    @property
    def limits(self) -> dict[str, Any]:
        """What it was made with."""
        return {
            "max_outboxes": self._max_outboxes,
            "max_holes": self._max_holes,
            "max_ids": self._max_ids,
            "by_sender": self._by_sender,
        }

    @property
    def is_new(self) -> bool:
        """Whether it has read nothing yet."""
        return not self._streams and not self._ids

    def read(self, message: Message) -> list[Delivery | Gap]:
        """What a message brings, in order: nothing if it is a repeat, several deliveries if it is a batch.

        A message that came through no outbox is a delivery as it is.
        """
        opened = unseal(message.data)
        if opened is None:
            channel, sender = message.channel, message.sender_peer_id
            return [Delivery(message.data, None, None, False, channel, sender, message.sender_metadata)]
        found: list[Delivery | Gap] = []
        for one in opened:
            self._read_one(message, one, found)
        return found

    def _read_one(self, message: Message, one: Opened, found: list[Delivery | Gap]) -> None:
        channel, sender = message.channel, message.sender_peer_id
        scope = sender if self._by_sender else None
        key = (scope, one.outbox, channel)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(one.seq - 1)
            if len(self._streams) > self._max_outboxes:
                self._streams.popitem(last=False)
        else:
            self._streams.move_to_end(key)
        if one.seq > stream.high + 1:
            found.append(Gap(channel, sender, one.seq - stream.high - 1))
        known = stream.take(one.seq, self._max_holes)
        repeat = known or (known is None and one.redelivered)
        if not one.id.startswith(f"{one.outbox}-"):
            repeat = self._seen((scope, channel, one.id)) or repeat
        if repeat:
            self.repeats += 1
            return
        found.append(
            Delivery(one.data, one.id, one.seq, one.redelivered, channel, sender, message.sender_metadata),
        )

    def _seen(self, key: tuple[str | None, str, str]) -> bool:
        """Whether an id of a sender's own choice was there before; it is from now on."""
        seen = key in self._ids
        self._ids[key] = None
        self._ids.move_to_end(key)
        if len(self._ids) > self._max_ids:
            self._ids.popitem(last=False)
        return seen


class _Stream:
    """The numbers that have come of one outbox on one channel: all up to `high`, but for the holes."""

    __slots__ = ("_doubtful", "_holes", "high")

    def __init__(self, missed: int) -> None:
        """The first `missed` numbers were given away before we listened; they may come all the same."""
        self.high = missed
        self._holes: list[tuple[int, int]] = [(1, missed)] if missed else []
        self._doubtful = 0  # up to here holes were forgotten

    def take(self, seq: int, max_holes: int) -> bool | None:
        """Whether the number has come before; None if that cannot be known any more."""
        holes = self._holes
        if seq > self.high:
            if seq > self.high + 1:
                holes.append((self.high + 1, seq - 1))
            self.high = seq
        else:
            at = bisect_right(holes, (seq, inf)) - 1
            if at < 0 or holes[at][1] < seq:
                return None if seq <= self._doubtful else True
            first, last = holes[at]
            holes[at : at + 1] = [hole for hole in ((first, seq - 1), (seq + 1, last)) if hole[0] <= hole[1]]
        while len(holes) > max_holes:
            self._doubtful = holes.pop(0)[1]
        return False
