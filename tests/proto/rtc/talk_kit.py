"""A conversation with one peer machine, in virtual time: the test plays the room, the engine and the remote.

Whatever a test is about, the conversation holds the machine to what is promised at all times.
"""

from __future__ import annotations

from typing import Any

import msgspec

from metered_proto.entropy import Entropy
from metered_proto.events import (
    ConnectionReset,
    IceCandidateError,
    IceServer,
    NegotiationError,
    StateChange,
)
from metered_proto.facts import Asked, EffectDone, Fact, LinkDown, LinkUp, Woken
from metered_proto.machine import micros
from metered_proto.orders import Abandon, Answer, Begin, Note, Order, Tell
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.peer import TRANSITIONS, RtcPeer
from metered_proto.rtc.words import (
    AddCandidate,
    ChannelOptions,
    CloseConnection,
    ConnectionChanged,
    CountReceived,
    CreateChannel,
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
    StreamGone,
    StreamSeen,
    SwapSender,
    TakeAnswer,
    TakeTrack,
    TrackGone,
    TrackSeen,
)
from metered_proto.wire.signals import Candidate, RtcDescription, RtcIce, Signal, TrackMeta

PASSWORD = "a8sNbPz0tV0kK1uE9wXr3m"
"""The ICE password in every description here. Nobody may see it."""

CAMERA = LocalTrack(1, "video", "camera", "cam", {"role": "camera"})
MICROPHONE = LocalTrack(2, "audio", "microphone", "cam")
SCREEN = LocalTrack(3, "video", "screen", "scr")


def sdp(ufrag: str, *sections: str) -> str:
    """A description. A section is `kind direction stream track`, of which the last two, or three, may be missing.

    `application` takes no direction. `video -` is a rejected one.
    """
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    for index, section in enumerate(sections):
        kind, direction, stream, track, *_ = [*section.split(), "", "", ""]
        port = 0 if direction == "-" else 9
        lines += [f"m={kind} {port} UDP/TLS/RTP/SAVPF 96", f"a=mid:{index}", f"a=ice-ufrag:{ufrag}"]
        lines += [f"a=ice-pwd:{PASSWORD}"]
        if direction not in ("", "-"):
            lines.append(f"a={direction}")
        if stream:
            lines.append(f"a=msid:{stream} {track}")
    return "\r\n".join([*lines, ""])


