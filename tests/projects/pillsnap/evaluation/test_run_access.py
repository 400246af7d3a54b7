import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from projects.pillsnap.evaluation import run_access
from projects.pillsnap.evaluation.procedure import EvaluationSettings, evaluate_run
from projects.pillsnap.evaluation.run_access import device_named, open_run, predicted_by_the_run
from shared.base_data import no_progress
from shared.calibrators.temperature import TemperatureCalibrator
from shared.errors import CheckpointError, ConfigError, LeakError
from shared.final import FinalCalibrator, final_sha256
from shared.ledger import Ledger
from shared.run_dir import RunDirectory
from shared.splits import write_splits
from tests.fabricate.pill_opened_run import MadeUpData, made_up_network


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a run whose test was opened for its network: `load` and `data` are what `open_run` will find."""
    data, module = MadeUpData(), made_up_network()
    run = RunDirectory.create(tmp_path, "pillsnap", "made_up")
    calibrator = FinalCalibrator(TemperatureCalibrator(2.0), ("studio", "real"))
    settings = SimpleNamespace(seed=3, plain={"data": {}}, paths=SimpleNamespace(cache="unused"))
    ledger = Ledger(run.path)
    ledger.bind(data.index, data.fold, write_splits(run.path / "splits.csv", data.index, data.fold))
    final = final_sha256(module.state_dict(), calibrator)
    ledger.open_test(final)
    run.mark_done("test", {"final_sha256": final})
    found = SimpleNamespace(
        data=data, run=run, loaded=SimpleNamespace(run=run, module=module, settings=settings, calibrator=calibrator)
    )
    monkeypatch.setattr(run_access, "load_run", lambda path: found.loaded)
    monkeypatch.setattr(run_access, "instantiate", lambda *arguments, **options: found.data)
    monkeypatch.setattr(run_access, "PhotoDataModule", MadeUpData)
    return found


def test_the_test_fold_opens_again_for_the_network_that_was_tested(finished) -> None:
    before = (finished.run.path / "splits.csv").read_bytes()
    opened = open_run(finished.run.path, no_progress)
    assert opened.final_sha256 == finished.run.done("test")["final_sha256"]
    np.testing.assert_array_equal(opened.fold_rows("test", "test"), finished.data.rows("test"))
    last = (finished.run.path / "ledger.jsonl").read_text().splitlines()[-1]
    assert '"stage": "evaluate"' in last
    assert '"fold": "test"' in last
    assert (finished.run.path / "splits.csv").read_bytes() == before
    assert opened.folder == finished.run.path / "evaluation"


def test_a_fold_serves_what_it_is_for_only(finished) -> None:
    opened = open_run(finished.run.path, no_progress)
    with pytest.raises(LeakError, match=r"fold 'test' may not be used for 'threshold'"):
        opened.fold_rows("test", "threshold")


def test_other_weights_are_refused(finished) -> None:
    with torch.no_grad():
        finished.loaded.module.network.head[1].bias += 1.0
    with pytest.raises(LeakError, match=r"was opened for the weights .* may not be opened again"):
        open_run(finished.run.path, no_progress)


def test_another_calibrator_is_refused(finished) -> None:
    finished.loaded.calibrator = None
    with pytest.raises(LeakError, match=r"may not be opened again"):
        open_run(finished.run.path, no_progress)


def test_other_data_are_refused(finished) -> None:
    index = finished.data.index
    finished.data.index = dataclasses.replace(index, label=index.label[::-1].copy())
    with pytest.raises(LeakError, match=r"was bound to other data or folds before .*data_hash"):
        open_run(finished.run.path, no_progress)


def test_other_folds_are_refused(finished) -> None:
    finished.data.fold = np.roll(finished.data.fold, 4)
    with pytest.raises(LeakError, match=r"was bound to other data or folds before .*splits_hash"):
        open_run(finished.run.path, no_progress)


def test_a_run_that_has_not_tested_is_refused(finished) -> None:
    untested = RunDirectory.create(finished.run.path.parents[2], "pillsnap", "untested")
    finished.loaded.run = untested
    with pytest.raises(CheckpointError, match=r"has not been tested; resume it first"):
        open_run(untested.path, no_progress)


def test_a_run_of_another_project_is_refused(finished) -> None:
    finished.loaded.module = torch.nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match=r"holds a Linear, allowed: runs of the pillsnap project"):
        open_run(finished.run.path, no_progress)


def test_logits_are_calibrated_without_a_domain(finished) -> None:
    opened = open_run(finished.run.path, no_progress)
    logits = np.array([[2.0, -4.0]], dtype=np.float32)
    np.testing.assert_array_equal(opened.calibrated(logits), [[1.0, -2.0]])
    plain = dataclasses.replace(opened, loaded=SimpleNamespace(calibrator=None))
    np.testing.assert_array_equal(plain.calibrated(logits), logits)


def test_photos_pills_and_sides_come_from_the_index(finished) -> None:
    opened = open_run(finished.run.path, no_progress)
    photos = opened.photos(np.array([0, 5]))
    assert photos.ids == ["photo0", "photo5"]
    assert photos.labels == photos.classes == finished.data.index.classes
    assert photos.domain.tolist() == [1, 1]
    assert opened.pills(np.array([0, 5])) == (["pill0", "pill1"], ["front", "back"])


def test_the_floor_is_fitted_on_train_and_the_ledger_knows(finished) -> None:
    opened = open_run(finished.run.path, no_progress)
    rows = opened.fold_rows("test", "test")
    probs = opened.floor(rows, no_progress)
    assert probs.shape == (len(rows), len(finished.data.index.classes))
    np.testing.assert_allclose(probs.sum(axis=1), 1.0)
    assert '"fit"' in (finished.run.path / "ledger.jsonl").read_text()


def test_predictions_of_the_run_are_read_by_id(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("sample_id,group,predicted,prob_a\nx,g,K-1,0.5\n")
    assert predicted_by_the_run(tmp_path) == {"x": "K-1"}
    (tmp_path / "predictions.csv").write_text("sample_id,label\nx,K-1\n")
    with pytest.raises(CheckpointError, match=r"predictions.csv cannot be read \('predicted'\)"):
        predicted_by_the_run(tmp_path)
    (tmp_path / "predictions.csv").unlink()
    with pytest.raises(CheckpointError, match=r"the run's own test wrote it, restore it"):
        predicted_by_the_run(tmp_path)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_named("auto") == device_named("cpu") == torch.device("cpu")
    for name in ("cuda", "tpu"):
        with pytest.raises(ConfigError, match=rf"--device is {name}, allowed here: auto, cpu \(torch sees no"):
            device_named(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_named("auto") == torch.device("cuda")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_run_is_evaluated_and_agrees_with_its_own_test(tmp_path: Path) -> None:
    from rich.console import Console

    from shared.engine import fit
    from tests.fabricate.battery_run import composed

    overrides = [
        "+experiment=pills", "data.standin.num_classes=12", "data.standin.num_unknown_classes=12",
        "data.standin.size_px=48", "data.standin.studio_sittings=12", "data.standin.real_per_sitting=6",
        "data.preprocessing.size_px=32", "data.num_workers=0", "model.parameters.backbone=test_resnet",
        "model.parameters.drop_path_rate=0", "trainer.max_epochs=2", "runtime.threads=1",
        "callbacks.progress.enabled=false", "callbacks.live_push.enabled=false",
        f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={tmp_path / 'cache'}",
    ]  # fmt: skip
    run = fit(composed("pillsnap", *overrides), quiet=True).run
    status = (run.path / "status.json").read_bytes()
    with Path(os.devnull).open("w") as nowhere:
        folder, content = evaluate_run(run.path, EvaluationSettings(draws=100), Console(file=nowhere))
    assert content["agreement"]["share"] == 1.0
    assert content["agreement"]["missing"] == 0
    assert (run.path / "status.json").read_bytes() == status
    assert (folder / "none_of_these.json").is_file()
    assert content["open_set"]["unknown_classes"] == 6
