"""Questions and answers between two peers, over directed messages.

A question is a direct whose data is

    {"__meteredRequest": "<id>", "data": <any JSON>}

and its answer is a direct from the peer that was asked, whose data is one of

    {"__meteredReply": "<id>", "data": <any JSON>}
    {"__meteredReply": "<id>", "error": {"code": "<code>", "message": "<text>"}}

The id is the asker's: 1 to 128 characters, unique among its open questions. An answer counts only if it comes from
the peer that was asked, and only the first; any other reply is dropped. A question is carried at most once: it is
never sent again by itself, and ends with the connection that it was sent on.

Questions to us are told as `RequestReceived` once somebody here answers them (`AnswerRequests`). Until then they are
directs like any other.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from metered_proto.alarms import Alarms
from metered_proto.client.calls import SendTo
from metered_proto.entropy import Entropy
from metered_proto.errors import (
    DisconnectedError,
    OversizedPayloadError,
    RequestFailedError,
    RequestTimeoutError,
    ServerRequestError,
)
from metered_proto.events import Direct, RequestReceived
from metered_proto.facts import Fact, LinkDown, Withdrawn, Woken
from metered_proto.machine import Deadline, Micros, micros
from metered_proto.orders import Answer, Order, Send, Tell
from metered_proto.settings import check_duration
from metered_proto.wire.channels import MAX_REQUEST_ID, check_peer_id
from metered_proto.wire.codec import encode_data, encode_frame
from metered_proto.wire.messages import SendFrame

REQUEST_KEY: Final = "__meteredRequest"
REPLY_KEY: Final = "__meteredReply"

MAX_CODE_CHARS: Final = 64
MAX_MESSAGE_CHARS: Final = 500


class Request(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Ask a peer; `timeout` is in seconds.

    Answered with the data of the reply, or with `RequestFailedError` (the peer said no), `RequestTimeoutError`,
    `ServerRequestError` (`peer_not_found` and the like), `DisconnectedError`, `NotConnectedError` or
    `OversizedPayloadError`.
    """

    peer_id: str
    data: msgspec.Raw
    timeout: float

    @classmethod
    def of(cls, peer_id: str, data: object, timeout: float) -> Request:
        """Check the id and the timeout, serialize the data. Raises `TypeError` or `ValueError`."""
        return cls(check_peer_id(peer_id), msgspec.Raw(encode_data(data)), check_duration("timeout", timeout))


class AnswerRequests(msgspec.Struct, frozen=True, tag=True):
    """From now on questions to us are told as `RequestReceived`, or no longer."""

    on: bool = True


def reply(question: RequestReceived, data: object) -> SendTo:
    """The answer to a question. Raises `TypeError` or `ValueError` for data that is not JSON."""
    wrapped = _Reply(question.request_id, data=msgspec.Raw(encode_data(data)))
    return SendTo(question.sender_peer_id, msgspec.Raw(encode_frame(wrapped)))


def reply_error(question: RequestReceived, code: str, message: str = "") -> SendTo:
    """The answer that there will be none. `code` is for machines, `message` for people; both are cut to size."""
    failure = _Failure(code[:MAX_CODE_CHARS], message[:MAX_MESSAGE_CHARS])
    wrapped = _Reply(question.request_id, error=failure)
    return SendTo(question.sender_peer_id, msgspec.Raw(encode_frame(wrapped)))


class _Question(msgspec.Struct, frozen=True, rename={"id": REQUEST_KEY}):
    id: str
    data: msgspec.Raw


class _Failure(msgspec.Struct, frozen=True):
    code: str
    message: str = ""


class _Reply(msgspec.Struct, frozen=True, rename={"id": REPLY_KEY}, omit_defaults=True):
    id: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Failure | msgspec.UnsetType = msgspec.UNSET


class _Open(msgspec.Struct, frozen=True, gc=False):
    op: int
    number: int
    peer_id: str
    timeout: float


