"""A node's durable keys and values: one SQLite file, full sync, one transaction a step.

It knows bytes under names, and when they are durable. It does not know what they mean.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from testbed.base.errors import CorruptStorage


class Storage:
    """Opens (or makes) the database. `CorruptStorage` if it cannot be read, or was emptied.

    A file beside it remembers that something was kept. A node that has forgotten its term, its vote and its log must
    not come back as a new one under its old name: a majority of such would elect a leader without the committed data.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_suffix(".kept")
        self._marked = self._mark.exists()
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")  # a commit returns once the log is on the disk
            self._db.execute("create table if not exists kept (key text primary key, value blob) without rowid")
        except sqlite3.DatabaseError as error:
            raise self._corrupt(error) from None

    def load(self) -> dict[str, bytes]:
        """Everything that is kept."""
        try:
            problem = self._db.execute("pragma quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
            kept = dict(self._db.execute("select key, value from kept"))
            if not kept and self._marked:
                raise sqlite3.DatabaseError("is empty, though this node has kept its state in it")
            return kept
        except sqlite3.DatabaseError as error:
            raise self._corrupt(error) from None

    def commit(self, saves: Mapping[str, bytes | None]) -> None:
        """Keep and forget (None) in one transaction, durable on return. sqlite3.Error, naming the file, if it cannot
        be: a full disk, say. The node must end then, for it may have promised what it has not kept."""
        try:
            self._write(saves)
        except sqlite3.Error as error:
            raise type(error)(f"{self._path}: {error}") from error
        if not self._marked:
            self._mark.touch()
            self._marked = True

    def _write(self, saves: Mapping[str, bytes | None]) -> None:
        self._db.execute("begin immediate")
        kept = [(key, value) for key, value in saves.items() if value is not None]
        if kept:
            self._db.executemany("insert or replace into kept values (?, ?)", kept)
        if len(kept) < len(saves):
            gone = [(key,) for key, value in saves.items() if value is None]
            self._db.executemany("delete from kept where key = ?", gone)
        self._db.execute("commit")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _corrupt(self, error: Exception) -> CorruptStorage:
        return CorruptStorage(self._path, "database", str(error))
