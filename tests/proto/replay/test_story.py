"""What is made of each fact and order, for people: who said what, and why it happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from runs_kit import KEY
from table_kit import each_row

from metered_proto.client import Close, Connect, FetchToken, Publish
from metered_proto.errors import IceRecoveryExhaustedError, NotConnectedError, RecordingFileError
from metered_proto.events import (
    ConnectionReset,
    Disconnected,
    GoingAway,
    IceCandidateError,
    Message,
    NegotiationError,
    StateChange,
)
from metered_proto.facts import (
    Asked,
    EffectDone,
    Fact,
    Heard,
    LinkAsked,
    LinkBlocked,
    LinkDown,
    LinkDrained,
    Received,
    Withdrawn,
    Woken,
)
from metered_proto.machine import Deadline
from metered_proto.orders import (
    Abandon,
    AcceptLink,
    Answer,
    AnswerAll,
    Begin,
    Broadcast,
    CloseLink,
    Note,
    OpenLink,
    Order,
    PingLink,
    RefuseLink,
    Send,
    Tell,
    TellAll,
)
from metered_proto.relay import RelaySettings
from metered_proto.replay import ClientPlan, Header, Plan, RelayPlan, RoomPlan, Step, explain, page, transcript
from metered_proto.replay.diff import one_line
from metered_proto.room import (
    AddTrack,
    AtPeer,
    Leave,
    MemberJoined,
    MemberLeft,
    OpenDataChannel,
    RemoveTrack,
    RoomSettings,
)
from metered_proto.rtc.words import ChannelOptions, CloseConnection, ConnectionChanged, LocalTrack
from metered_proto.settings import ClientSettings

CLIENT = ClientSettings(api_key=KEY)
ROOM = RoomPlan(RoomSettings(client=CLIENT), "x")


def header(plan: Plan) -> Header:
    return Header(type(plan).__name__, plan, "0", None)


def steps(*told: tuple[Fact, list[Order]], deadline: Any = msgspec.UNSET) -> list[Step]:
    return [
        Step(number, number + 1, number * 1_000_000, fact, tuple(orders), deadline=deadline)
        for number, (fact, orders) in enumerate(told, 1)
    ]


def why(plan: Plan, *told: tuple[Fact, list[Order]], **more: Any) -> list[str]:
    return [f"{cause.what}: {cause.why}" for cause in explain(header(plan), steps(*told, **more))]


def said(fact: Fact, *orders: Order) -> list[str]:
    entries = transcript(steps((fact, list(orders))))
    return [f"{entry.source} → {entry.target}: {entry.text} × {entry.count}" for entry in entries]


@each_row(
    ("fact", "order"),
    [
        (Woken(), Note("warning", "connection lost", 5)),  # type: ignore[arg-type]
        (Woken(), Note("error", "could not connect", [])),  # type: ignore[arg-type]
        (LinkDown(1, [], ""), Heard(1)),  # type: ignore[arg-type]
        (Received(1, 5), Heard(1)),  # type: ignore[arg-type]
    ],
)
def test_fields_of_other_types_are_an_error_of_the_file(fact: Fact, order: Any) -> None:
    odd = steps((Woken(), []), (fact, [order]))
    found = {
        _line_of_the_error(lambda: explain(header(ROOM), odd)),
        _line_of_the_error(lambda: list(transcript(odd))),
    }
    assert 3 in found
    assert found <= {3, None}


def _line_of_the_error(read: Callable[[], object]) -> int | None:
    try:
        read()
    except RecordingFileError as error:
        return error.line
    return None


class TestWhoSaidWhat:
    @each_row(
        ("fact", "text"),
        [
            (Received(1, ["nonsense", b"xx"]), "network → machine: 8 characters that are no frame on link 1 × 1"),
            (LinkDown(1, 1006, "gone"), "network → machine: link 1 is down: 1006 gone × 1"),
            (LinkAsked(1, f"/v1?key={KEY}", "::1"), "network → machine: link 1 asks to come in: /v1 from ::1 × 1"),
            (LinkBlocked(1, 500), "network → machine: link 1 takes no more: 500 bytes wait × 1"),
            (LinkDrained(1), "network → machine: link 1 takes more again × 1"),
            (Heard(1), "network → machine: a sign of life on link 1 × 1"),
            (Withdrawn(7), "application → machine: no longer waits for answer 7 × 1"),
            (EffectDone(1, "token"), "engine → machine: work is done: str × 1"),
            (EffectDone(1, error=OSError("no")), "engine → machine: work failed: OSError: no × 1"),
            (ConnectionChanged(-1, "failed"), "engine → machine: ConnectionChanged(pc=-1, state=failed) × 1"),
            (Asked(1, Publish.of("a", 1)), "application → machine: Publish(channel=a) × 1"),
        ],
    )
    def test_facts(self, fact: Fact, text: str) -> None:
        assert said(fact)[0] == text

    @each_row(
        ("order", "text"),
        [
            (Send(1, b'{"type":"send","to":"x","data":1}'), "machine → network: send to x on link 1 × 1"),
            (Broadcast((1, 2), b'{"type":"message","from":"x"}'), "machine → network: message from x to 2 links × 1"),
            (OpenLink(1, f"wss://h/v1?key={KEY}"), "machine → network: open link 1 to wss://h/v1 × 1"),
            (CloseLink(1, 4000, "why"), "machine → network: close link 1: 4000 why × 1"),
            (AcceptLink(1), "machine → network: let link 1 in × 1"),
            (RefuseLink(1, 404, "Not Found"), "machine → network: refuse link 1: 404 Not Found × 1"),
            (PingLink(1), "machine → network: ping on link 1 × 1"),
            (Answer(1, error=NotConnectedError("idle")), "no: NotConnectedError: not connected (the client is idle)"),
            (Answer(1, 5), "machine → application: done: int × 1"),
            (AnswerAll([1, 2, 3]), "machine → application: done × 3"),
            (TellAll([Message("a", "b", 1)] * 2), "Message(channel=a, sender_peer_id=b) × 2"),
            (Tell(AtPeer("p", NegotiationError(OSError("x")))), "p: NegotiationError(OSError: x) × 1"),
            (Begin(1, FetchToken()), "machine → engine: FetchToken() × 1"),
            (Abandon(1), "machine → engine: never mind × 1"),
            (Note("error", "odd", {"a": 1}), "machine → log: odd a=1 × 1"),
            (CloseConnection(-1), "machine → engine: CloseConnection(pc=-1) × 1"),
            (
                Send(1, b'{"type":"send","to":"x","data":{"type":"rtc-description","description":{"type":"offer"}}}'),
                "send to x (offer) on link 1",
            ),
            (Send(1, b'{"type":"send","data":{"type":"rtc-ice","candidate":null}}'), "send (rtc-ice) on link 1"),
            (Send(1, b'{"type":"error","code":"c","data":{"type":"rtc-x","description":5}}'), "(a signal) on link 1"),
        ],
    )
    def test_orders(self, order: Order, text: str) -> None:
        assert text in said(Woken(), order)[-1]

    def test_what_was_raised(self) -> None:
        step = msgspec.structs.replace(steps((Woken(), []))[0], raised=NotConnectedError("idle"))
        assert "raises NotConnectedError" in next(transcript([step])).text

    def test_long_and_odd_text_is_one_short_line(self) -> None:
        (text,) = said(LinkDown(1, 1006, "a\n\x1b" * 200))
        assert text.isprintable()
        assert len(text) < 260

    def test_one_line_of_odd_things(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        assert one_line(Tell(deep)) == "Tell(…)"
        assert one_line(5) == "5"
        assert one_line(Answer(1, {"a": 1})) == 'Answer(op=1, value={"a":1}, error=null)'


class TestWhy:
    def test_links_that_we_gave_up(self) -> None:
        found = why(
            ClientPlan(CLIENT, "x"),
            (Asked(1, Connect()), [OpenLink(1, "x")]),
            (Woken(), [Tell(StateChange("connecting", "connected"))]),
            (
                Woken(),
                [CloseLink(1, 4000, "silence"), Note("warning", "connection lost", {"code": 4000, "reason": "s"})],
            ),
            (LinkDown(1, 1000), []),
            (Woken(), [Note("warning", "attempt failed", {"code": 1006, "reason": "the token provider failed: X"})]),
            (Woken(), [OpenLink(2, "x"), Tell(GoingAway(700))]),
            deadline=Deadline(9_000_000, "reconnect"),
        )
        lost = "the connection is lost: we gave link 1 up: 4000: nothing arrived in time (silence)"
        assert f"{lost}; next try, on rung 1 of the ladder, in 6.00 s" in found
        failed = "an attempt to connect failed: the token provider failed: X, for the 1. time"
        assert f"{failed}; next try, on rung 2 of the ladder, in 4.00 s" in found
        assert any(text.startswith("it is not connected at the end: we gave link 1 up") for text in found)
        assert not any(text.startswith("link 2 is opened") for text in found), "that is said once it is back"

    def test_ends(self) -> None:
        plan = ClientPlan(CLIENT, "x")
        found = why(plan, (Woken(), [Note("error", "could not connect", {"code": 4001, "reason": "invalid_token"})]))
        assert found == ["could not connect: 4001: the key or token was not accepted (invalid_token)"]
        found = why(plan, (Asked(1, Close()), [Tell(Disconnected(1000, "", False))]))
        assert found == ["the client is closed: the application closed it"]
        found = why(plan, (LinkDown(1, 4012), [TellAll([Disconnected(4012, "", False)])]))
        assert found == ["the client is closed: 4012: the account is suspended; that is final"]
        found = why(plan, (LinkDown(1, 418), [Note("warning", "connection lost", {})]))
        assert found[0] == "the connection is lost: link 1 went down with 418: HTTP 418"
        assert why(plan, (Woken(), [Note("error", "could not connect", {"code": 4999})])) == [
            "could not connect: 4999: nobody knows that code"
        ]

    def test_peers(self) -> None:
        def at(event: Any) -> Order:
            return Tell(AtPeer("p", event))

        track = LocalTrack(1, "video", "t")
        found = why(
            ROOM,
            (Woken(), [Tell(MemberJoined("p", None)), Tell(MemberJoined("q", None))]),
            (Asked(1, AddTrack(track)), [at(StateChange("idle", "connecting"))]),
            (Received(1, []), [at(StateChange("idle", "connecting"))]),
            (
                Woken(),
                [at(StateChange("idle", "connecting")), at(StateChange("x", "closed")), at(StateChange("x", "y"))],
            ),
            (Woken(), [at(ConnectionReset()), at(NegotiationError(IceRecoveryExhaustedError(9)))]),
            (Woken(), [at(IceCandidateError(OSError())), at(StateChange("connected", "reconnecting"))]),
        )
        assert "peer p: idle → connecting: the application asked for something to send: AddTrack" in found
        assert "peer p: idle → connecting: it made an offer" in found
        assert "peer p: idle → connecting: a timer ran out: it is our turn to offer" in found
        assert "peer p: x → closed: we are not in the room any more" in found
        assert "peer p: x → y: after Woken" in found
        assert "peer p: its connection was replaced: the one before had been lost" in found
        assert any(text.startswith("peer p: a negotiation failed: IceRecoveryExhaustedError") for text in found)
        assert "peer p is still reconnecting: for 0.0 s: the connection has not come up, 1 negotiations failed" in found
        assert any(text.startswith("peer q is idle: we have something to send, and wait") for text in found)
        gone = [at(StateChange("connected", "closed")), Tell(MemberLeft("p"))]
        lost = Note("info", "peer connection lost", {"why": "it failed", "peer": "p"})
        found = why(
            ROOM,
            (Woken(), [lost, at(StateChange("connected", "reconnecting"))]),
            (Woken(), [at(StateChange("connected", "reconnecting"))]),
            (Woken(), [lost, at(StateChange("reconnecting", "closed"))]),
            (Woken(), gone),
            (Received(1, []), gone),
            (Received(1, []), [at(StateChange("idle", "closed")), Tell(MemberLeft("p"))]),
            (Asked(1, Leave()), [at(StateChange("x", "closed"))]),
        )
        assert found[0] == "peer p: connected → reconnecting: its connection was lost: it failed"
        assert found[1] == "peer p: connected → reconnecting: its connection is being replaced by another one"
        assert found[2] == "peer p: reconnecting → closed: its connection could not be brought back: it failed"
        assert found[3] == "peer p: connected → closed: it was away for too long"
        assert found[4] == "peer p: connected → closed: the server says that it left"
        assert found[5].startswith(
            "peer p: idle → closed: the server says that it left; it was idle until then: we have"
        )
        assert found[6] == "peer p: x → closed: the application asked for it: Leave"
        found = why(ROOM, (Woken(), [Tell(MemberJoined("p", None)), Tell(MemberLeft("p"))]))
        assert found == []
        gone = (Asked(2, RemoveTrack(1)), [])
        (found_idle,) = why(ROOM, (Woken(), [Tell(MemberJoined("p", None))]), (Asked(1, AddTrack(track)), []), gone)
        assert "no track and no data channel" in found_idle
        channel = Asked(1, OpenDataChannel("p", ChannelOptions("c")))
        (found_idle,) = why(ROOM, (Woken(), [Tell(MemberJoined("p", None))]), (channel, []))
        assert "we have something to send" in found_idle
        without = msgspec.structs.replace(ROOM, webrtc=False)
        (found_idle,) = why(without, (Woken(), [Tell(MemberJoined("p", None))]))
        assert "not installed" in found_idle

    def test_guests(self) -> None:
        found = why(
            RelayPlan(RelaySettings(born_at=0.0), "x"),
            (Woken(), [RefuseLink(1, 429, "Too Many Requests"), CloseLink(2, 4020, "admin_disconnect")]),
            (LinkDown(2, 1000), []),
        )
        assert found == [
            "guest 1 is refused: 429: too many attempts (Too Many Requests)",
            "guest 2 is closed: 4020: the server removed this peer (admin_disconnect)",
        ]


class TestThePage:
    def test_without_anything_to_explain(self) -> None:
        text = page("x", header(ROOM), [], [])
        assert "Nothing that needs explaining." in text
        assert "Today's code" not in text
