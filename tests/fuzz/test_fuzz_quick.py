"""Every fuzz target over its corpus and a little more; and runs under atheris: they notice what must not happen."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.loading import HERE, LIMIT, TARGETS, Target, load

INPUTS = int(os.environ.get("FUZZ_INPUTS", "100"))

needs_atheris = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")


def nearly_right(target: Target) -> st.SearchStrategy[bytes]:
    """Inputs of the corpus with a few changes: something else in place of something."""
    piece = st.sampled_from(target.words) | st.binary(max_size=4)
    change = st.tuples(st.floats(0, 1), st.integers(0, 8), piece)

    def changed(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
        for where, length, instead in changes:
            at = int(where * len(data))
            data = data[:at] + instead + data[at + length :]
        return data[:LIMIT]

    return st.builds(changed, st.sampled_from(target.corpus), st.lists(change, min_size=1, max_size=4))


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    target = load(name)
    assert target.invariant
    assert target.corpus
    outcomes = {target.check(data) for data in target.corpus}

    @settings(
        max_examples=INPUTS,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(nearly_right(target))
    def holds(data: bytes) -> None:
        outcomes.add(target.check(data))

    holds()
    # Changes that are too wild, or too tame, would be of no use.
    assert len(outcomes) >= 3


@needs_atheris
def test_a_run_follows_the_lines_of_the_core() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", "3000", "--seed", "1", "channels"]
    ended = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    line = next(line for line in ended.stdout.splitlines() if line.startswith("channels"))
    words = line.replace(",", "").split()
    assert int(words[1]) >= 3000
    assert int(words[words.index("edges") - 1]) > 10, line


ESCAPES = """
def check(data):
    if b"{" in data:
        raise RuntimeError("a brace")
"""
HANGS = """
def check(data):
    while len(data) > 5:
        pass
"""
GROWS = """
kept = []
def check(data):
    kept.extend([data] for _ in range(3))
"""


@needs_atheris
@pytest.mark.parametrize(
    ("source", "said", "kept"),
    [(ESCAPES, "RuntimeError: a brace", "crash-"), (HANGS, "timeout", "timeout-"), (GROWS, "left behind", "crash-")],
    ids=["escape", "hang", "growth"],
)
def test_what_must_not_happen_ends_the_run(tmp_path: Path, source: str, said: str, kept: str) -> None:
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "target.py").write_text(source)
    options = ["-runs=200000", "-timeout=1", "-max_len=64", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", "planted.target", *options],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert ended.returncode != 0
    assert said in ended.stdout + ended.stderr
    assert list(tmp_path.glob(f"{kept}*"))
