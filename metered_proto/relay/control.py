"""The REST control plane: an HTTP request in, what to do and how to answer out.

Every request carries `Authorization: Bearer sk_id_…:sk_secret_…`. Whatever is wrong with that is answered in one
and the same way, and the secrets are compared in constant time. Then come the rate, the size, the path, and only
then the call itself, held to what its key may do.

`Control` neither knows the guests nor touches them. It turns a request into a reply, or into one of the calls
that an operator has anyway (`Errand.call`), together with how to word its outcome.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from metered_proto.errors import MeteredRealtimeError, ServerRequestError
from metered_proto.machine import SECOND, Micros
from metered_proto.relay.admission import PATH, Access, publishing_problem
from metered_proto.relay.calls import HttpCall, HttpReply, Kick, Peers, PublishAs, Usage, UsageReport
from metered_proto.relay.limits import Allowance, Meter
from metered_proto.relay.settings import Limits, RelaySettings, SecretKey
from metered_proto.wire.channels import Pattern, covered_by_any, peer_id_problem
from metered_proto.wire.close_codes import ErrorCode
from metered_proto.wire.tokens import DEFAULT_LIFETIME, mint

MAX_BODY: Final = 32 * 1024
"""Bytes of a request's body. Over it: 413."""


class Errand(msgspec.Struct, frozen=True):
    """What the relay is to do for a request, and the words for what comes of it."""

    call: Kick | PublishAs | Peers | Usage
    reply: Callable[[Any], HttpReply]


class Control:
    """The reader of requests."""

    def __init__(self, settings: RelaySettings, allowance: Allowance) -> None:
        self._allowance = allowance
        self._callers = {secret.id: _Caller(secret, settings.limits) for secret in settings.secrets}

    def read(self, call: HttpCall, now: Micros, wall: float, *, draining: bool) -> HttpReply | Errand:
        """Answer a request, or say what has to be done before it can be. `wall` is unix seconds."""
        caller = self._authenticate(call)
        if caller is None:
            return _fault(401, "unauthorized", "a valid secret key is needed", ("www-authenticate", "Bearer"))
        if caller.meter is not None and not caller.meter.take(now):
            return _too_many("rate_limited", "too many calls", caller.meter.wait(now))
        if len(call.body) > MAX_BODY:
            return _fault(413, "invalid_request", f"the body is over {MAX_BODY} bytes")
        if draining:
            return _fault(503, ErrorCode.INTERNAL_ERROR, "the relay is shutting down")
        try:
            return self._route(call, caller, now, wall)
        except _Unfit as unfit:
            return unfit.reply

    def _authenticate(self, call: HttpCall) -> _Caller | None:
        given = [value for name, value in call.headers if name.lower() == "authorization"]
        scheme, _, credential = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        key_id, _, secret = credential.strip().partition(":")
        caller = self._callers.get(key_id)
        # An unknown id is compared as well, so that the time taken does not tell it from a known one.
        matches = hmac.compare_digest(
            secret.encode(errors="replace"), caller.key.secret.encode() if caller is not None else b"no such key"
        )
        welcome = scheme.lower() == "bearer" and matches and caller is not None and not caller.key.suspended
        return caller if welcome else None

    def _route(self, call: HttpCall, caller: _Caller, now: Micros, wall: float) -> HttpReply | Errand:
        path = call.target.partition("?")[0]
        match call.method, path.removeprefix(f"{PATH}/").split("/") if path.startswith(f"{PATH}/") else []:
            case "POST", ["tokens"]:
                return _mint_token(caller, _read_body(call, _TokenRequest), wall)
            case "GET", ["channels", name, "peers"]:
                return _list_peers(caller, _segment(name))
            case "POST", ["channels", name, "publish"]:
                publish = _publish(caller, _segment(name), _read_body(call, _PublishRequest))
                return Errand(publish, lambda outcome: self._published(outcome, now))
            case "DELETE", ["peers", name]:
                peer_id = _segment(name)
                if peer_id_problem(peer_id) is not None:
                    raise _Unfit(400, "invalid_request", "not a peer id")
                return Errand(Kick(peer_id), lambda closed: _reply(200, {"closed": closed}))
            case "GET", ["usage"]:
                return Errand(Usage(), lambda report: _reply(200, _usage(report)))
            case _:
                raise _Unfit(404, "not_found", "there is nothing here")

    def _published(self, outcome: int | MeteredRealtimeError, now: Micros) -> HttpReply:
        if isinstance(outcome, ServerRequestError):
            return _too_many(outcome.code, outcome.message, self._allowance.wait(now))
        if isinstance(outcome, MeteredRealtimeError):
            return _fault(413, "invalid_request", str(outcome))
        return _reply(200, {"delivered": outcome})


def whole_seconds(span: Micros) -> int:
    """A span for a `Retry-After`: rounded up, and never 0."""
    return max(1, math.ceil(span / SECOND))


# --- the calls ----------------------------------------------------------------------------------------------


class _TokenRequest(msgspec.Struct, frozen=True):
    peer_id: str = msgspec.field(name="peerId")
    channels: list[str] | None = None
    permissions: list[str] | None = None
    expires_in: int = msgspec.field(name="expiresInSec", default=DEFAULT_LIFETIME)
    metadata: dict[str, Any] | None = None
    peer_metadata: dict[str, Any] | None = msgspec.field(name="peerMetadata", default=None)


