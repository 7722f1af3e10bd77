"""The scenarios: who is there, what they want, and what is drawn from the seed to go wrong.

Each is a short function that makes a `Plan` of a seed. `SCENARIOS` has them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

from metered_proto.entropy import Entropy
from metered_proto.machine import SECOND, Micros
from metered_proto.settings import BatchOptions, Outbox
from metered_proto.sim.plan import (
    Act,
    AsksPeer,
    Client,
    Cut,
    Dies,
    EngineFails,
    Fault,
    Goal,
    HalfOpen,
    Joins,
    Kicked,
    Latency,
    Leaps,
    Leaves,
    MediaLost,
    OpensChannel,
    Peer,
    Plan,
    Publishes,
    RelayDies,
    RelayDrains,
    Says,
    SendsTrack,
    Sleeps,
    Slow,
    Stall,
    StopsTrack,
    Subscribes,
    SwapsTrack,
    Through,
    TokensFail,
    TurnDown,
    Unsubscribes,
)

T = TypeVar("T")


class Draw:
    """Draws from a seed, in the words of a script."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        return low + int(self._entropy.uniform(0, high - low + 1))

    def time(self, low: float, high: float) -> Micros:
        """A time, given in seconds."""
        return round(self._entropy.uniform(low, high) * SECOND)

    def one(self, choices: Sequence[T]) -> T:
        """One of several."""
        return choices[self.number(0, len(choices) - 1)]

    def fault(self, *choices: Fault) -> Fault:
        """One of several faults."""
        return self.one(choices)

    def goal(self, *choices: Goal) -> Goal:
        """One of several goals."""
        return self.one(choices)

    def chance(self, share: float) -> bool:
        """True in so many of all cases."""
        return self._entropy.uniform(0, 1) < share

    def some(self, low: int, high: int, make: Callable[[], Act]) -> list[Act]:
        """From `low` to `high` acts."""
        return [make() for _ in range(self.number(low, high))]


Scenario: TypeAlias = Callable[[int], Plan]


def _draw(name: str, seed: int) -> Draw:
    return Draw(Entropy(f"scenario/{name}/{seed}"))


def _bad_link(draw: Draw) -> Fault:
    return draw.fault(
        Cut(),
        HalfOpen(),
        Stall(draw.time(0.2, 90)),
        Slow(draw.time(1, 30), draw.number(500, 20_000)),
        Latency(draw.time(0.001, 1.5), draw.time(0, 0.5)),
    )


def _bad_relay(draw: Draw) -> Fault:
    return draw.fault(
        RelayDies(draw.time(0.1, 40)),
        RelayDies(draw.time(0.1, 90), silently=True),
        RelayDrains(draw.time(0.1, 20), draw.number(0, 3), draw.number(0, 8000)),
    )


def _hits(draw: Draw, names: Sequence[str], fault: Callable[[Draw], Fault], until: float) -> Callable[[], Act]:
    return lambda: Act(draw.time(0, until), draw.one(names), fault(draw))


def _bad_clock(draw: Draw) -> Fault:
    return draw.fault(Leaps(draw.time(0.1, 100)), Sleeps(draw.time(0.5, 100), stops_clock=draw.chance(0.5)))


def device(seed: int) -> Plan:
    """One device with an outbox over a bad link, and a backend that leaves out repeats."""
    draw = _draw("device", seed)
    batch = BatchOptions(max_messages=draw.number(2, 20), max_delay=0.5) if draw.chance(0.3) else None
    outbox = Outbox(
        batch=batch, rate=draw.one((90.0, 20.0)), max_messages=draw.one((10_000, 10_000, 40)), overflow="drop_oldest"
    )
    hosts = (
        Client(name="device", outbox=outbox, retry_first=True, inactivity_timeout=draw.one((15.0, 60.0))),
        Client(name="backend", subscribes=("readings",), deduplicates=True),
    )
    script = [
        Act(draw.time(0, 5), "device", Publishes("readings", draw.number(20, 120), draw.time(0.05, 1), "outbox")),
        *draw.some(2, 8, _hits(draw, ("device", "device", "backend"), _bad_link, 100)),
        *draw.some(0, 1, _hits(draw, ("",), _bad_relay, 100)),
    ]
    return Plan(scenario="device", seed=seed, hosts=hosts, script=tuple(script))


