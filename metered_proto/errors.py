"""Every error of the API, in one tree.

    MeteredRealtimeError
    ├── LocalProtocolError              the driver of a machine broke its contract
    ├── SignallingError
    │   ├── NotConnectedError           asked while not connected; nothing was sent
    │   ├── SignallingConnectError      connect() failed: close_code, close_reason
    │   ├── ServerRequestError          the server refused: code, message, request_id
    │   ├── AckTimeoutError             the server did not answer in time
    │   ├── DisconnectedError           the connection was lost before the answer: code, reason
    │   ├── OversizedPayloadError       over the server's cap; nothing was sent: size, cap
    │   │   └── MeteredPeerOversizedError
    │   ├── PublishManyError            some of many messages were not acknowledged: failed
    │   ├── RequestTimeoutError         the peer that was asked did not answer in time: timeout
    │   ├── RequestFailedError          the peer that was asked said no: code, message
    │   ├── OutboxFullError             the outbox takes no more: messages, bytes
    │   └── OutboxStoreError            the outbox's file cannot be used: code, path, reason
    ├── MeteredPeerSendError            code
    ├── MeteredPeerStateError           code, method, current_state
    ├── MeteredPeerReplaceTrackError    succeeded, failed
    ├── ReconcileTimeoutError
    ├── IceRecoveryExhaustedError       attempts
    ├── DataChannelOverflowError        queued, cap
    ├── DataChannelOversizedError       size, cap
    ├── DataChannelClosedError          ready_state
    ├── PeerConnectionError             a peer connection could not do it: operation, reason
    ├── RecordingFileError              a recording cannot be read: line, reason
    └── WebRtcMissingError              what was asked for needs a library that is not installed

Codes and fields are stable, messages are for people. Two errors of one class with equal fields are equal, so
that what a machine answers can be compared, recorded and replayed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class MeteredRealtimeError(Exception):
    """The root: `except MeteredRealtimeError` catches everything this project raises on purpose."""

    fields: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes that make the error what it is, in the order its constructor takes them."""

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.fields) if self.fields else self.args

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()


class LocalProtocolError(MeteredRealtimeError):
    """A machine was driven wrongly: a bug on this side of the wire, never something a remote did."""


class SignallingError(MeteredRealtimeError):
    """Whatever goes wrong between a client and the server it is connected to."""


class NotConnectedError(SignallingError):
    """The call needs a connection and there is none. Nothing was sent."""

    fields = ("state",)

    def __init__(self, state: str) -> None:
        super().__init__(f"not connected (the client is {state})")
        self.state = state


class SignallingConnectError(SignallingError):
    """`connect()` failed. `close_code` is the WebSocket close code, an HTTP status, or 1006."""

    fields = ("close_code", "close_reason")

    def __init__(self, close_code: int, close_reason: str = "") -> None:
        super().__init__(f"could not connect: {close_code} {close_reason}".rstrip())
        self.close_code = close_code
        self.close_reason = close_reason


class ServerRequestError(SignallingError):
    """The server answered a request with an error. `code` is one of the wire protocol's error codes, or unknown."""

    fields = ("code", "message", "request_id")

    def __init__(self, code: str, message: str = "", request_id: str | None = None) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.request_id = request_id


class AckTimeoutError(SignallingError):
    """No answer within `timeout` seconds. The server may or may not have done what was asked."""

    fields = ("timeout",)

    def __init__(self, timeout: float) -> None:
        super().__init__(f"no acknowledgement within {timeout:g} s")
        self.timeout = timeout


class DisconnectedError(SignallingError):
    """The connection was lost before the answer came. The server may or may not have done what was asked."""

    fields = ("code", "reason")

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"disconnected before the acknowledgement: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class OversizedPayloadError(SignallingError):
    """The serialized `data` has `size` bytes and the server takes `cap`. Nothing was sent."""

    fields = ("size", "cap")

    def __init__(self, size: int, cap: int) -> None:
        super().__init__(f"the payload has {size} bytes, the server takes at most {cap}")
        self.size = size
        self.cap = cap


class MeteredPeerOversizedError(OversizedPayloadError):
    """An `OversizedPayloadError` of a room: a message or a metadata bag over the server's cap."""


class PublishManyError(SignallingError):
    """Of many messages published together, some failed: `failed` has the index and the error of each.

    The errors are those that `publish` raises. All others were acknowledged.
    """

    fields = ("failed",)

    def __init__(self, failed: tuple[tuple[int, Exception], ...]) -> None:
        super().__init__(f"{len(failed)} messages failed, the first: {failed[0][1] if failed else None}")
        self.failed = failed


class RequestTimeoutError(SignallingError):
    """The peer that was asked did not answer within `timeout` seconds. It may have done what was asked."""

    fields = ("timeout",)

    def __init__(self, timeout: float) -> None:
        super().__init__(f"no answer within {timeout:g} s")
        self.timeout = timeout