class Requests:
    """The open questions of one client, and what becomes of both shapes when they come in."""

    def __init__(self, entropy: Entropy) -> None:
        # Ids of another run of the same peer must not be ours: its late answers would pass for answers to us.
        self._prefix = entropy.token(4)
        self._count = 0
        self._open: dict[str, _Open] = {}
        self._by_number: dict[int, str] = {}
        self._alarms = Alarms()
        self._answers = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def deadline(self) -> Deadline | None:
        """When the first open question runs out of time."""
        if not self._open:
            return None
        at = self._alarms.next
        return None if at is None else Deadline(at, "request")

    # --- our questions ---

    def ask(self, now: Micros, op: int, call: Request, link: int, max_message_size: int) -> list[Order]:
        """Send a question."""
        self._count += 1
        number = self._count
        request_id = f"{self._prefix}-{number}"
        data = encode_frame(_Question(request_id, call.data))
        if len(data) > max_message_size:
            return [Answer(op, error=OversizedPayloadError(len(data), max_message_size))]
        self._open[request_id] = _Open(op, number, call.peer_id, call.timeout)
        self._by_number[number] = request_id
        self._alarms.set(number, now + micros(call.timeout))
        return [Send(link, encode_frame(SendFrame(call.peer_id, msgspec.Raw(data), _wire_id(number))))]

    def knows(self, request_id: str) -> bool:
        """Whether a request id on the wire is that of an open question."""
        return self._numbered(request_id) is not None

    def refused(self, request_id: str, error: ServerRequestError) -> list[Order]:
        """The server would not carry a question."""
        question = self._numbered(request_id)
        return [] if question is None else [Answer(self._close(question).op, error=error)]

    # --- what comes in ---

    def direct(self, event: Direct) -> list[Order]:
        """Sort out a direct: an answer, a question, or the application's own."""
        data = event.data
        if isinstance(data, dict):
            if REPLY_KEY in data:
                return self._answered(event.sender_peer_id, data)
            if self._answers and REQUEST_KEY in data and "data" in data:
                request_id = data[REQUEST_KEY]
                if isinstance(request_id, str) and 1 <= len(request_id) <= MAX_REQUEST_ID:
                    question = RequestReceived(event.sender_peer_id, request_id, data["data"], event.sender_metadata)
                    return [Tell(question)]
        return [Tell(event)]

    def _answered(self, sender: str, data: dict[str, Any]) -> list[Order]:
        request_id = data[REPLY_KEY]
        question = self._open.get(request_id) if isinstance(request_id, str) else None
        if question is None or question.peer_id != sender:
            return []  # late, or somebody else's word
        self._close(request_id)
        if "error" not in data:
            return [Answer(question.op, data.get("data"))]
        failure = data["error"] if isinstance(data["error"], dict) else {}
        code, message = failure.get("code"), failure.get("message")
        error = RequestFailedError(
            code[:MAX_CODE_CHARS] if isinstance(code, str) else "unknown",
            message[:MAX_MESSAGE_CHARS] if isinstance(message, str) else "",
        )
        return [Answer(question.op, error=error)]

    def answer_requests(self, on: bool) -> None:
        """Tell questions as such, or as the directs that they are."""
        self._answers = on

    # --- as a part of the session ---

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Time out what is due; fail everything when the link is lost; forget who no longer waits."""
        match fact:
            case Woken():
                timed_out = [self._close(self._by_number[number]) for number in self._alarms.due(now)]
                return [Answer(question.op, error=RequestTimeoutError(question.timeout)) for question in timed_out]
            case LinkDown(_, code, reason):
                lost = [self._close(request_id) for request_id in list(self._open)]
                return [Answer(question.op, error=DisconnectedError(code, reason)) for question in lost]
            case Withdrawn(op):
                for request_id, question in self._open.items():
                    if question.op == op:
                        self._close(request_id)
                        break
            case _:
                pass
        return []

    def _numbered(self, request_id: str) -> str | None:
        number = request_id[1:20]
        if not number.isdecimal() or request_id != _wire_id(int(number)):
            return None
        return self._by_number.get(int(number))

    def _close(self, request_id: str) -> _Open:
        question = self._open.pop(request_id)
        del self._by_number[question.number]
        self._alarms.cancel(question.number)
        return question


def _wire_id(number: int) -> str:
    return f"q{number}"
