"""Worlds: what happens in them, and that it is the same every time."""

from __future__ import annotations

import msgspec
import pytest
from table_kit import each_row

from metered_proto.facts import EffectDone, LinkBlocked, LinkDown, LinkUp, Received, Withdrawn
from metered_proto.machine import SECOND
from metered_proto.orders import Note
from metered_proto.replay import Recording, replay
from metered_proto.room.words import AtPeer
from metered_proto.rtc.words import ChannelSeen, ConnectionChanged, EndTrack, SignalPeer
from metered_proto.settings import Outbox
from metered_proto.sim import (
    SCENARIOS,
    Act,
    Client,
    Peer,
    Plan,
    Violation,
    World,
    digest,
    dump,
    load,
    recordings,
    shrink,
    simulate,
)
from metered_proto.sim.fixture import world as make_world
from metered_proto.sim.plan import (
    Cut,
    Dies,
    EngineFails,
    HalfOpen,
    Joins,
    Kicked,
    Leaps,
    MediaLost,
    OpensChannel,
    Publishes,
    RelayDies,
    SendsTrack,
    Sleeps,
    Slow,
    Stall,
    TokensFail,
    TurnDown,
)
from metered_proto.wire.signals import RtcIce

PAIR = (Peer(name="ada"), Peer(name="ben"))
CALL = (Act(0, "ada", Joins()), Act(0, "ben", Joins()), Act(SECOND, "ada", SendsTrack(1)))


def call(*acts: Act, peers: tuple[Peer, ...] = PAIR) -> Plan:
    return Plan(scenario="test", seed=1, hosts=peers, script=(*CALL, *acts))


