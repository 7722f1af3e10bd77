"""The core decides and does nothing else, and imports point one way."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from table_kit import each_row

ROOT = Path(__file__).parents[2]
PACKAGES = ("metered_proto", "metered_anyio", "metered_media")

CLOCKS_AND_WAITING = (
    "asyncio anyio trio sniffio time datetime sched threading concurrent multiprocessing queue selectors select signal"
)
THE_SYSTEM = "socket ssl os io pathlib subprocess tempfile shutil platform sys ctypes secrets uuid"
OUTPUT_AND_BACK_DOORS = "logging warnings importlib builtins inspect gc weakref contextvars"
FORBIDDEN = frozenset(f"{CLOCKS_AND_WAITING} {THE_SYSTEM} {OUTPUT_AND_BACK_DOORS}".split())
"""Modules of the standard library (and of the async world) that no file of the core may import."""

FORBIDDEN_CALLS = frozenset({"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint", "id"})
"""Builtins that act, get round the list above, or (`id`) differ from run to run."""

# What each part of the core may import of the core, and of what others wrote.
MACHINE_LEVEL = frozenset({"machine", "facts", "orders", "events", "errors", "entropy", "alarms", "latency"})
INTERNAL = {
    "machine": {"machine"},
    "wire": {"machine", "wire"},
    "settings": {"machine", "wire", "settings"},
    "bytes": {"machine", "wire", "bytes"},
    "client": {"machine", "wire", "settings", "client"},
    "relay": {"machine", "wire", "settings", "relay"},
    "rtc": {"machine", "wire", "settings", "rtc"},
    "room": {"machine", "wire", "settings", "client", "rtc", "room"},
    "replay": {"machine", "wire", "settings", "client", "relay", "rtc", "room", "replay"},
    "sim": {"machine", "wire", "settings", "client", "relay", "rtc", "room", "replay", "bytes", "sim"},
}
EXTERNAL = {"wire": {"msgspec", "jwt"}, "bytes": {"msgspec", "h11", "wsproto"}}
EXTERNAL_ANYWHERE = {"msgspec"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str | None:
    """The part of the core that a module belongs to; files beside the machine's own make up the byte layer."""
    names = module.split(".")
    if len(names) == 1:
        return None
    if (ROOT / names[0] / names[1]).is_dir():
        return names[1]
    if names[1] in MACHINE_LEVEL:
        return "machine"
    return names[1] if names[1] == "settings" else "bytes"


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All that a file is made of."""
    return tuple(ast.walk(ast.parse(path.read_text("utf-8"))))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a file imports, at its top or anywhere else."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(name for name in (base, node.module) if name)
            # `from package import module` names a module, `from module import name` a part of one.
            for alias in node.names:
                full = f"{module}.{alias.name}"
                exists = (ROOT / full.replace(".", "/")).is_dir() or (ROOT / (full.replace(".", "/") + ".py")).exists()
                yield node.lineno, full if exists else module


CORE = sources("metered_proto")
core = each_row("path", CORE, ids=[module_of(path) for path in CORE])


class TestTheCoreIsPure:
    def test_there_is_a_core(self) -> None:
        names = {module_of(path) for path in CORE}
        assert {f"metered_proto.{name}" for name in MACHINE_LEVEL} < names

    @core
    def test_it_imports_nothing_that_acts(self, path: Path) -> None:
        for line, name in imports(path):
            top = name.partition(".")[0]
            assert top not in FORBIDDEN, f"{path}:{line} imports {name}"
            assert top != "random" or module_of(path) == "metered_proto.entropy", f"{path}:{line} imports {name}"

    @core
    def test_it_calls_nothing_that_acts_and_never_waits(self, path: Path) -> None:
        for node in nodes(path):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, f"{path}:{node.lineno} calls {node.func.id}()"

    @core
    def test_it_depends_on_little(self, path: Path) -> None:
        allowed = EXTERNAL.get(part_of(module_of(path)) or "", EXTERNAL_ANYWHERE)
        for line, name in imports(path):
            top = name.partition(".")[0]
            assert top in {"metered_proto", *sys.stdlib_module_names, *allowed}, f"{path}:{line} imports {name}"


class TestImportsPointOneWay:
    @core
    def test_within_the_core(self, path: Path) -> None:
        part = part_of(module_of(path))
        if part is None:
            return
        assert part in INTERNAL, f"{path} is of a part that has no row in INTERNAL"
        for line, name in imports(path):
            if name.startswith("metered_proto."):
                assert part_of(name) in INTERNAL[part], f"{path}:{line} imports {name}"

    def test_client_and_relay_do_not_know_each_other(self) -> None:
        assert "relay" not in INTERNAL["client"]
        assert "client" not in INTERNAL["relay"]

    @pytest.mark.parametrize("package", PACKAGES)
    def test_between_the_packages(self, package: str) -> None:
        above = PACKAGES[PACKAGES.index(package) + 1 :]
        for path in sources(package):
            for line, name in imports(path):
                assert name.partition(".")[0] not in above, f"{path}:{line} imports {name}"


class TestTheTestItself:
    """A check that reads source must be able to find what it looks for."""

    def test_imports_are_found_wherever_they_are(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
        package = tmp_path / "metered_proto" / "wire"
        package.mkdir(parents=True)
        (package / "sdp.py").touch()
        path = package / "x.py"
        path.write_text(
            "import os.path\n"
            "from time import monotonic\n"
            "from . import sdp\n"
            "from .. import facts\n"
            "from ..client.session import ClientSession\n"
            "from metered_proto.wire import sdp\n"
            "def f():\n"
            "    import uuid as harmless\n"
        )
        assert sorted(imports(path)) == [
            (1, "os.path"),
            (2, "time"),
            (3, "metered_proto.wire.sdp"),
            (4, "metered_proto"),
            (5, "metered_proto.client.session"),
            (6, "metered_proto.wire.sdp"),
            (8, "uuid"),
        ]
        assert part_of("metered_proto.wire.x") == "wire"
        assert part_of("metered_proto.facts") == "machine"
        assert part_of("metered_proto.settings") == "settings"
        assert part_of("metered_proto.websocket") == "bytes"
        assert part_of("metered_proto") is None


def run(script: str, **environment: str) -> str:
    """Run a script in a fresh interpreter, unmeasured; return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env={**inherited, "PYTHONIOENCODING": "utf-8", **environment},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WATCH_IMPORTS = """
import sys

class Watch:
    asked = []
    def find_spec(self, name, path=None, target=None):
        self.asked.append(name.partition(".")[0])

sys.meta_path.insert(0, Watch())
"""


