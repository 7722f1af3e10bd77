"""Every fuzz target over its corpus and a little more; and the driver, which has to notice what must not happen."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable

import pytest

from tests.fuzz import driver
from tests.fuzz.driver import TARGETS, Fault, Target, load, run, shrink

INPUTS = int(os.environ.get("FUZZ_INPUTS", "300"))


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    target = load(name)
    assert target.invariant
    assert target.corpus
    report = run(target, inputs=INPUTS, seconds=math.inf, seed=1, hang=None)
    assert report.inputs == INPUTS
    # Mutation that is too wild, or too tame, would be of no use.
    assert report.outcomes >= 3


def test_what_is_found_depends_on_the_seed_alone() -> None:
    seen: list[list[bytes]] = [[], []]
    for inputs in seen:

        def check(data: bytes, inputs: list[bytes] = inputs) -> Hashable:
            inputs.append(data)
            return len(data) % 5

        run(_target(check), inputs=200, seconds=math.inf, seed=7, hang=None)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 100


def test_an_escape_is_noticed_and_made_small() -> None:
    def check(data: bytes) -> Hashable:
        if b"{" in data and b"}" in data:
            raise RuntimeError("both")
        return len(data)

    target = _target(check)
    with pytest.raises(Fault, match="both") as caught:
        run(target, inputs=10_000, seconds=math.inf, seed=1, hang=None)
    assert sorted(shrink(target, caught.value.data)) == sorted(b"{}")


def test_growth_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "GROWTH", 1000)
    kept: list[list[bytes]] = []

    def check(data: bytes) -> Hashable:
        kept.append([data])
        return 0

    with pytest.raises(Fault, match="left behind"):
        run(_target(check), inputs=2000, seconds=math.inf, seed=1, hang=None)


def test_a_hang_is_noticed() -> None:
    def check(data: bytes) -> Hashable:
        while len(data) > 5:
            pass
        return 0

    with pytest.raises(Fault, match="took more than"):
        run(_target(check), inputs=10_000, seconds=math.inf, seed=1, hang=0.2)


def _target(check: object) -> Target:
    return Target("made up", "", check, (b"{", b"}"), (b"{a", b"a}"))  # type: ignore[arg-type]
