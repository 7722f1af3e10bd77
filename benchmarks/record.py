"""What recording costs a client, against the same client without, through one relay.

A client's full message rate at a relay with its usual limits is 100 messages a second: that is what is held to the
target. A message in a loop that has nothing else to do costs less, one by one and the more so by the hundred; what
recording adds to those is there to be seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.children import Child, Crew
from benchmarks.client import IN_FLIGHT, PATIENT, _publishing, _receiving
from benchmarks.figures import Figure, compared
from benchmarks.plan import Plan
from benchmarks.turns import Side, take_turns
from benchmarks.workload import CHANNEL

ON, OFF = "recorded", "asyncio"
FULL_RATE = 100.0
AT_LEAST = 1 / 1.15
"""At most 15 % more."""


def record(plan: Plan) -> Iterator[Figure]:
    """CPU of a message published and acknowledged, and of one received, recorded and not."""
    with Crew() as crew:
        relay = crew.hire("relay", "ours", PATIENT)
        programs = crew.hire_all("client", (ON, OFF), relay.greeting)
        publisher = crew.hire("client", OFF, relay.greeting)
        paced = {who: _pacing(child, f"{CHANNEL}/{who}", plan) for who, child in programs.items()}
        yield _figure(plan, paced, f"acked publish, {FULL_RATE:g} a second, 60 B", AT_LEAST)
        for in_flight in IN_FLIGHT:
            count = plan.many if in_flight > 1 else plan.few
            rate = "saturated" if in_flight > 1 else "one a wake"
            sides = {who: _publishing(child, "60 B", count, in_flight) for who, child in programs.items()}
            yield _figure(plan, sides, f"acked publish, {rate}, 60 B", None)
            sides = {
                who: _receiving(child, publisher, f"{CHANNEL}/{who}", "60 B", count, in_flight)
                for who, child in programs.items()
            }
            yield _figure(plan, sides, f"receive, {rate}, 60 B", None)


def _pacing(child: Child, channel: str, plan: Plan) -> Side:
    def side() -> float:
        spent = child.ask("paced", channel, "60 B", FULL_RATE, 0.2 if plan.quick else 2.0)
        cost: float = spent["cpu"] / spent["count"] * 1e6
        return cost

    return side


def _figure(plan: Plan, sides: dict[str, Side], name: str, at_least: float | None) -> Figure:
    samples = take_turns(sides, plan.rounds)
    return compared("record", name, "µs of CPU", samples, ours=ON, theirs=OFF, peer="not recorded", at_least=at_least)
