"""The subscriptions: what is wished for outlives the connection, and is restored after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from model_kit import modest

from metered_proto.client.calls import Subscribe
from metered_proto.client.subscriptions import Subscriptions
from metered_proto.errors import ServerRequestError
from metered_proto.events import ServerError
from metered_proto.facts import LinkDown, LinkUp, Woken
from metered_proto.machine import SECOND, Deadline
from metered_proto.orders import Note, Order, Send, Tell

LOST = LinkDown(1, 1006)
REFUSED = ServerRequestError("backend_error", "later")


def subscriptions(*, keep: bool = True) -> Subscriptions:
    return Subscriptions(keep=keep, ack_timeout=15)


def subscribe(
    subs: Subscriptions, channel: str = "room", include: bool = False, *, refused: bool | None = False
) -> None:
    """A subscribe of the application's, and how it ends; None where nobody answers."""
    call = Subscribe(channel, include)
    serial = subs.wish(call)
    if refused is not None:
        subs.settled(call, serial, refused=refused)


def frames(orders: list[Order]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(order.payload) for order in orders if isinstance(order, Send)]


def asked(orders: list[Order]) -> dict[str, str]:
    """The request id by channel of everything that was sent."""
    return {frame["channel"]: frame["requestId"] for frame in frames(orders)}


def options(subs: Subscriptions) -> dict[str, bool]:
    """What a replay would ask for, by channel."""
    return {frame["channel"]: frame.get("includeSenderMetadata", False) for frame in frames(subs.replay(0, 1))}


class TestWishes:
    def test_kept_from_the_moment_the_frame_is_sent(self) -> None:
        subs = subscriptions()
        subscribe(subs, refused=None)
        assert subs.channels == ("room",)

    def test_in_the_order_in_which_they_were_made(self) -> None:
        subs = subscriptions()
        for channel in ("c", "a", "b", "a"):
            subscribe(subs, channel)
        assert subs.channels == ("c", "a", "b")

    def test_a_refused_first_subscribe_leaves_none(self) -> None:
        subs = subscriptions()
        subscribe(subs, refused=True)
        assert subs.channels == ()

    def test_a_refused_second_one_leaves_the_first_as_it_was(self) -> None:
        subs = subscriptions()
        subscribe(subs, include=True)
        subscribe(subs, include=False, refused=True)
        assert options(subs) == {"room": True}

    def test_a_second_one_brings_its_options(self) -> None:
        subs = subscriptions()
        subscribe(subs, include=False)
        subscribe(subs, include=True)
        assert options(subs) == {"room": True}

    def test_a_second_one_that_nobody_answers_counts_as_sent(self) -> None:
        subs = subscriptions()
        subscribe(subs, include=False)
        subscribe(subs, include=True, refused=None)
        assert options(subs) == {"room": True}

    def test_the_refusal_of_an_older_one_decides_nothing(self) -> None:
        subs = subscriptions()
        call = Subscribe("room")
        older, newer = subs.wish(call), subs.wish(call)
        subs.settled(call, older, refused=True)
        assert subs.channels == ("room",)
        subs.settled(call, newer, refused=True)
        assert subs.channels == ()

    def test_an_unsubscribe_ends_it(self) -> None:
        subs = subscriptions()
        subscribe(subs)
        subs.drop("room")
        subs.drop("nowhere")
        assert subs.channels == ()

    def test_the_answer_that_comes_after_the_unsubscribe_revives_nothing(self) -> None:
        subs = subscriptions()
        call = Subscribe("room")
        serial = subs.wish(call)
        subs.drop("room")
        subs.settled(call, serial, refused=False)
        assert subs.channels == ()

    def test_what_was_taken_before_the_unsubscribe_does_not_help_what_is_refused_after_it(self) -> None:
        subs = subscriptions()
        call = Subscribe("room")
        before = subs.wish(call)
        subs.drop("room")
        after = subs.wish(call)
        subs.settled(call, before, refused=False)
        subs.settled(call, after, refused=True)
        assert subs.channels == ()


