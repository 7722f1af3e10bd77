"""Who is in the room, by the word of the server."""

from __future__ import annotations

from typing import Any

import pytest

from metered_proto.events import IceServer
from metered_proto.orders import CloseLink
from metered_proto.room.words import MemberJoined, MemberLeft, MemberUpdated
from metered_proto.rtc.words import SetTracks, Shut
from metered_proto.wire.caps import PEERS_PER_CHANNEL


def test_somebody_comes_and_goes(joined: Any) -> None:
    joined.presence("bob", bob={"name": "Bob"})
    assert joined.told == [MemberJoined("bob", {"name": "Bob"})]
    assert joined.room.metadata("bob") == {"name": "Bob"}
    machine = joined.peer("bob")
    joined.forget()
    joined.presence(left=("bob",))
    assert joined.told[-1] == MemberLeft("bob")
    assert machine.calls == [Shut()]
    assert joined.room.metadata("bob") is None


def test_one_presence_may_say_several_things(joined: Any) -> None:
    joined.presence("bob", "zoe")
    joined.forget()
    joined.presence("amy", "bob", left=("zoe", "bob"))
    assert [event for event in joined.told if isinstance(event, MemberLeft | MemberJoined)] == [
        MemberLeft("zoe"),
        MemberLeft("bob"),
        MemberJoined("amy", None),
        MemberJoined("bob", None),
    ]


def test_metadata_that_changes_is_told(joined: Any) -> None:
    joined.presence("bob", bob={"n": 1})
    joined.forget()
    joined.presence("bob", bob={"n": 1})
    assert joined.told == []
    joined.presence("bob", bob={"n": 2})
    assert joined.told == [MemberUpdated("bob", {"n": 2})]
    assert joined.room.metadata("bob") == {"n": 2}


def test_we_are_no_member(joined: Any) -> None:
    """Under the same id there may be a second socket, which comes and goes."""
    joined.presence("me")
    joined.presence(left=("me",))
    assert joined.told == []
    assert joined.room.members == ()


def test_other_channels_do_not_concern_us(joined: Any) -> None:
    joined.presence("bob", channel="elsewhere")
    assert joined.told == []


def test_the_departure_of_a_stranger_is_nothing(joined: Any) -> None:
    joined.presence(left=("who",))
    assert joined.told == []


def test_what_only_names_departures_is_no_snapshot(talk: Any) -> None:
    talk.joins("bob")
    talk.link_goes_down()
    talk.until_woken()
    talk.gets_in()
    talk.presence(left=("amy",))
    assert talk.state == "reconnecting"
    talk.presence("bob")
    assert talk.state == "joined"
    assert talk.room.members == ("bob",)


def test_a_newcomer_gets_what_is_known(talk: Any, make_track: Any) -> None:
    talk.adds(1)
    servers = [{"urls": ["turn:turn.example:3478"], "username": "u", "credential": "c"}]
    talk.joins("bob", metadata={"iceServers": servers}, maxMessageSize=1000)
    bob = talk.peer("bob")
    assert bob.servers == (IceServer(("turn:turn.example:3478",), "u", "c"),)
    assert bob.max_message_size == 1000
    assert bob.calls == [SetTracks((make_track(1),))]


def test_there_is_an_end_to_how_many(joined: Any) -> None:
    joined.presence(*[f"p{number}" for number in range(PEERS_PER_CHANNEL + 10)])
    assert len(joined.room.members) == PEERS_PER_CHANNEL
    assert joined.room.counters.members_refused == 10
    assert [note.message for note in joined.notes if note.level == "warning"] == [
        "more peers in the channel than a room takes"
    ]
    joined.presence(left=("p0",))
    joined.presence("late")
    assert joined.room.members[-1] == "late"


def test_a_flood_is_noted_a_few_times_only(joined: Any) -> None:
    joined.presence(*[f"p{number}" for number in range(PEERS_PER_CHANNEL)])
    joined.forget()
    for number in range(500):
        joined.presence(f"x{number}")
    assert len(joined.notes) < 12
    assert joined.room.counters.members_refused == 500


@pytest.mark.parametrize("peer_id", ["", "x" * 129, "b\u00f6b", "line\nbreak"])
def test_an_id_that_nobody_can_be_reached_by_is_passed_over(peer_id: str, joined: Any) -> None:
    joined.presence(peer_id, "bob")
    assert joined.room.members == ("bob",)


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"presence"}',
        '{"type":"presence","channel":7}',
        '{"type":"presence","channel":"room","joined":"bob"}',
        '{"type":"presence","channel":"room","joined":[7,null,{}]}',
        '{"type":"presence","channel":"room","joined":[{"peerId":null}]}',
        '{"type":"presence","channel":"room","left":{"peerId":"bob"}}',
        '{"type":"presence","channel":"room","joined":' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_presence_of_any_shape_harms_nobody(frame: str, talk: Any) -> None:
    talk.joins("bob")
    talk.forget()
    talk.server(frame)
    assert talk.told == []
    assert talk.room.members == ("bob",)
    assert not [order for order in talk.orders if isinstance(order, CloseLink)]


def test_metadata_of_a_wrong_shape_reads_as_none(joined: Any) -> None:
    joined.server('{"type":"presence","channel":"room","joined":[{"peerId":"bob","metadata":[1]}]}')
    assert joined.told == [MemberJoined("bob", None)]


def test_the_same_peer_many_times_in_one_presence(joined: Any) -> None:
    joined.server(
        {"type": "presence", "channel": "room", "joined": [{"peerId": "bob"}, {"peerId": "bob", "metadata": {"n": 2}}]}
    )
    assert joined.told == [MemberJoined("bob", {"n": 2})]
