"""A random walk: any fact in any order, with numbers that are right, stale or made up, and a server without manners.

The conversation holds every step to what is promised at all times (see its `give`): no transition beside the table, a
chain of states without a gap, one answer for each question, members that come before they leave, nothing left open in
`idle` and `closed`, nothing told after the end, no wake-up that at once asks for another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metered_proto.events import FatalError, Left
from metered_proto.facts import EffectDone, LinkDown, LinkUp, Withdrawn, Woken
from metered_proto.machine import Deadline
from metered_proto.orders import Answer, Begin, CloseLink, OpenLink, Send
from metered_proto.room.words import OpenDataChannel, RemoveTrack, ReplaceTrack
from metered_proto.rtc.words import (
    CandidateGathered,
    ChannelArrived,
    ChannelClosed,
    ChannelOpened,
    ChannelOptions,
    ConnectionChanged,
    MakeOffer,
)
from metered_proto.wire.signals import RtcDescription, RtcIce

Converse = Callable[..., Any]

# "forward" is whatever brings the room a step further; without enough of it no walk would get far.
KINDS = (
    ["forward"] * 14 + ["presence"] * 5 + ["delta"] * 5 + ["signal"] * 3 + ["data"] * 2 + ["says"] * 4 + ["woken"] * 3
    + ["connects"] * 4 + ["track", "untrack", "swap", "channel", "send", "send to", "swaps"] * 2
    + ["join", "leave", "link up", "link down", "link down", "final", "refuse", "fatal", "withdraw", "time", "garbage"]
    + ["engine"] * 4 + ["token", "rename"]
)  # fmt: skip
PEERS = ("a", "b", "c", "me", "other")
CODES = (1001, 1006, 4002, 4011)
FINAL = (4001, 4020)
GARBAGE = (
    '{"type":"presence","channel":"room","joined":[{"peerId":"a","metadata":[]},{}]}',
    '{"type":"presence","channel":"room","joined":"a"}',
    '{"type":"direct","from":"a","data":{"type":"rtc-description","description":[]}}',
    '{"type":"direct","from":"a","data":{"__meteredTrackMeta":{"trackId":7}}}',
    '{"type":"direct","from":"a","data":{"type":"rtc-ice","candidate":{"candidate":"x\\n"}}}',
    '{"type":"message","channel":"room","from":"a"}',
    "{",
)

steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 11)), min_size=20, max_size=90)
options = st.fixed_dictionaries(
    {
        "api_key": st.sampled_from(["pk_live_q7Wd0aZtNw5xKfB3", None]),
        "no_reconnect": st.sampled_from([False, False, False, True]),
        "reconnect": st.fixed_dictionaries(
            {"max_attempts": st.sampled_from([2, 100]), "retry_first": st.booleans(), "max_delay": st.just(2.0)}
        ),
        "signal_burst": st.sampled_from([1, 120]),
        "signal_rate": st.sampled_from([0.5, 80.0]),
    }
)


class Walk:
    def __init__(self, talk: Any, make_track: Any) -> None:
        self.talk = talk
        self.make_track = make_track
        self.ops: list[int] = []
        self.own_id = "me"

    def take(self, step: tuple[str, int]) -> None:
        talk, (kind, which) = self.talk, step
        match kind:
            case "forward":
                self.forward()
            case "join":
                self.ops.append(talk.asks_to_join())
            case "leave" if which == 0:
                self.ops.append(talk.leaves("enough"))
            case "presence" | "delta" | "data" | "signal" | "garbage" | "refuse" | "fatal" | "rename":
                if self.is_up:
                    self.server(kind, which)
            case "says" | "connects" | "swaps" if talk.members:
                self.machine(kind, talk.members[which % len(talk.members)], which)
            case "track":
                self.ops.append(talk.adds(which % 4, stream_id=("s", None)[which % 2]))
            case "untrack":
                self.ops.append(talk.asks(RemoveTrack(which % 4)))
            case "swap":
                new = None if which % 3 == 0 else self.make_track((which + 1) % 5)
                self.ops.append(talk.asks(ReplaceTrack(which % 4, new)))
            case "channel":
                self.ops.append(talk.asks(OpenDataChannel(PEERS[which % 3], ChannelOptions("c"))))
            case "send":
                self.ops.append(talk.sends(which))
            case "send to":
                self.ops.append(talk.sends_to(PEERS[which % 5], which))
            case "link up":
                talk.give(LinkUp(talk.link if which < 9 else which))
            case "link down":
                talk.give(LinkDown(talk.link if which < 9 else which, CODES[which % 4], "gone"))
            case "final" if which < 2:
                talk.give(LinkDown(talk.link, FINAL[which]))
            case "token":
                error = OSError("no") if which % 2 else None
                talk.give(EffectDone(talk.effect if which < 9 else which, "fresh-token/91f2c0de4b", error))
            case "withdraw" if self.ops:
                op = self.ops[-1 - which % len(self.ops)]
                talk.withdraws(op)
                talk.give(Withdrawn(op))
            case "engine":
                self.engine(which)
            case "time":
                talk.advance((0.1, 1, 4, 11, 35)[which % 5])
            case "woken":
                talk.give(Woken())
            case _:
                pass

    @property
    def is_up(self) -> bool:
        return bool(self.talk._links.get(self.talk.link) == "up")

    def forward(self) -> None:
        talk, session = self.talk, self.talk.room.session
        match session._phase.name:
            case "idle" if talk.state == "idle":
                self.ops.append(talk.asks_to_join())
            case "fetching":
                talk.token_comes()
            case "opening":
                talk.link_comes_up()
            case "greeting":
                talk.welcome(self.own_id)
            case "waiting":
                while session._phase.name == "waiting":
                    talk.until_woken()
            case "online":
                for frame in talk.sent[-8:]:
                    if self.is_up:
                        talk.ack(frame)
            case _:
                pass

    def server(self, kind: str, which: int) -> None:
        talk = self.talk
        some = PEERS[which % 3 : which % 5 + 1]
        match kind:
            case "presence":
                talk.presence(*some, a={"n": which % 3})
            case "delta":
                talk.presence(*some[1:], left=(PEERS[which % 5], PEERS[which % 3]))
            case "data" if which % 2:
                talk.direct(PEERS[which % 5], which)
            case "data":
                talk.message(PEERS[which % 5], which)
            case "signal":
                talk.direct(PEERS[which % 5], {"type": "rtc-ice", "candidate": None})
            case "garbage":
                talk.server(GARBAGE[which % len(GARBAGE)])
            case "refuse":
                talk.refuse(talk.sent[-1 - which % len(talk.sent)] if talk.sent else None, "backend_error")
            case "fatal" if which == 0:
                talk.refuse(None, "account_suspended")
            case "rename":
                self.own_id = PEERS[3 + which % 2]
            case _:
                pass

    def machine(self, kind: str, peer_id: str, which: int) -> None:
        talk, machine = self.talk, self.talk.peer(peer_id)
        if kind == "swaps":
            machine.swaps = ("succeed", "fail", "wait")[which % 3]
        elif kind == "connects" and self.is_up:
            talk.connection(peer_id, "connected" if which < 9 else "failed")
        elif kind == "says":
            signals = (RtcDescription("offer", "v=0"), RtcIce(None))[which % 2 :] * (which % 4 + 1)
            machine.says = machine.signals_out(*signals)
            machine.says += [Begin(machine.numbers.next(), MakeOffer(0, ()))]
            machine.says += [Answer(op) for op in machine.waiting]
            machine.waiting = []
            machine.received = (machine.received or 0) + which
            machine.deadline = Deadline(talk.now + 100_000 * (which + 1), "own")

    def engine(self, which: int) -> None:
        talk = self.talk
        owned = list(talk.room._company.members._owners)
        number = owned[which % len(owned)] if owned and which < 9 else -which - 1
        facts = (
            EffectDone(number, 1),
            ConnectionChanged(number, "connecting"),
            ChannelOpened(number),
            ChannelClosed(number),
            ChannelArrived(number, 5),
            CandidateGathered(number, None),
        )
        talk.give(facts[which % len(facts)])

    def is_bounded(self) -> None:
        company = self.talk.room._company
        assert len(company.members) <= 4
        assert len(company._graces) <= len(company.members)
        assert len(company._measures) <= len(company._graces)
        assert len(company.outgoing) == 0 or company.members
        open_ops = [op for op in self.ops if self.talk.waits(op)]
        assert len([one for one in company._replacements._open if one.op is not None]) <= len(open_ops)


@given(steps=steps, options=options, seed=st.integers(0, 99))
def test_whatever_happens(
    converse: Converse, make_track: Any, steps: list[tuple[str, int]], options: dict[str, Any], seed: int
) -> None:
    talk = converse(seed=seed, **options)
    walk = Walk(talk, make_track)
    for step in steps:
        walk.take(step)
        walk.is_bounded()
        if talk.state == "closed":
            break
    talk.leaves()
    assert talk.state == "closed"
    assert isinstance(talk.told[-1], Left)
    assert not [op for op in walk.ops if talk.waits(op)], "at the end everybody has an answer"
    assert len([event for event in talk.told if isinstance(event, FatalError)]) <= 1 or options["api_key"] is None

    talk.forget()
    for step in steps:
        walk.take(step)
    assert not [order for order in talk.orders if isinstance(order, OpenLink | CloseLink | Send)], "closed is closed"


def test_the_walk_gets_somewhere(converse: Converse, make_track: Any) -> None:
    """One walk by hand, to show that its steps do what they are called."""
    talk = converse()
    walk = Walk(talk, make_track)
    for step in [
        ("forward", 0), ("forward", 0), ("forward", 0), ("forward", 0), ("presence", 4), ("track", 1), ("connects", 0),
        ("says", 1), ("swap", 1), ("channel", 1), ("send to", 0), ("engine", 1), ("delta", 0), ("garbage", 3),
        ("rename", 1), ("link down", 1), ("forward", 0), ("forward", 0), ("forward", 0), ("presence", 4), ("time", 2),
    ]:  # fmt: skip
        walk.take(step)
        walk.is_bounded()
    assert talk.state == "joined"
    assert talk.room.peer_id == "other"
    assert talk.members
    assert talk.room.counters.signals_out
