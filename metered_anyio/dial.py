"""From a host name to a connected TCP socket: every address tried in good order, through a proxy where one is set.

Addresses race as RFC 8305 ("Happy Eyeballs") has it: families alternate, the next address starts when the one
before has failed or has had 250 ms, the first connection wins.
"""

from __future__ import annotations

import base64
import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio

from metered_anyio.backend import keep_interrupts_out
from metered_anyio.tls import READ_SIZE
from metered_proto.http_tunnel import HttpTunnel, TunnelOpen, TunnelRefused

ATTEMPT_DELAY = 0.25
"""Seconds before the next address is tried beside one that has not answered (RFC 8305, section 5)."""

Address: TypeAlias = tuple[socket.AddressFamily, Any]


class DialError(OSError):
    """No connection. `code` is what `LinkDown` reports: 1006, or the status with which a proxy refused."""

    def __init__(self, reason: str, code: int = 1006) -> None:
        super().__init__(errno.ECONNABORTED, reason)
        self.reason = reason
        self.code = code


class Proxy:
    """An HTTP proxy to tunnel through. Its repr shows no credential."""

    def __init__(self, host: str, port: int, authorization: str | None = None) -> None:
        self.host = host
        self.port = port
        self.authorization = authorization

    def __repr__(self) -> str:
        return f"Proxy({self.host!r}, {self.port})"


def proxy_from_environment(host: str, *, secure: bool) -> Proxy | None:
    """The proxy that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name for a host. This machine needs none.

    Raises `DialError` for one that is not an HTTP proxy, rather than going around what was asked for.
    """
    if _is_loopback(host):
        return None
    proxies = getproxies()
    url = proxies.get("https" if secure else "http") or proxies.get("all")
    if not url or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        proxy_host, port = parts.hostname, parts.port
    except ValueError:
        raise DialError("the proxy named by the environment cannot be read") from None
    if parts.scheme != "http" or not proxy_host:
        raise DialError(f"the environment names a proxy that is not http: {parts.scheme}")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(proxy_host, port or 80, authorization)


async def dial(host: str, port: int, proxy: Proxy | None = None) -> tuple[socket.socket, bytes]:
    """Connect. Returns a non-blocking socket with Nagle off, and what a proxy sent behind its answer (usually b"").

    Raises `DialError`.
    """
    if proxy is None:
        return await _connect(host, port), b""
    sock = await _connect(proxy.host, proxy.port)
    try:
        return sock, await _tunnel(sock, HttpTunnel(host, port, proxy_authorization=proxy.authorization))
    except BaseException:
        sock.close()
        raise


async def _tunnel(sock: socket.socket, tunnel: HttpTunnel) -> bytes:
    request = tunnel.open()
    while request:
        await anyio.wait_writable(sock)
        request = request[sock.send(request) :]
    while True:
        await anyio.wait_readable(sock)
        try:
            data = sock.recv(READ_SIZE)
        except BlockingIOError:
            continue
        except OSError as error:
            raise DialError(f"the proxy broke off: {_describe(error)}") from error
        match tunnel.receive(data):
            case TunnelOpen(trailing):
                return trailing
            case TunnelRefused(status, reason):
                raise DialError(f"the proxy refused: {reason}", status)
            case None:
                pass


async def _connect(host: str, port: int) -> socket.socket:
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise DialError("the host name could not be resolved") from None
    addresses = interleave((family, address) for family, _, _, _, address in found)
    winner: socket.socket | None = None
    failures: list[str] = []

    async def attempt(address: Address, failed: anyio.Event) -> None:
        nonlocal winner
        try:
            sock = await _connect_one(address)
        except OSError as error:
            failures.append(_describe(error))
            failed.set()
        else:
            if winner is None:
                winner = sock
                race.cancel_scope.cancel()
            else:  # two came in during the same pass of the loop
                sock.close()

    try:
        async with anyio.create_task_group() as race:
            for address in addresses:
                failed = anyio.Event()
                race.start_soon(keep_interrupts_out(attempt), address, failed)
                with anyio.move_on_after(ATTEMPT_DELAY):
                    await failed.wait()
    except BaseException:
        if winner is not None:
            winner.close()
        raise
    if winner is None:
        raise DialError(failures[0] if failures else "the host has no address")
    return winner


async def _connect_one(address: Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(where)
        if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            await anyio.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """The families in turn, each in the resolver's order, the first address's family first; repeats left out."""
    families: dict[socket.AddressFamily, dict[Any, Address]] = {}
    for family, where in addresses:
        families.setdefault(family, {}).setdefault(where, (family, where))
    rounds = zip_longest(*(list(group.values()) for group in families.values()))
    return [address for address in chain.from_iterable(rounds) if address is not None]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _describe(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