def fleet(seed: int) -> Plan:
    """Several devices and a backend that listens to all of them by a pattern."""
    draw = _draw("fleet", seed)
    names = tuple(f"sensor-{number}" for number in range(draw.number(3, 6)))
    hosts = (
        *(Client(name=name, outbox=Outbox(), retry_first=True) for name in names),
        Client(name="backend", subscribes=("fleet/*/readings",), deduplicates=draw.chance(0.7)),
    )
    script = [
        Act(draw.time(0, 3), name, Publishes(f"fleet/{name}/readings", draw.number(5, 40), draw.time(0.2, 2), "outbox"))
        for name in names
    ]
    script += draw.some(1, 3, _hits(draw, ("",), _bad_relay, 60))
    script += draw.some(0, 5, _hits(draw, (*names, "backend"), _bad_link, 60))
    return Plan(scenario="fleet", seed=seed, hosts=hosts, script=tuple(script))


def drain(seed: int) -> Plan:
    """A relay that is restarted again and again, politely, while everybody talks."""
    draw = _draw("drain", seed)
    names = ("ann", "bob", "cid")
    hosts = tuple(
        Client(name=name, tokens=draw.chance(0.5), subscribes=("news", f"own/{name}"), retry_first=True)
        for name in names
    )
    script = [
        Act(
            draw.time(0, 5), name, Publishes("news", draw.number(10, 60), draw.time(0.1, 1), draw.one(("ack", "plain")))
        )
        for name in names
    ]
    script += draw.some(
        1,
        4,
        lambda: Act(
            draw.time(1, 90),
            "",
            RelayDrains(draw.time(0, 10), draw.number(0, 4), draw.number(0, 12_000)),
        ),
    )
    return Plan(scenario="drain", seed=seed, hosts=hosts, script=tuple(script))


def half_open(seed: int) -> Plan:
    """Sockets that fall silent without anybody being told."""
    draw = _draw("half_open", seed)
    names = ("ann", "bob")
    hosts = tuple(
        Client(
            name=name,
            subscribes=("room", f"own/{name}"),
            retry_first=True,
            inactivity_timeout=draw.one((5.0, 20.0, 60.0)),
            outbox=Outbox(),
        )
        for name in names
    )
    script = [
        Act(
            draw.time(0, 5), name, Publishes("room", draw.number(5, 40), draw.time(0.2, 3), draw.one(("ack", "outbox")))
        )
        for name in names
    ]
    script += draw.some(1, 6, _hits(draw, names, lambda _: HalfOpen(), 120))
    script += draw.some(0, 1, _hits(draw, ("",), lambda d: RelayDies(d.time(0.1, 60), silently=True), 120))
    return Plan(scenario="half_open", seed=seed, hosts=hosts, script=tuple(script))


def tokens(seed: int) -> Plan:
    """Tokens that do not live long, and a token server that is often in trouble."""
    draw = _draw("tokens", seed)
    hosts = tuple(
        Client(
            name=name,
            subscribes=("news",),
            token_lifetime=draw.number(20, 120),
            retry_first=draw.chance(0.5),
        )
        for name in ("ann", "bob", "cid")
    )
    script = [Act(draw.time(1, 5), "ann", Publishes("news", draw.number(20, 100), SECOND))]
    script += draw.some(
        1, 4, lambda: Act(draw.time(0, 100), "", TokensFail(draw.time(1, 60), draw.one(("fails", "slow", "nonsense"))))
    )
    script += draw.some(0, 3, _hits(draw, ("ann", "bob", "cid"), lambda _: Cut(), 100))
    return Plan(scenario="tokens", seed=seed, hosts=hosts, script=tuple(script))


