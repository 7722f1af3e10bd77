"""STUN and TURN servers out of `welcome.metadata.iceServers`, held to bounds because somebody else wrote them."""

from __future__ import annotations

import re
from typing import Final

from metered_proto.events import IceServer

MAX_ICE_SERVERS: Final = 16
"""Entries in the list, and addresses in one entry."""

MAX_ICE_URL: Final = 512
MAX_ICE_CREDENTIAL: Final = 1024
"""Characters of an address, and of a user name or credential."""


def parse_ice_servers(value: object) -> tuple[IceServer, ...]:
    """Read a list of RTCIceServer dictionaries (W3C WebRTC section 4.2.4). Never raises.

    Any bad entry drops the lot: half a list would send media another way than its author meant. Bad is an
    address that is not `stun:`, `stuns:`, `turn:` or `turns:` with a host (RFC 7064, RFC 7065), anything over its
    bound or of a wrong type, and, as in browsers (`InvalidAccessError`), a TURN server without user name and
    credential. `null` for either counts as absent; members that are not known are ignored.
    """
    if not isinstance(value, list) or len(value) > MAX_ICE_SERVERS:
        return ()
    servers: list[IceServer] = []
    for entry in value:
        if (server := _parse_entry(entry)) is None:
            return ()
        servers.append(server)
    return tuple(servers)


# An address holds no user name: what stands before an @ would end up in logs.
_ICE_URL: Final = re.compile(
    r"(stuns?|turns?):(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?(?:\?[a-z0-9_=&-]*)?", re.IGNORECASE
)


def _parse_entry(entry: object) -> IceServer | None:
    if not isinstance(entry, dict):
        return None
    urls = entry.get("urls")
    if isinstance(urls, str):
        urls = [urls]
    if not isinstance(urls, list) or not 1 <= len(urls) <= MAX_ICE_SERVERS:
        return None
    schemes = [_scheme(url) for url in urls]
    username, credential = entry.get("username"), entry.get("credential")
    if None in schemes or not _good_secret(username) or not _good_secret(credential):
        return None
    if ("turn" in schemes or "turns" in schemes) and not (username and credential):
        return None
    return IceServer(tuple(urls), username, credential)


def _scheme(url: object) -> str | None:
    if not isinstance(url, str) or len(url) > MAX_ICE_URL or not (found := _ICE_URL.fullmatch(url)):
        return None
    return found[1].lower() if int(found[2] or 0) <= 65_535 else None


def _good_secret(text: object) -> bool:
    return text is None or (isinstance(text, str) and len(text) <= MAX_ICE_CREDENTIAL)
