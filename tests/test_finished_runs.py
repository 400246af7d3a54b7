"""What a finished run is good for: `load_run` predicts what the report is about, `evaluate` tests it on new data."""

import csv
import json

import numpy as np
import pytest
import torch
import yaml

import shared
from shared.crossover import load_state, save_state
from shared.engine import fit
from shared.errors import CheckpointError, ConfigError, DataError, LeakError
from shared.evaluate import evaluate
from shared.report import validate_report
from tests.fabricate.battery_run import tiny_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return fit(tiny_run(folder / "outputs", folder / "cache", "trainer.max_epochs=2"), quiet=True)


def test_load_run_predicts_the_probabilities_of_predictions_csv(finished):
    loaded = shared.load_run(finished.run.path)
    with (finished.run.path / "predictions.csv").open(newline="") as stream:
        rows = {row["sample_id"]: row for row in csv.DictReader(stream)}
    test_rows = finished.datamodule.rows("test")
    dataset = finished.datamodule.build_dataset("test", test_rows)
    probabilities = loaded.predict_loader(torch.utils.data.DataLoader(dataset, batch_size=16))
    for position in (0, 7, len(dataset) - 1):
        row = rows[finished.datamodule.index.ids[int(test_rows[position])]]
        expected = [float(row[f"prob_{name}"]) for name in finished.datamodule.index.classes]
        np.testing.assert_allclose(probabilities[position], expected, atol=2e-6)
    assert loaded.report == json.loads((finished.run.path / "report.json").read_text())


def test_a_batch_needs_no_target_to_be_predicted(finished):
    loaded = shared.load_run(finished.run.path)
    batch = {"image": torch.zeros(3, 1, 32, 32), "meta": torch.full((3, 2), -1)}
    torch.testing.assert_close(loaded.predict(batch).sum(dim=1), torch.ones(3))


def test_weights_other_than_the_tested_ones_are_refused(finished, tmp_path):
    path = finished.run.path / "crossover_final.safetensors"
    before = path.read_bytes()
    state = {name: tensor.clone() for name, tensor in load_state(path).items()}
    next(iter(state.values())).add_(1.0)
    save_state(path, state, {})
    try:
        with pytest.raises(CheckpointError, match="not those that were tested"):
            shared.load_run(finished.run.path)
    finally:
        path.write_bytes(before)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not a run directory"):
        shared.load_run(tmp_path)


def test_evaluation_on_another_set_has_a_report_of_its_own(finished, tmp_path):
    folder = evaluate("battery", finished.run.path, ["data.standin.seed=5", f"paths.outputs={tmp_path}"], quiet=True)
    report = json.loads((folder / "report.json").read_text())
    validate_report(report)
    assert report["data"]["folds"]["test"]["n"] == 240
    assert report["experiment"] == "late_fusion_evaluate"
    assert {row["name"] for row in report["models"]} == {"best_single", "final"}
    assert json.loads((folder / "status.json").read_text())["parents"] == [str(finished.run.path.resolve())]


def test_other_data_are_shown_as_the_network_was_trained_and_latest_stays(finished, tmp_path, battery_ct):
    battery_ct.write_ct(tmp_path / "other")
    outputs = finished.run.path.parents[2]
    overrides = ["data=battery_ct", f"data.root={tmp_path}/other", "data.num_workers=0", f"paths.outputs={outputs}"]
    folder = evaluate("battery", finished.run.path, overrides, quiet=True)
    used = yaml.safe_load((folder / "config.yaml").read_text())["data"]
    assert used["image_size_px"] == 32  # the network's, not the 512 px of battery_ct
    assert used["root"] == f"{tmp_path}/other"
    assert (outputs / "battery" / "latest").resolve() == finished.run.path.resolve()
    with pytest.raises(ConfigError, match="is an evaluation"):
        fit(tiny_run(outputs, tmp_path, f"resume={folder}"), quiet=True)


def test_evaluation_on_the_runs_own_data_is_a_leak(finished, tmp_path):
    with pytest.raises(LeakError, match="the very data set"):
        evaluate("battery", finished.run.path, [f"paths.outputs={tmp_path}"], quiet=True)


def test_evaluation_on_a_set_with_one_used_image_is_a_leak(finished, tmp_path, battery_ct):
    root = tmp_path / "other"
    battery_ct.write_ct(root)
    index, reader = finished.datamodule.index, finished.datamodule.reader
    used = finished.datamodule.rows("train")[0]
    (victim,) = list(root.rglob("*.png"))[:1]
    victim.write_bytes(reader.read(index.ids[int(used)]))
    for label in root.rglob("*.json"):  # the copied image has another size than its label says
        if label.stem == victim.stem:
            content = json.loads(label.read_text())
            size = {"width": 32, "height": 32, "is_normal": True, "defects": None, "battery_outline": None}
            label.write_text(json.dumps({**content, **size}))
    overrides = ["data=battery_ct", f"data.root={root}", f"paths.outputs={tmp_path}", "data.num_workers=0"]
    with pytest.raises(LeakError, match="has the content of a sample in fold 'train'"):
        evaluate("battery", finished.run.path, overrides, quiet=True)


def test_classes_that_the_network_does_not_know_are_refused(finished):
    arguments = {"classes": ["cell_normal"], "meta_names": {}}
    with pytest.raises(DataError, match="has the class 'cell_porosity'"):
        finished.datamodule.align(arguments)


def test_overrides_of_anything_but_the_data_are_refused(finished):
    with pytest.raises(ConfigError, match=r"got optimizer\.lr=1"):
        evaluate("battery", finished.run.path, ["optimizer.lr=1"], quiet=True)
    with pytest.raises(ConfigError, match=r"unknown config key data\.rot"):
        evaluate("battery", finished.run.path, ["data.rot=x"], quiet=True)
