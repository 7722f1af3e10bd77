"""Any HTTP request to the control plane is answered, with JSON and a status of HTTP, and shows no secret of ours.

An input is a request line, headers, an empty line, and a body.
"""

from __future__ import annotations

from collections.abc import Hashable

from metered_proto.entropy import Entropy
from metered_proto.facts import Asked
from metered_proto.orders import Answer
from metered_proto.relay import HttpCall, HttpReply, Limits, Relay, RelaySettings, SecretKey

SECRET = SecretKey("sk_id_fuzz", "the-secret-of-the-fuzzer")
WORDS = (
    b"POST /v1/tokens",
    b"GET /v1/usage",
    b"/v1/channels/room/publish",
    b"/v1/channels/room/peers",
    b"/v1/peers/x",
    b"authorization: Bearer sk_id_fuzz:the-secret-of-the-fuzzer",
    b"content-type: application/json",
    b'{"peerId":"x"}',
    b'{"data":1}',
    b"%2F",
    b"DELETE ",
    b"\n\n",
    b'"channels":["a"]',
    b'"expiresInSec":60',
    b'"from":"x"',
)


def _relay() -> Relay:
    return Relay(RelaySettings(born_at=1_700_000_000, secrets=(SECRET,), limits=Limits(control_rate=None)), Entropy(1))


_state = [_relay(), 0]


def check(data: bytes) -> Hashable:
    relay, used = _state
    if used == 2000:
        _state[:] = [_relay(), 0]
    _state[1] += 1  # type: ignore[operator]
    head, _, body = data.partition(b"\n\n")
    first, *rest = head.decode(errors="replace").split("\n")
    method, _, target = first.partition(" ")
    headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in rest))
    (answer,) = (
        order
        for order in relay.handle(_state[1] * 1000, Asked(_state[1], HttpCall(method, target, headers, body)))  # type: ignore[operator,union-attr]
        if isinstance(order, Answer)
    )
    reply = answer.value
    assert isinstance(reply, HttpReply)
    assert 200 <= reply.status < 600
    # What somebody puts into a channel's name or a message is named to them.
    assert SECRET.secret not in reply.body.decode() or SECRET.secret in f"{target}{body!r}"
    return (reply.status, reply.body[:30])