class TestWhatAnImportBrings:
    def test_the_adapter_brings_no_media_and_no_extras(self) -> None:
        """Even where they are not installed: that somebody asked for them is enough to fail."""
        asked = set(run(WATCH_IMPORTS + "import metered_anyio\nprint(*Watch.asked)").split())
        assert "metered_anyio" in asked
        assert not asked & {"aiortc", "av", "numpy", "PIL", "metered_media"}
        assert not asked & {"typer", "rich", "psutil"}

    def test_the_watch_sees_what_is_asked_for(self) -> None:
        script = "try:\n    import aiortc, av\nexcept ImportError:\n    pass\nprint(*Watch.asked)"
        assert "aiortc" in run(WATCH_IMPORTS + script).split()


CONVERSATION = """
import os, random, sys, time

import msgspec

from metered_proto.client import ClientSession, Connect, Publish, SendTo, Subscribe
from metered_proto.entropy import Entropy
from metered_proto.facts import Asked, EffectDone, LinkDown, LinkUp, Received, Woken
from metered_proto.orders import Begin, OpenLink
from metered_proto.settings import ClientSettings

WELCOME = '{"type":"welcome","peerId":"me","expiresAt":null,"serverTime":1,"maxMessageSize":65536}'


def converse():
    session = ClientSession(ClientSettings(api_key=None), Entropy("a seed"))
    now, log = 0, []

    def tell(fact):
        orders = session.handle(now, fact)
        log.append(msgspec.json.encode([now, fact, orders], enc_hook=repr).decode())
        return orders

    def one(orders, kind):
        [found] = [order for order in orders if isinstance(order, kind)]
        return found

    def online(orders):
        link = one(tell(EffectDone(one(orders, Begin).effect, "token")), OpenLink).link
        tell(LinkUp(link))
        tell(Received(link, [WELCOME]))
        return link

    link = online(tell(Asked(1, Connect())))
    for op, name in enumerate(("b", "a", "fleet/*/telemetry"), 2):
        tell(Asked(op, Subscribe(name)))
    tell(Asked(5, Publish.of("a", {"n": 1})))
    tell(Asked(6, SendTo.of("you", None)))
    tell(Received(link, ['{"type":"message","channel":"a","from":"you","data":[1]}', "rubbish", b"binary"]))
    tell(LinkDown(link, 1006))
    for _ in range(3):  # the token provider is asked again after each wait, and fails
        now = session.deadline.at
        tell(EffectDone(one(tell(Woken()), Begin).effect, None, OSError("no network")))
    now = session.deadline.at
    online(tell(Woken()))
    for _ in range(20):  # the replayed subscriptions get no answer, and then nothing is heard at all
        now = session.deadline.at
        tell(Woken())
    return log


class Called(Exception):
    pass


def forbidden(*args, **kwargs):
    raise Called


def sentry(event, args):
    if guarded and (event == "open" or event.partition(".")[0] in ("os", "socket", "subprocess", "shutil")):
        raise Called(event)


guarded = False
first = converse()  # what Python imports lazily is there from now on
for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"):
    setattr(time, name, forbidden)
for module, name in ((os, "urandom"), (os, "getpid"), (random, "_urandom"), (random, "random"), (random, "uniform")):
    setattr(module, name, forbidden)
sys.addaudithook(sentry)
guarded = True
for act in (time.monotonic, lambda: os.urandom(1), lambda: random.SystemRandom().random(), lambda: open("x")):
    try:
        act()
    except Called:
        continue
    raise SystemExit("the guard does not hold")
second = converse()
guarded = False
assert first == second
assert len(first) > 30
sys.stdout.write("\\n".join(first))
"""


class TestAConversation:
    def test_no_clock_no_system_and_the_same_every_time(self) -> None:
        """With clocks, system randomness, files and sockets taken away, a session says the same to the letter.

        The two runs differ in the seed of string hashes, so nothing may depend on the order of a set either.
        """
        one = run(CONVERSATION, PYTHONHASHSEED="1")
        two = run(CONVERSATION, PYTHONHASHSEED="2")
        assert one == two
        assert '"is_reconnect":true' in one
        assert '"consecutive_failures":3' in one
