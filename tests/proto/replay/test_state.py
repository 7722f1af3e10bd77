"""A machine that is frozen and thawed in the middle of its life goes on as if nothing had been."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from runs_kit import RUNS
from table_kit import each_row

from metered_proto.replay import Recording, replay
from metered_proto.replay.machines import DraftingClient, resumed
from metered_proto.replay.notation import Unreadable, encode_json
from metered_proto.replay.replaying import Player
from metered_proto.replay.state import Unfit, freeze, thaw


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


class TestSegments:
    def test_each_is_a_recording_by_itself(self) -> None:
        pass