class TestReplay:
    def test_everything_with_its_options(self) -> None:
        subs = subscriptions()
        subscribe(subs, "a", True)
        subscribe(subs, "b*")
        subs.handle(0, LOST)
        assert frames(subs.replay(0, 2)) == [
            {"type": "subscribe", "channel": "a", "includeSenderMetadata": True, "requestId": "s3"},
            {"type": "subscribe", "channel": "b*", "requestId": "s4"},
        ]
        assert "s3" in subs
        assert "s1" not in subs

    def test_success_is_silent_and_final(self) -> None:
        subs = subscriptions()
        subscribe(subs)
        request_id = asked(subs.replay(0, 1))["room"]
        assert subs.replayed(SECOND, request_id, None) == []
        assert subs.deadline is None
        assert request_id not in subs

    def test_three_more_times_two_seconds_apart(self) -> None:
        subs = subscriptions()
        subscribe(subs)
        now = 0
        orders = subs.replay(now, 1)
        for attempt in (1, 2, 3):
            now += SECOND
            orders = subs.replayed(now, asked(orders)["room"], REFUSED)
            context = {"channel": "room", "code": "backend_error", "attempt": attempt}
            assert orders == [Note("warning", "could not restore a subscription, trying again", context)]
            assert subs.deadline == Deadline(now + 2 * SECOND, "replay again")
            assert subs.handle(now + 2 * SECOND - 1, Woken()) == []
            now += 2 * SECOND
            orders = subs.handle(now, Woken())
            assert len(frames(orders)) == 1
        request_id = asked(orders)["room"]
        assert subs.replayed(now, request_id, REFUSED) == [
            Note(
                "error",
                "could not restore a subscription on this connection",
                {"channel": "room", "code": "backend_error", "attempt": 4},
            ),
            Tell(ServerError("backend_error", "could not restore the subscription to room", request_id)),
        ]
        assert subs.deadline is None
        assert subs.channels == ("room",), "the next connection tries again"

    def test_no_answer_is_a_failure_too(self) -> None:
        subs = subscriptions()
        subscribe(subs)
        subs.replay(0, 1)
        assert subs.deadline == Deadline(15 * SECOND, "replay ack")
        (note,) = subs.handle(15 * SECOND, Woken())
        assert isinstance(note, Note)
        assert note.context["code"] == "timeout"
        assert subs.deadline == Deadline(17 * SECOND, "replay again")

    def test_a_second_try_that_succeeds(self) -> None:
        subs = subscriptions()
        subscribe(subs)
        subs.replayed(0, asked(subs.replay(0, 1))["room"], REFUSED)
        orders = subs.handle(2 * SECOND, Woken())
        assert subs.replayed(3 * SECOND, asked(orders)["room"], None) == []
        assert subs.deadline is None

    def test_an_answer_to_nothing(self) -> None:
        assert subscriptions().replayed(0, "s1", REFUSED) == []

    def test_one_failure_leaves_the_others_alone(self) -> None:
        subs = subscriptions()
        subscribe(subs, "a")
        subscribe(subs, "b")
        ids = asked(subs.replay(0, 1))
        subs.replayed(0, ids["a"], REFUSED)
        subs.replayed(0, ids["b"], None)
        assert list(asked(subs.handle(2 * SECOND, Woken()))) == ["a"]

    def test_several_due_at_once(self) -> None:
        subs = subscriptions()
        for channel in ("a", "b"):
            subscribe(subs, channel)
        ids = asked(subs.replay(0, 1))
        subs.replayed(0, ids["a"], REFUSED)
        subs.replayed(1, ids["b"], REFUSED)
        assert list(asked(subs.handle(60 * SECOND, Woken()))) == ["a", "b"]


