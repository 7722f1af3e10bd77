"""Two peer machines without a network: pure engines that make and take real descriptions, and the world between them.

A `SimEngine` does what one with real connections would: what it describes is proper SDP, an answer fits our tracks into
the sections that the offer has, a connection comes up only between two that know each other's ICE user name fragment,
and one that cannot do what it is asked to fails. Nothing happens by itself. Whatever is under way (a signal, a piece
of work, a connection that comes up, one that says goodbye) is a step that whoever drives it takes, when it likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from metered_proto.entropy import Entropy
from metered_proto.facts import Asked, EffectDone, Fact, LinkDown, LinkUp, Woken
from metered_proto.machine import Micros
from metered_proto.orders import Abandon, Answer, Begin, Note, Order, Tell
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.peer import RtcPeer
from metered_proto.rtc.words import (
    AddCandidate,
    CandidateGathered,
    ChannelArrived,
    ChannelOpened,
    CloseConnection,
    ConnectionChanged,
    CountReceived,
    Described,
    EndTrack,
    LocalTrack,
    MakeAnswer,
    MakeOffer,
    Numbers,
    OpenChannel,
    OpenConnection,
    RtcCall,
    SetTracks,
    SignalCame,
    SignalPeer,
    SwapSender,
    TakeAnswer,
    TakeTrack,
    TrackGone,
    TrackSeen,
)
from metered_proto.sim.connections import EngineError, SimConnection
from metered_proto.wire.signals import Candidate, Signal

Step: TypeAlias = tuple[str, str]
"""What happens, and to which side."""


class SimEngine:
    """The connections of one side, and the work that is under way there.

    One that `trickles` finds its only candidate after its description, and names it after the connection.
    """

    def __init__(self, name: str, *, rolls_back: bool = True, trickles: bool = False) -> None:
        self.name = name
        self.rolls_back = rolls_back
        self.trickles = trickles
        self.gathered: deque[CandidateGathered] = deque()
        self.connections: dict[int, SimConnection] = {}
        self.work: deque[Begin] = deque()
        self.tracks: dict[int, tuple[int, str]] = {}
        self.made = 0

    def perform(self, order: Order) -> None:
        """Carry out an order. What takes time only begins."""
        match order:
            case OpenConnection(pc):
                assert len(self.connections) < 2, "one connection, and one that it takes over from"
                self.made += 1
                self.connections[pc] = SimConnection(pc, f"{self.name}{self.made}", self.rolls_back)
            case CloseConnection(pc):
                del self.connections[pc]
                self.gathered = deque(found for found in self.gathered if found.pc != pc)
                assert not self.tracks, "a track outlived its connection"
            case AddCandidate(pc, candidate):
                connection = self.connections[pc]
                assert connection.described, "a candidate ahead of the description"
                assert None not in connection.candidates, "a candidate after the last"
                if self.trickles and candidate is not None:
                    assert candidate.candidate == connection.remote_ufrag, "a candidate of another generation"
                connection.candidates.append(candidate)
            case OpenChannel(pc, channel):
                self.connections[pc].channels.append(channel)
            case TakeTrack(pc, mid, track):
                assert any(s.mid == mid and s.remote_sends for s in self.connections[pc].sections)
                self.tracks[track] = (pc, mid)
            case EndTrack(track):
                del self.tracks[track]
            case Begin():
                assert order.work.pc in self.connections, "work on a connection that is not there"
                self.work.append(order)
            case Abandon(effect):
                before = len(self.work)
                self.work = deque(begin for begin in self.work if begin.effect != effect)
                assert len(self.work) == before - 1, "abandoned what is not under way"
                # An abandoned description may have been made already, or not: here it has not.
            case _:
                raise AssertionError(f"not for an engine: {order}")

    def finish(self) -> EffectDone:
        """The oldest piece of work comes to its end."""
        begin = self.work.popleft()
        connection = self.connections[begin.work.pc]
        try:
            result = self._do(connection, begin.work)
            if self.trickles and isinstance(result, Described):
                result = msgspec.structs.replace(result, complete=False)
                found = Candidate(connection.ufrag, "0", 0) if not connection.trickled else None
                connection.trickled = True
                self.gathered += [
                    CandidateGathered(connection.pc, each) for each in ([found, None] if found else [None])
                ]
            return EffectDone(begin.effect, result)
        except EngineError as error:
            return EffectDone(begin.effect, error=error)

    def _do(self, connection: SimConnection, work: object) -> object:
        match work:
            case MakeOffer():
                return connection.offer(work)
            case MakeAnswer():
                return connection.answer(work)
            case TakeAnswer():
                return connection.take(work)
            case SwapSender():
                return connection.swap(work)
            case CountReceived():
                return 1000
            case _:
                raise AssertionError(f"not for an engine: {work}")

    @property
    def live(self) -> SimConnection | None:
        """The connection there is. The one that it takes over from is not counted."""
        return next(reversed(self.connections.values()), None)


class Side:
    """One machine, its engine, and what its application was told."""

    def __init__(
        self,
        name: str,
        *,
        polite: bool,
        rolls_back: bool = True,
        trickles: bool = False,
        options: RtcOptions | None = None,
    ) -> None:
        self.name = name
        self.engine = SimEngine(name, rolls_back=rolls_back, trickles=trickles)
        self.peer = RtcPeer(options or RtcOptions(), Numbers(), Entropy(name), polite=polite, servers=())
        self.tracks: tuple[LocalTrack, ...] = ()
        self.out: deque[Signal] = deque()
        self.link = True
        self.seen: dict[int, str | None] = {}
        self.channels_seen: list[int] = []
        self.told: list[Any] = []
        self.state = "idle"
        self.ops = 0


class World:
    """Two sides, the relay between them, and the time. `keep_told` False keeps no record, for states to be few."""

    def __init__(self, a: Side, b: Side, *, keep_told: bool = True) -> None:
        self.sides = {a.name: a, b.name: b}
        self.now: Micros = 0
        self.keep_told = keep_told

    def other(self, side: Side) -> Side:
        """Who is at the other end."""
        return next(other for other in self.sides.values() if other is not side)

    # --- what can happen ---

    def steps(self) -> list[Step]:
        """What is under way, and may happen next."""
        found: list[Step] = []
        for name, side in self.sides.items():
            live = side.engine.live
            remote = self.other(side).engine.live
            if side.out:
                found.append(("deliver", name))
            if side.engine.work:
                found.append(("finish", name))
            if side.engine.gathered:
                found.append(("gather", name))
            if live is not None and not live.up and self._meet(live, remote):
                found.append(("connect", name))
            if live is not None and live.up and not (remote is not None and self._meet(live, remote)):
                found.append(("goodbye", name))
            if any(self._channel_can_open(side, number) for number in (live.channels if live else ())):
                found.append(("channel", name))
        return found

    @staticmethod
    def _meet(ours: SimConnection, theirs: SimConnection | None) -> bool:
        return theirs is not None and ours.remote_ufrag == theirs.ufrag and theirs.remote_ufrag == ours.ufrag

    @staticmethod
    def _channel_can_open(side: Side, number: int) -> bool:
        live = side.engine.live
        return live is not None and live.up and any(s.kind == "application" and s.agreed for s in live.sections)

    def take(self, step: Step) -> None:
        """Let one thing happen."""
        what, name = step
        side = self.sides[name]
        live = side.engine.live
        match what:
            case "deliver":
                signal = side.out.popleft()
                self.give(self.other(side), SignalCame(signal))
            case "finish":
                self.give(side, side.engine.finish())
            case "gather":
                self.give(side, side.engine.gathered.popleft())
            case "connect":
                assert live is not None
                live.up = True
                self.give(side, ConnectionChanged(live.pc, "connected"))
            case "goodbye" | "fail":
                assert live is not None
                self.give(side, ConnectionChanged(live.pc, "closed" if what == "goodbye" else "failed"))
            case "channel":
                assert live is not None
                number = live.channels.pop(0)
                self.give(side, ChannelOpened(number))
                remote = self.other(side)
                if remote.engine.live is not None:
                    self.give(remote, ChannelArrived(remote.engine.live.pc, 1000 + number))
            case "wake":
                self.wake()
            case "link down":
                self.cut()
            case "link up":
                self.mend()
            case _:
                kind, _, number = what.partition(" ")
                assert kind in ("audio", "video", "remove")
                self.change(side, kind, int(number))

    def cut(self) -> None:
        """The relay is lost, with all that was on its way."""
        for side in self.sides.values():
            side.out.clear()
            side.link = False
            self.give(side, LinkDown(0, 1006))

    def mend(self) -> None:
        """The relay is back."""
        for side in self.sides.values():
            side.link = True
        for side in self.sides.values():
            self.give(side, LinkUp(0))

    def change(self, side: Side, kind: str, number: int) -> None:
        """A side sends another track, or one less."""
        if kind == "remove":
            side.tracks = tuple(track for track in side.tracks if track.key != number)
        else:
            side.tracks = (*side.tracks, track(side.name, number, kind))  # type: ignore[arg-type]
        self.ask(side, SetTracks(side.tracks))

    def wake(self) -> None:
        """Time passes until the first deadline of either side."""
        due = [side.peer.deadline.at for side in self.sides.values() if side.peer.deadline is not None]
        self.now = max(self.now, min(due))
        for side in self.sides.values():
            deadline = side.peer.deadline
            if deadline is not None and deadline.at <= self.now:
                self.give(side, Woken())
                after = side.peer.deadline
                assert after is None or after.at > self.now, f"woken, and at once again: {after}"

    # --- one machine ---

    def ask(self, side: Side, call: RtcCall) -> Any:
        """A call of the room; what it answers, if at once."""
        side.ops += 1
        for order in self.give(side, Asked(side.ops, call)):
            if isinstance(order, Answer) and order.op == side.ops:
                return order.value
        return None

    def give(self, side: Side, fact: Fact) -> list[Order]:
        """Hand a machine a fact, and carry its orders out."""
        orders = side.peer.handle(self.now, fact)
        for order in orders:
            match order:
                case SignalPeer(signal):
                    assert side.link, "a signal was sent without the relay"
                    side.out.append(signal)
                case Tell(event):
                    self._told(side, event)
                case Answer() | Note():
                    pass
                case _:
                    side.engine.perform(order)
        assert side.peer.state == side.state, "a change of state was not told"
        assert side.peer.pc == (side.engine.live.pc if side.engine.live else None)
        return orders

    def _told(self, side: Side, event: Any) -> None:
        match event:
            case TrackSeen(number, _, stream):
                assert number in side.engine.tracks
                side.seen[number] = stream
            case TrackGone(number):
                assert number not in side.engine.tracks
                del side.seen[number]
            case _ if type(event).__name__ == "StateChange":
                assert event.from_ == side.state != event.to
                side.state = event.to
            case _ if type(event).__name__ == "ChannelSeen":
                side.channels_seen.append(event.channel)
        if self.keep_told:
            side.told.append(event)

    # --- an end ---

    def settle(self, *, wakes: int = 60, reached: Callable[[], bool] | None = None) -> bool:
        """Let everything happen that is under way, and time pass, until both sides agree. False if they never do."""
        for _ in range(wakes):
            for _ in range(1000):
                if reached is not None and reached():
                    return True
                steps = self.steps()
                if not steps:
                    break
                self.take(steps[0])
            else:
                raise AssertionError("the two talk for ever")
            if self.agree():
                return True
            if all(side.peer.deadline is None for side in self.sides.values()):
                return False
            self.wake()
        return False

    def agree(self) -> bool:
        """Whether both are connected to each other, and have all of each other's tracks."""
        a, b = self.sides.values()
        if not (a.peer.connected and b.peer.connected):
            return not self.wanted and a.peer.state == b.peer.state == "idle"
        ours, theirs = a.engine.live, b.engine.live
        return ours is not None and self._meet(ours, theirs) and self._has_all(a, b) and self._has_all(b, a)

    @property
    def wanted(self) -> bool:
        """Whether there is anything to send at all."""
        return any(side.tracks for side in self.sides.values())

    @staticmethod
    def _has_all(receiver: Side, sender: Side) -> bool:
        live = receiver.engine.live
        assert live is not None
        seen = sorted(str(stream) for stream in receiver.seen.values())
        return seen == sorted(str(track.stream_id) for track in sender.tracks)


Kind: TypeAlias = Literal["audio", "video"]


def track(side: str, number: int, kind: Kind = "video", **more: Any) -> LocalTrack:
    """A track with a name of its own, alone in a stream."""
    return LocalTrack(number, kind, f"{side}-track-{number}", f"{side}-stream-{number}", **more)
