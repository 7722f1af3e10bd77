"""Running a recording through the code of today, and finding the first step in which it does otherwise."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from metered_proto.errors import RecordingFileError
from metered_proto.machine import Deadline, Machine, Micros
from metered_proto.replay.diff import show_divergence
from metered_proto.replay.machines import BUILDERS, Build, PlainPlan, resumed
from metered_proto.replay.notation import encode_json, tree
from metered_proto.replay.reading import Header, Recording, Step
from metered_proto.replay.recorder import step_line
from metered_proto.replay.state import thaw

STEPS_BEFORE: Final = 5
"""Steps that are kept to be shown ahead of one that differs."""


class Divergence(msgspec.Struct, frozen=True):
    """The first step in which a replay did otherwise than the recording says. `str()` of it is a readable diff."""

    step: Step
    expected: tuple[Any, ...]
    """What the recording has: the orders, or the one error that was raised."""
    got: tuple[Any, ...]
    expected_deadline: Deadline | msgspec.UnsetType | None = msgspec.UNSET
    got_deadline: Deadline | msgspec.UnsetType | None = msgspec.UNSET
    """UNSET where the deadline is not what differs."""
    before: tuple[Step, ...] = ()
    """The steps ahead of it."""

    def __str__(self) -> str:
        return show_divergence(self)


class Outcome(msgspec.Struct, frozen=True):
    """How a replay went: so many steps, up to which time, and where it differed, if it did."""

    steps: int
    at: Micros
    divergence: Divergence | None
    cut_off: bool
    """Whether the last line of the recording was incomplete."""


def replay(recording: Recording, *, machines: Mapping[str, Build] | None = None) -> Divergence | None:
    """Run a recording through today's code; the first step that differs, or None.

    `machines` has how to make machines of one's own, by the name in their `PlainPlan`. Raises `RecordingFileError` for
    a file that cannot be read, or whose machine cannot be made.
    """
    return run(recording, machines=machines).divergence


def run(
    recording: Recording,
    *,
    machines: Mapping[str, Build] | None = None,
    until_step: int | None = None,
    until: Micros | None = None,
) -> Outcome:
    """As `replay`, but no further than a step or a time, and with what there is to say about it."""
    player = Player(recording.header, machines=machines)
    before: deque[Step] = deque(maxlen=STEPS_BEFORE)
    steps, at = 0, 0
    for step in recording.steps():
        if (until_step is not None and step.number > until_step) or (until is not None and step.at > until):
            break
        divergence = player.take(step)
        steps, at = step.number, step.at
        if divergence is not None:
            divergence = msgspec.structs.replace(divergence, before=tuple(before))
            return Outcome(steps, at, divergence, recording.cut_off)
        before.append(step)
    return Outcome(steps, at, None, recording.cut_off)


class Player:
    """A machine of today's code, and steps of a recording that it is put through, one by one."""

    def __init__(self, header: Header, *, machines: Mapping[str, Build] | None = None) -> None:
        self.machine: Machine = rebuild(header, machines=machines)

    def take(self, step: Step) -> Divergence | None:
        """Tell the machine the fact of a step, and compare what it does."""
        try:
            orders = self.machine.handle(step.at, step.fact)
        except Exception as error:
            if step.raised is not None and tree(error) == tree(step.raised):
                return self._deadline(step)
            expected = (step.raised,) if step.raised is not None else step.orders
            return Divergence(step, expected, (error,))
        if step.raised is not None:
            return Divergence(step, (step.raised,), tuple(orders))
        if not _is_written(step, orders) and not _same(step.orders, orders):
            return Divergence(step, step.orders, tuple(orders))
        return self._deadline(step)

    def _deadline(self, step: Step) -> Divergence | None:
        if step.deadline is msgspec.UNSET:
            return None
        deadline = self.machine.deadline
        if deadline == step.deadline:
            return None
        return Divergence(step, (), (), step.deadline, deadline)


def rebuild(header: Header, *, machines: Mapping[str, Build] | None = None) -> Machine:
    """The machine of a recording, as it was when that begins. Raises `RecordingFileError` if it cannot be made."""
    plan = header.plan
    build = (machines or {}).get(plan.name) if isinstance(plan, PlainPlan) else BUILDERS.get(type(plan))
    state = header.state
    if build is None and not len(state):
        name = plan.name if isinstance(plan, PlainPlan) else type(plan).__name__
        raise RecordingFileError(1, f"nothing makes a machine called {name[:100]}")
    try:
        if build is None or len(state):
            return resumed(plan, thaw(msgspec.json.decode(state)))
        return build(plan)
    except Exception as error:  # the fields of a plan are whatever the file says, of any type
        raise RecordingFileError(1, f"no machine can be made of the plan: {type(error).__name__}") from error


def _is_written(step: Step, orders: list[Any]) -> bool:
    """Whether the orders come out to the letter as they stand in the file. What is equal nearly always does."""
    line = step_line(0, step.fact, orders)
    return line.endswith(b'"orders":%b}' % step.written)


def _same(expected: tuple[Any, ...], got: list[Any]) -> bool:
    """Whether orders mean the same, however they were written."""
    return len(expected) == len(got) and all(
        encode_json(tree(a)) == encode_json(tree(b)) for a, b in zip(expected, got, strict=True)
    )
