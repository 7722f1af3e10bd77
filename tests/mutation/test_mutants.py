"""Mutation testing itself: what is tried is there, a fault is noticed, and one that no test notices is told."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.mutation import __main__ as mutation
from tests.mutation.__main__ import MODULES, ROOT, copy_tree, score

needs_cosmic_ray = pytest.mark.skipif(
    importlib.util.find_spec("cosmic_ray") is None, reason="cosmic-ray is not installed"
)


def test_every_module_in_the_table_is_there_and_so_are_its_tests() -> None:
    for module, files in MODULES.items():
        assert (ROOT / "metered_proto" / f"{module}.py").is_file()
        for file in files:
            assert (ROOT / "tests/proto" / file).is_file(), file


@needs_cosmic_ray
def test_a_fault_is_noticed(tmp_path: Path) -> None:
    found = score("client/ladder", copy_tree(tmp_path), sample=1, seed=1)
    assert (found.tried, found.noticed, found.survivors) == (1, 1, ())
    # All places but few faults for each: sums have one replacement, and annotations none.
    assert 20 < found.possible < 100


@needs_cosmic_ray
def test_a_fault_that_no_test_notices_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mutation.MODULES, "client/ladder", ("test_nothing_of_it.py",))
    tree = copy_tree(tmp_path)
    (tree / "tests/proto/test_nothing_of_it.py").write_text(
        "import metered_proto.client.ladder\ndef test_it_is_imported(): pass\n"
    )
    found = score("client/ladder", tree, sample=1, seed=1)
    assert (found.tried, found.noticed) == (1, 0)
    assert "--- mutation diff ---" in found.survivors[0]


@needs_cosmic_ray
def test_tests_that_fail_anyway_are_no_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mutation.MODULES, "client/ladder", ("test_broken.py",))
    tree = copy_tree(tmp_path)
    (tree / "tests/proto/test_broken.py").write_text("def test_it(): assert False\n")
    with pytest.raises(RuntimeError, match="baseline"):
        score("client/ladder", tree, sample=1, seed=1)
