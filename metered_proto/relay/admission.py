"""Who may come in, judged by the request target and the `Origin` of an upgrade.

There are two ways to be sent away. What is no attempt at the service at all, or comes from a web origin that the
key does not list, is refused by plain HTTP (404, 403) before the upgrade. A bad credential is let through the
upgrade and then closed, because only a close code tells a browser's script why: 4001 `invalid_token`, 4002
`token_expired`, 4003 `channel_not_authorized`, 4012 `account_suspended`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import msgspec

from metered_proto.relay.settings import PublishableKey, RelaySettings, SecretKey
from metered_proto.wire.channels import Pattern, channel_problem, covered_by_any, is_pattern
from metered_proto.wire.close_codes import SYMBOLIC_NAMES, ErrorCode, WsCloseCode
from metered_proto.wire.tokens import PERMISSIONS, TokenRejected, verify

PATH: Final = "/v1"
"""Where the service lives."""

KEY_MEMORY: Final = 4096
"""Channels for which it is remembered whether the guests of a key may publish there."""

TOKEN_MEMORY: Final = 32
"""The same for the one guest of a token with claims of its own."""


class Access:
    """What a credential is good for. One object serves everybody who came with the same key."""

    __slots__ = ("_memory", "_verdicts", "may_publish", "may_send", "may_subscribe", "patterns", "sees_presence")

    def __init__(self, patterns: Iterable[Pattern], permissions: Iterable[str], *, memory: int = TOKEN_MEMORY) -> None:
        granted = tuple(permissions)
        self.patterns = tuple(patterns)
        self.may_publish = "publish" in granted
        self.may_subscribe = "subscribe" in granted
        self.may_send = "send" in granted
        self.sees_presence = "presence" in granted
        self._memory = memory
        self._verdicts: dict[str, ErrorCode | None] = {}

    def publishing(self, channel: str) -> ErrorCode | None:
        """Why one may not publish to a channel; None if one may."""
        try:
            return self._verdicts[channel]
        except KeyError:
            if len(self._verdicts) >= self._memory:
                self._verdicts.clear()
            verdict = self._verdicts[channel] = self._judge_publishing(channel)
            return verdict

    def subscribing(self, channel: str) -> ErrorCode | None:
        """Why one may not subscribe to a channel or a pattern; None if one may."""
        if (problem := channel_problem(channel)) is not None:
            return problem
        if not self.may_subscribe:
            return ErrorCode.ACTION_NOT_PERMITTED
        return None if self.reaches(channel) else ErrorCode.CHANNEL_NOT_AUTHORIZED

    def reaches(self, channel: str) -> bool:
        """Whether a name, or everything that a pattern stands for, lies within the credential's patterns."""
        if is_pattern(channel):
            return covered_by_any(channel, self.patterns)
        return any(pattern.matches(channel) for pattern in self.patterns)

    def _judge_publishing(self, channel: str) -> ErrorCode | None:
        if (problem := publishing_problem(channel)) is not None:
            return problem
        if not self.may_publish:
            return ErrorCode.ACTION_NOT_PERMITTED
        return None if self.reaches(channel) else ErrorCode.CHANNEL_NOT_AUTHORIZED


class Identity(msgspec.Struct, frozen=True):
    """Somebody who may come in. `peer_id` is None for the guest of a publishable key: the relay names him."""

    access: Access
    peer_id: str | None = None
    expires_at: int | None = None
    """Unix seconds."""
    metadata: dict[str, Any] | None = None
    peer_metadata: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Identity(peer_id={self.peer_id!r})"


class TurnedAway(msgspec.Struct, frozen=True):
    """Somebody who is closed after the upgrade. `detail` is for the log."""

    code: WsCloseCode
    detail: str

    @property
    def reason(self) -> str:
        """What the close frame says: the code's name."""
        return SYMBOLIC_NAMES[self.code]


class Refused(msgspec.Struct, frozen=True):
    """Somebody who gets a plain HTTP answer in place of the upgrade."""

    status: int
    reason: str


Verdict: TypeAlias = Identity | TurnedAway | Refused


class Admission:
    """The judge of credentials."""

    def __init__(self, settings: RelaySettings) -> None:
        self._keys = {key.key: (key, _access(key)) for key in settings.keys}
        self._secrets = {secret.id: (secret, _access(secret)) for secret in settings.secrets}
        self._signing = {secret.id: secret.secret for secret in settings.secrets}

    def judge(self, target: str, origin: str | None, wall: float) -> Verdict:
        """Say who asks for `target` (path and query as sent) at `wall` (unix seconds)."""
        path, _, query = target.partition("?")
        if path != PATH:
            return Refused(404, "Not Found")
        kind, credential = _credential(query)
        if kind == "key":
            return self._judge_key(credential, origin)
        if kind == "token":
            return self._judge_token(credential, wall)
        return TurnedAway(WsCloseCode.INVALID_TOKEN, "not exactly one key or token")

    def _judge_key(self, word: str, origin: str | None) -> Verdict:
        if word not in self._keys:
            return TurnedAway(WsCloseCode.INVALID_TOKEN, "unknown key")
        key, access = self._keys[word]
        if key.suspended:
            return TurnedAway(WsCloseCode.ACCOUNT_SUSPENDED, "the key is suspended")
        if key.origins is not None and (origin is None or origin.lower() not in map(str.lower, key.origins)):
            return Refused(403, "Forbidden")
        return Identity(access)

    def _judge_token(self, token: str, wall: float) -> Verdict:
        try:
            claims = verify(token, self._signing, wall)
        except TokenRejected as rejected:
            return TurnedAway(WsCloseCode(rejected.code), rejected.reason)
        secret, access = self._secrets[claims.key_id]
        if secret.suspended:
            return TurnedAway(WsCloseCode.ACCOUNT_SUSPENDED, "the key is suspended")
        if claims.channels is not None or claims.permissions is not None:
            patterns = access.patterns if claims.channels is None else tuple(map(Pattern, claims.channels))
            # The key's own patterns cover themselves, at the price of comparing texts.
            if not all(covered_by_any(pattern, access.patterns) for pattern in patterns):
                return TurnedAway(WsCloseCode.CHANNEL_NOT_AUTHORIZED, "the token goes beyond its key")
            asked = PERMISSIONS if claims.permissions is None else claims.permissions
            access = Access(patterns, [permission for permission in asked if permission in secret.permissions])
        return Identity(access, claims.peer_id, claims.expires_at, claims.metadata, claims.peer_metadata)


def publishing_problem(channel: str) -> ErrorCode | None:
    """Why nobody can publish to a channel of that name: it is bad, reserved, or a pattern. None if it is good."""
    return ErrorCode.INVALID_CHANNEL if is_pattern(channel) else channel_problem(channel)


def _access(key: PublishableKey | SecretKey) -> Access:
    return Access(map(Pattern, key.patterns), key.permissions, memory=KEY_MEMORY)


def _credential(query: str) -> tuple[str | None, str]:
    """The one credential of a query, percent-decoded, and its kind; None where there is none, or more than one."""
    found: list[tuple[str, str]] = []
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        if name in ("key", "token"):
            found.append((name, unquote(value)))
    return found[0] if len(found) == 1 else (None, "")
