"""The outbox's file: what it takes in it gives back, whatever happened to it in between."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metered_anyio import outbox_store
from metered_anyio.outbox_store import MemoryStore, Salvage, SqliteStore, open_store
from metered_proto.client.outbox import Entry, Loaded
from metered_proto.errors import OutboxStoreError
from metered_proto.settings import Outbox

BOX = "0123456789abcdef"


class Log:
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[tuple[str, Any]] = []

    def warning(self, msg: str, ctx: Any = None, /) -> None:
        self.warnings.append((msg, ctx))

    debug = info = error = warning


class Files:
    """Stores on one file, one after the other, on a clock that stands still."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = Log()
        self.clock = 1_700_000_000.0
        self.opened: list[SqliteStore] = []

    def store(self) -> SqliteStore:
        store = SqliteStore(self.path, self.log, wall=lambda: self.clock)
        self.opened.append(store)
        return store

    def open(self) -> tuple[SqliteStore, Loaded]:
        store = self.store()
        return store, store.load()

    def reopen(self) -> Loaded:
        """What a new process would find."""
        for store in self.opened:
            store.close()
        return self.open()[1]

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = Files(tmp_path / "outbox.db")
    yield files
    for store in files.opened:
        store.close()


def entry(key: int, *, channel: str = "c", data: bytes = b'{"n":1}', outbox: str = BOX, id: str = "") -> Entry:
    return Entry.of(key, outbox, key, channel, id or f"{outbox}-{key}", data, 0)


def fill(files: Files, *keys: int, data: bytes = b'{"n":1}') -> None:
    """Make the file, with these entries, and close it."""
    store, _ = files.open()
    store.keep_many([entry(key, data=data) for key in keys])
    store.close()


class TestWhatIsKept:
    def test_a_new_file_is_empty(self, files: Files) -> None:
        _, loaded = files.open()
        assert loaded == Loaded(durable=True)
        assert files.log.warnings == []

    def test_entries_come_back_as_they_were(self, files: Files) -> None:
        store, _ = files.open()
        kept = [entry(1), entry(2, channel="é/d", data=b'"\xc3\xa9"', id="mine \u2713"), entry(7, data=b"{}")]
        store.keep(kept[0])
        store.keep_many(kept[1:])
        loaded = files.reopen()
        assert loaded == Loaded(tuple(kept), 8, BOX, {"c": 7, "é/d": 2}, 0, durable=True)

    def test_their_age_is_told_by_the_systems_clock(self, files: Files) -> None:
        fill(files, 1)
        files.clock += 2.5
        assert files.reopen().entries[0].born == -2_500_000

    def test_what_was_forgotten_does_not(self, files: Files) -> None:
        store, _ = files.open()
        store.keep_many([entry(1), entry(2), entry(3)])
        store.forget((1, 3))
        loaded = files.reopen()
        assert [one.key for one in loaded.entries] == [2]

    def test_no_key_is_used_twice_even_if_all_is_forgotten(self, files: Files) -> None:
        store, _ = files.open()
        store.keep_many([entry(1), entry(2)])
        store.forget((1, 2))
        loaded = files.reopen()
        assert loaded == Loaded((), 3, BOX, {"c": 2}, 0, durable=True)

    def test_attempts(self, files: Files) -> None:
        store, _ = files.open()
        store.attempted(256)
        assert files.reopen().attempted_through == 256

    def test_a_new_outbox_begins_new_sequences(self, files: Files) -> None:
        store, _ = files.open()
        store.keep_many([entry(1, channel="a"), entry(2, channel="b")])
        store.keep_many([entry(3, channel="a", outbox="another")])
        loaded = files.reopen()
        assert (loaded.outbox, loaded.sequences) == ("another", {"a": 3})
        assert [one.outbox for one in loaded.entries] == [BOX, BOX, "another"]

    def test_every_path_will_do(self, tmp_path: Path) -> None:
        for path in (str(tmp_path / "a.db"), tmp_path / "a.db"):
            store = open_store(Outbox(path=path))
            assert isinstance(store, SqliteStore)
            assert store.load().durable
            store.close()
            store.close()

    def test_a_store_may_be_loaded_again_after_it_was_closed(self, files: Files) -> None:
        store, _ = files.open()
        store.keep(entry(1))
        store.close()
        assert store.load().next_key == 2


