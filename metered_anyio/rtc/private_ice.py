"""What we use of aioice that is not its public API, and why. Its counterpart for aiortc is `private`.

aioice gathers everything before it lets anything be described, and does not take a local candidate later. It does
take remote ones later, in the middle of its checks, and by the same way ours get in. `private.missing()` looks after
these names, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aioice.ice import Connection as IceConnection
from aioice.ice import StunProtocol, get_host_addresses, relayed_candidate, server_reflexive_candidate

__all__ = [
    "IceConnection",
    "StunProtocol",
    "get_host_addresses",
    "relayed_candidate",
    "server_reflexive_candidate",
]

NAMES: Final = (
    *("_local_candidates", "_local_candidates_start", "_local_candidates_end", "_protocols", "_nominated"),
    *("_remote_candidates", "_remote_candidates_end", "_remote_candidates_resolving", "_end_remote_candidates"),
    *(
        "_early_checks",
        "_early_checks_done",
        "_check_list",
        "_check_list_done",
        "_check_list_state",
        "_closing",
        "_queue",
    ),
    *("_query_consent_task", "_pair_remote_candidate", "sort_check_list", "get_component_candidates"),
    *("gather_candidates", "request_received", "data_received", "local_username"),
)
"""What a connection of aioice has to have."""


ADDRESSES: Final = 2048
"""Of the remote, on one connection."""


DATAGRAMS: Final = 4096
"""That wait to be read. Nobody reads before there is a connection."""

_SHORTEST: Final = 8  # bytes: the header of RTCP


def local_candidates(ice: IceConnection) -> list[Any]:
    """The list that descriptions are made from."""
    return ice._local_candidates


def hold_failure(ice: IceConnection) -> None:
    """There is more to come: do not give up. Each one is followed by a `release_failure`."""
    ice._remote_candidates_resolving += 1


def release_failure(ice: IceConnection) -> None:
    """What was to come has come."""
    ice._remote_candidates_resolving -= 1
    if ice._remote_candidates_end and not ice._remote_candidates_resolving and not ice._closing:
        ice._end_remote_candidates()


def host_protocols(ice: IceConnection) -> list[Any]:
    """The sockets of the host candidates."""
    return [protocol for protocol in ice._protocols if protocol.local_candidate.type == "host"]


def add_protocol(ice: IceConnection, protocol: Any) -> None:
    """Use another local candidate with a way of its own to send, as a relayed one has."""
    _contain(protocol)
    ice._protocols.append(protocol)
    if ice._early_checks_done:  # or `connect` will see to it
        for candidate in ice._remote_candidates:
            ice._pair_remote_candidate(candidate)
        ice.sort_check_list()


async def gather_hosts(ice: IceConnection, addresses: list[str]) -> None:
    """Open a socket for each address, and nothing else: what `gather_candidates` does without any server."""
    if not ice._local_candidates_start:
        ice._local_candidates_start = True
        if addresses:
            ice._local_candidates += await ice.get_component_candidates(component=1, addresses=addresses)
            for protocol in ice._protocols:
                _contain(protocol)
        ice._local_candidates_end = True


def _contain(protocol: Any) -> None:
    """A packet that cannot be read is dropped, whoever sent it. In aioice some raise, with a traceback in the log."""
    original = protocol.datagram_received

    def datagram_received(data: Any, address: Any) -> None:
        with contextlib.suppress(Exception):
            original(data, address)

    protocol.datagram_received = datagram_received


def guard_data(ice: IceConnection) -> None:
    """Let only through what can be DTLS, RTP or RTCP, and as much as somebody reads.

    aiortc looks at the first bytes of every datagram, from whomever: an empty one would end the connection.
    """
    original = ice.data_received

    def data_received(data: bytes, component: int) -> None:
        if len(data) >= _SHORTEST and ice._queue.qsize() < DATAGRAMS:
            original(data, component)

    ice.data_received = data_received  # type: ignore[method-assign]


def gather_with(ice: IceConnection, gather: Callable[[], Awaitable[None]]) -> None:
    """Have aiortc gather in this way."""
    ice.gather_candidates = gather  # type: ignore[method-assign,assignment]


def selected_pair(ice: IceConnection) -> Any | None:
    """The candidate pair in use, with a `local_candidate` and a `remote_candidate`."""
    return ice._nominated.get(1)


def watch_checks(ice: IceConnection, came: Callable[[int], None]) -> None:
    """Hear of each connectivity check of the remote's: `came(bytes)`.

    Checks from more than `ADDRESSES` addresses are ignored: aioice would remember each.
    """
    original = ice.request_received

    def request_received(message: Any, address: Any, *args: Any) -> None:
        came(len(bytes(message)))
        known = ice._remote_candidates
        if len(ice._early_checks) >= ADDRESSES or (
            len(known) >= ADDRESSES and all((each.host, each.port) != address for each in known)
        ):
            return
        original(message, address, *args)

    ice.request_received = request_received  # type: ignore[method-assign,assignment]


def drop_protocol(protocol: Any) -> None:
    """Close a socket without another word. That of a relayed candidate would ask the server first, and wait."""
    inner = getattr(protocol.transport, "_TurnTransport__inner_protocol", None)
    (protocol.transport if inner is None else inner.transport).abort()


def break_off(ice: IceConnection) -> None:
    """Let go of everything at once."""
    ice._closing = True
    if ice._query_consent_task is not None:
        ice._query_consent_task.cancel()
    if not ice._check_list_done:
        ice._check_list_done = True
        ice._check_list_state.put_nowait(_FAILED)
    for pair in ice._check_list:
        if pair.task is not None:
            pair.task.cancel()
    for protocol in ice._protocols:
        drop_protocol(protocol)
    ice._queue.put_nowait(None)


_FAILED: Final = 2
