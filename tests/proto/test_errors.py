"""The tree of errors: as drawn, comparable, and fit to be recorded."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator

import pytest
from table_kit import each_row

from metered_proto import errors
from metered_proto.errors import (
    AckTimeoutError,
    DataChannelClosedError,
    DataChannelOverflowError,
    DataChannelOversizedError,
    DisconnectedError,
    IceRecoveryExhaustedError,
    LocalProtocolError,
    MeteredPeerOversizedError,
    MeteredPeerReplaceTrackError,
    MeteredPeerSendError,
    MeteredPeerStateError,
    MeteredRealtimeError,
    NotConnectedError,
    OutboxFullError,
    OutboxStoreError,
    OversizedPayloadError,
    PeerConnectionError,
    PublishManyError,
    ReconcileTimeoutError,
    RecordingFileError,
    ReplaceTrackFailure,
    RequestFailedError,
    RequestTimeoutError,
    ServerRequestError,
    SignallingConnectError,
    SignallingError,
    WebRtcMissingError,
)

SAMPLES: list[tuple[MeteredRealtimeError, str]] = [
    (MeteredRealtimeError("anything"), "anything"),
    (LocalProtocolError("no such link"), "no such link"),
    (SignallingError("anything"), "anything"),
    (NotConnectedError("idle"), "not connected (the client is idle)"),
    (SignallingConnectError(4001, "invalid token"), "could not connect: 4001 invalid token"),
    (SignallingConnectError(1006), "could not connect: 1006"),
    (ServerRequestError("peer_not_found"), "peer_not_found"),
    (ServerRequestError("missing_data", "no data", "7"), "missing_data: no data"),
    (AckTimeoutError(15.0), "no acknowledgement within 15 s"),
    (DisconnectedError(1006), "disconnected before the acknowledgement: 1006"),
    (DisconnectedError(1001, "bye"), "disconnected before the acknowledgement: 1001 bye"),
    (OversizedPayloadError(70000, 65536), "the payload has 70000 bytes, the server takes at most 65536"),
    (MeteredPeerOversizedError(70000, 65536), "the payload has 70000 bytes, the server takes at most 65536"),
    (PublishManyError(((3, AckTimeoutError(15)),)), "1 messages failed, the first: no acknowledgement within 15 s"),
    (RequestTimeoutError(2.5), "no answer within 2.5 s"),
    (RequestFailedError("busy", "later"), "busy: later"),
    (OutboxFullError(10, 2000), "the outbox is full: it holds 10 messages of 2000 bytes"),
    (OutboxStoreError("in_use", "a.db", "by another process"), "in_use: a.db: by another process"),
    (MeteredPeerSendError("self_send"), "self_send"),
    (MeteredPeerStateError("invalid_state", "join", "joined"), "invalid_state: join() while joined"),
    (
        MeteredPeerReplaceTrackError(("a", "b"), (ReplaceTrackFailure("c", AckTimeoutError(1.0)),)),
        "replaced for 2 peers, failed for 1",
    ),
    (ReconcileTimeoutError("no snapshot"), "no snapshot"),
    (IceRecoveryExhaustedError(9), "the connection could not be recovered in 9 attempts"),
    (DataChannelOverflowError(256, 256), "256 sends are waiting, the cap is 256"),
    (DataChannelOversizedError(9, 8), "the message has 9 bytes, the data channel buffers at most 8"),
    (DataChannelClosedError("closing"), "the data channel is closing"),
    (PeerConnectionError("offer", "ValueError"), "offer: ValueError"),
    (RecordingFileError(3, "nested too deeply"), "line 3: nested too deeply"),
    (WebRtcMissingError("pip install it"), "pip install it"),
]

ALL = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
]


def drawn() -> Iterator[tuple[str, str | None]]:
    """The tree in the module's docstring, as (class, parent)."""
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"(    |    [│├└─ ]+)([A-Z]\w+Error)\b", line)
        if found is None:
            continue
        depth = (len(found[1]) - 4) // 4
        del path[depth:]
        yield found[2], path[-1] if path else None
        path.append(found[2])


class TestTree:
    def test_the_drawing_is_the_tree(self) -> None:
        bases = {cls.__name__: cls.__bases__[0].__name__ for cls in ALL if cls is not MeteredRealtimeError}
        tree = dict(drawn())
        assert tree.pop("MeteredRealtimeError") is None
        assert tree == bases

    def test_every_class_has_a_sample_here(self) -> None:
        assert {type(error) for error, _ in SAMPLES} == set(ALL)

    def test_an_oversized_message_of_a_room_is_an_oversized_payload(self) -> None:
        with pytest.raises(OversizedPayloadError) as caught:
            raise MeteredPeerOversizedError(2, 1)
        assert (caught.value.size, caught.value.cap) == (2, 1)


each_error = each_row(
    ("error", "text"), [pytest.param(error, text, id=type(error).__name__) for error, text in SAMPLES]
)


class TestEveryError:
    @each_error
    def test_its_text(self, error: MeteredRealtimeError, text: str) -> None:
        assert str(error) == text

    @each_error
    def test_its_fields_are_its_constructors_arguments(self, error: MeteredRealtimeError, text: str) -> None:
        if error.fields:
            assert tuple(inspect.signature(type(error)).parameters) == error.fields
            assert type(error)(*(getattr(error, name) for name in error.fields)) == error

    @each_error
    def test_it_survives_copying_and_pickling(self, error: MeteredRealtimeError, text: str) -> None:
        for other in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
            assert other == error
            assert other is not error
            assert hash(other) == hash(error)
            assert str(other) == text

    @each_error
    def test_it_equals_no_other(self, error: MeteredRealtimeError, text: str) -> None:
        assert [other for other, _ in SAMPLES if other == error] == [error]
        assert error != text


class TestEquality:
    def test_other_fields_are_another_error(self) -> None:
        assert ServerRequestError("a", "m", "1") != ServerRequestError("a", "m", "2")
        assert LocalProtocolError("a") != LocalProtocolError("b")

    def test_a_subclass_is_not_its_parent(self) -> None:
        assert OversizedPayloadError(2, 1) != MeteredPeerOversizedError(2, 1)

    def test_equal_errors_are_one_in_a_set(self) -> None:
        assert len({AckTimeoutError(1.0), AckTimeoutError(1.0), AckTimeoutError(2.0)}) == 2
