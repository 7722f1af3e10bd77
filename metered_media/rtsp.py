"""`from_rtsp` and `open_rtsp`: a camera on the network as a source, one that heals if wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, TypeAlias

import av

from metered_anyio.logger import Logger
from metered_media.checking import check_flags, check_format, check_number, check_options, check_protocols
from metered_media.errors import SourceOpenError
from metered_media.opening import Origin
from metered_media.player import Player, open_player
from metered_media.protocols import format_whitelist, protocol_whitelist, take_apart
from metered_media.reading import Plan

Transport: TypeAlias = Literal["tcp", "udp", "udp_multicast", "http"]
"""How RTP comes from an RTSP server (RFC 2326, 12.39): within its connection, by UDP, by multicast, or tunnelled."""

Placeholder: TypeAlias = Literal["last", "black"] | av.VideoFrame | None
"""What is shown while a camera is away: its last picture, black, a picture of your own, or nothing new."""

TRANSPORTS: Final = ("tcp", "udp", "udp_multicast", "http")
PROTOCOLS: Final = ("rtsp", "rtsps", "http", "https")

_PROMPT: Final = {"analyzeduration": "2000000", "max_delay": "100000", "fpsprobesize": "0"}
"""What keeps FFmpeg from collecting before it gives anything. What it has seen when it is open is not thrown away: the
first key frame is in it, and the next may be seconds away."""


def from_rtsp(
    url: str,
    *,
    transport: Transport = "tcp",
    reconnect: bool = False,
    placeholder: Placeholder = "last",
    stall_timeout: float = 5.0,
    passthrough: bool = False,
    fallback: bool = True,
    protocols: Collection[str] = PROTOCOLS,
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    open_timeout: float = 10.0,
    logger: Logger | None = None,
) -> Player:
    """An RTSP or HTTP stream as a source. Returns at once and connects in the background. It is live: frames come as
    they arrive, and a reader that is slow gets the newest.

    With `reconnect` a camera that cannot be reached, ends, fails or says nothing for `stall_timeout` seconds is tried
    again for as long as anybody has its tracks. They stay the same, `placeholder` is shown meanwhile, their time goes
    on, and `SourceLost` and `SourceRestored` tell of it.

    With `passthrough` H.264 is sent without being decoded; what cannot be is decoded, unless `fallback` is false. While
    such a camera is away viewers keep its last picture.

    `url` is only opened if it is one of `protocols`. `options` are for FFmpeg's demuxer.

    Raises `SourceOpenError` if its protocol was not allowed. All else is in `error`, and ends the tracks. Raises
    `ValueError` for another `transport`, and `TypeError` and `ValueError` for whatever else cannot be.
    """
    if transport not in TRANSPORTS:
        raise ValueError(f"transport must be one of {', '.join(TRANSPORTS)}, not {transport!r}")
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    check_flags(reconnect=reconnect, passthrough=passthrough, fallback=fallback)
    check_format(input_format)
    check_number("stall_timeout", stall_timeout, 0.1, 3600)
    check_number("open_timeout", open_timeout, 0.05, 3600)
    if isinstance(placeholder, str) and placeholder not in ("last", "black"):
        raise ValueError(f"placeholder must be last, black, a frame or None, not {placeholder!r}")
    if not isinstance(placeholder, (str, av.VideoFrame)) and placeholder is not None:
        raise TypeError(f"placeholder must be last, black, a frame or None, not {type(placeholder).__name__}")
    allowed = tuple(one for one in check_protocols(protocols) if one != "file")
    address = take_apart(url, allowed)
    if not address.allowed:
        raise SourceOpenError(address.shown, "not_allowed", f"{address.scheme} is not among the protocols allowed")
    given = _PROMPT | check_options(options)
    given.setdefault(
        "protocol_whitelist", protocol_whitelist(address.scheme, _along(address.scheme, allowed, transport))
    )
    if address.scheme in ("rtsp", "rtsps"):
        input_format = input_format or "rtsp"
        given["rtsp_transport"] = transport
    elif input_format is None:
        given.setdefault("format_whitelist", format_whitelist())
    origin = Origin(address.url, address.shown, "network", input_format, given, restricted=True)
    plan = Plan(
        live=True,
        reconnect=reconnect,
        passthrough=passthrough,
        fallback=fallback,
        placeholder=placeholder if reconnect else None,
        open_timeout=open_timeout,
        stall_timeout=stall_timeout,
    )
    return Player(origin, plan, logger)


async def open_rtsp(
    url: str,
    *,
    timeout: float = 10.0,
    transport: Transport = "tcp",
    reconnect: bool = False,
    placeholder: Placeholder = "last",
    stall_timeout: float = 5.0,
    passthrough: bool = False,
    fallback: bool = True,
    protocols: Collection[str] = PROTOCOLS,
    input_format: str | None = None,
    options: Mapping[str, str] | None = None,
    logger: Logger | None = None,
) -> Player:
    """`from_rtsp`, once it is open. Raises `SourceOpenError` if that fails or takes longer than `timeout` seconds, also
    with `reconnect`, and `PassthroughError` if it is to be sent as it is, cannot be, and `fallback` is false."""
    return await open_player(
        lambda: from_rtsp(
            url,
            transport=transport,
            reconnect=reconnect,
            placeholder=placeholder,
            stall_timeout=stall_timeout,
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


def _along(scheme: str, allowed: tuple[str, ...], transport: str) -> tuple[str, ...]:
    """What else may be used on the way. An RTSP server has no business with HTTP, unless it is tunnelled."""
    if scheme in ("rtsp", "rtsps"):
        return ("http", "https") if transport == "http" else ()
    return tuple(one for one in allowed if one in ("http", "https"))
