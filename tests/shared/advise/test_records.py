"""Every kind of folder is read as far as it can be, and says in one sentence what it could not."""

import numpy as np
import pytest

from shared.advise.records import find_records, read_run
from shared.advise.verdict import judge
from shared.errors import ConfigError, DataError
from tests.fabricate.loss_curves import log_text
from tests.fabricate.past_run import past_run

FALL = 1 + np.exp(-np.arange(30) / 5)


@pytest.fixture
def run(tmp_path):
    return past_run(tmp_path / "outputs", "a", FALL, FALL, "+experiment=late_fusion", "optimizer.lr=0.01")


def test_a_finished_run_has_its_settings_and_curves(run):
    record = read_run(run)
    assert (record.state, record.project, record.monitor) == ("done", "battery", ("val/f1_macro", "max"))
    assert (record.value("optimizer.lr"), record.value("no.key", 3)) == (0.01, 3)
    assert (len(record.curves), record.curves.max_epochs) == (30, 30)
    assert record.best("val/loss", "min") == (pytest.approx(FALL[-1]), 30)
    assert record.notes == ()
    assert judge(record).name == "healthy"


def test_runs_are_found_at_any_depth_and_once(run, tmp_path):
    (tmp_path / "outputs" / "battery" / "latest").symlink_to(run)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "train_log.txt").write_text(log_text(FALL, FALL, FALL))
    records, passed = find_records([tmp_path, run])
    assert [record.name for record in records] == ["elsewhere/train_log.txt", "a"]
    assert passed == []
    assert records[0].config is None
    assert judge(records[0]).name == "healthy"


def test_nothing_to_read_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"no run in .*: nothing there has a metrics.csv or train_log.txt"):
        find_records([tmp_path])
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        find_records([tmp_path / "nowhere"])
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(ConfigError, match=r"has no whole line \[EPOCH\]"):
        find_records([tmp_path / "notes.txt"])


def test_an_evaluation_and_a_run_without_a_fit_are_passed_over(tmp_path, run):
    past_run(tmp_path / "outputs", "b", FALL, FALL, kind="evaluation")
    (past_run(tmp_path / "outputs", "c", FALL, FALL) / "metrics.csv").unlink()
    records, passed = find_records([tmp_path])
    assert [record.name for record in records] == ["a"]
    assert any("it is an evaluation of another run" in sentence for sentence in passed)
    assert any("it is done and trained nothing" in sentence for sentence in passed)


def test_unreadable_files_are_named_and_the_rest_is_used(run):
    for name in ("status.json", "config.yaml"):
        (run / name).write_text("{ torn")
    (run / "overrides.txt").unlink()
    record = read_run(run)
    assert record.notes == (
        "status.json cannot be read, so how the run ended is unknown",
        "config.yaml cannot be read, so no override can be checked",
        "overrides.txt cannot be read",
    )
    assert (record.state, record.project, len(record.curves)) == (None, None, 30)


def test_a_damaged_table_gives_way_to_the_log(run):
    (run / "metrics.csv").write_text("\0\0\0")
    (run / "train_log.txt").write_text(log_text(FALL, FALL, FALL))
    record = read_run(run)
    assert len(record.curves) == 30
    assert record.monitor == ("val/loss", "min")  # the log does not say which metric its best_val is
    assert any("metrics.csv is passed over" in note for note in record.notes)


@pytest.mark.parametrize(
    ("status", "name", "sentence"),
    [
        ({"state": "running"}, "running", "still running: epoch 3 of 3, so this is provisional"),
        ({"state": "running", "started_by": 1.0}, "died", "ended without a word after 3 of 3 epochs"),
        ({"state": "interrupted"}, "interrupted", "interrupted after 3 of 3 epochs"),
        ({"state": "failed"}, "failed", "its files do not say why"),
        ({"state": "failed", "error": "disk full"}, "failed", "failed in stage report after 3 of 3 epochs: disk full"),
        ({"state": "failed", "error": "the training loss is not finite"}, "nan", "the training loss is not finite"),
        ({"state": "done"}, "too_short", "3 epochs: too few to judge a curve, 6 are needed"),
    ],
)
def test_each_state_has_its_verdict(tmp_path, status, name, sentence):
    verdict = judge(read_run(past_run(tmp_path, "a", FALL[:3], FALL[:3], **status)))
    assert verdict.name == name
    assert sentence in verdict.sentence


def test_a_run_that_is_still_going_is_not_told_to_take_more_epochs(tmp_path):
    falling = 0.2 + np.exp(-np.arange(30) / 20)
    assert judge(read_run(past_run(tmp_path, "a", falling, falling))).name == "underfit"
    assert judge(read_run(past_run(tmp_path, "b", falling, falling, state="running"))).name == "running"


def test_a_folder_that_only_says_running_is_no_error(tmp_path):
    folder = past_run(tmp_path, "a", FALL, FALL, state="failed", stage="audit")
    (folder / "metrics.csv").unlink()
    verdict = judge(read_run(folder))
    assert (verdict.name, verdict.train) == ("failed", None)
    with pytest.raises(DataError, match="evaluation"):
        read_run(past_run(tmp_path, "b", FALL, FALL, kind="evaluation"))
