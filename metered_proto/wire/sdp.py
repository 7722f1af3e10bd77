"""Facts read from a session description (SDP, RFC 8866, as JSEP uses it, RFC 8829).

A negotiation needs to know a few things about the other side's description: which stream and track a media
section carries, which ICE generation it belongs to, what was rejected, who plays which part in DTLS. Those are
read here, and nothing else: the connection itself parses the text in full.

The text comes from a peer and may be anything at all. Reading never fails: a line that makes no sense is passed
over, a value over its cap reads as absent, and what is kept is bounded. The ICE password is not kept.

Stream and track ids are read for each media section (`a=msid`, RFC 8830). The session's `a=msid-semantic` is of
no use for it, since Chromium and Safari list only their first stream there.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from metered_proto.wire.caps import ID_CHARS, MEDIA_SECTIONS, SDP_BYTES

Direction: TypeAlias = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
"""Who sends, seen from the author of the description (RFC 8866 section 6.7)."""

Setup: TypeAlias = Literal["active", "passive", "actpass", "holdconn"]
"""The author's part in the DTLS handshake (RFC 8842)."""


class Msid(NamedTuple):
    """One `a=msid` (RFC 8830): the stream a track belongs to, and the track's id at its sender.

    `stream_id` is None for a track without a stream (`-` on the wire); `track_id` is None where none was given.
    """

    stream_id: str | None
    track_id: str | None


class Codec(msgspec.Struct, frozen=True):
    """One `a=rtpmap`. `clock_rate` is in Hz, `channels` is 1 where the description gives none."""

    name: str
    clock_rate: int
    channels: int = 1


class MediaSection(msgspec.Struct, frozen=True):
    """What one `m=` line and the attributes below it say, with the session's values where it has none of its own.

    `rejected` is a zero port, unless `bundle_only` says that the section rides on another one's transport
    (RFC 9143). `codecs` maps payload types to codecs in the order of preference, `extensions` the ids of RTP
    header extensions to their URIs (RFC 8285). `candidates` counts the ICE candidates written into the section.
    """

    index: int
    kind: str
    mid: str | None = None
    rejected: bool = False
    bundle_only: bool = False
    direction: Direction = "sendrecv"
    msids: tuple[Msid, ...] = ()
    ice_ufrag: str | None = None
    setup: Setup | None = None
    has_fingerprint: bool = False
    codecs: dict[int, Codec] = {}
    extensions: dict[int, str] = {}
    candidates: int = 0
    end_of_candidates: bool = False


class SdpFacts(msgspec.Struct, frozen=True):
    """What a session description says.

    `bundles` holds the mids of each `a=group:BUNDLE` (RFC 9143), `trickle` whether its author trickles
    candidates (RFC 8840). `truncated` tells that sections or text over the cap were left unread.
    """

    media: tuple[MediaSection, ...] = ()
    bundles: tuple[tuple[str, ...], ...] = ()
    trickle: bool = False
    truncated: bool = False


def read_sdp(text: str) -> SdpFacts:
    """Read a session description. Lines may end in CRLF or LF. Never raises."""
    truncated = len(text) > SDP_BYTES
    session = _Lines()
    sections: list[tuple[str, _Lines]] = []
    current = session
    bundles: list[tuple[str, ...]] = []
    for raw in text[:SDP_BYTES].split("\n"):
        line = raw.removesuffix("\r")
        if line.startswith("m="):
            if len(sections) == MEDIA_SECTIONS:
                truncated = True
                break
            current = _Lines()
            sections.append((line[2:], current))
        elif line.startswith("a="):
            name, _, value = line[2:].partition(":")
            if name == "group" and current is session:
                if len(bundles) < MEDIA_SECTIONS:
                    bundles += _bundle(value)
            else:
                current.take(name, value)
    return SdpFacts(
        media=tuple(_section(index, head, lines, session) for index, (head, lines) in enumerate(sections)),
        bundles=tuple(bundles),
        trickle=session.trickle or any(lines.trickle for _, lines in sections),
        truncated=truncated,
    )