class TestInBetween:
    """Between a failed replay and the next try, or while one is in flight."""

    def failed(self) -> Subscriptions:
        subs = subscriptions()
        subscribe(subs)
        subs.replayed(0, asked(subs.replay(0, 1))["room"], REFUSED)
        return subs

    def test_an_unsubscribe_cancels_the_next_try(self) -> None:
        subs = self.failed()
        subs.drop("room")
        assert subs.deadline is None
        assert subs.handle(2 * SECOND, Woken()) == []

    def test_an_unsubscribe_cancels_what_is_in_flight(self) -> None:
        subs = subscriptions()
        subscribe(subs)
        request_id = asked(subs.replay(0, 1))["room"]
        subs.drop("room")
        assert request_id in subs, "its answer is still on the way"
        assert subs.replayed(0, request_id, REFUSED) == []
        assert subs.deadline is None

    def test_what_is_in_flight_does_not_speak_for_a_later_wish(self) -> None:
        subs = subscriptions()
        subscribe(subs)
        request_id = asked(subs.replay(0, 1))["room"]
        subs.drop("room")
        call = Subscribe("room")
        serial = subs.wish(call)
        subs.replayed(0, request_id, None)
        subs.settled(call, serial, refused=True)
        assert subs.channels == ()

    def test_a_subscribe_takes_its_place(self) -> None:
        subs = self.failed()
        subscribe(subs, refused=None)
        assert subs.deadline is None
        assert subs.handle(2 * SECOND, Woken()) == []

    def test_a_subscribe_takes_the_place_of_one_in_flight(self) -> None:
        subs = subscriptions()
        subscribe(subs)
        request_id = asked(subs.replay(0, 1))["room"]
        subscribe(subs, include=True, refused=None)
        assert subs.replayed(0, request_id, REFUSED) == []
        assert subs.deadline is None
        assert options(subs) == {"room": True}

    def test_what_a_replay_established_is_not_lost_by_a_refused_subscribe(self) -> None:
        subs = subscriptions()
        subscribe(subs, refused=None)
        subs.handle(0, LOST)
        request_id = asked(subs.replay(0, 1))["room"]
        call = Subscribe("room", True)
        serial = subs.wish(call)
        subs.replayed(0, request_id, None)
        subs.settled(call, serial, refused=True)
        assert options(subs) == {"room": False}

    def test_the_end_of_the_connection_ends_all_tries(self) -> None:
        subs = self.failed()
        subs.handle(SECOND, LOST)
        assert subs.deadline is None
        assert subs.handle(60 * SECOND, Woken()) == []
        assert subs.channels == ("room",)


def test_without_auto_resubscribe_the_end_of_the_connection_ends_all() -> None:
    subs = subscriptions(keep=False)
    subscribe(subs)
    subs.handle(0, LOST)
    assert subs.channels == ()
    assert subs.replay(0, 2) == []


def test_other_facts_mean_nothing() -> None:
    assert subscriptions().handle(0, LinkUp(1)) == []


# --- against a model ----------------------------------------------------------------------------------------


@dataclass
class Wanted:
    """A wish as one would keep it who need not save: with everything that was ever asked for it."""

    include: bool
    asked: list[str] = field(default_factory=list)
    established: bool | None = None


@dataclass
class OnItsWay:
    """A subscribe that the server has not answered yet."""

    name: str
    channel: str
    include: bool
    call: tuple[Subscribe, int] | None
    attempt: int
    due: int


CHANNELS = st.sampled_from(["a", "b", "c"])


