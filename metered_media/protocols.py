"""What a source may be opened with: addresses taken apart, and what FFmpeg is allowed to do with them.

FFmpeg chooses a protocol and a container from whatever it is given. A string can make it read other files (`concat:`,
`subfile,,…`) or fetch other addresses (`http:`), and so can the content of a file (playlists). So nothing goes to it
that was not taken apart here: a path becomes a `file:` of an absolute path, an address must be of a protocol that was
allowed, and FFmpeg is told to use no others on the way, and no container that refers to other files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):|(subfile),")
"""How FFmpeg finds a protocol in a string. One letter is a drive of Windows."""

_AUTHORITY: Final = re.compile(r"\A([A-Za-z][A-Za-z0-9+.\-]*://)[^/?#\s]*@")
_ASKED: Final = re.compile(r"[?#].*\Z", re.DOTALL)

LONGEST: Final = 4096
"""Characters of an address, so that no error and no log grows with what a stranger wrote."""

_BELOW: Final = {
    "file": ("file",),
    "rtsp": ("rtsp", "rtp", "tcp", "udp"),
    "rtsps": ("rtsps", "rtsp", "rtp", "tls", "tcp", "udp"),
    "http": ("http", "tcp"),
    "https": ("https", "tls", "tcp", "httpproxy"),
}
"""Which protocols of FFmpeg one of them is made of. Any other is made of itself."""

CONTAINERS: Final = (
    *(
        "mov",
        "mp4",
        "m4a",
        "3gp",
        "3g2",
        "mj2",
        "matroska",
        "webm",
        "avi",
        "flv",
        "asf",
        "mpegts",
        "mpeg",
        "mxf",
        "nut",
    ),
    *("ogg", "wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ac3", "amr", "ivf", "dv", "gif", "apng"),
    *("h264", "hevc", "m4v", "mpegvideo", "mjpeg", "mpjpeg", "yuv4mpegpipe", "obu"),
)
"""Containers by FFmpeg's names: those that hold their media themselves. Playlists and scripts are not among them."""


@dataclass(frozen=True, slots=True)
class Address:
    """What was asked for, taken apart. `url` is for FFmpeg alone and may hold credentials; `shown` holds none.

    `path` is set for a file of this machine. `allowed` says whether its protocol was.
    """

    url: str
    scheme: str
    shown: str
    path: Path | None
    allowed: bool


def take_apart(asked: str | Path, protocols: Iterable[str]) -> Address:
    """Find out what an address asks for. A `Path` is always a file of this machine."""
    text = str(asked)
    found = _SCHEME.match(text) if isinstance(asked, str) else None
    scheme = "file" if found is None else (found[1] or found[2]).lower()
    allowed = scheme in tuple(protocols) and "\0" not in text and len(text) <= LONGEST
    if scheme != "file":
        return Address(text, scheme, without_credentials(text), None, allowed)
    path = Path(text if found is None else re.sub(r"\A//(?=/)", "", text[found.end() :]))
    return Address(f"file:{path.absolute()}", "file", _short(str(path)), path, allowed)


def protocol_whitelist(scheme: str, protocols: Iterable[str] = ()) -> str:
    """What FFmpeg's option of that name has to be for an address of this scheme.

    What the address leads to may use the network only if the address does, and nothing but what was allowed.
    """
    names = [*_BELOW.get(scheme, (scheme,))]
    if scheme != "file":
        for other in protocols:
            # A redirection from one host to another, say; but never from the network to a file.
            names += _BELOW.get(other, (other,)) if other != "file" else ()
    return ",".join(dict.fromkeys(names))


def format_whitelist() -> str:
    """What FFmpeg's option of that name has to be, unless the caller names a container."""
    return ",".join(CONTAINERS)


def without_credentials(address: str) -> str:
    """An address as it may be shown: no user, no password, and nothing of its query, where cameras have them too."""
    return _short(_ASKED.sub("?…", _AUTHORITY.sub(r"\1", address)))


def _short(text: str) -> str:
    text = "".join(each if each.isprintable() else "·" for each in text[: LONGEST + 1])
    return text if len(text) <= 200 else f"{text[:199]}…"
