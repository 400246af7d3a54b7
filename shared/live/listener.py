"""Who listens on a port of this machine, as Linux tells: another user's program is not given a run's events."""

import os
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTENING = "0A"


def listener_uids(port: int, tables: tuple[Path, ...] = TABLES) -> set[int]:
    """Users whose programs listen on a port of the loopback address or of all addresses.

    Args:
        port: The port.
        tables: Files in the form of `/proc/net/tcp` (proc(5)); one that is absent tells nothing.

    Returns:
        Their numbers; none where the system does not say.
    """
    found = set()
    for table in tables:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except (OSError, UnicodeDecodeError):
            continue
        for line in lines:
            fields = line.split()
            if len(fields) < 8 or fields[3] != LISTENING or not fields[7].isdecimal():
                continue
            address, _, number = fields[1].partition(":")
            if number == f"{port:04X}" and _serves_loopback(address):
                found.add(int(fields[7]))
    return found


def foreign_uid(port: int, tables: tuple[Path, ...] = TABLES) -> int | None:
    """A user other than this one and root whose program serves that port; None where there is none, or nobody says."""
    own = {0, os.getuid()}  # root reads all files anyway
    return min(listener_uids(port, tables) - own, default=None)


def _serves_loopback(address: str) -> bool:
    """Whether connections to the loopback address come there; each 4 bytes are written the lowest first."""
    if not address.strip("0"):
        return True
    if len(address) == 8:
        return address.endswith("7F")
    return address == "0" * 24 + "01000000" or (address.startswith("0" * 16 + "FFFF0000") and address.endswith("7F"))
