"""The network of stories through the whole engine: four tasks, crashes that cost time only, bfloat16."""

import csv
import json

import numpy as np
import pytest
import torch

from shared.engine import fit
from shared.loading import load_run
from shared.report import validate_report
from tests.fabricate.battery_run import EXCLUDED, CrashError
from tests.fabricate.story_run import tiny_story_run
from tests.test_resume import act_at, assert_equal, raise_crash

WHOLE = (
    "trainer.max_epochs=6",
    "trainer.limit_train_batches=3",
    "callbacks.update_monitor.every_n_batches=5",
    "callbacks.crossover.blocks=2",
    "callbacks.crossover.neighbours=[2]",
    "callbacks.crossover.cache_mb=0",
)
"""Six snapshots, so that there is something to choose from, and as little search as there can be."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    return fit(tiny_story_run(tmp_path_factory.mktemp("outputs"), cache, *WHOLE), quiet=True)


def test_the_report_holds_all_tasks_and_every_row(finished):
    report = finished.report
    validate_report(report)
    assert (report["project"], report["data"]["source"]) == ("redheart", "stand-in")
    assert set(report["tasks"]) == {"bentham", "regret", "surd"}
    names = [row["name"] for row in report["models"]]
    assert {"last", "best_single", "ema", "sweet_spot", "delta_ensemble", "final"} <= set(names)
    assert set(report["tasks"]["regret"]["rows"]) == set(names)
    assert [row["name"] for row in report["baselines"]] == ["tfidf_logreg"]
    assert report["risk_coverage"]["aurc"]["value"] >= 0
    assert report["cost"]["oom_events"] == 0
    groups = set(report["crossover"]["sources"])
    assert groups == {"A", "B", "C", *(f"advanced_{task}" for task in ("emotion", "regret", "bentham", "surd"))}
    assert any("encoder=hashing knows spelling" in sentence for sentence in report["warnings"])


def test_what_a_module_moves_and_what_a_group_loses_is_logged(finished):
    with (finished.run.path / "metrics.csv").open(newline="") as stream:
        last = list(csv.DictReader(stream))[-1]
    for key in (
        "train/objective",
        "train/gradient_norm",
        "val/surd/mae",
        "val/group/C/loss",
        "val/group/advanced_surd/loss",
    ):
        assert np.isfinite(float(last[key])), key


def test_a_loaded_run_says_what_predictions_csv_says(finished):
    loaded = load_run(finished.run.path)
    rows = finished.datamodule.rows("test")
    loader = torch.utils.data.DataLoader(
        finished.datamodule.build_dataset("test", rows), 64, collate_fn=lambda batch: batch
    )
    probs = loaded.predict_loader(loader).double().numpy()
    with (finished.run.path / "predictions.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    written = np.array([[float(row[f"prob_{name}"]) for name in finished.datamodule.index.classes] for row in table])
    np.testing.assert_allclose(probs, written, atol=1e-6)
    known = [row for row in table if row["true_regret_regret_factor"]]
    assert 0 < len(known) <= len(table)
    assert all(0 <= float(row["predicted_regret_regret_factor"]) <= 1 for row in known)


@pytest.mark.slow
def test_a_crash_in_mid_epoch_costs_time_only(finished, cache, tmp_path, monkeypatch):
    act_at(monkeypatch, (3, 1), raise_crash)
    with pytest.raises(CrashError):
        fit(tiny_story_run(tmp_path, cache, *WHOLE), quiet=True)
    resumed = fit(tiny_story_run(tmp_path, cache, *WHOLE, "resume=auto"), quiet=True)
    assert_equal(finished, resumed)
    assert set(EXCLUDED) & set(resumed.report)


@pytest.mark.slow
def test_weights_in_bfloat16_survive_every_stage(cache, tmp_path):
    result = fit(
        tiny_story_run(
            tmp_path, cache, *WHOLE, "model.weights=bfloat16", "optimizer.name=adamw_factored",
            "callbacks.sweet_spot.keep_per_group=4", "callbacks.ema.enabled=false",
        ),
        quiet=True,
    )  # fmt: skip
    validate_report(result.report)
    weights = load_run(result.run.path).module.network.state_dict()
    assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.bfloat16}
    records = [json.loads(path.read_text()) for path in sorted(result.run.path.glob("snapshots/*/metrics.json"))]
    kept = [
        sum(not entry.get("thinned", False) for entry in column)
        for column in zip(*(r["groups"].values() for r in records), strict=True)
    ]
    assert all(4 <= count < 6 for count in kept)


@pytest.mark.slow
def test_a_rehearsal_moves_no_weight(cache, tmp_path):
    result = fit(tiny_story_run(tmp_path, cache, "runtime.rehearse=true"), quiet=True)
    assert any(sentence.startswith("this was a rehearsal") for sentence in result.report["warnings"])
