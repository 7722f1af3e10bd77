"""A failure made small: as few acts as it takes, by delta debugging.

The script of a plan is cut into pieces, and what can be left out without the failure going away is left out (Zeller
and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002). Goals and faults are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from metered_proto.sim.plan import Act, Plan
from metered_proto.sim.runs import simulate


def shrink(plan: Plan, *, fails: Callable[[Plan], bool] | None = None, runs: int = 400) -> Plan:
    """The plan with as little in its script as still fails, found in so many runs at most.

    Without `fails`, a plan fails if any of the promises is broken that the whole plan breaks. Hosts
    that nothing is left for stay: they are part of the scene.
    """
    judge = _breaks_the_same(plan) if fails is None else fails
    left = [runs]

    def still_fails(script: tuple[Act, ...]) -> bool:
        left[0] -= 1
        return left[0] >= 0 and judge(msgspec.structs.replace(plan, script=script))

    script = plan.script
    pieces = 2
    while len(script) >= 1 and left[0] > 0:
        size = max(1, -(-len(script) // pieces))
        for start in range(0, len(script), size):
            rest = script[:start] + script[start + size :]
            if still_fails(rest):
                script, pieces = rest, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(script), 2 * pieces)
    return msgspec.structs.replace(plan, script=script)


def _breaks_the_same(plan: Plan) -> Callable[[Plan], bool]:
    promises = {violation.promise: None for violation in simulate(plan)[1].violations}

    def fails(smaller: Plan) -> bool:
        return any(violation.promise in promises for violation in simulate(smaller)[1].violations)

    return fails
