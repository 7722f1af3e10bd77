"""`DataChannel`: messages from peer to peer, with a bound on what waits to be sent.

It goes around a channel of the engine's (`metered_anyio.rtc.engine.ChannelHandle`), which is what
`RemotePeer.create_data_channel` returns and `DataChannelOpened` brings, or around an `RTCDataChannel` of aiortc.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import anyio.lowlevel

from metered_anyio.backend import Backend, Waiter, current_backend
from metered_anyio.emitter import Emitter
from metered_anyio.emitting import Emitting
from metered_anyio.logger import ContainedLogger, Logger, NoopLogger
from metered_anyio.raw_channel import RawChannel, is_raw_channel
from metered_anyio.remote_events import DCClose, DCError, DCMessage, DCOpen
from metered_proto.errors import DataChannelClosedError, DataChannelOverflowError, DataChannelOversizedError
from metered_proto.settings import check_count

if TYPE_CHECKING:
    from metered_anyio.rtc.engine import ChannelHandle


class DataChannel(Emitting):
    """A data channel whose `send` waits for room.

    `max_buffered_amount` is how many bytes may be on their way; with more, sends wait, first in, first out, until
    there are no more than `buffered_amount_low_threshold` (half of it if not given). At most `max_queued_sends` may
    wait. Messages that came before anybody listened to `DCMessage` are kept, within bounds, for the first who does.
    `logger` hears of handlers that raise; without one, the logger of the room does.

    Make one for a channel, on the event loop that is to be used. Raises `TypeError` for what is no channel, and
    `TypeError` or `ValueError` for bad bounds.
    """

    def __init__(
        self,
        channel: Any,
        *,
        max_buffered_amount: int = 1_048_576,
        buffered_amount_low_threshold: int | None = None,
        max_queued_sends: int = 256,
        logger: Logger | None = None,
    ) -> None:
        self._cap = check_count("max_buffered_amount", max_buffered_amount)
        low = self._cap // 2 if buffered_amount_low_threshold is None else buffered_amount_low_threshold
        if isinstance(low, bool) or not isinstance(low, int):
            raise TypeError(f"buffered_amount_low_threshold must be an int, not {type(low).__name__}")
        if not 0 <= low <= self._cap:
            raise ValueError(f"buffered_amount_low_threshold must be 0 to max_buffered_amount, not {low}")
        self._low = low
        self._max_queued = check_count("max_queued_sends", max_queued_sends)
        self._channel: ChannelHandle = RawChannel(channel) if is_raw_channel(channel) else _checked(channel)
        self._backend: Backend = current_backend()
        given = None if logger is None else ContainedLogger(logger)
        home = _homes.get(self._channel)
        self._emitter = Emitter(given or ContainedLogger(NoopLogger())) if home is None else home.child(given)
        self._emitter.bind(self._backend)
        self._waiting: deque[tuple[str | bytes, int, Waiter[Any]]] = deque()
        self._listening = self._attached = False
        self._told_open = self._told_closed = False
        self._channel.low_threshold = low
        self._channel.on_open = self._on_open
        self._channel.on_close = self._on_close
        self._channel.on_error = self._on_error
        self._channel.on_drained = self._on_drained
        # What it is already is told as soon as whoever makes this has registered their handlers.
        self._backend.call_soon(self._catch_up)

    def __repr__(self) -> str:
        return f"<DataChannel {self.label!r:.80} {self.ready_state}>"

    # --- what it is ---

    @property
    def label(self) -> str:
        """Its name, which whoever opened it chose."""
        return self._channel.label

    @property
    def protocol(self) -> str:
        """The subprotocol that whoever opened it named; often empty."""
        return self._channel.protocol

    @property
    def ready_state(self) -> str:
        """`connecting`, `open`, `closing` or `closed`."""
        return self._channel.ready_state

    @property
    def buffered_amount(self) -> int:
        """Bytes that were sent and are not on the network yet, without those of sends that wait."""
        return self._channel.buffered_amount

    @property
    def queued_sends(self) -> int:
        """How many sends wait."""
        return len(self._waiting)

    # --- what it does ---

    async def send(self, data: str | bytes) -> None:
        """Send text or bytes. Returns once they are in the buffer, behind everything that was sent before.

        It waits while there is no room, and while the channel is still connecting. Cancelled meanwhile, it sends
        nothing.

        Raises `DataChannelOversizedError` over `max_buffered_amount`, `DataChannelOverflowError` if too many sends
        wait, `DataChannelClosedError` on a closed channel or one that closes meanwhile, `TypeError` for other data,
        `ValueError` for text with a lone surrogate.
        """
        if isinstance(data, str):
            size = size_of("data", data)
        elif isinstance(data, bytes | bytearray | memoryview):
            data = bytes(data)
            size = len(data)
        else:
            raise TypeError(f"data must be str or bytes, not {type(data).__name__}")
        if size > self._cap:
            raise DataChannelOversizedError(size, self._cap)
        if self.ready_state in ("closing", "closed"):
            raise DataChannelClosedError(self.ready_state)
        await anyio.lowlevel.checkpoint_if_cancelled()
        if not self._waiting and self._has_room(size):
            self._channel.send(data)
            await anyio.lowlevel.cancel_shielded_checkpoint()
            return
        if len(self._waiting) >= self._max_queued:
            raise DataChannelOverflowError(len(self._waiting), self._max_queued)
        entry = (data, size, self._backend.waiter())
        self._waiting.append(entry)
        self._aim()
        try:
            error = await entry[2]
        except BaseException:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._on_drained()  # a smaller one behind it may fit
            raise
        if error is not None:
            raise error

    def close(self) -> None:
        """Close the channel. Sends that wait fail; what is in the buffer may be lost. Idempotent."""
        self._channel.close()
        self._release()
        if self._channel.ready_state == "closed":
            self._on_close()

    # --- what the channel does ---

    def _wanted(self, event_type: object) -> None:
        if not self._listening and isinstance(event_type, type) and issubclass(DCMessage, event_type):
            self._listening = True
            self._backend.call_soon(self._attach)  # when all who want it have had the time to say so

    def _attach(self) -> None:
        if not self._attached:
            self._attached = True
            self._channel.on_message = self._on_message

    def _catch_up(self) -> None:
        if self.ready_state == "open":
            self._on_open()
        elif self.ready_state == "closed":
            self._on_close()

    def _on_open(self) -> None:
        if not self._told_open and not self._told_closed:
            self._told_open = True
            self._emitter.emit(DCOpen())
            self._on_drained()

    def _on_message(self, data: str | bytes) -> None:
        if not self._told_closed:
            self._emitter.emit(DCMessage(data))

    def _on_error(self, error: Exception) -> None:
        self._emitter.emit(DCError(error))

    def _on_close(self) -> None:
        if self._told_closed:
            return
        if self._listening:
            self._attach()  # what was kept came before the end
        self._told_closed = True
        self._release()
        self._emitter.emit(DCClose())
        self._emitter.end_streams()

    def _on_drained(self) -> None:
        while self._waiting:
            data, size, waiter = self._waiting[0]
            if not waiter.done():
                if not self._has_room(size):
                    self._aim()
                    return
                try:
                    self._channel.send(data)
                except Exception as error:
                    waiter.set_result(error)
                else:
                    waiter.set_result(None)
            self._waiting.popleft()

    def _has_room(self, size: int) -> bool:
        return self.ready_state == "open" and self._channel.buffered_amount + size <= self._cap

    def _aim(self) -> None:
        """Have the channel call when there is room for the first in the queue."""
        self._channel.low_threshold = min(self._low, self._cap - self._waiting[0][1])

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for _, _, waiter in waiting:
            if not waiter.done():
                waiter.set_result(DataChannelClosedError(self.ready_state))


_homes: WeakKeyDictionary[Any, Emitter] = WeakKeyDictionary()


def adopt(channel: ChannelHandle, home: Emitter) -> None:
    """The handlers of whatever `DataChannel` goes around `channel` belong to those of `home`, and end with them."""
    _homes[channel] = home


def size_of(name: str, text: str) -> int:
    """Bytes of `text` on the wire. Raises `ValueError` if it holds a lone surrogate, which UTF-8 cannot express."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name} must not hold a lone surrogate") from None


def _checked(channel: Any) -> ChannelHandle:
    if not all(hasattr(channel, name) for name in ("label", "ready_state", "buffered_amount", "send", "close")):
        raise TypeError(f"channel must be a data channel, not {type(channel).__name__}")
    handle: ChannelHandle = channel
    return handle
