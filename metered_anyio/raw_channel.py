"""An `RTCDataChannel` of aiortc, whose owner made it without us, as the handle that `DataChannel` goes around."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

KEPT: Final = 256
"""Messages that are kept until somebody listens; the oldest goes first."""


def is_raw_channel(channel: object) -> bool:
    """Whether this is a channel as the W3C names its parts, and aiortc with it."""
    return all(hasattr(channel, name) for name in ("readyState", "bufferedAmount", "on", "send", "close"))


class RawChannel:
    """See `metered_anyio.rtc.engine.ChannelHandle`. It lives on the channel's own asyncio loop."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._kept: list[str | bytes] = []
        self._listener: Callable[[str | bytes], object] | None = None
        self.on_open: Callable[[], object] | None = None
        self.on_close: Callable[[], object] | None = None
        self.on_error: Callable[[Exception], object] | None = None
        self.on_drained: Callable[[], object] | None = None
        channel.on("open", self._opened)
        channel.on("close", self._closed)
        channel.on("error", self._failed)
        channel.on("bufferedamountlow", self._drained)
        channel.on("message", self._came)

    def _opened(self) -> None:
        if self.on_open is not None:
            self.on_open()

    def _closed(self) -> None:
        if self.on_close is not None:
            self.on_close()

    def _failed(self, error: Exception) -> None:
        if self.on_error is not None:
            self.on_error(error)

    def _drained(self) -> None:
        if self.on_drained is not None:
            self.on_drained()

    def _came(self, data: str | bytes) -> None:
        if self._listener is not None:
            self._listener(data)
        else:
            self._kept = [*self._kept[1 - KEPT :], data]

    @property
    def on_message(self) -> Callable[[str | bytes], object] | None:
        """Who gets the messages, first of all those that came before."""
        return self._listener

    @on_message.setter
    def on_message(self, listener: Callable[[str | bytes], object] | None) -> None:
        self._listener = listener
        if listener is not None:
            kept, self._kept = self._kept, []
            for data in kept:
                listener(data)

    @property
    def label(self) -> str:
        """Its name."""
        return str(self._channel.label)

    @property
    def protocol(self) -> str:
        """Its subprotocol."""
        return str(self._channel.protocol)

    @property
    def ordered(self) -> bool:
        """Whether messages arrive in the order in which they were sent."""
        return bool(self._channel.ordered)

    @property
    def max_retransmits(self) -> int | None:
        """How often a message is sent again, if that is bounded."""
        return self._channel.maxRetransmits  # type: ignore[no-any-return]

    @property
    def max_packet_life_time(self) -> int | None:
        """For how many milliseconds a message is sent again, if that is bounded."""
        return self._channel.maxPacketLifeTime  # type: ignore[no-any-return]

    @property
    def id(self) -> int | None:
        """The stream's number, once there is one."""
        return self._channel.id  # type: ignore[no-any-return]

    @property
    def ready_state(self) -> str:
        """`connecting`, `open`, `closing` or `closed`."""
        return str(self._channel.readyState)

    @property
    def buffered_amount(self) -> int:
        """Bytes that are not on the network yet."""
        return int(self._channel.bufferedAmount)

    @property
    def low_threshold(self) -> int:
        """`on_drained` is called when the buffer sinks to this many bytes."""
        return int(self._channel.bufferedAmountLowThreshold)

    @low_threshold.setter
    def low_threshold(self, value: int) -> None:
        self._channel.bufferedAmountLowThreshold = value

    def send(self, data: str | bytes) -> None:
        """Send at once."""
        self._channel.send(data)

    def close(self) -> None:
        """Close. Idempotent."""
        if self._channel.readyState not in ("closing", "closed"):
            self._channel.close()
