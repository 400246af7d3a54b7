"""The report: scores with intervals, figures, report.{json,md,html}, the terminal table, TensorBoard's HPARAMS."""

import csv
import hashlib
import json
import resource
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from rich.console import Console

from shared.report import Evaluation, evaluate_classification, print_summary, report_figures, write_report
from shared.report.curve_evaluation import CurveEvaluation, evaluate_curves
from shared.report.details import read_details
from shared.report.evaluation import calibration_scores
from shared.report.outputs import CurveOutputs, TestOutputs
from shared.session import Session
from shared.table_rows import model_rows

SCHEMA = 1


def report(session: Session) -> None:
    """Score the test outputs, write the report and show its table."""
    outputs = session.outputs
    assert outputs is not None  # `stages` without test is refused with the configuration
    evaluation = _evaluate(session, outputs)
    for sentence in evaluation.warnings:
        session.warn(sentence)
    content = build_report(session, evaluation)
    runtime = session.settings.runtime
    details = read_details(session.run.path)
    drawn = report_figures(
        content, classes=session.datamodule.index.classes, outputs=outputs, pictures=session.datamodule.pictures,
        epochs=_metric_rows(session.run.path), sweet_spots=details.get("sweet_spots"),
        uncalibrated=outputs.uncalibrated if isinstance(outputs, TestOutputs) else None,
        monitor=runtime.monitor, mode=runtime.monitor_mode, warn_above=session.settings.audit.warn_above,
    )  # fmt: skip
    session.report = content
    paths = write_report(session.run.path, content, drawn, details)
    _log_hparams(session, content)
    # The table is the run's result: on standard output, unlike progress and sentences.
    if not session.console.quiet:
        print_summary(content, Console())
        session.say(f"report: {paths['report.html']}")


def _evaluate(session: Session, outputs: TestOutputs | CurveOutputs) -> Evaluation | CurveEvaluation:
    """Scores of all rows, by what kind of output they are."""
    index, seed = session.datamodule.index, session.settings.seed
    subsets = session.datamodule.subsets(outputs.rows)
    if isinstance(outputs, TestOutputs):
        rows = model_rows(outputs.probs)
        return evaluate_classification(outputs, index, model_rows=rows, subsets=subsets, seed=seed)
    rows = model_rows(outputs.predictions)
    assert session.module is not None
    module, shape = session.module, outputs.sample_shape

    def checks(curves: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        found = module.checks(torch.from_numpy(curves).reshape(len(curves), *shape))
        return {name: excess.numpy() for name, excess in found.items()}

    return evaluate_curves(outputs, index, model_rows=rows, subsets=subsets, seed=seed, checks=checks)


def build_report(session: Session, evaluation: Evaluation | CurveEvaluation) -> dict[str, Any]:
    """Content of report.json; a part that did not run is absent."""
    settings, status = session.settings, session.run.status()
    check = status["stages"]["check"]
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "project": settings.project,
        "experiment": settings.experiment,
        "run": session.run.path.name,
        "status": "done",
        "seed": settings.seed,
        "started": _time(status["started"]),
        "finished": _time(time.time()),
        "config_hash": config_hash(settings.plain),
        "data_hash": check["data_hash"],
        "splits_hash": check["splits_hash"],
        "git": json.loads((session.run.path / "env.json").read_text(encoding="utf-8"))["git"],
        "data": check["data"],
    }
    audit = session.run.done("audit")
    if audit is not None:
        content["audit"] = audit["rows"]
    content |= evaluation.as_dict()
    if (crossed := session.run.done("crossover")) is not None:
        content["crossover"] = crossed["report"]
    if (calibrated := session.run.done("calibrate")) is not None:
        content["calibration"] = calibrated | _before_and_after(session)
    content["cost"] = _cost(session)
    if session.resumed_from is not None:
        content["resume"] = session.resumed_from
    assert session.module is not None
    content["artifacts"] = _artifacts(session.run.path) | session.module.describe()
    content["warnings"] = session.warnings
    return content


def _before_and_after(session: Session) -> dict[str, Any]:
    """Calibration scores of final on the test fold without and with its calibrator."""
    outputs, seed = session.outputs, session.settings.seed
    assert isinstance(outputs, TestOutputs)
    index, after = session.datamodule.index, outputs.row("final")
    before = after if outputs.uncalibrated is None else outputs.uncalibrated
    return {
        "before": calibration_scores(before, outputs, index, seed=seed),
        "after": calibration_scores(after, outputs, index, seed=seed),
    }


def _metric_rows(run: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv."""
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def config_hash(plain: dict[str, Any]) -> str:
    """Sha256 (hex) of a configuration without what changes no result: where things are written and resumed from."""
    counted = {key: value for key, value in plain.items() if key not in ("paths", "resume", "logger")}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def _cost(session: Session) -> dict[str, Any]:
    """Wall time and memory of the main process, without loader workers; of a resumed run, since the resumption."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    fit = session.run.done("fit") or {}
    seconds = fit.get("seconds")
    return {
        "wall_s": round(time.time() - session.started, 1),
        "samples_per_s": round(fit["samples"] / seconds, 1) if seconds else None,
        "peak_rss_mb": round(own / 1024, 1),
        "peak_gpu_mb": gpu,
        "oom_events": int(getattr(session.module, "oom_events", 0)),
        "test_ms_per_sample": session.test_ms_per_sample,
    }


def _artifacts(run: Path) -> dict[str, str]:
    """What stands in the run directory, by name."""
    names = (
        "config.yaml", "splits.csv", "predictions.csv", "metrics.csv", "ledger.jsonl", "events.jsonl",
        "sweet_spots.json", "crossover.json", "crossover_final.safetensors", "calibrator.safetensors",
        "calibration.json", "snapshots",
    )  # fmt: skip
    found = {name: name for name in names if (run / name).exists()}
    found |= {f"candidates/{path.name}": f"candidates/{path.name}" for path in sorted(run.glob("candidates/*"))}
    return found | {
        f"checkpoints/{path.name}": f"checkpoints/{path.name}" for path in sorted(run.glob("checkpoints/*.ckpt"))
    }


def _log_hparams(session: Session, content: dict[str, Any]) -> None:
    """The HPARAMS tab: the configuration, flat, with the final test metrics."""
    final = next(row for row in content["models"] if row["name"] == "final")
    metrics = {f"test/{name}": row["value"] for name, row in final["metrics"].items() if row["value"] is not None}
    flat = _flatten(session.settings.plain)
    assert session.trainer is not None
    for logger in session.trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(flat, metrics, step=session.step)
            logger.finalize("success")


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            flat[f"{prefix}{key}"] = value
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
