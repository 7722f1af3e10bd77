"""Crashes: whatever moment the process or the power goes, what was accepted is there, in order, and repeats are marked.

A crash of the process leaves the files as they were written so far. A power cut leaves of what was written since the
last sync any part: here, every mixture of the old and the new bytes that begins with the new ones, and some with holes.
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from metered_anyio import outbox_store
from metered_anyio.outbox_store import SqliteStore
from metered_proto.client.envelope import unseal
from metered_proto.client.outbox import Attempted, Enqueue, Entry, Forget, OutboxQueue
from metered_proto.entropy import Entropy
from metered_proto.facts import Asked, LinkDown, Woken
from metered_proto.machine import SECOND
from metered_proto.orders import Order, Send
from metered_proto.settings import BatchOptions, Outbox

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "outbox_kills.py"


class Device:
    """A device that writes down, beside its files, what it has promised to whom."""

    def __init__(self, path: Path, seed: int, *, batch: bool = False) -> None:
        self.path = path
        self.random = random.Random(seed)
        self.store = SqliteStore(path)
        options = Outbox(rate=None, window=5, batch=BatchOptions(max_messages=3) if batch else None, max_messages=1000)
        self.queue = OutboxQueue(options, Entropy(seed), self.store.load())
        self.now = 0
        self.link = 0
        self.accepted: list[Entry] = []
        self.acked: set[int] = set()
        self.sent: set[int] = set()
        self.in_flight: dict[str, list[int]] = {}
        self.key_of: dict[str, int] = {}

    def work(self, steps: int) -> Iterator[str]:
        """Yields after every write, what the write was."""
        for _ in range(steps):
            self.now += SECOND // 4
            match self.random.randrange(12):
                case 0 | 1 | 2 | 3:
                    yield from self.enqueue()
                case 4 | 5 | 6 if self.in_flight:
                    request_id = self.random.choice(list(self.in_flight)[:2])
                    self.acked.update(self.in_flight.pop(request_id))
                    yield from self.carry_out(self.queue.settled(self.now, request_id, None))
                case 7:
                    self.store.tidy()
                    yield "tidy"
                case 8:
                    self.in_flight.clear()
                    yield from self.carry_out(self.queue.handle(self.now, LinkDown(self.link, 1006)))
                case 9:
                    yield from self.carry_out(self.queue.handle(self.now, Woken()))
                case _ if not self.in_flight:
                    self.link += 1
                    yield from self.carry_out(self.queue.opened(self.now, self.link, 65_536))

    def enqueue(self) -> Iterator[str]:
        number = len(self.accepted) + 1
        data = b'{"n":%d,"x":"%b"}' % (number, b"x" * self.random.choice([1, 100, 3000]))
        entry = self.queue.draft(self.now, self.random.choice("ab"), data)
        assert isinstance(entry, Entry)
        self.store.keep(entry)
        self.accepted.append(entry)
        self.key_of[entry.id] = entry.key
        yield "keep"
        yield from self.carry_out(self.queue.handle(self.now, Asked(number, Enqueue(entry))))

    def carry_out(self, orders: list[Order]) -> Iterator[str]:
        for order in orders:
            match order:
                case Attempted(through):
                    self.store.attempted(through)
                    yield "attempted"
                case Send(_, payload):
                    frame = msgspec.json.decode(payload)
                    keys = [self.key_of[one.id] for one in unseal(frame["data"]) or []]
                    self.sent.update(keys)
                    self.in_flight[frame["requestId"]] = keys
                case Forget(keys):
                    self.store.forget(keys)
                    yield "forget"
                case _:
                    pass

    def check(self, recovered: Path) -> int:
        """Hold what a new process finds against what was promised; returns how many messages it finds."""
        store = SqliteStore(recovered)
        loaded = store.load()
        assert store.salvage is None, "a crash is no damage"
        found = {entry.key: entry for entry in loaded.entries}
        assert list(found) == sorted(found)
        promised = {entry.key: entry for entry in self.accepted}
        assert set(promised) - self.acked <= set(found) <= set(promised)
        for key, entry in found.items():
            assert msgspec.structs.replace(promised[key], born=0) == msgspec.structs.replace(entry, born=0)
            # What may have been sent will be sent as redelivered.
            assert key not in self.sent or key <= loaded.attempted_through
        last = {entry.channel: entry.seq for entry in self.accepted}
        assert loaded.sequences == last
        assert loaded.next_key == len(self.accepted) + 1
        store.close()
        return len(found)


class Files:
    """The bytes of a database and of the log beside it."""

    def __init__(self, path: Path) -> None:
        self.base = path.read_bytes()
        wal = path.with_name(path.name + "-wal")
        self.wal = wal.read_bytes() if wal.exists() else b""

    def write(self, path: Path, wal: bytes | None = None) -> None:
        path.write_bytes(self.base)
        path.with_name(path.name + "-wal").write_bytes(self.wal if wal is None else wal)


@pytest.fixture
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fold the log into the file often, so that crashes around it come up too."""
    monkeypatch.setattr(outbox_store, "LOG_BYTES", 16 * 4096)


