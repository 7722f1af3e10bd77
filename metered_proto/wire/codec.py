"""Text to frames and back, for both ends of the wire.

Decoding never raises for what a remote sent. Nearly every frame takes the short way through one typed decoder.
What that refuses is looked at again, slowly: an optional field of a wrong shape reads as absent, a lone
surrogate (which browsers do send, escaped) becomes U+FFFD, and only what is bad even then is reported as bad.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import msgspec

from metered_proto.wire.channels import MAX_REQUEST_ID
from metered_proto.wire.messages import AnyClientFrame, AnyServerFrame

JsonObject: TypeAlias = dict[str, Any]

_CLIENT_TYPES = frozenset({"subscribe", "unsubscribe", "publish", "send", "ping"})
_SERVER_TYPES = frozenset({"welcome", "ack", "error", "message", "direct", "presence", "going_away", "pong"})

# What the decoders raise for bad text: msgspec's errors and bad UTF-8 are ValueErrors; nesting too deep for the
# interpreter is a RecursionError.
_BAD_TEXT = (ValueError, RecursionError)


class Malformed(msgspec.Struct, frozen=True):
    """A frame that cannot be used. `code` is `unknown_type` or `malformed_message`; `reason` never quotes the frame.

    `request_id` is what the frame carried, where it could be read, so that a server can say whom it refuses.
    """

    code: str
    reason: str
    request_id: str | None = None


encode_frame: Callable[[Any], bytes] = msgspec.json.Encoder().encode
"""A frame as the UTF-8 JSON that goes into one text message."""

_decode_server: Callable[[str | bytes], AnyServerFrame] = msgspec.json.Decoder(AnyServerFrame).decode
_TEXT_ONLY = frozenset({str})
_decode_client: Callable[[str], AnyClientFrame] = msgspec.json.Decoder(AnyClientFrame).decode


def decode_server_frame(text: str | bytes) -> AnyServerFrame | Malformed:
    """Read what a server sent. A binary message is `Malformed`."""
    if type(text) is str:
        try:
            return _decode_server(text)
        except _BAD_TEXT:
            pass
    return _mend_server_frame(text)


def decode_server_frames(texts: Sequence[str | bytes]) -> Sequence[AnyServerFrame | Malformed]:
    """Read all that one read of the link brought: `decode_server_frame` for each, at two thirds of the price."""
    try:
        if _TEXT_ONLY.issuperset(map(type, texts)):
            return list(map(_decode_server, texts))
    except _BAD_TEXT:
        pass
    return [decode_server_frame(text) for text in texts]


def decode_client_frame(text: str | bytes) -> AnyClientFrame | Malformed:
    """Read what a client sent. A binary message is `Malformed`."""
    if type(text) is str:
        try:
            return _decode_client(text)
        except _BAD_TEXT:
            pass
    return _mend_client_frame(text)


def encode_data(data: object) -> bytes:
    """Serialize application data to JSON.

    Raises `TypeError` for what JSON cannot express and `ValueError` for NaN, infinities, lone surrogates and
    nesting too deep, instead of sending something else in their place.
    """
    try:
        encoded = encode_frame(data)
    except RecursionError:
        raise ValueError("data is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("data holds a lone surrogate, which UTF-8 cannot express") from None
    # NaN and the infinities would go out as null. Walking the data costs more than encoding it, so look only where a
    # null came out at all. Backwards, because CPython finds nothing that way in a third of the time.
    if encoded.rfind(b"null") >= 0 and _has_non_finite(data):
        raise ValueError("data holds NaN or an infinity, which JSON cannot express")
    return encoded


# --- the slow way -------------------------------------------------------------------------------------------

# Every escape in a JSON text, one after the other, so that an escaped backslash is never taken for the start of
# the next one. The group catches a surrogate without its other half.
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def _without_lone_surrogates(text: str) -> str:
    return _ESCAPES.sub(lambda found: "\\ufffd" if found[1] else found[0], text)


def _read_object(text: str) -> JsonObject | Malformed:
    try:
        value = msgspec.json.decode(text)
    except _BAD_TEXT:
        return Malformed("malformed_message", "not JSON")
    return value if isinstance(value, dict) else Malformed("malformed_message", "not a JSON object")


def _mend_server_frame(text: str | bytes) -> AnyServerFrame | Malformed:
    if isinstance(text, bytes):
        return Malformed("malformed_message", "a binary message")
    frame = _read_object(_without_lone_surrogates(text))
    if isinstance(frame, Malformed):
        return frame
    kind = frame.get("type")
    if not isinstance(kind, str) or kind not in _SERVER_TYPES:
        return Malformed("unknown_type", "an unknown frame type")
    for name in _WHOLE:
        if isinstance(frame.get(name), float):
            frame[name] = int(frame[name])
    _drop_misshapen(frame)
    for name in ("joined", "left"):
        for peer in frame.get(name, ()):
            if isinstance(peer, dict):
                _drop_misshapen(peer)
    try:
        return cast(AnyServerFrame, msgspec.convert(frame, AnyServerFrame))
    except _BAD_TEXT:
        return Malformed("malformed_message", f"a malformed {kind}")


# Fields that a frame can do without, whatever its type, and the types that JSON may have for them.
_OPTIONAL: dict[str, tuple[type, ...]] = {
    "metadata": (dict,),
    "fromMetadata": (dict,),
    "joined": (list,),
    "left": (list,),
    "expiresAt": (int,),
    "serverTime": (int,),
    "maxMessageSize": (int,),
    "retryAfterMs": (int, float),
    "requestId": (str,),
    "message": (str,),
}
_WHOLE = ("expiresAt", "serverTime", "maxMessageSize")


def _drop_misshapen(fields: JsonObject) -> None:
    for name, types in _OPTIONAL.items():
        if name in fields and type(fields[name]) not in types:
            del fields[name]


def _mend_client_frame(text: str | bytes) -> AnyClientFrame | Malformed:
    if isinstance(text, bytes):
        return Malformed("malformed_message", "a binary message")
    mended = _without_lone_surrogates(text)
    try:
        return _decode_client(mended)
    except _BAD_TEXT:
        frame = _read_object(mended)
    if isinstance(frame, Malformed):
        return frame
    kind = frame.get("type")
    given = frame.get("requestId")
    request_id = given if isinstance(given, str) and 1 <= len(given) <= MAX_REQUEST_ID else None
    if not isinstance(kind, str) or kind not in _CLIENT_TYPES:
        return Malformed("unknown_type", "an unknown frame type", request_id)
    return Malformed("malformed_message", f"a malformed {kind}", request_id)


def _has_non_finite(data: object) -> bool:
    # What is serialized already (`msgspec.Raw`) is the caller's own business.
    waiting: list[Any] = [msgspec.to_builtins(data, enc_hook=lambda serialized: None)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return True
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return False
