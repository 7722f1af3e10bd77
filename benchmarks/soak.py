"""A relay under steady load: is everything delivered, do queues stay short, does memory stay where it was?

    python -m benchmarks soak --seconds 60

One publisher to a thousand subscribers, then a thousand publishers to one subscriber, each for that long. The relay
cuts whoever lets more than `MAX_QUEUE` bytes wait: as long as it has cut nobody, no queue was ever longer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.children import Child, Crew
from benchmarks.figures import Figure, Target
from benchmarks.plan import Plan
from benchmarks.workload import CHANNEL

MAX_QUEUE = 65_536
LATE = 10.0
"""Seconds after which what is missing counts as lost."""

WARM_UP = 0.1
"""Part of the time after which memory counts."""

GROWTH_KIB = 1024.0
"""Memory that the relay may gain from there on, and still be called flat."""


def soak(plan: Plan) -> Iterator[Figure]:
    """Both ways."""
    yield from _fan_out(plan)
    yield from _fan_in(plan)


def _fan_out(plan: Plan) -> Iterator[Figure]:
    size, rate = plan.soak_size, plan.fan_out_rate
    with Crew() as crew:
        relay = crew.hire("relay", "ours", MAX_QUEUE)
        publisher = crew.hire("client", "asyncio", relay.greeting)
        crowd = crew.hire("crowd", relay.greeting)
        crowd.ask("connect", size, CHANNEL)
        crowd.ask("expect", 1)
        warm = publisher.ask("pace", CHANNEL, "marked", rate, plan.soak_seconds * WARM_UP)
        _wait_for(crowd, "count", "total", warm * size)
        at_first = relay.rss
        sent = warm + publisher.ask("pace", CHANNEL, "marked", rate, plan.soak_seconds * (1 - WARM_UP))
        found = _wait_for(crowd, "count", "total", sent * size)
        lost = sent * size - found["total"]
        uneven = found["most"] - found["least"]
        name = f"fan-out 1 → {size}, {rate * size:,.0f} deliveries/s"
        yield from _verdicts(relay, name, sent * size, lost + uneven, at_first)


def _fan_in(plan: Plan) -> Iterator[Figure]:
    size, rate = plan.soak_size, plan.fan_in_rate
    with Crew() as crew:
        relay = crew.hire("relay", "ours", MAX_QUEUE)
        subscriber = crew.hire("client", "asyncio", relay.greeting)
        crowd = crew.hire("crowd", relay.greeting)
        subscriber.ask("watch", CHANNEL)
        crowd.ask("connect", size)
        crowd.ask("expect", 1)
        warm = crowd.ask("publish", CHANNEL, rate, plan.soak_seconds * WARM_UP)
        _wait_for(crowd, "count", "total", warm)
        at_first = relay.rss
        sent = warm + crowd.ask("publish", CHANNEL, rate, plan.soak_seconds * (1 - WARM_UP), warm)
        acknowledged = _wait_for(crowd, "count", "total", sent)["total"]
        seen = _wait_for(subscriber, "watched", "arrived", sent)
        wrong = abs(sent - seen["arrived"]) + abs(sent - acknowledged) + seen["out_of_turn"] + size - seen["senders"]
        name = f"fan-in {size} → 1, {rate * size:,.0f} messages/s"
        yield from _verdicts(relay, name, sent, wrong, at_first)


def _wait_for(child: Child, command: str, what: str, number: int) -> dict[str, int]:
    """Until a child has counted so many, or the last of them is late."""
    before = time.monotonic()
    while True:
        found: dict[str, int] = child.ask(command)
        if found[what] >= number or time.monotonic() - before > LATE:
            return found
        time.sleep(0.02)


def _verdicts(relay: Child, name: str, messages: int, wrong: int, rss_at_first: int) -> Iterator[Figure]:
    stats, rss = relay.ask("stats"), relay.rss
    yield _figure(f"{name}: lost", f"of {messages:,}", wrong, Target(at_most=0))
    cut = stats["slow_consumers"]
    yield _figure(f"{name}: queues over {MAX_QUEUE // 1024} KiB", "connections cut", cut, Target(at_most=0))
    unit = f"KiB; {rss_at_first / 2**20:.1f} MiB of RSS, then {rss / 2**20:.1f}"
    growth = (rss - rss_at_first) / 1024
    yield _figure(f"{name}: memory gained", unit, growth, Target(at_most=GROWTH_KIB))


def _figure(name: str, unit: str, ours: float, target: Target) -> Figure:
    return Figure(group="soak", name=name, unit=unit, ours=ours, target=target)
