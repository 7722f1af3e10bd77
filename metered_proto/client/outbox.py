"""Messages that are to arrive: kept until the server has acknowledged them, sent in order, as fast as is polite.

Theory of operation
-------------------
A message is enqueued in two steps. `draft` checks it, gives it its numbers, and raises for what cannot go; whoever
drives the outbox puts the draft into its store, if it has one, and then asks `Enqueue`. What `Enqueue` takes in
either waits in the queue or is in flight, until it ends in one of four ways: `Delivered`, `Dropped`, `Refused`, or
`Kept` in the store for the next run. That is the answer to its `Enqueue`.

The queue is always in the order of the keys. What comes back from a flight (the link was lost, no acknowledgement
came, the server cannot take it now) goes back to its place, and is marked as redelivered when it is sent again.

A store is told two things: `Forget` what has ended, and `Attempted`: everything up to this key may have been sent.
The latter comes ahead of the first `Send` that it covers and reaches far beyond it, so that it is rarely needed; what
a later run finds in the store and was attempted, it sends as redelivered. So a repeat never goes unmarked, whenever
the process dies.

What the server's refusals mean: those of a passing nature (`PASSING`) pause the outbox and are tried again for ever;
codes that nobody knows are tried again a few times; all others end the message. In a batch that is refused for what
is in it, each message is tried by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from metered_proto.client.calls import Call
from metered_proto.client.envelope import (
    BATCH_ROOM,
    BatchStamp,
    batch_share,
    check_data,
    check_message_id,
    seal,
    seal_batch,
)
from metered_proto.client.pace import Pace
from metered_proto.entropy import Entropy
from metered_proto.errors import NotConnectedError, OutboxFullError, OversizedPayloadError, ServerRequestError
from metered_proto.facts import Asked, Fact, LinkDown, Withdrawn, Woken
from metered_proto.machine import SECOND, Deadline, Micros, micros, soonest
from metered_proto.orders import Answer, Note, Order, Send
from metered_proto.settings import Outbox
from metered_proto.wire.channels import check_channel
from metered_proto.wire.close_codes import ErrorCode, WsCloseCode
from metered_proto.wire.codec import encode_frame
from metered_proto.wire.messages import DEFAULT_MAX_MESSAGE_SIZE, PublishFrame

PASSING: Final = frozenset({ErrorCode.OVER_MESSAGE_QUOTA, ErrorCode.BACKEND_ERROR, ErrorCode.INTERNAL_ERROR})
"""Refusals that say nothing against the message: the outbox pauses, and goes on with the same message."""

OF_THE_CHANNEL: Final = frozenset(
    {
        ErrorCode.CHANNEL_NOT_AUTHORIZED,
        ErrorCode.ACTION_NOT_PERMITTED,
        ErrorCode.INVALID_CHANNEL,
        ErrorCode.CHANNEL_RESERVED,
    }
)
"""Refusals that mean a whole batch, whatever is in it."""

KNOWN: Final = frozenset(ErrorCode)

TRIES: Final = 5
"""So often a message is sent that is refused with a code that nobody knows, or that seems to cost us the link."""

FIRST_PAUSE: Final[Micros] = SECOND
LONGEST_PAUSE: Final[Micros] = 30 * SECOND

LEAP: Final = 256
"""`Attempted` reaches at least so many keys beyond the one that is sent."""

MAX_CHANNELS: Final = 10_000
"""Channels whose numbering is remembered. For one more, the outbox takes a new id, and all begin at 1 again."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One message, as a store keeps it. Keys rise in the order of enqueueing and are never used twice."""

    key: int
    outbox: str
    seq: int
    channel: str
    id: str
    data: bytes
    """Serialized, without its envelope."""
    size: int
    """What it takes as a publish of its own, envelope and all, in bytes."""
    born: Micros
    """When it was enqueued: below 0 where that was before this machine was born."""

    @classmethod
    def of(cls, key: int, outbox: str, seq: int, channel: str, id: str, data: bytes, born: Micros) -> Entry:
        """An entry of its size. The mark of a redelivery is counted, so that it always fits."""
        size = len(seal(data, id=id, outbox=outbox, seq=seq, redelivered=True))
        return cls(key, outbox, seq, channel, id, data, size, born)