def clocks(seed: int) -> Plan:
    """Clocks that jump ahead, and laptops that are closed and opened again."""
    draw = _draw("clocks", seed)
    names = ("laptop", "phone", "backend")
    hosts = (
        Client(name="laptop", subscribes=("news", "own/*"), outbox=Outbox(), retry_first=True),
        Client(name="phone", tokens=False, subscribes=("news",), retry_first=True),
        Client(name="backend", subscribes=("**",), answers=True),
    )
    script = [
        Act(draw.time(0, 5), "laptop", Publishes("news", draw.number(10, 60), draw.time(0.2, 2), "outbox")),
        Act(draw.time(0, 5), "phone", AsksPeer("backend", draw.number(5, 20), draw.time(0.5, 5))),
        *draw.some(
            1,
            6,
            lambda: Act(
                draw.time(0, 120),
                draw.one(names),
                draw.fault(Leaps(draw.time(0.1, 400)), Sleeps(draw.time(0.5, 300), stops_clock=draw.chance(0.5))),
            ),
        ),
    ]
    return Plan(scenario="clocks", seed=seed, hosts=hosts, script=tuple(script))


def slow_reader(seed: int) -> Plan:
    """A reader that cannot keep up with what is published, at a relay that holds little for it."""
    draw = _draw("slow_reader", seed)
    hosts = (
        Client(name="writer", retry_first=True),
        Client(name="reader", subscribes=("film",), retry_first=True),
        Client(name="other", subscribes=("film",), retry_first=True),
    )
    script = [
        Act(
            draw.time(1, 5),
            "writer",
            Publishes("film", draw.number(30, 150), draw.time(0.02, 0.3), draw.one(("ack", "plain")), 4000),
        ),
        *draw.some(
            1,
            4,
            lambda: Act(draw.time(0, 30), "reader", Slow(draw.time(5, 60), draw.number(500, 40_000))),
        ),
        *draw.some(0, 2, _hits(draw, ("reader", "writer"), _bad_link, 60)),
        *draw.some(0, 2, lambda: Act(draw.time(1, 20), "writer", Stall(draw.time(1, 10)))),
    ]
    max_queue = draw.one((1 << 20, 256 << 10, 96 << 10))
    return Plan(scenario="slow_reader", seed=seed, hosts=hosts, script=tuple(script), max_queue=max_queue)


def patterns(seed: int) -> Plan:
    """Literal and pattern subscriptions that come and go across reconnects."""
    draw = _draw("patterns", seed)
    channels = ("a/one", "a/two", "b/one", "a/b/c")
    wishes = (*channels, "a/*", "*/one", "a/**", "**")
    hosts = (
        Client(name="writer", retry_first=True),
        *(
            Client(
                name=name,
                tokens=draw.chance(0.5),
                subscribes=tuple(dict.fromkeys(draw.one(wishes) for _ in range(draw.number(1, 5)))),
                retry_first=True,
            )
            for name in ("ann", "bob")
        ),
    )
    script = [Act(draw.time(0, 60), "writer", Publishes(draw.one(channels), 5, SECOND)) for _ in range(4)]
    script += draw.some(
        2,
        10,
        lambda: Act(
            draw.time(0, 80),
            draw.one(("ann", "bob")),
            (Subscribes if draw.chance(0.6) else Unsubscribes)(draw.one(wishes)),
        ),
    )
    script += draw.some(1, 4, _hits(draw, ("ann", "bob"), _bad_link, 80))
    script += draw.some(0, 2, _hits(draw, ("",), _bad_relay, 80))
    return Plan(scenario="patterns", seed=seed, hosts=hosts, script=tuple(script))


def requests(seed: int) -> Plan:
    """Questions and answers, with either side's connection lost in between."""
    draw = _draw("requests", seed)
    hosts = (
        Client(name="asker", retry_first=True),
        Client(name="oracle", answers=True, retry_first=True),
        Client(name="silent", retry_first=True),
    )
    script = [
        Act(draw.time(0, 5), "asker", AsksPeer("oracle", draw.number(10, 60), draw.time(0.1, 2), draw.number(1, 20))),
        Act(draw.time(0, 30), "asker", AsksPeer("silent", draw.number(0, 5), SECOND, 5.0)),
        Act(draw.time(0, 30), "asker", AsksPeer("nobody", draw.number(0, 3), SECOND)),
        *draw.some(1, 6, _hits(draw, ("asker", "oracle"), _bad_link, 60)),
        *draw.some(0, 1, _hits(draw, ("",), _bad_relay, 60)),
        *draw.some(0, 1, _hits(draw, ("silent",), lambda _: Kicked(), 60)),
    ]
    return Plan(scenario="requests", seed=seed, hosts=hosts, script=tuple(script))


