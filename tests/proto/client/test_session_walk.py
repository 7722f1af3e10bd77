"""A random walk: any fact, in any order, with numbers that are right, stale or made up.

The conversation itself holds every step to what is promised at all times (see its `give`): no transition beside the
table, no send on a link that is not up, one answer for each question, a chain of states without a gap, one last
`Disconnected` and nothing after it, no wake-up that at once asks for another. The walk makes the steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_proto.client.calls import Close, Connect, Publish, PublishMany
from metered_proto.client.outbox import Entry, Loaded
from metered_proto.client.requests import Request
from metered_proto.errors import LocalProtocolError, NotConnectedError, OutboxFullError
from metered_proto.events import Connected
from metered_proto.facts import (
    EffectDone,
    Heard,
    LinkBlocked,
    LinkDown,
    LinkDrained,
    LinkUp,
    Received,
    Withdrawn,
    Woken,
)
from metered_proto.orders import CloseLink, OpenLink, Send
from metered_proto.settings import BatchOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proto.client.conftest import Conversation

    Converse = Callable[..., Conversation]

Step: TypeAlias = tuple[str, int]

MANY = 3
"""Messages that are published together."""

# "forward" is whatever brings the connection a step further; without enough of it no walk would get far.
KINDS = (
    ["forward"] * 16 + ["subscribe"] * 3 + ["publish"] * 3 + ["ack"] * 3 + ["refuse"] * 2 + ["time"] * 2 + ["woken"] * 2
    + ["connect", "unsubscribe", "token", "token fails", "link up", "link down", "final", "welcome", "going away"]
    + ["heard", "garbage", "withdraw", "close"]
    + ["enqueue"] * 3 + ["flush", "many", "unacked", "ask", "blocked", "drained"]
)  # fmt: skip
WAITS = (0, 1, 500_000, 2_000_000, 15_000_000, 20_000_000, 700_000_000)
CODES = (1000, 1001, 1006, 1009, 4002, 4010, 4011, 503)
FINAL = (4001, 4003, 4012, 4020)
CHANNELS = ("a", "b", "c*")
GARBAGE = ("", "{", '{"type":"message"}', '{"type":"presence","channel":"a"}', '{"type":"what"}', b"\x00")

steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 11)), min_size=20, max_size=80)
options = st.fixed_dictionaries(
    {
        "api_key": st.sampled_from(["pk_live_q7Wd0aZtNw5xKfB3", None]),
        "auto_resubscribe": st.booleans(),
        "inactivity_timeout": st.sampled_from([0, 30, 60]),
        "no_reconnect": st.sampled_from([False, False, False, True]),
        "outbox": st.sampled_from(
            [
                {},
                {"window": 2, "rate": 5.0, "burst": 2, "max_messages": 3},
                {"batch": BatchOptions(max_messages=2), "max_age": 3.0, "overflow": "reject"},
            ]
        ),
        "loaded": st.sampled_from([None, Loaded(durable=True)]),
        "reconnect": st.fixed_dictionaries(
            {
                "max_attempts": st.sampled_from([1, 3, 100]),
                "retry_first": st.booleans(),
                "jitter_ratio": st.sampled_from([0, 0.2, 1]),
            }
        ),
    }
)


class Walk:
    def __init__(self, talk: Conversation) -> None:
        self.talk = talk
        self.ops: list[int] = []

    def number_near(self, current: int, which: int) -> int:
        """Mostly the one in use, now and then an older one or none that ever was."""
        return current if which < 9 else (current - 1, 0, 99)[which - 9]

    def request_id(self, which: int) -> str:
        sent = [frame["requestId"] for frame in self.talk.sent if "requestId" in frame]
        return sent[-1 - which % len(sent)] if sent and which < 11 else "77"

    def take(self, step: Step) -> None:
        talk, (kind, which) = self.talk, step
        link = self.number_near(talk.link, which)
        match kind:
            case "forward":
                self.forward()
            case "connect":
                self.ops.append(talk.asks(Connect()))
            case "close" if which == 0:
                self.ops.append(talk.asks(Close()))
            case "subscribe":
                self.ops.append(talk.subscribes(CHANNELS[which % 3], which % 2 == 0))
            case "unsubscribe":
                self.ops.append(talk.unsubscribes(CHANNELS[which % 3]))
            case "publish":
                self.ops.append(talk.publishes("a", which) if which % 2 else talk.sends("you", which))
            case "enqueue":
                self.enqueue(which)
            case "flush":
                self.ops.append(talk.flushes())
            case "many":
                messages = tuple(Publish.of("a", number) for number in range(which % MANY + 1))
                self.ops.append(talk.asks(PublishMany(messages)))
            case "unacked":
                self.ops.append(talk.asks(Publish.of("a", which, ack=False)))
            case "ask":
                self.ops.append(talk.asks(Request.of("you", which, 1.0 + which)))
            case "blocked":
                talk.give(LinkBlocked(link, which))
            case "drained":
                talk.give(LinkDrained(link))
            case "withdraw" if self.ops:
                op = self.ops[-1 - which % len(self.ops)]
                talk.withdraws(op)
                talk.give(Withdrawn(op))
            case "token":
                talk.give(EffectDone(self.number_near(talk.effect, which), "fresh-token/91f2c0de4b"))
            case "token fails":
                broken: list[Any] = ["", None, "\ud800"]
                effect = self.number_near(talk.effect, which)
                talk.give(EffectDone(effect, broken[which % 3]) if which % 2 else EffectDone(effect, error=OSError()))
            case "link up":
                talk.give(LinkUp(link))
            case "link down":
                talk.give(LinkDown(link, CODES[which % len(CODES)], "gone"))
            case "final" if which < 3:
                talk.give(LinkDown(talk.link, FINAL[which], "for good"))
            case "heard":
                talk.give(Heard(link))
            case "time":
                talk.now += WAITS[which % len(WAITS)]
            case "woken":
                if talk.session.deadline is not None:
                    talk.now = max(talk.now, talk.session.deadline.at - which % 2)
                talk.give(Woken())
            case _:
                self.say(kind, which, link)

    def forward(self) -> None:
        talk = self.talk
        match talk.session._phase.name:
            case "idle":
                self.ops.append(talk.asks(Connect()))
            case "fetching":
                talk.token_comes()
            case "opening":
                talk.link_comes_up()
            case "greeting":
                talk.welcome()
            case "waiting":
                talk.until_woken()
            case _:
                talk.pong()

    def enqueue(self, which: int) -> None:
        talk = self.talk
        assert talk.outbox is not None
        try:
            entry = talk.outbox.draft(talk.now, CHANNELS[which % 2], b"%d" % which)
        except NotConnectedError:
            assert talk.state == "closed"
        except OutboxFullError:
            assert len(talk.outbox) > 0
        else:
            if isinstance(entry, Entry):
                self.ops.append(talk.enters(entry))

    def say(self, kind: str, which: int, link: int) -> None:
        frame: str | bytes = {
            "welcome": '{"type":"welcome","peerId":"me"}',
            "ack": f'{{"type":"ack","requestId":"{self.request_id(which)}"}}',
            "refuse": f'{{"type":"error","code":"backend_error","requestId":"{self.request_id(which)}"}}',
            "going away": f'{{"type":"going_away","retryAfterMs":{which * 1000}}}',
        }.get(kind, GARBAGE[which % len(GARBAGE)])
        phase = self.talk.session._phase
        if phase.name == "opening" and phase.link == link:
            with pytest.raises(LocalProtocolError):
                self.talk.give(Received(link, [frame]))
        else:
            self.talk.give(Received(link, [frame]))

    def is_bounded(self) -> None:
        session = self.talk.session
        open_ops = [op for op in self.ops if op not in self.talk.answers]
        assert session.in_flight + len(session._connecting) <= MANY * len(open_ops)
        assert len(session._requests) + len(session._unacked) <= len(open_ops)
        assert len(session._subscriptions.channels) <= len(CHANNELS)
        assert len(session._subscriptions._in_flight) <= len(CHANNELS)
        assert len(session._subscriptions._again) <= len(CHANNELS)
        if session.state != "connected":
            assert session.in_flight == len(session._requests) == len(session._unacked) == 0
            assert self.talk.outbox is None or self.talk.outbox.in_flight == 0


@given(steps=steps, options=options, seed=st.integers(0, 99))
def test_whatever_happens(converse: Converse, steps: list[Step], options: dict[str, Any], seed: int) -> None:
    talk = converse(seed=seed, **options)
    walk = Walk(talk)
    for step in steps:
        walk.take(step)
        walk.is_bounded()
        if talk.state == "closed":
            break
    talk.asks(Close())
    assert talk.state == "closed"
    assert not [op for op in walk.ops if talk.waits(op)], "at the end everybody has an answer"
    assert [event.is_reconnect for event in talk.told if isinstance(event, Connected)][:1] in ([], [False])
    assert all(event.is_reconnect for event in [event for event in talk.told if isinstance(event, Connected)][1:])

    talk.forget()
    for step in steps:
        walk.take(step)
    assert not [order for order in talk.orders if isinstance(order, OpenLink | CloseLink | Send)], "closed is closed"


def test_the_walk_gets_somewhere(converse: Converse) -> None:
    """One walk by hand, to show that its steps do what they are called."""
    talk = converse(api_key=None)
    walk = Walk(talk)
    for step in [
        ("connect", 0), ("token", 0), ("link up", 0), ("welcome", 0), ("subscribe", 0), ("ack", 0), ("publish", 1),
        ("refuse", 0), ("garbage", 0), ("going away", 1), ("heard", 0), ("link down", 1), ("woken", 0),
        ("token fails", 1), ("woken", 0), ("token", 0),
        ("link up", 0), ("welcome", 0), ("ack", 0), ("unsubscribe", 0), ("withdraw", 0),
        ("time", 4), ("woken", 0), ("final", 0),
    ]:  # fmt: skip
        walk.take(step)
        walk.is_bounded()
    assert talk.state == "closed"
    assert talk.session.counters.connects == 2
    assert talk.session.counters.malformed_frames == 1
