"""Everybody else in the room: who they are, a peer machine for each, and what they are sent.

What a presence says is worked out by the roster, and carried out here: departures first, then those who stayed, then
newcomers. A peer that is missing is kept for a while if its connection is up (`grace.py`); the way to it over the
relay is down until it is back.

Every method appends the orders that it leads to. Signals for the relay wait until they are taken.
"""

from __future__ import annotations

import msgspec

from metered_proto.entropy import Entropy
from metered_proto.errors import MeteredPeerStateError
from metered_proto.events import IceServer, Presence
from metered_proto.facts import Asked, Fact, LinkDown
from metered_proto.machine import Deadline, Micros, soonest
from metered_proto.orders import Answer, Note, Order, Tell
from metered_proto.room.grace import Graces
from metered_proto.room.local_tracks import LocalTracks, Swap
from metered_proto.room.members import MakePeer, Member, Members
from metered_proto.room.outgoing import Outgoing
from metered_proto.room.replacing import Replacements, Replacing
from metered_proto.room.roster import Changes, Roster
from metered_proto.room.settings import RoomSettings
from metered_proto.room.words import AtPeer, MemberJoined, MemberLeft, MemberUpdated, RoomState
from metered_proto.rtc.words import (
    ChannelOptions,
    CreateChannel,
    LocalTrack,
    MeasureTraffic,
    Numbers,
    Reconcile,
    RtcCall,
    SetIce,
    SetTracks,
    Shut,
    SignalPeer,
    SwapTrack,
)
from metered_proto.wire.messages import DEFAULT_MAX_MESSAGE_SIZE
from metered_proto.wire.signals import is_polite


class Counters(msgspec.Struct):
    """What happened so far, for people who watch."""

    signals_in: int = 0
    signals_out: int = 0
    signals_malformed: int = 0
    signals_refused: int = 0
    """Ours that the server did not acknowledge."""
    strangers: int = 0
    """Messages of senders that are no members, dropped."""
    members_refused: int = 0
    """Peers for which there was no room (`caps.PEERS_PER_CHANNEL`)."""


