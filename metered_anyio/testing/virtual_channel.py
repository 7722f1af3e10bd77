"""A data channel in memory, as the application sees it: `VirtualChannel`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from metered_anyio.rtc.engine import ReadyState
from metered_proto.errors import DataChannelClosedError
from metered_proto.facts import Fact
from metered_proto.rtc.words import ChannelClosed, ChannelOpened, ChannelOptions

if TYPE_CHECKING:
    from metered_anyio.testing.virtual_engine import VirtualConnection

KEPT_MESSAGES: Final = 256
KEPT_BYTES: Final = 1_048_576
"""What is kept for a listener that is still to come."""


class VirtualChannel:
    """See `metered_anyio.rtc.engine.ChannelHandle`.

    Messages leave at once while the path is there. Else they wait in the buffer, or are lost where the channel does not
    promise their arrival.
    """

    def __init__(self, number: int, options: ChannelOptions, report: Callable[[Fact], None], *, own: bool) -> None:
        self.number = number
        self.options = options
        self.asked = False  # whether the other end was told
        self.on_end: Callable[[], object] | None = None
        self.on_open: Callable[[], object] | None = None
        self.on_close: Callable[[], object] | None = None
        self.on_error: Callable[[Exception], object] | None = None
        self.on_drained: Callable[[], object] | None = None
        self.low_threshold = 0
        self._report = report
        self._own = own
        self._state: ReadyState = "connecting"
        self._connection: VirtualConnection | None = None
        self._other: VirtualChannel | None = None
        self._id: int | None = None
        self._listener: Callable[[str | bytes], object] | None = None
        self._kept: deque[str | bytes] = deque()
        self._kept_bytes = 0
        self._buffer: deque[tuple[str | bytes, int]] = deque()
        self._buffered = 0

    # --- what it is ---

    @property
    def label(self) -> str:
        return self.options.label

    @property
    def protocol(self) -> str:
        return self.options.protocol

    @property
    def ordered(self) -> bool:
        return self.options.ordered

    @property
    def max_retransmits(self) -> int | None:
        return self.options.max_retransmits

    @property
    def max_packet_life_time(self) -> int | None:
        return self.options.max_packet_life_time

    @property
    def id(self) -> int | None:
        return self._id

    @property
    def ready_state(self) -> ReadyState:
        return self._state

    @property
    def buffered_amount(self) -> int:
        return self._buffered

    @property
    def on_message(self) -> Callable[[str | bytes], object] | None:
        return self._listener

    @on_message.setter
    def on_message(self, listener: Callable[[str | bytes], object] | None) -> None:
        self._listener = listener
        while self._kept and self._listener is not None:
            self._kept_bytes -= len(self._kept[0])
            self._listener(self._kept.popleft())

    # --- what it does ---

    def send(self, data: str | bytes) -> None:
        if self._state != "open" or self._connection is None:
            raise DataChannelClosedError(self._state)
        size = len(data.encode() if isinstance(data, str) else data)
        if self._connection.passes and not self._buffer:
            self._carry(data, size)
        elif self.max_retransmits is None and self.max_packet_life_time is None:
            self._buffer.append((data, size))
            self._buffered += size

    def close(self) -> None:
        if self._state in ("closing", "closed"):
            return
        self._state = "closing"
        other, connection = self._other, self._connection
        if connection is None or other is None:
            self._close_soon()
            return

        def closed(_: VirtualConnection) -> None:
            other._closed()
            self._close_soon()

        connection.to_other(12, closed)

    # --- what happens to it ---

    def move(self, connection: VirtualConnection) -> None:
        """It is a channel of this connection from now on."""
        self._connection = connection

    def opened(self, other: VirtualChannel) -> None:
        """Both ends know each other."""
        if self._state == "closing":
            self._closed()
            other._closed()
        if self._state != "connecting":
            return
        self._state, self._other = "open", other
        self._id = max(self.number, other.number)
        if self._own:
            self._report(ChannelOpened(self.number))
        if self.on_open is not None:
            self.on_open()

    def flush(self) -> None:
        """The path is there again."""
        if not self._buffer:
            return
        above = self._buffered > self.low_threshold
        while self._buffer:
            data, size = self._buffer.popleft()
            self._buffered -= size
            self._carry(data, size)
        if above and self.on_drained is not None:
            self.on_drained()

    def abandon(self) -> None:
        """Its connection is closed for good: this is its end, unless it has never been open and may move."""
        if self._state != "connecting" or not self._own:
            self._closed()

    def finish(self) -> None:
        """The engine closes: this is its end in any case."""
        self._closed()

    def _carry(self, data: str | bytes, size: int) -> None:
        other, connection = self._other, self._connection
        if other is not None and connection is not None:
            connection.to_other(size, lambda _: other._came(data))

    def _came(self, data: str | bytes) -> None:
        if self._state not in ("open", "connecting"):
            return
        if self._listener is not None:
            self._listener(data)
            return
        self._kept.append(data)
        self._kept_bytes += len(data)
        while len(self._kept) > KEPT_MESSAGES or (self._kept_bytes > KEPT_BYTES and len(self._kept) > 1):
            self._kept_bytes -= len(self._kept.popleft())

    def _close_soon(self) -> None:
        if self._connection is None:
            self._closed()
        else:
            self._connection.engine.hub.timetable.after(0, self._closed)

    def _closed(self) -> None:
        if self._state == "closed":
            return
        self._state = "closed"
        self._buffer.clear()
        self._buffered = 0
        if self.on_end is not None:
            self.on_end()
        if self._own:
            self._report(ChannelClosed(self.number))
        if self.on_close is not None:
            self.on_close()
