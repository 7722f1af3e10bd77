"""The options that everything with a signalling connection takes: as one object, checked, and made into settings."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from metered_anyio.logger import Logger
from metered_proto.client.deduplicator import Deduplicator
from metered_proto.settings import Outbox, ReconnectOptions, check_count
from metered_proto.wire.scrub import scrub_url

TokenProviderFn: TypeAlias = Callable[[], Awaitable[str]]
"""Asked for a token (a JWT) before every attempt to connect."""


SMALLEST_RING: Final = 1 << 20
"""Bytes. In less than that there is hardly room for what a machine has in its head."""


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """Where a recording goes, and how large it may become.

    `path` is a file, or a directory in which each client gets a file of its own. With `max_bytes` no more than the
    newest so many bytes are kept, in two files: when the first is half as large it becomes `NAME.1`, and a new one
    begins, which can be replayed by itself.
    """

    path: str | os.PathLike[str]
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) and not hasattr(self.path, "__fspath__"):
            raise TypeError(f"path must be a str or an os.PathLike, not {type(self.path).__name__}")
        if not os.fspath(self.path):
            raise ValueError("path must not be empty")
        if self.max_bytes is not None and check_count("max_bytes", self.max_bytes) < SMALLEST_RING:
            raise ValueError(f"max_bytes must be at least {SMALLEST_RING}")


Record: TypeAlias = RecordOptions | str | os.PathLike[str] | None


def where_to_record(record: Record) -> RecordOptions | None:
    """What was asked for, or else what METERED_RECORD says: a directory, or nothing.

    Raises `TypeError` or `ValueError`, and `NotADirectoryError` where the file's directory is not there.
    """
    if record is None:
        directory = os.environ.get("METERED_RECORD")
        if not directory:
            return None
        os.makedirs(directory, exist_ok=True)
        return RecordOptions(directory)
    options = record if isinstance(record, RecordOptions) else RecordOptions(record)
    if not os.path.isdir(os.path.dirname(os.path.abspath(options.path))):
        raise NotADirectoryError(errno.ENOTDIR, "no directory for a recording", os.fspath(options.path))
    return options


@dataclass(frozen=True, kw_only=True, slots=True)
class SignallingClientOptions:
    """The options of `SignallingClient` as one object. Durations are float seconds; see there."""

    api_key: str | None = None
    token_provider: TokenProviderFn | None = None
    url: str = "wss://rms.metered.ca"
    token_provider_timeout: float = 10.0
    logger: Logger | None = None
    reconnect: ReconnectOptions | bool = True
    inactivity_timeout: float = 60.0
    auto_resubscribe: bool = True
    ssl_context: ssl.SSLContext | None = None
    outbox: Outbox | None = None
    deduplicate: Deduplicator | bool = False
    record: Record = None

    def __repr__(self) -> str:
        # What is wrong with a url is said when it is used; until then it may hold anything, a credential as well.
        credential = "api_key" if self.api_key else "token_provider"
        return f"SignallingClientOptions(url={scrub_url(str(self.url))!r}, {credential}=***)"


def checked(options: SignallingClientOptions | None, keywords: SignallingClientOptions) -> SignallingClientOptions:
    """The options as they were given, one way or the other, after all checks that settings do not do themselves.

    Raises `TypeError` or `ValueError`, neither of which shows what an option holds.
    """
    if options is None:
        options = keywords
    elif not isinstance(options, SignallingClientOptions):
        raise TypeError(f"options must be SignallingClientOptions, not {type(options).__name__}")
    elif keywords != SignallingClientOptions():
        raise TypeError("give options as one object or as keywords, not both")
    if (options.api_key is None) == (options.token_provider is None):
        raise ValueError("exactly one of api_key and token_provider must be given")
    if options.token_provider is not None and not callable(options.token_provider):
        raise TypeError("token_provider must be callable")
    if options.ssl_context is not None and not isinstance(options.ssl_context, ssl.SSLContext):
        raise TypeError(f"ssl_context must be an ssl.SSLContext, not {type(options.ssl_context).__name__}")
    if options.outbox is not None and not isinstance(options.outbox, Outbox):
        raise TypeError(f"outbox must be an Outbox, not {type(options.outbox).__name__}")
    if not isinstance(options.deduplicate, Deduplicator | bool):
        raise TypeError(f"deduplicate must be a Deduplicator or a bool, not {type(options.deduplicate).__name__}")
    if options.reconnect is None:  # which would pass for False in the settings
        raise TypeError("reconnect must be ReconnectOptions or a bool, not NoneType")
    return options


def settings_from(options: SignallingClientOptions) -> dict[str, Any]:
    """The fields of `ClientSettings` that options decide."""
    reconnect = options.reconnect
    return {
        "api_key": options.api_key,
        "url": options.url,
        "reconnect": ReconnectOptions() if reconnect is True else None if reconnect is False else reconnect,
        "inactivity_timeout": options.inactivity_timeout,
        "token_provider_timeout": options.token_provider_timeout,
        "auto_resubscribe": options.auto_resubscribe,
    }
