"""The wheel, built and installed without extras into an environment that has nothing but its base dependencies."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
EXTRAS = ("aiortc", "av", "typer", "click", "rich", "trio", "psutil", "pytest")
"""What has no place in a base installation."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the build backend that is installed already, so that no network is needed."""
    target = tmp_path_factory.mktemp("wheel")
    build = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(target)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return target / done.stdout.strip()


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and, lent from ours, what its metadata says it depends on."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    interpreter = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True, capture_output=True)
    (site,) = (home / "lib").glob("python*/site-packages")
    for needed in _needed(_requirements(wheel)):
        for path in _top_level(needed):
            (site / path.name).symlink_to(path)
    return interpreter


def _requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return re.findall(r"^Requires-Dist: (.*)$", archive.read(name).decode(), re.MULTILINE)


def _needed(requirements: list[str], seen: set[str] | None = None) -> Iterator[Distribution]:
    """What these need without extras, and what that needs in turn."""
    seen = set() if seen is None else seen
    for requirement in map(Requirement, requirements):
        if requirement.name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(requirement.name)
        found = distribution(requirement.name)
        yield found
        yield from _needed(found.requires or [], seen)


def _top_level(installed: Distribution) -> set[Path]:
    """The files and folders right below site-packages that belong to a distribution."""
    names = {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}
    return {Path(str(installed.locate_file(name))) for name in names}


def _run(python: Path, code: str) -> str:
    done = subprocess.run(
        [python, "-I", "-W", "error", "-c", code], capture_output=True, text=True, cwd=python.parent, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_the_packages_and_nothing_else_are_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    folders = {name.split("/")[0] for name in names}
    packages = {"metered_proto", "metered_anyio", "metered_media"}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == packages
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert [name for name in names if "__pycache__" in name or "/tests/" in name or "/test_" in name] == []


def test_the_base_dependencies_are_the_five(wheel: Path) -> None:
    base = [Requirement(text) for text in _requirements(wheel) if "extra ==" not in text]
    assert sorted(requirement.name.lower() for requirement in base) == ["anyio", "h11", "msgspec", "pyjwt", "wsproto"]


def test_it_imports_without_extras(python: Path) -> None:
    code = "import metered_anyio, metered_anyio.relay, metered_media, sys; print(metered_anyio.__file__)"
    assert str(python.parent.parent) in _run(python, code)


def test_importing_it_pulls_in_no_extra(python: Path) -> None:
    code = f"import metered_anyio, metered_anyio.relay, sys; print([name for name in {EXTRAS} if name in sys.modules])"
    assert _run(python, code) == "[]"


def test_none_of_the_extras_is_there(python: Path) -> None:
    code = f"from importlib.util import find_spec; print([name for name in {EXTRAS} if find_spec(name)])"
    assert _run(python, code) == "[]"


def test_it_works_without_extras(python: Path) -> None:
    code = """
import anyio
from metered_anyio import Message, SignallingClient
from metered_anyio.relay import RelayServer

async def main():
    async with RelayServer(keys=["pk_live_demo"]) as relay:
        async with SignallingClient(api_key="pk_live_demo", url=relay.url) as client:
            await client.publish("room/lobby", "hello")
            print(client.state)

anyio.run(main)
"""
    assert _run(python, code) == "connected"


def test_the_command_says_what_it_lacks(python: Path) -> None:
    done = subprocess.run([python.with_name("metered"), "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "pip install 'metered-sansio[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_of_media_are_entry_points(python: Path) -> None:
    code = """
from importlib.metadata import entry_points
print(sorted((each.name, each.module) for each in entry_points(group="metered.commands")))
"""
    found = _run(python, code)
    for name in ("bridge", "devices", "play", "record"):
        assert f"('{name}', 'metered_media.cli." in found


def test_media_says_what_it_lacks(python: Path) -> None:
    code = """
import metered_media
from metered_anyio import WebRtcMissingError
for name in ("record", "snapshot", "AudioSource", "from_file"):
    try:
        getattr(metered_media, name)
    except WebRtcMissingError as error:
        print(error)
"""
    assert _run(python, code).count("pip install 'metered-sansio[webrtc]'") == 4
