"""What callers give to the sources, checked at the call."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import av


def check_flags(**flags: object) -> None:
    """Each must be a bool."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be a bool, not {type(value).__name__}")


def check_text(name: str, value: object) -> None:
    """A str, or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")


def check_number(name: str, value: object, least: float, most: float) -> None:
    """A number in a range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least:g} to {most:g}, not {value}")


def check_format(name: str | None) -> None:
    """One of FFmpeg's inputs, or None."""
    check_text("input_format", name)
    if name is not None and not knows_format(name):
        raise ValueError(f"input_format must be one of FFmpeg's, which {name!r} is not")


def knows_format(name: str) -> bool:
    """Whether this FFmpeg has an input of this name. Some go by several."""
    return any(name == known or name in known.split(",") for known in av.formats_available)


def check_protocols(protocols: Collection[str]) -> tuple[str, ...]:
    """A collection of str."""
    if isinstance(protocols, str) or not isinstance(protocols, Collection):
        kind = "one str" if isinstance(protocols, str) else type(protocols).__name__
        raise TypeError(f"protocols must be a collection of str, not {kind}")
    allowed = tuple(protocols)
    for one in allowed:
        if not isinstance(one, str):
            raise TypeError(f"protocols must be a collection of str, and has a {type(one).__name__}")
    return allowed


def check_options(options: Mapping[str, str] | None) -> dict[str, str]:
    """Options for FFmpeg: a copy."""
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options must be a mapping of str to str, not {type(options).__name__}")
    given = dict(options or {})
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("options must be a mapping of str to str")
    return given
