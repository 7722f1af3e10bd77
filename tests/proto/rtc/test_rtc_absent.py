"""The stand-in where nothing can make peer connections: it answers everything, and connects to nobody."""

from __future__ import annotations

from metered_proto.entropy import Entropy
from metered_proto.errors import WebRtcMissingError
from metered_proto.events import StateChange
from metered_proto.facts import Asked, LinkUp, Woken
from metered_proto.orders import Answer, Note, Tell
from metered_proto.rtc.absent import HOW_TO_INSTALL, AbsentPeer, AbsentPeers
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.words import (
    ChannelOptions,
    CreateChannel,
    LocalTrack,
    MeasureTraffic,
    Numbers,
    Reconcile,
    SetIce,
    SetTracks,
    Shut,
    SignalCame,
    SwapTrack,
)
from metered_proto.wire.signals import RtcDescription, RtcIce

OFFER = SignalCame(RtcDescription("offer", "v=0"))


def make(peers: AbsentPeers) -> AbsentPeer:
    return peers(RtcOptions(), Numbers(), Entropy(b"seed"), polite=True, servers=(), max_message_size=65_536)


def test_it_wants_nothing_and_has_nothing() -> None:
    peer = make(AbsentPeers())
    assert (peer.state, peer.pc, peer.connected, peer.deadline) == ("idle", None, False, None)
    assert peer.handle(0, Woken()) == peer.handle(0, LinkUp(0)) == peer.handle(0, SignalCame(RtcIce(None))) == []


def test_every_call_is_answered() -> None:
    peer = make(AbsentPeers())
    calls = (SetTracks((LocalTrack(1, "video", "t"),)), SwapTrack(1, None), SetIce(()), Reconcile(True, True))
    for op, call in enumerate((*calls, MeasureTraffic())):
        assert peer.handle(0, Asked(op, call)) == [Answer(op)]


def test_a_data_channel_is_refused() -> None:
    peer = make(AbsentPeers())
    refused = peer.handle(0, Asked(1, CreateChannel(ChannelOptions("chat"))))
    assert refused == [Answer(1, error=WebRtcMissingError(HOW_TO_INSTALL))]


def test_the_first_offer_in_a_room_is_noted() -> None:
    peers = AbsentPeers()
    first, second = make(peers), make(peers)
    (note,) = first.handle(0, OFFER)
    assert isinstance(note, Note)
    assert (note.level, HOW_TO_INSTALL in note.message) == ("warning", True)
    assert first.handle(0, OFFER) == second.handle(0, OFFER) == []
    assert len(make(AbsentPeers()).handle(0, OFFER)) == 1


def test_it_ends_once() -> None:
    peer = make(AbsentPeers())
    assert peer.handle(0, Asked(1, Shut())) == [Tell(StateChange("idle", "closed")), Answer(1)]
    assert peer.handle(0, Asked(2, Shut())) == [Answer(2)]
    assert peer.state == "closed"
