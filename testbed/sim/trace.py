"""What happened, as a digest that is equal for equal runs, and on request as lines to find where two runs part.

Nothing is decided by it.
"""

import hashlib
import struct

_at = struct.Struct("<d").pack
PARTS_MAX = 3000  # hashed together: one call for many small pieces


class Trace:
    """Every event of a simulated world, in order. `recorded`: keep the events themselves, too."""

    def __init__(self, recorded: bool = False) -> None:
        self.count = 0
        self._parts: list[bytes] = []
        self.lines: list[str] | None = [] if recorded else None
        self._hash = hashlib.blake2b(digest_size=16)

    def note(self, time: float, what: bytes, data: bytes = b"") -> None:
        """`what` happened at `time` (virtual seconds), with these bytes."""
        self.count += 1
        parts = self._parts
        parts += (_at(time), what, data)
        if len(parts) >= PARTS_MAX:
            self._flush()
        if self.lines is not None:
            shown = f" {len(data)} bytes {hashlib.blake2b(data, digest_size=4).hexdigest()}" if data else ""
            self.lines.append(f"{time:.9f} {what.decode()}{shown}")

    def _flush(self) -> None:
        self._hash.update(b"".join(self._parts))
        self._parts.clear()

    @property
    def digest(self) -> str:
        """Of all events so far, in hexadecimal."""
        self._flush()
        return self._hash.hexdigest()