class SubscriptionsAgainstAModel(RuleBasedStateMachine):
    """A server that answers in any order or not at all, an application that changes its mind."""

    def __init__(self) -> None:
        super().__init__()
        self.subs = subscriptions()
        self.now = 0
        self.up = False
        self.links = 0
        self.wanted: dict[str, Wanted] = {}
        self.on_its_way: list[OnItsWay] = []
        self.again: dict[str, tuple[int, int]] = {}  # by channel: due, attempt

    def replays(self) -> list[OnItsWay]:
        return [each for each in self.on_its_way if each.call is None]

    def expect_sent(self, orders: list[Order], expected: list[tuple[str, int]]) -> None:
        sent = frames(orders)
        assert [frame["channel"] for frame in sent] == [channel for channel, _ in expected]
        for frame, (channel, attempt) in zip(sent, expected, strict=True):
            wish = self.wanted[channel]
            assert frame.get("includeSenderMetadata", False) == wish.include
            wish.asked.append(frame["requestId"])
            due = self.now + 15 * SECOND
            self.on_its_way.append(OnItsWay(frame["requestId"], channel, wish.include, None, attempt, due))

    def ended(self, one: OnItsWay, refused: bool) -> None:
        """The rule of what an outcome does, in the model."""
        wish = self.wanted.get(one.channel)
        if wish is None or one.name not in wish.asked:
            return
        if not refused:
            wish.established = one.include
        elif wish.asked[-1] != one.name:
            return
        elif one.call is None:
            if one.attempt < 4:
                self.again[one.channel] = (self.now + 2 * SECOND, one.attempt + 1)
        elif wish.established is None:
            del self.wanted[one.channel]
        else:
            wish.include = wish.established

    @rule()
    @precondition(lambda self: not self.up)
    def connect(self) -> None:
        self.up = True
        self.links += 1
        self.expect_sent(self.subs.replay(self.now, self.links), [(channel, 1) for channel in self.wanted])

    @rule()
    @precondition(lambda self: self.up)
    def lose(self) -> None:
        self.up = False
        self.on_its_way.clear()
        self.again.clear()
        assert self.subs.handle(self.now, LinkDown(self.links, 1006)) == []

    @rule(channel=CHANNELS, include=st.booleans())
    @precondition(lambda self: self.up)
    def subscribe(self, channel: str, include: bool) -> None:
        call = Subscribe(channel, include)
        serial = self.subs.wish(call)
        wish = self.wanted.setdefault(channel, Wanted(include))
        wish.include = include
        wish.asked.append(f"application {serial}")
        self.again.pop(channel, None)
        self.on_its_way.append(OnItsWay(wish.asked[-1], channel, include, (call, serial), 0, 0))

    @rule(channel=CHANNELS)
    def unsubscribe(self, channel: str) -> None:
        self.subs.drop(channel)
        self.wanted.pop(channel, None)
        self.again.pop(channel, None)

    @rule(which=st.integers(0, 9), refused=st.booleans())
    @precondition(lambda self: self.on_its_way)
    def answer(self, which: int, refused: bool) -> None:
        one = self.on_its_way.pop(which % len(self.on_its_way))
        if one.call is not None:
            self.subs.settled(one.call[0], one.call[1], refused=refused)
        else:
            orders = self.subs.replayed(self.now, one.name, REFUSED if refused else None)
            gave_up = refused and one.attempt == 4 and one.name == self.latest(one.channel)
            assert any(isinstance(order, Tell) for order in orders) == gave_up
        self.ended(one, refused)

    def latest(self, channel: str) -> str | None:
        return self.wanted[channel].asked[-1] if channel in self.wanted else None

    @rule(wait=st.sampled_from([0, 1, SECOND, 2 * SECOND, 20 * SECOND]))
    def time_passes(self, wait: int) -> None:
        self.now += wait
        for one in [one for one in self.replays() if one.due <= self.now]:
            self.on_its_way.remove(one)
            self.ended(one, refused=True)
        due = [(channel, attempt) for channel, (at, attempt) in self.again.items() if at <= self.now]
        for channel, _ in due:
            del self.again[channel]
        self.expect_sent(self.subs.handle(self.now, Woken()), due)

    @invariant()
    def they_agree(self) -> None:
        assert self.subs.channels == tuple(self.wanted)
        assert all(one.name in self.subs for one in self.replays())
        times = [at for at, _ in self.again.values()] + [one.due for one in self.replays()]
        assert (self.subs.deadline.at if self.subs.deadline else None) == min(times, default=None)


TestSubscriptionsAgainstAModel = SubscriptionsAgainstAModel.TestCase
TestSubscriptionsAgainstAModel.settings = modest(20, 40)
