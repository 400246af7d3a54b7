"""The project's experiments through the whole engine, on rendered pills and on fabricated photographs."""

import json

import pytest
import torch

from shared.engine import fit
from shared.loading import load_run
from tests.fabricate.pill_run import tiny_nih_run, tiny_pill_run, write_nih


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pills")
    result = fit(tiny_pill_run(folder / "out", folder / "cache"))
    return result.run.path


def test_a_run_reports_both_domains(run):
    report = json.loads((run / "report.json").read_text())
    assert report["data"]["source"] == "stand-in"
    assert {"domain=real", "domain=studio"} <= set(report["per_group"])
    assert report["calibration"]["method"] in ("identity", "temperature")


def test_a_loaded_run_answers_with_probabilities_and_knows_its_preprocessing(run):
    loaded = load_run(run)
    probs = loaded.predict({"image": torch.randn(3, 3, 32, 32)})
    assert probs.shape == (3, 6)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(3))
    assert loaded.module.hparams["preprocessing"]["size_px"] == 32


def test_nih_runs_have_heads_for_shape_and_colour(tmp_path):
    config = tiny_nih_run(write_nih(tmp_path / "nih"), tmp_path, tmp_path, "data.domain=studio", "callbacks=minimal")
    config.stages = ["fit", "test", "report"]
    result = fit(config)
    header = (result.run.path / "metrics.csv").read_text().splitlines()[0]
    assert "val/shape/accuracy" in header
    assert "val/color/accuracy" in header
    assert json.loads((result.run.path / "report.json").read_text())["data"]["source"] == "real"
