"""What may stand in a recording: the structs and errors of the core, each under one name.

Reading a recording makes objects of these classes and of no others, so a file that somebody else wrote can
construct nothing but what a machine could have been told or could have ordered.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

import msgspec

from metered_proto import errors, events, facts, machine, orders, settings
from metered_proto.client import calls as client_calls
from metered_proto.client import outbox, requests
from metered_proto.relay import calls as relay_calls
from metered_proto.relay import settings as relay_settings
from metered_proto.replay import machines
from metered_proto.room import settings as room_settings
from metered_proto.room import words as room_words
from metered_proto.rtc import options as rtc_options
from metered_proto.rtc import words as rtc_words
from metered_proto.wire import signals

MODULES: Final[tuple[ModuleType, ...]] = (
    facts,
    orders,
    events,
    errors,
    machine,
    settings,
    client_calls,
    requests,
    outbox,
    room_words,
    room_settings,
    rtc_words,
    rtc_options,
    signals,
    relay_calls,
    relay_settings,
    machines,
)
"""The modules whose public structs can be recorded."""

INSIDE: Final = frozenset({"OutboxCounters", "Malformed", "Claims"})
"""Structs of those modules that no fact and no order ever holds."""


def _structs() -> dict[str, type[msgspec.Struct]]:
    found: dict[str, type[msgspec.Struct]] = {}
    for module in MODULES:
        for name, value in vars(module).items():
            if name.startswith("_") or name in INSIDE or not isinstance(value, type):
                continue
            if issubclass(value, msgspec.Struct) and value.__module__ == module.__name__:
                if name in found:
                    raise AssertionError(f"two structs are called {name}")
                found[name] = value
    return found


def _errors() -> dict[str, type[errors.MeteredRealtimeError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.MeteredRealtimeError)
    }


STRUCTS: Final = _structs()
"""Every struct that can be recorded, by its name."""

ERRORS: Final = _errors()
"""Every error of the project's own, by its name."""

TAGS: Final[dict[str, type[msgspec.Struct]]] = {
    config.tag: struct
    for struct in STRUCTS.values()
    if isinstance((config := struct.__struct_config__).tag, str) and config.tag_field == "type"
}
"""The structs that say what they are by themselves, as `msgspec` writes them: by their tag."""

JSON_FIELDS: Final = frozenset({(name, "data") for name in ("Message", "Direct", "Data", "RequestReceived")})
"""Fields of any type that hold JSON of an application's, and never one of our structs."""


class Field(msgspec.Struct, frozen=True):
    """A field of a struct as it is written: the attribute, its name in JSON, its type."""

    name: str
    written: str
    type: Any
    is_json: bool


def fields_of(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The fields of a struct, in order."""
    known = _FIELDS.get(struct)
    if known is None:
        known = _FIELDS[struct] = tuple(
            Field(field.name, field.encode_name, field.type, (struct.__name__, field.name) in JSON_FIELDS)
            for field in msgspec.structs.fields(struct)
        )
    return known


_FIELDS: Final[dict[type[msgspec.Struct], tuple[Field, ...]]] = {}
