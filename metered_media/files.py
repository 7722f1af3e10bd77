"""`from_file` and `open_file`: a media file, or anything with `read`, as a source."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

from metered_anyio.logger import Logger
from metered_media.checking import check_flags, check_format, check_number, check_options, check_protocols
from metered_media.errors import SourceOpenError
from metered_media.opening import Origin
from metered_media.player import Player, open_player
from metered_media.protocols import format_whitelist, protocol_whitelist, take_apart
from metered_media.readable import Readable
from metered_media.reading import Plan

MediaFile: TypeAlias = str | os.PathLike[str] | BinaryIO
"""A path, an address whose protocol is allowed, or a binary object with `read` (and `seek`, for most containers)."""


def from_file(
    file: MediaFile,
    *,
    loop: bool = False,
    passthrough: bool = False,
    fallback: bool = True,
    protocols: Collection[str] = ("file",),
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    open_timeout: float = 10.0,
    logger: Logger | None = None,
) -> Player:
    """A media file as a source. Returns at once and opens in the background; it plays in real time, from when the
    first of its tracks is read, and stands still while none is.

    With `loop` it begins anew whenever it ends, and its time goes on. With `passthrough` its H.264, VP8 and Opus are
    sent without being decoded; what cannot be is decoded after all, unless `fallback` is false.

    `file` opens files of this machine unless `protocols` says otherwise (`http`, `https`, …), whatever is written in
    it, and only containers that hold their media themselves. `input_format` names a container of FFmpeg, also one that
    refers to others (`hls`), and `options` are for its demuxer.

    Raises `SourceOpenError` if there is no such file or its protocol was not allowed; all else that goes wrong is in
    `error`, and ends the tracks. Raises `TypeError` and `ValueError` for what cannot be.
    """
    check_flags(loop=loop, passthrough=passthrough, fallback=fallback)
    check_number("open_timeout", open_timeout, 0.05, 3600)
    origin = _origin(file, loop, protocols, input_format, options)
    plan = Plan(
        live=False,
        loop=loop,
        passthrough=passthrough,
        fallback=fallback,
        open_timeout=open_timeout,
        stall_timeout=None if origin.kind == "file" else open_timeout,
    )
    return Player(origin, plan, logger)


async def open_file(
    file: MediaFile,
    *,
    timeout: float = 10.0,
    loop: bool = False,
    passthrough: bool = False,
    fallback: bool = True,
    protocols: Collection[str] = ("file",),
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    logger: Logger | None = None,
) -> Player:
    """`from_file`, once it is open. Raises `SourceOpenError` if that fails or takes longer than `timeout` seconds, and
    `PassthroughError` if it is to be sent as it is, cannot be, and `fallback` is false."""
    return await open_player(
        lambda: from_file(
            file,
            loop=loop,
            passthrough=passthrough,
            fallback=fallback,
            protocols=protocols,
            input_format=input_format,
            options=options,
            open_timeout=timeout,
            logger=logger,
        ),
        timeout,
    )


def _origin(
    file: MediaFile,
    loop: bool,
    protocols: Collection[str],
    input_format: str | None,
    options: Mapping[str, str] | None,
) -> Origin:
    check_format(input_format)
    allowed = check_protocols(protocols)
    given = check_options(options)
    if input_format is None:
        given.setdefault("format_whitelist", format_whitelist())
    if callable(getattr(file, "read", None)):
        if isinstance(file, io.TextIOBase):
            raise TypeError("file must be opened in binary mode, with 'rb'")
        readable = Readable(file)
        if loop and not readable.can_seek:
            raise ValueError("a file that cannot seek cannot loop")
        # What it refers to would be opened by FFmpeg itself.
        given.setdefault("protocol_whitelist", ",".join(("none", *(one for one in allowed if one != "file"))))
        name = getattr(file, "name", None)
        shown = take_apart(Path(name), ()).shown if isinstance(name, str) else f"<{type(file).__name__}>"
        return Origin(readable, shown, "file", input_format, given, restricted=input_format is None)
    if not isinstance(file, (str, os.PathLike)):
        raise TypeError(f"file must be a path or have a read method, not {type(file).__name__}")
    if not os.fspath(file):
        raise ValueError("file must not be an empty path")
    address = take_apart(file if isinstance(file, str) else Path(file), allowed)
    if not address.allowed:
        raise SourceOpenError(address.shown, "not_allowed", f"{address.scheme} is not among the protocols allowed")
    given.setdefault("protocol_whitelist", protocol_whitelist(address.scheme, allowed))
    if address.path is None:
        return Origin(address.url, address.shown, "network", input_format, given, restricted=input_format is None)
    if not address.path.exists():
        raise SourceOpenError(address.shown, "not_found", "there is no such file")
    if not address.path.is_file():
        # Opening a pipe would wait for its other end, and nothing could end that.
        raise SourceOpenError(address.shown, "unreadable", "it is not a regular file; open it, and give the open file")
    return Origin(address.url, address.shown, "file", input_format, given, restricted=input_format is None)
