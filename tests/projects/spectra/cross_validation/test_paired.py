import json

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import r2_score

from projects.spectra import compare_cross_validations
from projects.spectra.cross_validation.comparison import METRICS
from projects.spectra.cross_validation.paired import compare_results, paired_table, read_result
from shared.cross_validation.rounds import save_rows
from shared.curve_scores import CurveAxes
from shared.errors import ConfigError, DataError
from shared.report.outputs import CurveOutputs, TestOutputs
from shared.run_dir import RunDirectory

AXES = CurveAxes(("B", "R"), "wavelength", "nm", (400.0, 450.0, 500.0))
TARGET = np.random.default_rng(0).random((80, 2, 3))
GROUP = np.repeat(np.arange(40), 2).astype(np.int32)
ROUND = np.repeat(np.arange(5), 16)


def noisy(noise, target=TARGET):
    return target + np.random.default_rng(1).normal(0, noise, target.shape)


def finished(root, experiment, noise, *, target=TARGET, round_of=ROUND, axes=AXES, data_hash="d", group=GROUP):
    """A directory as cross_validate leaves it, but for page and figures."""
    run = RunDirectory.create(root, "cross_validation", experiment)
    outputs = CurveOutputs({"final": noisy(noise, target)}, target, np.arange(80), axes, (2, 3))
    save_rows(run.path / "predictions.npz", outputs, group=group, round=round_of)
    content = {
        "experiment": experiment, "run": run.path.name, "seed": 0, "data_hash": data_hash, "init_from": None,
        "axis": axes.axis_dict(),
    }  # fmt: skip
    (run.path / "cross_validation.json").write_text(json.dumps(content))
    run.finish()
    return run


def test_the_difference_is_paired_by_group_and_agrees_with_scikit_learn(tmp_path):
    a = read_result(finished(tmp_path, "tuned", 0.05).path)
    b = read_result(finished(tmp_path, "scratch", 0.1).path)
    content = compare_results(a, b, draws=300)
    r2 = [
        r2_score(TARGET.reshape(80, -1), noisy(noise).reshape(80, -1), multioutput="variance_weighted")
        for noise in (0.05, 0.1)
    ]
    assert content["a"]["scores"]["r2"]["value"] == pytest.approx(r2[0])
    assert content["b"]["scores"]["r2"]["value"] == pytest.approx(r2[1])
    gap = content["difference"]["r2"]
    assert gap["value"] == pytest.approx(r2[0] - r2[1])
    assert 0 < gap["lo"] < gap["value"] < gap["hi"]
    assert gap["n_groups"] == content["groups"] == 40
    assert set(content["difference"]) == set(METRICS)
    # The noise of b is that of a doubled, so the errors of a group rise and fall together and a pair differs by less.
    width = content["b"]["scores"]["rmse"]["hi"] - content["b"]["scores"]["rmse"]["lo"]
    paired = content["difference"]["rmse"]["hi"] - content["difference"]["rmse"]["lo"]
    assert paired == pytest.approx(width / 2, rel=1e-6)


def test_the_command_writes_beside_the_first_result_and_prints_a_table(tmp_path, capsys):
    a, b = finished(tmp_path, "tuned", 0.05), finished(tmp_path, "scratch", 0.1)
    compare_cross_validations.main([str(a.path), str(b.path)])
    lines = capsys.readouterr().out.splitlines()
    path = a.path.parent / f"{a.path.name}-minus-scratch-{b.path.name}.json"
    assert lines[-1] == f"comparison: {path}"
    assert any("A minus B, paired" in line for line in lines)
    assert json.loads(path.read_text()) == compare_results(read_result(a.path), read_result(b.path))


def test_the_table_fits_a_terminal(tmp_path):
    a, b = (read_result(finished(tmp_path, name, 0.1).path) for name in ("rcwa_finetune", "rcwa_scratch"))
    console = Console(width=100)
    with console.capture() as captured:
        console.print(paired_table(compare_results(a, b, draws=100)))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    assert any("A minus B, paired" in line for line in lines)
    assert sum(line.count("[") for line in lines) == 18  # three intervals for each of six metrics


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data_hash": "e"}, "were made on different data"),
        ({"round_of": ROUND[::-1].copy()}, "have other folds: 64 samples are tested in different rounds"),
        (
            {"axes": CurveAxes(("B", "R"), "wavelength", "nm", (400.0, 450.0, 501.0))},
            "predict other channels or points",
        ),
        ({"target": TARGET + 1}, "tested on different curves of the same patterns"),
    ],
)
def test_results_on_other_ground_are_refused(tmp_path, change, sentence):
    a, b = finished(tmp_path, "tuned", 0.05), finished(tmp_path, "scratch", 0.1, **change)
    with pytest.raises(DataError, match=sentence):
        compare_results(read_result(a.path), read_result(b.path))


def test_what_is_no_finished_result_is_refused(tmp_path, capsys):
    with pytest.raises(ConfigError, match="is not a run directory"):
        read_result(tmp_path)
    run = finished(tmp_path, "tuned", 0.05)
    classes = TestOutputs({"final": np.ones((1, 1))}, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    save_rows(run.path / "predictions.npz", classes)
    with pytest.raises(DataError, match="holds no curves"):
        read_result(run.path)
    run.set_state("failed")
    with pytest.raises(DataError, match="is no finished cross-validation"):
        read_result(run.path)
    with pytest.raises(SystemExit) as stop:
        compare_cross_validations.main([str(run.path), str(run.path)])
    assert stop.value.code == DataError.exit_code
    assert capsys.readouterr().err.startswith("error: ")
