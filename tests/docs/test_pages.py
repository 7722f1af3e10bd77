"""Every program in the documentation runs as it stands, and prints what the page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).parents[2] / "docs"


def test_a_program_in_a_page(program: Any, environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", program.code]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode == 0
    if program.output is not None:
        assert done.stdout == program.output


@pytest.mark.parametrize("page", ["getting-started.md", "embedding.md", "relay.md"])
def test_the_page_has_programs(page: str) -> None:
    assert "```python\n" in (PAGES / page).read_text()