class RequestFailedError(SignallingError):
    """The peer that was asked answers that it cannot, or will not.

    Raised in a function that answers requests, it is what the asker gets; any other exception there reaches the
    asker as `handler_failed`, without its text.
    """

    fields = ("code", "message")

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class OutboxFullError(SignallingError):
    """The outbox holds `messages` of `bytes` altogether and takes no more. The new message was not taken in."""

    fields = ("messages", "bytes")

    def __init__(self, messages: int, bytes: int) -> None:
        super().__init__(f"the outbox is full: it holds {messages} messages of {bytes} bytes")
        self.messages = messages
        self.bytes = bytes


class OutboxStoreError(SignallingError):
    """The file of an outbox cannot be used, or could not take what it was given. Nothing was half done.

    `code` is `in_use` (another process has it), `newer_schema` (written by a later version), `foreign` (another
    program's database), `full` (the disk), `read_only`, `damaged`, `closed` or `failed`.
    """

    fields = ("code", "path", "reason")

    def __init__(self, code: str, path: str, reason: str) -> None:
        super().__init__(f"{code}: {path}: {reason}")
        self.code = code
        self.path = path
        self.reason = reason


class MeteredPeerSendError(MeteredRealtimeError):
    """A room refused to send: `not_joined`, `self_send`, `invalid_args`, `reserved_channel`."""

    fields = ("code",)

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class MeteredPeerStateError(MeteredRealtimeError):
    """`method` cannot be called in `current_state`, or not so: `code` says why.

    `invalid_state`, `track_already_attached`, `too_many_tracks` (512 are sent already).
    """

    fields = ("code", "method", "current_state")

    def __init__(self, code: str, method: str, current_state: str) -> None:
        super().__init__(f"{code}: {method}() while {current_state}")
        self.code = code
        self.method = method
        self.current_state = current_state


class ReplaceTrackFailure(msgspec.Struct, frozen=True):
    """One peer to which a track could not be replaced, and why."""

    peer_id: str
    err: Exception


class MeteredPeerReplaceTrackError(MeteredRealtimeError):
    """A track was replaced for the peers in `succeeded`, and not for those in `failed`."""

    fields = ("succeeded", "failed")

    def __init__(self, succeeded: tuple[str, ...], failed: tuple[ReplaceTrackFailure, ...]) -> None:
        super().__init__(f"replaced for {len(succeeded)} peers, failed for {len(failed)}")
        self.succeeded = succeeded
        self.failed = failed


class ReconcileTimeoutError(MeteredRealtimeError):
    """No presence snapshot came after a reconnect, however often the room asked for one."""


class IceRecoveryExhaustedError(MeteredRealtimeError):
    """A peer connection could not be brought back in `attempts` tries."""

    fields = ("attempts",)

    def __init__(self, attempts: int) -> None:
        super().__init__(f"the connection could not be recovered in {attempts} attempts")
        self.attempts = attempts


class DataChannelOverflowError(MeteredRealtimeError):
    """`queued` sends wait on a data channel already and `cap` is all it takes."""

    fields = ("queued", "cap")

    def __init__(self, queued: int, cap: int) -> None:
        super().__init__(f"{queued} sends are waiting, the cap is {cap}")
        self.queued = queued
        self.cap = cap


class DataChannelOversizedError(MeteredRealtimeError):
    """A message of `size` bytes can never be sent on a data channel that buffers at most `cap`."""

    fields = ("size", "cap")

    def __init__(self, size: int, cap: int) -> None:
        super().__init__(f"the message has {size} bytes, the data channel buffers at most {cap}")
        self.size = size
        self.cap = cap


class DataChannelClosedError(MeteredRealtimeError):
    """The data channel is `closing` or `closed`: the message was not sent."""

    fields = ("ready_state",)

    def __init__(self, ready_state: str = "closed") -> None:
        super().__init__(f"the data channel is {ready_state}")
        self.ready_state = ready_state


class PeerConnectionError(MeteredRealtimeError):
    """A peer connection could not do what was asked of it. Neither field quotes a description.

    `operation` is `offer`, `answer`, `take_answer`, `candidate`, `gather`, `connect`, `track` or `closed`.
    """

    fields = ("operation", "reason")

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(f"{operation}: {reason}")
        self.operation = operation
        self.reason = reason


class RecordingFileError(MeteredRealtimeError):
    """A recording of a machine is damaged, or is none: what is wrong, and in which line. Neither quotes the file."""

    fields = ("line", "reason")

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class WebRtcMissingError(MeteredRealtimeError, ImportError):
    """Media and data channels need a library that is not installed; the message says how to install it."""
