"""How facts and orders are written as JSON, so that reading gives back equal objects.

A struct is an object with its fields. What it is, it says under `type`, if `msgspec` writes it like that by itself, or
else under `$`. What JSON has no word for is an object with a `$` as well: bytes, tuples, errors, infinity. Text that is
JSON already (what is sent, what an application publishes) stands there as the JSON that it is, byte for byte.

A line whose objects may hold such a `$` says so (`marks`). In any other line a `$` means nothing: it is an
application's own. That is what lets the most frequent facts and orders be written by `msgspec` alone.
"""

from __future__ import annotations

import binascii
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from metered_proto.errors import MeteredRealtimeError
from metered_proto.replay.registry import ERRORS, STRUCTS, TAGS, Field, fields_of

MARK: Final = "$"
NOT_JSON: Final = "$not_json"
BASE64: Final = "$base64"
RAW: Final = "$raw"

MAX_NAME: Final = 100
"""Characters of the name of somebody else's error class."""

encode_json: Callable[[Any], bytes] = msgspec.json.Encoder().encode
_decode_json: Callable[[bytes], Any] = msgspec.json.Decoder().decode
_members: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items: Callable[[bytes], list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw]).decode

BAD_JSON: Final = (ValueError, TypeError, RecursionError, OverflowError, MemoryError)
"""What encoders and decoders raise for what they cannot do. `msgspec`'s own are all of them `ValueError`s."""


class Unreadable(ValueError):  # noqa: N818 - says what the text is
    """A part of a recording that is JSON, but not of ours."""


class RecordedError(Exception):
    """An error of a class that is not the project's. When it is read, it is of a class of the same name made for it."""

    def __init__(self, *args: Any, text: str = "") -> None:
        super().__init__(*args)
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordedError):
            return NotImplemented
        mine, others = (type(self).__name__, self.args, self.text), (type(other).__name__, other.args, other.text)
        return mine == others

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.text))


class Unknown(msgspec.Struct, frozen=True):
    """A value that no recording can hold: all that is left of it is the name of its class."""

    kind: str


# --- writing ------------------------------------------------------------------------------------------------


