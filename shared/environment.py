"""What a result depends on besides the configuration: versions, machine, threads, git state."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "torchvision", "lightning", "torchmetrics", "timm", "hydra-core", "omegaconf", "albumentations",
    "opencv-python-headless", "numpy", "scipy", "pandas", "scikit-learn", "safetensors",
)  # fmt: skip


def git_state(folder: Path) -> dict[str, Any]:
    """Commit and whether tracked files differ from it; {"commit": None} outside a repository or without git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def describe_environment() -> dict[str, Any]:
    """Git state, versions, machine and thread counts, as written to env.json."""
    import torch

    return {
        "git": git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "threads": torch.get_num_threads(),
    }


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
