"""A recording runs through the code of today, and says where that does otherwise."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from runs_kit import ALL_SECRETS, KEY, RUNS, client_run, room_run
from table_kit import each_row

from metered_proto.client import ladder
from metered_proto.entropy import Entropy
from metered_proto.errors import LocalProtocolError, RecordingFileError
from metered_proto.events import StateChange
from metered_proto.facts import Asked, Fact, LinkAsked, Woken
from metered_proto.machine import Deadline, Micros
from metered_proto.orders import Note, Order, Send, Tell
from metered_proto.replay import (
    PeerPlan,
    PlainPlan,
    Player,
    Recorder,
    Recording,
    explain,
    page,
    replay,
    run,
    transcript,
)
from metered_proto.rtc.options import RtcOptions
from metered_proto.rtc.peer import RtcPeer
from metered_proto.rtc.words import LocalTrack, Numbers, SetTracks


class TestRuns:
    @each_row("name", sorted(RUNS))
    def test_a_run_is_replayed(self, name: str) -> None:
        done = RUNS[name]()
        divergence = replay(done.recording)
        assert divergence is None, str(divergence)
        assert len(list(done.recording.steps())) == done.recorder.steps > 5

    @each_row("name", sorted(RUNS))
    def test_no_secret_is_in_it(self, name: str) -> None:
        text = RUNS[name]().data.decode()
        flat = text.replace("\\", "")
        for secret in ALL_SECRETS:
            assert secret not in text
            assert secret.replace("\\", "") not in flat

    @each_row("name", sorted(RUNS))
    def test_the_same_run_makes_the_same_text(self, name: str) -> None:
        assert RUNS[name]().data == RUNS[name]().data

    def test_no_further_than_it_is_told(self) -> None:
        recording = client_run().recording
        assert run(recording, until_step=3).steps == 3
        assert run(recording, until=4000).at == 4000

    def test_a_machine_by_itself(self) -> None:
        plan = PeerPlan(RtcOptions(), "peer", True)
        peer = RtcPeer(plan.options, Numbers(), Entropy("peer"), polite=True, servers=())
        chunks: list[bytes] = []
        recorder = Recorder(peer, chunks.append, plan=plan, key=b"k")
        recorder.handle(0, Asked(1, SetTracks((LocalTrack(1, "video", "t"),))))
        assert recorder.deadline is not None
        recorder.handle(recorder.deadline.at, Woken())
        with pytest.raises(LocalProtocolError):
            recorder.handle(9_000_000, Asked(2, "nonsense"))
        assert recorder.held
        recorder.flush()
        assert not recorder.held
        recording = Recording.of(b"".join(chunks))
        assert replay(recording) is None
        assert isinstance(list(recording.steps())[-1].raised, LocalProtocolError)


class TestAChangedConstant:
    def test_shows_as_a_diff_of_one_screen_at_the_right_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        recording = client_run().recording
        lost = next(step for step in recording.steps() if type(step.fact).__name__ == "LinkDown")
        monkeypatch.setattr(ladder, "micros", lambda seconds: round(seconds * 1_000_000) + 1)
        outcome = run(recording)
        divergence = outcome.divergence
        assert divergence is not None
        assert divergence.step.number == lost.number == outcome.steps
        text = str(divergence)
        assert text.startswith(f"step {lost.number} differs, at 0.")
        assert "- wants to be woken at" in text
        assert "+ wants to be woken at" in text
        assert "for reconnect" in text
        assert len(text.splitlines()) <= 40
        assert max(map(len, text.splitlines())) <= 120
        assert len(divergence.before) == 5

    def test_orders_that_differ_are_shown_field_by_field(self) -> None:
        data = client_run().data.replace(b'"to":"connecting"', b'"to":"elsewhere"')
        divergence = replay(Recording.of(data))
        assert divergence is not None
        assert divergence.step.number == 1
        assert '-     event = StateChange(from="idle", to="elsewhere")' in str(divergence)
        assert '+     event = StateChange(from="idle", to="connecting")' in str(divergence)

    def test_long_values_are_shown_where_they_part(self) -> None:
        data = room_run().data
        at = data.index(b"a=msid:stream", data.index(b'"type":"Send","link":1,"payload":{"type":"send"'))
        divergence = replay(Recording.of(data[:at] + b"a=msid:STREAM" + data[at + 13 :]))
        assert divergence is not None
        assert "STREAM" in str(divergence)
        assert "msid:stream" in str(divergence)

    def test_an_error_in_place_of_orders_and_the_other_way_round(self) -> None:
        recorder, chunks = plain(lambda now, fact: [])
        recorder.handle(0, Woken())
        recorder.flush()
        recording = Recording.of(b"".join(chunks))

        def fails(now: Micros, fact: Fact) -> list[Order]:
            raise LocalProtocolError("no")

        divergence = replay(recording, machines={"plain": lambda plan: Plain(fails)})
        assert divergence is not None
        assert "+ LocalProtocolError: no" in str(divergence)
        recorder, chunks = plain(fails)
        with pytest.raises(LocalProtocolError):
            recorder.handle(0, Woken())
        recorder.flush()
        recording = Recording.of(b"".join(chunks))
        assert replay(recording, machines={"plain": lambda plan: Plain(fails)}) is None
        divergence = replay(recording, machines={"plain": lambda plan: Plain(lambda now, fact: [])})
        assert divergence is not None
        assert "- LocalProtocolError: no" in str(divergence)

    def test_a_long_difference_still_fits_the_screen(self) -> None:
        recorder, chunks = plain(lambda now, fact: [Send(link, b"{}") for link in range(100)])
        recorder.handle(0, Woken())
        recorder.flush()
        machines = {"plain": lambda plan: Plain(lambda now, fact: [Note("info", str(n)) for n in range(100)])}
        divergence = replay(Recording.of(b"".join(chunks)), machines=machines)
        assert len(str(divergence).splitlines()) == 40

    def test_what_is_written_otherwise_and_means_the_same_is_no_difference(self) -> None:
        data = client_run().data.replace(b'"ack":true', b'"ack": true').replace(b'"link":1,', b'"link": 1,')
        assert replay(Recording.of(data)) is None


class Plain:
    """A machine of a test's own."""

    deadline: Deadline | None = None

    def __init__(self, handle: Any) -> None:
        self.handle = handle