def _mint_token(caller: _Caller, asked: _TokenRequest, wall: float) -> HttpReply:
    now = int(wall)
    try:
        token = mint(
            key_id=caller.key.id,
            secret=caller.key.secret,
            peer_id=asked.peer_id,
            now=now,
            expires_in=asked.expires_in,
            channels=asked.channels,
            permissions=asked.permissions,
            metadata=asked.metadata,
            peer_metadata=asked.peer_metadata,
        )
    except (TypeError, ValueError) as error:
        raise _Unfit(400, "invalid_request", str(error)) from None
    if not all(covered_by_any(Pattern(channel), caller.access.patterns) for channel in asked.channels or ()):
        raise _Unfit(403, ErrorCode.CHANNEL_NOT_AUTHORIZED, "channels go beyond the key's")
    if not all(permission in caller.key.permissions for permission in asked.permissions or ()):
        raise _Unfit(403, ErrorCode.ACTION_NOT_PERMITTED, "permissions go beyond the key's")
    return _reply(200, {"token": token, "expiresAt": now + asked.expires_in})


def _list_peers(caller: _Caller, channel: str) -> Errand:
    caller.check(channel, "presence")
    return Errand(Peers(channel), lambda peers: _reply(200, {"channel": channel, "peers": peers}))


class _PublishRequest(msgspec.Struct, frozen=True):
    data: msgspec.Raw = msgspec.Raw()
    sender: str | None = msgspec.field(name="from", default=None)
    peer_metadata: dict[str, Any] | None = msgspec.field(name="peerMetadata", default=None)


def _publish(caller: _Caller, channel: str, asked: _PublishRequest) -> PublishAs:
    caller.check(channel, "publish")
    if not len(asked.data):
        raise _Unfit(400, "invalid_request", "data is missing")
    try:
        return PublishAs(channel, asked.data, asked.sender, asked.peer_metadata)
    except ValueError as error:
        raise _Unfit(400, "invalid_request", str(error)) from None


def _usage(report: UsageReport) -> dict[str, Any]:
    limits = report.limits
    return {
        "connections": report.connections,
        "messages": report.messages,
        "limits": {
            "maxConnections": limits.max_connections,
            "messagesPerPeriod": limits.message_quota,
            "messagesPerSecond": limits.message_rate,
            "messageBurst": limits.message_burst if limits.message_rate is not None else None,
            "connectsPerMinute": limits.connects_per_minute,
            "channelsPerConnection": limits.channels,
            "maxMessageSize": limits.max_message_size,
        },
    }


# --- reading and wording ------------------------------------------------------------------------------------


class _Caller:
    """A secret key, as the control plane sees it."""

    __slots__ = ("access", "key", "meter")

    def __init__(self, key: SecretKey, limits: Limits) -> None:
        self.key = key
        self.access = Access(map(Pattern, key.patterns), key.permissions)
        self.meter = Meter(limits.control_rate, limits.control_burst) if limits.control_rate is not None else None

    def check(self, channel: str, permission: str) -> None:
        """Hold a call about a channel to what the key may do."""
        problem = publishing_problem(channel)
        if problem is ErrorCode.CHANNEL_RESERVED:
            raise _Unfit(400, problem, "the channel is reserved")
        if problem is not None:
            raise _Unfit(400, "invalid_request", "not a channel name")
        if not self.access.reaches(channel):
            raise _Unfit(403, ErrorCode.CHANNEL_NOT_AUTHORIZED, "the channel is not among the key's")
        if permission not in self.key.permissions:
            raise _Unfit(403, ErrorCode.ACTION_NOT_PERMITTED, f"the key does not have {permission}")


class _Unfit(Exception):  # noqa: N818 - it never leaves this file
    """A request that ends here, with this reply."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.reply = _fault(status, code, message)


_Shape = TypeVar("_Shape")


def _read_body(call: HttpCall, shape: type[_Shape]) -> _Shape:
    try:
        # By way of a str, since raw parts of a document are not looked at for bad UTF-8.
        return msgspec.json.decode(call.body.decode(), type=shape)
    except msgspec.ValidationError as error:
        raise _Unfit(400, "invalid_request", str(error)) from None
    except (ValueError, RecursionError):
        raise _Unfit(400, "invalid_request", "the body is not JSON") from None


def _segment(text: str) -> str:
    """One percent-encoded segment of a path."""
    try:
        return unquote_to_bytes(text).decode()
    except ValueError:
        raise _Unfit(400, "invalid_request", "the path is not UTF-8") from None


def _too_many(code: str, message: str, wait: Micros) -> HttpReply:
    return _fault(429, code, message, ("retry-after", str(whole_seconds(wait))))


def _fault(status: int, code: str, message: str, *headers: tuple[str, str]) -> HttpReply:
    return _reply(status, {"error": code, "message": message}, *headers)


def _reply(status: int, body: object, *headers: tuple[str, str]) -> HttpReply:
    return HttpReply(
        status,
        msgspec.json.encode(body),
        (("content-type", "application/json"), ("cache-control", "no-store"), *headers),
    )
