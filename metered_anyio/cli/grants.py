"""The small languages of options: keys with what they are good for, secrets, rates, lists.

    pk_live_x                                                        good for everything
    pk_live_x;channels=fleet/**,room-*;actions=publish,subscribe;origins=https://a.example

`;` goes between the parts and `,` between the items of a part, so neither can be in an item. Whatever is wrong is
a `Misuse` that says where it stands and never quotes a key or a secret.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import msgspec

from metered_anyio.cli.common import Misuse
from metered_proto.relay import PublishableKey, SecretKey

PARTS: Final = {"channels": "patterns", "actions": "permissions", "origins": "origins"}
"""The parts that may follow a key, and the fields of `PublishableKey` they fill."""


def parse_key(text: str, name: str = "--key") -> PublishableKey:
    """A publishable key, perhaps with its channel patterns, actions and web origins. `name` is the option's."""
    key, *parts = text.split(";")
    try:
        publishable = PublishableKey(key)
    except ValueError as error:
        raise Misuse(f"{name}: {error}") from None
    for number, part in enumerate(parts, 1):
        kind, equals, items = part.partition("=")
        kind = kind.strip()
        if not equals or kind not in PARTS:
            raise Misuse(f"{name}: part {number} behind the key must be channels=…, actions=… or origins=…")
        if any(kind == other.partition("=")[0].strip() for other in parts[: number - 1]):
            raise Misuse(f"{name}: {kind} stands there twice")
        values = parse_list(items, f"{name}, {kind}")
        if kind == "origins" and not all(map(_ORIGIN.fullmatch, values)):
            raise Misuse(f"{name}, origins: an origin looks like https://app.example, without a path")
        try:
            publishable = _with(publishable, PARTS[kind], values)
        except ValueError as error:
            raise Misuse(f"{name}, {kind}: {error}") from None
    return publishable


def parse_secret(text: str, name: str = "--secret") -> SecretKey:
    """A secret key: its id and its secret with a colon between."""
    key_id, colon, secret = text.partition(":")
    if not colon:
        raise Misuse(f"{name} must be sk_id_…:sk_secret_…, the id and the secret of a key")
    try:
        return SecretKey(key_id, secret)
    except ValueError as error:
        raise Misuse(f"{name} cannot be used, {error}") from None


def parse_rate(text: str) -> tuple[float | None, int | None]:
    """`100/200`: messages a second from one connection, and how many may come at once; `off` is no limit.

    The burst may be left out: it is then None, as it is for `off`.
    """
    if text == "off":
        return None, None
    rate, slash, burst = text.partition("/")
    if not _DECIMAL.fullmatch(rate) or not 0 < float(rate) < math.inf or (slash and not _COUNT.fullmatch(burst)):
        raise Misuse("--rate must be RATE/BURST, like 100/200, or off; both above 0")
    return float(rate), int(burst) if slash else None


def parse_connect_rate(text: str) -> int | None:
    """`60`: connection attempts a minute from one address; `off` is no limit."""
    if text == "off":
        return None
    if not _COUNT.fullmatch(text):
        raise Misuse("--connect-rate must be a whole number above 0, or off")
    return int(text)


def parse_list(text: str, name: str) -> tuple[str, ...]:
    """Items with commas between them; spaces around them do not count."""
    items = tuple(item.strip() for item in text.split(","))
    if not all(items):
        raise Misuse(f"{name}: an item is empty")
    return items


def parse_object(text: str, name: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        raise Misuse(f"{name} must be a JSON object") from None


def check_seconds(seconds: float, name: str) -> float:
    """A duration that ends; zero is one."""
    if not 0 <= seconds < math.inf:
        raise Misuse(f"{name} must be a number of seconds, 0 or more")
    return seconds


def check_wait(seconds: float, name: str) -> float:
    """A duration that ends, but not at once."""
    if not 0 < seconds < math.inf:
        raise Misuse(f"{name} must be a number of seconds above 0")
    return seconds


def parse_client_rate(text: str) -> tuple[float | None, int]:
    """The same rate as one keeps to it oneself; a burst that is left out is what goes in one second."""
    rate, burst = parse_rate(text)
    return rate, burst or max(1, round(rate or 1))


def _with(key: PublishableKey, field: str, values: tuple[str, ...]) -> PublishableKey:
    changed: PublishableKey = msgspec.structs.replace(key, **{field: values})
    changed.__post_init__()
    return changed


_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@\\]+")
_DECIMAL: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_COUNT: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