class Loaded(msgspec.Struct, frozen=True):
    """What a store held when it was opened; all of it empty for one that is new."""

    entries: tuple[Entry, ...] = ()
    """In the order of their keys."""
    next_key: int = 1
    outbox: str | None = None
    sequences: Mapping[str, int] = MappingProxyType({})
    """The latest number of each channel."""
    attempted_through: int = 0
    durable: bool = False
    """Whether what is in it outlives the process. If not, it is not told anything."""


# --- what can be asked --------------------------------------------------------------------------------------


class Enqueue(Call, frozen=True):
    """Take in an entry that `OutboxQueue.draft` gave out. Answered with its `Outcome`."""

    entry: Entry


class Flush(Call, frozen=True):
    """Answered once everything enqueued before has ended. Until then no batch waits to become larger."""


class Delivered(msgspec.Struct, frozen=True):
    """The server has acknowledged the message."""


class Dropped(msgspec.Struct, frozen=True):
    """Given up: `overflow`, `expired`, or `closed`. If it was sent before, it may have arrived all the same."""

    why: Literal["overflow", "expired", "closed"]


class Refused(msgspec.Struct, frozen=True):
    """The server will not have it: an error code of the wire protocol, or `oversized`."""

    code: str
    message: str = ""


class Kept(msgspec.Struct, frozen=True):
    """The client is closed, and the message is in the store: the next one that opens the store will send it."""


Outcome: TypeAlias = Delivered | Dropped | Refused | Kept


# --- what a store is told -----------------------------------------------------------------------------------


class Forget(Order, frozen=True):
    """Let the store forget entries. If that is lost, no more happens than a marked repeat."""

    keys: tuple[int, ...]


class Attempted(Order, frozen=True):
    """Note that every entry up to this key may have been sent. It has to be safe before what follows is done."""

    through: int


class OutboxCounters(msgspec.Struct):
    """What happened so far, for people who watch. Messages, but for `publishes`, which counts batches as one."""

    delivered: int = 0
    dropped: int = 0
    refused: int = 0
    redelivered: int = 0
    """How many were sent marked as redelivered."""
    publishes: int = 0
    pauses: int = 0


