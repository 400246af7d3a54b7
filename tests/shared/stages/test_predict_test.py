"""One run of the whole engine with everything a row or a head may add: heads, simple models, shifted sweet spots."""

import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from projects.battery.data.datamodule import BatteryDataModule
from projects.battery.module import BatteryClassifier
from shared.callbacks.collect import CollectOutputs
from shared.crossover import load_metadata
from shared.engine import fit
from shared.errors import DataError, TrainingError
from shared.report import validate_report
from shared.snapshots import SnapshotStore
from shared.stages import predict_test as stage
from shared.table_rows import members_of_ensemble, model_rows
from tests.fabricate.battery_run import tiny_run

HEADS = {"size": ("length", "width"), "empty": ("nothing",)}
SETTINGS = (
    "trainer.max_epochs=6", "callbacks.crossover.variant_rows=true", "callbacks.sweet_spot.keep_per_group=2",
    "callbacks.crossover.neighbours=[1,2]",
)  # fmt: skip


def with_heads(step):
    """The step of a network that says two more numbers, one of them with missing targets; another head has none."""

    def shared_step(self, batch, stage):
        outputs = step(self, batch, stage)
        said = outputs["logits"].softmax(dim=1)[:, :2]
        target = torch.stack([(batch["target"] == 0).float(), batch["sample_index"] % 7 / 7.0], dim=1)
        mask = torch.stack([batch["sample_index"] % 3 > 0, batch["target"] >= 0], dim=1)
        never = torch.zeros_like(mask[:, :1])
        empty = {"prediction": said[:, :1], "target": target[:, :1], "mask": never}
        return outputs | {"heads": {"size": {"prediction": said, "target": target, "mask": mask}, "empty": empty}}

    return shared_step


def shares_of_train(self, fit_rows, test_rows):
    """A simple model: how often each class is in train."""
    shares = np.bincount(self.index.label[fit_rows], minlength=len(self.index.classes)) / len(fit_rows)
    return {"class_shares": np.tile(shares, (len(test_rows), 1))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BatteryClassifier, "shared_step", with_heads(BatteryClassifier.shared_step))
        patched.setattr(BatteryClassifier, "head_names", lambda self: HEADS)
        patched.setattr(BatteryDataModule, "baselines", shares_of_train)
        yield fit(tiny_run(folder / "outputs", folder / "cache", *SETTINGS), quiet=True)


def ledger(run):
    events = [json.loads(line) for line in (run.path / "ledger.jsonl").read_text().splitlines()]
    return [(event.get("purpose"), event.get("fold")) for event in events if event["event"] == "use"], events


def test_every_row_says_the_numbers_of_every_head(whole):
    validate_report(whole.report)
    tasks = whole.report["tasks"]
    assert set(tasks) == {"size"}  # the head without a target on test is absent
    names = [row["name"] for row in whole.report["models"]]
    assert list(tasks["size"]["rows"]) == names
    assert tasks["size"]["n"] == whole.report["data"]["folds"]["test"]["n"]
    assert set(tasks["size"]["per_number"]) == {"length", "width"}
    assert set(tasks["size"]["diff_to_best_single"]) == set(names) - {"best_single"}
    page = (whole.run.path / "report.md").read_text()
    assert "## Numbers beside the classes" in page
    assert "figures/tasks.png" in page
    assert "figures/risk_coverage.png" in page