class Company:
    """The members, our tracks, and the signals that wait. `ops` numbers what is asked of machines."""

    def __init__(
        self, settings: RoomSettings, entropy: Entropy, make_peer: MakePeer, ops: Numbers, counters: Counters
    ) -> None:
        self._options = settings.peer_options
        self._entropy = entropy
        self._make_peer = make_peer
        self._ops = ops
        self._counters = counters
        self._numbers = Numbers()
        self._servers: tuple[IceServer, ...] = ()
        self._max_message_size = DEFAULT_MAX_MESSAGE_SIZE
        self._graces = Graces(settings.grace, settings.silence)
        self._measures: dict[int, int] = {}  # the ops, by the numbers of members that are being measured
        self._replacements = Replacements()
        self.roster = Roster()
        self.members = Members()
        self.tracks = LocalTracks()
        self.outgoing = Outgoing(settings.signal_rate, settings.signal_burst)

    @property
    def deadline(self) -> Deadline | None:
        """The soonest of everything."""
        return soonest(
            (self.members.deadline, _at(self._graces.next, "grace"), _at(self.outgoing.next, "signals")),
        )

    def wake(self, now: Micros, orders: list[Order]) -> None:
        """See to whoever is due."""
        for member in self.members.due(now):
            self._take(now, member, self.members.wake(now, member), orders)
        over, look = self._graces.due(now)
        for number in over:
            self._depart(now, self.members.numbered(number), orders)
        for number in look:
            self._measure(now, self.members.numbered(number), orders)

    # --- what the server says ---

    def welcomed(
        self, now: Micros, own_id: str, servers: tuple[IceServer, ...], max_message_size: int, orders: list[Order]
    ) -> None:
        """There is a connection to the relay, another one perhaps, and these are its terms."""
        self.roster.is_now(own_id)
        self._servers = servers
        self._max_message_size = max_message_size
        for member in self.members:
            self._ask(now, member, SetIce(servers), orders)

    def relay_lost(self, now: Micros, code: int, orders: list[Order]) -> None:
        """There is none. Whoever is away may be as present as anybody, until the next snapshot."""
        self.outgoing.clear()
        self.roster.recall()
        self._graces.clear()
        self._measures.clear()
        for member in self.members:
            self._way_is_down(now, member, code, orders)

    def snapshot(self, now: Micros, presence: Presence, orders: list[Order]) -> None:
        """The first snapshot after a join: who is known already came in between."""
        self._carry_out(now, self.roster.snapshot(presence, self._is_connected), orders)

    def reconcile(self, now: Micros, presence: Presence, orders: list[Order], *, replace: bool) -> None:
        """A snapshot after a reconnect. `replace`: those who stayed know us under another id.

        Then there is nobody to be kept either: to whoever comes back later we will be a stranger.
        """
        changes = self.roster.snapshot(presence, (lambda peer_id: False) if replace else self._is_connected)
        self._carry_out(now, changes, orders, survivors=changes.stayed, replace=replace)

    def delta(self, now: Micros, presence: Presence, orders: list[Order]) -> None:
        """Somebody came, or left."""
        self._carry_out(now, self.roster.delta(presence, self._is_connected), orders)

    def _is_connected(self, peer_id: str) -> bool:
        return self._member(peer_id).machine.connected

    def _carry_out(
        self,
        now: Micros,
        changes: Changes,
        orders: list[Order],
        *,
        survivors: tuple[str, ...] = (),
        replace: bool = False,
    ) -> None:
        for peer_id in changes.left:
            self._remove(now, self._member(peer_id), orders)
        for peer_id in changes.away:
            member = self._member(peer_id)
            self.outgoing.forget(peer_id)
            self._graces.begin(now, member.number)
            self._way_is_down(now, member, 1006, orders)
            self._measure(now, member, orders)
        orders += [Tell(MemberUpdated(peer_id, self.roster.metadata(peer_id))) for peer_id in changes.updated]
        for peer_id in survivors + changes.returned:
            member = self._member(peer_id)
            self._grace_ends(member)
            member.polite, member.link_up = self._gives_way_to(peer_id), True
            self._ask(now, member, Reconcile(member.polite, replace), orders)
        for peer_id in changes.joined:
            self._add(now, peer_id, orders)
        if changes.refused:
            before = self._counters.members_refused
            self._counters.members_refused = count = before + changes.refused
            if before.bit_length() < count.bit_length():  # as with a milestone, where several come at once
                orders.append(Note("warning", "more peers in the channel than a room takes", {"count": count}))

    # --- coming and going ---

    def _member(self, peer_id: str) -> Member:
        member = self.members.get(peer_id)
        assert member is not None, "the roster and the members are the same"
        return member

    def _gives_way_to(self, peer_id: str) -> bool:
        assert self.roster.own_id is not None
        return is_polite(self.roster.own_id, peer_id)

    def _add(self, now: Micros, peer_id: str, orders: list[Order]) -> None:
        number, polite = self.members.next_number(), self._gives_way_to(peer_id)
        machine = self._make_peer(
            self._options,
            self._numbers,
            self._entropy.fork(f"peer/{number}"),
            polite=polite,
            servers=self._servers,
            max_message_size=self._max_message_size,
        )
        member = Member(number, peer_id, machine, polite)
        self.members.add(member)
        orders.append(Tell(MemberJoined(peer_id, self.roster.metadata(peer_id))))
        if self.tracks:
            self._ask(now, member, SetTracks(self.tracks.all), orders)

    def _depart(self, now: Micros, member: Member, orders: list[Order]) -> None:
        """A member that was away is kept no longer."""
        self.roster.remove(member.peer_id)
        self._remove(now, member, orders)

    def _remove(self, now: Micros, member: Member, orders: list[Order]) -> None:
        """A member is gone from the roster: close what is left of it, and say so."""
        self._grace_ends(member)
        self._ask(now, member, Shut(), orders)
        self.members.remove(member)
        self.outgoing.forget(member.peer_id)
        self._replaced(now, self._replacements.gone(member.peer_id), orders)
        orders.append(Tell(MemberLeft(member.peer_id)))

    def disperse(self, now: Micros, orders: list[Order]) -> None:
        """Nobody is there any more, and nobody waits for anything."""
        for op in self._replacements.abandon():
            error = MeteredPeerStateError("invalid_state", "replace_track", "closed")
            orders.append(Answer(op, error=error))
        for member in self.members:
            self._remove(now, member, orders)
        self.roster.clear()
        self.outgoing.clear()

    # --- who is away ---

    def _way_is_down(self, now: Micros, member: Member, code: int, orders: list[Order]) -> None:
        if member.link_up:
            member.link_up = False
            self.tell(now, member, LinkDown(0, code), orders)

    def _measure(self, now: Micros, member: Member, orders: list[Order]) -> None:
        """Ask how much has arrived from a member that is away, unless the last answer is still to come."""
        if member.number in self._graces and member.number not in self._measures:
            op = self._measures[member.number] = self._ops.next()
            self._ask(now, member, MeasureTraffic(), orders, op)

    def _grace_ends(self, member: Member) -> None:
        self._graces.end(member.number)
        self._measures.pop(member.number, None)

    # --- our tracks, and data channels ---

    def add_track(self, now: Micros, op: int, track: LocalTrack, state: RoomState, orders: list[Order]) -> None:
        """Send a track to everybody, now and later."""
        known = track.key in self.tracks
        error = self.tracks.add(track, state, self._max_message_size)
        if error is None and not known:
            self._tracks_changed(now, orders)
        orders.append(Answer(op, error=error))

    def remove_track(self, now: Micros, op: int, key: int, orders: list[Order]) -> None:
        """Send a track no longer."""
        if self.tracks.remove(key):
            self._tracks_changed(now, orders)
        orders.append(Answer(op))

    def replace_track(
        self, now: Micros, op: int, old: int, new: LocalTrack | None, state: RoomState, orders: list[Order]
    ) -> None:
        """Send `new` in the place of `old`. From now on it is `new` that newcomers get."""
        if old not in self.tracks or (new is not None and new.key == old):
            orders.append(Answer(op))
            return
        swap = self.tracks.swap(old, new, state, self._max_message_size)
        if not isinstance(swap, Swap):
            orders.append(Answer(op, error=swap))
            return
        asked = {self._ops.next(): member for member in self.members}
        waiting = {number: member.peer_id for number, member in asked.items()}
        self._replaced(now, self._replacements.begin(op, swap, waiting), orders)
        for number, member in asked.items():
            self._ask(now, member, SwapTrack(old, swap.new), orders, number)

    def withdrawn(self, op: int) -> bool:
        """Nobody waits for the replacing of a track any more; returns whether it was one."""
        return self._replacements.withdrawn(op)

    def _tracks_changed(self, now: Micros, orders: list[Order]) -> None:
        for member in self.members:
            self._ask(now, member, SetTracks(self.tracks.all), orders)

    def _replaced(self, now: Micros, finished: list[Replacing], orders: list[Order]) -> None:
        for replacing in finished:
            if replacing.failed_everywhere:
                self.tracks.undo(replacing.swap)
                self._tracks_changed(now, orders)
            if replacing.op is not None:
                orders.append(Answer(replacing.op, error=replacing.error))

    def open_channel(self, now: Micros, op: int, peer_id: str, options: ChannelOptions, orders: list[Order]) -> None:
        """Open a data channel to a member, which answers with its number."""
        member = self.members.get(peer_id)
        if member is None:
            error = MeteredPeerStateError("invalid_state", "create_data_channel", "closed")
            orders.append(Answer(op, error=error))
        else:
            self._ask(now, member, CreateChannel(options), orders, op)

    # --- the machines ---

    def tell(self, now: Micros, member: Member, fact: Fact, orders: list[Order]) -> None:
        """Hand a fact to the machine of a member and take up what it says."""
        self._take(now, member, self.members.tell(now, member, fact), orders)

    def _ask(self, now: Micros, member: Member, call: RtcCall, orders: list[Order], op: int | None = None) -> None:
        self.tell(now, member, Asked(self._ops.next() if op is None else op, call), orders)

    def _take(self, now: Micros, member: Member, said: list[Order], orders: list[Order]) -> None:
        for order in said:
            match order:
                case SignalPeer(signal):
                    self.outgoing.put(member.peer_id, signal)
                case Tell(event):
                    orders.append(Tell(AtPeer(member.peer_id, event)))
                case Answer(op) if op < 0:
                    self._answered(now, member, order, orders)
                case Note(level, message, context):
                    orders.append(Note(level, message, {**context, "peer": member.peer_id}))
                case _:
                    orders.append(order)
        if member.number in self._graces and not member.machine.connected:
            self._depart(now, member, orders)

    def _answered(self, now: Micros, member: Member, answer: Answer, orders: list[Order]) -> None:
        """A machine answered what it was asked here."""
        if self._measures.get(member.number) != answer.op:
            self._replaced(now, self._replacements.answered(answer.op, answer.error), orders)
            return
        del self._measures[member.number]
        if answer.value is not None:
            self._graces.measured(now, member.number, answer.value)


def _at(at: Micros | None, why: str) -> Deadline | None:
    return None if at is None else Deadline(at, why)
