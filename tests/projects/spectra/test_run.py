"""The engine on stand-in cells: a report about curves, a crash that costs time only, weights that travel."""

import csv
import json

import numpy as np
import pytest
import torch

import shared
from shared.engine import fit
from shared.errors import CheckpointError, ConfigError, DataError
from shared.evaluate import evaluate
from shared.final import checkpoint_state
from shared.report import validate_report
from shared.weights import weights_sha256
from tests.fabricate.battery_run import CrashError, composed
from tests.fabricate.spectra_run import tiny_run
from tests.test_resume import act_at, assert_equal, raise_crash


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    return fit(tiny_run(tmp_path_factory.mktemp("outputs"), cache), quiet=True)


def test_the_report_sets_the_network_beside_its_baselines(finished):
    report = finished.report
    validate_report(report)
    assert report["project"] == "spectra"
    assert [row["name"] for row in report["baselines"]] == ["ridge on Fourier orders", "nearest neighbour"]
    assert set(report["per_channel"]) == {"B", "G upper right", "G lower left", "R"}
    assert report["per_point"]["axis"]["unit"] == "nm"
    assert len(report["per_point"]["rmse"]["final"]) == 8
    assert report["cost"]["test_ms_per_sample"] > 0
    target = {check["name"]: check["violations"] for check in report["checks"] if check["row"] == "target"}
    assert target == {"power is not negative": 0, "no more than the incident power": 0}
    for name in ("samples", "per_point", "agreement", "rows", "curves"):
        assert (finished.run.path / "figures" / f"{name}.png").stat().st_size > 5000


def test_scores_of_the_report_come_out_of_predictions_csv(finished):
    with (finished.run.path / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    true, said = (
        np.array([[float(row[key]) for key in row if key.startswith(prefix)] for row in rows])
        for prefix in ("true_", "predicted_")
    )
    final = next(row for row in finished.report["models"] if row["name"] == "final")["metrics"]
    assert np.sqrt(np.mean((true - said) ** 2)) == pytest.approx(final["rmse"]["value"], rel=1e-6)
    loaded = shared.load_run(finished.run.path)
    loader = torch.utils.data.DataLoader(
        finished.datamodule.build_dataset("test", finished.datamodule.rows("test")), 16, collate_fn=lambda batch: batch
    )
    again = loaded.predict_loader(loader).flatten(1)
    order = np.argsort(finished.outputs.rows)
    np.testing.assert_allclose(again[order], said, atol=1e-5)  # batches of another size round otherwise


def test_the_ledger_says_that_the_baselines_were_fitted_on_train(finished):
    lines = [json.loads(line) for line in (finished.run.path / "ledger.jsonl").read_text().splitlines()]
    assert any("baselines" in json.dumps(line) and "train" in json.dumps(line) for line in lines)


def test_a_crash_costs_time_only(finished, cache, tmp_path, monkeypatch):
    act_at(monkeypatch, (1, 2), raise_crash)
    with pytest.raises(CrashError):
        fit(tiny_run(tmp_path, cache), quiet=True)
    assert_equal(finished, fit(tiny_run(tmp_path, cache, "resume=auto"), quiet=True))


def test_a_run_goes_on_from_best_as_well_as_from_last(cache, tmp_path, monkeypatch):
    act_at(monkeypatch, (2, 1), raise_crash)
    with pytest.raises(CrashError):
        fit(tiny_run(tmp_path, cache), quiet=True)
    (best,) = tmp_path.glob("spectra/cnn_xattn/*/checkpoints/best.ckpt")
    resumed = fit(tiny_run(tmp_path, cache, f"resume={best}"), quiet=True)
    assert resumed.report["resume"]["checkpoint"] == "best.ckpt"
    assert resumed.run.done("fit")["epochs"] == 3


def test_training_is_the_same_whatever_the_workers_and_the_store(cache, tmp_path):
    off = [f"callbacks.{name}.enabled=false" for name in ("ema", "sweet_spot", "crossover", "panels")]
    small = ("stages=[fit]", "trainer.max_epochs=2", *off)
    hashes = {}
    for place, override in enumerate(("data.num_workers=0", "data.num_workers=1", "data.store_device=cpu")):
        run = fit(tiny_run(tmp_path / str(place), cache, override, *small), quiet=True)
        hashes[override] = weights_sha256(checkpoint_state(run.run, "last.ckpt"))
    assert len(set(hashes.values())) == 1, hashes


def test_a_fit_begins_with_the_weights_of_another_run(finished, cache, tmp_path):
    start = fit(
        tiny_run(
            tmp_path, cache, f"model.init_from={finished.run.path}", "data.standin.seed=1", "optimizer.lr=1e-12",
            "scheduler.eta_min=0",
        ),
        quiet=True,
    )  # fmt: skip
    assert start.run.status()["parents"] == [str(finished.run.path.resolve())]
    assert finished.run.path.name in start.report["artifacts"]["first weights"]
    ours, theirs = (dict(shared.load_run(run.run.path).module.named_parameters()) for run in (start, finished))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=0)
    with pytest.raises(CheckpointError, match="do not fit this network"):
        fit(
            tiny_run(
                tmp_path, cache, f"model.init_from={finished.run.path}", "model.parameters.width=0.125",
                "data.standin.seed=1",
            ),
            quiet=True,
        )  # fmt: skip


def test_fine_tuning_asks_for_the_run_to_begin_with(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.init_from is 'name-a-finished-run', which is no run directory"):
        fit(composed("spectra", "+experiment=rcwa_finetune", f"paths.outputs={tmp_path}"), quiet=True)
    assert not list(tmp_path.rglob("status.json"))


def test_the_network_is_tested_on_cells_it_has_never_seen(finished, tmp_path):
    folder = evaluate("spectra", finished.run.path, ["data.standin.seed=5", f"paths.outputs={tmp_path}"], quiet=True)
    report = json.loads((folder / "report.json").read_text())
    validate_report(report)
    assert {row["name"] for row in report["models"]} == {"best_single", "final"}
    assert "baselines" not in report  # there is no train fold to fit them on
    with pytest.raises(DataError, match="output_shape"):
        evaluate("spectra", finished.run.path, ["data.standin.seed=6", "data.num_wavelengths=9"], quiet=True)


def test_wrong_names_are_refused_before_any_work(cache, tmp_path):
    for override, words in (
        ("model.network=cnn_xatn", "cnn_xattn"),
        ("model.loss=mse_person", "mse_pearson"),
        ("data.symmetry=rotation", "rotation_180"),
    ):
        with pytest.raises(ConfigError, match=words):
            fit(tiny_run(tmp_path, cache, override), quiet=True)