def ufrags(facts: SdpFacts) -> tuple[str, ...]:
    """The ICE user name fragments of the sections that are in use, each once, in the order of the sections."""
    return tuple(dict.fromkeys(s.ice_ufrag for s in facts.media if s.ice_ufrag is not None and not s.rejected))


def same_ice_generation(a: SdpFacts, b: SdpFacts) -> bool:
    """Whether two descriptions of one author belong to the same ICE generation (RFC 8839 section 4.4.1.1.1).

    A restart changes every fragment, so where one stayed there was none. Going section by section would find
    restarts that never were: once a bundle is agreed on, all its sections take over the fragment of the first.
    A description without any fragment tells nothing, and counts as the same generation.
    """
    before, after = ufrags(a), ufrags(b)
    return not before or not after or not set(before).isdisjoint(after)


def track_for_mid(facts: SdpFacts, mid: str) -> Msid | None:
    """The stream and track that the section called `mid` carries, or None if it names none (or there is none)."""
    for section in facts.media:
        if section.mid == mid:
            return section.msids[0] if section.msids else None
    return None


def track_ids(facts: SdpFacts) -> frozenset[str]:
    """The ids of all tracks that the description names."""
    return frozenset(msid.track_id for s in facts.media for msid in s.msids if msid.track_id is not None)


_DIRECTIONS: Final[dict[str, Direction]] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}
_SETUPS: Final[dict[str, Setup]] = {
    "active": "active",
    "passive": "passive",
    "actpass": "actpass",
    "holdconn": "holdconn",
}

_MSIDS: Final = 64  # streams that one track may belong to
_KIND_CHARS: Final = 64
_CODEC_CHARS: Final = 64
_PAYLOAD_TYPES: Final = 127
_EXTENSION_IDS: Final = 255  # the two-byte form of RFC 8285; the one-byte form ends at 14


class _Lines:
    """The attributes of one section (or of the session) while they are read. Of a repeated one the first counts."""

    __slots__ = (
        "bundle_only",
        "candidates",
        "direction",
        "end_of_candidates",
        "extensions",
        "has_fingerprint",
        "ice_ufrag",
        "mid",
        "msids",
        "rtpmaps",
        "setup",
        "ssrc_msids",
        "trickle",
    )

    def __init__(self) -> None:
        self.mid: str | None = None
        self.bundle_only = False
        self.direction: Direction | None = None
        self.msids: dict[Msid, None] = {}
        self.ssrc_msids: dict[Msid, None] = {}
        self.ice_ufrag: str | None = None
        self.setup: Setup | None = None
        self.has_fingerprint = False
        self.rtpmaps: dict[int, Codec] = {}
        self.extensions: dict[int, str] = {}
        self.candidates = 0
        self.end_of_candidates = False
        self.trickle = False

    def take(self, name: str, value: str) -> None:
        match name:
            case "candidate":
                self.candidates += 1
            case "rtpmap":
                self._rtpmap(value)
            case "extmap":
                self._extmap(value)
            case "msid":
                _add_msid(self.msids, value)
            case "ssrc":
                # Before unified plan the ids were an attribute of the source: `a=ssrc:<n> msid:<stream> <track>`.
                attribute = value.partition(" ")[2]
                if attribute.startswith("msid:"):
                    _add_msid(self.ssrc_msids, attribute[5:])
            case "mid":
                self.mid = self.mid or _token(value)
            case "ice-ufrag":
                self.ice_ufrag = self.ice_ufrag or _token(value)
            case "ice-options":
                self.trickle = self.trickle or "trickle" in value.split()
            case "setup":
                self.setup = self.setup or _SETUPS.get(value.strip())
            case "fingerprint":
                self.has_fingerprint = True
            case "end-of-candidates":
                self.end_of_candidates = True
            case "bundle-only":
                self.bundle_only = True
            case _:
                self.direction = self.direction or _DIRECTIONS.get(name.strip())

    def _rtpmap(self, value: str) -> None:
        number, _, rest = value.partition(" ")
        payload_type = _number(number, _PAYLOAD_TYPES)
        name, _, rates = rest.strip().partition("/")
        rate, _, channels = rates.partition("/")
        clock_rate = _number(rate, 2**31)
        if payload_type is not None and clock_rate is not None and 0 < len(name) <= _CODEC_CHARS:
            self.rtpmaps.setdefault(payload_type, Codec(name, clock_rate, _number(channels, 255) or 1))

    def _extmap(self, value: str) -> None:
        number, _, rest = value.partition(" ")
        local_id = _number(number.partition("/")[0], _EXTENSION_IDS)  # `<id>/<direction>`
        uri = _token(rest.strip().partition(" ")[0])
        if local_id and uri is not None:
            self.extensions.setdefault(local_id, uri)


