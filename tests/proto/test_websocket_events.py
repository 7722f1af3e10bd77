"""What the events of the byte layer show of themselves: never a credential."""

from __future__ import annotations

import pytest

from metered_proto.websocket_events import Event, PlainRequest, Refused, Requested, path_of

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (
            Requested(f"/v1?token={SECRET}", "h", None, {"cookie": SECRET}),
            "Requested(target='/v1', host='h', origin=None)",
        ),
        (
            PlainRequest("POST", f"/v1/tokens?{SECRET}", {"authorization": SECRET}, SECRET.encode()),
            "PlainRequest(method='POST', target='/v1/tokens', 6 bytes)",
        ),
        (
            Refused(429, "Too Many Requests", SECRET.encode()),
            "Refused(status=429, reason='Too Many Requests', 6 bytes)",
        ),
    ],
)
def test_a_repr_hides_what_can_hold_a_credential(event: Event, shown: str) -> None:
    assert repr(event) == shown
    assert SECRET not in str(event)


def test_path_of() -> None:
    assert path_of("/v1?key=pk?x") == "/v1"
    assert path_of("/v1") == "/v1"
