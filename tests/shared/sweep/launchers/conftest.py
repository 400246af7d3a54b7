"""The sweep that all launchers are compared with, and a SLURM of one node."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fabricate.sweep_launch import ROOT, TOY, launched

SLURM_PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "sbatch")


@pytest.fixture(scope="session")
def basic_table(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    """Return the 25 points of the toy's sweep, one after the other in one process."""
    with launched("basic", tmp_path_factory.mktemp("basic"), *TOY) as sweep:
        return sweep.end().table()


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """Bring up a SLURM, two jobs a core, and return the environment that its clients need."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in SLURM_PROGRAMS if shutil.which(name, path=path) is None]
    if missing or os.geteuid() != 0:
        why = f"no {', '.join(missing)}" if missing else "not root"
        pytest.skip(
            f"SLURM IS NOT TESTED: {why}; as root, with Debian's slurm-wlm munge slurmdbd mariadb-server, it is"
        )
    # Not below pytest's folder: the sockets' paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        subprocess.run([ROOT / ".ci" / "slurm_up.sh", folder, "2"], check=True, timeout=120)
        yield {"SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        subprocess.run([ROOT / ".ci" / "slurm_down.sh", folder], check=True, timeout=120)
        shutil.rmtree(folder)