def test_predictions_csv_holds_final_and_its_numbers(whole):
    with (whole.run.path / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    index = whole.datamodule.index
    of_id = {index.ids[int(row)]: int(row) for row in whole.datamodule.rows("test")}
    errors = []
    for row in rows:
        number = of_id[row["sample_id"]]
        assert (row["true_size_length"] == "") == (row["predicted_size_length"] == "") == (number % 3 == 0)
        assert float(row["true_size_width"]) == pytest.approx(number % 7 / 7.0)
        errors.append(abs(float(row["true_size_width"]) - float(row["predicted_size_width"])))
    expected = whole.report["tasks"]["size"]["per_number"]["width"]["mae"]["value"]
    assert np.mean(errors) == pytest.approx(expected, abs=1e-6)


def test_simple_models_stand_among_the_baselines_and_train_is_recorded(whole):
    (row,) = [row for row in whole.report["baselines"] if row["name"] == "class_shares"]
    label, test = whole.datamodule.index.label, whole.datamodule.rows("test")
    common = np.bincount(label[whole.datamodule.rows("train")]).argmax()
    assert row["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(label[test] == common))
    assert "f1_macro" in row["diff_to_final"]
    uses, events = ledger(whole.run)
    assert uses.count(("fit", "train")) == 2  # the network, and the simple models
    assert [event["event"] for event in events].count("open_test") == 1


def test_shifted_sweet_spots_are_rows_with_their_ensemble(whole):
    names = [row["name"] for row in whole.report["models"]]
    assert names == model_rows(names)
    members = members_of_ensemble(names)
    assert members[0] == "sweet_spot"
    assert len(members) > 1
    assert names[names.index(members[-1]) + 1] == "delta_ensemble"
    details = json.loads((whole.run.path / "crossover.json").read_text())["variant_rows"]
    assert list(details) == [*members[:1], *sorted(members[1:], key=list(details).index)]
    for name in members:
        metadata = load_metadata(whole.run.path / "candidates" / f"{name}.safetensors")
        assert set(metadata["source_epochs"].values()) == set(details[name]["epochs"].values())
    assert not (whole.run.path / "candidates" / "delta_ensemble.safetensors").exists()
    known = {row["name"]: row["metrics"]["nll"]["value"] for row in whole.report["models"]}
    assert known["delta_ensemble"] <= max(known[name] for name in members)  # log is concave


def test_the_run_lives_with_thinned_snapshots(whole):
    store = SnapshotStore(whole.run.path / "snapshots")
    assert store.epochs() == list(range(6))
    for group in ("backbone", "metadata", "fusion", "heads"):
        assert 2 <= sum(store.has(epoch, group) for epoch in store.epochs()) <= 4
    assert whole.report["crossover"]["n_candidates"] > 0
    assert not [sentence for sentence in whole.report["warnings"] if "snapshot" in sentence]


@pytest.mark.parametrize("name", ["image_only", "delta_+2"])
def test_a_simple_model_with_the_name_of_another_row_is_refused(whole, monkeypatch, name):
    monkeypatch.setattr(BatteryDataModule, "baselines", lambda self, fit_rows, rows: {name: np.zeros((len(rows), 5))})
    session = SimpleNamespace(datamodule=whole.datamodule, ledger=SimpleNamespace(record=lambda *what: None))
    with pytest.raises(DataError, match=rf"the baseline '{re.escape(name)}' has the name of another row"):
        stage._simple_models(session, np.arange(3), ["final", "image_only"])


def test_a_simple_model_must_give_probabilities():
    for values in (np.full((4, 5), 0.3), np.full((4, 4), 0.25), np.full((4, 5), np.nan)):
        with pytest.raises(
            DataError, match=r"'shares' gives an array \(4, \d\); probabilities \(4, 5\) whose rows sum to 1"
        ):
            stage._checked_probabilities("shares", values, (4, 5))


def test_without_the_slot_nothing_is_recorded(whole, monkeypatch):
    monkeypatch.delattr(BatteryDataModule, "baselines")
    session = SimpleNamespace(datamodule=whole.datamodule, ledger=None)  # any use of it would raise
    assert stage._simple_models(session, np.arange(3), []) == {}


def collected(prediction, mask=None):
    """A pass over two samples with one head."""
    found = CollectOutputs()
    head = {
        "prediction": prediction, "target": torch.zeros(2, prediction.shape[1]),
        "mask": torch.ones(2, prediction.shape[1], dtype=torch.bool),
    }  # fmt: skip
    outputs = {"logits": torch.zeros(2, 3), "target": torch.zeros(2), "sample_index": torch.arange(2)}
    found.on_test_batch_end(None, None, outputs | {"heads": {"size": head}}, {}, 0)
    return found


def test_a_head_that_is_not_named_is_refused(whole):
    session = SimpleNamespace(module=SimpleNamespace(head_names=lambda: {"size": ("length",)}))
    with pytest.raises(TrainingError, match=r"returns 2 numbers of the head 'size'; head_names\(\) names 1"):
        stage._heads(session, {"final": collected(torch.zeros(2, 2))})


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_numbers_outside_of_0_to_1_are_refused(value):
    with pytest.raises(TrainingError, match="the head size predicts numbers outside of 0 to 1"):
        collected(torch.full((2, 1), value)).heads()


def test_a_head_that_speaks_of_some_batches_only_is_refused():
    found = collected(torch.zeros(2, 1))
    found.on_test_batch_end(
        None, None, {"logits": torch.zeros(2, 3), "target": torch.zeros(2), "sample_index": torch.arange(2)}, {}, 1
    )
    with pytest.raises(TrainingError, match="the head size spoke of 2 of 4 samples"):
        found.heads()
