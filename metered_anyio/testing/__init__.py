"""What tests of applications need. Nothing here is imported before it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from metered_anyio.testing.cassette import Cassette as Cassette
    from metered_anyio.testing.embedded_relay import EmbeddedRelay as EmbeddedRelay
    from metered_anyio.testing.virtual_box import Path as Path
    from metered_anyio.testing.virtual_box import VirtualRoom as VirtualRoom
    from metered_anyio.testing.virtual_box import virtual_room as virtual_room
    from metered_anyio.testing.virtual_network import Traffic as Traffic
    from metered_anyio.testing.virtual_time import VirtualEventLoop as VirtualEventLoop
    from metered_anyio.testing.virtual_time import run_virtual as run_virtual
    from metered_anyio.testing.virtual_time import virtual_backend as virtual_backend

_HOME: Final = {
    "Cassette": "cassette",
    "EmbeddedRelay": "embedded_relay",
    "Path": "virtual_box",
    "Traffic": "virtual_network",
    "VirtualEventLoop": "virtual_time",
    "VirtualRoom": "virtual_box",
    "run_virtual": "virtual_time",
    "virtual_backend": "virtual_time",
    "virtual_room": "virtual_box",
}
"""The module of each public name."""

__all__ = sorted(_HOME)  # noqa: PLE0605 - one list is enough


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
