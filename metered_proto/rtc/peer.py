"""One remote peer: the negotiation with it, and the connection to it, again and again.

Theory of operation
-------------------
At any time there is at most one connection. It is described by an offer of one side and an answer of the other
(RFC 8829), which travel over the relay, in order, as do ICE candidates and what a track is for. What the engine does
takes time, so making an offer or an answer and taking an answer are phases of their own, and a phase leads only where
the table below says. Descriptions that come while the engine is busy with one wait their turn.

A connection here can neither restart ICE nor, before it is up, take back an offer. So where JSEP does either, the
connection is replaced by another one, with another ICE user name fragment on our side. Whoever sees that the
remote's fragment is not the one it knows has been left behind by a rebuild, and follows: an offer with a new
fragment is answered from a new connection, an answer with a wrong one is answered by an offer from a new connection.
This is what makes both sides come to an agreement whatever was lost on the way.

*Who offers.* Whoever has something to send: the polite side at once, the impolite side after a short wait for the
remote's offer. If two offers cross, that of the impolite side counts: the impolite side ignores the other one, the
polite side withdraws its own. Until its offer has been sent, though, even the impolite side gives way, since nobody
knows of it yet. After a loss, a side that has
nothing to send waits longer, and then offers to receive what it received before. Thus somebody always acts, whichever
side noticed the loss.

*What may be lost.* The relay may fail at any time, and with it what was on its way. An offer is said again until it is
answered. An offer that comes again is answered by the same answer, again. When the way to the remote comes back,
an offer that is out is said again at once. A connection that is up needs no relay and is left alone.

*Retries.* What the engine cannot offer on a connection that is up, it is asked for again, a few times. The call goes
on meanwhile with what was agreed on before.

*Recovery.* A connection that fails, closes or does not come up in time is rebuilt, each time with the next STUN and
TURN server, after growing delays, until they are used up. What the remote makes us rebuild costs nothing of that,
but happens only so often.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec

from metered_proto.entropy import Entropy
from metered_proto.errors import IceRecoveryExhaustedError, LocalProtocolError, MeteredPeerStateError
from metered_proto.events import (
    ConnectionReset,
    IceCandidateError,
    IceServer,
    NegotiationError,
    StateChange,
)
from metered_proto.facts import Asked, EffectDone, Fact, LinkDown, LinkUp, Withdrawn, Woken
from metered_proto.machine import SECOND, Deadline, Micros, micros, soonest
from metered_proto.orders import Abandon, Answer, Begin, Note, Order, Tell
from metered_proto.rtc.candidates import RemoteCandidates
from metered_proto.rtc.connection import Connection
from metered_proto.rtc.inbox import Heard, Inbox
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.received import ReceivedTracks
from metered_proto.rtc.recovery import Recovery
from metered_proto.rtc.retries import OfferRetries
from metered_proto.rtc.sent import SentChannels, SentTracks
from metered_proto.rtc.servers import ServerRotation
from metered_proto.rtc.side_work import SideWork
from metered_proto.rtc.words import (
    AddCandidate,
    CandidateFailed,
    CandidateGathered,
    ChannelArrived,
    ChannelClosed,
    ChannelOpened,
    ChannelOptions,
    ChannelSeen,
    CloseConnection,
    ConnectionChanged,
    ConnectionState,
    CreateChannel,
    Described,
    LocalTrack,
    MakeAnswer,
    MakeOffer,
    MeasureTraffic,
    Numbers,
    OpenChannel,
    OpenConnection,
    PeerState,
    Reconcile,
    SetIce,
    SetTracks,
    Shut,
    SignalCame,
    SwapTrack,
    TakeAnswer,
)
from metered_proto.wire.scrub import scrub
from metered_proto.wire.signals import Candidate, RtcDescription, RtcIce, Signal, TrackMeta

PhaseName: TypeAlias = Literal[
    "idle", "waiting", "offering", "offered", "taking", "answering", "stable", "exhausted", "shut"
]

Trigger: TypeAlias = Literal[
    "begin",  # a connection is wanted
    "rest",  # it is not wanted any more
    "offer",  # our offer is being made
    "described",  # the engine has made our offer, or our answer
    "accept",  # the remote answered our offer
    "agreed",  # the engine has taken the remote's answer
    "answer",  # the remote's offer is being answered
    "refused",  # the engine could not, and the connection is as it was before
    "lose",  # the connection is gone, and will be replaced
    "exhaust",  # it will not be replaced any more
    "shut",  # the remote left, or we do
]

TRANSITIONS: Final[dict[tuple[PhaseName, Trigger], PhaseName]] = {
    ("idle", "begin"): "waiting",
    ("idle", "answer"): "answering",
    ("idle", "shut"): "shut",
    ("waiting", "rest"): "idle",
    ("waiting", "offer"): "offering",
    ("waiting", "answer"): "answering",
    ("waiting", "shut"): "shut",
    ("offering", "described"): "offered",
    ("offering", "answer"): "answering",
    ("offering", "refused"): "stable",
    ("offering", "lose"): "waiting",
    ("offering", "exhaust"): "exhausted",
    ("offering", "shut"): "shut",
    ("offered", "accept"): "taking",
    ("offered", "answer"): "answering",
    ("offered", "lose"): "waiting",
    ("offered", "exhaust"): "exhausted",
    ("offered", "shut"): "shut",
    ("taking", "agreed"): "stable",
    ("taking", "lose"): "waiting",
    ("taking", "exhaust"): "exhausted",
    ("taking", "shut"): "shut",
    ("answering", "described"): "stable",
    ("answering", "answer"): "answering",
    ("answering", "refused"): "stable",
    ("answering", "lose"): "waiting",
    ("answering", "exhaust"): "exhausted",
    ("answering", "shut"): "shut",
    ("stable", "offer"): "offering",
    ("stable", "answer"): "answering",
    ("stable", "lose"): "waiting",
    ("stable", "exhaust"): "exhausted",
    ("stable", "shut"): "shut",
    ("exhausted", "begin"): "waiting",
    ("exhausted", "rest"): "idle",
    ("exhausted", "answer"): "answering",
    ("exhausted", "shut"): "shut",
}

LONGEST_PAUSE: Final[Micros] = 30 * SECOND
"""Between two times that the same offer is said."""


class Phase(msgspec.Struct):
    """What a phase has to know. `timer` is when it runs out, if it does; while the relay is away, nothing does."""

    name: PhaseName
    timer: Deadline | None = None
    effect: int | None = None
    since: Micros = 0
    heard: Heard | None = None
    """The description that the engine is busy with."""
    pause: Micros = 0
    """How long to wait before our offer is said again."""
    wish: object = None
    """What the offer that is being made is to bring."""
    rolls_back: bool = False
    """Whether an offer of ours gave way to the one that is being answered."""


class RtcPeer:
    """The machine of one remote peer.

    Give it `SignalCame`, the calls of `metered_proto.rtc.words` as `Asked`, `LinkUp(0)` and `LinkDown(0)` for the way
    over the relay (which is there in the beginning), and what its engine reports. Carry out its orders; no other
    machine may use the same `numbers` at another engine.

    `polite` is the part that `is_polite` gives us. `ConnectionReset` is told once the replacement is up, right after
    the `StateChange` to `connected`.
    """

    def __init__(
        self,
        options: RtcOptions,
        numbers: Numbers,
        entropy: Entropy,
        *,
        polite: bool,
        servers: tuple[IceServer, ...],
        max_message_size: int = 65536,
    ) -> None:
        self._options = options
        self._numbers = numbers
        self._polite = polite
        self._max_message_size = max_message_size
        # Of many that lost the same remote, not all should ask it for their calls in the same instant.
        self._ask_delay = micros(options.ask_delay * entropy.fork("ask").uniform(1, 1.25))
        self._phase = Phase("idle")
        self._connection: Connection | None = None
        self._predecessor: int | None = None  # still to be closed
        self._recovery = Recovery(options.rebuild_delays)
        self._servers = ServerRotation(servers)
        self._received = ReceivedTracks(numbers)
        self._tracks = SentTracks()
        self._channels = SentChannels()
        self._candidates = RemoteCandidates()
        self._inbox = Inbox(micros(options.follow_interval))
        self._link = True
        self._told: PeerState = "idle"
        self._engaged = False
        """Whether a connection has been up: from then on it is brought back, even with nothing to send."""
        self._promise = False
        """Whether the remote said what it will send, and has not offered it yet."""
        self._owed = False
        """Whether we took away a connection that the remote may still count on."""
        self._reset_owed = False
        self._last_heard: str | None = None
        """The last description of the remote's that was agreed on, whatever became of the connection."""
        self._retries = OfferRetries(options.offer_retries)
        self._streams_at: Micros | None = None
        self._side_work = SideWork(numbers, self._tracks)

    # --- what can be asked of it at any time ---

    @property
    def state(self) -> PeerState:
        """The state that the application sees."""
        match self._phase.name:
            case "idle":
                return "idle"
            case "exhausted" | "shut":
                return "closed"
            case _:
                if self.connected:
                    return "connected"
                return "reconnecting" if self._engaged else "connecting"

    @property
    def pc(self) -> int | None:
        """The number of the live connection, if there is one."""
        return None if self._connection is None else self._connection.pc

    @property
    def connected(self) -> bool:
        """Whether the live connection is up."""
        return self._connection is not None and self._connection.up

    @property
    def polite(self) -> bool:
        """Whether our offer gives way where two cross."""
        return self._polite

    @property
    def deadline(self) -> Deadline | None:
        """The soonest of everything that is waited for."""
        return soonest(self._timers())

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Take in one fact. Raises `LocalProtocolError` for a call or a fact that is not for a peer."""
        if self._phase.name == "shut":
            return self._after_the_end(fact)
        match fact:
            case SignalCame(signal):
                return self._signalled(now, signal)
            case ConnectionChanged(pc, state):
                return self._changed(now, state) if pc == self.pc else []
            case CandidateGathered(pc, candidate):
                return self._gathered(candidate) if pc == self.pc else []
            case EffectDone(effect, result, error):
                return self._done(now, effect, result, error)
            case ChannelArrived(pc, channel):
                return [Tell(ChannelSeen(channel))] if pc == self.pc else []
            case ChannelOpened(channel) | ChannelClosed(channel):
                self._channels.settled(channel)
                return []
            case CandidateFailed(pc, error):
                return [Tell(IceCandidateError(error))] if pc == self.pc else []
            case Asked(op, call):
                return self._asked(now, op, call)
            case Woken():
                return self._woken(now)
            case LinkUp():
                return self._link_up(now)
            case LinkDown():
                self._link = False
                return []
            case Withdrawn(op):
                self._side_work.withdraw(op)
                return []
            case _:
                raise LocalProtocolError(f"{type(fact).__name__} is not for a peer")

    # --- phases and connections ---

    def _enter(self, trigger: Trigger, now: Micros, **what: Any) -> list[Order]:
        self._phase = Phase(TRANSITIONS[self._phase.name, trigger], since=now, **what)
        return self._tell_state()

    def _tell_state(self) -> list[Order]:
        before, after = self._told, self.state
        if before == after:
            return []
        self._told = after
        return [Note("info", "peer state", {"from": before, "to": after}), Tell(StateChange(before, after))]

    def _open(self, now: Micros) -> list[Order]:
        """Make a connection, with the channels that are still to be opened."""
        connection = self._connection = Connection(self._numbers.next(), now)
        self._tracks.opened()
        self._tracks.unsure()
        self._candidates.opened()
        self._retries.forget()
        return [
            OpenConnection(connection.pc, self._servers.current, self._options.relay_only),
            *self._channels.move(connection.pc),
        ]

    def _drop(self, *, later: bool = False) -> list[Order]:
        """Let go of the connection, and of all that hangs on it. `later`: close it once its successor is described."""
        closed = self._close_predecessor()
        connection, self._connection = self._connection, None
        if connection is None:
            return closed
        orders: list[Order] = [] if self._phase.effect is None else [Abandon(self._phase.effect)]
        orders += self._side_work.end()
        self._reset_owed |= connection.was_up
        self._streams_at = None
        orders += [*closed, *self._received.end()]
        self._predecessor = connection.pc
        return orders if later else orders + self._close_predecessor()

    def _close_predecessor(self) -> list[Order]:
        pc, self._predecessor = self._predecessor, None
        return [] if pc is None else [CloseConnection(pc)]

    def _timers(self) -> Iterator[Deadline | None]:
        phase, connection, options = self._phase, self._connection, self._options
        if phase.timer is not None and self._link:
            yield phase.timer
        if self._inbox.blocked_until is not None:
            yield Deadline(self._inbox.blocked_until, "follow")
        if self._streams_at is not None:
            yield Deadline(self._streams_at, "streams")
        if self._retries.at is not None and phase.name == "stable":
            yield Deadline(self._retries.at, "retry")
        if connection is None:
            return
        if connection.disconnected_at is not None:
            yield Deadline(connection.disconnected_at + micros(options.disconnected_timeout), "disconnected")
        if not connection.up and self._link:
            yield Deadline(connection.opened_at + micros(options.attempt_timeout), "attempt")
        if connection.up and phase.effect is not None:
            yield Deadline(phase.since + micros(options.attempt_timeout), "engine")

    def _woken(self, now: Micros) -> list[Order]:
        orders: list[Order] = []
        for due in [timer for timer in self._timers() if timer is not None and timer.at <= now]:
            if due not in self._timers():
                continue  # one before it has ended it
            match due.why:
                case "attempt":
                    orders += self._lose(now, "it did not come up in time")
                case "disconnected":
                    orders += self._lose(now, "it was disconnected for too long")
                case "engine":
                    orders += self._lose(now, "the engine took too long")
                case "offer":
                    orders += self._offer(now)
                case "again":
                    orders += self._say_again(now)
                case "follow":
                    self._inbox.blocked_until = None
                    orders += self._read_inbox(now)
                case "retry":
                    self._retries.due()
                    orders += self._catch_up(now)
                case _:
                    self._streams_at = None
                    orders += self._received.give_up()
        return orders

    # --- offering ---

    @property
    def _has_something_to_send(self) -> bool:
        return bool(self._tracks.wanted) or self._channels.waiting

    @property
    def _needs_an_offer(self) -> bool:
        """Whether what is agreed on is less, or more, than we want (W3C WebRTC, section 4.7.3)."""
        connection = self._connection
        if connection is None:
            return False
        lacks_channels = self._channels.waiting and not connection.has_application()
        return connection.unfitted or self._tracks.differ or lacks_channels

    @property
    def _wish(self) -> object:
        return tuple(track.key for track in self._tracks.wanted), self._channels.waiting

    @property
    def _is_wanted(self) -> bool:
        """Whether a connection is."""
        return self._has_something_to_send or self._engaged or self._owed or self._promise

    def _begin(self, now: Micros) -> list[Order]:
        """A connection is wanted."""
        return [*self._enter("begin", now), *self._wait(now)]

    def _wait(self, now: Micros) -> list[Order]:
        """Wait for an offer of the remote, as long as is our part, and then offer."""
        options = self._options
        if not self._is_wanted:
            self._recovery.reset()
            return self._enter("rest", now)
        if self._promise and not self._has_something_to_send:
            pause = micros(options.promise_wait)
        elif not (self._has_something_to_send or self._owed):
            # The impolite side asks first; should both have nothing to send, the other one need not.
            pause = self._ask_delay + (micros(options.ask_delay) // 2 if self._polite else 0)
        else:
            pause = micros(options.polite_wait if self._polite else options.impolite_wait)
        at = self._phase.since + pause
        if at <= now and self._link:
            return self._offer(now)
        self._phase.timer = Deadline(at, "offer")
        return []

    def _offer(self, now: Micros) -> list[Order]:
        """Have the engine make an offer, on the connection there is or on a new one."""
        orders = self._open(now) if self._connection is None else []
        assert self._connection is not None
        effect = self._numbers.next()
        orders += self._enter("offer", now, effect=effect, wish=self._wish)
        tracks = self._tracks.to_describe()
        if self._connection.remote is not None:
            return [*orders, Begin(effect, MakeOffer(self._connection.pc, tracks))]
        receive = self._tracks.lacking(self._received.kinds)
        if not tracks and not receive and not self._channels.waiting:
            receive = ("application",)
        return [*orders, Begin(effect, MakeOffer(self._connection.pc, tracks, receive, self._last_heard))]

    def _offer_is_made(self, now: Micros, connection: Connection, offer: Described) -> list[Order]:
        connection.offers(offer)
        pause = micros(self._options.answer_timeout)
        orders = self._enter("described", now, timer=Deadline(now + pause, "again"), pause=pause)
        return orders + self._say(now)

    def _say(self, now: Micros) -> list[Order]:
        """Send our description, after what there is to say about its tracks; without the relay, remember to."""
        if self._connection is None or not self._link:
            return []
        return [*self._tracks.announce(), *self._connection.say(now)]

    def _say_again(self, now: Micros) -> list[Order]:
        """Our offer was not answered. A new one would need a new connection, so it is the same again."""
        phase = self._phase
        phase.pause = min(2 * phase.pause, LONGEST_PAUSE)
        phase.timer = Deadline(now + phase.pause, "again")
        self._tracks.unsure()
        return self._say(now)

    # --- the remote's signals ---

    def _signalled(self, now: Micros, signal: Signal) -> list[Order]:
        match signal:
            case TrackMeta():
                if not self._received.announced(signal, self._max_message_size):
                    return [Note("debug", "dropped the metadata of a track: too large")]
                return self._promised(now, signal)
            case RtcIce(candidate):
                self._candidates.came(candidate)
                return self._release()
            case RtcDescription():
                self._candidates.described(self._inbox.put(signal).ufrags)
                return self._read_inbox(now)

    def _promised(self, now: Micros, meta: TrackMeta) -> list[Order]:
        """The remote will send a track. Its offer should follow, but some take their time."""
        if self._polite or self._last_heard is not None or meta.metadata is None or meta.kind is None:
            return []
        if self._phase.name == "idle":
            self._promise = True
            self._received.promise(meta)
            return self._begin(now)
        if self._promise and self._phase.name == "waiting":
            self._received.promise(meta)
        return []

    def _release(self) -> list[Order]:
        """Hand on the candidates that can be used now."""
        if self._connection is None or self._phase.name in ("taking", "answering"):
            return []
        pc = self._connection.pc
        return [AddCandidate(pc, candidate) for candidate in self._candidates.release()]

    def _read_inbox(self, now: Micros) -> list[Order]:
        """Take up the descriptions that wait, until one of them keeps the engine busy or has to wait itself."""
        orders: list[Order] = []
        while (heard := self._inbox.first) is not None and self._phase.name not in ("taking", "answering"):
            if self._rebuilds(heard) and not self._inbox.may_open(now, replaces=self._connection is not None):
                break
            self._inbox.take()
            if heard.type == "offer":
                orders += self._offered(now, heard)
            else:
                orders += self._answered(now, heard)
        return orders

    def _rebuilds(self, heard: Heard) -> bool:
        """Whether a description makes us open a connection."""
        connection = self._connection
        if heard.type == "offer":
            return not (self._is_ignored(heard) or (connection is not None and connection.is_of(heard.facts)))
        return self._is_left_behind(heard)

    def _is_left_behind(self, heard: Heard) -> bool:
        """Whether an answer says that the remote's connection does not belong to ours.

        Either it has another one than we know, or it answers an offer which we have taken back, although what we have
        instead, if anything, is not up. While an offer of ours is out, that will bring both together.
        """
        connection, phase = self._connection, self._phase.name
        if phase == "idle":
            return True
        if connection is None or connection.remote is None or phase not in ("offered", "stable"):
            return False
        if connection.is_late(heard.sdp):
            return phase == "stable" and not connection.up
        return not connection.is_of(heard.facts)

    def _is_ignored(self, heard: Heard) -> bool:
        """Whether an offer crosses one of ours that counts."""
        if self._polite:
            return False
        return self._phase.name == "offered" or (self._phase.name == "offering" and self.connected)

    def _offered(self, now: Micros, heard: Heard) -> list[Order]:
        """The remote offers."""
        connection = self._connection
        if connection is not None and connection.answered == heard.sdp:
            # It says its offer again, so it does not have our answer.
            return connection.say_answer() if self._link else []
        if self._is_ignored(heard):
            return [Note("debug", "two offers crossed, ours counts")]
        if connection is not None and connection.is_of(heard.facts):
            gives_way = self._phase.name in ("offering", "offered")
            abandoned: list[Order] = [] if self._phase.effect is None else [Abandon(self._phase.effect)]
            self._tracks.withdrawn()
            return abandoned + self._answer(now, connection, heard, rolls_back=gives_way)
        return self._answer_anew(now, heard)

    def _answer_anew(self, now: Micros, heard: Heard) -> list[Order]:
        """Answer an offer from a new connection."""
        # A goodbye that arrives ahead of the answer would make the remote believe that the call is over.
        dropped = self._drop(later=self.connected)
        if self._phase.name == "exhausted":
            self._recovery.reset()
        opened = self._open(now)
        assert self._connection is not None
        return [*dropped, *opened, *self._answer(now, self._connection, heard)]

    def _answer(self, now: Micros, connection: Connection, heard: Heard, *, rolls_back: bool = False) -> list[Order]:
        effect = self._numbers.next()
        work = MakeAnswer(connection.pc, heard.sdp, self._tracks.to_describe())
        orders = self._enter("answer", now, effect=effect, heard=heard, rolls_back=rolls_back)
        return [*orders, Begin(effect, work)]

    def _answered(self, now: Micros, heard: Heard) -> list[Order]:
        """The remote answers: our offer, or one that we do not have any more."""
        connection = self._connection
        if self._is_left_behind(heard):
            # An offer from a new connection of ours brings both together.
            note = Note("debug", "the remote has another connection")
            self._owed = True
            if connection is None:
                return [note, *self._begin(now)]
            return [note, *self._drop(), *self._enter("lose", now), *self._wait(now)]
        if connection is None or self._phase.name != "offered" or connection.is_late(heard.sdp):
            return []
        effect = self._numbers.next()
        orders = self._enter("accept", now, effect=effect, heard=heard)
        return [*orders, Begin(effect, TakeAnswer(connection.pc, heard.sdp))]

    # --- the engine ---

    def _done(self, now: Micros, effect: int, result: Any, error: Exception | None) -> list[Order]:
        if effect == self._phase.effect:
            if error is None and self._phase.name != "taking" and not isinstance(result, Described):
                raise LocalProtocolError(f"a description was made, and {type(result).__name__} came")
            return self._described(now, result, error)
        orders, swapped = self._side_work.done(effect, result, error)
        if swapped:
            orders += self._wished(now)
        return orders

    def _described(self, now: Micros, result: Any, error: Exception | None) -> list[Order]:
        """The engine has done what the phase waits for, or failed."""
        connection, phase = self._connection, self._phase
        phase.effect = None
        assert connection is not None
        if error is not None:
            return self._not_described(now, error)
        if phase.name == "offering":
            return self._offer_is_made(now, connection, result)
        heard = phase.heard
        assert heard is not None
        connection.remote = heard.facts
        self._last_heard = heard.sdp
        self._promise = False
        orders: list[Order] = []
        if phase.name == "answering":
            connection.answers(heard.sdp, result)
            self._tracks.agreed()
            orders += self._enter("described", now)
            orders += [*self._say(now), *self._close_predecessor()]
        else:
            connection.agreed()
            self._tracks.agreed()
            orders += self._enter("agreed", now)
        assert connection.local is not None
        orders += self._received.described(connection.pc, heard.facts, connection.local)
        self._candidates.applied(heard.ufrags, self._inbox.ufrags)
        return [*orders, *self._release(), *self._settle(now)]

    def _settle(self, now: Micros) -> list[Order]:
        """Everything is agreed on. What has come up meanwhile? The remote's wishes first."""
        orders = self._read_inbox(now)
        return orders + self._catch_up(now) if self._phase.name == "stable" else orders

    def _catch_up(self, now: Micros) -> list[Order]:
        """Offer what the remote lacks, unless the engine has just failed at that."""
        if not self._needs_an_offer:
            self._retries.forget()
            return []
        return [] if self._retries.holds_back(self._wish) else self._offer(now)

    def _not_described(self, now: Micros, error: Exception) -> list[Order]:
        phase = self._phase
        if phase.rolls_back and phase.heard is not None:
            self._inbox.opened(now, replaces=True)
            return [Note("debug", "no way back from our offer"), *self._answer_anew(now, phase.heard)]
        told: Order = Tell(NegotiationError(error))
        if self.connected and phase.name != "taking":
            # The call goes on with what was agreed on before. A remote whose offer it was says that again.
            self._tracks.withdrawn()
            if phase.name == "offering" and self._retries.failed(now, phase.wish):
                told = Note("warning", "an offer could not be made, another try follows", {"error": scrub(str(error))})
            return [told, *self._enter("refused", now), *self._settle(now)]
        return [told, *self._lose(now, "it could not be described")]

    def _gathered(self, candidate: Candidate | None) -> list[Order]:
        assert self._connection is not None
        # Without the relay, a candidate goes with the description when that is said again.
        said = self._connection.found(candidate)
        return said if self._link else []

    def _changed(self, now: Micros, state: ConnectionState) -> list[Order]:
        connection = self._connection
        assert connection is not None
        match state:
            case "connected":
                connection.disconnected_at = None
                if connection.up:
                    return []
                connection.up = connection.was_up = self._engaged = True
                self._owed = False
                self._inbox.came_up()
                self._recovery.came_up(now)
                if self._received.awaits:
                    self._streams_at = now + micros(self._options.stream_timeout)
                orders = self._tell_state()
                if self._reset_owed:
                    self._reset_owed = False
                    orders.append(Tell(ConnectionReset()))
                return orders
            case "disconnected":
                if connection.up and connection.disconnected_at is None:
                    connection.disconnected_at = now
                return []
            case "failed" | "closed":
                if state == "closed":
                    self._last_heard = None  # the remote said goodbye, so its connection is no more either
                return self._lose(now, f"it {state}")
            case _:
                return []

    # --- losing a connection, and getting it back ---

    def _lose(self, now: Micros, why: str) -> list[Order]:
        """The connection is of no use any more."""
        orders: list[Order] = [Note("info", "peer connection lost", {"why": why}), *self._drop()]
        self._servers.rotate()
        delay: Micros | None = 0
        # Without the relay nothing can be tried, so nothing counts as tried.
        if self._link and self._is_wanted:
            delay = self._recovery.climb(now)
        if delay is None:
            error = IceRecoveryExhaustedError(self._recovery.attempts)
            self._owed = self._promise = False
            orders += [*self._received.give_up(), Tell(NegotiationError(error)), *self._enter("exhaust", now)]
        else:
            orders += self._enter("lose", now + delay)
        orders += self._read_inbox(now)
        return orders + (self._wait(now) if self._phase.name == "waiting" else [])

    def _link_up(self, now: Micros) -> list[Order]:
        """The way to the remote is there again. What was said last may not have arrived."""
        if self._link:
            return []
        self._link = True
        self._tracks.unsure()
        self._recovery.reset()
        connection, phase = self._connection, self._phase
        if phase.name == "waiting":
            phase.since = now
            return self._wait(now)
        if connection is None:
            return []
        if not connection.up:
            connection.opened_at = now
        if phase.name == "offered":
            return self._say_after_a_loss(now)
        # An answer is not said again unless its offer is: to a remote that has begun anew it would be an answer to
        # another offer.
        return []

    def _reconcile(self, now: Micros, polite: bool, replace: bool) -> list[Order]:
        self._polite = polite
        self._inbox.clear()
        self._candidates.clear()
        if self.connected and not replace:
            orders = self._link_up(now)
            if self._phase.name == "offered" and self._connection and self._connection.said_at != now:
                orders += self._say_after_a_loss(now)
            return orders
        self._link = True
        self._tracks.unsure()
        self._recovery.reset()
        self._inbox.forgive()
        if replace:
            self._last_heard = None
        if self._connection is not None:
            self._owed |= self._connection.remote is not None and not replace
            return [*self._drop(), *self._enter("lose", now), *self._wait(now)]
        if self._phase.name == "waiting":
            self._phase.since = now
            return self._wait(now)
        if self._is_wanted:
            return self._begin(now)
        return self._enter("rest", now) if self._phase.name == "exhausted" else []

    def _say_after_a_loss(self, now: Micros) -> list[Order]:
        phase = self._phase
        phase.pause = micros(self._options.answer_timeout)
        phase.timer = Deadline(now + phase.pause, "again")
        return self._say(now)

    # --- the room ---

    def _asked(self, now: Micros, op: int, call: object) -> list[Order]:
        match call:
            case SetTracks(tracks):
                self._tracks.want(tracks)
                return [Answer(op), *self._wished(now)]
            case SwapTrack(old, new):
                return self._swap(now, op, old, new)
            case CreateChannel(options):
                return self._create_channel(now, op, options)
            case SetIce(servers):
                self._servers.replace(servers)
                return [Answer(op)]
            case Reconcile(polite, replace):
                return [Answer(op), *self._reconcile(now, polite, replace)]
            case MeasureTraffic():
                if self._connection is None or not self._connection.up:
                    return [Answer(op)]
                return self._side_work.count(op, self._connection.pc)
            case Shut():
                orders = [*self._drop(), *self._received.give_up()]
                self._inbox.clear()
                self._candidates.clear()
                return [*orders, *self._enter("shut", now), Answer(op)]
            case _:
                raise LocalProtocolError(f"{type(call).__name__} is not a call to a peer")

    def _wished(self, now: Micros) -> list[Order]:
        """What we want to send has changed."""
        match self._phase.name:
            case "idle" if self._has_something_to_send:
                return self._begin(now)
            case "waiting":
                return self._wait(now)
            case "stable":
                orders = self._catch_up(now)
                return orders if orders or not self._link else self._tracks.announce()
            case _:
                return []  # `_settle` sees to it

    def _create_channel(self, now: Micros, op: int, options: ChannelOptions) -> list[Order]:
        number = self._numbers.next()
        self._channels.make(number, options)
        opened = [] if self._connection is None else [OpenChannel(self._connection.pc, number, options)]
        return [Answer(op, number), *opened, *self._wished(now)]

    def _swap(self, now: Micros, op: int, old: int, new: LocalTrack | None) -> list[Order]:
        track = self._tracks.place_of(old)
        if self._connection is not None and track is not None:
            return self._side_work.swap(op, self._connection.pc, track, new)
        self._tracks.swap(old, new)
        return [Answer(op), *self._wished(now)]

    def _after_the_end(self, fact: Fact) -> list[Order]:
        if not isinstance(fact, Asked):
            return []
        if isinstance(fact.call, CreateChannel):
            return [Answer(fact.op, error=MeteredPeerStateError("invalid_state", "create_data_channel", "closed"))]
        return [Answer(fact.op)]
