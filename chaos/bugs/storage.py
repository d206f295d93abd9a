"""Mistakes in what a node finds on its disk."""

from collections.abc import Sequence

from chaos.bugs.bug import Replacement, bug


@bug("storage", source="Jepsen: NATS 2.12.1", caught_by=("raft-invariants", "cas-register", "crashes"))
def accepts_torn_records() -> Sequence[Replacement]:
    """A record counts although its checksum was not looked at: what was never written of it reads as zeros."""
    import msgspec

    from testbed.sim import disk

    def recover(data: bytes) -> list[disk.Saves]:
        found: list[disk.Saves] = []
        position = 0
        while position + disk._HEAD.size <= len(data):
            length, _ = disk._HEAD.unpack_from(data, position)
            position += disk._HEAD.size
            body = data[position : position + length].ljust(length, b"\0")
            try:
                found.append(dict(disk._decode(body)))
            except msgspec.DecodeError:
                break
            position += length
        return found

    return [(disk, "recover", recover)]
