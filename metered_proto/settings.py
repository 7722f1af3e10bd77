"""Options: frozen, and validated when they are made, so that a bad value is an error at the caller's line."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from metered_proto.wire.urls import check_credential, check_url


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} is far too large") from None
    if math.isnan(number):
        raise ValueError(f"{name} must not be NaN")
    return number


def check_duration(name: str, value: object) -> float:
    """A duration in seconds that has to come to an end: finite and above zero."""
    number = _number(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a finite number of seconds above 0, not {number:g}")
    return number


def check_count(name: str, value: object) -> int:
    """A whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


class ReconnectOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a lost connection is brought back.

    The n-th attempt waits `min(initial_delay * multiplier ** (n - 1), max_delay)` seconds, give or take
    `jitter_ratio` of that. After `max_attempts` failures in a row (`math.inf`: never) the client gives up.
    `retry_first` lets the very first `connect()` climb the same ladder instead of failing at once, for a device
    that boots before its network does.
    """

    initial_delay: float = 0.5
    multiplier: float = 2.0
    max_delay: float = 30.0
    jitter_ratio: float = 0.2
    max_attempts: float = 100
    retry_first: bool = False

    def __post_init__(self) -> None:
        check_duration("initial_delay", self.initial_delay)
        if not 1 <= _number("multiplier", self.multiplier) < math.inf:
            raise ValueError(f"multiplier must be finite and at least 1, not {self.multiplier:g}")
        if check_duration("max_delay", self.max_delay) < self.initial_delay:
            raise ValueError("max_delay must not be shorter than initial_delay")
        if not 0 <= _number("jitter_ratio", self.jitter_ratio) <= 1:
            raise ValueError(f"jitter_ratio must be between 0 and 1, not {self.jitter_ratio:g}")
        attempts = _number("max_attempts", self.max_attempts)
        if attempts < 1 or (attempts != math.inf and attempts != int(attempts)):
            raise ValueError(f"max_attempts must be a whole number of at least 1, or infinite, not {attempts:g}")
        if not isinstance(self.retry_first, bool):
            raise TypeError("retry_first must be True or False")


class SubscribeOptions(msgspec.Struct, frozen=True):
    """`include_sender_metadata`: have each message stamped with what its sender's token says about the sender."""

    include_sender_metadata: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.include_sender_metadata, bool):
            raise TypeError("include_sender_metadata must be True or False")


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a signalling client's machine has to know. Durations are float seconds.

    `api_key` None means that a token is fetched before every attempt. An `inactivity_timeout` of zero, below
    zero or infinity turns the keepalive off.
    """

    api_key: str | None
    url: str = "wss://rms.metered.ca"
    reconnect: ReconnectOptions | None = ReconnectOptions()
    inactivity_timeout: float = 60.0
    token_provider_timeout: float = 10.0
    auto_resubscribe: bool = True
    open_timeout: float = 10.0
    welcome_timeout: float = 10.0
    ack_timeout: float = 15.0

    def __post_init__(self) -> None:
        if self.api_key is not None:
            check_credential("api_key", self.api_key)
        check_url(self.url)
        if self.reconnect is not None and not isinstance(self.reconnect, ReconnectOptions):
            raise TypeError(f"reconnect must be ReconnectOptions or a bool, not {type(self.reconnect).__name__}")
        _number("inactivity_timeout", self.inactivity_timeout)
        for name in ("token_provider_timeout", "open_timeout", "welcome_timeout", "ack_timeout"):
            check_duration(name, getattr(self, name))
        if not isinstance(self.auto_resubscribe, bool):
            raise TypeError("auto_resubscribe must be True or False")

    def __repr__(self) -> str:
        return f"ClientSettings(url={self.url!r}, api_key={'***' if self.api_key else None})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec has one of its own, for the rich library, and it would show the key.
        return [("url", self.url), ("api_key", "***" if self.api_key else None)]


Overflow: TypeAlias = Literal["drop_oldest", "drop_newest", "reject"]
"""What a full outbox does: let go of the oldest message that is not on its way, of the new one, or refuse the call."""

OVERFLOWS: Final[tuple[Overflow, ...]] = get_args(Overflow)


class BatchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How an outbox makes one publish of several messages in a row to the same channel.

    A batch goes out once it holds `max_messages`, once the next message would take it over `max_bytes` (or over the
    server's cap), once a message to another channel stands behind it, or when its oldest message was enqueued
    `max_delay` seconds ago.
    """

    max_messages: int = 100
    max_delay: float = 1.0
    max_bytes: int = 32_768

    def __post_init__(self) -> None:
        check_count("max_messages", self.max_messages)
        check_duration("max_delay", self.max_delay)
        check_count("max_bytes", self.max_bytes)


class Outbox(msgspec.Struct, frozen=True, kw_only=True):
    """Messages wait here for a connection, and leave it once the server has acknowledged them.

    At most `max_messages` of `max_bytes` altogether are held, those on their way included; `overflow` says what
    gives way when there are more. A message older than `max_age` seconds that is not on its way is let go; after a
    restart its age is told by the system's clock, so a clock that was set meanwhile changes it.

    With a `path` messages are kept in a file and survive the process; without one they live as long as the client.
    `batch` puts several messages into one publish.

    At most `rate` publishes a second go out, `burst` of them at once (None: as fast as they come); what the
    application publishes past the outbox is not counted. `window` publishes may wait for their acknowledgement at a
    time, and with a rate no more than `burst` either: when a path has stalled, everything on it arrives at once, and
    must not be over the server's own limit then.
    """

    max_messages: int = 10_000
    max_bytes: int = 16 * 1024 * 1024
    max_age: float | None = None
    overflow: Overflow = "drop_oldest"
    path: Any = None
    """A `str` or an `os.PathLike`."""
    batch: BatchOptions | None = None
    rate: float | None = 90.0
    burst: int = 100
    window: int = 256

    def __post_init__(self) -> None:
        for name in ("max_messages", "max_bytes", "burst", "window"):
            check_count(name, getattr(self, name))
        for name in ("max_age", "rate"):
            if getattr(self, name) is not None:
                check_duration(name, getattr(self, name))
        if self.overflow not in OVERFLOWS:
            raise ValueError(f"overflow must be one of {', '.join(OVERFLOWS)}, not {self.overflow!r}")
        if self.path is not None and not isinstance(self.path, str) and not hasattr(self.path, "__fspath__"):
            raise TypeError(f"path must be a str or an os.PathLike, not {type(self.path).__name__}")
        if self.batch is not None and not isinstance(self.batch, BatchOptions):
            raise TypeError(f"batch must be BatchOptions, not {type(self.batch).__name__}")
