"""What a simulated run is made of: who is there, what they want, and what goes wrong.

A `Plan` is plain data, so a run can be had again from it, made smaller (`metered_proto.sim.shrink`), and kept as a
file. Times are microseconds of the world, which begins at 0.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from metered_proto.machine import SECOND, Micros
from metered_proto.settings import Outbox
from metered_proto.wire.channels import is_pattern
from metered_proto.wire.tokens import DEFAULT_LIFETIME


class Word(msgspec.Struct, frozen=True, tag=True):
    """The base of everything in a plan."""


# --- who is there ---


class Client(Word, frozen=True, kw_only=True):
    """A signalling client. It connects when the world begins, and again whenever its first connect fails.

    With `tokens` it is known by its name, or as `known_as`, as somebody else may be, too, and fetches tokens that live
    for `token_lifetime` seconds; otherwise it has a publishable key. `outbox` are its options, where it has one;
    `answers` makes it answer requests. As long as things go wrong, what waits longer than `patience` for an answer is
    withdrawn.
    """

    name: str
    tokens: bool = True
    token_lifetime: int = DEFAULT_LIFETIME
    subscribes: tuple[str, ...] = ()
    outbox: Outbox | None = None
    deduplicates: bool = False
    answers: bool = False
    retry_first: bool = False
    inactivity_timeout: float = 60.0
    patience: Micros | None = None
    known_as: str | None = None


class Peer(Word, frozen=True, kw_only=True):
    """Somebody who can be in a room.

    `known_as` is its id where that is not its name: it may be the next life of another one that has died.
    `engine`: one that `gathers` says everything in its description and cannot take an offer back, as aiortc; one that
    `trickles` finds candidates after it and can, as browsers. Behind a `closed` NAT nobody gets to it but by TURN.
    """

    name: str
    tokens: bool = True
    token_lifetime: int = DEFAULT_LIFETIME
    engine: Literal["gathers", "trickles"] = "gathers"
    closed_nat: bool = False
    known_as: str | None = None


Host: TypeAlias = Client | Peer


# --- what they want ---


Through: TypeAlias = Literal["ack", "plain", "outbox"]
"""Acknowledged, without acknowledgement, or by the outbox."""


class Publishes(Word, frozen=True):
    """`count` messages, one `every` so often, with `size` bytes to fill them."""

    channel: str
    count: int = 1
    every: Micros = SECOND
    through: Through = "ack"
    size: int = 0


class Subscribes(Word, frozen=True):
    """Listen to a channel or a pattern from now on."""

    channel: str


class Unsubscribes(Word, frozen=True):
    """Listen to it no longer."""

    channel: str


class AsksPeer(Word, frozen=True):
    """`count` questions to another client."""

    peer: str
    count: int = 1
    every: Micros = SECOND
    timeout: float = 10.0


class Joins(Word, frozen=True):
    """Enter the room; where that fails, or takes longer than `patience` while things go wrong, try again."""

    room: str = "room"
    patience: Micros | None = None


class Leaves(Word, frozen=True):
    """Leave the room, or close the client, for good."""


class SendsTrack(Word, frozen=True):
    """Send another track to everybody in the room."""

    number: int
    kind: Literal["audio", "video"] = "video"


class StopsTrack(Word, frozen=True):
    """Send it no longer."""

    number: int


class SwapsTrack(Word, frozen=True):
    """Send the track `new` in the place of `old`."""

    old: int
    new: int
    kind: Literal["audio", "video"] = "video"


class OpensChannel(Word, frozen=True):
    """Open a data channel to another peer of the room, if it is there."""

    peer: str


class Says(Word, frozen=True):
    """Data for everybody in the room."""

    count: int = 1
    every: Micros = SECOND


Goal: TypeAlias = (
    Publishes
    | Subscribes
    | Unsubscribes
    | AsksPeer
    | Joins
    | Leaves
    | SendsTrack
    | StopsTrack
    | SwapsTrack
    | OpensChannel
    | Says
)


# --- what goes wrong ---


class Cut(Word, frozen=True):
    """The socket breaks, and both ends notice."""


class HalfOpen(Word, frozen=True):
    """The socket falls silent in both directions, for good, and nobody is told."""


class Stall(Word, frozen=True):
    """Nothing gets through between the host and the relay for a while; then everything does, at once.

    A new connection hangs as long. This is a partition, too: what TCP makes of one.
    """

    span: Micros


class Slow(Word, frozen=True):
    """For a while only so many bytes a second reach the host."""

    span: Micros
    rate: int


class Latency(Word, frozen=True):
    """From now on every packet takes so long, give or take `jitter`."""

    latency: Micros
    jitter: Micros = 0


class MediaLost(Word, frozen=True):
    """For a while no packet gets from the host to the `other` directly, nor back."""

    span: Micros
    other: str


class Sleeps(Word, frozen=True):
    """The host is suspended. Its clock goes on meanwhile, or (`stops_clock`) does not."""

    span: Micros
    stops_clock: bool = False


class Leaps(Word, frozen=True):
    """The host's clock jumps ahead."""

    by: Micros


