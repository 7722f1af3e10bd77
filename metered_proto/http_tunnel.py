"""A tunnel through an HTTP proxy by CONNECT (RFC 9110 section 9.3.6), as a pure byte layer.

    tunnel = HttpTunnel("rms.metered.ca", 443)
    stream.send(tunnel.open())
    while (outcome := tunnel.receive(stream.receive())) is None: ...

After `TunnelOpen` the stream is the far end's: start with its `trailing` bytes.
"""

from __future__ import annotations

from http import HTTPStatus

import h11
import msgspec

from metered_proto.errors import LocalProtocolError
from metered_proto.http1 import HttpReader, OverLimitError


class TunnelOpen(msgspec.Struct, frozen=True):
    """The proxy connected us. `trailing` is what the far end has said already."""

    trailing: bytes


class TunnelRefused(msgspec.Struct, frozen=True):
    """There is no tunnel. `status` is the proxy's HTTP status, or 1006 where it gave none that can be read."""

    status: int
    reason: str


class HttpTunnel:
    """One CONNECT request out, one response in.

    `proxy_authorization` is the whole header value, scheme and credential; it is shown nowhere. Raises
    `ValueError` for a host, port or value that cannot stand in a request.
    """

    __slots__ = ("_over", "_reader", "_request")

    def __init__(self, host: str, port: int, *, proxy_authorization: str | None = None) -> None:
        if not host or not host.isprintable() or any(character in host for character in " /@?#"):
            raise ValueError("the host must be a name or an address")
        if not 0 < port < 1 << 16:
            raise ValueError("the port must be between 1 and 65535")
        # An IPv6 address stands in brackets (RFC 3986 section 3.2.2).
        authority = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
        headers = [("Host", authority)]
        if proxy_authorization is not None:
            headers.append(("Proxy-Authorization", proxy_authorization))
        try:
            self._request: h11.Request | None = h11.Request(method="CONNECT", target=authority, headers=headers)
        except (h11.LocalProtocolError, UnicodeEncodeError):
            raise ValueError("the host or the authorization holds characters that HTTP forbids") from None
        self._reader = HttpReader(h11.CLIENT)
        self._over = False

    def open(self) -> bytes:
        """The CONNECT request, once."""
        if self._request is None:
            raise LocalProtocolError("the tunnel was requested already")
        request, self._request = self._request, None
        send = self._reader.connection.send
        return (send(request) or b"") + (send(h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> TunnelOpen | TunnelRefused | None:
        """Take in bytes from the proxy, b"" for the end of the stream; None while the outcome is open.

        Whatever a proxy says, it is read up to the end of its headers, and 16 KiB at most.
        """
        if self._request is not None or self._over:
            raise LocalProtocolError("nothing is asked of the proxy")
        outcome = self._read(data)
        self._over = outcome is not None
        return outcome

    def _read(self, data: bytes) -> TunnelOpen | TunnelRefused | None:
        if not data:
            return TunnelRefused(1006, "the connection was lost before the proxy answered")
        self._reader.feed(data)
        try:
            while (event := self._reader.next()) is not None:
                if isinstance(event, h11.Response):
                    if HTTPStatus.OK <= event.status_code < HTTPStatus.MULTIPLE_CHOICES:
                        return TunnelOpen(self._reader.trailing)
                    return TunnelRefused(event.status_code, event.reason.decode("latin-1"))
        except OverLimitError:
            return TunnelRefused(1006, "the proxy's answer is too long")
        except h11.RemoteProtocolError:
            return TunnelRefused(1006, "the proxy's answer is not HTTP")
        return None
