"""Where a client writes its log: anything with four methods.

`NoopLogger` is the default. `StdlibLogger` goes to `logging`, whose loggers `metered_proto`, `metered_anyio` and
`metered_media` say which layer speaks: the machines that decide, what drives them, the media on top. With no handler
configured it is quiet below warnings, as always there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

_log = logging.getLogger("metered_anyio")


class Logger(Protocol):
    """A message for people, and a context of plain values for machines. Neither ever holds a secret."""

    def debug(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> object:
        """For whoever debugs this library."""
        ...

    def info(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> object:
        """State changes and the like."""
        ...

    def warning(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> object:
        """Something went wrong and is being dealt with."""
        ...

    def error(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> object:
        """Something went wrong for good."""
        ...


class NoopLogger:
    """Says nothing."""

    def debug(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        """Ignore."""

    info = warning = error = debug


class ContainedLogger:
    """Another logger, whose own failures go no further: a log that breaks must not break what it tells about.

    Raises `TypeError` for what is no logger.
    """

    def __init__(self, logger: Logger) -> None:
        # Not by isinstance: from Python 3.12 on that would miss what an object makes up by __getattr__.
        if not all(callable(getattr(logger, level, None)) for level in ("debug", "info", "warning", "error")):
            raise TypeError(f"a logger needs debug, info, warning and error, which {type(logger).__name__} lacks")
        self._logger = logger

    def of(self, layer: str) -> ContainedLogger:
        """What another layer logs to: the same, unless the logger tells them apart."""
        return ContainedLogger(self._logger.of(layer)) if isinstance(self._logger, StdlibLogger) else self

    def debug(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        """As `Logger.debug`."""
        self._contain(self._logger.debug, msg, ctx)

    def info(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        """As `Logger.info`."""
        self._contain(self._logger.info, msg, ctx)

    def warning(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        """As `Logger.warning`."""
        self._contain(self._logger.warning, msg, ctx)

    def error(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        """As `Logger.error`."""
        self._contain(self._logger.error, msg, ctx)

    def _contain(self, write: Callable[..., object], msg: str, ctx: Mapping[str, Any] | None) -> None:
        try:
            write(msg, ctx)
        except Exception:
            _log.exception("a logger failed")


class StdlibLogger:
    """Writes to the standard library's loggers, the context as `key=value` behind the message.

    Without a `logger`, each layer has its own; with one, all of them write to that.
    """

    def __init__(self, logger: logging.Logger | str | None = None) -> None:
        self._by_layer = logger is None
        self._logger = logger if isinstance(logger, logging.Logger) else logging.getLogger(logger or "metered_anyio")

    def of(self, layer: str) -> StdlibLogger:
        """What another layer writes to."""
        return StdlibLogger(layer) if self._by_layer else self

    def debug(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        """`logging.DEBUG`."""
        self._log(logging.DEBUG, msg, ctx)

    def info(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        """`logging.INFO`."""
        self._log(logging.INFO, msg, ctx)

    def warning(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        """`logging.WARNING`."""
        self._log(logging.WARNING, msg, ctx)

    def error(self, msg: str, ctx: Mapping[str, Any] | None = None, /) -> None:
        """`logging.ERROR`."""
        self._log(logging.ERROR, msg, ctx)

    def _log(self, level: int, msg: str, ctx: Mapping[str, Any] | None) -> None:
        if self._logger.isEnabledFor(level):
            context = "".join(f" {key}={value!r}" for key, value in (ctx or {}).items())
            self._logger.log(level, "%s%s", msg, context, stacklevel=3)
