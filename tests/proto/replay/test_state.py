"""A machine that is frozen and thawed in the middle of its life goes on as if nothing had been."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from runs_kit import ALL_SECRETS, RUNS, client_run
from table_kit import each_row

from metered_proto.client import ClientSession
from metered_proto.entropy import Entropy
from metered_proto.errors import AckTimeoutError, RecordingFileError
from metered_proto.events import IceServer
from metered_proto.facts import Woken
from metered_proto.machine import Deadline
from metered_proto.replay import ClientPlan, Player, Recorder, Recording, replay
from metered_proto.replay.machines import DraftingClient, PlainPlan, resumed
from metered_proto.replay.notation import BAD_JSON, encode_json
from metered_proto.replay.state import CLASSES, Unfit, freeze, thaw
from metered_proto.rtc.absent import AbsentPeer, AbsentPeers
from metered_proto.settings import ClientSettings
from metered_proto.wire.close_codes import ErrorCode, WsCloseCode
from metered_proto.wire.sdp import Msid


def through(machine: Any) -> Any:
    return thaw(msgspec.json.decode(encode_json(freeze(machine))))


class TestInTheMiddle:
    @each_row("name", sorted(RUNS))
    def test_at_every_step(self, name: str) -> None:
        recording = RUNS[name]().recording
        player = Player(recording.header)
        for step in recording.steps():
            assert player.take(step) is None
            machine: Any = player.machine
            if isinstance(machine, DraftingClient):
                machine = machine.session
            player.machine = resumed(recording.header.plan, through(machine))

    def test_a_machine_of_another_plan(self) -> None:
        with pytest.raises(TypeError):
            resumed(ClientPlan(ClientSettings(api_key=None), "x"), AbsentPeers())


class TestValues:
    @each_row(
        "value",
        [
            [1, "a", None, [b"x", 1 << 80]],
            (1, (2, [3])),
            {1, 2},
            frozenset({1}),
            {"a": {1: []}},
            WsCloseCode.GOING_AWAY,
            ErrorCode.BACKEND_ERROR,
            Deadline(5, "x"),
            IceServer(("stun:a",), "u", "p"),
            Msid("a", None),
            AckTimeoutError(5.0),
            msgspec.UNSET,
            [msgspec.Raw(b"[1]")],
            [deque([1, 2], 5), OrderedDict(a=1), MappingProxyType({"a": 1})],
            ClientSession,
            pytest.param(IceServer, id="a class"),
        ],
    )
    def test_comes_back(self, value: Any) -> None:
        assert through(value) == value
        assert type(through(value)) is type(value)

    def test_what_is_held_twice_is_one_thing_and_circles_are_round(self) -> None:
        inner: list[Any] = []
        inner.append(inner)
        found = through([inner, inner])
        assert found[0] is found[1] is found[0][0]

    def test_a_source_of_numbers_goes_on_where_it_was(self) -> None:
        entropy = Entropy("x")
        entropy.uniform(0, 1)
        assert through(entropy).uniform(0, 1) == entropy.uniform(0, 1)

    def test_methods_and_objects(self) -> None:
        peer = AbsentPeer(AbsentPeers())
        found = through([peer, peer.handle])
        assert found[1].__self__ is found[0]
        assert found[0].state == "idle"

    def test_what_is_none_of_a_machine(self) -> None:
        for value in (threading, threading.Lock(), lambda: 1, threading.Thread, threading.current_thread):
            with pytest.raises(Unfit):
                freeze([value])


class TestHostileStates:
    @each_row(
        "nodes",
        [
            5,
            [],
            [5],
            [["nothing"]],
            [["list", [9]]],
            [["list", [-1]]],
            [["list", [True]]],
            [["list", 5]],
            [["class", "os:system"]],
            [["function", "os:system"]],
            [["object", "os:Popen", {}]],
            [["object", "client.session:ClientSession", {"__class__": ["=", 1]}]],
            [["object", "errors:AckTimeoutError", {}]],
            [["object", "wire.close_codes:WsCloseCode", {}]],
            [["object", "events:Connected", {}]],
            [["enum", "client.session:ClientSession", "x"]],
            [["enum", "wire.close_codes:WsCloseCode", "x"]],
            [["named", "client.session:ClientSession", []]],
            [["method", 1, "nothing"], ["list", []]],
            [["method", ["=", "x"], "upper"]],
            [["entropy", "x", ["=", 5]]],
            [["dict", [[["=", 1]]]]],
            [["=", {"$": "nothing"}]],
            [["tuple", [0]]],
            [["get", 0]],
            [["thaw"]],
            [["made"]],
        ],
    )
    def test_end_in_an_error_that_is_expected(self, nodes: Any) -> None:
        with pytest.raises(BAD_JSON):
            thaw(nodes)

    def test_no_class_is_known_but_those_of_the_core(self) -> None:
        assert all(kind.__module__.startswith("metered_proto.") for kind in CLASSES.values())
        assert len(CLASSES) > 100


class Segments:
    """A sink that keeps its segments apart."""

    def __init__(self) -> None:
        self.parts: list[list[bytes]] = [[]]

    def write(self, lines: bytes) -> None:
        self.parts[-1].append(lines)

    def turn_over(self) -> None:
        self.parts.append([])


class TestSegments:
    def test_each_is_a_recording_by_itself(self) -> None:
        sink = Segments()
        run = client_run(segment=(1, sink.turn_over), at_once=sink.write)
        run.recorder.flush()
        parts = [b"".join(part) for part in sink.parts]
        assert len(parts) > 1
        steps = 0
        for part in parts:
            recording = Recording.of(part)
            assert recording.header.steps == steps
            assert replay(recording) is None
            steps += len(list(recording.steps()))
            for secret in ALL_SECRETS:
                assert secret not in part.decode()
        assert steps == run.recorder.steps

    def test_a_state_that_is_not_of_the_plan(self) -> None:
        sink = Segments()
        client_run(segment=(1, sink.turn_over), at_once=sink.write).recorder.flush()
        later = b"".join(sink.parts[-1])
        at = later.index(b'"state":')
        for state in (b"[]", b'[["list",[]]]', b"5"):
            with pytest.raises(RecordingFileError):
                replay(Recording.of(later[:at] + b'"state":' + state + b"}\n"))

    def test_a_machine_that_cannot_be_frozen_goes_on_in_one_piece(self) -> None:
        class Locked:
            deadline = None
            lock = threading.Lock()

            def handle(self, now: int, fact: object) -> list[Any]:
                return []

        sink = Segments()
        recorder = Recorder(Locked(), sink.write, plan=PlainPlan("locked"), key=b"k", segment=(1, sink.turn_over))
        for now in range(5):
            recorder.handle(now * 2_000_000, Woken())
        recorder.flush()
        assert len(sink.parts) == 1
