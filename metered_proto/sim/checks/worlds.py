"""Promises that a world keeps or breaks: looked at when it has come to rest, and when everybody has gone."""

from __future__ import annotations

from typing import Final

import msgspec

from metered_proto.client.outbox import Delivered
from metered_proto.client.requests import Request
from metered_proto.errors import IceRecoveryExhaustedError
from metered_proto.events import Disconnected, Left, Message, NegotiationError
from metered_proto.facts import Asked
from metered_proto.machine import SECOND, Micros
from metered_proto.relay import Peers, PublishAs
from metered_proto.room.words import AtPeer
from metered_proto.rtc.options import RtcOptions
from metered_proto.sim.checks.memory import CLOSED, bound_of_client, bound_of_relay, bound_of_room, held
from metered_proto.sim.checks.traces import each_asked_is_answered_once, taken_by_relays
from metered_proto.sim.connections import MadeToFailError
from metered_proto.sim.hosts import ClientHost, PeerHost
from metered_proto.sim.plan import EngineFails, SwapsTrack, Unsubscribes
from metered_proto.sim.steps import Violation
from metered_proto.sim.world import World
from metered_proto.wire.channels import Pattern, is_pattern
from metered_proto.wire.close_codes import verdict

PROBE: Final[Micros] = 10 * SECOND
"""How long a probe may be on its way."""


QUIET: Final[Micros] = 15 * SECOND
"""Nobody has just come or gone: longer than a room keeps somebody who is away."""

ATTEMPTS: Final = 100
"""So many a client makes before it gives up, unless its options say otherwise."""

LATELY: Final[Micros] = 60 * SECOND
"""Whoever was connected so short a time ago has only just lost it: tokens end, and are fetched anew."""


def come_to_rest(world: World) -> None:
    """Let time pass until nobody has come or gone for a while, as happens for ever where tokens do not live long."""
    for _ in range(120):
        last = max((max(host.back_at, host.lost_at) for host in world.hosts.values()), default=0)
        if world.now - last >= QUIET:
            return
        world.run(world.now + SECOND)


def agreement(world: World) -> list[Violation]:
    """What takes time to agree on: what is amiss has to be so for a while, since something may always be on its way."""
    found: list[Violation] = []
    for _ in range(2):
        come_to_rest(world)
        found = [
            *everybody_is_back(world),
            *rosters_are_the_relays(world),
            *presence_is_the_relays(world),
            *calls_are_up(world),
        ]
        if not found:
            break
        world.run(world.now + 2 * QUIET)
    return found


def everybody_is_back(world: World) -> list[Violation]:
    """Every client is connected, or has reported that it gave up; every room is joined, or has said why not."""
    promise = "after the faults everybody is connected, or says that it gave up"
    found: list[Violation] = []
    for client in world.clients.values():
        lately = client.lost_at > client.back_at > world.now - LATELY
        is_back = client.is_dead or client.closed or client.machine.state == "connected" or lately
        if not is_back and not _gave_up_rightly(client):
            found.append(Violation(promise, client.name, f"it is {client.machine.state}"))
    for peer in world.peers.values():
        lately = peer.lost_at > peer.back_at > world.now - LATELY
        if not peer.is_dead and not peer.closed and peer.room and peer.machine.state != "joined" and not lately:
            said = any(isinstance(event, Left) and event.reason != "reconcile_timeout" for event in peer.told)
            if peer.machine.state != "closed" or not said:
                found.append(Violation(promise, peer.name, f"its room is {peer.machine.state}"))
    return found


def _gave_up_rightly(client: ClientHost) -> bool:
    """Whether it said that it will not come back, for a reason: the server's word, or that all attempts are used up."""
    return any(
        isinstance(event, Disconnected)
        and not event.will_reconnect
        and (not verdict(event.code, can_refresh=client.spec.tokens).reconnect or client.links_opened >= ATTEMPTS)
        for event in client.told
    )


def everything_is_answered(world: World) -> list[Violation]:
    """When the world has come to rest, nobody who is connected waits for an answer any more."""
    connected = [
        client.name
        for client in world.clients.values()
        if not client.is_dead and client.machine.state == "connected" and world.now - client.back_at > LATELY
    ]
    found = each_asked_is_answered_once(world.steps, ended=connected)
    return [msgspec.structs.replace(one, promise="in the end everything is answered") for one in found]


def _joined(world: World) -> list[PeerHost]:
    return [peer for peer in world.peers.values() if not peer.is_dead and peer.machine.state == "joined"]


def rosters_are_the_relays(world: World) -> list[Violation]:
    """Who is in a room, as each member sees it, is who is there at the relay."""
    relay = world.relay
    assert relay is not None, "the world is not at rest"
    found: list[Violation] = []
    for peer in _joined(world):
        answer = relay.answers[relay.ask(Peers(peer.room))]
        there = {each.peer_id for each in answer.value}
        ours = {*peer.machine.members, peer.machine.peer_id}
        if ours != there:
            odd = sorted(str(name) for name in ours ^ there)
            found.append(Violation("the roster is the relay's", peer.name, f"they differ in {', '.join(odd)}"))
    return found