def limits(seed: int) -> Plan:
    """A relay with no room for one more connection than there are clients, and with a quota that is soon used up."""
    draw = _draw("limits", seed)
    names = ("ann", "bob", "cid")
    hosts = tuple(
        Client(
            name=name,
            tokens=draw.chance(0.5),
            subscribes=("c",),
            outbox=Outbox(
                rate=draw.one((90.0, 10.0)), batch=BatchOptions(max_messages=4) if draw.chance(0.3) else None
            ),
            retry_first=True,
            inactivity_timeout=draw.one((5.0, 60.0)),
            deduplicates=draw.chance(0.5),
        )
        for name in names
    )
    script = [
        Act(draw.time(0, 5), name, Publishes("c", draw.number(5, 60), draw.time(0.02, 1), draw.one(("ack", "outbox"))))
        for name in names
    ]
    script += draw.some(1, 5, _hits(draw, names, lambda d: d.fault(HalfOpen(), Cut(), Stall(d.time(1, 60))), 60))
    script += draw.some(0, 1, _hits(draw, ("",), _bad_relay, 60))
    return Plan(
        scenario="limits",
        seed=seed,
        hosts=hosts,
        script=tuple(script),
        settles=360 * SECOND,  # until the quota has let everything through
        max_connections=len(hosts),
        message_quota=draw.number(40, 80),
        quota_period=draw.number(10, 30),
    )


def twins(seed: int) -> Plan:
    """Two clients under one id: present once, both sent what is sent to either, and each with its own questions."""
    draw = _draw("twins", seed)
    names = ("ann", "ann/2", "oracle")
    hosts = (
        Client(name="ann", subscribes=("c",), retry_first=True),
        Client(name="ann/2", known_as="ann", subscribes=("c",)[: draw.number(0, 1)], retry_first=True),
        Client(name="oracle", subscribes=("c",), answers=True, retry_first=True),
    )
    script = [
        Act(draw.time(0, 10), "ann", AsksPeer("oracle", draw.number(5, 30), draw.time(0.1, 2), draw.number(1, 10))),
        Act(draw.time(0, 10), "ann/2", AsksPeer("oracle", draw.number(5, 30), draw.time(0.1, 2), draw.number(1, 10))),
        Act(draw.time(0, 10), "oracle", Publishes("c", draw.number(5, 30), draw.time(0.1, 2))),
        *draw.some(
            0, 2, lambda: Act(draw.time(0, 60), "ann/2", draw.goal(Subscribes("c"), Unsubscribes("c"), Leaves()))
        ),
        *draw.some(1, 5, _hits(draw, names, _bad_link, 60)),
        *draw.some(0, 1, _hits(draw, ("",), _bad_relay, 60)),
        *draw.some(0, 1, _hits(draw, ("ann",), lambda _: Kicked(), 60)),
    ]
    return Plan(scenario="twins", seed=seed, hosts=hosts, script=tuple(script))


