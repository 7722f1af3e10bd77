"""Descriptions on their way between aiortc and the wire: what has to be different on the other side.

aiortc reads and writes descriptions that hold for its own calls. Those of browsers, and of others, hold more: sections
that are rejected, payload types and header extensions that must stay what they were once agreed to be (RFC 8829
section 5.2.2), candidates that are still to come. Where it can be done on the connection's own objects it is done
there; what is left is done here, on the text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from aiortc import RTCPeerConnection

from metered_anyio.rtc import private
from metered_proto.errors import PeerConnectionError
from metered_proto.wire.caps import CANDIDATES_PER_NEGOTIATION, MEDIA_SECTIONS

_MEDIA: Final = ("audio", "video")
_SECURITY: Final = ("ice-ufrag", "ice-pwd", "fingerprint", "setup")


class Section:
    """The lines of one media section."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        words = lines[0].removeprefix("m=").split()
        self.kind = words[0] if words else ""
        self.port = words[1] if len(words) > 1 else "0"

    def get(self, name: str) -> str | None:
        """The value of the first attribute of that name."""
        for line in self.lines:
            if line.startswith(f"a={name}:"):
                return line[len(name) + 3 :]
        return None

    def all(self, name: str) -> list[str]:
        """The lines of all attributes of that name."""
        return [line for line in self.lines if line == f"a={name}" or line.startswith(f"a={name}:")]

    def drop(self, *names: str) -> None:
        """Take out all attributes of these names."""
        gone = {line for name in names for line in self.all(name)}
        self.lines = [line for line in self.lines if line not in gone]

    @property
    def mid(self) -> str:
        return (self.get("mid") or "").strip()

    @property
    def rejected(self) -> bool:
        return self.port.partition("/")[0] == "0" and "a=bundle-only" not in self.lines


class Description:
    """A description as lines."""

    def __init__(self, sdp: str) -> None:
        self.session: list[str] = []
        self.sections: list[Section] = []
        for line in sdp.replace("\r\n", "\n").split("\n"):
            if line.startswith("m="):
                self.sections.append(Section([line]))
            elif line:
                (self.sections[-1].lines if self.sections else self.session).append(line)

    def __str__(self) -> str:
        lines = [*self.session, *(line for section in self.sections for line in section.lines)]
        return "\r\n".join(lines) + "\r\n"

    def bundle(self, mids: Iterable[str]) -> None:
        """Name the sections that share the transport."""
        self.session = [line for line in self.session if not line.startswith("a=group:BUNDLE")]
        self.session.append("a=group:BUNDLE " + " ".join(mids))


# --- from the wire ---


def readable(operation: str, sdp: str, fallback: Description | None) -> tuple[str, frozenset[str]]:
    """The remote's description as aiortc can take it, and the mids of the sections that are not to be used.

    Such a section (rejected, or with no codec that we have) becomes an idle one, of ours if this is an answer to our
    offer `fallback`. Raises `PeerConnectionError` for what cannot be a description of a bundled connection.
    """
    description = Description(sdp)
    sections = description.sections
    mids = [section.mid for section in sections]
    if not sections or len(sections) > MEDIA_SECTIONS or "" in mids or len(set(mids)) < len(mids):
        raise PeerConnectionError(operation, "the description names its sections badly, or has none, or too many")
    if any(section.kind not in (*_MEDIA, "application") for section in sections):
        raise PeerConnectionError(operation, "the description has a section of unknown kind")
    unused = frozenset(section.mid for section in sections if section.rejected or not _has_codec(section))
    used = [section for section in sections if section.mid not in unused]
    if not used:
        raise PeerConnectionError(operation, "the description has no section that could be used")
    model = used[0]
    security = [line for name in _SECURITY for line in model.all(name)]
    if not any("fingerprint:" in line for line in (*security, *description.session)):
        raise PeerConnectionError(operation, "the description has no certificate")
    ours = {section.mid: section for section in fallback.sections} if fallback is not None else {}
    for section in sections:
        if section.mid in unused:
            _idle(section, security, ours.get(section.mid))
    # Everything runs over one transport: aiortc takes the candidates of the last section, they are in the first.
    candidates = [line for section in used for line in (*section.all("candidate"), *section.all("end-of-candidates"))]
    for section in sections:
        section.drop("candidate", "end-of-candidates")
    sections[-1].lines += islice(dict.fromkeys(candidates), CANDIDATES_PER_NEGOTIATION)
    description.bundle(mids)
    return str(description), unused


def _has_codec(section: Section) -> bool:
    if section.kind not in _MEDIA:
        return True
    names = {codec.name.lower() for codec in private.CODECS[section.kind] if not private.is_rtx(codec)}
    formats = section.lines[0].split()[3:]
    rtpmaps = {line.split()[1].partition("/")[0].lower() for line in section.all("rtpmap") if len(line.split()) > 1}
    static = {str(codec.payloadType) for codec in private.CODECS[section.kind] if codec.payloadType in range(96)}
    return bool(names & rtpmaps) or bool(static.intersection(formats))


