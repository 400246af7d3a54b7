"""Re-test a finished run's network on data that the run has never seen, in a run directory of its own."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from shared.config import check_config
from shared.engine import open_session, watched
from shared.entry import CONFIG_FOLDER, exit_codes
from shared.errors import ConfigError
from shared.final import checkpoint_state
from shared.folds import FOLDS
from shared.instantiate import resolve_target
from shared.ledger import Ledger, check_foreign
from shared.loading import load_run
from shared.run_dir import RunDirectory
from shared.session import Session
from shared.splits import write_splits
from shared.stages.predict_test import predict_test
from shared.stages.report import report
from shared.stages.train import build_trainer

OVERRIDABLE = ("data", "paths", "trainer", "runtime")
"""Roots that change what is measured or where, not the network."""


def main(project: str) -> None:
    """Command line of `python -m projects.<project>.evaluate`.

    Args:
        project: Name of the primary configuration.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m projects.{project}.evaluate",
        description="Test a finished run's network on another data set. The data must hold the run's classes and "
        "metadata; samples that the run has used, for whatever, are refused.",
    )
    parser.add_argument("run", type=Path, help="run directory, for example outputs/battery/latest")
    parser.add_argument("overrides", nargs="*", help="what the data are, for example data.root=FOLDER data=battery_ct")
    given = parser.parse_args()
    with exit_codes():
        print(f"run: {evaluate(project, given.run, given.overrides)}", flush=True)


def evaluate(project: str, run: Path, overrides: list[str], quiet: bool = False) -> Path:
    """Test `run`'s final network on the data of its own configuration changed by `overrides`.

    All samples of the data set are taken as the test fold.

    Args:
        project: Name of the primary configuration.
        run: Run directory.
        overrides: Hydra overrides below `OVERRIDABLE`; another data group keeps what the network was trained to see.
        quiet: Show no progress.

    Returns:
        Directory of the evaluation, a run directory whose parent is `run`.

    Raises:
        ConfigError: If an override is about anything else.
        DataError: If the data hold a class or lack a metadata column that the network needs.
        LeakError: If the data hold samples that the run has used.
    """
    for override in overrides:
        if override.lstrip("+~").split("=")[0].split(".")[0] not in OVERRIDABLE:
            raise ConfigError(f"evaluate takes overrides of {', '.join(OVERRIDABLE)} only, got {override}")
    saved = _saved(run)
    return _test(_changed(project, saved, overrides), run.resolve(), quiet)


def _test(config: dict[str, Any], run: Path, quiet: bool) -> Path:
    """Make the evaluation's own run directory and run test and report there."""
    settings = check_config(config)
    loaded = load_run(run)
    here = RunDirectory.create(settings.outputs, settings.project, settings.experiment, parents=[run])
    here.set_state("running", kind="evaluation")
    here.write_file("config.yaml", yaml.safe_dump(settings.plain, sort_keys=False, allow_unicode=True))
    with watched(here, resumable=False) as interruption:
        session = open_session(settings, here, interruption, quiet)
        session.module = loaded.module
        _bind(session, dict(loaded.module.hparams), run)
        session.trainer = build_trainer(session, resume_step=None)
        session.calibrator = loaded.calibrator
        best = checkpoint_state(loaded.run, "best.ckpt")
        predict_test(session, {"best_single": best, "final": loaded.module.state_dict()})
        report(session)
    return here.path


def _bind(session: Session, arguments: dict[str, Any], run: Path) -> None:
    """Take every sample as test, after the check that the run has never seen one of them."""
    datamodule = session.datamodule
    datamodule.align(arguments)
    index = datamodule.index
    check_foreign(index, run)
    fold = np.full(len(index), FOLDS.index("test"), dtype=np.int8)
    datamodule.set_fold(fold)
    splits_hash = write_splits(session.run.path / "splits.csv", index, fold)
    # Without parents: `check_foreign` has compared contents, and another set may number its batteries from 1 as well.
    session.ledger = Ledger(session.run.path)
    session.ledger.bind(index, fold, splits_hash)
    datamodule.ledger = session.ledger
    skipped, findings = datamodule.findings()
    for finding in findings:
        session.warn(finding)
    leakage = {"checked": {"samples against the run": len(index)}, "ok": True}
    data = datamodule.describe() | {"skipped": skipped, "leakage": leakage}
    session.run.mark_done("check", {"data": data, "data_hash": index.data_hash(), "splits_hash": splits_hash})


def _saved(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{run} is not a run directory: it has no config.yaml")
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _changed(project: str, saved: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The saved configuration with its data section as the overrides would have composed it."""
    groups = [o for o in overrides if o.split("=")[0] in ("data", "trainer")]
    values = [o for o in overrides if o not in groups]
    for group in groups:
        root = group.split("=")[0]
        own = [value for value in values if value.split(".")[0] == root]
        with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
            composed = OmegaConf.to_container(compose(project, [group, *own])[root], resolve=True)
        assert isinstance(composed, dict)
        section = {str(key): value for key, value in composed.items()}
        if root == "data":  # what the network sees must stay as it was trained
            kept = resolve_target(section, "data").network_keys
            section |= {key: saved["data"][key] for key in kept if key in saved["data"]}
        saved = saved | {root: section}
    config = OmegaConf.create(saved)
    OmegaConf.set_struct(config, True)
    for value in values:
        key, _, text = value.lstrip("+").partition("=")
        if OmegaConf.select(config, key, default=_ABSENT) is _ABSENT:
            raise ConfigError(f"unknown config key {key}")
        OmegaConf.update(config, key, yaml.safe_load(text))
    config.experiment = f"{saved['experiment']}_evaluate"
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


_ABSENT = object()
