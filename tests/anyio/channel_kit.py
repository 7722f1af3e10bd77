"""A data channel's handle that follows a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class ScriptedHandle:
    """As `metered_anyio.rtc.engine.ChannelHandle`. What is sent stays in the buffer until `drain`."""

    def __init__(self, ready_state: str = "open") -> None:
        self.label = "chat"
        self.protocol = ""
        self.ordered = True
        self.max_retransmits: int | None = None
        self.max_packet_life_time: int | None = None
        self.id: int | None = 1
        self.ready_state = ready_state
        self.low_threshold = 0
        self.sent: list[str | bytes] = []
        self.kept: list[str | bytes] = []
        self.on_open: Callable[[], Any] | None = None
        self.on_close: Callable[[], Any] | None = None
        self.on_error: Callable[[Exception], Any] | None = None
        self.on_drained: Callable[[], Any] | None = None
        self._on_message: Callable[[str | bytes], Any] | None = None
        self._drained = 0
        self.refuses: Exception | None = None

    @property
    def on_message(self) -> Callable[[str | bytes], Any] | None:
        return self._on_message

    @on_message.setter
    def on_message(self, listener: Callable[[str | bytes], Any]) -> None:
        self._on_message = listener
        while self.kept:
            listener(self.kept.pop(0))

    @property
    def buffered_amount(self) -> int:
        return sum(len(data) for data in self.sent) - self._drained

    def send(self, data: str | bytes) -> None:
        if self.refuses is not None:
            raise self.refuses
        assert self.ready_state == "open"
        self.sent.append(data)

    def close(self) -> None:
        if self.ready_state != "closed":
            self.ready_state = "closing"

    # --- what the network does ---

    def open(self) -> None:
        self.ready_state = "open"
        assert self.on_open is not None
        self.on_open()

    def drain(self, count: int) -> None:
        before = self.buffered_amount
        self._drained += min(count, before)
        if before > self.low_threshold >= self.buffered_amount:
            assert self.on_drained is not None
            self.on_drained()

    def receive(self, data: str | bytes) -> None:
        if self._on_message is None:
            self.kept.append(data)
        else:
            self._on_message(data)

    def closed(self) -> None:
        self.ready_state = "closed"
        assert self.on_close is not None
        self.on_close()
