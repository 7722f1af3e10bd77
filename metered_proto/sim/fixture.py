"""A fixture for tests: runs a plan or a scenario, and fails where a promise is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from metered_proto.sim.plan import Plan
from metered_proto.sim.runs import simulate
from metered_proto.sim.scenarios import SCENARIOS
from metered_proto.sim.world import World

Run: TypeAlias = Callable[..., World]


def world() -> Run:
    """What the fixture `world` gives to a test: `run(plan)`, or `run("device", seed=3)`, which returns the world as it
    is in the end, for the test to look at. Raises `AssertionError` with everything that was broken."""

    def run(plan: Plan | str, seed: int = 0) -> World:
        whole = SCENARIOS[plan](seed) if isinstance(plan, str) else plan
        end, summary = simulate(whole)
        lines = "\n".join(str(violation) for violation in summary.violations)
        assert not summary.violations, f"{whole.scenario}, seed {whole.seed}:\n{lines}"
        return end

    return run
