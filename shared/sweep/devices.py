"""One GPU for each job on this host: leases that the kernel ends when their holder dies.

A lease is an exclusive `flock` on a file of the device in a folder of this user and host; it needs a local temporary
folder that all jobs of the user see (not a private one for each job). Nothing here wakes CUDA: a process that has done
so before its lease cannot change its devices any more.
"""

import fcntl
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shared.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
HELD = "SWEEP_DEVICES_HELD"
"""Set while a lease is held: child processes, such as the ranks of a distributed point, share it."""

SLURM_SETS = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "GPU_DEVICE_ORDINAL")
"""Set by SLURM where the allocation says which devices a job has."""
OWN_JOB = ("SUBMITIT_EXECUTOR", "slurm")
"""Set in a job that submitit gave to SLURM for one point; all that is visible there is this point's."""

_bound: tuple[str, ...] | None = None  # what CUDA was initialised with in this process


def visible_devices(environ: Mapping[str, str] = os.environ, nodes: Path = Path("/dev")) -> tuple[str, ...]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; () without any.

    Args:
        environ: The environment.
        nodes: Folder of the device files.
    """
    named = environ.get(VISIBLE)
    if named is None:
        count = sum(1 for path in nodes.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
        return tuple(str(number) for number in range(count))  # CUDA counts those that are there from 0
    names: list[str] = []
    for name in named.split(","):
        if name.strip() in ("", "-1"):  # CUDA reads no further
            break
        names.append(name.strip())
    return tuple(names)


@contextmanager
def device_lease(count: int = 1, *, folder: Path | None = None, poll_s: float = 0.2) -> Iterator[tuple[str, ...]]:
    """Hold devices that no other job on this host holds, and show only them to CUDA; wait while all are taken.

    Only one of those who wait collects devices, so a job that needs several is not starved by those that need one.

    Without GPUs, within another lease, and where SLURM has given the devices to this point alone, nothing is held and
    nothing changed. Points that share an allocation (`salloc --gres=gpu:4`) share out what it shows.

    Args:
        count: Devices that the job needs, >= 1.
        folder: Of the lock files; None for the one of this user and host.
        poll_s: Seconds between two looks while waiting.

    Yields:
        Names of the devices, () where there is nothing to hold.

    Raises:
        ConfigError: If the job needs more devices than there are.
    """
    names = visible_devices()
    if not names or HELD in os.environ or _has_been_given(names):
        yield ()
        return
    if count > len(names):
        raise ConfigError(
            f"a point needs {count} GPUs (trainer.devices) and {len(names)} are visible ({', '.join(names)}); lower "
            "trainer.devices"
        )
    place = folder or Path(tempfile.gettempdir()) / _folder_name()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        taken = _take(_candidates(names), count, place, poll_s, held)
        with _shown(taken):
            yield taken


def _has_been_given(names: tuple[str, ...], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a scheduler has given these devices to this point and to nobody else."""
    if not any(environ.get(name) for name in SLURM_SETS):
        return False
    return len(names) == 1 or environ.get(OWN_JOB[0]) == OWN_JOB[1]


def _folder_name(environ: Mapping[str, str] = os.environ) -> str:
    """Of the lock files; an allocation has its own, since SLURM may call the first device of each of them 0."""
    job = environ.get("SLURM_JOB_ID") if any(environ.get(name) for name in SLURM_SETS) else None
    return f"sweep-devices-{os.getuid()}-{socket.gethostname()}{'' if job is None else f'-{job}'}"


def _candidates(names: tuple[str, ...]) -> tuple[str, ...]:
    """All of them, or those that CUDA has been bound to in this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized() and _bound:
        return _bound
    return names


def _take(names: Sequence[str], count: int, folder: Path, poll_s: float, held: ExitStack) -> tuple[str, ...]:
    """Take the first free ones; only the one at the head of the queue takes any, so nobody waits in a circle."""
    with ExitStack() as queue:
        while not _try_lock(folder / "queue.lock", queue):
            time.sleep(poll_s)
        taken: list[str] = []
        while True:
            for name in names:
                if name not in taken and _try_lock(folder / f"device-{_file_name(name)}.lock", held):
                    taken.append(name)
                if len(taken) == count:
                    return tuple(taken)
            time.sleep(poll_s)


def _try_lock(path: Path, held: ExitStack) -> bool:
    """Lock a file if nobody holds it; unlocked for forked loader workers too, which share the descriptor's lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    held.callback(_unlock, descriptor)
    return True


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextmanager
def _shown(names: tuple[str, ...]) -> Iterator[None]:
    """Let CUDA see these devices only."""
    global _bound
    former = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = os.environ[HELD] = ",".join(names)
    _bound = names
    try:
        yield
    finally:
        os.environ.pop(HELD, None)
        if former is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = former


def _file_name(device: str) -> str:
    """Devices can be named by their UUID, parts of devices with slashes in it."""
    return re.sub(r"[^\w.-]", "_", device)
