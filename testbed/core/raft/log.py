"""The log in memory: entries behind a snapshot. It knows indexes and terms, not what the entries mean."""

from testbed.core.raft.messages import Entry


class RaftLog:
    """Entries `first` … `last`; everything before `first` is covered by a snapshot or trailing entries already cut.

    `base_index` and `base_term` name the entry just before `first` (0 and 0 in a new log).
    """

    def __init__(self, base_index: int = 0, base_term: int = 0, entries: list[Entry] | None = None) -> None:
        self.base_index = base_index
        self.base_term = base_term
        self._entries: list[Entry] = entries if entries is not None else []
        self.first = base_index + 1  # index of the oldest entry kept (or that would be next)
        self.last = base_index + len(self._entries)  # index of the newest entry; `base_index` if there is none

    @property
    def last_term(self) -> int:
        """Term of the newest entry."""
        return self._entries[-1].term if self._entries else self.base_term

    def term_at(self, index: int) -> int | None:
        """Term of an entry; None if it is not known (cut away, or not there yet)."""
        if index == self.base_index:
            return self.base_term
        if self.first <= index <= self.last:
            return self._entries[index - self.first].term
        return None

    def entry(self, index: int) -> Entry:
        """One entry that is there."""
        assert self.first <= index <= self.last, (self.first, index, self.last)
        return self._entries[index - self.first]

    def read(self, start: int, count: int, bytes_max: int) -> list[Entry]:
        """Entries from `start` on: at most `count`, and at most `bytes_max` of commands but for the first."""
        assert start >= self.first
        position = start - self.first
        found = self._entries[position : position + count]
        total = 0
        for taken, entry in enumerate(found):
            total += len(entry.command) + 32
            if total > bytes_max and taken:
                return found[:taken]
        return found

    def append(self, entry: Entry) -> int:
        """Add an entry; returns its index."""
        self._entries.append(entry)
        self.last += 1
        return self.last

    def truncate(self, index: int) -> None:
        """Drop the entry at `index` and all after it."""
        assert index >= self.first
        del self._entries[index - self.first :]
        self.last = index - 1

    def cut(self, index: int) -> None:
        """Forget entries up to and including `index`: a snapshot covers them."""
        term = self.term_at(index)
        assert term is not None
        del self._entries[: index - self.base_index]
        self.base_index, self.base_term = index, term
        self.first = index + 1

    def command_bytes(self, last: int) -> int:
        """Bytes of the commands in the log up to and including `last`."""
        return sum(len(entry.command) for entry in self._entries[: last - self.base_index])

    def first_of_term(self, index: int) -> int:
        """The first index of the run of entries that share the term of the entry at `index`, within the log."""
        term = self.term_at(index)
        while index > self.first and self.term_at(index - 1) == term:
            index -= 1
        return index

    def last_of_term(self, term: int) -> int | None:
        """The last index with that term, or None."""
        for index in range(self.last, self.base_index, -1):
            at = self._entries[index - self.first].term
            if at == term:
                return index
            if at < term:
                return None
        return None