def chaos(seed: int) -> Plan:
    """Clients that do all that clients can, while all goes wrong that can; some do not wait for answers long."""
    draw = _draw("chaos", seed)
    names = ("ann", "bob", "cid", "dot")
    hosts = tuple(
        Client(
            name=name,
            tokens=draw.chance(0.6),
            token_lifetime=draw.number(30, 300),
            subscribes=("c", "d/*")[: draw.number(0, 2)],
            outbox=Outbox(
                max_messages=draw.number(5, 100),
                max_age=draw.one((None, 5.0, 60.0)),
                overflow=draw.one(("drop_oldest", "drop_newest", "reject")),
                batch=BatchOptions(max_messages=5, max_delay=0.3) if draw.chance(0.3) else None,
            ),
            answers=draw.chance(0.5),
            retry_first=draw.chance(0.8),
            inactivity_timeout=draw.one((5.0, 15.0, 60.0)),
            patience=draw.one((None, draw.time(0.01, 5))),
        )
        for name in names
    )
    script: list[Act] = []
    for name in names:
        through: Through = draw.one(("ack", "plain", "outbox"))
        goal = draw.goal(
            Publishes(
                draw.one(("c", "d/x")), draw.number(5, 600), draw.time(0.004, 0.2), through, draw.number(0, 2000)
            ),
            AsksPeer(draw.one(names), draw.number(5, 30), draw.time(0.1, 2), draw.number(1, 10)),
            Subscribes("**"),
        )
        script.append(Act(draw.time(0, 30), name, goal))
    script += draw.some(2, 10, _hits(draw, names, _bad_link, 90))
    script += draw.some(0, 3, _hits(draw, ("",), _bad_relay, 90))
    script += draw.some(0, 2, _hits(draw, names, _bad_clock, 90))
    script += draw.some(0, 2, lambda: Act(draw.time(0, 90), draw.one(names), Unsubscribes(draw.one(("c", "d/*")))))
    script += draw.some(0, 2, lambda: Act(draw.time(0, 90), "", TokensFail(draw.time(1, 40))))
    script += draw.some(0, 1, lambda: Act(draw.time(0, 90), draw.one(names), Kicked()))
    script += draw.some(0, 1, lambda: Act(draw.time(0, 90), draw.one(names), Leaves()))
    return Plan(scenario="chaos", seed=seed, hosts=hosts, script=tuple(script))


# --- rooms ---

NAMES: Final = ("ada", "ben", "cleo", "dan", "eve", "fox", "gil", "hal")


def _company(draw: Draw, count: int, *, keys: float = 0.25) -> tuple[Peer, ...]:
    return tuple(
        Peer(
            name=name,
            tokens=not draw.chance(keys),
            engine=draw.one(("gathers", "trickles")),
        )
        for name in NAMES[:count]
    )


def _call(draw: Draw, peers: Sequence[Peer], *, until: float = 5.0, senders: float = 0.7) -> list[Act]:
    """Everybody joins, and most send something, before or after."""
    acts = []
    for peer in peers:
        acts.append(Act(draw.time(0, until), peer.name, Joins()))
        if draw.chance(senders):
            acts.append(Act(draw.time(0, until + 10), peer.name, SendsTrack(1)))
        if draw.chance(0.3):
            acts.append(Act(draw.time(0, until + 10), peer.name, SendsTrack(2, "audio")))
    return acts


def pair(seed: int) -> Plan:
    """A room of two over bad links."""
    draw = _draw("pair", seed)
    peers = _company(draw, 2)
    script = _call(draw, peers)
    script.append(Act(draw.time(5, 60), "ada", Says(draw.number(1, 20))))
    script += draw.some(0, 2, lambda: Act(draw.time(6, 60), "ada", OpensChannel("ben")))
    script += draw.some(1, 5, _hits(draw, ("ada", "ben"), _bad_link, 60))
    script += draw.some(0, 2, lambda: Act(draw.time(5, 60), "ada", MediaLost(draw.time(1, 60), "ben")))
    return Plan(scenario="pair", seed=seed, hosts=peers, script=tuple(script))


def quartet(seed: int) -> Plan:
    """A room of four in which somebody always comes or goes."""
    return _coming_and_going("quartet", seed, 4, 8)


def octet(seed: int) -> Plan:
    """A room of eight in which somebody always comes or goes."""
    return _coming_and_going("octet", seed, 8, 6)