class OutboxQueue:
    """The outbox of one client, over all its connections.

    It is a part of a session, which tells it of a link between its welcome and its end (`opened`, `LinkDown`), of the
    answers to its requests (`settled`; their ids begin with `o`), and of the client's end (`closed`).
    """

    def __init__(
        self, options: Outbox, entropy: Entropy, loaded: Loaded | None = None, *, ack_timeout: float = 15.0
    ) -> None:
        loaded = Loaded() if loaded is None else loaded
        self._options = options
        self._timeout = micros(ack_timeout)
        self._max_age = None if options.max_age is None else micros(options.max_age)
        self._window = options.window if options.rate is None else min(options.window, options.burst)
        self._pace = Pace(options.rate, options.burst)
        self._entropy = entropy
        # How messages are numbered.
        self._next_key = loaded.next_key
        self._newest = loaded.next_key - 1  # the latest key that was taken in
        self._outbox = loaded.outbox or entropy.token()
        self._sequences = dict(loaded.sequences)
        self._drafts: dict[int, int] = {}  # key to size, of what was drafted and not enqueued yet
        self._drafted_bytes = 0
        # What is held.
        self._queue: deque[_Held] = deque()
        self._flights: dict[str, _Flight] = {}  # by request id; all wait equally long, so the first in is the first due
        self._receipts: dict[int, _Held] = {}  # by op
        self._flushes: dict[int, _Flush] = {}  # by op
        self._messages = 0
        self._bytes = 0
        self._flying_messages = 0
        self._flying_bytes = 0
        # What is known of the server.
        self._link: int | None = None
        self._cap = DEFAULT_MAX_MESSAGE_SIZE
        self._requests = 0
        self._pause: Micros = 0  # the latest pause, 0 once a publish got through after it
        self._paused_until: Micros = 0
        self._batch_length = 1  # how many from the head on make up the next publish, as far as they were looked at, ...
        self._batch_bytes = 0  # ... how large it is, ...
        self._batch_full = False  # ... and whether it cannot grow any more; 1, 0, False: not looked at
        # What the store knows.
        self._durable = loaded.durable
        self._attempted_through = loaded.attempted_through
        self._closed = False
        self.counters = OutboxCounters()
        self._load(loaded)

    def _load(self, loaded: Loaded) -> None:
        youngest = min((entry.born for entry in loaded.entries), default=0)
        for entry in loaded.entries:
            # A clock that was set back makes an entry look older than the one before it. It is not.
            youngest = max(youngest, min(entry.born, 0))
            if entry.born != youngest:
                entry = msgspec.structs.replace(entry, born=youngest)
            self._queue.append(_Held(entry, attempted=entry.key <= loaded.attempted_through))
            self._messages += 1
            self._bytes += entry.size

    def __len__(self) -> int:
        """How many messages are held, waiting or in flight."""
        return self._messages

    @property
    def held_bytes(self) -> int:
        """How large they are altogether, each as a publish of its own."""
        return self._bytes

    @property
    def in_flight(self) -> int:
        """How many publishes wait for their acknowledgement."""
        return len(self._flights)

    def __contains__(self, request_id: object) -> bool:
        """Whether `request_id` is a publish of ours in flight."""
        return request_id in self._flights

    def sent_at(self, request_id: str) -> Micros:
        """When a publish that is in flight went out."""
        return self._flights[request_id].due - self._timeout

    @property
    def deadline(self) -> Deadline | None:
        """The next acknowledgement to be given up, message to expire, or publish to go out."""
        flight = next(iter(self._flights.values()), None)
        send_at, why = self._next_publish()
        expiry = self._queue[0].entry.born + self._max_age if self._queue and self._max_age is not None else None
        return soonest(
            (
                None if flight is None else Deadline(flight.due, "outbox ack"),
                None if expiry is None else Deadline(expiry, "outbox expiry"),
                None if send_at is None else Deadline(send_at, why),
            )
        )

    # --- the application ---

    def draft(self, now: Micros, channel: str, data: bytes, message_id: str | None = None) -> Entry | Dropped:
        """Check a message and number it, for a store and then for `Enqueue`; `Dropped` where there is no room for it.

        `data` is serialized JSON. Raises `TypeError` or `ValueError` for bad arguments, `OversizedPayloadError` if
        the message in its envelope is over the server's cap or over the whole of the outbox, `OutboxFullError` where
        that is the policy, and `NotConnectedError` once the client is closed. An entry that comes back has to be
        enqueued, or given back by `discard`.
        """
        if self._closed:
            raise NotConnectedError("closed")
        check_channel(channel)
        data = check_data(data)
        if message_id is not None:
            check_message_id(message_id)
        if channel not in self._sequences and len(self._sequences) >= MAX_CHANNELS:
            self._outbox, self._sequences = self._entropy.token(), {}
        seq = self._sequences.get(channel, 0) + 1
        key, outbox = self._next_key, self._outbox
        entry = Entry.of(key, outbox, seq, channel, message_id or f"{outbox}-{key}", data, now)
        cap = min(self._cap, self._options.max_bytes)
        if entry.size > cap:
            raise OversizedPayloadError(entry.size, cap)
        room = self._room(entry.size)
        if not room and self._options.overflow == "reject":
            raise OutboxFullError(self._messages, self._bytes)
        # What is dropped here has its number too, so that a receiver sees the gap; what is an error has none.
        self._next_key += 1
        self._sequences[channel] = seq
        if not room:
            self.counters.dropped += 1
            return Dropped("overflow")
        self._drafts[key] = entry.size
        self._drafted_bytes += entry.size
        return entry

    def discard(self, entry: Entry) -> None:
        """A draft will not be enqueued after all: the store would not have it.

        Its numbers stay used. A store that failed may hold it all the same, and no two messages must have the same.
        """
        self._drafted_bytes -= self._drafts.pop(entry.key, 0)

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Take in what is asked, send what is due, give up what was not answered."""
        match fact:
            case Asked(op, Enqueue(entry)):
                return self._enqueue(now, op, entry)
            case Woken():
                return self._overdue(now) + self._proceed(now)
            case Asked(op, Flush()):
                return self._flush(now, op)
            case LinkDown(link, code):
                return self._lost(now, code) if link == self._link else []
            case Withdrawn(op):
                self._flushes.pop(op, None)
                if (held := self._receipts.pop(op, None)) is not None:
                    held.op = None  # nobody waits for it any more; it goes out all the same
            case _:
                pass
        return []

    def closed(self) -> list[Order]:
        """The client is closed for good: nothing will be sent any more."""
        if self._closed:
            return []
        self._closed = True
        self._link = None
        if not self._durable:
            self.counters.dropped += self._messages
        orders: list[Order] = [Answer(op, value=self._left_over()) for op in self._receipts]
        orders += [Answer(op, error=NotConnectedError("closed")) for op in self._flushes]
        self._queue.clear()
        for table in (self._flights, self._receipts, self._flushes, self._drafts):
            table.clear()
        self._messages = self._bytes = self._flying_messages = self._flying_bytes = self._drafted_bytes = 0
        return orders

    # --- the connection ---

    def opened(self, now: Micros, link: int, max_message_size: int) -> list[Order]:
        """The server has welcomed us, and takes publishes of `max_message_size` bytes."""
        self._link = link
        self._cap = max_message_size
        self._look_again()
        return self._proceed(now)

    def settled(self, now: Micros, request_id: str, error: ServerRequestError | None) -> list[Order]:
        """The server answered a request; if it is in flight here, take note."""
        flight = self._flights.pop(request_id, None)
        if flight is None:
            return []
        self._landed(flight)
        if error is None:
            if now >= self._paused_until:
                self._pause = 0
            orders = self._finish(flight.held, _DELIVERED)
        else:
            orders = self._refused(now, flight, error)
        return orders + self._proceed(now)

    # --- detail: what comes in and what ends ---

    def _room(self, size: int) -> bool:
        """Whether one more of `size` bytes fits; with `drop_oldest`, whether it would after all that may be dropped."""
        messages, total = self._messages + len(self._drafts), self._bytes + self._drafted_bytes
        if self._options.overflow == "drop_oldest":
            messages, total = self._flying_messages, self._flying_bytes
        return messages < self._options.max_messages and total + size <= self._options.max_bytes

    def _enqueue(self, now: Micros, op: int, entry: Entry) -> list[Order]:
        if self._closed:
            self.counters.dropped += not self._durable
            return [Answer(op, value=self._left_over())]
        if entry.key >= self._next_key:
            # It was drafted elsewhere: this is a recorded run.
            if entry.outbox != self._outbox:
                self._outbox, self._sequences = entry.outbox, {}
            self._next_key = entry.key + 1
            self._sequences[entry.channel] = entry.seq
        self._newest = entry.key
        self._drafted_bytes -= self._drafts.pop(entry.key, 0)
        held = self._receipts[op] = _Held(entry, op=op)
        self._queue.append(held)
        self._messages += 1
        self._bytes += entry.size
        return self._proceed(now)

    def _left_over(self) -> Outcome:
        return _KEPT if self._durable else _CLOSED

    def _flush(self, now: Micros, op: int) -> list[Order]:
        if self._closed:
            return [Answer(op, error=NotConnectedError("closed"))]
        if not self._messages:
            return [Answer(op)]
        self._flushes[op] = _Flush(self._newest, self._messages)
        return self._proceed(now)

    def _finish(self, ended: list[_Held], outcome: Outcome) -> list[Order]:
        """Messages that are neither in the queue nor in flight any more have come to their end."""
        count = len(ended)
        match outcome:
            case Delivered():
                self.counters.delivered += count
            case Dropped():
                self.counters.dropped += count
            case _:
                self.counters.refused += count
        self._messages -= count
        orders: list[Order] = [Forget(tuple([held.entry.key for held in ended]))] if self._durable else []
        for held in ended:
            self._bytes -= held.entry.size
            if held.op is not None:
                del self._receipts[held.op]
                orders.append(Answer(held.op, value=outcome))
        if self._flushes:
            orders += self._flushed(ended)
        return orders

    def _flushed(self, ended: list[_Held]) -> list[Order]:
        for flush in self._flushes.values():
            flush.left -= sum(held.entry.key <= flush.through for held in ended)
        done = [op for op, flush in self._flushes.items() if not flush.left]
        for op in done:
            del self._flushes[op]
        return [Answer(op) for op in done]

    # --- detail: what goes out ---

    def _proceed(self, now: Micros) -> list[Order]:
        """Drop what is too old or too much, and send what may be sent."""
        orders: list[Order] = []
        queue, options = self._queue, self._options
        if self._max_age is not None:
            while queue and queue[0].entry.born + self._max_age <= now:
                orders += self._drop("expired")
        if options.overflow == "drop_oldest":
            while queue and (self._messages > options.max_messages or self._bytes > options.max_bytes):
                orders += self._drop("overflow")
        while True:
            send_at, _ = self._next_publish()
            if send_at is None or send_at > now:
                return orders
            assert self._link is not None  # or there would be no next publish
            if queue[0].entry.size > self._cap:
                size = queue[0].entry.size
                orders += self._end_head(Refused("oversized", f"{size} bytes, the server takes {self._cap}"))
                continue
            self._publish(now, self._link, orders)

    def _drop(self, why: Literal["overflow", "expired"]) -> list[Order]:
        orders = self._end_head(Dropped(why))
        if _is_milestone(self.counters.dropped):
            context = {"why": why, "count": self.counters.dropped}
            orders.append(Note("warning", "the outbox dropped a message", context))
        return orders

    def _end_head(self, outcome: Outcome) -> list[Order]:
        self._look_again()
        return self._finish([self._queue.popleft()], outcome)

    def _next_publish(self) -> tuple[Micros | None, str]:
        """When the next publish may go out, as things stand, and what it waits for."""
        # After a pause, one publish tries out whether it goes on.
        window = 1 if self._pause else self._window
        if self._link is None or not self._queue or len(self._flights) >= window:
            return None, ""
        at, why = self._pace.free_at, "outbox pace"
        if self._paused_until > at:
            at, why = self._paused_until, "outbox pause"
        if (batch := self._options.batch) is not None and not self._flushes:
            self._look()
            ripe = self._queue[0].entry.born + micros(batch.max_delay)
            if ripe > at and not self._batch_full:
                at, why = ripe, "outbox batch"
        return at, why

    def _look(self) -> None:
        """How many from the head on go into one batch? Each is looked at once, until the head changes."""
        queue, batch = self._queue, self._options.batch
        if batch is None or self._batch_full:
            return
        head = queue[0]
        if not self._batch_bytes:
            self._batch_bytes = BATCH_ROOM + _share(head)
        limit = min(batch.max_bytes, self._cap)
        length, full = self._batch_length, head.alone or self._batch_bytes >= limit or batch.max_messages == 1
        while not full and length < len(queue):
            held = queue[length]
            share = _share(held)
            full = (
                held.entry.channel != head.entry.channel
                or held.entry.outbox != head.entry.outbox
                or held.alone
                or self._batch_bytes + share > limit
            )
            if not full:
                length += 1
                self._batch_bytes += share
                full = length == batch.max_messages
        self._batch_length, self._batch_full = length, full

    def _look_again(self) -> None:
        """The head of the queue is another one, or what fits into a batch."""
        self._batch_length, self._batch_bytes, self._batch_full = 1, 0, False

    def _publish(self, now: Micros, link: int, orders: list[Order]) -> None:
        """Send what is next."""
        self._look()
        queue = self._queue
        leaving = [queue.popleft() for _ in range(self._batch_length)]
        self._look_again()
        self._pace.take(now)
        self._requests += 1
        request_id = f"o{self._requests}"
        self._flights[request_id] = _Flight(leaving, now + self._timeout)
        self._flying_messages += len(leaving)
        last = leaving[-1].entry.key
        if self._durable and last > self._attempted_through:
            self._attempted_through = max(last + LEAP, queue[-1].entry.key if queue else 0)
            orders.append(Attempted(self._attempted_through))
        payload = _pack(leaving)
        for held in leaving:
            self.counters.redelivered += held.attempted
            held.attempted = True
            self._flying_bytes += held.entry.size
        self.counters.publishes += 1
        frame = PublishFrame(leaving[0].entry.channel, msgspec.Raw(payload), request_id)
        orders.append(Send(link, encode_frame(frame)))

    # --- detail: what comes back ---

    def _landed(self, flight: _Flight) -> None:
        self._flying_messages -= len(flight.held)
        for held in flight.held:
            self._flying_bytes -= held.entry.size

    def _take_back(self, returned: Iterable[_Held]) -> None:
        """Put messages that were in flight back to their places in the queue."""
        back = list(returned)
        last = max(held.entry.key for held in back)
        while self._queue and self._queue[0].entry.key < last:
            back.append(self._queue.popleft())
        back.sort(key=_key)
        self._queue.extendleft(reversed(back))
        self._look_again()

    def _overdue(self, now: Micros) -> list[Order]:
        """What was not acknowledged in time is sent again."""
        late: list[_Held] = []
        while (request_id := next(iter(self._flights), None)) and self._flights[request_id].due <= now:
            flight = self._flights.pop(request_id)
            self._landed(flight)
            late += flight.held
        if not late:
            return []
        self._take_back(late)
        return [Note("warning", "no acknowledgement came, sending again", {"messages": len(late)})]

    def _lost(self, now: Micros, code: int) -> list[Order]:
        self._link = None
        flights, self._flights = list(self._flights.values()), {}
        for flight in flights:
            self._landed(flight)
        orders: list[Order] = []
        if code == WsCloseCode.MESSAGE_TOO_BIG and flights:
            orders = self._too_big(flights)
        if back := [held for flight in flights for held in flight.held]:
            self._take_back(back)
        return orders + self._proceed(now)

    def _too_big(self, flights: list[_Flight]) -> list[Order]:
        """The server closed the link over the size of something. If that was ours, it was the largest."""
        largest = max(flights, key=_flight_size)
        if len(largest.held) > 1:
            for held in largest.held:
                held.alone = True
            return []
        suspect = largest.held[0]
        suspect.tries += 1
        if suspect.tries < TRIES:
            return []
        flights.remove(largest)
        return self._reject(largest, "oversized", "the server closed the connection over it again and again")

    def _refused(self, now: Micros, flight: _Flight, error: ServerRequestError) -> list[Order]:
        held, code = flight.held, error.code
        if code not in KNOWN:
            for one in held:
                one.tries += 1
        if code in PASSING or (code not in KNOWN and held[0].tries < TRIES):
            self._take_back(held)
            return self._rest(now, code)
        if len(held) > 1 and code not in OF_THE_CHANNEL:
            for one in held:
                one.alone = True
            self._take_back(held)
            return []
        return self._reject(flight, code, error.message)

    def _reject(self, flight: _Flight, code: str, message: str) -> list[Order]:
        before = self.counters.refused
        orders = self._finish(flight.held, Refused(code, message))
        if _is_milestone(self.counters.refused) or not before:
            context = {"code": code[:100], "channel": flight.held[0].entry.channel, "count": self.counters.refused}
            orders.append(Note("warning", "the server refused a message of the outbox", context))
        return orders

    def _rest(self, now: Micros, code: str) -> list[Order]:
        """The server cannot take more for now. Others that were in flight may say so too; one pause is for all."""
        if now < self._paused_until:
            return []
        self._pause = min(2 * self._pause, LONGEST_PAUSE) or FIRST_PAUSE
        self._paused_until = now + self._pause
        self.counters.pauses += 1
        return [Note("warning", "the outbox pauses", {"code": code[:100], "seconds": self._pause / SECOND})]


class _Held(msgspec.Struct, gc=False):
    """A message that the outbox holds. `op` is None where nobody waits for its outcome."""

    entry: Entry
    op: int | None = None
    attempted: bool = False
    """It may have been delivered before."""
    alone: bool = False
    """It goes into no batch: one with it was refused."""
    tries: int = 0


class _Flight(msgspec.Struct):
    """A publish that waits for its acknowledgement."""

    held: list[_Held]
    due: Micros


class _Flush(msgspec.Struct, gc=False):
    """Somebody waits for the end of all messages up to a key; so many are left."""

    through: int
    left: int


_DELIVERED: Final = Delivered()
_CLOSED: Final = Dropped("closed")
_KEPT: Final = Kept()


def _pack(leaving: list[_Held]) -> bytes:
    """The data of one publish: a message in its envelope, or several."""
    if len(leaving) == 1:
        held = leaving[0]
        entry = held.entry
        return seal(entry.data, id=entry.id, outbox=entry.outbox, seq=entry.seq, redelivered=held.attempted)
    stamps = [BatchStamp(held.entry.id, held.entry.seq, held.attempted) for held in leaving]
    return seal_batch(leaving[0].entry.outbox, stamps, [held.entry.data for held in leaving])


def _share(held: _Held) -> int:
    return batch_share(held.entry.data, id=held.entry.id, seq=held.entry.seq)


def _key(held: _Held) -> int:
    return held.entry.key


def _flight_size(flight: _Flight) -> int:
    return sum(held.entry.size for held in flight.held)


def _is_milestone(count: int) -> bool:
    """The 1st, 2nd, 4th, 8th …"""
    return not count & (count - 1)
