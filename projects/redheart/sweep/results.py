"""What the flat sweep leaves beside the files that every sweep has: lr_sweep_results.json, and one CSV a rate."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.atomic import write_json, write_text
from shared.errors import ConfigError
from shared.learning_rate import OPTIMAL_FILE
from shared.sweep.scoring import RATE_KEY, Epoch, measured, ranked, read_epochs
from shared.sweep.states import PointView
from shared.sweep.sweep_file import SWEEP_FILE

SCHEMA = 1
RESULTS_FILE = "lr_sweep_results.json"
COLLECTED = "collected"
"""Key of lr_sweep_results.json with the runs that were named by --runs."""


def write_results(folder: Path, points: Sequence[PointView], facts: Mapping[str, Any]) -> None:
    """Write both, behind the exports that say which rate is the best.

    Args:
        folder: Of the sweep.
        points: That count; those that are not settled are left out.
        facts: What else lr_sweep_results.json says.
    """
    order = ranked(points)
    order += sorted(
        (point for point in points if point.is_settled and measured(point) is None),
        key=lambda point: float(point.values[RATE_KEY]),
    )
    rows = [_row(point) for point in order]
    for row in rows:
        write_text(folder / f"lr_{row['lr']:g}.csv", _epochs_csv(row["epochs"]))
    told = {"at_edge": False, "note": ""}
    path = folder / OPTIMAL_FILE
    if path.is_file():
        best = json.loads(path.read_text(encoding="utf-8"))
        told = {key: best[key] for key in told}
    write_json(folder / RESULTS_FILE, {"schema": SCHEMA, **facts, **told, "points": rows})


def _row(point: PointView) -> dict[str, Any]:
    """A rate as lr_sweep_results.json has it; of a failed one with the epochs before its loss was not finite."""
    outcome = point.outcome or {}
    run = outcome.get("run", point.run)
    epochs = outcome.get("epochs")
    if epochs is None:
        seen: list[Epoch] = [] if run is None else read_epochs(Path(run) / "metrics.csv")
        epochs = [asdict(epoch) for epoch in seen if math.isfinite(epoch.train_loss) and math.isfinite(epoch.val_loss)]
    score = measured(point)
    return {
        "lr": float(point.values[RATE_KEY]), "status": "failed" if score is None else "done", "score": score,
        "reason": point.error or "" if score is None else "", "run": run, "seconds": outcome.get("seconds"),
        "samples": outcome.get("samples"), "epochs": epochs,
    }  # fmt: skip


def _epochs_csv(epochs: Sequence[Mapping[str, Any]]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    keys = ["epoch", "train_loss", "val_loss", "gradient_norm"]
    writer.writerow(keys)
    for epoch in epochs:
        writer.writerow(["" if epoch[key] is None else repr(epoch[key]) for key in keys])
    return table.getvalue()


def read_results(folder: Path) -> dict[str, Any]:
    """Content of lr_sweep_results.json.

    Raises:
        ConfigError: There is none, or it is damaged.
    """
    path = folder / RESULTS_FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); give another --name") from error


def refuse_older(folder: Path) -> None:
    """Leave alone what an earlier version wrote, whose points no ledger knows.

    Raises:
        ConfigError: There are results without a ledger.
    """
    if (folder / SWEEP_FILE).exists() or not (folder / RESULTS_FILE).exists():
        return
    origin = "holds the runs that --runs collected" if COLLECTED in read_results(folder) else "is of an older version"
    raise ConfigError(
        f"the sweep {folder} {origin}: it has {RESULTS_FILE} and no {SWEEP_FILE}, so it cannot be gone on with; "
        "nothing of it was changed, give another --name"
    )


def seconds_per_sample(folder: Path) -> float | None:
    """Time of one training sample with its share of validation, from the sweep's own fits; None where none has one."""
    timed = [point for point in read_results(folder)["points"] if point["seconds"] and point["samples"]]
    if not timed:
        return None
    return float(sum(point["seconds"] for point in timed) / sum(point["samples"] for point in timed))
