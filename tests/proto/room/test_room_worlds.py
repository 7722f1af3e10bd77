"""Whole rooms, with the real machines of the relay and of the peers."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world_kit import World

from metered_proto.events import ConnectionReset, Data, Joined, NegotiationError
from metered_proto.room.words import Join, MemberLeft, OpenDataChannel, ReplaceTrack, SendOne
from metered_proto.rtc.absent import AbsentPeers
from metered_proto.rtc.words import ChannelOptions, ChannelSeen, LocalTrack

OFFER = """v=0\r
m=audio 9 UDP/TLS/RTP/SAVPF 96\r
a=mid:0\r
a=ice-ufrag:eve\r
a=sendrecv\r
a=msid:s t\r
"""


def two(world: World, *, keys: bool = False) -> tuple[Any, Any]:
    """Two in a room, both sending."""
    ann, bob = world.place("ann", None if keys else "ann"), world.place("bob", None if keys else "bob")
    for place in (ann, bob):
        place.joins()
        place.sends(1)
    world.run(2)
    world.agree()
    return ann, bob


def connections(*places: Any) -> list[list[int]]:
    return [sorted(place.engines) for place in places]


class TestACall:
    def test_two_meet(self) -> None:
        world = World()
        ann, bob = two(world)
        assert ann.is_connected_to(bob)
        assert bob.is_connected_to(ann)
        assert [len(place.engines) for place in (ann, bob)] == [1, 1]
        assert not ann.heard(NegotiationError) + bob.heard(NegotiationError)

    @pytest.mark.parametrize("sender", ["ann", "bob"])
    def test_one_only_watches(self, sender: str) -> None:
        world = World()
        ann, bob = world.place("ann", "ann"), world.place("bob", "bob")
        (ann if sender == "ann" else bob).sends(1)
        ann.joins()
        bob.joins()
        world.run(0.3)
        world.agree()
        assert ann.is_connected_to(bob)

    def test_who_has_nothing_to_send_stays_idle(self) -> None:
        world = World()
        ann, bob = world.place("ann", "ann"), world.place("bob", "bob")
        ann.joins()
        bob.joins()
        world.run(5)
        assert (ann.room.member_state("bob"), ann.engines) == ("idle", {})

    def test_tracks_come_and_go_in_mid_call(self) -> None:
        world = World()
        ann, bob = two(world)
        ann.sends(2, "audio")
        bob.sends(3)
        world.run(1)
        world.agree()
        ann.removes(1)
        world.run(1)
        world.agree()
        assert connections(ann, bob) == connections(ann, bob)

    def test_a_data_channel(self) -> None:
        world = World()
        ann, bob = world.place("ann", "ann"), world.place("bob", "bob")
        ann.joins()
        bob.joins()
        ann.asks(OpenDataChannel("bob", ChannelOptions("chat")))
        world.run(1)
        assert bob.heard(ChannelSeen)

    def test_leaving_is_seen_at_once(self) -> None:
        world = World()
        ann, bob = two(world)
        ann.leaves()
        assert bob.told[-1] == MemberLeft("ann")
        assert connections(ann, bob) == [[], []]

    def test_messages(self) -> None:
        world = World()
        ann, bob = two(world)
        ann.says({"text": "hi"})
        assert bob.heard(Data) == [Data("ann", {"text": "hi"}, "broadcast")]
        assert not ann.heard(Data)


class TestALostRelay:
    @pytest.mark.parametrize("how", ["kill", "stop"])
    @pytest.mark.parametrize("seconds", [0.1, 5, 60])
    def test_a_restart_under_a_call_leaves_it_alone(self, how: str, seconds: float) -> None:
        world = World()
        ann, bob = two(world)
        before = connections(ann, bob)
        machines = ann.room.peer("bob"), bob.room.peer("ann")
        getattr(world, how)()
        world.run(seconds)
        assert ann.is_connected_to(bob)
        world.start()
        world.run(5)
        world.agree()
        assert (ann.room.state, bob.room.state) == ("joined", "joined")
        assert connections(ann, bob) == before
        assert (ann.room.peer("bob"), bob.room.peer("ann")) == machines
        assert not ann.heard(MemberLeft) + bob.heard(MemberLeft)
        world.run(30)
        assert not ann.heard(MemberLeft) + bob.heard(MemberLeft)

    @pytest.mark.parametrize("seconds", [0.5, 8])
    @pytest.mark.parametrize("whose", [0, 1])
    def test_one_socket_is_cut(self, seconds: float, whose: int) -> None:
        world = World()
        places = two(world)
        before = connections(*places)
        places[whose].is_cut = True
        world.cut(places[whose])
        world.run(seconds)
        places[whose].is_cut = False
        world.run(5)
        world.agree()
        assert connections(*places) == before
        assert not [place.heard(MemberLeft) for place in places if place.heard(MemberLeft)]
        world.run(30)
        assert connections(*places) == before

    def test_away_for_too_long(self) -> None:
        world = World()
        ann, bob = two(world)
        ann.is_cut = True
        world.cut(ann)
        world.run(9.5)
        assert not bob.heard(MemberLeft)
        world.run(1)
        assert bob.heard(MemberLeft) == [MemberLeft("ann")]
        ann.is_cut = False
        world.run(5)
        world.agree()
        assert ann.is_connected_to(bob)
        assert not ann.heard(MemberLeft), "for ann, bob was there all the time"

    def test_with_keys_ids_change_and_calls_are_made_anew(self) -> None:
        world = World()
        ann, bob = two(world, keys=True)
        before, ids = connections(ann, bob), {ann.peer_id, bob.peer_id}
        world.kill()
        world.run(2)
        world.start()
        world.run(2)
        assert not ids & {ann.peer_id, bob.peer_id}
        world.agree()
        assert ann.is_connected_to(bob)
        assert not set(before[0]) & set(ann.engines)

    @pytest.mark.parametrize("whose", [0, 1])
    def test_with_keys_one_socket_is_cut(self, whose: int) -> None:
        world = World()
        places = two(world, keys=True)
        other = places[1 - whose]
        member = places[whose].room.peer(other.peer_id)
        world.cut(places[whose])
        world.run(2)
        world.agree()
        assert places[whose].is_connected_to(other)
        assert places[whose].room.peer(other.peer_id) is member, "who has not lost it keeps its member"
        assert not places[whose].heard(MemberLeft)
        assert places[whose].heard(ConnectionReset)
        assert len(other.heard(MemberLeft)) == 1

    def test_a_survivor_with_nothing_to_send_stays_idle(self) -> None:
        world = World()
        ann, bob = world.place("ann", "ann"), world.place("bob", "bob")
        ann.joins()
        bob.joins()
        ann.told.clear()
        world.cut(ann)
        world.run(5)
        world.agree()
        assert world.state_changes(ann, bob) == []
        assert not ann.engines

    def test_what_was_added_meanwhile_arrives(self) -> None:
        world = World()
        ann, bob = two(world)
        world.kill()
        ann.sends(2, "audio")
        world.run(3)
        world.start()
        world.run(3)
        world.agree()
        assert len(bob.seen["ann"]) == 2

    def test_the_connection_breaks_while_the_relay_is_away(self) -> None:
        world = World()
        ann, bob = two(world)
        world.kill()
        for place in (ann, bob):
            [connection] = place.connections
            connection.remote_ufrag = "nobody"
        world.run(2)
        assert not ann.is_connected_to(bob)
        assert not ann.heard(MemberLeft)
        world.start()
        world.run(3)
        world.agree()
        assert ann.is_connected_to(bob)

    def test_a_process_that_dies_is_gone_after_three_seconds(self) -> None:
        world = World()
        _, bob = two(world)
        world.dies(world.places[0])
        world.run(2.5)
        assert not bob.heard(MemberLeft)
        world.run(1.1)
        assert bob.heard(MemberLeft) == [MemberLeft("ann")]
        assert not bob.engines

    def test_a_process_that_dies_and_is_started_again_at_once(self) -> None:
        world = World()
        ann, bob = two(world)
        world.dies(ann)
        world.places.remove(ann)
        again = world.place("ann2", "ann")
        again.sends(1)
        again.joins()
        world.run(4)
        world.agree()
        assert again.is_connected_to(bob)
        assert len(bob.engines) == 1


def test_a_join_that_fails_can_be_tried_again() -> None:
    world = World()
    world.relay = None
    ann = world.place("ann", "ann")
    op = ann.asks(Join("room"))
    assert ann.answers[op].error is not None
    world.start()
    ann.joins()
    assert ann.heard(Joined) == [Joined("ann", "room")]


class Season:
    """Rooms over a time in which everything happens that can: a random walk of whole places."""

    def __init__(self, seed: int, *, keys: bool) -> None:
        self.world = World()
        self.random = Random(seed)
        self.keys = keys
        self.here: dict[str, Any] = {}
        self.serial = 0

    def turn(self) -> None:
        act = self.random.choice("jjjjlcccktttrrsx")
        if act == "j":
            self.somebody_joins()
        elif self.here:
            self.something_happens(act, self.random.choice(list(self.here)))
        self.world.run(self.random.choice([0, 0.02, 0.05, 0.12, 0.16, 0.3, 1, 2, 5, 12]))
        if self.world.relay is None and self.random.random() < 0.6:
            self.world.start()

    def somebody_joins(self) -> None:
        free = [name for name in ("ann", "bob", "cat", "dan", "eve") if name not in self.here]
        if free and self.world.relay is not None:
            name = self.random.choice(free)
            self.serial += 1
            place = self.here[name] = self.world.place(f"{name}{self.serial}", None if self.keys else name)
            if self.random.random() < 0.6:
                place.sends(1, self.random.choice(["audio", "video"]))
            place.joins()

    def something_happens(self, act: str, name: str) -> None:
        world, place = self.world, self.here[name]
        match act:
            case "l":
                self.here.pop(name).leaves()
            case "c" if world.reaches(place):
                world.cut(place)
            case "k" if world.relay is not None:
                world.kill()
            case "s" if world.relay is not None:
                world.stop()
            case "t":
                number = self.random.randint(2, 5)
                place.sends(number, self.random.choice(["audio", "video"]), metadata={"n": number})
            case "r" if place.room.tracks:
                track = self.random.choice(place.room.tracks)
                self.serial += 1
                if self.random.random() < 0.5:
                    place.removes(track.key)
                else:
                    new = LocalTrack(100 + self.serial, track.kind, f"{place.name}-other-{self.serial}")
                    place.asks(ReplaceTrack(track.key, new))
            case _:
                pass


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_season_brings(seed: int, keys: bool) -> None:
    season = Season(seed, keys=keys)
    for _ in range(30):
        season.turn()
    world, here = season.world, list(season.here.values())
    if world.relay is None:
        world.start()
    world.run(60)
    world.agree()
    assert {place.room.state for place in here} <= {"joined"}
    for place in here:
        assert len(place.room.members) == len(here) - 1
        assert not place.heard(NegotiationError)
        for other in here:
            if place is not other and (place.room.tracks or other.room.tracks):
                assert place.is_connected_to(other)
    for place in here:
        place.leaves()
    world.run(1)
    assert not [place for place in world.places if place.engines], "a connection is left over"


def description(kind: str, sdp: str) -> dict[str, Any]:
    return {"type": "rtc-description", "description": {"type": kind, "sdp": sdp}}


SDPS = st.sampled_from(["", "v=0", OFFER, OFFER.replace("ufrag:eve", "ufrag:other")])
DIRECTS = st.one_of(
    st.builds(description, st.sampled_from(["offer", "answer"]), SDPS),
    st.builds(lambda text: {"type": "rtc-ice", "candidate": {"candidate": text, "sdpMid": "0"}}, st.text()),
    st.just({"type": "rtc-ice", "candidate": None}),
    st.builds(lambda name: {"__meteredTrackMeta": {"trackId": name, "metadata": {"n": 1}}}, st.text()),
)


@given(st.lists(DIRECTS, max_size=30))
def test_whatever_a_member_sends(directs: list[Any]) -> None:
    """Nothing of it raises, or grows, or disturbs the call with somebody else."""
    world = World()
    ann, bob = two(world)
    evil = world.place("eve", "eve", make_peer=AbsentPeers())
    evil.joins()
    world.run(1)
    for data in directs:
        evil.asks(SendOne("ann", msgspec.Raw(msgspec.json.encode(data))))
        world.run(0.1)
    world.run(40)
    assert ann.is_connected_to(bob)
    assert len(ann.engines) <= 2
    assert len(ann.room._company.outgoing) == 0
    ann.leaves()
    assert not ann.engines
