"""Broken data through the whole engine: one clear sentence that names file and remedy, and a run marked failed."""

import json

import pytest

from shared.engine import fit
from shared.errors import CheckpointError, ConfigError, DataError, LeakError
from shared.stages import train
from tests.fabricate.battery_run import composed, tiny_run


@pytest.fixture
def root(tmp_path, battery_ct):
    battery_ct.write_ct(tmp_path / "data")
    return tmp_path / "data"


def run(tmp_path, root, *overrides):
    tiny = (
        "data=battery_ct", f"data.root={root}", "data.image_size_px=32", "data.num_workers=0", "data.scan_workers=1",
        "data.batch_size=4", "model.parameters.backbone=test_resnet", "trainer.max_epochs=1", "audit.permutations=19",
        "runtime.threads=1", "callbacks=minimal", "callbacks.progress.enabled=false", "logger=none",
        f"paths.outputs={tmp_path}/outputs", f"paths.cache={tmp_path}/cache",
    )  # fmt: skip
    return fit(composed("battery", *tiny, *overrides), quiet=True)


def images(root):
    return sorted(root.rglob("*.png"))


def status(tmp_path):
    (path,) = (tmp_path / "outputs").rglob("status.json")
    return json.loads(path.read_text())["state"]


def test_a_planted_copy_in_another_fold_stops_the_run(root, tmp_path):
    first, *rest = images(root)
    other = next(path for path in rest if path.name.split("_")[1:4] != first.name.split("_")[1:4])
    other.write_bytes(first.read_bytes())
    with pytest.raises(LeakError, match=r"content"):
        run(tmp_path, root, "data.shares={train: 0.5, val: 0.5, accept: 0.0, calibrate: 0.0, test: 0.0}")
    assert status(tmp_path) == "failed"


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        run(tmp_path, tmp_path / "empty")


def test_a_truncated_image_is_named_and_may_be_skipped(root, tmp_path):
    victim = images(root)[3]
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"{victim.name}.*data\.on_bad_file=skip"):
        run(tmp_path, root)
    result = run(tmp_path, root, "data.on_bad_file=skip", "stages=[audit]")
    skipped = result.run.done("check")["data"]["skipped"]
    assert [victim.name in row["path"] for row in skipped] == [True]


def test_a_single_battery(root, tmp_path):
    keep = images(root)[0].name.split("_")[1:4]
    for path in [*images(root), *root.rglob("*.json")]:
        if path.name.split("_")[1:4] != keep:
            path.unlink()
    with pytest.raises(DataError, match="group"):
        run(tmp_path, root)


def test_an_image_that_vanishes_after_the_scan(root, tmp_path, monkeypatch):
    original = train.build_trainer

    def vanish(session, resume_step):
        for path in images(root):
            path.unlink()
        return original(session, resume_step)

    monkeypatch.setattr(train, "build_trainer", vanish)
    with pytest.raises(DataError, match=r"\.png"):
        run(tmp_path, root, "stages=[fit]")
    assert status(tmp_path) == "failed"


def test_the_audit_may_stop_the_run(tmp_path):
    with pytest.raises(DataError, match=r"axis.*audit\.fail_above=0\.2"):
        fit(tiny_run(tmp_path / "outputs", tmp_path, "audit.fail_above=0.2", "stages=[audit]"), quiet=True)
    assert status(tmp_path) == "failed"


def test_shares_and_axes_that_make_no_sense(root, tmp_path):
    with pytest.raises(ConfigError, match="share"):
        run(tmp_path, root, "data.shares.train=0.9")
    with pytest.raises(ConfigError, match=r"exclude_axes_from_fit holds q; the data set has x, y, z"):
        run(tmp_path, root, "data.exclude_axes_from_fit=[q]")


def test_metadata_columns_that_are_not_there(root, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.meta_columns has 'foo'; the data set has kind, form, axis"):
        run(tmp_path, root, "data.meta_columns=[foo]")
    with pytest.raises(ConfigError, match=r"data\.stratum_column has 'bar'"):
        run(tmp_path, root, "data.stratum_column=bar")


def test_own_data_under_the_stand_ins_settings(root, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.standin is set: choose data=battery_ct"):
        fit(tiny_run(tmp_path / "outputs", tmp_path, f"data.root={root}"), quiet=True)


def test_weights_that_cannot_be_had_are_one_sentence(root, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        run(tmp_path, root, f"model.weights_path={tmp_path}/none.safetensors")