class TestWithoutWaiting:
    def test_forgetting_can_be_put_off(self, files: Files) -> None:
        store, _ = files.open()
        store.keep_many([entry(1), entry(2)])
        store.forget((1,))
        assert count(store) == 2
        store.tidy()
        assert count(store) == 1
        store.tidy()

    def test_but_not_for_ever(self, files: Files) -> None:
        store, _ = files.open()
        store.keep_many([entry(key) for key in range(1, 300)])
        for key in range(1, 300):
            store.forget((key,))
        assert count(store) == 299 - outbox_store.FORGET_AT_ONCE

    def test_it_goes_along_with_the_next_entry(self, files: Files) -> None:
        store, _ = files.open()
        store.keep(entry(1))
        store.forget((1,))
        store.keep(entry(2))
        assert count(store) == 1

    def test_only_what_nobody_was_promised_is_not_synced(self, files: Files) -> None:
        store, _ = files.open()
        connection = store._connection
        assert connection is not None
        levels: list[int] = []
        connection.set_trace_callback(
            lambda sql: levels.append(-1) if sql.startswith("PRAGMA synchronous") else levels.append(0)
        )
        store.keep(entry(1))
        store.attempted(1)
        assert -1 not in levels
        store.forget((1,))
        store.tidy()
        assert levels.count(-1) == 2
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def count(store: SqliteStore) -> int:
    assert store._connection is not None
    [(number,)] = store._connection.execute("SELECT count(*) FROM entries").fetchall()
    return int(number)


