"""Why: what a recording says about the questions that people have when something went wrong.

Why did it reconnect, and what took so long? Why is this peer idle? Why was this guest turned away? Each answer is a
sentence with the step that it rests on, found in the facts and orders alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from metered_proto.client.calls import Close, Connect, FetchToken
from metered_proto.errors import RecordingFileError
from metered_proto.events import ConnectionReset, Disconnected, GoingAway, NegotiationError, StateChange
from metered_proto.facts import Asked, LinkDown, Received, Woken
from metered_proto.machine import SECOND, Deadline, Micros
from metered_proto.orders import Begin, CloseLink, Note, OpenLink, Order, RefuseLink, Tell, TellAll
from metered_proto.replay.machines import RoomPlan
from metered_proto.replay.reading import Header, Step
from metered_proto.replay.transcript import ODD_TYPES, clean
from metered_proto.room.words import AddTrack, AtPeer, Leave, MemberJoined, MemberLeft, OpenDataChannel, RemoveTrack
from metered_proto.wire.close_codes import SYMBOLIC_NAMES

MEANINGS: Final = {
    1000: "the other side closed it in good order",
    1001: "the server is going away",
    1006: "it ended without a close: a network, machine or process went",
    1008: "the server gave it up, as it does with one that reads too slowly",
    1009: "a message was too large",
    4000: "nothing arrived in time",
    4001: "the key or token was not accepted",
    4002: "the token was over",
    4003: "the channel is not allowed",
    4010: "too many connections",
    4011: "too many messages",
    4012: "the account is suspended",
    4020: "the server removed this peer",
    401: "the server did not accept the key or token",
    403: "the server refused it, by its origin perhaps",
    404: "there is no such service there",
    429: "too many attempts",
    503: "the server takes nobody in for now",
}
"""What close codes and HTTP statuses mean, for people."""

LOST: Final = "the connection is lost"
FAILED: Final = "an attempt to connect failed"

MAX_CAUSES: Final = 2000
"""Causes that are kept; the oldest go first."""


class Cause(msgspec.Struct, frozen=True):
    """One answer: what happened at a step, and why."""

    at: Micros
    step: int
    what: str
    why: str
    kind: Literal["connection", "token", "peer", "guest", "end"]


def explain(header: Header, steps: Iterable[Step]) -> list[Cause]:
    """What there is to explain, in order. Raises `RecordingFileError` for a file that cannot be read."""
    teller = _Teller(header)
    for step in steps:
        try:
            teller.take(step)
        except Exception:  # what stands in a file may be of any type
            raise RecordingFileError(step.line, ODD_TYPES) from None
    return teller.end()


class _Member(msgspec.Struct):
    """What is known of a peer of a room."""

    state: str = "idle"
    since: Micros = 0
    failures: int = 0


class _Teller:
    def __init__(self, header: Header) -> None:
        self._header = header
        self._causes: deque[Cause] = deque(maxlen=MAX_CAUSES)
        self._step: Step | None = None
        self._closing: dict[int, CloseLink] = {}  # links that we closed ourselves
        self._down_because = ""  # the latest reason that a link gave us, or we gave it
        self._lost: str | None = None
        self._lost_at: Micros = 0
        self._attempts = 0
        self._token_failures = 0
        self._going_away: int | None = None
        self._deadline: Deadline | None = None
        self._members: dict[str, _Member] = {}
        self._tracks: dict[int, str] = {}
        self._channels: set[str] = set()
        self._online = False

    def take(self, step: Step) -> None:
        self._step = step
        self._fact(step)
        for order in step.orders:
            self._order(step, order)
        if isinstance(step.deadline, Deadline):
            self._deadline = step.deadline
            if self._lost is not None and step.deadline.why == "reconnect" and self._waits(step):
                self._add(self._wait(step, step.deadline))

    def _add(self, more: str) -> None:
        """Say more of what went wrong with the connection in this step."""
        for index in range(len(self._causes) - 1, -1, -1):
            cause = self._causes[index]
            if self._step is None or cause.step != self._step.number:
                return
            if cause.what in (LOST, FAILED):
                self._causes[index] = msgspec.structs.replace(cause, why=f"{cause.why}; {more}")
                return

    def _waits(self, step: Step) -> bool:
        lost = ("connection lost", "attempt failed")
        return any(isinstance(order, Note) and order.message in lost for order in step.orders)

    def _wait(self, step: Step, deadline: Deadline) -> str:
        ahead = (deadline.at - step.at) / SECOND
        asked = f" (the server had asked for {self._going_away} ms)" if self._going_away else ""
        return f"next try, on rung {self._attempts + 1} of the ladder, in {ahead:.2f} s{asked}"

    def _say(self, what: str, why: str, kind: Any) -> None:
        assert self._step is not None
        self._causes.append(Cause(self._step.at, self._step.number, clean(what), clean(why, 400), kind))

    # --- what came ---

    def _fact(self, step: Step) -> None:
        match step.fact:
            case LinkDown(link, code, reason):
                self._down(link, code, reason)
            case Asked(_, AddTrack(track)):
                self._tracks[track.key] = track.kind
            case Asked(_, RemoveTrack(key)):
                self._tracks.pop(key, None)
            case Asked(_, OpenDataChannel(peer_id)):
                self._channels.add(peer_id)
            case _:
                pass

    def _down(self, link: int, code: int, reason: str) -> None:
        ours = self._closing.pop(link, None)
        if ours is not None:
            return
        if self._header.machine == "RelayPlan":
            self._say(f"guest {link} is gone", self._meaning(code, reason), "guest")
            return
        self._down_because = f"link {link} went down with {self._meaning(code, reason)}"

    def _meaning(self, code: int, reason: str) -> str:
        name = SYMBOLIC_NAMES.get(code)
        meaning = MEANINGS.get(code) or (f"HTTP {code}" if 100 <= code < 600 else name or "nobody knows that code")
        return f"{code}: {meaning}{f' ({reason})' if reason else ''}"

    # --- what it did ---

    def _order(self, step: Step, order: Order) -> None:
        match order:
            case OpenLink(link):
                self._opens(step, link)
            case CloseLink(link, code, reason):
                self._closing[link] = order
                if self._header.machine == "RelayPlan":
                    self._say(f"guest {link} is closed", self._meaning(int(code), reason), "guest")
                elif not isinstance(step.fact, Asked):
                    self._down_because = f"we gave link {link} up: {self._meaning(int(code), reason)}"
            case RefuseLink(link, status, reason):
                self._say(f"guest {link} is refused", self._meaning(status, reason), "guest")
            case Begin(_, FetchToken()):
                self._say("a token is fetched", "each attempt to connect takes a fresh one", "token")
            case Note("warning", "connection lost" | "attempt failed" as message, context):
                self._failed(message, context)
            case Note("error", "could not connect" | "disconnected for good" as message, context):
                self._say(message, self._meaning(*_code_and_reason(context)), "end")
            case Tell(event):
                self._told(step, event)
            case TellAll(events):
                for event in events:
                    self._told(step, event)
            case _:
                pass

    def _failed(self, message: str, context: dict[str, Any]) -> None:
        code, reason = _code_and_reason(context)
        if message == "connection lost":
            self._attempts = 0
            self._lost = self._down_because or self._meaning(code, reason)
            assert self._step is not None
            self._lost_at = self._step.at
            self._say(LOST, self._lost, "connection")
            return
        self._attempts += 1
        if "token provider" in reason:
            self._token_failures += 1
            self._say(FAILED, f"{reason}, for the {self._token_failures}. time", "token")
        else:
            self._say(FAILED, self._meaning(code, reason), "connection")

    def _opens(self, step: Step, link: int) -> None:
        if isinstance(step.fact, Asked):
            self._say(f"link {link} is opened", "the application asked for it", "connection")

    def _told(self, step: Step, event: Any) -> None:
        match event:
            case StateChange(_, to) if to in ("connected", "joined"):
                if self._lost is not None and self._online:
                    took = (step.at - self._lost_at) / SECOND
                    attempts = f"{self._attempts + 1} attempt{'s' * (self._attempts > 0)}"
                    why = f"coming back took {took:.2f} s and {attempts}"
                    self._say("the connection is back", why, "connection")
                self._online, self._lost, self._attempts, self._token_failures = True, None, 0, 0
                self._going_away = None
            case GoingAway(wait):
                self._going_away = wait
                self._say("the server is going away", f"it said so, and asked for {wait} ms", "connection")
            case Disconnected(code, reason, False):
                asked = isinstance(step.fact, Asked) and isinstance(step.fact.call, Close | Leave | Connect)
                why = "the application closed it" if asked else f"{self._meaning(code, reason)}; that is final"
                self._say("the client is closed", why, "end")
                self._lost = None
            case MemberJoined(peer_id):
                self._members[peer_id] = _Member(since=step.at)
            case MemberLeft(peer_id):
                self._members.pop(peer_id, None)
            case AtPeer(peer_id, inner):
                self._peer(step, peer_id, inner)
            case _:
                pass

    def _member(self, peer_id: str) -> _Member:
        return self._members.setdefault(peer_id, _Member())

    def _peer(self, step: Step, peer_id: str, event: Any) -> None:
        member = self._member(peer_id)
        match event:
            case StateChange(before, to):
                why = self._peer_reason(step, peer_id, to)
                if before == "idle" and to == "closed":
                    why = f"{why}; it was idle until then: {self._idle(peer_id)}"
                member.state, member.since = to, step.at
                self._say(f"peer {peer_id}: {before} → {to}", why, "peer")
            case ConnectionReset():
                self._say(f"peer {peer_id}: its connection was replaced", "the one before had been lost", "peer")
            case NegotiationError(error):
                member.failures += 1
                self._say(f"peer {peer_id}: a negotiation failed", f"{type(error).__name__}: {error}", "peer")
            case _:
                pass

    def _peer_reason(self, step: Step, peer_id: str, to: str) -> str:
        fact = step.fact
        name = type(fact).__name__
        match to:
            case "connected":
                return "its connection came up"
            case "reconnecting":
                why = _why_lost(step, peer_id)
                return f"its connection was lost: {why}" if why else "its connection is being replaced by another one"
            case "closed":
                return _why_closed(step, peer_id)
            case "connecting":
                if isinstance(fact, Asked):
                    return f"the application asked for something to send: {type(fact.call).__name__}"
                return "it made an offer" if name == "Received" else "a timer ran out: it is our turn to offer"
            case _:
                return f"after {name}"

    # --- at the end ---

    def end(self) -> list[Cause]:
        """Everything, with what is still open at the end of the recording."""
        if self._step is None:
            return []
        for peer_id, member in self._members.items():
            if member.state == "idle":
                self._say(f"peer {peer_id} is idle", self._idle(peer_id), "peer")
            elif member.state in ("connecting", "reconnecting"):
                waited = (self._step.at - member.since) / SECOND
                why = f"for {waited:.1f} s: the connection has not come up, {member.failures} negotiations failed"
                self._say(f"peer {peer_id} is still {member.state}", why, "peer")
        if self._lost is not None:
            wait = f"; next: {self._deadline.why} at {self._deadline.at / SECOND:.2f} s" if self._deadline else ""
            self._say("it is not connected at the end", f"{self._lost}{wait}", "connection")
        return list(self._causes)

    def _idle(self, peer_id: str) -> str:
        plan = self._header.plan
        if isinstance(plan, RoomPlan) and not plan.webrtc:
            return "media and data channels are not installed here"
        if not self._tracks and peer_id not in self._channels:
            return "we have no track and no data channel for it, and it has offered nothing"
        return "we have something to send, and wait: for its offer, for our turn, or for the way over the relay"


def _why_lost(step: Step, peer_id: str) -> str:
    """What the machine of a peer noted when it lost its connection."""
    for order in step.orders:
        match order:
            case Note(_, "peer connection lost", {"peer": str(peer), "why": str(why)}) if peer == peer_id:
                return why
    return ""


def _why_closed(step: Step, peer_id: str) -> str:
    match step.fact:
        case Asked(_, call):
            return f"the application asked for it: {type(call).__name__}"
        case Woken() if _left(step, peer_id):
            return "it was away for too long"
        case Received() if _left(step, peer_id):
            return "the server says that it left"
    why = _why_lost(step, peer_id)
    return f"its connection could not be brought back: {why}" if why else "we are not in the room any more"


def _left(step: Step, peer_id: str) -> bool:
    return any(isinstance(order, Tell) and order.event == MemberLeft(peer_id) for order in step.orders)


def _code_and_reason(context: dict[str, Any]) -> tuple[int, str]:
    code = context.get("code")
    return code if isinstance(code, int) else 0, str(context.get("reason") or "")