def presence_is_the_relays(world: World) -> list[Violation]:
    """What a client was told of who came to and left a channel adds up to who is there at the relay.

    Channels that it listened to with interruptions of its own are left out: they are not told in between.
    """
    relay = world.relay
    assert relay is not None, "the world is not at rest"
    ended = {(act.who, act.what.channel): None for act in world.plan.script if isinstance(act.what, Unsubscribes)}
    found: list[Violation] = []
    for client in world.clients.values():
        if client.is_dead or client.closed or client.machine.state != "connected":
            continue
        for channel in client.wishes:
            if is_pattern(channel) or (client.name, channel) in ended:
                continue
            there = {peer.peer_id for peer in relay.answers[relay.ask(Peers(channel))].value}
            ours = {*client.present.get(channel, {}), client.peer_id}
            if ours != there:
                odd = sorted(str(name) for name in ours ^ there)
                what = f"in {channel} they differ in {', '.join(odd)}"
                found.append(Violation("presence is the relay's", client.name, what))
    return found


def calls_are_up(world: World) -> list[Violation]:
    """Where either of two members sends something, they are connected and have all of each other's tracks, with what
    was said of them; or one has reported that it gave up."""
    promise = "calls are up, with all their tracks"
    peers = {str(peer.machine.peer_id): peer for peer in _joined(world)}
    # A track that took another's place goes by what was said of that one.
    swapped = [act.who for act in world.plan.script if isinstance(act.what, SwapsTrack)]
    found = [
        Violation(promise, peer.name, f"{len(connection.channels)} data channels did not open")
        for peer in peers.values()
        for connection in peer.connections.values()
        if connection.up and connection.channels and not any(_gave_up(peer, peer_id) for peer_id in peers)
    ]
    for one in peers.values():
        for peer_id, other in peers.items():
            if other is one or other.room != one.room or not (one.machine.tracks or other.machine.tracks):
                continue
            if _gave_up(one, peer_id) or _gave_up(other, str(one.machine.peer_id)):
                continue
            state = one.machine.member_state(peer_id)
            if state != "connected":
                found.append(Violation(promise, one.name, f"to {other.name} it is {state}"))
            elif len(one.seen.get(peer_id, {})) != len(other.machine.tracks):
                what = f"it has {len(one.seen.get(peer_id, {}))} of {len(other.machine.tracks)} tracks of {other.name}"
                found.append(Violation(promise, one.name, what))
            elif other.name not in swapped:
                said = sorted(str(track.metadata) for track in other.machine.tracks)
                heard = sorted(str(metadata) for metadata in one.seen.get(peer_id, {}).values())
                if said != heard:
                    what = f"the tracks of {other.name} are {', '.join(heard)}, and ought to be {', '.join(said)}"
                    found.append(Violation(promise, one.name, what))
    return found


def _gave_up(peer: PeerHost, peer_id: str) -> bool:
    """Whether it was told that a connection to a member could not be had, or that its engine kept failing.

    What an engine cannot describe is tried again; only one that was made to fail more often than that is excused.
    """
    script = peer.world.plan.script
    failures = sum(act.what.count for act in script if isinstance(act.what, EngineFails) and act.who == peer.name)
    excuses: list[type[Exception]] = [IceRecoveryExhaustedError]
    if failures > len(RtcOptions().offer_retries):
        excuses.append(MadeToFailError)
    return any(
        isinstance(event, AtPeer)
        and event.peer_id == peer_id
        and isinstance(event.event, NegotiationError)
        and isinstance(event.event.err, tuple(excuses))
        for event in peer.told
    )


def subscriptions_are_there(world: World) -> list[Violation]:
    """A message to each channel reaches everybody who wants it, once, and nobody else. The world goes on for it."""
    relay = world.relay
    assert relay is not None, "the world is not at rest"
    came = [host.name for host in world.clients.values() if host.machine.state == "connected"]
    began = world.now
    before = {name: len(client.told) for name, client in world.clients.items()}
    channels = world.plan.channels
    for channel in channels:
        relay.ask(PublishAs(channel, msgspec.Raw(b'{"probe":true}')))
    world.run(world.now + PROBE)
    found: list[Violation] = []
    for client in world.clients.values():
        if (
            client.is_dead
            or client.closed
            or client.machine.state != "connected"
            or client.lost_at > began
            or client.name not in came
        ):
            continue
        heard = [
            event.channel
            for event in client.told[before[client.name] :]
            if isinstance(event, Message) and event.data == {"probe": True}
        ]
        for channel in channels:
            count, wanted = heard.count(channel), _wants(client, channel)
            if count != wanted:
                what = f"a message to {channel} came {count} times, and ought to {wanted} times"
                found.append(Violation("subscriptions are there", client.name, what))
    return found


