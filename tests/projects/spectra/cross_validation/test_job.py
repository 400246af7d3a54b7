import csv
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import r2_score

import shared
from projects.spectra.cross_validation import job
from projects.spectra.cross_validation.job import cross_validate
from shared.cross_validation import rounds
from shared.cross_validation.rounds import load_rows
from shared.errors import ConfigError, DataError, LeakError, RunInterrupted
from shared.instantiate import instantiate
from shared.run_dir import RunDirectory


@pytest.fixture
def content(finetuned):
    return json.loads((finetuned[1] / "cross_validation.json").read_text())


@pytest.fixture
def archive(finetuned):
    with np.load(finetuned[1] / "predictions.npz", allow_pickle=False) as stored:
        return dict(stored)


def read_csv(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def round_run(outputs, number):
    (run,) = (outputs / "spectra" / f"finetuned-round{number}").iterdir()
    return run


def test_every_sample_is_predicted_once_by_the_round_that_has_not_seen_it(outputs, archive):
    ids = archive["sample_id"].tolist()
    assert len(set(ids)) == len(archive["target"]) == 59  # one of 60 rows is padding
    for number in range(5):
        run = round_run(outputs, number)
        folds = {row["sample_id"]: row["fold"] for row in read_csv(run / "splits.csv")}
        tested = {name for name, own in zip(ids, archive["round"], strict=True) if own == number}
        assert {name for name, fold in folds.items() if fold == "test"} == tested
        for row in read_csv(run / "predictions.csv"):
            said = [float(value) for key, value in row.items() if key.startswith("predicted_")]
            assert archive["curves/final"][ids.index(row["sample_id"])].ravel() == pytest.approx(said)
    groups = {(group, own) for group, own in zip(archive["group"], archive["round"], strict=True)}
    assert len(groups) == len(np.unique(archive["group"]))  # no group in two rounds


def test_scores_come_out_of_predictions_npz(content, archive):
    target = archive["target"].reshape(59, -1)
    assert next(iter(content["rows"])) == "final"
    assert {"floor: ridge on Fourier orders", "floor: nearest neighbour", "init_as_it_is", "nearest neighbour"} <= set(
        content["rows"]
    )
    for name, row in content["rows"].items():
        said = archive[f"curves/{name}"].reshape(59, -1)
        assert row["r2"]["value"] == pytest.approx(r2_score(target, said, multioutput="variance_weighted"))
        assert row["r2_uniform"]["value"] == pytest.approx(r2_score(target, said))
        assert row["rmse"]["value"] == pytest.approx(np.sqrt(np.mean((target - said) ** 2)))
    assert [part["trained"] > 30 for part in content["rounds"]] == [True] * 5
    assert sum(part["tested"] for part in content["rounds"]) == content["n"] == 59
    assert [part["fit"]["epochs"] for part in content["rounds"]] == [1] * 5


def test_the_first_weights_as_they_are_come_from_the_run_itself_and_not_from_the_link(finetuned, origin, archive):
    config, result = finetuned
    latest = (config.paths.outputs + "/spectra/latest",)
    assert config.model.init_from == latest[0]  # what the link meant at the start, not what it means by now
    content = json.loads((result / "cross_validation.json").read_text())
    assert content["init_from"] == str(origin)
    module = instantiate(dict(config.data), "data", seed=0, cache_folder=config.paths.cache)
    loaded = shared.load_run(origin)
    dataset = module.build_dataset("test", np.arange(10))
    batch = dataset.__getitems__(list(range(10)))
    said = loaded.predict({"image": batch["image"]}).numpy().reshape(10, 4, 8)
    assert archive["curves/init_as_it_is"][:10] == pytest.approx(said, abs=1e-6)


def test_the_directory_holds_page_figures_and_parents(finetuned, outputs):
    result = finetuned[1]
    assert result.parent == outputs / "spectra" / "cross_validation" / "finetuned"
    for name in ("per_point", "samples", "agreement"):
        assert (result / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (result / "cross_validation.md").read_text()
    for words in ("| first weights, no training here |", "## Rounds", "![Error along the axis](figures/per_point.png)"):
        assert words in page
    status = json.loads((result / "status.json").read_text())
    assert status["parents"] == [str(round_run(outputs, number)) for number in range(5)]


def test_finished_rounds_are_taken_over_and_give_the_same_numbers(finetuned, origin, content, monkeypatch):
    config, result = finetuned
    own = config.copy()
    own.model.init_from = str(origin)  # the link points to the last round by now
    monkeypatch.setattr(rounds, "fit", lambda *args, **options: pytest.fail("a finished round was run again"))
    again = cross_validate(own, quiet=True)
    try:
        assert again != result
        found = json.loads((again / "cross_validation.json").read_text())
        differing = {key for key in content if content[key] != found[key]}
        assert differing == {"run"}
    finally:
        shutil.rmtree(again)


@pytest.mark.slow
def test_an_interrupted_round_goes_on_in_its_own_directory(finetuned, origin, outputs, monkeypatch):
    config = finetuned[0].copy()
    config.model.init_from = str(origin)
    run = RunDirectory(round_run(outputs, 3))
    status, asked = run.status(), []

    def stopped(own, **options):
        asked.append(own)
        raise RunInterrupted(2, "stopped by SIGINT")

    monkeypatch.setattr(rounds, "fit", stopped)
    try:
        run.set_state("interrupted")
        with pytest.raises(RunInterrupted, match="the same cross_validate command again"):
            cross_validate(config, quiet=True)
    finally:
        run._write_status(status)
    assert [(own.resume, own.data.cross_validation_fold) for own in asked] == [(str(run.path), 3)]


def test_curves_that_changed_after_the_rounds_are_refused(finetuned, outputs, tmp_path):
    config = finetuned[0]
    module = instantiate(
        dict(config.data) | {"cross_validation_fold": 0}, "data", seed=0, cache_folder=config.paths.cache
    )
    runs = [RunDirectory(round_run(outputs, number)) for number in range(5)]
    pooled = job.pool_rounds(module.index, runs, job.CurveOutputs)
    job._refuse_other_target(module, pooled.outputs)
    pooled.outputs.target[7, 0, 0] += 1e-3
    with pytest.raises(DataError, match="tested on other curves than the data set has now for 1 of 59 samples"):
        job._refuse_other_target(module, pooled.outputs)


def test_weights_that_know_the_samples_are_refused(finetuned, files, outputs, tmp_path, tiny_config):
    """The run of first weights is a parent of every round, so the ledger knows what it has used."""
    config = tiny_config(tmp_path, *files, f"model.init_from={round_run(outputs, 0)}", name="leaky")
    with pytest.raises(LeakError, match="is parent run"):
        cross_validate(config, quiet=True)


def test_warnings_tell_made_data_and_mixed_code():
    rounds_of = [{"commit": {"sha": "a"}}, {"commit": {"sha": "b"}}]
    assert job._warnings({"rounds": rounds_of[:1], "source": "real"}) == []
    mixed, made = job._warnings({"rounds": rounds_of, "source": "stand-in"})
    assert mixed.startswith("The rounds were made by different states of the code")
    assert made.startswith("Stand-in data")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.cross_validation_fold=2", r"data\.cross_validation_fold is 2; cross_validate sets it"),
        ("stages=[fit]", "stages lacks test"),
        ("model.init_from=nowhere", "nowhere is not a run directory"),
    ],
)
def test_wrong_usage_is_refused(tiny_config, tmp_path, override, sentence):
    with pytest.raises(ConfigError, match=sentence):
        cross_validate(tiny_config(tmp_path, override), quiet=True)


def test_rows_are_read_by_the_common_reader(finetuned):
    outputs = load_rows(finetuned[1] / "predictions.npz")
    assert outputs.sample_shape == (2, 2, 8)
    assert outputs.axes.channels == ("B", "G upper right", "G lower left", "R")
