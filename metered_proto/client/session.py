"""One signalling connection that comes back: the client as a whole.

Theory of operation
-------------------
A session is always in one phase. A `Connect` starts an attempt: where tokens are used, one is fetched first; then
a link is opened, and the server has to say `welcome`. From then on the session is online, and requests go out.

When an attempt fails or the connection is lost, the close code decides (`metered_proto.wire.close_codes`): either
it is final, or the ladder says how long to wait before the next attempt. The very first connect is different:
when it fails, it is reported and the session is idle again, ready for another `Connect`
(`ReconnectOptions.retry_first` lifts that).

What each phase needs to know lives in the phase and dies with it. Where a phase can lead is the table below, and
there is no other way: the next phase is looked up in it.

The parts are machines of their own: the heartbeat watches the link, the ledger knows who waits for which
acknowledgement, the subscriptions know what to restore. They are told about a link only between its `welcome` and
its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, cast
from urllib.parse import quote

import msgspec

from metered_proto.client.calls import Close, Connect, FetchToken, Publish, PublishMany, SendTo, Subscribe, Unsubscribe
from metered_proto.client.deduplicator import Deduplicator, Delivery
from metered_proto.client.heartbeat import Heartbeat
from metered_proto.client.ladder import Ladder
from metered_proto.client.ledger import Ledger, Pending, PendingSubscribe
from metered_proto.client.outbox import Enqueue, Flush, OutboxQueue
from metered_proto.client.requests import AnswerRequests, Request, Requests
from metered_proto.client.subscriptions import Subscriptions
from metered_proto.client.unacked import Unacked
from metered_proto.entropy import Entropy
from metered_proto.errors import (
    LocalProtocolError,
    MeteredRealtimeError,
    NotConnectedError,
    OversizedPayloadError,
    ServerRequestError,
    SignallingConnectError,
)
from metered_proto.events import (
    Connected,
    Direct,
    Disconnected,
    GoingAway,
    IceServer,
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
from metered_proto.latency import Latencies
from metered_proto.machine import Composite, Deadline, Micros, micros
from metered_proto.orders import (
    Abandon,
    Answer,
    AnswerAll,
    Begin,
    CloseLink,
    Note,
    OpenLink,
    Order,
    Send,
    Tell,
    TellAll,
)
from metered_proto.settings import ClientSettings
from metered_proto.wire.close_codes import WsCloseCode, verdict
from metered_proto.wire.codec import Malformed, decode_server_frames, encode_frame
from metered_proto.wire.ice_servers import parse_ice_servers
from metered_proto.wire.messages import (
    DEFAULT_MAX_MESSAGE_SIZE,
    Ack,
    AnyServerFrame,
    ErrorFrame,
    GoingAwayFrame,
    PublishFrame,
    SendFrame,
    SubscribeFrame,
    UnsubscribeFrame,
    Welcome,
)
from metered_proto.wire.scrub import MASK, scrub
from metered_proto.wire.urls import attempt_url, check_credential

State: TypeAlias = Literal["idle", "connecting", "connected", "reconnecting", "closed"]
"""What the application sees."""

PhaseName: TypeAlias = Literal["idle", "fetching", "opening", "greeting", "online", "waiting", "closed"]

Trigger: TypeAlias = Literal[
    "fetch",  # an attempt begins, and needs a token
    "open",  # an attempt begins with the key, or the token has come
    "up",  # the link is open
    "welcome",  # the server let us in
    "retry",  # the attempt failed or the connection is lost, and another attempt will be made
    "fail",  # the first connect failed, or its caller no longer wants it
    "end",  # nothing will be tried any more
    "close",  # the application closes
]

TRANSITIONS: Final[dict[tuple[PhaseName, Trigger], PhaseName]] = {
    ("idle", "fetch"): "fetching",
    ("idle", "open"): "opening",
    ("idle", "close"): "closed",
    ("fetching", "open"): "opening",
    ("fetching", "retry"): "waiting",
    ("fetching", "fail"): "idle",
    ("fetching", "end"): "closed",
    ("fetching", "close"): "closed",
    ("opening", "up"): "greeting",
    ("opening", "retry"): "waiting",
    ("opening", "fail"): "idle",
    ("opening", "end"): "closed",
    ("opening", "close"): "closed",
    ("greeting", "welcome"): "online",
    ("greeting", "retry"): "waiting",
    ("greeting", "fail"): "idle",
    ("greeting", "end"): "closed",
    ("greeting", "close"): "closed",
    ("online", "retry"): "waiting",
    ("online", "end"): "closed",
    ("online", "close"): "closed",
    ("waiting", "fetch"): "fetching",
    ("waiting", "open"): "opening",
    ("waiting", "fail"): "idle",
    ("waiting", "close"): "closed",
}

TOKEN_FAILURES_TO_TELL: Final = 3
"""From this many failures of the token provider in a row, the application is told of each."""

STEADY: Final[Micros] = micros(10)
"""A connection that lasted so long was a good one: the way back to it starts at the bottom of the ladder."""

MAX_RETRY_AFTER: Final[Micros] = micros(600)
"""However long a server asks us to stay away, we look again after ten minutes."""

LONGEST_TEXT: Final = 2000
"""Characters of an error's code or message, or of a close reason, that are passed on."""

