"""The relay: everybody's sockets on one side, one machine in the middle.

Theory of operation. A socket is a *guest* (`guest.py` has the course of its life). When its upgrade comes in, the
relay judges target and origin at once (`admission.py`), refuses by HTTP what never was for it, and accepts the
rest; what came of the credential is said when the handshake is over: `welcome`, or a close that tells why. From
then on the guest is a *member*. Its frames are requests, handled one by one in the order they came; each has its
method below. What the registry (`registry.py`) knows about a channel decides who gets what.

A member ends in one of four ways: its link goes down, the relay closes it (a limit, the end of its token, an
administrator, a drain), the relay cuts it (it does not read, or does not answer pings), or it does not finish
closing and is cut then. In all of them it leaves the registry first, and those who are told of presence are told.

Nothing here waits for anybody. A member that reads too slowly has a bounded queue: from `LinkBlocked` until
`LinkDrained` every byte given to it is counted, and over the limit it is cut.

Time is the machine's own; the wall clock is `born_at` plus that. Timers: a ping in rounds and the wait for its
answer, the ends of tokens, patience with links that open or close, and the end of a drain's grace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from metered_proto.alarms import Alarms, Rounds
from metered_proto.entropy import Entropy
from metered_proto.errors import LocalProtocolError, MeteredRealtimeError, OversizedPayloadError, ServerRequestError
from metered_proto.events import PresencePeer
from metered_proto.facts import (
    Asked,
    Fact,
    Heard,
    LinkAsked,
    LinkBlocked,
    LinkDown,
    LinkDrained,
    LinkUp,
    Received,
    Withdrawn,
    Woken,
)
from metered_proto.latency import Latencies
from metered_proto.machine import SECOND, Deadline, Micros, micros
from metered_proto.orders import (
    AcceptLink,
    Answer,
    CloseLink,
    Level,
    Note,
    Order,
    PingLink,
    RefuseLink,
)
from metered_proto.relay.admission import Admission, Identity, Refused, TurnedAway
from metered_proto.relay.calls import OPERATOR, Drain, HttpCall, HttpReply, Kick, Peers, PublishAs, Usage, UsageReport
from metered_proto.relay.control import Control, whole_seconds
from metered_proto.relay.frames import NO_STAMP, PONG, DirectOut, presence_joined, presence_left
from metered_proto.relay.guest import Guest, State, Step
from metered_proto.relay.limits import Allowance, Doorman, Meter
from metered_proto.relay.post import Post
from metered_proto.relay.registry import Registry
from metered_proto.relay.settings import RelaySettings
from metered_proto.relay.stats import Stats
from metered_proto.wire.channels import is_pattern, peer_id_problem
from metered_proto.wire.close_codes import SYMBOLIC_NAMES, ErrorCode, WsCloseCode
from metered_proto.wire.codec import Malformed, decode_client_frame, encode_frame
from metered_proto.wire.messages import (
    Ack,
    ErrorFrame,
    GoingAwayFrame,
    PingFrame,
    PublishFrame,
    SendFrame,
    SubscribeFrame,
    UnsubscribeFrame,
    Welcome,
)

Orders: TypeAlias = list[Order]


class Relay:
    """The relay as a machine: facts in, orders out."""

    def __init__(self, settings: RelaySettings, entropy: Entropy) -> None:
        limits = settings.limits
        self._born_at = settings.born_at
        self._limits = limits
        self._names = entropy.fork("peer ids")
        self._admission = Admission(settings)
        self._doorman = Doorman(limits.connects_per_minute)
        self._allowance = Allowance(limits.message_quota, limits.quota_period)
        self._control = Control(settings, self._allowance)
        self._registry = Registry()
        self._stats = Stats()
        self._post = Post(self._registry, self._stats, limits.max_queue)
        self._guests: dict[int, Guest] = {}
        self._verdicts: dict[int, Identity | TurnedAway] = {}
        """What will come of the guests that are asking."""

        self._pings = Rounds(micros(limits.ping_interval))
        self._pongs = Rounds(micros(limits.pong_timeout))
        self._round_trips = Latencies()  # of pings
        self._patience = Rounds(micros(limits.close_timeout))
        self._expiries = Alarms()

        self._drain: Drain | None = None
        self._drain_ends: Micros | None = None
        self._drain_told = 0
        self._drain_ops: list[int] = []
        self._shut = False

        self._handlers: dict[type[Fact], Callable[[Micros, Any, Orders], None]] = {
            Received: self._on_received,
            Heard: self._on_heard,
            Woken: self._on_woken,
            LinkAsked: self._on_link_asked,
            LinkUp: self._on_link_up,
            LinkDown: self._on_link_down,
            LinkBlocked: self._on_link_blocked,
            LinkDrained: self._on_link_drained,
            Asked: self._on_asked,
            Withdrawn: self._on_withdrawn,
        }
        self._requests: dict[type, Callable[[Micros, Guest, Any, Orders], None]] = {
            PublishFrame: self._publish,
            SendFrame: self._send,
            SubscribeFrame: self._subscribe,
            UnsubscribeFrame: self._unsubscribe,
            PingFrame: self._ping,
            Malformed: self._malformed,
        }

    @property
    def deadline(self) -> Deadline | None:
        """When the next of its timers is due."""
        best: Micros | None = None
        name = ""
        for at, why in (
            (self._pings.next, "ping"),
            (self._pongs.next, "pong"),
            (self._expiries.next, "token expiry"),
            (self._patience.next, "open or close timeout"),
            (self._drain_ends, "end of grace"),
        ):
            if at is not None and (best is None or at < best):
                best, name = at, why
        return Deadline(best, name) if best is not None else None

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Take in a fact. Links it does not know, or not any more, are none of its business."""
        handler = self._handlers.get(type(fact))
        if handler is None:
            raise LocalProtocolError(f"a relay cannot be told {type(fact).__name__}")
        orders: Orders = []
        handler(now, fact, orders)
        if self._post.overfull:
            self._cut_slow(now, orders)
        return orders

    def stats(self) -> Stats:
        """A copy of the counters."""
        counted = self._stats
        return msgspec.structs.replace(
            counted,
            connections=self._registry.link_count,
            peers=self._registry.peer_count,
            channels=self._registry.channel_count,
            blocked=self._post.blocked,
            queued_bytes=self._post.queued_bytes,
            ping_p50=self._round_trips.quantile(0.5),
            ping_p99=self._round_trips.quantile(0.99),
            refused=dict(counted.refused),
            closed=dict(counted.closed),
            errors=dict(counted.errors),
        )

    # --- coming in ------------------------------------------------------------------------------------------

    def _on_link_asked(self, now: Micros, fact: LinkAsked, orders: Orders) -> None:
        if fact.link in self._guests:
            raise LocalProtocolError(f"link {fact.link} asks to come in and is in already")
        guest = Guest(fact.link)
        over, wait = self._doorman.knock(fact.address, now)
        if over:
            if _is_noteworthy(over):
                self._note(orders, "warning", "too many connection attempts", address=fact.address, over=over)
            return self._refuse(guest, 429, "Too Many Requests", orders, retry_after=whole_seconds(wait))
        if self._drain is not None:
            retry_after = whole_seconds(self._drain.retry_after_ms * SECOND // 1000)
            return self._refuse(guest, 503, "Service Unavailable", orders, retry_after=retry_after)
        verdict = self._admission.judge(fact.target, fact.origin, self._wall(now))
        if isinstance(verdict, Refused):
            return self._refuse(guest, verdict.status, verdict.reason, orders)
        guest.take(Step.ACCEPT)
        self._guests[fact.link] = guest
        self._verdicts[fact.link] = verdict
        self._patience.set(fact.link, now)
        orders.append(AcceptLink(fact.link))
        return None

    def _refuse(
        self, guest: Guest, status: int, reason: str, orders: Orders, *, retry_after: int | None = None
    ) -> None:
        guest.take(Step.REFUSE)
        self._stats.count(self._stats.refused, status)
        orders.append(RefuseLink(guest.link, status, reason, retry_after))

    def _on_link_up(self, now: Micros, fact: LinkUp, orders: Orders) -> None:
        guest = self._guests.get(fact.link)
        if guest is None or guest.state is State.CLOSING:
            return
        if guest.is_member():
            raise LocalProtocolError(f"link {fact.link} comes up and is up already")
        verdict = self._verdicts.pop(fact.link)
        if self._drain is not None:
            self._close(now, guest, WsCloseCode.GOING_AWAY, "going_away", orders)
        elif isinstance(verdict, TurnedAway):
            self._note(orders, "info", "turned away", link=guest.link, code=int(verdict.code), reason=verdict.detail)
            self._close(now, guest, verdict.code, verdict.reason, orders)
        else:
            self._welcome(now, guest, verdict, orders)

    def _welcome(self, now: Micros, guest: Guest, identity: Identity, orders: Orders) -> None:
        limits = self._limits
        if limits.max_connections is not None and self._registry.link_count >= limits.max_connections:
            self._note(orders, "warning", "over the concurrent limit", link=guest.link)
            return self._close(now, guest, WsCloseCode.CONCURRENT_LIMIT, "concurrent_limit", orders)
        if identity.expires_at is not None:
            # Already over, where the handshake took its time: it rings at once.
            self._expiries.set(guest.link, micros(identity.expires_at - limits.token_margin - self._born_at))
        peer_id = identity.peer_id if identity.peer_id is not None else self._new_peer_id()
        guest.take(Step.WELCOME)
        guest.access = identity.access
        guest.peer_id = peer_id
        guest.peer = PresencePeer(peer_id, identity.peer_metadata)
        if identity.peer_metadata is not None:
            guest.stamp = msgspec.Raw(encode_frame(identity.peer_metadata))
        if limits.message_rate is not None:
            guest.meter = Meter(limits.message_rate, limits.message_burst)
        self._registry.enter(guest.link, guest.peer, sees_presence=identity.access.sees_presence)
        self._patience.cancel(guest.link)
        self._pings.set(guest.link, now)
        self._stats.welcomed += 1
        self._note(orders, "debug", "welcome", link=guest.link, peer_id=peer_id)
        metadata = identity.metadata if identity.metadata is not None else msgspec.UNSET
        server_time = round(self._wall(now) * 1000)
        frame = Welcome(peer_id, identity.expires_at, server_time, limits.max_message_size, metadata)
        self._post.to(guest.link, encode_frame(frame), orders)
        return None

    def _new_peer_id(self) -> str:
        while (peer_id := f"peer_{self._names.token()}") in self._registry:
            pass
        return peer_id

    # --- going out ------------------------------------------------------------------------------------------

    def _close(
        self, now: Micros, guest: Guest, code: WsCloseCode, reason: str, orders: Orders, *, abort: bool = False
    ) -> None:
        was_member = guest.is_member()
        if guest.state is not State.CLOSING:
            self._stats.count(self._stats.closed, int(code))
        guest.take(Step.ABORT if abort else Step.CLOSE)
        orders.append(CloseLink(guest.link, int(code), reason, abort))
        if was_member:
            self._leave(guest, orders)
        if abort:
            self._forget(guest, orders)
        else:
            self._patience.set(guest.link, now)

    def _on_link_down(self, now: Micros, fact: LinkDown, orders: Orders) -> None:
        guest = self._guests.get(fact.link)
        if guest is None:
            return
        was_member = guest.is_member()
        guest.take(Step.DOWN)
        if was_member:
            self._leave(guest, orders)
        self._forget(guest, orders)

    def _leave(self, guest: Guest, orders: Orders) -> None:
        self._pings.cancel(guest.link)
        self._pongs.cancel(guest.link)
        self._expiries.cancel(guest.link)
        for channel in self._registry.leave(guest.link):
            # When the relay shuts, everybody leaves everything. Nobody needs to be told of everybody else.
            if not self._shut:
                self._post.to_all(self._registry.audience(channel), presence_left(channel, guest.peer), orders)

    def _forget(self, guest: Guest, orders: Orders) -> None:
        del self._guests[guest.link]
        self._verdicts.pop(guest.link, None)
        self._patience.cancel(guest.link)
        self._post.unblock(guest.link)
        self._finish_drain(orders)

    # --- a member's frames ----------------------------------------------------------------------------------

    def _on_received(self, now: Micros, fact: Received, orders: Orders) -> None:
        guest = self._guests.get(fact.link)
        if guest is None or not guest.is_member():
            return
        guest.unanswered = False
        meter = guest.meter
        max_frame = self._limits.max_frame
        for payload in fact.payloads:
            self._stats.frames_in += 1
            if meter is not None and not meter.take(now):
                self._note(orders, "warning", "over the message rate", link=guest.link, peer_id=guest.peer_id)
                self._close(now, guest, WsCloseCode.MESSAGE_RATE, "message_rate", orders)
                return
            # The byte layer counted bytes already; characters can only be fewer.
            if len(payload) > max_frame:
                self._close_too_big(now, guest, orders)
                return
            frame = decode_client_frame(payload)
            self._requests[type(frame)](now, guest, frame, orders)
            if not guest.is_member():
                return

    def _subscribe(self, now: Micros, guest: Guest, frame: SubscribeFrame, orders: Orders) -> None:
        channel, registry = frame.channel, self._registry
        known = registry.subscriptions(guest.link)
        # One who is in already has been found worthy.
        if channel not in known:
            problem = guest.access.subscribing(channel)
            if problem is None and len(known) >= self._limits.channels:
                problem = ErrorCode.CHANNEL_LIMIT_EXCEEDED
            if problem is not None:
                return self._error(guest, problem, frame.request_id, orders)
        joined = registry.subscribe(guest.link, channel, stamped=frame.include_sender_metadata)
        self._ack(guest, frame.request_id, orders)
        if is_pattern(channel):
            return None
        if guest.access.sees_presence:
            for payload in presence_joined(channel, registry.peers(channel, but=guest.peer_id)):
                self._post.to(guest.link, payload, orders)
        if joined:
            for payload in presence_joined(channel, (guest.peer,)):
                self._post.to_all(registry.audience(channel), payload, orders, skip=guest.link)
        return None

    def _unsubscribe(self, now: Micros, guest: Guest, frame: UnsubscribeFrame, orders: Orders) -> None:
        left = self._registry.unsubscribe(guest.link, frame.channel)
        self._ack(guest, frame.request_id, orders)
        if left:
            payload = presence_left(frame.channel, guest.peer)
            self._post.to_all(self._registry.audience(frame.channel), payload, orders)

    def _publish(self, now: Micros, guest: Guest, frame: PublishFrame, orders: Orders) -> None:
        problem = guest.access.publishing(frame.channel)
        if problem is not None:
            return self._error(guest, problem, frame.request_id, orders)
        if not self._takes(now, guest, frame, orders):
            return None
        self._post.publish(frame.channel, guest.peer_id, frame.data, guest.stamp, orders, publisher=guest.link)
        return self._ack(guest, frame.request_id, orders)

    def _send(self, now: Micros, guest: Guest, frame: SendFrame, orders: Orders) -> None:
        problem = peer_id_problem(frame.to)
        if problem is None and not guest.access.may_send:
            problem = ErrorCode.ACTION_NOT_PERMITTED
        links = self._registry.links_of(frame.to)
        if problem is None and not links:
            problem = ErrorCode.PEER_NOT_FOUND
        if problem is not None:
            return self._error(guest, problem, frame.request_id, orders)
        if not self._takes(now, guest, frame, orders):
            return None
        payload = encode_frame(DirectOut(guest.peer_id, frame.data, guest.stamp))
        self._post.hand_out(links, payload, len(links), orders)
        return self._ack(guest, frame.request_id, orders)

    def _ping(self, now: Micros, guest: Guest, frame: PingFrame, orders: Orders) -> None:
        self._post.to(guest.link, PONG, orders)

    def _malformed(self, now: Micros, guest: Guest, frame: Malformed, orders: Orders) -> None:
        self._stats.malformed += 1
        guest.malformed += 1
        if _is_noteworthy(guest.malformed):
            context = {"link": guest.link, "peer_id": guest.peer_id, "reason": frame.reason, "so_far": guest.malformed}
            orders.append(Note("warning", "bad frame", context))
        self._error(guest, frame.code, frame.request_id, orders, frame.reason)

    def _takes(self, now: Micros, guest: Guest, frame: PublishFrame | SendFrame, orders: Orders) -> bool:
        """Whether the relay passes this data on. If not, the guest has been told."""
        size = len(frame.data)
        if size > self._limits.max_message_size:
            self._close_too_big(now, guest, orders)
            return False
        if not size:
            self._error(guest, ErrorCode.MISSING_DATA, frame.request_id, orders)
            return False
        if not self._allowance.take(now):
            self._error(guest, ErrorCode.OVER_MESSAGE_QUOTA, frame.request_id, orders)
            return False
        self._stats.messages_in += 1
        self._stats.bytes_in += size
        return True

    def _close_too_big(self, now: Micros, guest: Guest, orders: Orders) -> None:
        self._close(now, guest, WsCloseCode.MESSAGE_TOO_BIG, "message too big", orders)

    def _ack(self, guest: Guest, request_id: str | None, orders: Orders) -> None:
        if request_id is not None:
            self._post.to(guest.link, encode_frame(Ack(request_id)), orders)

    def _error(self, guest: Guest, code: str, request_id: str | None, orders: Orders, message: str = "") -> None:
        self._stats.count(self._stats.errors, str(code))
        self._post.to(guest.link, encode_frame(ErrorFrame(code, request_id, message)), orders)

    # --- those who read too slowly --------------------------------------------------------------------------

    def _on_link_blocked(self, now: Micros, fact: LinkBlocked, orders: Orders) -> None:
        if fact.link in self._guests:
            self._post.block(fact.link, fact.queued)

    def _on_link_drained(self, now: Micros, fact: LinkDrained, orders: Orders) -> None:
        self._post.unblock(fact.link)

    def _cut_slow(self, now: Micros, orders: Orders) -> None:
        while self._post.overfull:
            guest = self._guests.get(self._post.overfull.pop())
            if guest is not None:
                self._stats.slow_consumers += 1
                self._note(orders, "warning", "slow consumer", link=guest.link)
                self._close(now, guest, WsCloseCode.POLICY_VIOLATION, "slow consumer", orders, abort=True)

    # --- time -----------------------------------------------------------------------------------------------

    def _on_heard(self, now: Micros, fact: Heard, orders: Orders) -> None:
        guest = self._guests.get(fact.link)
        if guest is not None and guest.unanswered:
            guest.unanswered = False
            if (asked := self._pongs.set_at(guest.link)) is not None:
                self._round_trips.add(now - asked)

    def _on_woken(self, now: Micros, fact: Woken, orders: Orders) -> None:
        # Pongs before pings: whoever is woken so late that both are due asks about the old ping first.
        for link in self._pongs.due(now):
            guest = self._guests[link]
            if guest.unanswered:
                self._note(orders, "info", "no answer to a ping", link=link, peer_id=guest.peer_id)
                self._close(now, guest, WsCloseCode.GOING_AWAY, "no pong", orders, abort=True)
        for link in self._pings.due(now):
            self._guests[link].unanswered = True
            self._pings.set(link, now)
            self._pongs.set(link, now)
            orders.append(PingLink(link))
        for link in self._expiries.due(now):
            code = WsCloseCode.TOKEN_EXPIRED
            self._close(now, self._guests[link], code, SYMBOLIC_NAMES[code], orders)
        for link in self._patience.due(now):
            self._close(now, self._guests[link], WsCloseCode.POLICY_VIOLATION, "timeout", orders, abort=True)
        if self._drain_ends is not None and self._drain_ends <= now:
            self._shut_down(now, orders)

    def _wall(self, now: Micros) -> float:
        """Unix seconds."""
        return self._born_at + now / SECOND

    # --- what the operator asks -----------------------------------------------------------------------------

    def _on_asked(self, now: Micros, fact: Asked, orders: Orders) -> None:
        call = fact.call
        if isinstance(call, Drain):
            self._begin_drain(now, fact.op, call, orders)
        elif isinstance(call, HttpCall):
            orders.append(Answer(fact.op, self._serve(now, call, orders)))
        elif isinstance(call, Kick | PublishAs | Peers | Usage):
            outcome = self._perform(now, call, orders)
            failed = isinstance(outcome, MeteredRealtimeError)
            orders.append(Answer(fact.op, error=outcome) if failed else Answer(fact.op, outcome))
        else:
            raise LocalProtocolError(f"a relay cannot be asked for {type(call).__name__}")

    def _serve(self, now: Micros, call: HttpCall, orders: Orders) -> HttpReply:
        outcome = self._control.read(call, now, self._wall(now), draining=self._drain is not None)
        if isinstance(outcome, HttpReply):
            return outcome
        return outcome.reply(self._perform(now, outcome.call, orders))

    def _perform(self, now: Micros, call: Kick | PublishAs | Peers | Usage, orders: Orders) -> Any:
        """Do it at once; returns the outcome, which may be the error that says why not."""
        if isinstance(call, Kick):
            return self._kick(now, call, orders)
        if isinstance(call, PublishAs):
            return self._publish_as(now, call, orders)
        if isinstance(call, Peers):
            return self._registry.peers(call.channel)
        return UsageReport(self._registry.link_count, self._allowance.used(now), self._limits)

    def _kick(self, now: Micros, call: Kick, orders: Orders) -> int:
        links = self._registry.links_of(call.peer_id)
        code = WsCloseCode.ADMIN_DISCONNECT
        for link in links:
            self._close(now, self._guests[link], code, SYMBOLIC_NAMES[code], orders)
        return len(links)

    def _publish_as(self, now: Micros, call: PublishAs, orders: Orders) -> int | MeteredRealtimeError:
        if len(call.data) > self._limits.max_message_size:
            return OversizedPayloadError(len(call.data), self._limits.max_message_size)
        if not self._allowance.take(now):
            return ServerRequestError(ErrorCode.OVER_MESSAGE_QUOTA, "the messages of this period are used up")
        self._stats.messages_in += 1
        self._stats.bytes_in += len(call.data)
        stamp = msgspec.Raw(encode_frame(call.peer_metadata)) if call.peer_metadata is not None else NO_STAMP
        return self._post.publish(call.channel, call.sender or OPERATOR, call.data, stamp, orders, publisher=None)

    def _on_withdrawn(self, now: Micros, fact: Withdrawn, orders: Orders) -> None:
        # Only a drain takes its time. It goes on; nobody is told any more.
        if fact.op in self._drain_ops:
            self._drain_ops.remove(fact.op)

    def _begin_drain(self, now: Micros, op: int, call: Drain, orders: Orders) -> None:
        ends = now + micros(call.grace)
        if self._drain is None:
            self._drain = call
            members = tuple(link for link, guest in self._guests.items() if guest.is_member())
            self._drain_told = len(members)
            self._drain_ends = ends
            self._note(orders, "info", "draining", members=len(members))
            self._post.to_all(members, encode_frame(GoingAwayFrame(call.retry_after_ms)), orders)
        elif self._drain_ends is not None:
            self._drain_ends = min(self._drain_ends, ends)
        self._drain_ops.append(op)
        if self._drain_ends is not None and self._drain_ends <= now:
            self._shut_down(now, orders)
        self._finish_drain(orders)

    def _shut_down(self, now: Micros, orders: Orders) -> None:
        self._drain_ends = None
        self._shut = True
        for guest in tuple(self._guests.values()):
            if guest.is_member():
                self._close(now, guest, WsCloseCode.GOING_AWAY, "going_away", orders)

    def _finish_drain(self, orders: Orders) -> None:
        if self._drain is not None and not self._guests:
            self._drain_ends = None
            orders += [Answer(op, self._drain_told) for op in self._drain_ops]
            self._drain_ops = []

    def _note(self, orders: Orders, level: Level, message: str, **context: Any) -> None:
        orders.append(Note(level, message, context))


def _is_noteworthy(count: int) -> bool:
    """Whether to log the `count`-th of its kind: the 1st, the 2nd, the 4th, the 8th…"""
    return count & (count - 1) == 0