def _section(index: int, head: str, lines: _Lines, session: _Lines) -> MediaSection:
    """One media section out of what follows `m=` (`<kind> <port> <proto> <formats>`) and its attributes."""
    kind, _, rest = head.partition(" ")
    port, _, formats = rest.partition(" ")
    return MediaSection(
        index=index,
        kind=kind[:_KIND_CHARS],
        mid=lines.mid,
        # A port that cannot be read is as good as none.
        rejected=not _number(port.partition("/")[0], 65535) and not lines.bundle_only,
        bundle_only=lines.bundle_only,
        direction=lines.direction or session.direction or "sendrecv",
        msids=tuple(lines.msids or lines.ssrc_msids),
        ice_ufrag=lines.ice_ufrag or session.ice_ufrag,
        setup=lines.setup or session.setup,
        has_fingerprint=lines.has_fingerprint or session.has_fingerprint,
        codecs=_preferred(formats, lines.rtpmaps),
        extensions={**session.extensions, **lines.extensions},
        candidates=lines.candidates,
        end_of_candidates=lines.end_of_candidates or session.end_of_candidates,
    )


def _preferred(formats: str, rtpmaps: dict[int, Codec]) -> dict[int, Codec]:
    """The codecs in the order of the `m=` line, which is the author's order of preference; others do not count."""
    codecs: dict[int, Codec] = {}
    for text in formats.split():
        payload_type = _number(text, _PAYLOAD_TYPES)
        if payload_type is not None and payload_type in rtpmaps:
            codecs[payload_type] = rtpmaps[payload_type]
    return codecs


def _bundle(value: str) -> list[tuple[str, ...]]:
    """The mids of `a=group:BUNDLE <mid> …`; no group at all for other semantics."""
    semantics, *mids = value.split()[: MEDIA_SECTIONS + 1] or [""]
    return [tuple(mid for mid in mids if len(mid) <= ID_CHARS)] if semantics == "BUNDLE" else []


def _add_msid(msids: dict[Msid, None], value: str) -> None:
    """Note `<stream> [<track>]`. A pair with an id over the cap is left out whole: half of it would mislead."""
    parts = value.split(maxsplit=2)
    if not parts or len(msids) >= _MSIDS:
        return
    stream, track = parts[0], parts[1] if len(parts) > 1 else None
    if len(stream) <= ID_CHARS and len(track or "") <= ID_CHARS:
        msids[Msid(None if stream == "-" else stream, track)] = None


def _token(value: str) -> str | None:
    """A value that must be one word of bounded length; None where it is not."""
    value = value.strip()
    return value if 0 < len(value) <= ID_CHARS and not any(c.isspace() for c in value) else None


def _number(text: str, most: int) -> int | None:
    """A whole number of at most ten ASCII digits, from 0 to `most`; None for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number <= most else None
