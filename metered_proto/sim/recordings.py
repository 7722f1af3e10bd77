"""A run as recordings: one for each machine, to be replayed by itself (`metered_proto.replay`)."""

from __future__ import annotations

from collections.abc import Sequence

from metered_proto.facts import Fact
from metered_proto.machine import Deadline, Micros
from metered_proto.orders import Order
from metered_proto.replay import ClientPlan, DeduplicatorPlan, Drafted, Plan, Recorder, RelayPlan, RoomPlan
from metered_proto.sim.steps import Step
from metered_proto.sim.world import BORN_AT, World

KEY = b"a simulated run!"
"""What secrets are replaced by depends on it. Nothing in a simulated run is secret."""


def recordings(world: World) -> dict[str, bytes]:
    """The recording of each machine that took part, by the machine's name."""
    found: dict[str, bytes] = {}
    for name, plan in _plans(world).items():
        steps = [step for step in world.steps if step.host == name]
        lines: list[bytes] = []
        if not steps:
            continue
        born = BORN_AT + (steps[0].at - steps[0].now) / 1_000_000
        recorder = Recorder(_Again(steps), lines.append, plan=plan, key=KEY, started=born)
        for step in steps:
            if isinstance(step.fact, Drafted):
                recorder.beside(step.now, step.fact, step.orders)
            else:
                recorder.handle(step.now, step.fact)
                recorder.deadline  # noqa: B018 - being asked for it, it writes it down
        recorder.flush()
        found[name] = b"".join(lines)
    return found


def _plans(world: World) -> dict[str, Plan]:
    relays = [*world.past_relays, *([] if world.relay is None else [world.relay])]
    plans: dict[str, Plan] = {relay.name: RelayPlan(relay.settings, relay.seed) for relay in relays}
    for client in world.clients.values():
        remembers = DeduplicatorPlan() if client.spec.deduplicates else None
        plans[client.name] = ClientPlan(client.settings, client.seed, client.spec.outbox, None, remembers)
    for peer in world.peers.values():
        plans[peer.name] = RoomPlan(peer.settings, peer.seed)
    return plans


class _Again:
    """A machine that does what it did."""

    deadline: Deadline | None = None

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = iter([step for step in steps if not isinstance(step.fact, Drafted)])

    def handle(self, now: Micros, fact: Fact) -> list[Order]:
        """Give the orders that were given then."""
        step = next(self._steps)
        self.deadline = step.deadline
        return step.orders