def plain(handle: Any) -> tuple[Recorder, list[bytes]]:
    chunks: list[bytes] = []
    return Recorder(Plain(handle), chunks.append, plan=PlainPlan("plain"), key=b"k"), chunks


HEADER = client_run().data.splitlines(keepends=True)[0]


class TestHostileFiles:
    @each_row(
        ("data", "line"),
        [
            (b"", 1),
            (b"\n", 1),
            (b"{}\n", 1),
            (b"[]\n", 1),
            (b"\xff\n", 1),
            (b"[" * 100_000 + b"\n", 1),
            (HEADER.replace(b'"version":1', b'"version":2'), 1),
            (HEADER.replace(b'"metered-recording"', b'"other"'), 1),
            (HEADER.replace(b'"machine":"ClientPlan"', b'"machine":"Popen"'), 1),
            (HEADER.replace(b'"machine":"ClientPlan"', b'"machine":"Entry"'), 1),
            (HEADER.replace(b'"machine":"ClientPlan"', b'"machine":"RoomPlan"'), 1),
            (HEADER.replace(b'"ack_timeout":15.0', b'"ack_timeout":-1'), 1),
            (HEADER.replace(b'"$":"ClientPlan"', b'"$":"Woken"'), 1),
            (HEADER + b"rubbish\n", 2),
            (HEADER + b'{"at":0,"fact":{"type":"Send","link":1,"payload":{}},"orders":[]}\n', 2),
            (HEADER + b'{"at":0,"fact":{"type":"Woken"},"raised":5}\n', 2),
            (HEADER + b'{"at":0,"fact":{"type":"LinkUp"},"orders":[]}\n', 2),
            (HEADER + b'{"at":0,"fact":{"type":"nothing"},"orders":[]}\n', 2),
            (HEADER + b'{"at":5,"fact":{"type":"Woken"}}\n{"at":4,"fact":{"type":"Woken"}}\n', 3),
            (HEADER + b'\n{"at":5,"fact":' + b"[" * 600 + b"]" * 600 + b"}\n", 3),
            (HEADER + b'{"at":5,"fact":"' + b"x" * (65 << 20) + b'"}\n', 2),
        ],
    )
    def test_end_in_an_error_that_says_where(self, data: bytes, line: int) -> None:
        with pytest.raises(RecordingFileError) as caught:
            replay(Recording.of(data))
        assert caught.value.line == line
        assert len(caught.value.reason) < 250

    def test_text_full_of_brackets_is_not_nested(self) -> None:
        line = b'{"at":0,"fact":{"type":"Received","link":1,"payloads":["' + b'{[\\"' * 1000 + b'"]},"orders":[]}\n'
        assert len(list(Recording.of(HEADER + line).steps())) == 1

    def test_a_last_line_that_is_cut_off_is_left_out(self) -> None:
        data = client_run().data
        whole = run(Recording.of(data))
        cut = run(Recording.of(data[:-10]))
        assert (cut.steps, cut.cut_off, whole.cut_off) == (whole.steps - 1, True, False)

    def test_a_machine_that_nobody_knows(self) -> None:
        recorder, chunks = plain(lambda now, fact: [])
        recorder.flush()
        with pytest.raises(RecordingFileError, match="plain"):
            replay(Recording.of(b"".join(chunks)))

    def test_a_plan_whose_fields_are_of_another_type(self) -> None:
        data = client_run().data
        assert b'"outbox":null' in data
        with pytest.raises(RecordingFileError, match="no machine can be made"):
            replay(Recording.of(data.replace(b'"outbox":null', b'"outbox":true', 1)))

    @each_row("at", range(0, 4000, 37))
    def test_a_byte_that_is_another(self, at: int) -> None:
        data = client_run().data
        at %= len(data)
        with suppress(RecordingFileError):  # and no other
            replay(Recording.of(data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :]))


