"""What a learner has done: passed checks, predictions, reviewed cards, interviews, in one SQLite file of their own.

The file ``progress.sqlite`` lies in ``LLMLAB_DATA``, else in the user's data folder. It never leaves the machine.

Two kernels may write at once and either may be killed: every write is one transaction on a connection of its own, with
SQLite's rollback journal, full synchronisation and a wait of five seconds for the other. (Write-ahead logging would be
faster, but it needs shared memory, which home folders on a network do not give.) Order comes from row numbers, never
from the clock, which may be set back.

Nothing here stops a check. A damaged file is set aside and a new one begun; a folder that cannot be written, a full
disk or a file that stays locked gives one sentence a session. With ``LLMLAB_REFERENCE=1`` and no ``LLMLAB_DATA`` the
store is off: building the reference outputs leaves the user's own progress alone.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

__all__ = [
    "Prediction",
    "Summary",
    "passed",
    "path",
    "predictions",
    "record_pass",
    "record_prediction",
    "recover",
    "summary",
    "with_store",
]

#: Seconds to wait for another process that writes.
WAIT = 5.0

#: One script per schema version; ``PRAGMA user_version`` counts those that a file has seen. Append, never edit.
MIGRATIONS = (
    """
    CREATE TABLE passes (
        n INTEGER PRIMARY KEY, task TEXT NOT NULL UNIQUE, first_at TEXT NOT NULL, times INTEGER NOT NULL DEFAULT 1);
    CREATE TABLE predictions (
        n INTEGER PRIMARY KEY, key TEXT NOT NULL, choice TEXT NOT NULL, correct INTEGER NOT NULL, at TEXT NOT NULL);
    CREATE INDEX predictions_key ON predictions (key);
    """,
    """
    CREATE TABLE reviews (
        n INTEGER PRIMARY KEY AUTOINCREMENT, card TEXT NOT NULL, rating INTEGER NOT NULL, at TEXT NOT NULL);
    CREATE TABLE interviews (
        n INTEGER PRIMARY KEY AUTOINCREMENT, plan TEXT NOT NULL, at TEXT NOT NULL);
    CREATE TABLE interview_steps (
        n INTEGER PRIMARY KEY AUTOINCREMENT, interview INTEGER NOT NULL, step TEXT NOT NULL, at TEXT NOT NULL);
    CREATE INDEX interview_steps_interview ON interview_steps (interview);
    """,
)
#: What :func:`recover` brings back: table -> the columns that carry what was done.
KEPT = {
    "passes": ("task", "first_at", "times"),
    "predictions": ("key", "choice", "correct", "at"),
    "reviews": ("card", "rating", "at"),
    "interviews": ("n", "plan", "at"),
    "interview_steps": ("interview", "step", "at"),
}

T = TypeVar("T")


@dataclass(frozen=True)
class Prediction:
    """The answers given to one prediction: the first is the prediction, the latest is what is now believed."""

    choice: str
    right: bool
    first_choice: str
    first_right: bool
    tries: int


@dataclass(frozen=True)
class Summary:
    """Counts for the start page; ``labs`` maps a lab's number to the ids of its passed tasks."""

    passed: int = 0
    labs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    predicted: int = 0
    predicted_right: int = 0


def path() -> Path | None:
    """Where the store is, or None when it is off."""
    folder = os.environ.get("LLMLAB_DATA", "").strip()
    if folder:
        return Path(folder).expanduser() / "progress.sqlite"
    if os.environ.get("LLMLAB_REFERENCE") == "1":
        return None
    import platformdirs

    return Path(platformdirs.user_data_dir("llmlab", appauthor=False)) / "progress.sqlite"


def record_pass(task_id: str) -> bool:
    """Note that a check was passed; False when it could not be saved."""

    def write(db: sqlite3.Connection) -> bool:
        db.execute(
            "INSERT INTO passes (task, first_at) VALUES (?, ?) ON CONFLICT (task) DO UPDATE SET times = times + 1",
            (task_id, _now()),
        )
        return True

    return with_store(write, False)


def passed() -> dict[str, str]:
    """The passed tasks in the order of their first pass, each with its time (UTC, ISO 8601)."""
    return with_store(lambda db: dict(db.execute("SELECT task, first_at FROM passes ORDER BY n")), {}, reading=True)


def record_prediction(key: str, choice: str, right: bool) -> bool:
    """Note an answer to a prediction; False when it could not be saved."""

    def write(db: sqlite3.Connection) -> bool:
        row = (key, choice, int(right), _now())
        db.execute("INSERT INTO predictions (key, choice, correct, at) VALUES (?, ?, ?, ?)", row)
        return True

    return with_store(write, False)


def predictions() -> dict[str, Prediction]:
    """Every answered prediction by its key, in the order of the first answers."""

    def read(db: sqlite3.Connection) -> dict[str, Prediction]:
        answers: dict[str, list[tuple[str, bool]]] = {}
        for key, choice, correct in db.execute("SELECT key, choice, correct FROM predictions ORDER BY n"):
            answers.setdefault(key, []).append((choice, bool(correct)))
        return {key: Prediction(*given[-1], *given[0], len(given)) for key, given in answers.items()}

    return with_store(read, {}, reading=True)


