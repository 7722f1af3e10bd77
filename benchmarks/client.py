"""What a client costs its process, against the published SDK, through one and the same relay of ours.

Each program is a process of its own; the relay, and for receiving the publisher, are others. The published SDK runs
on asyncio, ours on whatever is installed. What is published is masked, so it is also measured how ours does without the
extra `speedups`; the published SDK brings the same compiled code along.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from benchmarks.children import Child, Crew
from benchmarks.figures import PUBLISHED, Figure, compared
from benchmarks.plan import Plan
from benchmarks.turns import Side, take_turns
from benchmarks.workload import CHANNEL

LOOPS = ("asyncio", *(("uvloop",) if find_spec("uvloop") else ()), "trio")

WANTED = {
    ("publish", 256, "60 B", "asyncio"): 7.0,
    ("publish", 256, "4 KB", "asyncio"): 5.0,
    ("publish", 1, "60 B", "asyncio"): 1.8,
    ("publish", 1, "60 B", "trio"): 2.0,
    ("receive", 256, "60 B", "asyncio"): 9.0,
    ("receive", 1, "60 B", "asyncio"): 2.0,
    ("deliver", 256, "60 B", "asyncio"): 5.0,
}
"""How many times better than the published SDK."""

PURE = "pure"
"""Ours on asyncio, masking in Python."""

PATIENT = 1 << 30
"""Bytes that may wait in the relay for a program that does not keep up, which it would otherwise cut."""

IN_FLIGHT = (256, 1)
SIZES = ("60 B", "4 KB")


def publish(plan: Plan) -> Iterator[Figure]:
    """CPU of an acknowledged publish."""
    with Crew() as crew:
        programs = _programs(crew, PURE)
        for in_flight in IN_FLIGHT:
            for size in SIZES:
                count = _count(plan, in_flight)
                sides = {who: _publishing(child, size, count, in_flight) for who, child in programs.items()}
                name = f"acked publish, {in_flight} in flight, {size}"
                yield from _figures(plan, sides, name, "µs of CPU", ("publish", in_flight, size))


def _publishing(child: Child, size: str, count: int, in_flight: int) -> Side:
    def side() -> float:
        spent: float = child.ask("publish", CHANNEL, size, count, in_flight)["cpu"]
        return spent / count * 1e6

    return side


def receive(plan: Plan) -> Iterator[Figure]:
    """CPU of a message received: `saturated` where its publisher has 256 in flight, one a wake where it has 1."""
    with Crew() as crew:
        relay = crew.hire("relay", "ours", PATIENT)
        programs = crew.hire_all("client", (*LOOPS, "published"), relay.greeting)
        publisher = crew.hire("client", "asyncio", relay.greeting)
        for in_flight in IN_FLIGHT:
            for size in SIZES:
                count = _count(plan, in_flight)
                sides = {
                    who: _receiving(child, publisher, f"{CHANNEL}/{who}", size, count, in_flight)
                    for who, child in programs.items()
                }
                name = f"receive, {'saturated' if in_flight > 1 else 'one a wake'}, {size}"
                yield from _figures(plan, sides, name, "µs of CPU", ("receive", in_flight, size))


def _receiving(child: Child, publisher: Child, channel: str, size: str, count: int, in_flight: int) -> Side:
    def side() -> float:
        child.ask("expect", channel, count)
        publisher.ask("publish", channel, size, count, in_flight)
        spent: float = child.ask("arrived")["cpu"]
        return spent / count * 1e6

    return side


def deliver(plan: Plan) -> Iterator[Figure]:
    """Messages a second from a publisher to a subscriber in one and the same process, with 256 in flight."""
    with Crew() as crew:
        programs = _programs(crew)
        sides = {who: _delivering(child, "60 B", plan.delivered) for who, child in programs.items()}
        yield from _figures(plan, sides, "delivered, 256 in flight, 60 B", "messages/s", ("deliver", 256, "60 B"))


def _delivering(child: Child, size: str, count: int) -> Side:
    def side() -> float:
        took: float = child.ask("deliver", CHANNEL, size, count, 256)["wall"]
        return count / took

    return side


def _programs(crew: Crew, *more: str) -> dict[str, Child]:
    relay = crew.hire("relay", "ours", PATIENT)
    return crew.hire_all("client", (*LOOPS, *more, "published"), relay.greeting)


def _count(plan: Plan, in_flight: int) -> int:
    return plan.many if in_flight > 1 else plan.few


def _figures(plan: Plan, sides: dict[str, Side], name: str, unit: str, case: tuple[str, int, str]) -> Iterator[Figure]:
    samples = take_turns(sides, plan.rounds)
    for loop in (*LOOPS, PURE):
        if loop not in sides:
            continue
        yield compared(
            "client",
            f"{name}, {'asyncio, no speedups' if loop == PURE else loop}",
            unit,
            samples,
            ours=loop,
            theirs="published",
            peer=PUBLISHED,
            more_is_better=unit.endswith("/s"),
            at_least=WANTED.get((*case, loop)),
        )