class TestReading:
    def test_explanations_of_a_client(self) -> None:
        recording = client_run(key=None).recording
        causes = explain(recording.header, recording.steps())
        said = [cause.what for cause in causes]
        assert said[:3] == ["a token is fetched", "the connection is lost", "a token is fetched"]
        assert "the connection is back" in said
        lost = causes[said.index("the connection is lost")]
        assert "1006: it ended without a close" in lost.why
        assert "next try, on rung 1 of the ladder, in 0.55 s" in lost.why
        assert "coming back took" in causes[said.index("the connection is back")].why

    def test_explanations_of_a_room(self) -> None:
        recording = room_run().recording
        causes = explain(recording.header, recording.steps())
        peers = [(cause.what, cause.why) for cause in causes if cause.kind == "peer"]
        assert ("peer away: connecting → connected", "its connection came up") in peers
        assert any(what == "peer away is still reconnecting" for what, _ in peers)

    def test_why_a_peer_is_idle(self) -> None:
        recording = room_run().recording
        joined = next(s.number for s in recording.steps() if any("MemberJoined" in repr(o) for o in s.orders))
        causes = explain(recording.header, [step for step in recording.steps() if step.number <= joined])
        assert causes[-1].what == "peer away is idle"
        assert "no track and no data channel" in causes[-1].why
        assert explain(recording.header, []) == []

    def test_explanations_of_a_relay(self) -> None:
        recording = RUNS["relay"]().recording
        causes = explain(recording.header, recording.steps())
        said = [f"{cause.what}: {cause.why}" for cause in causes]
        assert any(text.startswith("guest 4 is closed: 4001: the key or token was not accepted") for text in said)
        assert "guest 1 is gone: 1000: the other side closed it in good order" in said

    @each_row("name", sorted(RUNS))
    def test_a_page_shows_no_secret_and_runs_nothing(self, name: str) -> None:
        recording = RUNS[name]().recording
        causes = explain(recording.header, recording.steps())
        text = page("<b>x</b>", recording.header, causes, transcript(recording.steps()), run(recording))
        assert "<script" not in text
        assert "<b>x</b>" not in text
        assert "default-src 'none'" in text
        assert "src=" not in text.replace("default-src", "")
        for secret in ALL_SECRETS:
            assert secret not in text

    def test_what_others_wrote_cannot_script(self) -> None:
        evil = "</span><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m"
        events = [Tell(StateChange(evil, evil)), Note("error", evil, {evil: evil}), Send(1, evil.encode())]
        recorder, chunks = plain(lambda now, fact: events)
        recorder.handle(0, LinkAsked(1, evil, evil, evil))
        recorder.flush()
        recording = Recording.of(b"".join(chunks))
        assert len(list(recording.steps())) == 1
        machines = {"plain": lambda plan: Plain(lambda now, fact: [])}
        outcome = run(recording, machines=machines)
        text = page(
            evil, recording.header, explain(recording.header, recording.steps()), transcript(recording.steps()), outcome
        )
        assert "<script" not in text
        assert "<img" not in text
        assert "\x1b" not in text

    def test_like_entries_are_counted(self) -> None:
        recorder, chunks = plain(lambda now, fact: [Send(1, b'{"type":"publish","channel":"a"}')] * 5)
        recorder.handle(0, Woken())
        recorder.handle(1, Asked(1, "x"))
        recorder.flush()
        entries = list(transcript(Recording.of(b"".join(chunks)).steps()))
        assert [(entry.text, entry.count) for entry in entries] == [
            ("a timer ran out", 1),
            ("publish a on link 1", 5),
            ("str", 1),
            ("publish a on link 1", 5),
        ]

    def test_a_player_goes_step_by_step(self) -> None:
        recording = client_run().recording
        player = Player(recording.header)
        assert all(player.take(step) is None for step in recording.steps())
        assert KEY not in repr(recording.header)
        assert msgspec.structs.asdict(recording.header)["machine"] == "ClientPlan"
