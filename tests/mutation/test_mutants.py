"""The faults that are put into machines: one each, where something runs, and each still a program."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests.mutation.__main__ import MODULES, ROOT
from tests.mutation.mutants import mutants

SOURCE = '''
from __future__ import annotations
LIMIT: int = 4096
def climb(self, now: int = 3) -> bool | None:
    """Says 1 + 1."""
    if self.rungs >= LIMIT and not self.over:
        return None
    self.rungs += 1
    self.log(f"rung {1 + 1}")
    assert now > 0
    for each in self.things:
        if each:
            break
    return min(self.rungs, 2) - 1 == now
def __repr__(self) -> str:
    return str(1 + 1)
'''


def test_what_is_tried() -> None:
    found = [(mutant.where, mutant.what.partition(":")[0]) for mutant in mutants(SOURCE)]
    assert found == [
        (3, "one more"),
        (4, "one more"),
        (6, "and/or swapped"),
        (6, "the first condition alone"),
        (6, "GtE for Gt"),
        (6, "not left out"),
        (8, "left out"),
        (8, "one more"),
        (9, "left out"),
        (12, "condition negated"),
        (13, "left out"),
        (14, "None returned"),
        (14, "Eq for NotEq"),
        (14, "Sub for Add"),
        (14, "max for min"),
        (14, "one more"),
        (14, "one more"),
    ]


def test_each_is_one_change_to_a_program() -> None:
    same = ast.unparse(ast.parse(SOURCE))
    texts = [mutant.source for mutant in mutants(SOURCE)]
    assert len({same, *texts}) == len(texts) + 1
    for text in texts:
        compile(text, "a mutant", "exec")
        changed = sum(a != b for a, b in zip(text.splitlines(), same.splitlines(), strict=False))
        assert 1 <= changed <= 2, text


def test_every_module_in_the_table_is_there_and_so_are_its_tests() -> None:
    for module, files in MODULES.items():
        assert (ROOT / "metered_proto" / f"{module}.py").is_file()
        for file in files:
            assert (ROOT / "tests/proto" / file).is_file(), file


def test_a_fault_is_noticed() -> None:
    # In a process of its own: children are to begin with nothing of the machines imported.
    command = [sys.executable, "-m", "tests.mutation", "--sample", "2", "client/ladder"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 of    2 noticed" in run.stdout, run.stdout
