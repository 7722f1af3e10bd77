"""Every program in the documentation runs as it stands, and prints what the page says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).parents[2] / "docs"


def test_a_program_in_a_page(program: Any, environment: dict[str, str], tmp_path: Path) -> None:
    if "def test_" in program.code:
        (tmp_path / "test_page.py").write_text(program.code)
        command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_page.py"]
    else:
        command = [sys.executable, "-W", "error", "-c", program.code]
    run(command, program.output, env=environment, cwd=tmp_path)


def test_a_script_in_a_page(script: Any, tmp_path: Path) -> None:
    run([node(), "-e", script.code], script.output, cwd=tmp_path)


def test_an_example_is_json(example: Any) -> None:
    json.loads(example.code)


def run(command: list[str], output: str | None, **how: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **how)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    if output is not None:
        assert done.stdout == output


def node() -> str:
    """Node, where there is one: it is no dependency of ours."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    return found


@pytest.mark.parametrize(
    "page",
    [
        "getting-started",
        "rooms",
        "data-channels",
        "media",
        "media-sources",
        "outbox",
        "pipelining",
        "requests",
        "watching",
        "testing",
        "simulator",
        "record-replay",
        "embedding",
        "relay",
    ],
)
def test_the_page_has_programs(page: str) -> None:
    assert "```python\n" in (PAGES / f"{page}.md").read_text()