SHORTEST_SECRET: Final = 8
"""A credential shorter than this is none: it would be found in ordinary words."""


class Phase(msgspec.Struct):
    """What a phase has to know. `timer` is when it runs out, if it does."""

    name: PhaseName
    timer: Deadline | None = None
    link: int | None = None
    effect: int | None = None


class Counters(msgspec.Struct):
    """What happened so far, for people who watch."""

    connects: int = 0
    reconnects: int = 0
    frames_in: int = 0
    """Whole messages of the server's, good ones and bad."""
    requests: int = 0
    """What the application asked for, one way or another."""
    malformed_frames: int = 0
    server_errors: int = 0


class ClientSession(Composite):
    """The machine of a signalling client.

    Give it the calls of `metered_proto.client.calls` as `Asked`; carry out `OpenLink`, `Send`, `CloseLink`,
    `Begin(FetchToken)`, `Abandon`, `Answer`, `AnswerAll`, `Tell`, `TellAll` and `Note`; with an `outbox` also
    `Forget` and `Attempted`, which are for its store. One link is open at a time; facts about any other are ignored.

    With a `deduplicator`, what comes from an outbox is told as if it had been published without: each message for
    itself, repeats left out, gaps told as `Gap`.
    """

    def __init__(
        self,
        settings: ClientSettings,
        entropy: Entropy,
        *,
        outbox: OutboxQueue | None = None,
        deduplicator: Deduplicator | None = None,
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._deduplicator = deduplicator
        self._heartbeat = Heartbeat(settings.inactivity_timeout)
        self._ledger = Ledger(settings.ack_timeout)
        self._subscriptions = Subscriptions(keep=settings.auto_resubscribe, ack_timeout=settings.ack_timeout)
        self._ladder = None if settings.reconnect is None else Ladder(settings.reconnect, entropy.fork("ladder"))
        self._requests = Requests(entropy.fork("requests"))
        self._unacked = Unacked()
        # The heartbeat last: where it gives up the link, nothing must be sent on it any more.
        senders = (self._ledger, self._unacked, self._subscriptions, self._requests)
        self.parts = (*senders, self._heartbeat) if outbox is None else (*senders, outbox, self._heartbeat)
        self.ack_latencies = Latencies()
        """From a request to its acknowledgement; of those that come in one read, only the longest waiting."""
        self._phase = Phase("idle")
        self.state: State = "idle"
        """The state that the application sees."""
        self._connecting: list[int] = []  # the ops of everybody who waits in connect()
        self._links = 0
        self._effects = 0
        self._token_failures = 0
        self._welcomed_at: Micros = 0
        self._floor: Micros = 0  # the earliest time at which the server wants to see us again
        self._credential = settings.api_key or ""  # the latest, so that it can be kept out of what a server says
        self.counters = Counters()
        self.peer_id: str | None = None
        self.max_message_size = DEFAULT_MAX_MESSAGE_SIZE
        self.ice_servers: tuple[IceServer, ...] = ()

    def successor(self, entropy: Entropy) -> ClientSession:
        """An idle session like this one, which is closed. It numbers links and effects on from here."""
        session = ClientSession(self._settings, entropy)
        session._links, session._effects = self._links, self._effects
        return session

    # --- what can be asked of it at any time ---

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels and patterns that are, or will be again, subscribed to."""
        return () if self._phase.name == "closed" else self._subscriptions.channels

    @property
    def outbox(self) -> OutboxQueue | None:
        """The outbox, if there is one, to be looked at."""
        return self._outbox

    @property
    def in_flight(self) -> int:
        """How many requests wait for their acknowledgement."""
        return len(self._ledger)

    @property
    def deadline(self) -> Deadline | None:
        """The soonest of the phase's own timer and those of the parts."""
        first = self._phase.timer
        for part in self.parts:  # `soonest`, without the list that it takes: this is asked after every fact
            due = part.deadline
            if due is not None and (first is None or due.at < first.at):
                first = due
        return first

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Take in one fact. Raises `LocalProtocolError` for a call or a fact that is not for a client."""
        # These ahead of the others, being the most frequent by far.
        if type(fact) is Asked:
            self.counters.requests += 1
            call = fact.call
            return self._publish(now, fact.op, call) if type(call) is Publish else self._asked(now, fact.op, call)
        if type(fact) is Received:
            return self._received(now, fact.link, fact.payloads) if fact.link == self._phase.link else []
        match fact:
            case Heard(link):
                if link == self._phase.link:
                    self._heartbeat.heard(now)
                return []
            case Woken():
                return self._woken(now)
            case LinkUp(link):
                return self._link_up(now, link)
            case LinkDown(link, code, reason):
                return self._lost(now, code, reason) if link == self._phase.link else []
            case EffectDone(effect, result, error):
                return self._token_came(now, result, error) if effect == self._phase.effect else []
            case Withdrawn(op):
                return self._withdrawn(now, fact, op)
            case LinkBlocked(link) | LinkDrained(link):
                if link != self._phase.link:
                    return []
                return self._heartbeat.handle(now, fact) + self._unacked.handle(now, fact)
            case _:
                raise LocalProtocolError(f"{type(fact).__name__} is not for a client")

    # --- the phases ---

    def _enter(
        self, trigger: Trigger, timer: Deadline | None = None, *, link: int | None = None, effect: int | None = None
    ) -> list[Order]:
        before = self.state
        self._phase = Phase(TRANSITIONS[self._phase.name, trigger], timer, link, effect)
        match self._phase.name:
            case "idle" | "closed" as name:
                self.state = name
            case "online":
                self.state = "connected"
            case _:
                self.state = "reconnecting" if self.counters.connects else "connecting"
        after = self.state
        if before == after:
            return []
        return [Note("info", "state", {"from": before, "to": after}), Tell(StateChange(before, after))]

    def _attempt(self, now: Micros) -> list[Order]:
        if self._settings.api_key is not None:
            return self._open(now, attempt_url(self._settings.url, "key", self._settings.api_key))
        self._effects += 1
        timer = Deadline(now + micros(self._settings.token_provider_timeout), "token")
        return [*self._enter("fetch", timer, effect=self._effects), Begin(self._effects, FetchToken())]

    def _open(self, now: Micros, target: str) -> list[Order]:
        self._links += 1
        timer = Deadline(now + micros(self._settings.open_timeout), "open")
        return [*self._enter("open", timer, link=self._links), OpenLink(self._links, target)]

    def _token_came(self, now: Micros, token: object, error: Exception | None) -> list[Order]:
        if error is not None:
            return self._token_failed(now, error)
        try:
            self._credential = check_credential("the provider's token", token)
        except (TypeError, ValueError) as problem:
            return self._token_failed(now, problem.with_traceback(None))
        self._token_failures = 0
        return self._open(now, attempt_url(self._settings.url, "token", self._credential))

    def _token_failed(self, now: Micros, error: Exception) -> list[Order]:
        self._token_failures += 1
        orders: list[Order] = []
        if self._token_failures >= TOKEN_FAILURES_TO_TELL:
            orders.append(Tell(TokenProviderError(self._token_failures, error)))  # first: what follows may be the end
        return orders + self._lost(now, 1006, f"the token provider failed: {type(error).__name__}", error)

    def _link_up(self, now: Micros, link: int) -> list[Order]:
        if self._phase.name != "opening" or link != self._phase.link:
            return []
        return self._enter("up", Deadline(now + micros(self._settings.welcome_timeout), "welcome"), link=link)

    def _welcomed(self, now: Micros, link: int, welcome: Welcome) -> list[Order]:
        is_reconnect = self.counters.connects > 0
        orders = self._enter("welcome", link=link)
        self.counters.connects += 1
        self.counters.reconnects += is_reconnect
        self._welcomed_at = now
        if self._ladder is not None:
            self._ladder.arrived()
        self._heartbeat.handle(now, LinkUp(link))
        self.peer_id = welcome.peer_id
        self.max_message_size = welcome.max_message_size if welcome.max_message_size > 0 else DEFAULT_MAX_MESSAGE_SIZE
        metadata = welcome.metadata if isinstance(welcome.metadata, dict) else {}
        self.ice_servers = parse_ice_servers(metadata.get("iceServers")) or self.ice_servers
        orders.append(
            Tell(
                Connected(
                    welcome.peer_id,
                    welcome.server_time,
                    welcome.expires_at,
                    is_reconnect,
                    self.max_message_size,
                    self.ice_servers,
                )
            )
        )
        orders += self._subscriptions.replay(now, link)
        if self._outbox is not None:
            orders += self._outbox.opened(now, link, self.max_message_size)
        return orders + self._answer_connects(None)

    def _lost(self, now: Micros, code: int, reason: str, cause: Exception | None = None) -> list[Order]:
        """The attempt failed, or the connection is gone. What now?"""
        reason = self._clean(reason)
        orders: list[Order] = []
        was_online = self._phase.name == "online"
        if was_online and self._phase.link is not None:
            down = LinkDown(self._phase.link, code, reason)
            for part in self.parts:
                orders += part.handle(now, down)
        if was_online and self._ladder is not None and now - self._welcomed_at >= STEADY:
            self._ladder.reset()
        first = self.counters.connects == 0
        options = self._settings.reconnect
        delay: Micros | None = None
        ruling = verdict(code, can_refresh=self._settings.api_key is None)
        if ruling.reconnect and self._ladder is not None and (not first or (options and options.retry_first)):
            delay = self._ladder.climb(max(ruling.min_delay, self._floor - now))
        context = {"code": code, "reason": reason}
        if delay is not None:
            orders += self._enter("retry", Deadline(now + delay, "reconnect"))
            orders.append(Note("warning", "connection lost" if was_online else "attempt failed", context))
            if was_online:
                orders.append(Tell(Disconnected(code, reason, will_reconnect=True)))
            return orders
        error = SignallingConnectError(code, reason)
        error.__cause__ = cause
        if first:
            orders += self._enter("fail")
            orders.append(Note("error", "could not connect", context))
            if self._ladder is not None:
                self._ladder.reset()
        else:
            orders += self._enter("end")
            orders.append(Note("error", "disconnected for good", context))
            orders.append(Tell(Disconnected(code, reason, will_reconnect=False)))
            orders += self._close_outbox()
        return orders + self._answer_connects(error)

    def _answer_connects(self, error: MeteredRealtimeError | None) -> list[Order]:
        waiting, self._connecting = self._connecting, []
        return [Answer(op, error=error) for op in waiting]

    def _woken(self, now: Micros) -> list[Order]:
        orders: list[Order] = []
        phase = self._phase
        if phase.timer is not None and phase.timer.at <= now:
            orders += self._phase_ran_out(now, phase)
        orders += self.wake(now)
        if self._heartbeat.silent and self._phase.name == "online":
            orders += self._lost(now, WsCloseCode.INACTIVITY, "nothing arrived in time")
        return orders

    def _phase_ran_out(self, now: Micros, phase: Phase) -> list[Order]:
        if phase.effect is not None:
            return [Abandon(phase.effect), *self._token_failed(now, TimeoutError("the token provider took too long"))]
        if phase.link is None:
            return self._attempt(now)
        if phase.name == "opening":
            return [CloseLink(phase.link, 1006, abort=True), *self._lost(now, 1006, "the connection timed out")]
        reason = "no welcome came"
        return [CloseLink(phase.link, WsCloseCode.INACTIVITY, reason), *self._lost(now, 1006, reason)]

    def _leave(self, code: int, reason: str) -> list[Order]:
        """Let go of whatever the phase holds."""
        if self._phase.effect is not None:
            return [Abandon(self._phase.effect)]
        if self._phase.link is not None:
            return [CloseLink(self._phase.link, code, reason)]
        return []

    # --- the application ---

    def _asked(self, now: Micros, op: int, call: object) -> list[Order]:
        match call:
            case SendTo():
                return self._send(now, op, call)
            case Subscribe():
                return self._subscribe(now, op, call)
            case PublishMany(messages):
                return self._publish_many(now, op, messages)
            case Request():
                if self._phase.name != "online" or self._phase.link is None:
                    return [Answer(op, error=NotConnectedError(self.state))]
                return self._requests.ask(now, op, call, self._phase.link, self.max_message_size)
            case Enqueue() | Flush():
                if self._outbox is None:
                    raise LocalProtocolError("this client has no outbox")
                return self._outbox.handle(now, Asked(op, call))
            case AnswerRequests(on):
                self._requests.answer_requests(on)
                return [Answer(op)]
            case Unsubscribe(channel):
                return self._unsubscribe(now, op, channel)
            case Connect():
                return self._connect(now, op)
            case Close(code, reason):
                return self._close(now, op, code, reason)
            case _:
                raise LocalProtocolError(f"{type(call).__name__} is not a call to a client")

    def _publish(self, now: Micros, op: int, call: Publish) -> list[Order]:
        phase, data = self._phase, call.data
        link = phase.link
        if link is None or phase.name != "online":
            return [Answer(op, error=NotConnectedError(self.state))]
        if len(data) > self.max_message_size:
            return [Answer(op, error=OversizedPayloadError(len(data), self.max_message_size))]
        if call.ack:
            return [Send(link, encode_frame(PublishFrame(call.channel, data, self._ledger.enter(now, op))))]
        return [Send(link, encode_frame(PublishFrame(call.channel, data))), *self._unacked.sent(op, link)]

    def _send(self, now: Micros, op: int, call: SendTo) -> list[Order]:
        if self._phase.name != "online" or self._phase.link is None:
            return [Answer(op, error=NotConnectedError(self.state))]
        if len(call.data) > self.max_message_size:
            return [Answer(op, error=OversizedPayloadError(len(call.data), self.max_message_size))]
        frame = SendFrame(call.peer_id, call.data, self._ledger.enter(now, op))
        return [Send(self._phase.link, encode_frame(frame))]

    def _publish_many(self, now: Micros, op: int, messages: tuple[Publish, ...]) -> list[Order]:
        link = self._phase.link
        if self._phase.name != "online" or link is None:
            return [Answer(op, error=NotConnectedError(self.state))]
        largest = max((len(message.data) for message in messages), default=0)
        if largest > self.max_message_size:
            return [Answer(op, error=OversizedPayloadError(largest, self.max_message_size))]
        if not messages:
            return [Answer(op)]
        request_ids = self._ledger.enter_batch(now, op, len(messages))
        return [
            Send(link, encode_frame(PublishFrame(message.channel, message.data, request_id)))
            for message, request_id in zip(messages, request_ids, strict=True)
        ]

    def _subscribe(self, now: Micros, op: int, call: Subscribe) -> list[Order]:
        if self._phase.name != "online" or self._phase.link is None:
            return [Answer(op, error=NotConnectedError(self.state))]
        request_id = self._ledger.enter_subscribe(now, op, call, self._subscriptions.wish(call))
        frame = SubscribeFrame(call.channel, call.include_sender_metadata, request_id)
        return [Send(self._phase.link, encode_frame(frame))]

    def _unsubscribe(self, now: Micros, op: int, channel: str) -> list[Order]:
        # Even without a connection: what is not wanted any more must not be restored.
        self._subscriptions.drop(channel)
        if self._phase.name != "online" or self._phase.link is None:
            return [Answer(op, error=NotConnectedError(self.state))]
        request_id = self._ledger.enter(now, op)
        return [Send(self._phase.link, encode_frame(UnsubscribeFrame(channel, request_id)))]

    def _connect(self, now: Micros, op: int) -> list[Order]:
        match self._phase.name:
            case "online":
                return [Answer(op)]
            case "closed":
                return [Answer(op, error=NotConnectedError("closed"))]
            case "idle":
                self._connecting.append(op)
                return self._attempt(now)
            case _:
                self._connecting.append(op)
                return []

    def _close(self, now: Micros, op: int, code: int, reason: str) -> list[Order]:
        if self._phase.name == "closed":
            return [Answer(op)]
        orders = self._leave(code, reason)
        if self._phase.name == "online" and self._phase.link is not None:
            down = LinkDown(self._phase.link, code, reason)
            for part in self.parts:
                orders += part.handle(now, down)
        orders += self._enter("close")
        orders.append(Tell(Disconnected(code, reason, will_reconnect=False)))
        orders += self._answer_connects(SignallingConnectError(code, reason or "closed by the application"))
        orders += self._close_outbox()
        return [*orders, Answer(op)]

    def _close_outbox(self) -> list[Order]:
        return [] if self._outbox is None else self._outbox.closed()

    def _withdrawn(self, now: Micros, fact: Withdrawn, op: int) -> list[Order]:
        if op not in self._connecting:
            for part in self.parts:
                part.handle(now, fact)
            return []
        self._connecting.remove(op)
        if self._connecting or self.counters.connects:
            return []
        # Nobody waits for the first connect any more, so it is called off.
        if self._ladder is not None:
            self._ladder.reset()
        return [*self._leave(1000, "called off"), *self._enter("fail")]

    # --- the server ---

    def _received(self, now: Micros, link: int, payloads: list[str | bytes]) -> list[Order]:
        if self._phase.name == "opening":
            raise LocalProtocolError("Received ahead of LinkUp")
        self._heartbeat.heard(now)
        self.counters.frames_in += len(payloads)
        orders: list[Order] = []
        oldest: Pending | None = None
        online, deduplicator, settle = self._phase.name == "online", self._deduplicator, self._ledger.settle
        frames = decode_server_frames(payloads)
        if online and len(frames) > 1:  # a busy subscriber or publisher gets much, and nothing else
            if deduplicator is None and _ONLY_MESSAGES.issuperset(map(type, frames)):
                return [TellAll(frames)]
            if _ONLY_ACKS.issuperset(map(type, frames)):
                return self._acknowledged(now, [frame.request_id for frame in cast(Sequence[Ack], frames)])
        for frame in frames:
            if not online:
                orders += self._greeted(now, link, frame)
                online = self._phase.name == "online"
            elif isinstance(frame, Message):
                if deduplicator is None:
                    orders.append(Tell(frame))
                else:
                    orders += self._deduplicated(deduplicator, frame)
            elif isinstance(frame, Ack):
                request = settle(frame.request_id)
                oldest = oldest or request
                if type(request) is not Pending:
                    orders += self._settled(now, frame.request_id, request, None)
                elif request.op is not None:
                    orders.append(Answer(request.op))
            elif isinstance(frame, Direct):
                orders += self._requests.direct(frame)
            elif isinstance(frame, Presence):
                orders.append(Tell(frame))
            elif isinstance(frame, ErrorFrame):
                orders += self._refused(now, frame)
            elif isinstance(frame, GoingAwayFrame):
                orders += self._going_away(now, frame)
            elif isinstance(frame, Malformed):
                orders += self._dropped(frame)
            # A pong, or a second welcome, says no more than that the server is there.
        if oldest is not None:
            self.ack_latencies.add(now - self._ledger.sent_at(oldest))
        return orders

    def _acknowledged(self, now: Micros, request_ids: list[str]) -> list[Order]:
        requests = list(map(self._ledger.settle, request_ids))
        oldest = next((request for request in requests if request is not None), None)
        if oldest is not None:
            self.ack_latencies.add(now - self._ledger.sent_at(oldest))
        if _ONLY_PENDING.issuperset(map(type, requests)):
            ops = [request.op for request in requests if request is not None and request.op is not None]
            return [AnswerAll(ops)] if ops else []
        orders: list[Order] = []
        for request_id, request in zip(request_ids, requests, strict=True):
            orders += self._settled(now, request_id, request, None)
        return orders

    def _deduplicated(self, deduplicator: Deduplicator, message: Message) -> list[Order]:
        orders: list[Order] = []
        for item in deduplicator.read(message):
            if isinstance(item, Delivery):
                orders.append(Tell(Message(item.channel, item.sender_peer_id, item.data, item.sender_metadata)))
            else:
                orders.append(Tell(item))
        return orders

    def _greeted(self, now: Micros, link: int, frame: AnyServerFrame | Malformed) -> list[Order]:
        if isinstance(frame, Welcome):
            return self._welcomed(now, link, frame)
        return self._dropped(frame if isinstance(frame, Malformed) else Malformed("early", "ahead of the welcome"))

    def _settled(
        self, now: Micros, request_id: str, request: Pending | None, error: ServerRequestError | None
    ) -> list[Order]:
        if request is None:
            if self._outbox is not None and request_id in self._outbox:
                if error is None:
                    self.ack_latencies.add(now - self._outbox.sent_at(request_id))
                return self._outbox.settled(now, request_id, error)
            return self._subscriptions.replayed(now, request_id, error)
        if isinstance(request, PendingSubscribe):
            self._subscriptions.settled(request.call, request.serial, refused=error is not None)
        return self._ledger.end(request, error)

    def _refused(self, now: Micros, frame: ErrorFrame) -> list[Order]:
        request_id, code, message = frame.request_id, self._clean(frame.code), self._clean(frame.message)
        if request_id is not None and self._awaits(request_id):
            error = ServerRequestError(code, message, request_id)
            return self._settled(now, request_id, self._ledger.settle(request_id), error)
        if request_id is not None and self._requests.knows(request_id):
            return self._requests.refused(request_id, ServerRequestError(code, message, request_id))
        if request_id is None and code == "unknown_type":
            return []  # an older server's answer to our ping
        if request_id is not None:
            request_id = self._clean(request_id)
        self.counters.server_errors += 1
        orders: list[Order] = [Tell(ServerError(code, message, request_id))]
        if _is_milestone(self.counters.server_errors):
            context = {"code": code[:100], "message": message[:500], "count": self.counters.server_errors}
            orders.append(Note("warning", "the server reports an error", context))
        return orders

    def _awaits(self, request_id: str) -> bool:
        if request_id in self._ledger or request_id in self._subscriptions:
            return True
        return self._outbox is not None and request_id in self._outbox

    def _going_away(self, now: Micros, frame: GoingAwayFrame) -> list[Order]:
        wait = round(min(max(frame.retry_after_ms, 0), MAX_RETRY_AFTER / 1000) * 1000)
        self._floor = now + wait
        return [Tell(GoingAway(wait // 1000))]

    def _dropped(self, frame: Malformed) -> list[Order]:
        self.counters.malformed_frames += 1
        count = self.counters.malformed_frames
        if not _is_milestone(count):
            return []
        return [Note("warning", "dropped a frame", {"code": frame.code, "reason": frame.reason, "count": count})]

    def _clean(self, text: str) -> str:
        """What a server or a driver says, cut to a readable length and without secrets, our own in any shape."""
        if len(self._credential) >= SHORTEST_SECRET:
            for secret in (self._credential, quote(self._credential, safe="")):
                text = text.replace(secret, MASK)
        return scrub(text[:LONGEST_TEXT])


_ONLY_MESSAGES, _ONLY_ACKS, _ONLY_PENDING = frozenset({Message}), frozenset({Ack}), frozenset({Pending})


def _is_milestone(count: int) -> bool:
    """The 1st, 2nd, 4th, 8th …: what a server does is noted then, or it would decide how fast the log grows."""
    return not count & (count - 1)
