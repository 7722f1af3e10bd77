"""What a command sends: one word for a camera, a file, a device, and what becomes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from metered_anyio.cli.common import Misuse
from metered_anyio.cli.screen import printable
from metered_media.protocols import without_credentials
from metered_proto.wire.scrub import scrub

if TYPE_CHECKING:
    from metered_media.player import Player

SourceKind: TypeAlias = Literal["camera", "microphone", "screen", "rtsp", "http", "file"]

_DEVICE: Final = re.compile(r"(camera|microphone|screen)(?::(.+))?", re.DOTALL)


class Transport(StrEnum):
    """How RTSP carries media."""

    tcp = "tcp"
    udp = "udp"
    udp_multicast = "udp_multicast"
    http = "http"


@dataclass(frozen=True, slots=True)
class Source:
    """A source by its word. `what` is a path, an address or a device; None is the first device there is."""

    kind: SourceKind
    what: str | None

    @property
    def shown(self) -> str:
        """It for people, without credentials."""
        if self.what is None:
            return self.kind
        return printable(scrub(without_credentials(self.what)))

    @property
    def ends(self) -> bool:
        """Whether it has an end that is no failure."""
        return self.kind in ("file", "http")


def parse_source(text: str) -> Source:
    """`rtsp://…`, `http(s)://…`, `camera`, `microphone`, `screen` (with `:DEVICE` behind it), or a file.

    Raises `Misuse` for nothing.
    """
    if not text:
        raise Misuse("SOURCE must be a file, an address or a device")
    device = _DEVICE.fullmatch(text)
    if device is not None:
        return Source(device[1], device[2])  # type: ignore[arg-type]  # one of the three
    scheme = text.partition("://")[0].lower()
    if scheme in ("rtsp", "rtsps"):
        return Source("rtsp", text)
    if scheme in ("http", "https"):
        return Source("http", text)
    return Source("file", text)


async def open_source(source: Source, *, loop: bool, passthrough: bool, transport: Transport, timeout: float) -> Player:
    """A player. Raises `SourceOpenError`, `PassthroughError`."""
    import metered_media

    what = source.what or ""
    match source.kind:
        case "rtsp":
            return await metered_media.open_rtsp(
                what, transport=transport.value, reconnect=True, passthrough=passthrough, timeout=timeout
            )
        case "camera":
            return await metered_media.open_camera(source.what, timeout=timeout)
        case "microphone":
            return await metered_media.open_microphone(source.what, timeout=timeout)
        case "screen":
            return await metered_media.open_screen(source.what, timeout=timeout)
        case "http":
            return await metered_media.open_file(
                what, loop=loop, passthrough=passthrough, protocols=("http", "https"), timeout=timeout
            )
        case "file":
            return await metered_media.open_file(what, loop=loop, passthrough=passthrough, timeout=timeout)
