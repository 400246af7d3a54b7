"""Which machine this is, and whether one of its processes still lives."""

import sys
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import psutil


@cache
def machine_identity() -> str:
    """Name of the machine's boot and of the space of process numbers; two hosts of one name differ in it."""
    if sys.platform == "linux":
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    return f"boot {psutil.boot_time():.0f}"


@cache
def machine_tag() -> str:
    """Eight hex digits of it, for names of files."""
    return sha256(machine_identity().encode()).hexdigest()[:8]


def process_birth(pid: int) -> float | None:
    """When a process of this machine began; None where it has ended, a zombie included.

    On Linux in ticks since the boot, which no change of the wall clock moves; elsewhere in seconds since 1970.

    Raises:
        PermissionError: It lives and says no more.
    """
    if sys.platform != "linux":
        try:
            return psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return None
        except psutil.AccessDenied as error:
            raise PermissionError(f"process {pid} does not tell when it began.") from error
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        if psutil.pid_exists(pid):  # /proc may hide the processes of others
            raise PermissionError(f"process {pid} does not tell when it began.") from None
        return None
    fields = text.rpartition(")")[2].split()  # the name in parentheses may hold anything
    return None if fields[0] in "ZX" else float(fields[19])


def is_alive(pid: int) -> bool:
    """Whether a process of this machine lives; where it does not say, it does."""
    try:
        return process_birth(pid) is not None
    except PermissionError:
        return True