class Dies(Word, frozen=True):
    """The host is killed: the relay notices (`silently`: it does not), its connections fall silent."""

    silently: bool = False


class RelayDies(Word, frozen=True):
    """The relay is gone for a while, and all it knew with it. `silently`: nobody's socket is reset."""

    span: Micros
    silently: bool = False


class RelayDrains(Word, frozen=True):
    """The relay says goodbye, and another one takes its place after a while."""

    span: Micros
    grace: float = 0.0
    retry_after_ms: int = 0


class Kicked(Word, frozen=True):
    """An administrator disconnects the host."""


class TokensFail(Word, frozen=True):
    """The token server is in trouble for a while: it `fails`, is so `slow` that nobody waits for it, or talks
    `nonsense`."""

    span: Micros
    how: Literal["fails", "slow", "nonsense"] = "fails"


class TurnDown(Word, frozen=True):
    """The TURN server is away for a while."""

    span: Micros


class EngineFails(Word, frozen=True):
    """The next so many descriptions that the host's engine is to make fail.

    An offer on a connection that is up is tried four times; only a fault that lasts longer than that is for good.
    """

    count: int = 1


Fault: TypeAlias = (
    Cut
    | HalfOpen
    | Stall
    | Slow
    | Latency
    | MediaLost
    | Sleeps
    | Leaps
    | Dies
    | RelayDies
    | RelayDrains
    | Kicked
    | TokensFail
    | TurnDown
    | EngineFails
)

FAULTS: Final = (
    Cut, HalfOpen, Stall, Slow, Latency, MediaLost, Sleeps, Leaps, Dies, RelayDies, RelayDrains, Kicked, TokensFail,
    TurnDown, EngineFails,
)  # fmt: skip


class Act(msgspec.Struct, frozen=True):
    """Somebody does something, or it happens to him. `who` is "" for what happens to the relay and to servers."""

    at: Micros
    who: str
    what: Goal | Fault


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run: until `heals_at` things happen, then the world has `settles` to come to rest, and is looked at."""

    scenario: str
    seed: int
    hosts: tuple[Host, ...]
    script: tuple[Act, ...]
    settles: Micros = 120 * SECOND
    message_rate: float | None = 100.0
    max_queue: int = 1 << 20
    max_connections: int | None = None
    message_quota: int | None = None
    quota_period: float = 60.0

    @property
    def heals_at(self) -> Micros:
        """When the last thing of the script is over."""
        return max((act.at + duration(act.what) for act in self.script), default=0)

    @property
    def faults(self) -> int:
        """How many things go wrong."""
        return sum(isinstance(act.what, FAULTS) for act in self.script)

    @property
    def channels(self) -> tuple[str, ...]:
        """The literal channels that somebody publishes or subscribes to, in the order in which they are named."""
        names: dict[str, None] = {}
        for host in self.hosts:
            if isinstance(host, Client):
                names.update(dict.fromkeys(host.subscribes))
        for act in self.script:
            if isinstance(act.what, Publishes | Subscribes | Unsubscribes):
                names[act.what.channel] = None
        return tuple(name for name in names if not is_pattern(name))


def duration(what: Goal | Fault) -> Micros:
    """How long something goes on."""
    match what:
        case Publishes(_, count, every) | AsksPeer(_, count, every) | Says(count, every):
            return count * every
        case RelayDrains(span, grace):
            return span + round(grace * SECOND)
        case _:
            return getattr(what, "span", 0)


def dump(plan: Plan) -> bytes:
    """A plan as JSON."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=1)


def load(text: bytes | str) -> Plan:
    """A plan from JSON. Raises `ValueError` for anything else."""
    return msgspec.json.decode(text, type=Plan)
