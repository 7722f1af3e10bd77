"""Where an outbox keeps its messages: in memory only, or in a file that outlives the process.

A store does what the outbox's machine orders and decides nothing. `keep` is called before a message is enqueued and
raises where it cannot be kept; nothing else raises once a store is loaded, for nobody called it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from metered_anyio.logger import Logger, NoopLogger
from metered_proto.client.envelope import check_data, check_message_id
from metered_proto.client.outbox import Entry, Loaded
from metered_proto.errors import OutboxStoreError
from metered_proto.settings import Outbox
from metered_proto.wire.channels import check_channel


class OutboxStore(Protocol):
    """What an outbox needs of a store."""

    def load(self) -> Loaded:
        """Open the store, and say what is in it. Called once, before everything else."""
        ...

    def keep(self, entry: Entry) -> None:
        """Take in one entry: it is as safe as it gets when this returns. Raises `OutboxStoreError`."""
        ...

    def keep_many(self, entries: Sequence[Entry]) -> None:
        """Take in all of several entries, or none. Raises `OutboxStoreError`."""
        ...

    def forget(self, keys: Sequence[int]) -> None:
        """Entries have ended. The store may put it off until `tidy`."""
        ...

    def attempted(self, through: int) -> None:
        """Every entry up to this key may have been sent: as safe as it gets when this returns."""
        ...

    def tidy(self) -> None:
        """Do what was put off. To be called when there is a moment, such as the end of a pass of the event loop."""
        ...

    def close(self) -> None:
        """Let go of whatever the store holds open."""
        ...


def open_store(options: Outbox, logger: Logger | None = None) -> OutboxStore:
    """The store that the options ask for, not loaded yet."""
    return MemoryStore() if options.path is None else SqliteStore(options.path, logger)


class MemoryStore:
    """Keeps nothing beyond what the machine holds itself."""

    def load(self) -> Loaded:
        """Nothing is left of an earlier run."""
        return Loaded()

    def keep(self, entry: Entry) -> None:
        """The machine has it."""

    def keep_many(self, entries: Sequence[Entry]) -> None:
        """The machine has them."""

    def forget(self, keys: Sequence[int]) -> None:
        """The machine has forgotten them itself."""

    def attempted(self, through: int) -> None:
        """The machine knows."""

    def tidy(self) -> None:
        """There is nothing to do."""

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True, slots=True)
class Salvage:
    """A damaged file was found, and what could be read of it is in the store."""

    set_aside: Path
    """Where the damaged file is now."""
    kept: int
    """How many entries were rescued."""
    unreadable: int
    """How many entries were seen to be there but could not be read. More may be lost that left no trace."""


class SqliteStore:
    """Keeps entries in an SQLite database.

    What is safe when. The file is in WAL mode: a commit appends to the write-ahead log, and how much of the log is
    on the disk is the question of `synchronous`.

    - `keep` and `attempted` commit with FULL: the log is synced before they return, so they hold after SIGKILL and
      after a power cut. With NORMAL a power cut could take the last commits back: messages that were accepted
      would be gone, or messages that were sent would look as if they had not been.
    - `forget` commits with NORMAL, without a sync and many at a time. Killing the process undoes at most what waits
      for `tidy`, a power cut a little more, and all it means is that acknowledged messages are sent once more, marked.

    One process at a time has the file: it holds a lock on `<path>.lock`, which the system lets go of when the process
    dies, however it dies. A second one gets `OutboxStoreError("in_use")`; a file of a later version `newer_schema`,
    and another program's database `foreign`. A file that is damaged, or is no database at all, is renamed to
    `<path>.damaged-<n>`; what can be read of it goes into a new file, everything marked as attempted, and a warning
    is logged.

    The file shrinks again when what was in it is forgotten, and the log beside it stays within a few MiB.
    """

    def __init__(
        self, path: str | os.PathLike[str], logger: Logger | None = None, *, wall: Callable[[], float] = time.time
    ) -> None:
        """`wall` is the system's clock, in unix seconds: ages have to be told across restarts."""
        self._connection: sqlite3.Connection | None = None
        self._path = Path(path)
        self._logger: Logger = NoopLogger() if logger is None else logger
        self._wall = wall
        self._lock_file: BinaryIO | None = None
        self._outbox: str | None = None  # whose numbering the file has
        self._forgotten: list[int] = []  # not deleted yet
        self._freed = 0  # deleted since the file was last made smaller
        self._attempted = 0  # not written yet, or 0
        self._failures = 0
        self.salvage: Salvage | None = None
        """What `load` had to rescue, if it had to."""

    def load(self) -> Loaded:
        """Open the file, or make it. Raises `OutboxStoreError`, but not for damage."""
        assert self._lock_file is None, "a store is loaded once"
        try:
            self._lock()
            self._finish_salvage()
            try:
                return self._open()
            except _DamageError as damage:
                self._rescue(damage)
                return self._open()
        except (OSError, sqlite3.Error) as error:
            self._let_go()
            raise self._problem(error) from error
        except OutboxStoreError:
            self._let_go()
            raise

    def keep(self, entry: Entry) -> None:
        """Take in one entry, for good. Raises `OutboxStoreError`, and then has not taken it in."""
        self.keep_many((entry,))

    def keep_many(self, entries: Sequence[Entry]) -> None:
        """Take in all of several entries with one sync. Raises `OutboxStoreError`, and then has taken in none."""
        try:
            self._write(entries)
        except sqlite3.Error as error:
            raise self._problem(error) from error

    def forget(self, keys: Sequence[int]) -> None:
        """Entries have ended; they are deleted with the next `keep`, by `tidy`, or when there are many."""
        self._forgotten += keys
        if len(self._forgotten) >= FORGET_AT_ONCE:
            self.tidy()

    def attempted(self, through: int) -> None:
        """Every entry up to this key may have been sent. A failure is logged, and made up for as soon as possible."""
        self._attempted = max(through, self._attempted)
        self._try_to(self._write)

    def tidy(self) -> None:
        """Delete what was forgotten; make the file smaller now and then."""
        if self._forgotten or self._attempted:
            self._try_to(self._delete)
        if self._freed >= SHRINK_EVERY:
            self._try_to(self._shrink)

    def close(self) -> None:
        """Write what was put off, close the file, let others have it. Idempotent."""
        if self._connection is not None:
            self._freed += SHRINK_EVERY
            self.tidy()
        self._let_go()

    def __del__(self) -> None:
        # Not left to the connection's own end: from Python 3.13 on whoever keeps its warning keeps it, and the file.
        if self._connection is not None:
            warnings.warn(f"nobody closed the outbox {self._path}", ResourceWarning, stacklevel=2, source=self)
            self._let_go()

    # --- writing ---

    def _write(self, entries: Sequence[Entry] = ()) -> None:
        """One transaction with everything there is to write."""
        connection = self._connection
        if connection is None:
            raise OutboxStoreError("closed", str(self._path), "the store is not open")
        at = round(self._wall() * 1_000_000)
        outbox = self._outbox
        forgotten = len(self._forgotten)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if forgotten:
                connection.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in self._forgotten])
            if self._attempted:
                connection.execute(SET_STATE, ("attempted", self._attempted))
            for entry in entries:
                if entry.outbox != outbox:
                    outbox = entry.outbox
                    connection.execute("DELETE FROM sequences")
                    connection.execute(SET_STATE, ("outbox", outbox))
                row = (entry.key, entry.outbox, entry.seq, entry.channel, entry.id, entry.data, at)
                connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                connection.execute(SET_SEQUENCE, (entry.channel, entry.seq))
            connection.execute("COMMIT")
        except BaseException:
            # Some failures have rolled back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._outbox = outbox
        self._freed += forgotten
        self._forgotten.clear()
        self._attempted = 0

    def _delete(self) -> None:
        if self._attempted or self._connection is None:
            self._write()
            return
        self._connection.execute("PRAGMA synchronous = NORMAL")
        try:
            self._write()
        finally:
            self._connection.execute("PRAGMA synchronous = FULL")

    def _shrink(self) -> None:
        assert self._connection is not None  # or nothing would have been deleted
        self._freed = 0
        [(free,)] = self._connection.execute("PRAGMA freelist_count").fetchall()
        if free > SPARE_PAGES:
            # `execute` would take one step of it, which is one page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({free - SPARE_PAGES})")

    def _try_to(self, act: Callable[[], None]) -> None:
        """Do what nobody waits for: what fails is logged (the 1st, 2nd, 4th … time) and done again later."""
        try:
            act()
        except (sqlite3.Error, OutboxStoreError) as error:
            self._failures += 1
            if not self._failures & (self._failures - 1):
                problem = error if isinstance(error, OutboxStoreError) else self._problem(error)
                context = {"code": problem.code, "reason": problem.reason, "failures": self._failures}
                self._logger.warning("the outbox's file takes no notes", context)

    # --- opening ---

    def _lock(self) -> None:
        descriptor = os.open(self._beside(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock_file = os.fdopen(descriptor, "rb")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutboxStoreError("in_use", str(self._path), "another outbox has it open") from None

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # closing folds the log into the file; if it cannot, the next one does
                connection.close()
        lock, self._lock_file = self._lock_file, None
        if lock is not None:
            lock.close()

    def _open(self) -> Loaded:
        """Open the file and read everything. Raises `_DamageError`."""
        connection = self._connection = _connect(self._path)
        try:
            with _reading():
                if self._is_new(connection):
                    _create(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
                connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // 4096}")
                if connection.execute("PRAGMA quick_check(1)").fetchall() != [(b"ok",)]:
                    raise _DamageError("the check of the file failed")
                loaded = self._read(connection)
        except _DamageError:
            with suppress(sqlite3.Error):
                connection.close()
            self._connection = None
            raise
        # Whether the file's own name is on the disk is the directory's business.
        _sync_directory(self._path.parent)
        self._outbox = loaded.outbox
        return loaded

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        [(version,)] = connection.execute("PRAGMA user_version").fetchall()
        [(application,)] = connection.execute("PRAGMA application_id").fetchall()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables and not version:
            return True
        if application != APPLICATION_ID:
            if not tables >= TABLES:
                raise OutboxStoreError("foreign", str(self._path), "it is the database of another program")
            raise _DamageError("the application id is wrong")
        if SCHEMA_VERSION < version < PLAUSIBLE_VERSION:
            reason = f"its schema is version {version}, and this program knows {SCHEMA_VERSION}"
            raise OutboxStoreError("newer_schema", str(self._path), reason)
        if version != SCHEMA_VERSION:
            raise _DamageError("the schema version is wrong")
        return False

    def _read(self, connection: sqlite3.Connection) -> Loaded:
        now = round(self._wall() * 1_000_000)
        # A statement that is not run to its end would hold the file.
        with closing(connection.execute("SELECT * FROM entries ORDER BY key")) as rows:
            entries = [_entry(row, now) for row in rows]
        sequences = connection.execute("SELECT channel, seq FROM sequences").fetchall()
        state = {_text(name): value for name, value in connection.execute("SELECT name, value FROM state").fetchall()}
        used = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchall()
        highest = max([_count(seq) for (seq,) in used] + [entry.key for entry in entries[-1:]], default=0)
        return Loaded(
            entries=tuple(entries),
            next_key=highest + 1,
            outbox=_text(state["outbox"]) if "outbox" in state else None,
            sequences={_channel(channel): _count(seq) for channel, seq in sequences},
            attempted_through=_count(state.get("attempted", 0)),
            durable=True,
        )

    # --- damage ---

    def _rescue(self, damage: _DamageError) -> None:
        """Put what can be read into a new file, and that in the place of the damaged one.

        The new file is built under a name of its own, in one transaction. From then on a crash does no harm: the next
        `load` finds it complete and goes on from there.
        """
        now = round(self._wall() * 1_000_000)
        rescued, unreadable = self._readable(now)
        with closing(_connect(self._beside(".salvage"))) as connection:
            _create(connection, rescued, now)
        self.salvage = Salvage(self._swap(), len(rescued), unreadable)
        context = {"set_aside": str(self.salvage.set_aside), "kept": len(rescued), "unreadable": unreadable}
        self._logger.warning(f"the outbox's file was damaged: {damage}", context)

    def _finish_salvage(self) -> None:
        """An earlier process died while it rescued."""
        beside = self._beside(".salvage")
        if not beside.exists():
            return
        with closing(_connect(beside)) as connection:
            try:
                complete = connection.execute("PRAGMA user_version").fetchall() == [(SCHEMA_VERSION,)]
            except sqlite3.DatabaseError:
                complete = False
        if complete:
            context = {"set_aside": str(self._swap())}
            self._logger.warning(
                "the outbox's file was damaged, and its rescue was interrupted: now it is done", context
            )
            return
        beside.unlink()
        self._beside(".salvage-journal").unlink(missing_ok=True)

    def _swap(self) -> Path:
        """Set the damaged file aside with all that belongs to it, put the rescued one there; returns where it went."""
        numbers = range(1, MAX_SET_ASIDE)
        free = (n for n in numbers if not self._beside(f".damaged-{n}").exists())
        aside = self._beside(f".damaged-{next(free, MAX_SET_ASIDE)}")
        for suffix in ("-wal", "-shm", "-journal", ""):
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}{suffix}", f"{aside}{suffix}")
        os.replace(self._beside(".salvage"), self._path)
        _sync_directory(self._path.parent)
        return aside

    def _readable(self, now: int) -> tuple[list[Entry], int]:
        """Every entry of a damaged file that can be read, and how many cannot though they are there."""
        rows: dict[int, Any] = {}
        bad = (sqlite3.Error, UnicodeDecodeError)
        with closing(_connect(self._path)) as connection:
            with suppress(*bad):
                connection.execute("PRAGMA writable_schema = ON")  # SQLite is less strict then
            ends = []
            for order in ("ASC", "DESC"):
                key = None
                with suppress(*bad):
                    for row in connection.execute(f"SELECT * FROM entries ORDER BY key {order}"):  # noqa: S608
                        rows[row[0]] = row
                        key = row[0]
                ends.append(key)
            # Between where the way up ended and where the way down did, pages are bad; others may not be.
            up, down = ends
            if up is not None and down is not None and up < down:
                for key in range(up + 1, min(down, up + MAX_PROBES)):
                    with suppress(*bad):
                        rows.update((row[0], row) for row in connection.execute(ONE_ENTRY, (key,)))
        entries, unreadable = [], 0
        for key in sorted(rows):
            try:
                entries.append(_entry(rows[key], now))
            except _DamageError:
                unreadable += 1
        return entries, unreadable

    # --- detail ---

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _problem(self, error: sqlite3.Error | OSError) -> OutboxStoreError:
        if isinstance(error, OSError):
            code = _SYSTEM_CODES.get(error.errno or 0, "failed")
            return OutboxStoreError(code, str(self._path), error.strerror or type(error).__name__)
        code = _SQLITE_CODES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "failed")
        return OutboxStoreError(code, str(self._path), str(error))


APPLICATION_ID: Final = 0x4D4F5458
"""In the header of the file: "MOTX"."""

SCHEMA_VERSION: Final = 1
PLAUSIBLE_VERSION: Final = 1000
"""No later version will have a higher number; what has is damaged."""

TABLES: Final = frozenset({b"entries", b"sequences", b"state"})

# AUTOINCREMENT has SQLite remember the highest key there ever was.
SCHEMA: Final = (
    """CREATE TABLE entries (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        outbox TEXT NOT NULL,
        seq INTEGER NOT NULL,
        channel TEXT NOT NULL,
        id TEXT NOT NULL,
        data BLOB NOT NULL,
        at INTEGER NOT NULL  -- unix time in microseconds
    )""",
    "CREATE TABLE sequences (channel TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE state (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

SET_STATE: Final = "INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
SET_SEQUENCE: Final = "INSERT INTO sequences VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq"
ONE_ENTRY: Final = "SELECT * FROM entries WHERE key = ?"

FORGET_AT_ONCE: Final = 256
"""So many forgotten entries do not wait for `tidy`."""

SHRINK_EVERY: Final = 1024
"""After so many deleted entries the file is made smaller."""

SPARE_PAGES: Final = 64
"""Empty pages that the file keeps, for what comes next."""

LOG_BYTES: Final = 1024 * 1024
"""The write-ahead log is folded into the file from this size on."""

MAX_SET_ASIDE: Final = 9
"""Damaged files that are kept; the last is replaced by the next."""

MAX_PROBES: Final = 100_000
"""Keys that are looked for one by one in a damaged file."""

_SQLITE_CODES: Final = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_BUSY: "in_use",
    sqlite3.SQLITE_LOCKED: "in_use",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}
_SYSTEM_CODES: Final = {errno.ENOSPC: "full", errno.EROFS: "read_only", errno.EACCES: "read_only"}

# Ours is the only SQL, so even an error in it means that the file is not what it should be.
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_IOERR_SHORT_READ}