def tree(value: Any) -> Any:
    """A value as a tree that `encode_json` writes, marks included. Raises nothing but what is in `BAD_JSON`."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 63 else {MARK: "int", "text": str(int(value))}
    if isinstance(value, float):
        return value if math.isfinite(value) else {MARK: "float", "text": repr(value)}
    if isinstance(value, str):
        return _text_tree(value)
    if isinstance(value, msgspec.Struct):
        return _struct_tree(value)
    if kind is list:
        return [tree(item) for item in value]
    if kind is tuple:
        return {MARK: "tuple", "items": [tree(item) for item in value]}
    if kind is dict:
        if is_json(value):
            return {MARK: "dict", "json": msgspec.Raw(encode_json(value))}
        return {MARK: "dict", "items": [[tree(key), tree(item)] for key, item in value.items()]}
    if kind is bytes:
        return {MARK: "bytes", "value": _bytes_tree(value)}
    if kind is msgspec.Raw:
        return {MARK: "Raw", "value": _raw_tree(value)}
    if isinstance(value, Exception):
        return _error_tree(value)
    return {MARK: "unknown", "kind": kind.__name__[:MAX_NAME]}


def is_json(value: Any) -> bool:
    """Whether writing a value as JSON and reading that gives an equal value."""
    try:
        return bool(_decode_json(encode_json(value)) == value)
    except BAD_JSON:
        return False


def _text_tree(text: str) -> Any:
    text = str(text)  # and not a member of an enumeration
    if text.isascii() or _is_encodable(text):
        return text
    return {MARK: "str", "utf16": text.encode("utf-16-be", "surrogatepass").hex()}


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _struct_tree(value: msgspec.Struct) -> dict[str, Any]:
    struct = type(value)
    name = struct.__name__
    if STRUCTS.get(name) is not struct:
        return {MARK: "unknown", "kind": name[:MAX_NAME]}
    tag = struct.__struct_config__.tag
    written: dict[str, Any] = {MARK: name} if tag is None else {"type": tag}
    for field in fields_of(struct):
        written[field.written] = _field_tree(field, getattr(value, field.name))
    return written


def _field_tree(field: Field, value: Any) -> Any:
    if value is None:
        return None
    shape = _shape_of(field)
    if isinstance(value, types.MappingProxyType):
        value = dict(value)
    if shape == "json":
        if is_json(value) and not (type(value) is dict and NOT_JSON in value):
            return msgspec.Raw(encode_json(value))
        return {NOT_JSON: tree(value)}
    if shape == "bytes" and type(value) is bytes:
        return _bytes_tree(value)
    if shape == "raw" and type(value) is msgspec.Raw:
        return _raw_tree(value)
    if isinstance(shape, _Items) and (type(value) is shape.make or shape.any_make) and not isinstance(value, Mapping):
        return [tree(item) for item in value]
    return tree(value)


def _bytes_tree(value: bytes) -> Any:
    if value[:1] in (b"{", b"[") and not value.startswith(b'{"$base64"') and _is_one_line_of_json(value):
        return msgspec.Raw(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {BASE64: binascii.b2a_base64(value, newline=False).decode()}


def _raw_tree(value: msgspec.Raw) -> Any:
    raw = bytes(value)
    if raw == raw.strip() and not raw.startswith(b'{"$raw"') and _is_one_line_of_json(raw):
        return value
    try:
        return {RAW: {"text": raw.decode()}}
    except UnicodeDecodeError:
        return {RAW: {"base64": binascii.b2a_base64(raw, newline=False).decode()}}


def _is_one_line_of_json(text: bytes) -> bool:
    if b"\n" in text or b"\r" in text:
        return False
    try:
        _decode_json(text)
    except BAD_JSON:
        return False
    return text[-1:] not in b" \t"


def _error_tree(error: Exception) -> dict[str, Any]:
    name = type(error).__name__
    if isinstance(error, MeteredRealtimeError) and ERRORS.get(name) is type(error):
        _, values = error.__reduce__()[:2]
        return {MARK: name, "fields": [tree(value) for value in values]}
    text = _shown(error)
    plain = all(argument is None or isinstance(argument, str | int | float) for argument in error.args)
    arguments = error.args if plain else (text,)
    return {MARK: "error", "class": name[:MAX_NAME], "args": [tree(item) for item in arguments], "text": tree(text)}


def _shown(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # somebody else's class
        return ""


# --- reading ------------------------------------------------------------------------------------------------


def read_value(raw: bytes | msgspec.Raw, *, marks: bool = True) -> Any:
    """The value that `tree` wrote. Raises `Unreadable`, or what is in `BAD_JSON`."""
    text = bytes(raw)
    first = text[:1]
    if first == b"{":
        return _read_object(_members(text), None, marks)
    if first == b"[":
        return [read_value(item, marks=marks) for item in _items(text)]
    return _decode_json(text)


def read_struct(raw: bytes | msgspec.Raw, struct: type[msgspec.Struct], *, marks: bool = True) -> Any:
    """A struct of a class that is known beforehand."""
    return _read_object(_members(bytes(raw)), struct, marks)


def _read_object(members: dict[str, msgspec.Raw], expected: type[msgspec.Struct] | None, marks: bool) -> Any:
    if marks and MARK in members:
        name = _text(members[MARK])
        if (special := _SPECIAL.get(name)) is not None:
            return special(members)
        if name in ERRORS:
            return _read_error_of_ours(ERRORS[name], members)
        struct = STRUCTS.get(name)
    elif expected is not None:
        struct = expected
    else:
        name = _text(members["type"]) if "type" in members else ""
        struct = TAGS.get(name) or STRUCTS.get(name)
    if struct is None:
        raise Unreadable("an object of no kind that is known")
    return _build(struct, members, marks)


def _build(struct: type[msgspec.Struct], members: dict[str, msgspec.Raw], marks: bool) -> msgspec.Struct:
    values = {
        field.name: _read_field(field, members[field.written], marks)
        for field in fields_of(struct)
        if field.written in members
    }
    try:
        return struct(**values)
    except (TypeError, ValueError, AttributeError) as error:  # something is missing, or of no use
        raise Unreadable(f"no {struct.__name__} can be made of it: {type(error).__name__}") from None


def _read_field(field: Field, raw: msgspec.Raw, marks: bool) -> Any:
    text = bytes(raw)
    if text == b"null" and _shape_of(field) != "raw":
        return None
    shape = _shape_of(field)
    if shape == "json":
        if marks and text.startswith(b'{"$not_json"'):
            return read_value(_members(text)[NOT_JSON])
        return _decode_json(text)
    if shape == "bytes":
        return _read_bytes(text, marks)
    if shape == "raw":
        return _read_raw(text, marks)
    if isinstance(shape, _Items) and text[:1] == b"[":
        item = shape.item
        if item is None:
            return shape.make([read_value(each, marks=marks) for each in _items(text)])
        return shape.make([read_struct(each, item, marks=marks) for each in _items(text)])
    if isinstance(shape, type) and text[:1] == b"{":
        return read_struct(text, shape, marks=marks)
    return read_value(text, marks=marks)


def _read_bytes(text: bytes, marks: bool) -> bytes:
    if text[:1] == b'"':
        return _text(text).encode()
    if marks and text.startswith(b'{"$base64"'):
        return _base64(_members(text)[BASE64])
    return text


def _read_raw(text: bytes, marks: bool) -> msgspec.Raw:
    if marks and text.startswith(b'{"$raw"'):
        inner = _members(_members(text)[RAW])
        return msgspec.Raw(_text(inner["text"]).encode() if "text" in inner else _base64(inner["base64"]))
    return msgspec.Raw(text)


def _text(raw: bytes | msgspec.Raw) -> str:
    text = _decode_json(bytes(raw))
    if not isinstance(text, str):
        raise Unreadable("text was expected")
    return text


def _base64(raw: msgspec.Raw) -> bytes:
    return binascii.a2b_base64(_text(raw), strict_mode=True)


def _read_error_of_ours(kind: type[MeteredRealtimeError], members: dict[str, msgspec.Raw]) -> MeteredRealtimeError:
    fields = read_value(members["fields"])
    if not isinstance(fields, list) or (kind.fields and len(fields) != len(kind.fields)):
        raise Unreadable("an error with other fields than it has")
    try:
        return kind(*fields)
    except Exception:  # it formats its fields, which may be of any type here
        raise Unreadable("an error with fields of another type") from None


def _read_error(members: dict[str, msgspec.Raw]) -> RecordedError:
    name = _text(members["class"])
    arguments, text = read_value(members["args"]), read_value(members["text"])
    if not name.isidentifier() or len(name) > MAX_NAME or not isinstance(arguments, list) or not isinstance(text, str):
        raise Unreadable("an error that cannot be")
    made: type[RecordedError] = type(name, (RecordedError,), {})
    return made(*arguments, text=text)


def _read_dict(members: dict[str, msgspec.Raw]) -> dict[Any, Any]:
    if "json" in members:
        value = _decode_json(bytes(members["json"]))
        if not isinstance(value, dict):
            raise Unreadable("an object was expected")
        return value
    pairs = read_value(members["items"])
    return dict(pairs)


_SPECIAL: Final[dict[str, Callable[[dict[str, msgspec.Raw]], Any]]] = {
    "int": lambda members: int(_text(members["text"])[:5000]),
    "float": lambda members: float(_text(members["text"])),
    "str": lambda members: bytes.fromhex(_text(members["utf16"])).decode("utf-16-be", "surrogatepass"),
    "tuple": lambda members: tuple(read_value(members["items"])),
    "dict": _read_dict,
    "bytes": lambda members: _read_bytes(bytes(members["value"]), True),
    "Raw": lambda members: _read_raw(bytes(members["value"]), True),
    "error": _read_error,
    "unknown": lambda members: Unknown(_text(members["kind"])),
}

# --- what a field may hold ----------------------------------------------------------------------------------


class _Items(msgspec.Struct, frozen=True):
    """A sequence. `item` is the class of its members, if they are all of one; `any_make`: of whatever kind it is."""

    make: type[list[Any]] | type[tuple[Any, ...]]
    item: type[msgspec.Struct] | None = None
    any_make: bool = False


_Shape: TypeAlias = Literal["json", "bytes", "raw", "any"] | _Items | type[msgspec.Struct]


def _shape_of(field: Field) -> _Shape:
    found = _SHAPES.get(field)
    if found is None:
        found = _SHAPES[field] = "json" if field.is_json else _shape(field.type)
    return found


_SHAPES: Final[dict[Field, _Shape]] = {}


def _shape(hint: Any) -> _Shape:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        return _shape(rest[0]) if len(rest) == 1 else "any"
    if hint is bytes:
        return "bytes"
    if hint is msgspec.Raw:
        return "raw"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint if STRUCTS.get(hint.__name__) is hint and not hint.__subclasses__() else "any"
    if origin in (dict, Mapping):
        return "json"
    if origin is list or origin is Sequence:
        return _Items(list, _struct_of(arguments[0]), any_make=origin is Sequence)
    if origin is Collection:
        return _Items(tuple, any_make=True)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _Items(tuple, _struct_of(arguments[0]))
    return "any"


def _struct_of(hint: Any) -> type[msgspec.Struct] | None:
    shape = _shape(hint)
    return shape if isinstance(shape, type) else None