def states(world: World, host: str) -> list[str]:
    """What the engine said of the connections of a host."""
    return [step.fact.state for step in world.steps if step.host == host and isinstance(step.fact, ConnectionChanged)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_broken(name: str) -> None:
    world, summary = simulate(SCENARIOS[name](1))
    assert not summary.violations
    assert summary.steps == len(world.steps) > 50
    assert summary.simulated > 120 * SECOND


def test_a_run_that_is_not_the_same_again_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter(range(1000))
    monkeypatch.setattr("metered_proto.client.ladder.Ladder.climb", lambda self, floor: SECOND + next(draws))
    plan = msgspec.structs.replace(pubsub(Act(SECOND, "ann", Cut())), seed=50)
    monkeypatch.setattr("metered_proto.sim.checks.delays_are_the_ladders", lambda steps, ladders: [])
    _, summary = simulate(plan)
    [found] = summary.violations
    assert (found.promise, found.host) == ("same inputs, same outputs", "ann")


def test_one_seed_is_one_run() -> None:
    one, other = (digest(simulate(SCENARIOS["relay_killed"](3))[0].steps) for _ in range(2))
    assert one == other
    assert digest(simulate(SCENARIOS["relay_killed"](4))[0].steps) != one


@each_row("name", list(SCENARIOS))
def test_a_plan_is_plain_data(name: str) -> None:
    plan = SCENARIOS[name](5)
    assert load(dump(plan)) == plan
    assert plan.heals_at >= max(act.at for act in plan.script)


@each_row("name", ["clocks", "laptops"])
def test_every_machine_of_a_run_can_be_replayed(name: str) -> None:
    world, _ = simulate(SCENARIOS[name](1))
    kept = recordings(world)
    assert set(kept) >= {*world.hosts, "relay/1"}
    for recording in kept.values():
        assert replay(Recording.of(recording)) is None
        assert not any(secret.encode() in recording for secret in world.credentials)


def test_a_host_that_nothing_happened_to_has_no_recording() -> None:
    plan = Plan(scenario="test", seed=1, hosts=(Peer(name="ada"),), script=(), settles=SECOND)
    assert set(recordings(simulate(plan)[0])) == {"ada"}  # which was asked to leave


def test_two_who_reach_each_other() -> None:
    world, summary = simulate(call(Act(20 * SECOND, "ada", OpensChannel("ben")), Act(0, "ada", OpensChannel("zoe"))))
    assert not summary.violations
    assert states(world, "ada")[0] == states(world, "ben")[0] == "connected"
    assert any(isinstance(event, AtPeer) and isinstance(event.event, ChannelSeen) for event in world.peers["ben"].told)


def test_a_way_that_is_lost_for_a_moment() -> None:
    world, summary = simulate(call(Act(20 * SECOND, "ada", MediaLost(10 * SECOND, "ben"))))
    assert not summary.violations
    assert states(world, "ada")[:3] == ["connected", "disconnected", "connected"]


def test_a_way_that_is_lost_for_a_while() -> None:
    world, summary = simulate(call(Act(20 * SECOND, "ada", MediaLost(40 * SECOND, "ben"))))
    assert not summary.violations
    assert states(world, "ada").count("connected") == 2


class TestNats:
    PEERS = (Peer(name="ada", closed_nat=True), Peer(name="ben", engine="trickles"))

    def test_a_turn_server_helps(self) -> None:
        world, summary = simulate(call(peers=self.PEERS))
        assert not summary.violations
        assert "connected" in states(world, "ada")

    def test_without_it_nothing_does(self) -> None:
        plan = msgspec.structs.replace(call(Act(0, "", TurnDown(100 * SECOND)), peers=self.PEERS), settles=SECOND)
        world, _ = simulate(plan)
        early = [step for step in world.steps if step.at < 100 * SECOND]
        said = [step.fact.state for step in early if isinstance(step.fact, ConnectionChanged) and step.host == "ada"]
        assert set(said) == {"failed"}

    def test_a_call_that_goes_by_it_is_lost_with_it(self) -> None:
        world, summary = simulate(call(Act(20 * SECOND, "", TurnDown(30 * SECOND)), peers=self.PEERS))
        assert not summary.violations
        assert states(world, "ada").count("connected") == 2


def test_an_engine_that_fails_is_told_and_worked_around() -> None:
    world, summary = simulate(call(Act(0, "ada", EngineFails(1)), Act(0, "ben", EngineFails(1))))
    assert not summary.violations
    failed = [step for step in world.steps if isinstance(step.fact, EffectDone) and step.fact.error is not None]
    assert len(failed) == 2
    assert "connected" in states(world, "ada")


def test_somebody_who_dies_is_missed_by_relay_and_peers() -> None:
    for silently in (False, True):
        world, summary = simulate(call(Act(20 * SECOND, "ben", Dies(silently))))
        assert not summary.violations
        assert not world.peers["ada"].seen
        assert world.peers["ben"].is_dead


# --- links --------------------------------------------------------------------------------------------------


def pubsub(*acts: Act, **more: object) -> Plan:
    hosts = (
        Client(name="ann", retry_first=True),
        Client(name="bob", subscribes=("c",), retry_first=True, inactivity_timeout=15.0),
    )
    return Plan(scenario="test", seed=1, hosts=hosts, script=acts, **more)  # type: ignore[arg-type]


def test_what_stalled_arrives_at_once() -> None:
    stalled = pubsub(Act(SECOND, "ann", Publishes("c", 20, SECOND // 10)), Act(SECOND, "ann", Stall(5 * SECOND)))
    world, summary = simulate(stalled)
    assert not summary.violations
    batches = [len(step.fact.payloads) for step in world.steps if isinstance(step.fact, Received)]
    assert max(batches) >= 15


def test_what_is_written_to_one_who_does_not_read_waits_and_its_writer_knows() -> None:
    acts = (
        Act(SECOND, "bob", Slow(60 * SECOND, 3000)),
        Act(2 * SECOND, "ann", Publishes("c", 60, SECOND // 20, "plain", 8000)),
    )
    world, summary = simulate(pubsub(*acts))
    assert not summary.violations
    assert any(isinstance(step.fact, LinkBlocked) for step in world.steps if step.host == "relay/1")
    world, summary = simulate(pubsub(*acts, max_queue=100_000))
    assert not summary.violations
    assert any(
        isinstance(order, Note) and order.message == "slow consumer" for step in world.steps for order in step.orders
    )


def test_a_writer_is_told_when_nothing_leaves_its_own_end() -> None:
    world, summary = simulate(
        pubsub(
            Act(SECOND, "ann", HalfOpen()),
            Act(2 * SECOND, "ann", Publishes("c", 30, SECOND // 10, "plain", 8000)),
        )
    )
    assert not summary.violations
    assert any(isinstance(step.fact, LinkBlocked) for step in world.steps if step.host == "ann")


def test_a_relay_that_is_not_there_refuses_or_is_silent() -> None:
    for silently in (False, True):
        world, summary = simulate(pubsub(Act(5 * SECOND, "", RelayDies(30 * SECOND, silently))))
        assert not summary.violations
        assert len(world.past_relays) == 1
        assert all(host.machine.counters.reconnects == 1 for host in world.clients.values())
        downs = [step.fact for step in world.steps if isinstance(step.fact, LinkDown) and step.host == "bob"]
        assert any(down.reason == "refused" for down in downs) is not silently or silently


def test_somebody_who_is_kicked_does_not_come_back() -> None:
    world, summary = simulate(pubsub(Act(5 * SECOND, "ann", Kicked()), Act(9 * SECOND, "ann", Publishes("c"))))
    assert not summary.violations
    assert world.clients["ann"].machine.state == "closed"


def test_tokens_that_do_not_come() -> None:
    for how in ("fails", "slow", "nonsense"):
        plan = pubsub(Act(0, "", TokensFail(20 * SECOND, how)), Act(SECOND, "bob", Cut()))  # type: ignore[arg-type]
        world, summary = simulate(plan)
        assert not summary.violations, how
        [first, *_] = [step for step in world.steps if step.host == "bob" and isinstance(step.fact, LinkUp)]
        assert first.at > 20 * SECOND


def test_clocks() -> None:
    acts = (
        Act(5 * SECOND, "bob", Leaps(50 * SECOND)),
        Act(5 * SECOND, "ann", Sleeps(100 * SECOND)),
        Act(6 * SECOND, "ann", Sleeps(SECOND)),
        Act(6 * SECOND, "ann", Leaps(SECOND)),
        Act(7 * SECOND, "ann", Publishes("c", 1)),
    )
    world, summary = simulate(pubsub(*acts))
    assert not summary.violations
    slept = [step.at for step in world.steps if step.host == "ann" and 5 * SECOND < step.at < 105 * SECOND]
    assert not slept
    assert world.clients["ann"].published == 0 or world.clients["ann"].machine.state == "closed"


def test_an_outbox_that_is_full_says_so() -> None:
    device = Client(name="ann", outbox=Outbox(max_messages=3, overflow="reject"), retry_first=True)
    acts = (Act(0, "", TokensFail(30 * SECOND)), Act(SECOND, "ann", Publishes("c", 9, SECOND, "outbox")))
    world, summary = simulate(Plan(scenario="test", seed=1, hosts=(device,), script=acts))
    assert not summary.violations
    assert len(world.clients["ann"].enqueued) == 3


# --- when something is broken -------------------------------------------------------------------------------


def test_a_machine_that_raises_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = pubsub(Act(5 * SECOND, "ann", Cut()), Act(6 * SECOND, "ann", Publishes("c", 3)))

    def fails(self: object, now: int, fact: object, orders: object) -> None:
        raise KeyError("oh")

    monkeypatch.setattr("metered_proto.relay.relay.Relay._on_link_down", fails)
    _, summary = simulate(plan)
    [found] = summary.violations
    assert found.promise == "nothing a remote does raises"
    assert "KeyError" in found.what


def test_a_machine_that_wants_to_be_woken_for_ever_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_proto.client.heartbeat.Heartbeat._look", lambda self, now: [])
    _, summary = simulate(pubsub())
    assert any("for ever" in found.what for found in summary.violations)


def test_a_world_that_does_not_come_to_rest_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metered_proto.sim.world.BUSY", 100)
    _, summary = simulate(pubsub())
    assert "come to rest" in summary.violations[0].what


@each_row("act", [Act(0, "nobody", Cut()), Act(0, "ann", RelayDies(1)), Act(0, "", Cut())])
def test_what_cannot_happen_is_an_error(act: Act) -> None:
    world = World(pubsub(act))
    with pytest.raises(ValueError, match="happen"):
        world.run(SECOND)


def test_a_failure_is_made_small() -> None:
    plan = SCENARIOS["device"](2)
    assert plan.faults > 2
    cut = next(act for act in plan.script if isinstance(act.what, Stall | Cut | HalfOpen | Slow))
    small = shrink(plan, fails=lambda smaller: cut in smaller.script)
    assert small.script == (cut,)
    assert shrink(plan, fails=lambda smaller: len(smaller.script) >= 3).script == plan.script[-3:]
    assert shrink(plan, fails=lambda smaller: False).script == plan.script
    assert shrink(plan, fails=lambda smaller: True, runs=2).script != ()


def test_a_failure_stays_the_same_failure_while_it_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(world: World) -> list[Violation]:
        cuts = [act for act in world.plan.script if isinstance(act.what, Cut)]
        return [Violation("a promise", "ann", "broken")] if cuts else []

    monkeypatch.setattr("metered_proto.sim.checks.answers_fit_the_questions", lossy)
    plan = pubsub(Act(0, "ann", Publishes("c", 3)), Act(SECOND, "ann", Cut()), Act(2 * SECOND, "bob", HalfOpen()))
    assert shrink(plan).script == (plan.script[1],)


class TestTheFixture:
    def test_it_gives_the_world_in_the_end(self) -> None:
        run = make_world()
        assert run("pair", seed=1).peers["ada"].machine.state == "closed"
        assert run(pubsub()).now > 120 * SECOND

    def test_it_says_what_was_broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("metered_proto.sim.world.BUSY", 100)
        with pytest.raises(AssertionError, match="come to rest"):
            make_world()("pair")


def test_what_is_told_of_members_is_looked_through() -> None:
    world = World(call())
    world.run(30 * SECOND)
    ada = world.peers["ben"]
    events = [event for event in ada.told if isinstance(event, AtPeer) or type(event).__name__.startswith("Member")]
    for event in events:
        ada.hear(event)
    assert any("twice" in mistake for mistake in ada.mistakes)


def test_orders_that_nobody_can_carry_out() -> None:
    world = World(pubsub())
    with pytest.raises(AssertionError, match="not for a client"):
        world.clients["ann"].perform(EndTrack(1))
    world = World(call())
    with pytest.raises(AssertionError, match="not for an engine"):
        world.peers["ada"].perform(SignalPeer(RtcIce(None)))


def test_callers_that_do_not_wait() -> None:
    ann = Client(name="ann", retry_first=True, patience=SECOND)
    ada = Peer(name="ada")
    acts = (
        Act(0, "", TokensFail(10 * SECOND, "slow")),
        Act(11 * SECOND, "ann", Stall(20 * SECOND)),
        Act(12 * SECOND, "ann", Publishes("c", 3)),
        Act(0, "ada", Joins(patience=SECOND)),
    )
    world, summary = simulate(Plan(scenario="test", seed=1, hosts=(ann, ada), script=acts))
    assert not summary.violations
    withdrawn = [step.host for step in world.steps if isinstance(step.fact, Withdrawn)]
    assert set(withdrawn) == {"ann", "ada"}
    assert world.peers["ada"].back_at > 10 * SECOND


def test_a_first_connect_that_fails_is_tried_again_by_the_application() -> None:
    ann = Client(name="ann", subscribes=("c",))
    world, summary = simulate(Plan(scenario="test", seed=1, hosts=(ann,), script=(Act(0, "", TokensFail(9 * SECOND)),)))
    assert not summary.violations
    assert world.clients["ann"].back_at > 9 * SECOND
