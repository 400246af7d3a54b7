"""What a paper needs from beside the run: copied into `<run>/paper_sources/` once, and read from there ever after.

The prepared stories and the sweep may be made anew behind a finished run; its paper must not change with them. So the
first call that needs `quality.json` or `lr_sweep_results.json` copies it, with where it came from and its hash in
`origin.json`; all later calls read the copy, and one that was changed is refused. `--sweep` names another sweep and
replaces the copy.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from projects.redheart.data.datamodule import StoriesDataModule
from shared.atomic import write_bytes, write_json
from shared.errors import ConfigError, DataError
from shared.instantiate import instantiate

FOLDER, ORIGIN = "paper_sources", "origin.json"
QUALITY, SWEEP = "quality.json", "lr_sweep_results.json"
SCHEMA = 1


def kept_quality(run: Path, config: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The facts of the quality step of a run's stories.

    The folder is the one that the run's own datamodule reads, which for a stand-in lies in the cache.

    Args:
        run: Run directory.
        config: Content of its config.yaml.
        report: Content of its report.json.

    Returns:
        Content of quality.json; None where the data were not prepared, or the folder is gone and no copy was made.

    Raises:
        DataError: If the copy was changed or cannot be made, or the folder has been prepared anew since the run, so
            that its facts are not those of the run's stories.
    """
    kept = _kept(run, QUALITY)
    if kept is not None:
        return kept
    datamodule = instantiate(
        config["data"], "data", seed=int(config["seed"]), cache_folder=str(config["paths"]["cache"])
    )
    if not isinstance(datamodule, StoriesDataModule):
        return None
    path = datamodule.root / QUALITY
    if not path.is_file():
        return None
    content = path.read_bytes()
    new = [sentence for sentence in json.loads(content)["warnings"] if sentence not in report["warnings"]]
    if new:
        raise DataError(
            f"{path} was made after {run}: it says {new[0]!r}, which the run's report does not; prepare the stories of "
            "the run again, or move the folder away and the paper has no table of their quality"
        )
    return _keep(run, path, content)


def kept_sweep(run: Path, config: Mapping[str, Any], named: Path | None) -> dict[str, Any] | None:
    """The results of the sweep that chose a run's learning rate.

    Args:
        run: Run directory.
        config: Content of its config.yaml; `optimizer.lr_from` names the sweep's folder.
        named: Another folder, whose results replace the copy.

    Returns:
        Content of lr_sweep_results.json; None where no sweep is named, or its folder is gone and no copy was made.

    Raises:
        ConfigError: If the folder named has no results.
        DataError: If the copy was changed or cannot be made.
    """
    if named is not None:
        path = named / SWEEP
        if not path.is_file():
            raise ConfigError(f"--sweep is {named}, which has no {SWEEP}; name the folder of a sweep")
        return _keep(run, path, path.read_bytes())
    kept = _kept(run, SWEEP)
    if kept is not None:
        return kept
    origin = config["optimizer"].get("lr_from")
    if origin is None:
        return None
    path = Path(str(origin)) / SWEEP
    return _keep(run, path, path.read_bytes()) if path.is_file() else None


def _kept(run: Path, name: str) -> dict[str, Any] | None:
    """The copy, None where there is none yet."""
    entry = _origin(run).get(name)
    path = run / FOLDER / name
    if entry is None:  # a copy without an entry is one that was stopped before it was complete
        return None
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DataError(
            f"{path} is not what was copied from {entry['from']}; remove {path.parent} and it is copied again"
        )
    return dict(json.loads(content))


def _keep(run: Path, path: Path, content: bytes) -> dict[str, Any]:
    """Copy, then enter the copy: only what is entered counts."""
    found = dict(json.loads(content))
    entry = {"from": str(path), "sha256": hashlib.sha256(content).hexdigest()}
    files = _origin(run)
    if files.get(path.name) == entry:
        return found
    try:
        write_bytes(run / FOLDER / path.name, content)
        write_json(run / FOLDER / ORIGIN, {"schema": SCHEMA, "files": files | {path.name: entry}})
    except OSError as error:
        raise DataError(f"{path} cannot be copied to {run / FOLDER} ({error}); make the run writable") from error
    return found


def _origin(run: Path) -> dict[str, dict[str, str]]:
    path = run / FOLDER / ORIGIN
    return dict(json.loads(path.read_text(encoding="utf-8"))["files"]) if path.is_file() else {}
