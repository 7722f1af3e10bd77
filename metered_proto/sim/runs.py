"""One whole run: let a plan happen, look whether everything that is promised was kept, and sum it up."""

from __future__ import annotations

from typing import Final

import msgspec

from metered_proto.events import StateChange
from metered_proto.facts import Received
from metered_proto.machine import SECOND, Micros
from metered_proto.orders import Tell
from metered_proto.sim import checks
from metered_proto.sim.plan import Plan
from metered_proto.sim.steps import Violation, digest
from metered_proto.sim.world import World

CLOSES: Final[Micros] = 90 * SECOND
"""How long everybody has to go, in the end."""

STREAMED: Final = 25
"""So many payloads of a run are carried over a WebSocket in pieces."""


AGAIN: Final = 50
"""Of so many seeds one is run twice, and both have to be the same."""


class Summary(msgspec.Struct, frozen=True):
    """What there is to say of a run. `back_after`: how long after the last fault the last host was connected."""

    simulated: Micros
    steps: int
    reconnects: int
    faults: int
    back_after: Micros
    violations: tuple[Violation, ...] = ()


def simulate(plan: Plan) -> tuple[World, Summary]:
    """Let a plan happen, and look at it."""
    world = World(plan)
    found: list[Violation] = []
    try:
        found = _live(world)
    except Exception as error:
        # A machine that raises has broken the first of all promises. The trace up to there is worth having.
        where = world.steps[-1].host if world.steps else ""
        found.append(Violation("nothing a remote does raises", where, f"after it: {type(error).__name__}: {error}"))
    if plan.seed % AGAIN == 0 and not found:
        found = _same_again(world)
    summary = Summary(
        simulated=world.now,
        steps=len(world.steps),
        reconnects=sum(host.session.counters.reconnects for host in world.hosts.values()),
        faults=plan.faults,
        back_after=_back_after(world),
        violations=tuple(dict.fromkeys(found)),
    )
    return world, summary


def _same_again(world: World) -> list[Violation]:
    """The same plan is the same run."""
    again = World(world.plan)
    _live(again)
    if digest(world.steps) == digest(again.steps):
        return []
    pairs = zip(world.steps, again.steps, strict=False)
    host = next((one.host for one, other in pairs if digest([one]) != digest([other])), "")
    return [Violation("same inputs, same outputs", host, "the same plan is another run")]


def _rests_at(plan: Plan) -> Micros:
    return plan.heals_at + plan.settles


def _live(world: World) -> list[Violation]:
    plan = world.plan
    world.run(_rests_at(plan))
    found = [
        *checks.agreement(world),
        *checks.outboxes_lose_nothing(world),
        *checks.everything_is_answered(world),
        *checks.memory_is_bounded(world),
        *checks.subscriptions_are_there(world),
    ]
    for host in world.hosts.values():
        if not host.is_dead and not host.closed:
            host.close()
    world.run(world.now + CLOSES)
    steps = world.steps
    alive = [host.name for host in world.hosts.values() if not host.is_dead]
    clients = world.clients.values()
    return [
        *found,
        *checks.closing_leaves_nothing(world),
        *checks.machines_make_sense(world),
        *checks.answers_fit_the_questions(world),
        *checks.each_asked_is_answered_once(steps, ended=alive),
        *checks.every_timer_fires(steps),
        *checks.delays_are_the_ladders(steps, {c.name: c.ladder for c in clients}),
        *checks.order_is_kept(steps),
        *checks.nothing_is_told_twice(steps, deduplicating=[c.name for c in clients if c.spec.deduplicates]),
        *checks.repeats_are_marked(steps),
        *checks.losses_are_told_at_once(steps),
        *checks.no_secret_is_shown(steps, world.credentials),
        *checks.cutting_changes_nothing(_payloads(world), plan.seed),
    ]


def _payloads(world: World) -> list[str]:
    found: list[str] = []
    for step in world.steps:
        if isinstance(step.fact, Received):
            found += [payload for payload in step.fact.payloads if isinstance(payload, str)]
            if len(found) >= STREAMED:
                break
    return found[:STREAMED]


def _back_after(world: World) -> Micros:
    """From the last fault until the last of those who were not connected then was."""
    heals_at = world.plan.heals_at
    up: dict[str, bool] = {}
    last: Micros = 0
    for step in world.steps:
        for order in step.orders:
            if isinstance(order, Tell) and isinstance(order.event, StateChange):
                is_up = order.event.to in ("connected", "joined")
                if is_up and not up.get(step.host, False) and step.at > heals_at:
                    last = max(last, step.at - heals_at)
                # Once it was up after the faults, what comes later has other reasons.
                up[step.host] = is_up or (up.get(step.host, False) and step.at > heals_at)
    return last
