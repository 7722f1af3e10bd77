"""Each promise has a checker, and each checker sees when its promise is broken: a good run is spoilt on purpose."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import pytest
from table_kit import each_row

from metered_proto.client.calls import Publish
from metered_proto.client.envelope import seal
from metered_proto.client.outbox import Delivered
from metered_proto.errors import IceRecoveryExhaustedError, NotConnectedError
from metered_proto.events import Disconnected, IceServer, Message, NegotiationError
from metered_proto.facts import Asked, EffectDone, Received, Withdrawn, Woken
from metered_proto.machine import SECOND, Deadline
from metered_proto.orders import Abandon, Answer, AnswerAll, Broadcast, Note, Order, Send, Tell, TellAll
from metered_proto.room.words import AtPeer
from metered_proto.settings import ReconnectOptions
from metered_proto.sim import SCENARIOS, Act, Client, Peer, Plan, Step, Violation, World, checks, digest, simulate
from metered_proto.sim.plan import Cut, Joins, Publishes, SendsTrack

Steps = list[Step]


@cache
def device() -> tuple[World, Steps]:
    """A good run with an outbox, reconnects and answers; its trace is not to be changed."""
    world, summary = simulate(SCENARIOS["device"](1))
    assert not summary.violations
    assert summary.reconnects
    return world, world.steps


def spoilt(steps: Steps, change: Callable[[Step], list[Order] | None]) -> Steps:
    """The steps, the first one that `change` has something for with other orders."""
    for index, step in enumerate(steps):
        orders = change(step)
        if orders is not None:
            return [*steps[:index], msgspec.structs.replace(step, orders=orders), *steps[index + 1 :]]
    raise AssertionError("there is nothing to spoil")


def is_answer(order: Order) -> bool:
    return isinstance(order, Answer) and order.op > 0


def drop(is_it: Callable[[Order], bool]) -> Callable[[Step], list[Order] | None]:
    def change(step: Step) -> list[Order] | None:
        left = [order for order in step.orders if not is_it(order)]
        return left if len(left) < len(step.orders) else None

    return change


def double(is_it: Callable[[Order], bool]) -> Callable[[Step], list[Order] | None]:
    def change(step: Step) -> list[Order] | None:
        found = [order for order in step.orders if is_it(order)]
        return [*step.orders, found[0]] if found else None

    return change


class TestEachAskedIsAnsweredOnce:
    def test_a_good_run(self) -> None:
        assert not checks.each_asked_is_answered_once(device()[1], ended=("device", "backend"))

    def test_an_answer_that_never_came(self) -> None:
        steps = spoilt(device()[1], drop(is_answer))
        assert checks.each_asked_is_answered_once(steps, ended=("device", "backend"))
        assert not checks.each_asked_is_answered_once(steps)

    def test_one_that_came_twice(self) -> None:
        [found] = checks.each_asked_is_answered_once(spoilt(device()[1], double(is_answer)))
        assert "a second time" in str(found)

    def test_one_that_nobody_asked_for_and_one_that_was_withdrawn(self) -> None:
        steps = [
            Step("a", 0, 0, Woken(), [AnswerAll((7,))]),
            Step("a", 0, 0, Asked(8, None), []),
            Step("a", 0, 0, Withdrawn(8), []),
            Step("a", 0, 0, Woken(), [Answer(8)]),
        ]
        first, second = checks.each_asked_is_answered_once(steps)
        assert "nobody asked" in first.what
        assert "withdrawn" in second.what


class TestEveryTimerFires:
    def test_a_good_run(self) -> None:
        assert not checks.every_timer_fires(device()[1])

    def test_a_deadline_that_is_due_again_at_once_for_ever(self) -> None:
        steps = [Step("a", 5, 5, Woken(), [], Deadline(5, "ping")) for _ in range(30)]
        [found] = checks.every_timer_fires(steps)
        assert "ping" in found.what

    def test_a_few_times_is_nothing(self) -> None:
        steps = [Step("a", at, at, Woken(), [], Deadline(at, "ping")) for at in range(30)]
        assert not checks.every_timer_fires(steps)


class TestTheWaitsAreTheLadders:
    LADDERS = {"device": ReconnectOptions(), "backend": ReconnectOptions()}

    def test_a_good_run(self) -> None:
        assert not checks.delays_are_the_ladders(device()[1], self.LADDERS)

    @each_row("factor", [0.3, 2.5])
    def test_a_wait_that_is_none_of_it(self, factor: float) -> None:
        steps = [
            msgspec.structs.replace(
                step, deadline=Deadline(step.now + round((step.deadline.at - step.now) * factor), "reconnect")
            )
            if step.deadline is not None and step.deadline.why == "reconnect"
            else step
            for step in device()[1]
        ]
        assert checks.delays_are_the_ladders(steps, self.LADDERS)

    def test_hosts_that_are_not_named_are_not_looked_at(self) -> None:
        assert not checks.delays_are_the_ladders(device()[1], {})


def is_told(order: Order) -> bool:
    return isinstance(order, Tell) and isinstance(order.event, Message) and "n" in order.event.data


class TestMessages:
    def test_a_good_run(self) -> None:
        _, steps = device()
        assert not checks.order_is_kept(steps)
        assert not checks.nothing_is_told_twice(steps, deduplicating=["backend"])

    def test_one_that_was_told_twice(self) -> None:
        steps = spoilt(device()[1], double(is_told))
        assert checks.nothing_is_told_twice(steps)
        assert checks.order_is_kept(steps)

    def test_two_that_were_told_the_wrong_way_round(self) -> None:
        steps = list(device()[1])
        first, second = [
            i for i, step in enumerate(steps) if step.host == "backend" and any(map(is_told, step.orders))
        ][:2]
        mixed = steps[first].orders, steps[second].orders
        steps[first] = msgspec.structs.replace(steps[first], orders=mixed[1])
        steps[second] = msgspec.structs.replace(steps[second], orders=mixed[0])
        assert checks.order_is_kept(steps)

    def test_two_that_were_sent_the_wrong_way_round(self) -> None:
        def publish(number: int) -> str:
            return f'{{"type":"publish","channel":"c","data":{{"from":"a","n":{number}}}}}'

        assert not checks.order_is_kept([Step("relay/1", 0, 0, Received(1, [publish(1), publish(2)]), [])])
        assert checks.order_is_kept([Step("relay/1", 0, 0, Received(1, [publish(2), publish(1)]), [])])
        [found] = checks.order_is_kept([Step("relay/1", 0, 0, Received(1, [publish(1), publish(1)]), [])])
        assert "twice" in found.what

    def test_messages_that_come_many_at_a_time_are_seen(self) -> None:
        events = [Message("c", "x", {"from": "a", "n": number}) for number in (1, 1)]
        assert checks.nothing_is_told_twice([Step("b", 0, 0, Woken(), [TellAll(events)])])


class TestOutboxesOnTheWire:
    def publish(self, number: int, *, redelivered: bool) -> Send:
        data = seal(b'{"from":"a","n":%d}' % number, id="i", outbox="o", seq=number, redelivered=redelivered)
        return Send(1, b'{"type":"publish","channel":"c","data":%b}' % data)

    def test_a_good_run(self) -> None:
        assert not checks.repeats_are_marked(device()[1])

    def test_a_repeat_that_is_not_marked(self) -> None:
        first, marked = self.publish(1, redelivered=False), self.publish(1, redelivered=True)
        assert not checks.repeats_are_marked([Step("a", 0, 0, Woken(), [first, marked])])
        [found] = checks.repeats_are_marked([Step("a", 0, 0, Woken(), [first, first])])
        assert "again" in found.what

    def test_a_relay_passes_on_what_it_gets(self) -> None:
        first = self.publish(1, redelivered=False)
        assert not checks.repeats_are_marked([Step("relay/1", 0, 0, Woken(), [first, first])])


class TestLossesAreToldAtOnce:
    LOST = Tell(Disconnected(1006, "", True))
    ASKED = Step("a", 0, 0, Asked(1, Publish.of("c", 1)), [])

    def test_a_good_run(self) -> None:
        assert not checks.losses_are_told_at_once(device()[1])
        assert not checks.losses_are_told_at_once([self.ASKED, Step("a", 0, 0, Woken(), [Answer(1), self.LOST])])
        withdrawn = Step("a", 0, 0, Withdrawn(1), [])
        assert not checks.losses_are_told_at_once([self.ASKED, withdrawn, Step("a", 0, 0, Woken(), [self.LOST])])

    def test_somebody_who_goes_on_waiting(self) -> None:
        [found] = checks.losses_are_told_at_once([self.ASKED, Step("a", 0, 0, Woken(), [self.LOST])])
        assert "1 still wait" in found.what


class TestSecrets:
    def test_a_good_run(self) -> None:
        world, steps = device()
        assert len(world.credentials) > 3
        assert not checks.no_secret_is_shown(steps, world.credentials)

    @each_row(
        "order",
        [
            Note("info", "a token", {"token": "hush-hush"}),
            Answer(1, error=ValueError("hush-hush")),
            Tell(Disconnected(1008, "hush-hush", True)),
        ],
    )
    def test_one_that_is_shown(self, order: Order) -> None:
        assert checks.no_secret_is_shown([Step("a", 0, 0, Woken(), [order])], ["hush-hush"])

    def test_one_in_what_an_error_came_from(self) -> None:
        error = ValueError("nothing")
        error.__cause__ = KeyError("hush-hush")
        assert checks.no_secret_is_shown([Step("a", 0, 0, Woken(), [Answer(1, error=error)])], ["hush-hush"])

    def test_what_hides_it_is_fine(self) -> None:
        server = IceServer(("turn:a",), "b", "hush-hush")
        steps = [Step("a", 0, 0, EffectDone(1, "hush-hush"), [Tell(server)])]
        assert not checks.no_secret_is_shown(steps, ["hush-hush"])


class TestTheSameMessagesHoweverTheBytesAreCut:
    def test_any_seed(self) -> None:
        payloads = ["", "a", "ä" * 300, "x" * 70_000, '{"type":"ack"}']
        for seed in range(5):
            assert not checks.cutting_changes_nothing(payloads, seed)

    def test_a_stream_that_loses_something(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from metered_proto.websocket import WebSocket

        frames = WebSocket.frames
        monkeypatch.setattr(WebSocket, "frames", lambda self, payloads: frames(self, payloads[:-1]))
        assert checks.cutting_changes_nothing(["a", "b"], 0)


# --- worlds -------------------------------------------------------------------------------------------------


PUBSUB = Plan(
    scenario="test",
    seed=1,
    hosts=(
        Client(name="ann", subscribes=("c", "d/*"), retry_first=True),
        Client(name="bob", tokens=False, subscribes=("c",), retry_first=True),
    ),
    script=(
        Act(SECOND, "ann", Publishes("c", 3)),
        Act(SECOND, "bob", Publishes("d/x", 1)),
        Act(2 * SECOND, "bob", Cut()),
    ),
    settles=30 * SECOND,
)

ROOM = Plan(
    scenario="test",
    seed=2,
    hosts=(Peer(name="ada"), Peer(name="ben", engine="trickles")),
    script=(
        Act(0, "ada", Joins()),
        Act(0, "ben", Joins()),
        Act(SECOND, "ada", SendsTrack(1)),
    ),
    settles=30 * SECOND,
)


def at_rest(plan: Plan) -> World:
    world = World(plan)
    world.run(plan.heals_at + plan.settles)
    return world


class TestWorldsAtRest:
    @each_row("plan", [PUBSUB, ROOM], ids=["pub/sub", "a room"])
    def test_good_ones(self, plan: Plan) -> None:
        world = at_rest(plan)
        assert not checks.agreement(world)
        assert not checks.subscriptions_are_there(world)
        assert not checks.memory_is_bounded(world)

    def test_a_client_that_does_not_come_back(self) -> None:
        world = at_rest(PUBSUB)
        session = world.clients["ann"].machine
        session.state = "reconnecting"
        assert [found.host for found in checks.everybody_is_back(world)] == ["ann"]
        world.clients["ann"].told.append(Disconnected(1006, "", False))
        assert checks.everybody_is_back(world)
        world.clients["ann"].told.append(Disconnected(4020, "", False))
        assert not checks.everybody_is_back(world)

    def test_somebody_who_waits_for_an_answer(self) -> None:
        world = at_rest(msgspec.structs.replace(PUBSUB, settles=90 * SECOND))
        assert not checks.everything_is_answered(world)
        world.steps[:] = spoilt(world.steps, drop(is_answer))
        [found] = checks.everything_is_answered(world)
        assert found.promise == "in the end everything is answered"

    def test_a_room_that_does_not_come_back(self) -> None:
        world = at_rest(ROOM)
        world.peers["ada"].machine._state = "joining"
        assert [found.host for found in checks.everybody_is_back(world)] == ["ada"]

    def test_a_subscription_that_was_not_restored(self) -> None:
        world = at_rest(PUBSUB)
        world.clients["bob"].wishes["d/*"] = None
        [found] = checks.subscriptions_are_there(world)
        assert "0 times" in found.what

    def test_a_subscription_that_ought_to_be_gone(self) -> None:
        world = at_rest(PUBSUB)
        del world.clients["bob"].wishes["c"]
        [found] = checks.subscriptions_are_there(world)
        assert found.host == "bob"

    def test_a_roster_that_is_not_the_relays(self) -> None:
        world = at_rest(ROOM)
        world.peers["ben"].machine._company.members._by_id.clear()
        assert {found.host for found in checks.rosters_are_the_relays(world)} == {"ben"}

    def test_a_call_that_is_not_up(self) -> None:
        world = at_rest(ROOM)
        for connection in world.peers["ada"].machine._company.members:
            connection.machine._connection.up = False
        assert checks.calls_are_up(world)
        world.peers["ada"].told.append(AtPeer("ben", NegotiationError(ValueError())))
        assert checks.calls_are_up(world)
        world.peers["ada"].told.append(AtPeer("ben", NegotiationError(IceRecoveryExhaustedError(9))))
        assert not checks.calls_are_up(world)

    def test_a_track_that_never_came(self) -> None:
        world = at_rest(ROOM)
        world.peers["ben"].seen["ada"].clear()
        [found] = checks.calls_are_up(world)
        assert "0 of 1 tracks" in found.what

    def test_a_data_channel_that_did_not_open(self) -> None:
        world = at_rest(ROOM)
        [connection] = world.peers["ada"].connections.values()
        connection.channels.append(-7)
        [found] = checks.calls_are_up(world)
        assert "did not open" in found.what

    def test_a_track_of_which_something_else_was_said(self) -> None:
        world = at_rest(ROOM)
        seen = world.peers["ben"].seen["ada"]
        seen[next(iter(seen))] = None
        [found] = checks.calls_are_up(world)
        assert "ought to be" in found.what

    def test_presence_that_does_not_add_up(self) -> None:
        world = at_rest(PUBSUB)
        assert not checks.presence_is_the_relays(world)
        world.clients["ann"].present["c"]["zoe"] = None
        [found] = checks.presence_is_the_relays(world)
        assert "zoe" in found.what
        [found] = [found for found in checks.agreement(world) if found.host == "ann"]
        assert found.promise == "presence is the relay's"

    def test_a_machine_that_holds_too_much(self) -> None:
        world = at_rest(ROOM)
        for machine in (world.peers["ada"].machine, world.relay.machine):
            machine.hoard = list(range(5000))
        assert [found.host for found in checks.memory_is_bounded(world)] == ["ada", "relay/1"]


class TestWorldsInTheEnd:
    def test_an_outbox_that_lost_something(self) -> None:
        world, _ = device()
        assert not checks.outboxes_lose_nothing(world)
        client = world.clients["device"]
        op = next(op for op in client.enqueued if isinstance(client.answers[op].value, Delivered))
        number = client.enqueued[op]
        client.enqueued[op] = 100_000
        assert checks.outboxes_lose_nothing(world)
        client.enqueued[op] = number
        answer = client.answers.pop(op)
        assert checks.outboxes_lose_nothing(world)
        client.answers[op] = answer
        assert not checks.outboxes_lose_nothing(world)

    def test_an_outbox_over_its_bounds(self) -> None:
        world, _ = device()
        outbox: Any = world.clients["device"].outbox
        outbox._messages = 100_000
        try:
            assert checks.outboxes_lose_nothing(world)
            assert checks.closing_leaves_nothing(world)
        finally:
            outbox._messages = 0

    def test_an_answer_to_another_question(self) -> None:
        world, summary = simulate(SCENARIOS["requests"](1))
        assert not summary.violations
        for op, answer in list(world.clients["asker"].answers.items()):
            if answer.error is None and isinstance(answer.value, dict):
                world.clients["asker"].answers[op] = Answer(op, {"echo": {"n": -1}})
        assert checks.answers_fit_the_questions(world)

    def test_something_that_is_left_over(self) -> None:
        world = at_rest(ROOM)
        hosts = [found.host for found in checks.closing_leaves_nothing(world)]
        assert {"ada", "ben", "relay/1"} == set(hosts)

    def test_orders_that_make_no_sense(self) -> None:
        world = at_rest(ROOM)
        assert not checks.machines_make_sense(world)
        world.peers["ada"].perform(Abandon(-99))
        assert checks.machines_make_sense(world)


def test_the_digest_tells_any_two_runs_apart() -> None:
    steps = device()[1]
    assert digest(steps) == digest(list(steps))
    assert digest(spoilt(steps, drop(is_answer))) != digest(steps)
    assert digest(spoilt(steps, double(lambda order: isinstance(order, Broadcast)))) != digest(steps)


def test_the_digest_tells_errors_apart() -> None:
    errors = (NotConnectedError("idle"), NotConnectedError("closed"), ValueError("idle"), ConnectionError("idle"))
    found = {digest([Step("a", 0, 0, Woken(), [Answer(1, error=error)])]) for error in errors}
    assert len(found) == len(errors)


def test_a_violation_says_what_was_broken_by_whom_and_how() -> None:
    assert str(Violation("a promise", "ada", "so")) == "a promise: ada: so"


def test_what_is_published_by_hand_is_no_numbered_message() -> None:
    call = Publish.of("c", [1])
    steps = [Step("a", 0, 0, Asked(1, call), []), Step("a", 0, 0, Woken(), [Tell(Message("c", "b", [1])), Answer(1)])]
    assert not checks.nothing_is_told_twice([*steps, *steps[1:]])
