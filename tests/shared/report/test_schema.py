import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.audit import AuditRow
from shared.environment import git_state
from shared.errors import DataError, UserError
from shared.leakage import check_leakage
from shared.report.schema import report_schema, validate_report
from shared.sample_index import SampleIndex
from shared.statistics import Estimate

OF_CURVES = {"per_channel", "per_point", "checks"}
"""Parts that only a report about curves has: tests/shared/report/test_curve_evaluation.py."""
PARTS = (
    "audit", "models", "baselines", "crossover", "calibration", "per_class", "per_group", "risk_coverage", "tasks",
    "cost", "resume",
)  # fmt: skip


def test_full_report_is_valid_and_json(report: dict[str, Any]) -> None:
    validate_report(report)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("part", PARTS)
def test_parts_that_did_not_run_may_be_absent(report: dict[str, Any], part: str) -> None:
    del report[part]
    validate_report(report)


def test_every_other_key_is_required(report: dict[str, Any]) -> None:
    required = set(report) - set(PARTS)
    assert set(report_schema()["required"]) == required
    assert set(report_schema()["properties"]) == set(report) | OF_CURVES
    for key in required:
        with pytest.raises(DataError, match=rf"at \$: the key '{key}' is missing"):
            validate_report({name: value for name, value in report.items() if name != key})


def spoil(report: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    node: Any = report
    for step in parents:
        node = node[step]
    node[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("notes", "x", r"at \$: found the unknown key 'notes'; allowed are schema, project"),
        ("schema", 2, r"at \$\.schema: found 2 \(int\); allowed is 1"),
        ("status", "finished", r"at \$\.status: found 'finished' .*allowed are running, interrupted, failed, done"),
        ("started", "yesterday", r"at \$\.started: found 'yesterday'"),
        ("seed", "7", r"at \$\.seed: found '7' \(str\); allowed is integer"),
        ("seed", np.int64(7), r"at \$\.seed: found .*\(int64\); allowed is integer"),
        ("data.folds.holdout", {"n": 1, "groups": 1}, r"at \$\.data\.folds: .*allowed are train, val"),
        ("data.source", "fake", r"at \$\.data\.source: .*allowed are stand-in, real"),
        ("audit.0.verdict", "fine", r"at \$\.audit\[0\]\.verdict: .*allowed are clear, shortcut, undecided"),
        ("audit.0.auroc", 1.5, r"at \$\.audit\[0\]\.auroc: found 1\.5 \(float\); allowed is a maximum of 1"),
        ("models.0.name", "winner", r"at \$\.models\[0\]\.name: .*allowed are last, best_single"),
        ("models.0.name", "delta_0", r"allowed are last, .*, final, text that matches \^delta_"),
        ("tasks.wear.rows.winner", {}, r"at \$\.tasks\.wear\.rows: found 'winner' .*allowed are last"),
        ("risk_coverage.curve.0.coverage", 1.5, r"\.coverage: found 1\.5 \(float\); allowed is a maximum of 1"),
        ("models.0.metrics.accuracy", 0.9, r"metrics\.accuracy: found 0\.9 \(float\); allowed is object"),
        ("models.0.metrics.accuracy.ci", 1, r"at \$\.models\[0\]\.metrics\.accuracy: found the unknown key 'ci'"),
        ("models.0.metrics.nll.value", float("nan"), r"at \$\.models\[0\]\.metrics\.nll\.value: found nan"),
        ("crossover.decision", "maybe", r"at \$\.crossover\.decision"),
        ("crossover.sources.head", "31", r"at \$\.crossover\.sources\.head: .*allowed is integer"),
        ("calibration.before.mce", {}, r"at \$\.calibration\.before: found the unknown key 'mce'"),
        ("cost.oom_events", -1, r"at \$\.cost\.oom_events: found -1 \(int\); allowed is a minimum of 0"),
    ],
)  # fmt: skip
def test_departures_are_named_by_path(report: dict[str, Any], path: str, value: Any, message: str) -> None:
    spoil(report, path, value)
    with pytest.raises(UserError, match=message):
        validate_report(report)


def test_shifted_sweet_spots_are_rows(report: dict[str, Any]) -> None:
    for name in ("sweet_spot", "delta_-4", "delta_+12", "delta_ensemble"):
        report["models"][0]["name"] = name
        validate_report(report)


def test_what_other_rooms_write_fits(report: dict[str, Any], index: SampleIndex, tmp_path: Path) -> None:
    report["audit"] = [asdict(AuditRow("axis", 0.78, 0.74, 0.81, 0.005, "shortcut"))]
    report["data"]["leakage"] = check_leakage(index, (index.group % 5).astype(np.int8)).as_dict()
    report["git"] = git_state(tmp_path)
    report["per_class"]["cell_normal"]["f1"] = Estimate(float("nan"), None, None, 3, "no interval: 3 groups").as_dict()
    validate_report(report)


def test_an_estimate_needs_all_five_fields(report: dict[str, Any]) -> None:
    del report["per_class"]["cell_normal"]["f1"]["method"]
    with pytest.raises(
        DataError, match=r"per_class\.cell_normal\.f1: the key 'method' is missing; required are value, lo"
    ):
        validate_report(report)