def _coming_and_going(name: str, seed: int, count: int, most: int) -> Plan:
    draw = _draw(name, seed)
    peers = _company(draw, count)
    names = [peer.name for peer in peers]
    script = _call(draw, peers, until=20)
    script += draw.some(0, most // 2, lambda: Act(draw.time(15, 60), draw.one(names), Leaves()))
    script += draw.some(0, 2, lambda: Act(draw.time(15, 60), draw.one(names), Dies(silently=draw.chance(0.5))))
    script += draw.some(0, most, _hits(draw, names, _bad_link, 60))
    script += draw.some(0, 1, _hits(draw, ("",), _bad_relay, 60))
    return Plan(scenario=name, seed=seed, hosts=peers, script=tuple(script))


def partition(seed: int) -> Plan:
    """A room that falls apart in two halves, at the relay, between the peers, or both, and grows together again."""
    draw = _draw("partition", seed)
    peers = _company(draw, draw.number(3, 5), keys=0.15)
    script = _call(draw, peers, senders=0.9)
    for _ in range(draw.number(1, 3)):
        at, span = draw.time(8, 60), draw.time(1, 100)
        half = [peer for peer in peers if draw.chance(0.5)] or [peers[0]]
        if draw.chance(0.7):
            script += [Act(at, peer.name, Stall(span)) for peer in half]
        if draw.chance(0.6):
            script += [
                Act(at, peer.name, MediaLost(span, other.name)) for peer in half for other in peers if other not in half
            ]
    return Plan(scenario="partition", seed=seed, hosts=peers, script=tuple(script))


def relay_killed(seed: int) -> Plan:
    """The relay is killed in the middle of calls, and while it is gone some of the calls fall apart, too."""
    draw = _draw("relay_killed", seed)
    keys = draw.one((0.0, 0.0, 0.5))
    peers = _company(draw, draw.number(2, 4), keys=keys)
    names = [peer.name for peer in peers]
    script = _call(draw, peers, senders=0.9)
    for _ in range(draw.number(1, 2)):
        at, span = draw.time(20, 70), draw.time(0.2, 40)
        script.append(Act(at, "", draw.fault(RelayDies(span), RelayDies(span, silently=True), RelayDrains(span))))
        if draw.chance(0.6):
            one, other = draw.one(names), draw.one(names)
            if one != other:
                script.append(Act(at + draw.time(0, 5), one, MediaLost(draw.time(8, 60), other)))
        if draw.chance(0.6):
            script.append(Act(at + draw.time(0, 5), draw.one(names), SendsTrack(draw.number(3, 6))))
        if draw.chance(0.3):
            script.append(Act(at + draw.time(0, 5), draw.one(names), StopsTrack(1)))
    return Plan(scenario="relay_killed", seed=seed, hosts=peers, script=tuple(script))


def turn(seed: int) -> Plan:
    """NATs that let nobody through, so that only a TURN server helps, and one that is not always there."""
    draw = _draw("turn", seed)
    peers = tuple(
        Peer(name=name, closed_nat=draw.chance(0.6), tokens=draw.chance(0.7), engine=draw.one(("gathers", "trickles")))
        for name in NAMES[: draw.number(2, 3)]
    )
    names = [peer.name for peer in peers]
    script = _call(draw, peers, senders=0.9)
    script += draw.some(0, 2, lambda: Act(draw.time(0, 60), "", TurnDown(draw.time(1, 60))))
    script += draw.some(0, 3, _hits(draw, names, _bad_link, 60))
    return Plan(scenario="turn", seed=seed, hosts=peers, script=tuple(script))


def glare(seed: int) -> Plan:
    """Everybody changes what he sends at the same time as everybody else, and engines that sometimes fail."""
    draw = _draw("glare", seed)
    peers = _company(draw, draw.number(2, 3))
    names = [peer.name for peer in peers]
    script = _call(draw, peers, senders=0.9)
    for _ in range(draw.number(3, 10)):
        at = draw.time(3, 60)
        for name in names:
            number = draw.number(1, 4)
            change = draw.goal(
                SendsTrack(number), SendsTrack(number), StopsTrack(number), SwapsTrack(number, number + 10)
            )
            script.append(Act(at + draw.time(0, 0.3), name, change))
    script += draw.some(0, 3, _hits(draw, names, lambda d: Latency(d.time(0.001, 0.8), d.time(0, 0.5)), 60))
    script += draw.some(0, 1, _hits(draw, names, lambda d: EngineFails(d.number(1, 3)), 60))
    script += draw.some(0, 3, lambda: Act(draw.time(5, 60), draw.one(names), OpensChannel(draw.one(names))))
    script += draw.some(0, 1, _hits(draw, names, lambda _: Cut(), 60))
    return Plan(scenario="glare", seed=seed, hosts=peers, script=tuple(script))


def laptops(seed: int) -> Plan:
    """A room whose members' machines are suspended and whose tokens run out meanwhile."""
    draw = _draw("laptops", seed)
    peers = tuple(
        Peer(name=name, token_lifetime=draw.number(45, 180), engine=draw.one(("gathers", "trickles")))
        for name in NAMES[:3]
    )
    names = [peer.name for peer in peers]
    script = _call(draw, peers, senders=0.8)
    script += draw.some(
        1,
        3,
        lambda: Act(draw.time(10, 80), draw.one(names), Sleeps(draw.time(1, 200), stops_clock=draw.chance(0.5))),
    )
    script += draw.some(0, 2, lambda: Act(draw.time(10, 80), draw.one(names), Leaps(draw.time(0.1, 100))))
    script += draw.some(0, 1, lambda: Act(draw.time(10, 80), "", TokensFail(draw.time(1, 60))))
    return Plan(scenario="laptops", seed=seed, hosts=peers, script=tuple(script))


def reborn(seed: int) -> Plan:
    """Somebody's process dies, and starts again under the same id, before the relay has noticed or after."""
    draw = _draw("reborn", seed)
    peers = list(_company(draw, draw.number(2, 3), keys=0.0))
    script = _call(draw, peers, senders=0.9)
    for life in range(2, draw.number(2, 4) + 1):
        at = 30.0 * (life - 1) + draw.number(0, 10)
        last = next(peer for peer in reversed(peers) if (peer.known_as or peer.name) == "ada")
        again = Peer(name=f"ada/{life}", known_as="ada", engine=draw.one(("gathers", "trickles")))
        peers.append(again)
        script.append(Act(draw.time(at, at + 1), last.name, Dies(silently=draw.chance(0.6))))
        script.append(Act(draw.time(at + 1, at + 15), again.name, Joins()))
        if draw.chance(0.7):
            script.append(Act(draw.time(at + 1, at + 20), again.name, SendsTrack(life)))
    script += draw.some(0, 3, _hits(draw, ("ben", "ada"), _bad_link, 100))
    return Plan(scenario="reborn", seed=seed, hosts=tuple(peers), script=tuple(script))


def storm(seed: int) -> Plan:
    """A room in which everything happens at once."""
    draw = _draw("storm", seed)
    peers = tuple(
        Peer(
            name=name,
            tokens=draw.chance(0.7),
            token_lifetime=draw.number(60, 400),
            engine=draw.one(("gathers", "trickles")),
            closed_nat=draw.chance(0.2),
        )
        for name in NAMES[: draw.number(2, 5)]
    )
    names = [peer.name for peer in peers]
    script = [
        Act(act.at, act.who, Joins(patience=draw.time(0.01, 3)))
        if isinstance(act.what, Joins) and draw.chance(0.3)
        else act
        for act in _call(draw, peers, until=30)
    ]
    for _ in range(draw.number(2, 12)):
        number = draw.number(1, 4)
        goal = draw.goal(
            SendsTrack(number, draw.one(("audio", "video"))),
            StopsTrack(number),
            SwapsTrack(number, number + 10),
            OpensChannel(draw.one(names)),
            Says(draw.number(1, 5)),
        )
        script.append(Act(draw.time(0, 90), draw.one(names), goal))
    script += draw.some(2, 10, _hits(draw, names, _bad_link, 90))
    script += draw.some(0, 3, _hits(draw, ("",), _bad_relay, 90))
    script += draw.some(0, 2, _hits(draw, names, _bad_clock, 90))
    script += draw.some(0, 3, lambda: Act(draw.time(0, 90), names[0], MediaLost(draw.time(1, 60), draw.one(names[1:]))))
    script += draw.some(0, 2, lambda: Act(draw.time(0, 90), draw.one(names), EngineFails(1)))
    script += draw.some(0, 1, lambda: Act(draw.time(0, 90), "", TurnDown(draw.time(1, 60))))
    script += draw.some(0, 1, lambda: Act(draw.time(0, 90), draw.one(names), Leaves()))
    script += draw.some(0, 1, lambda: Act(draw.time(0, 90), draw.one(names), Dies(silently=draw.chance(0.5))))
    return Plan(scenario="storm", seed=seed, hosts=peers, script=tuple(script))


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        device, fleet, drain, half_open, tokens, clocks, slow_reader, patterns, requests, twins, limits, chaos,
        pair, quartet, octet, partition, relay_killed, turn, glare, laptops, reborn, storm,
    )
}  # fmt: skip
