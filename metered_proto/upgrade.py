"""The opening handshake of a WebSocket (RFC 6455 section 4) over h11, and the plain HTTP that may come instead.

Two machines of one conversation each. A client says its request and reads one response; a server reads one
request and answers it. Neither ever puts a word of the remote's HTTP, which can echo a credential, into an
error of its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus

import h11

from metered_proto.errors import LocalProtocolError
from metered_proto.http1 import HEAD_LIMIT, HttpReader, OverLimitError, header_map, tokens
from metered_proto.masking import RandomBytes
from metered_proto.websocket_events import Closed, Event, Opened, PlainRequest, Refused, Reply, Requested

KEPT_BODY = 4 * 1024
"""Bytes of a refusal's body that a client keeps."""

EARLY_LIMIT = 64 * 1024
"""Bytes that a client may send before a server has answered its request: one generous read."""

_RESERVED = frozenset({"host", "upgrade", "connection", "origin", "content-length", "transfer-encoding"})


def accept_key(key: str) -> str:
    """The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (section 4.2.2)."""
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


class ClientUpgrade:
    """The client's half: one request out, one response in.

    Raises `ValueError` for a host, target, origin or header that cannot stand in a request.
    """

    __slots__ = ("_accept", "_body", "_reader", "_request", "_response")

    def __init__(
        self,
        host: str,
        target: str,
        *,
        random: RandomBytes,
        origin: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        if not host or not host.isprintable() or " " in host:
            raise ValueError("the host must be a name, or a name and a port")
        if not target.startswith("/"):
            raise ValueError("the request target must start with '/'")
        for name, _ in headers:
            if name.lower() in _RESERVED or name.lower().startswith("sec-websocket-"):
                raise ValueError(f"the header {name!r} belongs to the handshake")
        # Section 4.1, the requirements of the request: the key is 16 random bytes in base64.
        key = base64.b64encode(random(16)).decode()
        self._accept = accept_key(key)
        lines = [
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", key),
            ("Sec-WebSocket-Version", "13"),
        ]
        if origin is not None:
            lines.append(("Origin", origin))
        try:
            self._request: h11.Request | None = h11.Request(method="GET", target=target, headers=[*lines, *headers])
        except (h11.LocalProtocolError, UnicodeEncodeError):
            # Their messages quote what was wrong with it, and that can be a credential.
            raise ValueError("the host, target, origin or a header holds characters that HTTP forbids") from None
        self._reader = HttpReader(h11.CLIENT)
        self._response: h11.Response | None = None
        self._body = bytearray()

    def open(self) -> bytes:
        """The request, once."""
        if self._request is None:
            raise LocalProtocolError("the upgrade was requested already")
        request, self._request = self._request, None
        send = self._reader.connection.send
        return (send(request) or b"") + (send(h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> Opened | Refused | Closed | None:
        """Take in bytes of the response, b"" for its end; None while the outcome is open."""
        if self._request is not None:
            raise LocalProtocolError("received before the upgrade was requested")
        if not data:
            return self._refused() or Closed(1006, "the connection was lost during the handshake")
        self._reader.feed(data)
        try:
            while (event := self._reader.next()) is not None:
                if isinstance(event, h11.InformationalResponse):
                    if event.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                        return self._verify(event)
                elif isinstance(event, h11.Response):
                    self._response = event
                    self._reader.extend(HEAD_LIMIT)
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) >= KEPT_BODY:
                        break
                else:
                    break
            else:
                return None
        except OverLimitError:
            return self._refused() or Closed(1002, "the response to the upgrade is too long")
        except h11.RemoteProtocolError:
            return self._refused() or Closed(1002, "the response to the upgrade is not HTTP")
        return self._refused()

    @property
    def trailing(self) -> bytes:
        """After `Opened`: the first bytes of the WebSocket."""
        return self._reader.trailing

    def _refused(self) -> Refused | None:
        if self._response is None:
            return None
        reason = self._response.reason.decode("latin-1")
        return Refused(self._response.status_code, reason, bytes(self._body[:KEPT_BODY]))

    def _verify(self, response: h11.InformationalResponse) -> Opened | Closed:
        """Section 4.1, the six checks of a server's response; the first is its status."""
        headers = header_map(response.headers)
        if response.http_version != b"1.1":
            return Closed(1002, "the upgrade was not answered in HTTP/1.1")
        if tokens(headers.get("upgrade", "")) != ["websocket"]:
            return Closed(1002, "the response does not upgrade to a WebSocket")
        if "upgrade" not in tokens(headers.get("connection", "")):
            return Closed(1002, "the response does not upgrade the connection")
        if headers.get("sec-websocket-accept") != self._accept:
            return Closed(1002, "the response does not answer our key")
        if "sec-websocket-extensions" in headers:
            return Closed(1002, "the response has an extension that was not asked for")
        if "sec-websocket-protocol" in headers:
            return Closed(1002, "the response has a subprotocol that was not asked for")
        return Opened()


class ServerUpgrade:
    """The server's half: one request in, one answer out, `accept` or `respond`."""

    __slots__ = ("_body", "_key", "_max_body", "_reader", "_request", "asked", "trailing")

    def __init__(self, *, max_body: int) -> None:
        self._max_body = max_body
        self._reader = HttpReader(h11.SERVER)
        self._request: h11.Request | None = None
        self._key: str | None = None
        self._body = bytearray()
        self.asked: Requested | PlainRequest | None = None
        """What waits for an answer."""
        self.trailing = bytearray()
        """What came after the request: after `accept`, the first bytes of the WebSocket."""

    def receive(self, data: bytes) -> list[Event]:
        """Take in bytes of the request. A `Closed` is always the last event, and follows the `Reply` that says why."""
        if self.asked is not None:
            return self._early(data)
        self._reader.feed(data)
        events: list[Event] = []
        try:
            while self.asked is None and (event := self._reader.next()) is not None:
                events += self._take(event)
                if events and isinstance(events[-1], Closed):
                    return events
        except OverLimitError:
            events += self._too_large() if self._request else self._reject(431, "the headers are too long")
        except h11.RemoteProtocolError as error:
            events += self._reject(error.error_status_hint, "this is not HTTP/1.1 as it should be")
        return events

    def accept(self) -> bytes:
        """The response that opens the WebSocket (section 4.2.2)."""
        if self._key is None:
            raise LocalProtocolError("there is no upgrade to accept")
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_key(self._key)),
        ]
        response = h11.InformationalResponse(status_code=101, headers=headers, reason="Switching Protocols")
        return self._reader.connection.send(response) or b""

    def respond(self, status: int, reason: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
        """A whole HTTP response, after which the connection is to be closed.

        Raises `ValueError` for a status outside 200 to 599 and for text that cannot stand in a header.
        """
        if not 200 <= status <= 599:
            raise ValueError(f"{status} is no status that a response can end with")
        if not reason.isprintable():  # h11 does not look at it
            raise ValueError("the reason holds characters that HTTP forbids")
        bodiless = status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        length = [] if bodiless else [("Content-Length", str(len(body)))]
        try:
            response = h11.Response(
                status_code=status,
                reason=reason or _phrase(status),
                headers=[*headers, *length, ("Connection", "close")],
            )
        except (h11.LocalProtocolError, UnicodeEncodeError):
            raise ValueError("the reason or a header holds characters that HTTP forbids") from None
        send = self._reader.connection.send
        answer = send(response) or b""
        if body and not bodiless and not (self._request and self._request.method == b"HEAD"):
            answer += send(h11.Data(body)) or b""
        return answer + (send(h11.EndOfMessage()) or b"")

    def _take(self, event: h11.Event) -> list[Event]:
        if isinstance(event, h11.Request):
            return self._begin(event)
        if isinstance(event, h11.Data):
            self._body += event.data
            return self._too_large() if len(self._body) > self._max_body else []
        # It is the end of the request: what h11 could say besides, that the stream ended, is never fed to it.
        assert self._request is not None
        headers = header_map(self._request.headers)
        target = self._request.target.decode("ascii")
        if self._key is None:
            method = self._request.method.decode("ascii")
            self.asked = PlainRequest(method, target, headers, bytes(self._body))
            return [self.asked]
        self.asked = Requested(target, headers["host"], headers.get("origin"), headers)
        return [self.asked, *self._early(self._reader.trailing)]

    def _begin(self, request: h11.Request) -> list[Event]:
        self._request = request
        headers = header_map(request.headers)
        length = int(headers.get("content-length", "0"))
        if "websocket" in tokens(headers.get("upgrade", "")):
            return self._verify(request, headers, has_body=length > 0 or "transfer-encoding" in headers)
        if length > self._max_body:
            return self._too_large()
        # Chunks cost bytes beyond what they carry: a body may come at twice its size.
        self._reader.extend(2 * self._max_body)
        if self._reader.connection.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            return [Reply(self._reader.connection.send(go_on) or b"")]
        return []

    def _verify(self, request: h11.Request, headers: dict[str, str], *, has_body: bool) -> list[Event]:
        """Section 4.2.1, the requirements of a client's request; `Host` is seen to by h11."""
        if request.method != b"GET" or request.http_version != b"1.1" or has_body:
            return self._reject(400, "a WebSocket starts with a GET in HTTP/1.1 without a body")
        if "upgrade" not in tokens(headers.get("connection", "")):
            return self._reject(400, "the Connection header lacks Upgrade")
        if headers.get("sec-websocket-version") != "13":
            return self._reject(426, "only version 13 is spoken here", [("Sec-WebSocket-Version", "13")])
        key = headers.get("sec-websocket-key", "")
        if not _is_key(key):
            return self._reject(400, "the Sec-WebSocket-Key is not 16 bytes in base64")
        self._key = key
        return []

    def _early(self, data: bytes) -> list[Event]:
        """Bytes came after the request and before our answer: kept for a WebSocket, of no use to anything else."""
        if self._key is None:
            return []
        self.trailing += data
        if len(self.trailing) > EARLY_LIMIT:
            return self._reject(400, "too much came before the upgrade was answered")
        return []

    def _too_large(self) -> list[Event]:
        return self._reject(413, f"the body may have {self._max_body} bytes", code=1009)

    def _reject(
        self, status: int, message: str, headers: Sequence[tuple[str, str]] = (), *, code: int = 1002
    ) -> list[Event]:
        """Answer what cannot be served in the shape of the control plane's errors."""
        body = json.dumps({"error": "invalid_request", "message": message}).encode()
        answer = self.respond(status, "", [("Content-Type", "application/json"), *headers], body)
        return [Reply(answer), Closed(code, message)]


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