def _wants(client: ClientHost, channel: str) -> int:
    return int(any(wish == channel or (is_pattern(wish) and Pattern(wish).matches(channel)) for wish in client.wishes))


def outboxes_lose_nothing(world: World) -> list[Violation]:
    """What was acknowledged has reached a relay, and what reached none is still held, or its end was told."""
    promise = "the outbox loses nothing"
    taken = {(sent.sender, sent.number): None for _, _, sent in taken_by_relays(world.steps)}
    found: list[Violation] = []
    for client in world.clients.values():
        outbox, spec = client.outbox, client.spec
        if outbox is None or spec.outbox is None:
            continue
        open_ops = 0
        for op, number in client.enqueued.items():
            answer = client.answers.get(op)
            if answer is None:
                open_ops += 1
            elif isinstance(answer.value, Delivered) and (client.name, number) not in taken:
                found.append(Violation(promise, client.name, f"{number} is said to be delivered, and no relay has it"))
        if open_ops != len(outbox):
            found.append(Violation(promise, client.name, f"{open_ops} are not answered, and {len(outbox)} are held"))
        if open_ops and client.machine.state == "connected":
            found.append(Violation(promise, client.name, f"{open_ops} did not leave in all that time"))
        if len(outbox) > spec.outbox.max_messages or outbox.held_bytes > spec.outbox.max_bytes:
            found.append(Violation(promise, client.name, f"it holds {len(outbox)} of {outbox.held_bytes} bytes"))
    return found


def answers_fit_the_questions(world: World) -> list[Violation]:
    """Whoever asks a peer gets the answer to what was asked, and not to something else."""
    found: list[Violation] = []
    for step in world.steps:
        if isinstance(step.fact, Asked) and isinstance(step.fact.call, Request):
            answer = world.clients[step.host].answers.get(step.fact.op)
            right = {"echo": msgspec.json.decode(step.fact.call.data)}
            if answer is not None and answer.error is None and answer.value != right:
                what = f"{step.fact.op} got {answer.value!r}"
                found.append(Violation("an answer fits its question", step.host, what))
    return found


def memory_is_bounded(world: World) -> list[Violation]:
    """No machine holds more than its formula allows (`metered_proto.sim.checks.memory`)."""
    found: list[Violation] = []
    sizes = [
        *((one.name, held(one.machine), bound_of_client(one.machine, one.outbox)) for one in world.clients.values()),
        *((one.name, held(one.machine), bound_of_room(one.machine)) for one in world.peers.values()),
    ]
    if world.relay is not None:
        sizes.append((world.relay.name, held(world.relay.machine), bound_of_relay(world.relay.machine)))
    for name, size, bound in sizes:
        if size > bound:
            found.append(Violation("memory is bounded", name, f"it holds {size} things, and {bound} are allowed"))
    return found


def machines_make_sense(world: World) -> list[Violation]:
    """Orders for an engine fit what is there, and what is told of members and their tracks fits together."""
    return [
        Violation("orders and events make sense", host.name, mistake)
        for host in world.hosts.values()
        for mistake in host.mistakes
    ]


def closing_leaves_nothing(world: World) -> list[Violation]:
    """Who has closed holds no link, no connection, no work, wants to be woken no more; and the relay has forgotten."""
    found: list[Violation] = []

    def leaves(host: str, count: int, what: str) -> None:
        if count:
            found.append(Violation("closing leaves nothing", host, f"{count} {what}"))

    for host in world.hosts.values():
        if host.is_dead:
            continue
        leaves(host.name, int(host.machine.deadline is not None), f"deadline: {host.machine.deadline}")
        leaves(host.name, len(host.links), "links")
        leaves(host.name, host.busy_effects, "pieces of work")
        leaves(host.name, max(0, held(host.machine) - CLOSED), "things too many")
    for client in world.clients.values():
        leaves(client.name, 0 if client.outbox is None else len(client.outbox), "messages in the outbox")
    for peer in world.peers.values():
        if not peer.is_dead:
            leaves(peer.name, len(peer.connections), "connections")
            leaves(peer.name, len(peer.tracks), "received tracks")
    if world.relay is not None:
        stats = world.relay.machine.stats()
        leaves(world.relay.name, stats.connections, "connections")
        leaves(world.relay.name, stats.peers, "peers")
        leaves(world.relay.name, stats.channels, "channels")
        leaves(world.relay.name, stats.blocked, "blocked links")
        leaves(world.relay.name, len(world.relay.sockets), "sockets")
        leaves(world.relay.name, max(0, held(world.relay.machine) - CLOSED), "things too many")
        leaves(world.relay.name, int(world.relay.machine.deadline is not None), f"{world.relay.machine.deadline}")
    return found
