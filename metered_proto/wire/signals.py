"""What peers of a room say to each other over `send` and `direct`, before and besides the application's own data.

    {"type": "rtc-description", "description": {"type": "offer" | "answer", "sdp": "…"}}
    {"type": "rtc-ice", "candidate": {"candidate": "…", "sdpMid": …, "sdpMLineIndex": …} | null}
    {"__meteredTrackMeta": {"trackId": "…", "metadata": {…}, "streamId": "…"?, "kind": "audio" | "video"?}}

The first two carry JSEP (RFC 8829), trickled as in RFC 8838; the third says what a track is for, ahead of the
description that carries it. Whatever has one of these shapes is ours: it never reaches the application as data,
not even when it is broken. Reading never fails, and what is kept is bounded.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal, TypeAlias, TypeGuard

import msgspec

from metered_proto.wire.caps import CANDIDATE_CHARS, ID_CHARS, SDP_BYTES, TRACK_METADATA_ENTRIES

RTC_DESCRIPTION: Final = "rtc-description"
RTC_ICE: Final = "rtc-ice"
TRACK_META_KEY: Final = "__meteredTrackMeta"
"""The reserved key: data that holds it is read as track metadata."""

DescriptionType: TypeAlias = Literal["offer", "answer"]
TrackKind: TypeAlias = Literal["audio", "video"]


class RtcDescription(msgspec.Struct, frozen=True):
    """An offer or an answer. Its repr leaves out the SDP, which holds the ICE password."""

    type: DescriptionType
    sdp: str

    def __repr__(self) -> str:
        return f"RtcDescription(type={self.type!r}, sdp=<{len(self.sdp)} characters>)"


class Candidate(msgspec.Struct, frozen=True):
    """One trickled ICE candidate: the attribute's value (RFC 8839 section 5.1), and the section it is for.

    At least one of `sdp_mid` and `sdp_mline_index` is set. `ufrag` tells its ICE generation where the sender said
    so, in `usernameFragment` or in the candidate itself; it is not written to the wire.
    """

    candidate: str
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None
    ufrag: str | None = None


class RtcIce(msgspec.Struct, frozen=True):
    """A trickled candidate; None is the end of candidates."""

    candidate: Candidate | None


class TrackMeta(msgspec.Struct, frozen=True):
    """What the sender says about one of its tracks. `metadata` None clears what was said before.

    `track_id` is the sender's own id for the track. Not every receiver gets to see that id, so `stream_id` and
    `kind` are a second way to find the track.
    """

    track_id: str
    metadata: dict[str, Any] | None = None
    stream_id: str | None = None
    kind: TrackKind | None = None


Signal: TypeAlias = RtcDescription | RtcIce | TrackMeta


class Malformed(msgspec.Struct, frozen=True):
    """It had the shape of a signal, and is none: to be counted and dropped. `reason` quotes nothing of it."""

    reason: str


def looks_like_signal(data: object) -> TypeGuard[dict[str, Any]]:
    """Whether a receiver takes `data` for a signal, well-formed or not, and keeps it from its application."""
    return isinstance(data, dict) and (data.get("type") in (RTC_DESCRIPTION, RTC_ICE) or TRACK_META_KEY in data)


def read_signal(data: object) -> Signal | Malformed | None:
    """The signal that a `direct` carries; `Malformed` for a broken one, None for the application's own data.

    Fields that are not known are ignored. Never raises.
    """
    if not looks_like_signal(data):
        return None
    match data.get("type"):
        case "rtc-description":
            return _description(data.get("description"))
        case "rtc-ice" if "candidate" in data:
            return _ice(data["candidate"])
        case "rtc-ice":
            return Malformed("candidate is missing")
        case _:
            return _track_meta(data[TRACK_META_KEY])


def to_data(signal: Signal) -> dict[str, Any]:
    """The `data` to send for a signal."""
    if isinstance(signal, RtcDescription):
        return {"type": RTC_DESCRIPTION, "description": {"type": signal.type, "sdp": signal.sdp}}
    if isinstance(signal, RtcIce):
        return {"type": RTC_ICE, "candidate": _candidate_data(signal.candidate)}
    body: dict[str, Any] = {"trackId": signal.track_id}
    if signal.metadata is not None:
        body["metadata"] = signal.metadata
    if signal.stream_id is not None:
        body["streamId"] = signal.stream_id
    if signal.kind is not None:
        body["kind"] = signal.kind
    return {TRACK_META_KEY: body}


def is_polite(own_id: str, other_id: str) -> bool:
    """Whether we are the polite side of a negotiation: the one whose id sorts lower, and who gives way.

    Both ends must come to opposite answers alone, so the order is the one JavaScript compares strings by: UTF-16
    code units. Python's order by code points differs where a character above U+FFFF meets one from U+E000 on.
    """
    return _code_units(own_id) < _code_units(other_id)


class TrackMetaCache:
    """What one peer has said about its tracks: at most `limit` of them, the oldest out first.

    It outlives the peer's connections, because a sender that saw no interruption does not repeat itself.
    """

    __slots__ = ("_entries", "_limit")

    def __init__(self, limit: int = TRACK_METADATA_ENTRIES) -> None:
        if limit < 1:
            raise ValueError("limit must be at least 1")
        self._entries: dict[str, TrackMeta] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._entries)

    def apply(self, meta: TrackMeta, max_message_size: int) -> bool:
        """Take in what the peer said; False if it was dropped, because its metadata is no object or too large.

        `max_message_size` is the server's cap in bytes of JSON. New words on a known track replace the old ones in
        their place; they do not make the entry younger.
        """
        if meta.metadata is None:
            self._entries.pop(meta.track_id, None)
            return True
        size = _json_size(meta.metadata)
        if size is None or size > max_message_size:
            return False
        if meta.track_id not in self._entries and len(self._entries) == self._limit:
            del self._entries[next(iter(self._entries))]
        self._entries[meta.track_id] = meta
        return True

    def lookup(
        self,
        msid_track_id: str | None,
        own_track_id: str | None,
        stream_id: str | None,
        kind: str,
        signalled: Collection[str] = (),
    ) -> dict[str, Any] | None:
        """The metadata of a received track, or None.

        It is looked for by the track id signalled for the track's `mid`, then by the id the track has here, then by
        stream and kind, where exactly one entry fits. `signalled` are the track ids that the description names: an
        entry for one of those belongs to that track and to no other.
        """
        for track_id in (msid_track_id, own_track_id):
            if track_id is not None and track_id in self._entries:
                return self._entries[track_id].metadata
        if stream_id is None:
            return None
        fitting = [
            meta
            for meta in self._entries.values()
            if meta.stream_id == stream_id and meta.kind == kind and meta.track_id not in signalled
        ]
        return fitting[0].metadata if len(fitting) == 1 else None

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


def _candidate_data(candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    return {
        "candidate": candidate.candidate,
        "sdpMid": candidate.sdp_mid,
        "sdpMLineIndex": candidate.sdp_mline_index,
    }


def _description(value: object) -> RtcDescription | Malformed:
    if not isinstance(value, dict):
        return Malformed("description is not an object")
    side, sdp = value.get("type"), value.get("sdp")
    if side != "offer" and side != "answer":
        return Malformed("description.type is neither offer nor answer")
    if not isinstance(sdp, str):
        return Malformed("description.sdp is not a string")
    if len(sdp) > SDP_BYTES or (not sdp.isascii() and len(sdp.encode("utf-8", "surrogatepass")) > SDP_BYTES):
        return Malformed("description.sdp is too long")
    return RtcDescription(side, sdp)


def _ice(value: object) -> RtcIce | Malformed:
    if value is None:
        return RtcIce(None)
    if not isinstance(value, dict):
        return Malformed("candidate is neither an object nor null")
    text, mid, index = value.get("candidate"), value.get("sdpMid"), value.get("sdpMLineIndex")
    if not isinstance(text, str):
        return Malformed("candidate.candidate is not a string")
    text = text.strip()
    if not text:
        return RtcIce(None)
    if len(text) > CANDIDATE_CHARS:
        return Malformed("candidate.candidate is too long")
    if not text.isprintable():  # a line break would put lines of the sender's choice into a description
        return Malformed("candidate.candidate holds control characters")
    if mid is not None and not (isinstance(mid, str) and len(mid) <= ID_CHARS):
        return Malformed("candidate.sdpMid is not a short string")
    if index is not None and not (type(index) is int and 0 <= index <= 0xFFFF):
        return Malformed("candidate.sdpMLineIndex is not an unsigned short")
    if mid is None and index is None:
        return Malformed("candidate names no media section")
    return RtcIce(Candidate(text, mid, index, _ufrag(value.get("usernameFragment"), text)))


def _ufrag(fragment: object, candidate: str) -> str | None:
    """The user name fragment of a candidate: beside it (as browsers put it), or among its extension attributes."""
    if isinstance(fragment, str) and 0 < len(fragment) <= ID_CHARS:
        return fragment
    words = candidate.split()[6:]  # foundation, component, transport, priority, address, port; then pairs
    for name, value in zip(words[::2], words[1::2], strict=False):
        if name == "ufrag" and len(value) <= ID_CHARS:
            return value
    return None


def _track_meta(value: object) -> TrackMeta | Malformed:
    if not isinstance(value, dict):
        return Malformed("track metadata is not an object")
    track_id, stream_id, kind = value.get("trackId"), value.get("streamId"), value.get("kind")
    metadata = value.get("metadata")
    if not _is_id(track_id):
        return Malformed("trackId is not a short string")
    if stream_id is not None and not _is_id(stream_id):
        return Malformed("streamId is not a short string")
    if kind is not None and kind != "audio" and kind != "video":
        return Malformed("kind is neither audio nor video")
    if metadata is not None and not isinstance(metadata, dict):
        return Malformed("metadata is not an object")
    return TrackMeta(track_id, metadata, None if stream_id == "-" else stream_id, kind)


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= ID_CHARS


def _code_units(id: str) -> bytes:
    return id.encode("utf-16-be", "surrogatepass")


def _json_size(value: object) -> int | None:
    """How many bytes of JSON `value` makes; None for what is no JSON object, or too deep to be written."""
    if not isinstance(value, dict):
        return None
    try:
        return len(msgspec.json.encode(value))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return None
