"""A room: a channel of the relay in which every member is a peer.

Theory of operation
-------------------
A room is a signalling session, a roster, and one peer machine for each member. What the application asks and the
network brings goes down to the session; what the session tells is taken up here and becomes the room's own business:
presence becomes members, directs become signals for the member that sent them or data for the application. The peer
machines talk to each other in signals, which go out as the session's directs; what they want of connections passes
through, and what an engine reports about a connection goes to the member whose number it has.

Joining is connecting and then subscribing. If any of it fails, the session is thrown away and the room is idle again,
with nothing left behind. Once joined, the room stays until it is left, or something final happens.

When the connection to the relay is lost, calls go on: the members' machines are told that the way to the remote is
down, and that is all. The session comes back by itself and subscribes again. The first presence after that is a
snapshot, by which the room is reconciled: departures first, then those who stayed, whose machines decide what becomes
of their connections, then newcomers. If no snapshot comes, the room asks again, and gives up in the end.

A member that the relay has lost is kept while its connection lives (`grace.py`): it is `away` then, and if it comes
back the application never hears of it.

Whoever wants to know whether a member is still one asks for its number in `members`, never for an object it holds.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from metered_proto.client.calls import MAX_CLOSE_REASON, Close, Connect, Publish, SendTo, Subscribe
from metered_proto.client.session import ClientSession
from metered_proto.entropy import Entropy
from metered_proto.errors import (
    LocalProtocolError,
    MeteredPeerOversizedError,
    MeteredPeerSendError,
    MeteredPeerStateError,
    MeteredRealtimeError,
    OversizedPayloadError,
    ReconcileTimeoutError,
    ServerRequestError,
)
from metered_proto.events import (
    Connected,
    Data,
    Direct,
    Disconnected,
    FatalError,
    IceServer,
    Joined,
    Left,
    Message,
    Presence,
    ServerError,
    StateChange,
    TokenProviderError,
)
from metered_proto.facts import (
    Asked,
    EffectDone,
    Fact,
    Heard,
    LinkBlocked,
    LinkDown,
    LinkDrained,
    LinkUp,
    Received,
    Withdrawn,
    Woken,
)
from metered_proto.machine import Deadline, Micros, micros, soonest
from metered_proto.orders import Answer, AnswerAll, Note, Order, Tell, TellAll
from metered_proto.room.company import Company, Counters
from metered_proto.room.members import MakePeer, PeerMachine
from metered_proto.room.membership import RESUBSCRIBES, Membership
from metered_proto.room.settings import RoomSettings
from metered_proto.room.words import (
    AddTrack,
    Join,
    Leave,
    OpenDataChannel,
    RemoveTrack,
    ReplaceTrack,
    RoomState,
    SendAll,
    SendOne,
)
from metered_proto.rtc.peer import RtcPeer
from metered_proto.rtc.words import (
    CandidateFailed,
    CandidateGathered,
    ChannelArrived,
    ChannelClosed,
    ChannelOpened,
    ConnectionChanged,
    LocalTrack,
    Numbers,
    PeerState,
    SignalCame,
)
from metered_proto.wire.channels import is_reserved, peer_id_problem
from metered_proto.wire.close_codes import SYMBOLIC_NAMES
from metered_proto.wire.codec import encode_data
from metered_proto.wire.scrub import scrub
from metered_proto.wire.signals import (
    RTC_DESCRIPTION,
    RTC_ICE,
    TRACK_META_KEY,
    Malformed,
    looks_like_signal,
    read_signal,
    to_data,
)

Trigger: TypeAlias = Literal[
    "join",  # the application wants in
    "ack",  # the server took the subscribe
    "fail",  # joining failed, or its caller no longer wants it
    "drop",  # the connection to the relay is lost, and will be made again
    "reconciled",  # the snapshot after a reconnect was dealt with
    "end",  # something final happened
    "leave",  # the application leaves
    "left",  # everything is closed
]

TRANSITIONS: Final[dict[tuple[RoomState, Trigger], RoomState]] = {
    ("idle", "join"): "joining",
    ("idle", "leave"): "leaving",
    ("joining", "ack"): "joined",
    ("joining", "fail"): "idle",
    ("joining", "leave"): "leaving",
    ("joined", "drop"): "reconnecting",
    ("joined", "end"): "closed",
    ("joined", "leave"): "leaving",
    ("reconnecting", "reconciled"): "joined",
    ("reconnecting", "end"): "closed",
    ("reconnecting", "leave"): "leaving",
    ("leaving", "left"): "closed",
}

FATAL_ERRORS: Final = frozenset(
    {"account_suspended", "channel_not_authorized", "action_not_permitted", "invalid_token", "token_expired"}
)
"""Codes of server errors after which nothing will be as it was."""

_SIGNAL_MARKS: Final = tuple(text.encode() for text in (RTC_DESCRIPTION, RTC_ICE, TRACK_META_KEY))


class _Joining(msgspec.Struct):
    """`step` is the op of what is being waited for: the connect, then the subscribe."""

    op: int
    call: Join
    step: int


class Room:
    """The machine of one room.

    Give it the calls of `metered_proto.room.words` as `Asked`. Carry out what a client session orders
    (`metered_proto.client.ClientSession`) and what a peer machine orders (`metered_proto.rtc.words`), and report both.
    What it tells is in `metered_proto.room.words` and, for the rest, in `metered_proto.events`.

    Numbers of links and of the effects of the session are positive; what belongs to a member is numbered downwards.
    `make_peer` makes the machine of a new member, where it is to be another than `RtcPeer`.
    """

    def __init__(self, settings: RoomSettings, entropy: Entropy, *, make_peer: MakePeer = RtcPeer) -> None:
        self._settings = settings
        self._entropy = entropy
        self._sessions = 1
        self._session = ClientSession(settings.client, entropy.fork("session/1"))
        self._ops = Numbers()
        self.counters = Counters()
        self._company = Company(settings, entropy, make_peer, self._ops, self.counters)
        self._state: RoomState = "idle"
        self._joining: _Joining | None = None
        self._membership: Membership | None = None
        self._lifting: list[Order] | None = None

    # --- what can be asked of it at any time ---

    @property
    def state(self) -> RoomState:
        """The state that the application sees."""
        return self._state

    @property
    def session(self) -> ClientSession:
        """The signalling session, to be looked at. After a join that failed it is another one."""
        return self._session

    @property
    def peer_id(self) -> str | None:
        """Our id; None until the server said it."""
        return self._session.peer_id

    @property
    def channel(self) -> str | None:
        """The name of the room; None until we have joined it."""
        membership = self._membership
        return membership.channel if membership is not None and membership.joined else None

    @property
    def members(self) -> tuple[str, ...]:
        """Everybody else who is in the room, those who are away included."""
        return self._company.members.ids

    @property
    def tracks(self) -> tuple[LocalTrack, ...]:
        """What is sent to every member."""
        return self._company.tracks.all

    def metadata(self, peer_id: str) -> dict[str, Any] | None:
        """What the token of a member asserts about it; None also for somebody who is no member."""
        roster = self._company.roster
        return roster.metadata(peer_id) if peer_id in roster else None

    def member_state(self, peer_id: str) -> PeerState | None:
        """The state of the connection to a member; None for somebody who is none."""
        member = self._company.members.get(peer_id)
        return None if member is None else member.machine.state

    def is_polite(self, peer_id: str) -> bool | None:
        """Whether we give way when both sides offer at once; None for somebody who is no member."""
        member = self._company.members.get(peer_id)
        return None if member is None else member.polite

    def peer(self, peer_id: str) -> PeerMachine | None:
        """The machine of a member, to be looked at."""
        member = self._company.members.get(peer_id)
        return None if member is None else member.machine

    @property
    def ice_servers(self) -> tuple[IceServer, ...]:
        """The servers in use: the server's, or the application's where that gave none."""
        return self._session.ice_servers or self._settings.ice_servers

    @property
    def deadline(self) -> Deadline | None:
        """The soonest of everything."""
        timer = None if self._membership is None else self._membership.timer
        return soonest((self._session.deadline, self._company.deadline, timer))

    # --- facts ---

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Take in one fact. Raises `LocalProtocolError` for a call or a fact that is not for a room."""
        orders: list[Order] = []
        match fact:
            case Received() | Heard() | LinkUp() | LinkDown() | LinkBlocked() | LinkDrained():
                self._to_session(now, fact, orders)
            case Asked(op, call):
                self._asked(now, op, call, orders)
            case Woken():
                self._woken(now, orders)
            case EffectDone(effect) if effect > 0:
                self._to_session(now, fact, orders)
            case (
                EffectDone()
                | ConnectionChanged()
                | CandidateGathered()
                | ChannelArrived()
                | CandidateFailed()
                | ChannelOpened()
                | ChannelClosed()
            ):
                member = self._company.members.owner(fact)
                if member is not None:
                    self._company.tell(now, member, fact, orders)
            case Withdrawn(op):
                self._withdrawn(now, fact, op, orders)
            case _:
                raise LocalProtocolError(f"{type(fact).__name__} is not for a room")
        self._send_signals(now, orders)
        return orders

    def _woken(self, now: Micros, orders: list[Order]) -> None:
        due = self._session.deadline
        if due is not None and due.at <= now:
            self._to_session(now, Woken(), orders)
        self._company.wake(now, orders)
        membership = self._membership
        if membership is not None and membership.timer is not None and membership.timer.at <= now:
            self._no_snapshot(now, membership, orders)

    # --- the states ---

    def _enter(self, trigger: Trigger, orders: list[Order]) -> None:
        before = self._state
        self._state = after = TRANSITIONS[before, trigger]
        orders.append(Note("info", "room state", {"from": before, "to": after}))
        orders.append(Tell(StateChange(before, after)))

    # --- joining and leaving ---

    def _join(self, now: Micros, op: int, call: Join, orders: list[Order]) -> None:
        if is_reserved(call.channel):
            orders.append(Answer(op, error=MeteredPeerSendError("reserved_channel")))
            return
        if self._state != "idle":
            orders.append(Answer(op, error=MeteredPeerStateError("invalid_state", "join", self._state)))
            return
        self._enter("join", orders)
        self._joining = _Joining(op, call, self._ops.next())
        self._to_session(now, Asked(self._joining.step, Connect()), orders)

    def _join_goes_on(self, now: Micros, joining: _Joining, error: Exception | None, orders: list[Order]) -> None:
        """The connect, or the subscribe, was answered."""
        if error is not None:
            self._join_failed(now, orders)
            orders.append(Answer(joining.op, error=error))
        elif self._membership is None:
            call, peer_id = joining.call, self._session.peer_id
            assert peer_id is not None
            self._company.welcomed(now, peer_id, self.ice_servers, self._session.max_message_size, orders)
            self._membership = Membership(call.channel, call.include_sender_metadata, peer_id)
            joining.step = self._subscribe(now, orders)
        else:
            self._joining = None
            self._membership.joined = True
            self._enter("ack", orders)
            orders.append(Answer(joining.op))
            orders.append(Tell(Joined(self._membership.known_as, self._membership.channel)))

    def _join_failed(self, now: Micros, orders: list[Order]) -> None:
        """Back to idle. A session that has connected before comes back by itself, so it is not kept."""
        self._joining = self._membership = None
        self._company.disperse(now, orders)
        if self._session.state != "idle":
            session, self._sessions = self._session, self._sessions + 1
            self._to_session(now, Asked(self._ops.next(), Close()), orders)
            self._session = session.successor(self._entropy.fork(f"session/{self._sessions}"))
        self._enter("fail", orders)

    def _leave(self, now: Micros, op: int, reason: str | None, orders: list[Order]) -> None:
        if self._state != "closed":
            self._enter("leave", orders)
            self._let_go(now, orders)
            self._close_session(now, reason, orders)
            self._enter("left", orders)
            orders.append(Tell(Left(self.peer_id, self.channel, reason)))
        orders.append(Answer(op))

    def _end(self, now: Micros, reason: str, error: Exception | None, orders: list[Order]) -> None:
        """Something final happened."""
        if error is not None:
            orders.append(Tell(FatalError(error)))
        self._let_go(now, orders)
        self._enter("end", orders)
        self._close_session(now, reason, orders)
        orders.append(Tell(Left(self.peer_id, self.channel, reason)))

    def _let_go(self, now: Micros, orders: list[Order]) -> None:
        """Leave nobody waiting, and close what belongs to members."""
        if self._membership is not None:
            self._membership.timer = None
        self._company.disperse(now, orders)

    def _close_session(self, now: Micros, reason: str | None, orders: list[Order]) -> None:
        if self._session.state != "closed":
            self._to_session(now, Asked(self._ops.next(), Close(reason=_close_reason(reason))), orders)

    # --- the application ---

    def _asked(self, now: Micros, op: int, call: object, orders: list[Order]) -> None:
        match call:
            case SendAll(data):
                self._send_all(now, op, data, orders)
            case SendOne(peer_id, data):
                self._send_one(now, op, peer_id, data, orders)
            case AddTrack(track):
                if self._takes_tracks(op, "add_track", orders):
                    self._company.add_track(now, op, track, self._state, orders)
            case RemoveTrack(key):
                if self._takes_tracks(op, "remove_track", orders):
                    self._company.remove_track(now, op, key, orders)
            case ReplaceTrack(old, new):
                if self._takes_tracks(op, "replace_track", orders, "reconnecting"):
                    self._company.replace_track(now, op, old, new, self._state, orders)
            case OpenDataChannel(peer_id, options):
                self._company.open_channel(now, op, peer_id, options, orders)
            case Join():
                self._join(now, op, call, orders)
            case Leave(reason):
                self._leave(now, op, reason, orders)
            case _:
                raise LocalProtocolError(f"{type(call).__name__} is not a call to a room")

    def _withdrawn(self, now: Micros, fact: Withdrawn, op: int, orders: list[Order]) -> None:
        if self._joining is not None and self._joining.op == op:
            self._join_failed(now, orders)
            return
        if not self._company.withdrawn(op):
            self._to_session(now, fact, orders)

    def _send_all(self, now: Micros, op: int, data: msgspec.Raw, orders: list[Order]) -> None:
        if self._state != "joined" or self._membership is None:
            orders.append(Answer(op, error=MeteredPeerSendError("not_joined")))
            return
        self._to_session(now, Asked(op, Publish(self._membership.channel, data)), orders)

    def _send_one(self, now: Micros, op: int, peer_id: object, data: msgspec.Raw, orders: list[Order]) -> None:
        code: str | None = None
        if self._state != "joined":
            code = "not_joined"
        elif not isinstance(peer_id, str) or peer_id_problem(peer_id) is not None:
            code = "invalid_args"
        elif peer_id == self.peer_id:
            code = "self_send"
        else:
            if _is_like_a_signal(data):
                orders.append(Note("warning", "the data has the shape of a signal: the peer will not see it as data"))
            self._to_session(now, Asked(op, SendTo(peer_id, data)), orders)
        if code is not None:
            orders.append(Answer(op, error=MeteredPeerSendError(code)))

    def _takes_tracks(self, op: int, method: str, orders: list[Order], *more: RoomState) -> bool:
        if self._state not in ("leaving", "closed", *more):
            return True
        orders.append(Answer(op, error=MeteredPeerStateError("invalid_state", method, self._state)))
        return False

    # --- the session ---

    def _to_session(self, now: Micros, fact: Fact, orders: list[Order]) -> None:
        """Hand a fact to the session and take up what it says. What that leads to is dealt with after it."""
        said = self._session.handle(now, fact)
        if self._lifting is not None:
            self._lifting += said
            return
        self._lifting = said
        try:
            for order in said:
                if isinstance(order, Tell):
                    self._told(now, order.event, orders)
                elif isinstance(order, TellAll):
                    for event in order.events:
                        self._told(now, event, orders)
                elif isinstance(order, Answer):
                    self._answered(now, order, orders)
                elif isinstance(order, AnswerAll):
                    for op in order.ops:
                        self._answered(now, Answer(op), orders)
                else:
                    orders.append(order)
        finally:
            self._lifting = None

    def _answered(self, now: Micros, answer: Answer, orders: list[Order]) -> None:
        error = answer.error
        if answer.op > 0:
            if isinstance(error, OversizedPayloadError):
                answer = Answer(answer.op, error=MeteredPeerOversizedError(error.size, error.cap))
            orders.append(answer)
        elif self._joining is not None and answer.op == self._joining.step:
            if self._state == "joining":
                self._join_goes_on(now, self._joining, error, orders)
            else:
                orders.append(Answer(self._joining.op, error=error))
                self._joining = None
        elif error is not None and self._membership is not None and self._state in ("joined", "reconnecting"):
            if answer.op == self._membership.resubscribe:
                self._not_resubscribed(now, error, orders)
            else:
                self._not_carried(error, orders)

    def _not_resubscribed(self, now: Micros, error: Exception, orders: list[Order]) -> None:
        if isinstance(error, ServerRequestError) and error.code in FATAL_ERRORS:
            self._end(now, error.code, error, orders)
        else:  # the timer will ask again
            orders.append(Note("warning", "could not ask who is in the room", {"error": scrub(str(error))}))

    def _not_carried(self, error: Exception, orders: list[Order]) -> None:
        """The server did not take a signal. The machine that it is from will see that nothing came of it."""
        self.counters.signals_refused += 1
        grave = isinstance(error, OversizedPayloadError) or getattr(error, "code", None) in FATAL_ERRORS
        if not grave or _is_milestone(self.counters.signals_refused):
            context = {"error": scrub(str(error)), "count": self.counters.signals_refused}
            orders.append(Note("warning" if grave else "debug", "a signal was not carried", context))

    def _told(self, now: Micros, event: object, orders: list[Order]) -> None:
        if isinstance(event, Message):  # ahead of the others, being the most frequent by far
            self._message(event, orders)
            return
        match event:
            case Direct():
                self._direct(now, event, orders)
            case Presence():
                self._presence(now, event, orders)
            case Connected():
                self._connected(now, event, orders)
            case Disconnected(code, reason, will_reconnect):
                self._disconnected(now, code, reason, will_reconnect, orders)
            case ServerError(code, message) if code in FATAL_ERRORS:
                self._refused_for_good(now, ServerRequestError(code, message), orders)
            case TokenProviderError(count, error) if self._state in ("joining", "reconnecting"):
                # The session goes on trying, so the room does as well.
                text = f"token provider failed {count} consecutive attempts: {scrub(str(error))}"
                fatal = MeteredRealtimeError(text)
                fatal.__cause__ = error
                orders.append(Tell(FatalError(fatal)))
            case _:
                pass  # how the session is doing shows in the state of the room

    def _refused_for_good(self, now: Micros, error: ServerRequestError, orders: list[Order]) -> None:
        if self._joining is not None and self._state == "joining":
            op = self._joining.op
            self._join_failed(now, orders)
            orders.append(Answer(op, error=error))
        elif self._state in ("joined", "reconnecting"):
            self._end(now, error.code, error, orders)

    def _message(self, message: Message, orders: list[Order]) -> None:
        sender = message.sender_peer_id
        if sender in self._company.roster and message.channel == self.channel:
            orders.append(Tell(Data(sender, message.data, "broadcast", message.sender_metadata)))
        elif sender != self.peer_id:
            self.counters.strangers += 1

    def _direct(self, now: Micros, direct: Direct, orders: list[Order]) -> None:
        member = self._company.members.get(direct.sender_peer_id)
        if member is None:
            self.counters.strangers += direct.sender_peer_id != self.peer_id
            return
        signal = read_signal(direct.data)
        if signal is None:
            orders.append(Tell(Data(member.peer_id, direct.data, "direct", direct.sender_metadata)))
        elif isinstance(signal, Malformed):
            self.counters.signals_malformed += 1
            if _is_milestone(self.counters.signals_malformed):
                context = {"peer": member.peer_id, "reason": signal.reason, "count": self.counters.signals_malformed}
                orders.append(Note("warning", "dropped a malformed signal", context))
        else:
            self.counters.signals_in += 1
            self._company.tell(now, member, SignalCame(signal), orders)

    def _connected(self, now: Micros, event: Connected, orders: list[Order]) -> None:
        if self._membership is not None:
            self._company.welcomed(now, event.peer_id, self.ice_servers, event.max_message_size, orders)
            self._membership.awaits(now + micros(self._settings.reconcile_timeout))

    def _disconnected(self, now: Micros, code: int, reason: str, will_reconnect: bool, orders: list[Order]) -> None:
        membership = self._membership
        if membership is None or self._state not in ("joined", "reconnecting"):
            return  # our own doing, or the end of a join, which its caller has been told
        membership.lost()
        if not will_reconnect:
            name = SYMBOLIC_NAMES.get(code)
            error = None if name is None else ServerRequestError(name, f"the connection was closed with {code}")
            self._end(now, name or f"{code} {reason}".rstrip(), error, orders)
        elif self._state == "joined":
            self._enter("drop", orders)
            self._company.relay_lost(now, code, orders)

    def _subscribe(self, now: Micros, orders: list[Order]) -> int:
        membership = self._membership
        assert membership is not None
        op = self._ops.next()
        self._to_session(now, Asked(op, Subscribe(membership.channel, membership.include_sender_metadata)), orders)
        return op

    def _no_snapshot(self, now: Micros, membership: Membership, orders: list[Order]) -> None:
        if membership.asks_again(now + micros(self._settings.reconcile_timeout)):
            membership.resubscribe = self._subscribe(now, orders)
        else:
            error = ReconcileTimeoutError(f"no presence came after {RESUBSCRIBES} more subscribes")
            self._end(now, "reconcile_timeout", error, orders)

    # --- who is there ---

    def _presence(self, now: Micros, presence: Presence, orders: list[Order]) -> None:
        membership = self._membership
        if membership is None or presence.channel != membership.channel or self._state in ("leaving", "closed"):
            return
        if not membership.takes_as_snapshot(presence):
            self._company.delta(now, presence, orders)
            return
        if self._state != "reconnecting":
            self._company.snapshot(now, presence, orders)
            return
        own_id = self._session.peer_id
        assert own_id is not None
        self._company.reconcile(now, presence, orders, replace=own_id != membership.known_as)
        membership.known_as = own_id
        self._enter("reconciled", orders)

    def _send_signals(self, now: Micros, orders: list[Order]) -> None:
        while (waiting := self._company.outgoing.take(now)) is not None:
            peer_id, signal = waiting
            self.counters.signals_out += 1
            data = msgspec.Raw(encode_data(to_data(signal)))
            self._to_session(now, Asked(self._ops.next(), SendTo(peer_id, data)), orders)


def _is_milestone(count: int) -> bool:
    """The 1st, 2nd, 4th, 8th …: what a remote does is noted then, or it would decide how fast the log grows."""
    return not count & (count - 1)


def _is_like_a_signal(data: msgspec.Raw) -> bool:
    text = bytes(data)
    return any(mark in text for mark in _SIGNAL_MARKS) and looks_like_signal(msgspec.json.decode(text))


def _close_reason(reason: str | None) -> str:
    """As much of a reason as fits into a close frame."""
    return (reason or "").encode("utf-8", "replace")[:MAX_CLOSE_REASON].decode("utf-8", "ignore")