@pytest.mark.usefixtures("small_log")
class TestEveryCrashPoint:
    @pytest.mark.parametrize("batch", [False, True])
    def test_the_process_dies_after_any_write(self, tmp_path: Path, batch: bool) -> None:
        device = Device(tmp_path / "outbox.db", seed=7, batch=batch)
        kinds: dict[str, int] = {}
        folded = 0
        before = b""
        found = 0
        for number, kind in enumerate(device.work(300)):
            files = Files(device.path)
            copy = tmp_path / f"crash{number}.db"
            files.write(copy)
            found = max(found, device.check(copy))
            kinds[kind] = kinds.get(kind, 0) + 1
            folded += files.base != before
            before = files.base
        device.store.close()
        assert min(kinds.get(kind, 0) for kind in ("keep", "forget", "tidy")) > 15, kinds
        assert kinds["attempted"] >= 1
        assert folded > 5
        assert found > 10
        assert len(device.acked) > 20

    def test_the_power_goes_while_what_was_written_is_not_synced(self, tmp_path: Path) -> None:
        """`keep` and `attempted` have synced everything before them; what `tidy` wrote may be there in part."""
        device = Device(tmp_path / "outbox.db", seed=11)
        cuts = random.Random(3)
        synced = Files(device.path)
        torn = 0
        for number, kind in enumerate(device.work(400)):
            files = Files(device.path)
            if kind in ("keep", "attempted") or files.base != synced.base:
                synced = files  # folding the log into the file syncs both
                continue
            old, new = synced.wal.ljust(len(files.wal), b"\0"), files.wal
            written = [at for at in range(len(new)) if old[at] != new[at]]
            for cut in range(20 if written else 0):
                at = cuts.choice(written)
                hole = min(at + cuts.choice([1, 512, 4096, len(new)]), len(new))
                wal = new[:at] + old[at:hole] + new[hole:] if cut else synced.wal
                torn += wal != new
                copy = tmp_path / f"cut{number}-{cut}.db"
                files.write(copy, wal)
                device.check(copy)
        device.store.close()
        assert torn > 100


class TestKills:
    def test_forty_of_them(self) -> None:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), "--kills", "40", "--longest", "0.1", "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=SCRIPT.parents[1],
        )
        assert done.returncode == 0, done.stdout + done.stderr
        figures = json.loads(done.stdout)
        assert figures["kills"] == 40
        assert figures["accepted"] > 0
        assert figures["repeats"] > 5
        assert [figures[what] for what in ("lost", "unmarked_repeats", "out_of_order", "gaps")] == [0, 0, 0, 0]

    def test_the_judge_finds_what_is_wrong(self, tmp_path: Path) -> None:
        judge = script().judge
        device = Device(tmp_path / "outbox.db", seed=1)
        lines: list[bytes] = []
        for n in range(1, 4):
            entry = device.queue.draft(0, "fleet/a/log", b'{"n":%d}' % n)
            assert isinstance(entry, Entry)
            device.queue.handle(0, Asked(n, Enqueue(entry)))
        for link in (1, 2):
            orders = device.queue.opened(0, link, 65_536)
            lines += [order.payload for order in orders if isinstance(order, Send)]
            device.queue.handle(0, LinkDown(link, 1006))
        device.store.close()
        (tmp_path / "accepted").write_text("1\n2\n3\n")

        def verdict(*which: int) -> dict[str, int]:
            (tmp_path / "relay").write_bytes(b"\n".join(lines[at] for at in which))
            figures: dict[str, int] = judge(tmp_path)
            return {what: count for what, count in figures.items() if count and what != "accepted"}

        assert verdict(0, 1, 2) == {}
        assert verdict(0, 1, 2, 3, 4, 5) == {"repeats": 3}
        assert verdict(0, 1) == {"lost": 1}
        assert verdict(0, 2) == {"lost": 1, "gaps": 1}
        assert verdict(0, 1, 2, 1) == {"repeats": 1, "unmarked_repeats": 1}
        assert verdict(1, 0, 2) == {"out_of_order": 1}


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("outbox_kills", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
