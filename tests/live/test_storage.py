"""A node's database, file by file."""

import sqlite3
from pathlib import Path

import pytest

from testbed.base.errors import CorruptStorage
from testbed.live.storage import Storage


def kept(directory: Path, **values: bytes) -> Path:
    path = directory / "data.db"
    storage = Storage(path)
    storage.load()
    storage.commit(dict(values))
    storage.close()
    return path


def test_what_was_committed_is_loaded_and_what_was_forgotten_is_not(tmp_path: Path) -> None:
    path = kept(tmp_path, a=b"1", b=b"2")
    storage = Storage(path)
    storage.commit({"a": None, "b": b"3", "c": b"4"})
    storage.close()
    assert Storage(path).load() == {"b": b"3", "c": b"4"}


def test_a_new_database_is_empty_and_no_complaint(tmp_path: Path) -> None:
    assert Storage(tmp_path / "data.db").load() == {}


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["removed", "emptied"])
def test_a_node_does_not_come_back_with_its_memory_gone(tmp_path: Path, damage) -> None:
    path = kept(tmp_path, vote=b"n1")
    damage(path)
    for rest in ("-wal", "-shm"):
        Path(f"{path}{rest}").unlink(missing_ok=True)
    with pytest.raises(CorruptStorage, match="is empty, though"):
        Storage(path).load()


def test_garbage_is_said_to_be_garbage_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    path.write_bytes(b"garbage " * 1000)
    with pytest.raises(CorruptStorage, match=r"data.db: database: .*not a database"):
        Storage(path).load()


def test_a_commit_that_fails_names_its_file(tmp_path: Path) -> None:
    path = kept(tmp_path, a=b"1")
    storage = Storage(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("drop table kept")
    with pytest.raises(sqlite3.OperationalError, match=r"data.db: no such table"):
        storage.commit({"a": b"2"})