class _DamageError(Exception):
    """The file is not what was written."""


@contextmanager
def _reading() -> Iterator[None]:
    """Tell damage from other errors of SQLite's."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in _DAMAGE:
            raise _DamageError(str(error)) from error
        raise
    except UnicodeDecodeError as error:  # the name of a column
        raise _DamageError("a name is not what was written") from error


def _connect(path: Path) -> sqlite3.Connection:
    # The file may be opened in one thread and used in another; only one uses it at a time.
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    connection.text_factory = bytes  # what is no UTF-8 is for us to find out
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # one process, so no shared memory
    connection.execute("PRAGMA fullfsync = ON")  # where a sync is not one without it (macOS)
    return connection


def _create(connection: sqlite3.Connection, entries: Sequence[Entry] = (), now: int = 0) -> None:
    """Make the tables, with entries that were rescued, all of them attempted as far as anybody knows."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("BEGIN EXCLUSIVE")
    for statement in SCHEMA:
        connection.execute(statement)
    for entry in entries:
        row = (entry.key, entry.outbox, entry.seq, entry.channel, entry.id, entry.data, now + entry.born)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    if entries:
        connection.execute(SET_STATE, ("attempted", entries[-1].key))
    connection.execute("COMMIT")


def _entry(row: Any, now: int) -> Entry:
    key, outbox, seq, channel, message_id, data, at = row
    if not isinstance(data, bytes) or not isinstance(at, int):
        raise _DamageError("a row is not what was written")
    try:
        checked = check_data(data)
        return Entry.of(
            _count(key),
            _text(outbox),
            _count(seq),
            _channel(channel),
            check_message_id(_text(message_id)),
            checked,
            at - now,
        )
    except ValueError:
        raise _DamageError("a row is not what was written") from None


def _text(value: Any) -> str:
    try:
        return str(value, "utf-8")
    except (TypeError, ValueError):
        raise _DamageError("a text is not what was written") from None


def _channel(value: Any) -> str:
    try:
        return check_channel(_text(value))
    except ValueError:
        raise _DamageError("a channel is not what was written") from None


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise _DamageError("a number is not what was written")
    return value


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