def _idle(section: Section, security: list[str], ours: Section | None) -> None:
    """Make a section that carries nothing, with all that aiortc insists on."""
    mid = section.mid
    if section.kind == "application":
        section.lines = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=sctp-port:5000", f"a=mid:{mid}"]
        section.lines += security
        return
    if ours is not None:
        head, codecs = ours.lines[0], [*ours.all("rtpmap"), *ours.all("fmtp")]
    else:
        codec = private.CODECS[section.kind][0]
        number = codec.payloadType
        head, codecs = f"m={section.kind} 9 UDP/TLS/RTP/SAVPF {number}", [f"a=rtpmap:{number} {codec}"]
    section.lines = [head, "a=inactive", f"a=mid:{mid}", "a=rtcp:9 IN IP4 0.0.0.0", "a=rtcp-mux", *codecs, *security]


# --- to the wire ---


def sendable(sdp: str, *, unused: Collection[str], complete: bool) -> str:
    """Our own description as it is to be sent.

    `unused` are the mids of sections that are rejected; unless `complete`, more candidates follow.
    """
    description = Description(sdp)
    for section in description.sections:
        if section.mid in unused:
            _reject(section)
            continue
        if "a=recvonly" in section.lines or "a=inactive" in section.lines:
            section.drop("msid", "ssrc", "ssrc-group")  # of a track that is not there
        if not complete:
            section.drop("end-of-candidates")
            section.lines.append("a=ice-options:trickle")
    description.bundle(section.mid for section in description.sections if section.mid not in unused)
    return str(description)


def _reject(section: Section) -> None:
    words = section.lines[0].split()
    words[1] = "0"
    section.lines = [" ".join(words), "c=IN IP4 0.0.0.0", "a=inactive", f"a=mid:{section.mid}", *section.all("rtpmap")]


class Numbering:
    """What payload types and header extensions are called on a connection, once that was agreed on."""

    def __init__(self) -> None:
        self._codecs: dict[str, list[Any]] = {}
        self._extensions: dict[str, int] = {}

    def learn(self, transceivers: Iterable[Any]) -> None:
        """Take note of what was negotiated."""
        for transceiver in transceivers:
            if codecs := private.codecs(transceiver):
                self._codecs.setdefault(transceiver.kind, codecs)
            for extension in private.extensions(transceiver):
                self._extensions.setdefault(extension.uri, extension.id)

    def offer(self, sdp: str, pc: RTCPeerConnection, keep: Sequence[tuple[str, Any | None]], role: str) -> str:
        """aiortc's offer, with the names that are in use already.

        `keep` are the sections that have to come first, each with its transceiver (None: data channels).
        Transceivers have what was negotiated for them, or nothing if they are new. `role` is our part in DTLS.
        """
        description = private.SessionDescription.parse(sdp)
        at = {private.section_of(transceiver): transceiver for transceiver in pc.getTransceivers()}
        sections = [
            (at.get(index) if media.kind in _MEDIA else None, media) for index, media in enumerate(description.media)
        ]
        if keep:
            sections = self._arrange(sections, keep, pc)
            description.media = [media for _, media in sections]
            description.group[0].items = [media.rtp.muxId for media in description.media]
        for transceiver, media in sections:
            assert media.dtls is not None  # aiortc wrote it
            media.dtls.role = role
            if transceiver is not None:
                self._name(transceiver, media)
        return str(description)

    def _arrange(
        self, sections: Sequence[tuple[Any | None, Any]], keep: Sequence[tuple[str, Any | None]], pc: RTCPeerConnection
    ) -> list[tuple[Any | None, Any]]:
        arranged: list[tuple[Any | None, Any]] = []
        rest = list(sections)
        for mid, transceiver in keep:
            found = next(each for each in rest if each[0] is transceiver)
            rest.remove(found)
            found[1].rtp.muxId = mid
            arranged.append(found)
        taken = {mid for mid, _ in keep}
        fresh = (str(number) for number in range(10_000) if str(number) not in taken)
        for found in rest:
            found[1].rtp.muxId = next(fresh)
            arranged.append(found)
        for index, (transceiver, _) in enumerate(arranged):
            private.put_section(pc, transceiver, index)
        return arranged

    def _name(self, transceiver: Any, media: Any) -> None:
        if private.codecs(transceiver):
            media.rtp.codecs = private.codecs(transceiver)
            media.rtp.headerExtensions = private.extensions(transceiver)
        else:
            media.rtp.codecs = self._codecs_of(media.kind, media.rtp.codecs)
            for extension in media.rtp.headerExtensions:
                extension.id = self._extension_id(extension.uri)
        media.fmt = [codec.payloadType for codec in media.rtp.codecs]

    def _extension_id(self, uri: str) -> int:
        if uri not in self._extensions:
            taken = set(self._extensions.values())
            # aiortc's own order, as far as nobody else has the number.
            self._extensions[uri] = next(n for n in range(1, 256) if n not in taken and n != 15)
        return self._extensions[uri]

    def _codecs_of(self, kind: str, defaults: list[Any]) -> list[Any]:
        if kind in self._codecs:
            return self._codecs[kind]
        taken = {codec.payloadType for codecs in self._codecs.values() for codec in codecs}
        free = (number for number in (*range(96, 128), *range(35, 64)) if number not in taken)
        renamed: dict[int, int] = {}
        for codec in defaults:
            number = codec.payloadType
            if number in taken:
                renamed[number] = codec.payloadType = next(
                    n for n in free if n not in {other.payloadType for other in defaults}
                )
        for codec in defaults:
            if codec.parameters.get("apt") in renamed:
                codec.parameters = {**codec.parameters, "apt": renamed[codec.parameters["apt"]]}
        return defaults


def reason_of(error: Exception) -> str:
    """What went wrong in aiortc, without a word of the description that it might quote."""
    return type(error).__name__
