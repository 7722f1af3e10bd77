"""A data channel of aiortc as the application sees it: `EngineChannel`.

The application's half (state, callbacks, what is kept) and the engine's half (the `RTCDataChannel`) may live in two
threads. Methods that start with `engine_` belong to the latter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from metered_anyio.rtc import private_sctp
from metered_anyio.rtc.crossing import Crossing
from metered_anyio.rtc.engine import ReadyState
from metered_proto.errors import DataChannelClosedError
from metered_proto.facts import Fact
from metered_proto.rtc.words import ChannelClosed, ChannelOpened, ChannelOptions

KEPT_MESSAGES: Final = 256
KEPT_BYTES: Final = 1_048_576
"""What is kept for a listener that is still to come."""


class EngineChannel:
    """See `metered_anyio.rtc.engine.ChannelHandle`.

    `own`: we opened it. Such a channel outlives its connection until it has been open: it is moved to the next one.
    """

    def __init__(
        self, number: int, options: ChannelOptions, crossing: Crossing, report: Callable[[Fact], None], *, own: bool
    ) -> None:
        self.number = number
        self._options = options
        self._crossing = crossing
        self._report = report
        self._own = own
        self._state: ReadyState = "connecting"
        self._id: int | None = None
        self._max_message_size = 0  # 0: no bound
        self._listener: Callable[[str | bytes], object] | None = None
        self._kept: deque[str | bytes] = deque()
        self._kept_bytes = 0
        self.messages_lost = 0
        self._low = 0
        self._above = False
        # Bytes on their way to the engine. Each is written by one side alone.
        self._handed = 0
        self._taken = 0
        self._dc: Any = None  # the engine's half
        self.on_end: Callable[[], object] | None = None  # for the engine
        self.on_open: Callable[[], object] | None = None
        self.on_close: Callable[[], object] | None = None
        self.on_error: Callable[[Exception], object] | None = None
        self.on_drained: Callable[[], object] | None = None

    # --- what it is ---

    @property
    def label(self) -> str:
        return self._options.label

    @property
    def protocol(self) -> str:
        return self._options.protocol

    @property
    def ordered(self) -> bool:
        return self._options.ordered

    @property
    def max_retransmits(self) -> int | None:
        return self._options.max_retransmits

    @property
    def max_packet_life_time(self) -> int | None:
        return self._options.max_packet_life_time

    @property
    def id(self) -> int | None:
        return self._id

    @property
    def ready_state(self) -> ReadyState:
        return self._state

    @property
    def buffered_amount(self) -> int:
        dc = self._dc
        return self._handed - self._taken + (0 if dc is None else int(dc.bufferedAmount))

    @property
    def low_threshold(self) -> int:
        return self._low

    @low_threshold.setter
    def low_threshold(self, value: int) -> None:
        self._low = value
        # In another thread the buffer may sink while this is being said, and nobody would notice.
        self._above = self._crossing.threaded or self.buffered_amount > value
        self._crossing.to_engine(self.engine_aim, value)

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
        if self._state != "open":
            raise DataChannelClosedError(self._state)
        size = len(data.encode() if isinstance(data, str) else data)
        if self._max_message_size and size > self._max_message_size:
            raise ValueError(f"the message has {size} bytes, the remote takes at most {self._max_message_size}")
        self._handed += size
        self._crossing.to_engine(self.engine_send, data, size)
        if self.buffered_amount > self._low:
            self._above = True

    def close(self) -> None:
        if self._state == "closed" or self._state == "closing":
            return
        self._state = "closing"
        self._crossing.to_engine(self.engine_close)

    def abandon(self) -> None:
        """Its connection is closed for good: this is its end, unless it has never been open and may move."""
        if self._state != "connecting" or not self._own:
            self._closed()

    def finish(self) -> None:
        """The engine closes: this is its end in any case."""
        self._closed()

    # --- what happened to it ---

    def _opened(self, id: int | None, max_message_size: int) -> None:
        if self._state != "connecting":
            return
        self._state, self._id, self._max_message_size = "open", id, max_message_size
        if self._own:
            self._report(ChannelOpened(self.number))
        if self.on_open is not None:
            self.on_open()

    def _closed(self) -> None:
        if self._state == "closed":
            return
        self._state = "closed"
        if self.on_end is not None:
            self.on_end()
        if self._own:
            self._report(ChannelClosed(self.number))
        if self.on_close is not None:
            self.on_close()

    def _failed(self, error: Exception) -> None:
        if self.on_error is not None:
            self.on_error(error)

    def _came(self, data: str | bytes) -> None:
        if self._listener is not None:
            self._listener(data)
            return
        self._kept.append(data)
        self._kept_bytes += len(data)
        while len(self._kept) > KEPT_MESSAGES or (self._kept_bytes > KEPT_BYTES and len(self._kept) > 1):
            self._kept_bytes -= len(self._kept.popleft())
            self.messages_lost += 1

    def _drained(self) -> None:
        if self._above and self.buffered_amount <= self._low:
            self._above = False
            if self.on_drained is not None:
                self.on_drained()

    # --- the engine's half ---

    def engine_bind(self, dc: Any) -> None:
        """From now on this `RTCDataChannel` is the channel."""
        if self._state in ("closing", "closed"):
            dc.close()
            self._crossing.to_app(self._closed)
            return
        self._dc = dc

        def now(happened: Callable[..., None]) -> Callable[..., None]:
            def handler(*args: Any) -> None:
                if self._dc is dc:  # and not one that it has moved away from
                    happened(*args)

            return handler

        dc.on("open", now(self._engine_opened))
        dc.on("close", now(self._engine_closed))
        dc.on("message", now(self._engine_message))
        dc.on("bufferedamountlow", now(self._engine_drained))
        dc.bufferedAmountLowThreshold = self._low
        if dc.readyState == "open":
            self._engine_opened()

    def engine_leave(self, dc: Any) -> None:
        """The connection of `dc` is closing."""
        if self._dc is dc:
            self._dc = None
            self._crossing.to_app(self.abandon)

    def engine_aim(self, threshold: int) -> None:
        if self._dc is not None:
            self._dc.bufferedAmountLowThreshold = threshold
            if self._crossing.threaded:
                self._engine_drained()

    def engine_send(self, data: str | bytes, size: int) -> None:
        self._taken += size
        # It may have closed while this message was on its way here. Then it is lost like any that was in the buffer.
        if self._dc is not None and self._dc.readyState == "open":
            try:
                self._dc.send(data)
            except Exception as error:
                self._crossing.to_app(self._failed, error)
        if self._crossing.threaded:
            self._engine_drained()

    def engine_close(self) -> None:
        if self._dc is None:
            self._crossing.to_app(self._closed)
        else:
            self._dc.close()

    def _engine_opened(self) -> None:
        self._crossing.to_app(self._opened, self._dc.id, private_sctp.largest_message(self._dc))

    def _engine_closed(self) -> None:
        # Together with all others, or was it the remote that closed this one?
        with_connection = self._dc.transport.state == "closed"
        self._dc = None
        self._crossing.to_app(self.abandon if with_connection else self._closed)

    def _engine_message(self, data: str | bytes) -> None:
        self._crossing.to_app(self._came, data)

    def _engine_drained(self) -> None:
        if self._dc is None or self._dc.bufferedAmount <= self._low:
            self._crossing.to_app(self._drained)