class Talk:
    """One machine, and everything it said so far."""

    def __init__(self, *, polite: bool, servers: tuple[IceServer, ...] = (), **options: Any) -> None:
        self.options = RtcOptions(**options)
        self.peer = RtcPeer(self.options, Numbers(), Entropy(1), polite=polite, servers=servers)
        self.now = 0
        self.orders: list[Order] = []
        self.said: list[Signal] = []
        self.told: list[Any] = []
        self.answers: dict[int, Answer] = {}
        self.works: dict[int, Any] = {}
        self.opened: list[OpenConnection] = []
        self.closed: list[int] = []
        self.candidates: list[Candidate | None] = []
        self.channels: list[tuple[int, int]] = []
        self.edges: list[tuple[str, str, str]] = []
        self.link = True
        self._state = "idle"
        self._live: int | None = None
        self._before: int | None = None  # takes leave once the live one is described
        self._tracks: dict[int, int] = {}
        self._seen: set[int] = set()
        self._streams: set[str] = set()
        self._asked: set[int] = set()
        self._described: set[int] = set()
        self._watch_the_phase()

    def _watch_the_phase(self) -> None:
        enter = self.peer._enter

        def watched(trigger: Any, *args: Any, **kwargs: Any) -> list[Order]:
            before = self.peer._phase.name
            orders = enter(trigger, *args, **kwargs)
            self.edges.append((before, trigger, self.peer._phase.name))
            return orders

        self.peer._enter = watched  # type: ignore[method-assign]

    # --- what is known of it ---

    @property
    def state(self) -> str:
        return self.peer.state

    @property
    def phase(self) -> str:
        return self.peer._phase.name

    @property
    def pc(self) -> int:
        assert self._live is not None, "there is no connection"
        return self._live

    @property
    def work(self) -> Any:
        """The description that the engine is at."""
        return self.works[self.effect]

    @property
    def effect(self) -> int:
        effect = self.peer._phase.effect
        assert effect is not None, f"the engine describes nothing: {self.phase}"
        return effect

    @property
    def tracks(self) -> list[int]:
        """The tracks that the application has now."""
        return sorted(self._seen, reverse=True)

    @property
    def streams(self) -> list[str]:
        return sorted(self._streams)

    def said_last(self) -> RtcDescription:
        return [signal for signal in self.said if isinstance(signal, RtcDescription)][-1]

    def events(self, kind: type) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    def forget(self) -> None:
        """Start new lists of what was said."""
        self.orders, self.said, self.told, self.opened, self.closed = [], [], [], [], []
        self.candidates, self.channels = [], []

    # --- the room ---

    def asks(self, call: RtcCall) -> int:
        op = len(self._asked) + 1
        self._asked.add(op)
        self.give(Asked(op, call))
        return op

    def wants(self, *tracks: LocalTrack) -> None:
        """These are our tracks now."""
        assert self.asks(SetTracks(tracks)) in self.answers

    def opens_channel(self, label: str = "chat") -> int:
        number = self.answers[self.asks(CreateChannel(ChannelOptions(label)))].value
        assert isinstance(number, int)
        return number

    def link_goes_down(self) -> None:
        self.link = False
        self.give(LinkDown(0, 1006))

    def link_comes_up(self) -> None:
        self.link = True
        self.give(LinkUp(0))

    # --- the engine ---

    def describes(self, *sections: str, unfitted: bool = False, complete: bool = True, ufrag: str | None = None) -> str:
        """The engine has made a description; by default with the sections that the work asks for."""
        work = self.work
        if not sections:
            sections = self._sections(work)
        text = sdp(ufrag or f"we{-self.pc}", *sections)
        self.give(EffectDone(self.effect, Described(text, unfitted, complete)))
        return text

    @staticmethod
    def _sections(work: MakeOffer | MakeAnswer) -> tuple[str, ...]:
        own = [f"{track.kind} sendrecv {track.stream_id or '-'} {track.track_id}" for track in work.tracks]
        if isinstance(work, MakeOffer):
            own += [kind if kind == "application" else f"{kind} recvonly" for kind in work.receive]
            return tuple(own) or ("application",)
        kinds = [line[2:].split()[0] for line in work.sdp.splitlines() if line.startswith("m=")]
        answered = []
        for kind in kinds:
            fitting = next((section for section in own if section.startswith(kind)), None)
            if fitting is not None:
                own.remove(fitting)
            answered.append(fitting or ("application" if kind == "application" else f"{kind} recvonly"))
        return tuple(answered)

    def takes(self) -> None:
        """The engine has taken the remote's answer."""
        assert isinstance(self.work, TakeAnswer)
        self.give(EffectDone(self.effect))

    def cannot(self, error: Exception | None = None) -> None:
        """The engine cannot describe it."""
        self.give(EffectDone(self.effect, error=error or RuntimeError("no such codec")))

    def finishes(self, kind: type, result: Any = None, error: Exception | None = None) -> None:
        """The engine is done with work beside the descriptions."""
        [effect] = [effect for effect, work in self.works.items() if isinstance(work, kind)]
        self.give(EffectDone(effect, result, error))

    def changes(self, state: Any, pc: int | None = None) -> None:
        self.give(ConnectionChanged(self.pc if pc is None else pc, state))

    # --- the remote ---

    def hears(self, signal: Signal) -> None:
        self.give(SignalCame(signal))

    def remote_offers(self, *sections: str, ufrag: str = "they1") -> str:
        text = sdp(ufrag, *(sections or ("video sendrecv theirs t1",)))
        self.hears(RtcDescription("offer", text))
        return text

    def remote_answers(self, *sections: str, ufrag: str = "they1") -> None:
        self.hears(RtcDescription("answer", sdp(ufrag, *(sections or ("video sendrecv theirs t1",)))))

    def remote_trickles(self, candidate: str = "candidate:1 1 udp 1 192.0.2.1 9 typ host", ufrag: Any = None) -> None:
        self.hears(RtcIce(Candidate(candidate, "0", 0, ufrag)))

    def remote_trickles_no_more(self) -> None:
        self.hears(RtcIce(None))

    # --- whole passages ---

    def offers(self, *tracks: LocalTrack) -> None:
        """Up to our offer being out."""
        self.wants(*(tracks or (CAMERA,)))
        if self.phase == "waiting":
            self.until_woken()
        self.describes()
        assert self.phase == "offered"

    def connects(self, *tracks: LocalTrack, answer: tuple[str, ...] = ()) -> None:
        """We offer, and it comes up."""
        self.offers(*tracks)
        self.remote_answers(*answer)
        self.takes()
        self.changes("connected")
        assert self.state == "connected"

    def is_called(self, *sections: str, ufrag: str = "they1") -> None:
        """The remote offers, and it comes up."""
        self.remote_offers(*sections, ufrag=ufrag)
        self.describes()
        self.changes("connected")
        assert self.state == "connected"

    # --- time ---

    def until_woken(self) -> float:
        """Let time pass until the machine wants to be woken, and wake it; returns how many seconds that was."""
        due = self.peer.deadline
        assert due is not None, "nothing is due"
        waited = due.at - self.now
        self.now = due.at
        self.give(Woken())
        return waited / 1_000_000

    def advance(self, seconds: float) -> None:
        """Let time pass, waking the machine whenever it wants to be."""
        end = self.now + micros(seconds)
        for _ in range(1000):
            due = self.peer.deadline
            if due is None or due.at > end:
                break
            self.now = max(self.now, due.at)
            self.give(Woken())
        else:
            raise AssertionError("the machine is busy")
        self.now = end

    # --- the promises ---

    def give(self, fact: Fact) -> list[Order]:
        """Hand over one fact, and hold what comes back to what was promised."""
        if isinstance(fact, EffectDone):
            work = self.works.pop(fact.effect, None)
            if isinstance(work, MakeAnswer | TakeAnswer) and fact.error is None:
                self._described.add(work.pc)
        phase, edges = self.phase, len(self.edges)
        orders = self.peer.handle(self.now, fact)
        for order in orders:
            self._take(order)
        for before, trigger, after in self.edges[edges:]:
            assert before == phase, "the phase changed without a transition"
            assert TRANSITIONS[before, trigger] == after  # type: ignore[index]
            phase = after
        assert self.phase == phase, "the phase changed without a transition"
        assert self.state == self._state, "the application was not told of a change of state"
        assert self.peer.pc == self._live
        assert self._seen == set(self._tracks)
        due = self.peer.deadline
        if isinstance(fact, Woken):
            assert due is None or due.at > self.now, f"woken, and at once wants to be woken again: {due}"
        assert self._before is None or self.phase == "answering"
        if self.phase == "shut":
            assert due is None
            assert not self.works
            assert not self._seen
            assert not self._streams
        return orders

    def _take(self, order: Order) -> None:
        self.orders.append(order)
        assert PASSWORD not in repr(order)
        match order:
            case SignalPeer(signal):
                assert self.link, "a signal was sent without the relay"
                self.said.append(signal)
            case OpenConnection(pc):
                assert self._before is None
                self._before, self._live = self._live, pc
                self.opened.append(order)
            case CloseConnection(pc):
                assert pc in (self._live, self._before), "closed what is not open"
                assert not self._tracks, "a track outlived its connection"
                assert not [w for w in self.works.values() if w.pc == pc], "work outlived its connection"
                if pc == self._before:
                    self._before = None
                else:
                    self._live = None
                self.closed.append(pc)
            case AddCandidate(pc, candidate):
                assert pc == self._live
                assert pc in self._described, "a candidate ahead of the description"
                self.candidates.append(candidate)
            case OpenChannel(pc, channel):
                assert pc == self._live
                self.channels.append((pc, channel))
            case TakeTrack(pc, _, track):
                assert pc == self._live
                assert track not in self._tracks
                self._tracks[track] = pc
            case EndTrack(track):
                del self._tracks[track]
            case Begin(effect, work):
                assert isinstance(work, MakeOffer | MakeAnswer | TakeAnswer | SwapSender | CountReceived)
                assert work.pc == self._live
                if not isinstance(work, SwapSender | CountReceived):
                    assert not [w for w in self.works.values() if not isinstance(w, SwapSender | CountReceived)]
                self.works[effect] = work
            case Abandon(effect):
                del self.works[effect]
            case Answer(op):
                assert op in self._asked, "answered what nobody asked"
                assert op not in self.answers, "answered twice"
                self.answers[op] = order
            case Tell(event):
                self._tell(event)
            case Note():
                pass
            case _:
                raise AssertionError(f"not for the driver of a peer: {order}")

    def _tell(self, event: Any) -> None:
        assert self.phase != "shut" or not isinstance(event, TrackSeen)
        match event:
            case StateChange(before, after):
                assert before == self._state != after
                self._state = after
            case TrackSeen(track, _, stream):
                assert track in self._tracks, "seen ahead of its taking"
                assert stream is None or stream in self._streams, "a track ahead of its stream"
                self._seen.add(track)
            case TrackGone(track):
                self._seen.remove(track)
            case StreamSeen(stream):
                self._streams.add(stream)
            case StreamGone(stream):
                self._streams.remove(stream)
            case ConnectionReset() | NegotiationError() | IceCandidateError():
                pass
            case _:
                assert type(event).__name__ == "ChannelSeen"
        self.told.append(event)


def metas(talk: Talk) -> list[tuple[str, Any]]:
    """What was said about tracks."""
    return [(signal.track_id, signal.metadata) for signal in talk.said if isinstance(signal, TrackMeta)]


def kinds(talk: Talk) -> list[str]:
    """What was said, in short."""
    names = []
    for signal in talk.said:
        match signal:
            case RtcDescription(type):
                names.append(type)
            case RtcIce(None):
                names.append("end")
            case RtcIce():
                names.append("candidate")
            case _:
                names.append("meta")
    return names


def renamed(track: LocalTrack, key: int, track_id: str) -> LocalTrack:
    """The same kind of track, but another one."""
    return msgspec.structs.replace(track, key=key, track_id=track_id)
