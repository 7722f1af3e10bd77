"""What the relay costs its process, against the least that does the same on `websockets`.

That peer knows no names, rights or limits: it answers, and has `websockets.asyncio.server.broadcast` hand out what is
published. A second one writes each message to each socket, one after the other, and does nothing else: a message that
comes alone cannot cost less. The subscribers are bare sockets in another process, see `benchmarks.roles.crowd`.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.children import Child, Crew
from benchmarks.figures import PUBLISHED, WEBSOCKETS, Figure, Target, compared
from benchmarks.plan import Plan
from benchmarks.turns import Side, take_turns
from benchmarks.workload import CHANNEL

PEERS = {"websockets": f"{WEBSOCKETS} broadcast", "bare": "one bare write to each socket"}
WANTED = {(1000, 8, "websockets"): 7.0, (1000, 1, "websockets"): 1.7}
"""How many times less CPU a delivery, by subscribers, messages in flight and peer."""

KIB = 1024
IDLE_KIB = 6.0
STORM_SECONDS = 20.0
WARM_UP = 0.1
"""Part of the connections that a server holds already when its memory begins to count."""


def fan_out(plan: Plan) -> Iterator[Figure]:
    """CPU of the relay for each of the subscribers that a message is delivered to."""
    for subscribers in plan.fan_outs:
        with Crew() as crew:
            relays = crew.hire_all("relay", ("ours", *PEERS))
            ends = {who: _Ends(crew, relay, subscribers) for who, relay in relays.items()}
            for in_flight, theirs in ((8, "websockets"), (1, "websockets"), (1, "bare")):
                messages = max(in_flight, plan.fan_out_deliveries // subscribers)
                sides = {who: ends[who].side(messages, in_flight) for who in ("ours", theirs)}
                yield compared(
                    "relay",
                    f"fan-out 1 → {subscribers}, {f'{in_flight} in flight' if in_flight > 1 else 'single message'}",
                    "µs of CPU a delivery",
                    take_turns(sides, plan.rounds),
                    ours="ours",
                    theirs=theirs,
                    peer=PEERS[theirs],
                    at_least=WANTED.get((subscribers, in_flight, theirs)),
                )


class _Ends:
    """A relay with a publisher and many subscribers."""

    def __init__(self, crew: Crew, relay: Child, subscribers: int) -> None:
        self._relay = relay
        self._subscribers = subscribers
        self._publisher = crew.hire("client", "asyncio", relay.greeting)
        self._crowd = crew.hire("crowd", relay.greeting)
        self._crowd.ask("connect", subscribers, CHANNEL)

    def side(self, messages: int, in_flight: int) -> Side:
        def side() -> float:
            self._crowd.ask("expect", messages)
            before = self._relay.ask("cpu")
            self._publisher.ask("publish", CHANNEL, "marked", messages, in_flight)
            found = self._crowd.ask("arrived")
            spent: float = self._relay.ask("cpu") - before
            if not found["least"] == found["most"] == messages:
                raise AssertionError(f"of {messages} messages each, {found} arrived")
            return spent / (messages * self._subscribers) * 1e6

        return side


def memory(plan: Plan) -> Iterator[Figure]:
    """What a connection that does nothing adds to the memory of its server."""
    ours, theirs = _kib_held("ours", plan.held), _kib_held("websockets", plan.held)
    yield Figure(
        group="relay",
        name=f"memory of an idle connection, {plan.held:,} held",
        unit="KiB of RSS",
        ours=ours,
        peer=WEBSOCKETS,
        theirs=theirs,
        ratio=theirs / ours if ours > 0 else None,
        target=Target(at_most=IDLE_KIB),
    )


def _kib_held(who: str, held: int) -> float:
    with Crew() as crew:
        relay = crew.hire("relay", who)
        crowd = crew.hire("crowd", relay.greeting)
        first = round(held * WARM_UP)
        crowd.ask("connect", first)
        before = relay.rss
        crowd.ask("connect", held - first)
        after = relay.rss
        lost = crowd.ask("count")["connections_lost"]
        if lost:
            raise AssertionError(f"{lost} of {held} connections did not hold")
        return (after - before) / (held - first) / KIB


def storm(plan: Plan) -> Iterator[Figure]:
    """Everybody connects at once, in one process."""
    took: dict[str, list[float]] = {"asyncio": [], "published": []}
    failures = dict.fromkeys(took, 0)
    for _ in range(plan.storm_rounds):
        for who in took:
            with Crew() as crew:
                clients = crew.hire("client", who, crew.hire("relay", "ours").greeting)
                outcome = clients.ask("storm", plan.storm)
                took[who].append(outcome["wall"])
                failures[who] += outcome["failures"]
    ours, theirs = median(took["asyncio"]), median(took["published"])
    name = f"connect storm, {plan.storm:,} clients"
    yield Figure(
        group="relay",
        name=name,
        unit="seconds",
        ours=ours,
        peer=PUBLISHED,
        theirs=theirs,
        ratio=median(b / a for a, b in zip(took["asyncio"], took["published"], strict=True)),
        target=Target(at_most=STORM_SECONDS),
    )
    yield Figure(
        group="relay",
        name=f"{name}: failures",
        unit=f"clients of {plan.storm * plan.storm_rounds:,}",
        ours=failures["asyncio"],
        peer=PUBLISHED,
        theirs=failures["published"],
        target=Target(at_most=0),
    )
