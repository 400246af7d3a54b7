import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import r2_score

from shared.errors import DataError
from shared.report import print_summary, report_figures, wording
from shared.report.curve_evaluation import evaluate_curves
from shared.report.outputs import CurveOutputs
from shared.report.predictions import write_curve_predictions
from shared.report.schema import validate_report
from shared.report.sections import CAPTIONS
from shared.report.write import render_html, render_markdown, write_report
from tests.shared.report.curve_fold import AXES, SAMPLES, make_evaluation, make_index, make_outputs, make_report


@pytest.fixture
def curve_report(full_report: dict[str, Any]) -> dict[str, Any]:
    return make_report(full_report)


def test_rows_and_differences() -> None:
    outputs, evaluation = make_outputs(), make_evaluation()
    assert [row["name"] for row in evaluation.models] == ["last", "best_single", "final"]
    assert [row["name"] for row in evaluation.baselines] == ["linear"]
    scores = {row["name"]: row["metrics"]["r2"] for row in (*evaluation.models, *evaluation.baselines)}
    for name, entry in scores.items():
        flat = outputs.target.reshape(SAMPLES, -1), outputs.row(name).reshape(SAMPLES, -1)
        assert entry["value"] == pytest.approx(r2_score(*flat, multioutput="variance_weighted"))
    difference = evaluation.baselines[0]["diff_to_final"]["r2"]
    assert difference["value"] == pytest.approx(scores["final"]["value"] - scores["linear"]["value"])
    assert difference["lo"] > 0
    same = next(row for row in evaluation.models if row["name"] == "final")["diff_to_best_single"]["rmse"]
    assert same["value"] == 0.0


def test_channels_points_and_parts() -> None:
    outputs, evaluation = make_outputs(), make_evaluation()
    error = np.square(outputs.row("final") - outputs.target)
    assert list(evaluation.per_channel) == ["left", "right"]
    assert evaluation.per_channel["right"]["rmse"]["value"] == pytest.approx(np.sqrt(error[:, 1].mean()))
    assert evaluation.per_point["axis"] == AXES.axis_dict()
    found = [entry["value"] for entry in evaluation.per_point["rmse"]["final"]]
    assert found == pytest.approx(np.sqrt(error.mean(axis=(0, 1))).tolist())
    part = evaluation.per_group["first half"]
    assert (part["n"], part["groups"]) == (SAMPLES // 2, SAMPLES // 2)
    assert part["rows"]["final"]["rmse"]["value"] == pytest.approx(np.sqrt(error[: SAMPLES // 2].mean()))


def test_checks_count_the_samples_that_break_them() -> None:
    outputs, evaluation = make_outputs(), make_evaluation()
    found = {check["row"]: check for check in evaluation.checks}
    assert set(found) == {"target", "last", "best_single", "final", "linear"}
    broken = outputs.row("final").min(axis=(1, 2)) < -1e-6
    assert found["final"]["violations"] == broken.sum() > 0
    assert found["final"]["worst"] == pytest.approx(-outputs.row("final").min())
    assert found["target"] | {"share": None} == {
        "name": "not negative", "row": "target", "n": SAMPLES, "violations": 0, "worst": 0.0, "share": None,
    }  # fmt: skip


def test_flat_curves_are_told() -> None:
    outputs = make_outputs()
    outputs.target[0] = 0.5
    assert make_evaluation(outputs).warnings == [
        "2 of 120 true curves of the test fold are flat: correlation and peak leave them out"
    ]


def test_missing_rows_and_foreign_rows_are_refused() -> None:
    outputs, index = make_outputs(), make_index()
    with pytest.raises(DataError, match="must include 'final'"):
        evaluate_curves(outputs, index, model_rows=("last",), seed=0)
    far = CurveOutputs(outputs.predictions, outputs.target, outputs.rows + 1, AXES, (2, 9))
    with pytest.raises(DataError, match="name row 60; the sample index has 60 rows"):
        evaluate_curves(far, index, model_rows=("final",), seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.zeros(SAMPLES, dtype=np.int64)}, "59 samples twice"),
        ({"predictions": {}}, "at least one of each"),
        ({"predictions": {"final": np.zeros((SAMPLES, 2, 8))}}, r"curves 'final' have shape \(60, 2, 8\)"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    good = make_outputs()
    fields = {"predictions": good.predictions, "target": good.target, "rows": good.rows} | change
    with pytest.raises(DataError, match=message):
        CurveOutputs(**fields, axes=AXES, sample_shape=(2, 9))
    with pytest.raises(DataError, match="no row 'x'"):
        good.row("x")


def test_the_report_is_valid_and_says_the_scores_of_curves(curve_report: dict[str, Any], tmp_path) -> None:
    validate_report(curve_report)
    figures = report_figures(curve_report, outputs=make_outputs(), pictures=lambda rows: np.ones((len(rows), 8, 8)))
    assert {"rows", "samples", "per_point", "agreement", "subsets"} <= set(figures) <= set(CAPTIONS)
    paths = write_report(tmp_path, curve_report, figures)
    assert all(path.stat().st_size > 0 for path in paths.values())
    for page in (render_markdown(curve_report, {}), render_html(curve_report, {})):
        for words in ("R²", "RMSE", "peak shift, Hz", "linear", "not negative", "final minus linear", "ms a sample"):
            assert words in page, words
        assert "macro-F1" not in page


def test_verdicts_speak_of_r2_and_of_broken_checks(curve_report: dict[str, Any]) -> None:
    text = "\n".join(f"{line.level}: {line.text}" for line in wording.verdicts(curve_report))
    assert "The final network reaches R² 0." in text
    assert "final beats linear, R² +" in text
    assert "warn: not negative does not hold for" in text


def test_the_terminal_table(curve_report: dict[str, Any]) -> None:
    stream = io.StringIO()
    print_summary(curve_report, Console(file=stream, width=80, color_system=None))
    text = stream.getvalue()
    for words in ("R²", "peak shift, Hz", "R² by channel", "right", "R², all samples", "R², first half"):
        assert words in text, words
    assert max(map(len, text.splitlines())) <= 80


def test_scores_come_out_of_the_predictions_file_again(tmp_path) -> None:
    outputs, index = make_outputs(), make_index()
    write_curve_predictions(tmp_path / "predictions.csv", index, outputs, "test")
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    header, first = lines[0].split(","), lines[1].split(",")
    assert header[:5] == ["sample_id", "group", "fold", "rmse", "true_left_1"]
    assert len(lines) == SAMPLES + 1
    row = dict(zip(header, first, strict=True))
    assert (row["sample_id"], row["fold"]) == ("a.npy#0", "test")
    assert float(row["predicted_right_9"]) == pytest.approx(outputs.row("final")[0, 1, 8], rel=1e-8)
    with pytest.raises(DataError, match="fold 'dev'"):
        write_curve_predictions(tmp_path / "x.csv", index, outputs, "dev")