def summary() -> Summary:
    """Counts over everything recorded; all zero when nothing is, or the store is off."""
    labs: dict[str, tuple[str, ...]] = {}
    for task in passed():
        lab = task.partition(".")[0]
        labs[lab] = (*labs.get(lab, ()), task)
    answers = predictions()
    return Summary(
        passed=sum(len(tasks) for tasks in labs.values()),
        labs=labs,
        predicted=len(answers),
        predicted_right=sum(answer.first_right for answer in answers.values()),
    )


def recover(damaged: Path) -> dict[str, int]:
    """Copy what can still be read of a damaged store into the store of today; nothing that is there already doubles.

    Each table is read from its beginning until a row cannot be read, and then from its end. Returns the number of rows
    brought back, by table.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is the store itself, or holds nothing that can be read.
    """
    if not damaged.is_file():
        raise FileNotFoundError(f"there is no file {damaged}")
    if (own := path()) is not None and own.exists() and own.samefile(damaged):
        raise ValueError(f"{damaged} is the progress file in use; name one that was set aside")
    found = {table: _readable(damaged, table, columns) for table, columns in KEPT.items()}
    if not any(found.values()):
        raise ValueError(f"nothing in {damaged} can be read any more")

    def write(db: sqlite3.Connection) -> dict[str, int]:
        return {table: _copy_rows(db, table, rows) for table, rows in found.items()}

    return with_store(write, {})


def _readable(damaged: Path, table: str, columns: tuple[str, ...]) -> list[tuple[object, ...]]:
    """The rows of a table that a damaged file still gives, in their order."""
    rows: dict[int, tuple[object, ...]] = {}
    for order in ("ASC", "DESC"):
        db = sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            for n, *row in db.execute(f"SELECT n, {', '.join(columns)} FROM {table} ORDER BY n {order}"):
                if n in rows:
                    break
                rows[n] = tuple(row)
        except sqlite3.Error:
            pass  # as far as it goes
        finally:
            db.close()
    return [rows[n] for n in sorted(rows)]


def _copy_rows(db: sqlite3.Connection, table: str, rows: list[tuple[object, ...]]) -> int:
    """Insert the rows that are missing. Interviews keep their number, since their steps name it."""
    columns = KEPT[table]
    same = " AND ".join(f"{column} = ?" for column in columns)
    marks = ", ".join("?" * len(columns))
    written = 0
    for row in rows:
        if db.execute(f"SELECT 1 FROM {table} WHERE {same}", row).fetchone() is None:
            insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
            written += db.execute(insert, row).rowcount
    return written


def with_store(work: Callable[[sqlite3.Connection], T], otherwise: T, *, reading: bool = False) -> T:
    """Run ``work`` in one transaction on the store; ``otherwise`` when the store is off or cannot be used.

    A damaged file is set aside and ``work`` runs on a new one; any other trouble is said once a session.
    """
    file = path()
    if file is None or (reading and not file.exists()):
        return otherwise
    try:
        try:
            with _transaction(file, reading) as db:
                return work(db)
        except sqlite3.DatabaseError as error:
            if not _damaged(error):
                raise
            _set_aside(file)
            with _transaction(file, reading) as db:
                return work(db)
    except (sqlite3.Error, OSError) as error:
        _say_once(
            f"Your progress could not be {'read' if reading else 'saved'} ({error}) in {file}. Checks still work."
        )
        return otherwise


@contextmanager
def _transaction(file: Path, reading: bool) -> Iterator[sqlite3.Connection]:
    if not reading:
        file.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(file, timeout=WAIT, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN" if reading else "BEGIN IMMEDIATE")  # a store that cannot be written can still be read
        try:
            _migrate(db)
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    finally:
        db.close()


def _migrate(db: sqlite3.Connection) -> None:
    """Bring the tables up to date. A file of a newer course is used as it is: tables are added, never changed."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for script in MIGRATIONS[version:]:
        for statement in script.split(";"):
            db.execute(statement)  # executescript would commit by itself
    if version < len(MIGRATIONS):
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _damaged(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _set_aside(file: Path) -> None:
    """Rename a damaged store, so that nothing is lost and a new one can begin."""
    from filelock import FileLock

    with FileLock(f"{file}.lock", timeout=WAIT):
        if _sound(file):  # another kernel was faster
            return
        number = 1
        while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
            number += 1
        file.rename(aside)
        journal = file.with_name(f"{file.name}-journal")
        if journal.exists():
            journal.rename(aside.with_name(f"{aside.name}-journal"))
    _say_once(
        f"The progress file was damaged. It is kept as {aside.name} in {aside.parent}, and a new one is begun. "
        f'What can still be read comes back with: llmlab cards --recover "{aside}"'
    )


def _sound(file: Path) -> bool:
    db = sqlite3.connect(file, timeout=WAIT)
    try:
        return db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError as error:
        if _damaged(error):
            return False
        raise
    finally:
        db.close()


_said: set[str] = set()


def _say_once(sentence: str) -> None:
    if sentence not in _said:
        _said.add(sentence)
        print(sentence)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