class TestOneAtATime:
    def test_another_store_in_this_process(self, files: Files) -> None:
        store, _ = files.open()
        with pytest.raises(OutboxStoreError) as caught:
            files.open()
        assert caught.value.code == "in_use"
        store.keep(entry(1))
        store.close()
        assert files.open()[1].next_key == 2

    def test_another_process(self, files: Files) -> None:
        script = (
            "import sys; from metered_anyio.outbox_store import SqliteStore\n"
            "store = SqliteStore(sys.argv[1]); store.load(); print('open', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, str(files.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "open\n"
            with pytest.raises(OutboxStoreError) as caught:
                files.open()
            assert (caught.value.code, caught.value.path) == ("in_use", str(files.path))
            other.kill()
        assert files.open()[1].durable

    def test_somebody_who_looks_at_the_file_with_a_tool(self, files: Files) -> None:
        fill(files, 1)
        with closing(sqlite3.connect(files.path)) as tool:
            tool.execute("BEGIN IMMEDIATE")
            with pytest.raises(OutboxStoreError) as caught:
                files.open()
            assert caught.value.code == "in_use"
        assert [one.key for one in files.open()[1].entries] == [1]


class TestFilesThatAreNotOurs:
    def test_a_later_version(self, files: Files) -> None:
        fill(files, 1)
        with closing(sqlite3.connect(files.path)) as tool:
            tool.execute("PRAGMA user_version = 2")
        before = files.path.read_bytes()
        with pytest.raises(OutboxStoreError) as caught:
            files.open()
        assert caught.value.code == "newer_schema"
        assert files.path.read_bytes() == before
        assert not files.beside(".damaged-1").exists()

    def test_another_programs_database(self, files: Files) -> None:
        with closing(sqlite3.connect(files.path)) as tool:
            tool.execute("CREATE TABLE bookmarks (url TEXT)")
        before = files.path.read_bytes()
        with pytest.raises(OutboxStoreError) as caught:
            files.open()
        assert caught.value.code == "foreign"
        assert files.path.read_bytes() == before

    def test_an_empty_file_and_an_empty_database_are_new(self, files: Files) -> None:
        files.path.touch()
        assert files.open()[1] == Loaded(durable=True)
        assert files.reopen() == Loaded(durable=True)
        assert files.log.warnings == []

    def test_no_such_directory(self, tmp_path: Path) -> None:
        with pytest.raises(OutboxStoreError) as caught:
            SqliteStore(tmp_path / "none" / "outbox.db").load()
        assert (caught.value.code, caught.value.reason) == ("failed", "No such file or directory")

    def test_a_directory(self, tmp_path: Path) -> None:
        store = SqliteStore(tmp_path)
        with pytest.raises(OutboxStoreError) as caught:
            store.load()
        assert caught.value.code == "failed"
        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize(("number", "code"), [(13, "read_only"), (30, "read_only"), (28, "full"), (5, "failed")])
    def test_a_system_that_refuses(self, files: Files, monkeypatch: pytest.MonkeyPatch, number: int, code: str) -> None:
        def refuse(*_: Any) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(OutboxStoreError) as caught:
            files.store().load()
        assert caught.value.code == code


class TestADiskThatIsFull:
    def test_an_entry_that_finds_no_room_is_an_error_and_the_others_stay(self, files: Files) -> None:
        store, _ = files.open()
        store.keep(entry(1))
        assert store._connection is not None
        store._connection.execute("PRAGMA max_page_count = 12").fetchall()
        large = b'"' + b"x" * 60_000 + b'"'
        with pytest.raises(OutboxStoreError) as caught:
            store.keep_many([entry(2), entry(3, data=large)])
        assert caught.value.code == "full"
        store.keep(entry(4))
        assert [one.key for one in files.reopen().entries] == [1, 4]

    def test_a_file_that_may_not_be_written(self, files: Files) -> None:
        store, _ = files.open()
        assert store._connection is not None
        store._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(OutboxStoreError) as caught:
            store.keep(entry(1))
        assert caught.value.code == "read_only"

    def test_notes_that_cannot_be_taken_are_warned_about_and_made_up_for(self, files: Files) -> None:
        store, _ = files.open()
        store.keep_many([entry(1), entry(2)])
        assert store._connection is not None
        store._connection.execute("PRAGMA query_only = ON")
        for _ in range(5):
            store.attempted(9)
        store.forget((1,))
        store.tidy()
        assert [context["failures"] for _, context in files.log.warnings] == [1, 2, 4]
        assert files.log.warnings[0][1]["code"] == "read_only"
        store._connection.execute("PRAGMA query_only = OFF")
        store.tidy()
        loaded = files.reopen()
        assert ([one.key for one in loaded.entries], loaded.attempted_through) == ([2], 9)

    def test_the_same_key_twice_is_refused(self, files: Files) -> None:
        store, _ = files.open()
        store.keep(entry(1))
        with pytest.raises(OutboxStoreError) as caught:
            store.keep_many([entry(2), entry(1)])
        assert caught.value.code == "failed"
        assert [one.key for one in files.reopen().entries] == [1]

    def test_a_closed_store(self, files: Files) -> None:
        store, _ = files.open()
        store.close()
        with pytest.raises(OutboxStoreError) as caught:
            store.keep(entry(1))
        assert caught.value.code == "closed"
        store.attempted(3)
        store.forget((1,))
        store.tidy()
        assert files.log.warnings[0][1]["code"] == "closed"


# --- damage -------------------------------------------------------------------------------------------------


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as tool:
        for statement in statements:
            tool.execute(statement)
        tool.commit()


class TestDamage:
    def test_no_database_at_all_is_set_aside(self, files: Files) -> None:
        files.path.write_bytes(b"this is a shopping list, and no database\n" * 100)
        store, loaded = files.open()
        assert loaded == Loaded(durable=True)
        aside = files.beside(".damaged-1")
        assert store.salvage == Salvage(aside, 0, 0)
        assert aside.read_bytes().startswith(b"this is a shopping list")
        [(message, context)] = files.log.warnings
        assert message.startswith("the outbox's file was damaged: ")
        assert context == {"set_aside": str(aside), "kept": 0, "unreadable": 0}
        store.keep(entry(1))
        assert [one.key for one in files.reopen().entries] == [1]

    def test_a_bad_page_costs_what_is_on_it(self, files: Files) -> None:
        """Nine messages to a page or so, a page in the middle gone."""
        fill(files, *range(1, 201), data=b'"' + b"x" * 400 + b'"')
        pages = files.path.stat().st_size // 4096
        overwrite(files.path, pages // 2 * 4096, os.urandom(4096))
        store, loaded = files.open()
        keys = [one.key for one in loaded.entries]
        assert 180 <= len(keys) < 200
        assert keys == sorted(keys)
        assert keys[0] == 1
        assert keys[-1] == 200
        assert store.salvage is not None
        assert store.salvage.kept == len(keys)
        # As nobody knows what was sent of it, all of it is marked; and nothing goes on from old numbers.
        assert (loaded.attempted_through, loaded.outbox, loaded.sequences) == (200, None, {})
        assert loaded.next_key == 201
        assert all(one == entry(one.key, data=b'"' + b"x" * 400 + b'"') for one in loaded.entries)
        # And it is over with that.
        assert files.reopen().entries == loaded.entries
        assert len(files.log.warnings) == 1

    def test_ages_outlive_it(self, files: Files) -> None:
        fill(files, 1, 2)
        files.clock += 3
        execute(files.path, "UPDATE entries SET data = 'bad' WHERE key = 2")
        assert [one.born for one in files.open()[1].entries] == [-3_000_000]
        files.clock += 1
        assert [one.born for one in files.reopen().entries] == [-4_000_000]

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE entries SET data = 'text' WHERE key = 2",
            "UPDATE entries SET data = x'7b' WHERE key = 2",
            "UPDATE entries SET data = x'22ff22' WHERE key = 2",
            """UPDATE entries SET data = CAST('{"__meteredOutbox":1}' AS BLOB) WHERE key = 2""",
            "UPDATE entries SET at = 'yesterday' WHERE key = 2",
            "UPDATE entries SET seq = 'one' WHERE key = 2",
            "UPDATE entries SET seq = -1 WHERE key = 2",
            "UPDATE entries SET channel = '' WHERE key = 2",
            "UPDATE entries SET channel = CAST(x'ff' AS TEXT) WHERE key = 2",
            "UPDATE entries SET id = CAST(x'ff' AS TEXT) WHERE key = 2",
            "UPDATE entries SET id = '' WHERE key = 2",
            "UPDATE entries SET outbox = CAST(x'ff' AS TEXT) WHERE key = 2",
            "UPDATE entries SET key = -2 WHERE key = 2",
        ],
    )
    def test_a_row_that_makes_no_sense_is_left_out(self, files: Files, statement: str) -> None:
        fill(files, 1, 2, 3)
        execute(files.path, statement)
        store, loaded = files.open()
        assert [one.key for one in loaded.entries] == [1, 3]
        assert store.salvage == Salvage(files.beside(".damaged-1"), 2, 1)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE sequences SET seq = 'many'",
            "UPDATE sequences SET channel = ''",
            "UPDATE state SET value = x'ff' WHERE name = 'outbox'",
            "UPDATE state SET value = 3.5 WHERE name = 'outbox'",
            "INSERT INTO state VALUES ('attempted', 'some')",
            "UPDATE sqlite_sequence SET seq = 'x'",
            "DROP TABLE state",
            "DROP TABLE sequences",
            "PRAGMA user_version = 1234567",
            "PRAGMA user_version = 0",
            "PRAGMA application_id = 99",
        ],
    )
    def test_what_stands_beside_the_rows_costs_none(self, files: Files, statement: str) -> None:
        fill(files, 1, 2, 3)
        execute(files.path, statement)
        store, loaded = files.open()
        assert [one.key for one in loaded.entries] == [1, 2, 3]
        assert (loaded.outbox, loaded.attempted_through) == (None, 3)
        assert store.salvage is not None

    def test_a_truncated_file(self, files: Files) -> None:
        fill(files, *range(1, 201), data=b'"' + b"x" * 400 + b'"')
        os.truncate(files.path, files.path.stat().st_size // 2)
        _, loaded = files.open()
        assert loaded.entries
        assert loaded.entries[0].key == 1
        assert loaded.durable

    def test_any_byte_may_be_wrong(self, files: Files, tmp_path: Path) -> None:
        """Damage all over a file, a page at a time: it always opens, and never invents anything."""
        data = b'"' + b"x" * 200 + b'"'
        fill(files, *range(1, 61), data=data)
        good = files.path.read_bytes()
        for number, at in enumerate(range(0, len(good), 997)):
            other = Files(tmp_path / f"copy{number}.db")
            other.path.write_bytes(good[:at] + bytes(255 - byte for byte in good[at : at + 40]) + good[at + 40 :])
            store, loaded = other.open()
            assert {one.key for one in loaded.entries} <= set(range(1, 61))
            assert len(loaded.entries) >= 40 or at < 4096
            store.keep(entry(loaded.next_key))
            store.close()

    def test_the_log_beside_it_goes_with_it(self, files: Files) -> None:
        """A process died when all that was left to do was to exchange the files."""
        rescued = Files(files.beside(".salvage"))
        fill(rescued, 1)
        files.path.write_bytes(b"no database" * 1000)
        files.beside("-wal").write_bytes(b"no log")
        assert [one.key for one in files.open()[1].entries] == [1]
        assert files.beside(".damaged-1").read_bytes().startswith(b"no database")
        assert files.beside(".damaged-1-wal").read_bytes() == b"no log"
        [(message, context)] = files.log.warnings
        assert "interrupted" in message
        assert context == {"set_aside": str(files.beside(".damaged-1"))}

    def test_only_so_many_are_set_aside(self, files: Files) -> None:
        for number in range(1, 13):
            files.path.write_bytes(b"damage %d " % number * 100)
            store, _ = files.open()
            store.close()
        asides = sorted(path.name for path in files.path.parent.glob("*.damaged-*"))
        assert asides == [f"outbox.db.damaged-{number}" for number in range(1, 10)]
        assert files.beside(".damaged-9").read_bytes().startswith(b"damage 12")

    @pytest.mark.parametrize("renames", [0, 1, 2])
    def test_a_rescue_that_was_interrupted(self, files: Files, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
        """The process dies between any two of the steps in which the files are exchanged."""
        fill(files, 1, 2, 3)
        execute(files.path, "UPDATE entries SET data = 'bad' WHERE key = 2")

        class PowerCut(BaseException):
            pass

        replace = os.replace
        left = [renames]

        def failing(source: Any, target: Any) -> None:
            if os.path.exists(source):
                if not left[0]:
                    raise PowerCut
                left[0] -= 1
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", failing)
            store = files.store()
            if renames < 2:
                with pytest.raises(PowerCut):
                    store.load()
            else:
                store.load()
            store._let_go()
        store, loaded = files.open()
        assert [one.key for one in loaded.entries] == [1, 3]
        assert loaded.attempted_through == 3
        assert files.beside(".damaged-1").exists()
        assert not files.beside(".salvage").exists()

    def test_a_rescue_that_did_not_get_far_begins_again(self, files: Files) -> None:
        fill(files, 1, 2)
        for remains in (b"", b"SQLite format 3\0" + bytes(84), b"rubbish" * 1000):
            files.beside(".salvage").write_bytes(remains)
            files.beside(".salvage-journal").write_bytes(b"x")
            assert [one.key for one in files.reopen().entries] == [1, 2]
            assert not files.beside(".salvage").exists()
            assert not files.beside(".salvage-journal").exists()
        assert files.log.warnings == []


class TestSize:
    def test_after_heavy_use_the_file_is_small_again(self, files: Files) -> None:
        store, _ = files.open()
        data = b'"' + b"x" * 1000 + b'"'
        high = 0
        key = 0
        for _ in range(4):
            keys = range(key + 1, key + 3001)
            store.keep_many([entry(one, data=data) for one in keys])
            key = keys[-1]
            high = max(high, files.path.stat().st_size)
            for one in keys:
                store.forget((one,))
            store.tidy()
        assert high > 3_000_000
        assert files.beside("-wal").stat().st_size <= 3 * outbox_store.LOG_BYTES
        assert count(store) == 0
        store.close()
        assert files.path.stat().st_size <= (outbox_store.SPARE_PAGES + 16) * 4096
        assert not files.beside("-wal").exists()

    def test_the_log_stays_within_bounds_while_it_is_in_use(self, files: Files) -> None:
        store, _ = files.open()
        sizes = []
        for key in range(1, 1500):
            store.keep(entry(key))
            store.forget((key,))
            sizes.append(files.beside("-wal").stat().st_size)
        assert max(sizes) <= 2 * outbox_store.LOG_BYTES
        assert files.path.stat().st_size < 1_000_000


class TestInMemory:
    def test_there_is_nothing_to_it(self) -> None:
        store = open_store(Outbox())
        assert isinstance(store, MemoryStore)
        assert store.load() == Loaded()
        calls: list[Callable[[], None]] = [
            lambda: store.keep(entry(1)),
            lambda: store.keep_many([entry(2)]),
            lambda: store.forget((1,)),
            lambda: store.attempted(1),
            store.tidy,
            store.close,
        ]
        for call in calls:
            call()
        assert store.load() == Loaded()


def test_an_entry_from_the_file_is_sized_as_a_new_one(files: Files) -> None:
    fill(files, 1)
    [one] = files.open()[1].entries
    assert msgspec.structs.asdict(one) == msgspec.structs.asdict(entry(1))
