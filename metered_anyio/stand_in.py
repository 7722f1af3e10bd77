"""What can take the place of the network, host by host: nothing, but in tests of applications.

`metered_anyio.testing.virtual_room` registers itself for the host of its url. A client or a peer that is made for
this host then dials it, has its engine made by it, and draws its seed from it, and knows nothing of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from metered_anyio.backend import Backend, Wire
from metered_anyio.logger import ContainedLogger
from metered_proto.facts import Fact

if TYPE_CHECKING:
    from metered_anyio.rtc.engine import Engine


class StandIn(Protocol):
    """Everything beyond this process, for the clients of one host."""

    async def dial(self) -> Wire:
        """Connect to the host. Nothing is encrypted. Raises `metered_anyio.dial.DialError`."""
        ...

    def make_engine(self, feed: Callable[[Fact], None], logger: ContainedLogger, backend: Backend) -> Engine:
        """Who has a room's peer connections."""
        ...

    def seed(self) -> bytes:
        """For the delays of one client."""
        ...


_stand_ins: dict[str, StandIn] = {}


def register(host: str, stand_in: StandIn) -> None:
    """Whoever is made for `host` from now on deals with `stand_in`. Raises `ValueError` if it has one already."""
    if host in _stand_ins:
        raise ValueError(f"something stands in for {host} already")
    _stand_ins[host] = stand_in


def withdraw(host: str) -> None:
    """`host` is on the network again, for whoever is made from now on."""
    del _stand_ins[host]


def stand_in_for(url: str) -> StandIn | None:
    """What stands in for the host of a url."""
    return _stand_ins.get(urlsplit(url).hostname or "") if _stand_ins else None
