from types import SimpleNamespace

import numpy as np
import pytest

from shared.cross_validation.rounds import check_usage, load_rows, num_rounds, round_config, save_rows
from shared.curve_scores import CurveAxes
from shared.errors import ConfigError, DataError
from shared.report.outputs import CurveOutputs, TestOutputs
from tests.fabricate.battery_run import composed

AXES = CurveAxes(("up", "down"), "frequency", "Hz", (1.0, 2.0, 4.0))


def curve_outputs(rows=(4, 0), sample_shape=(2, 3)):
    rng = np.random.default_rng(0)
    target = rng.random((len(rows), 2, 3))
    said = {"final": rng.random(target.shape), "some model / other": rng.random(target.shape)}
    return CurveOutputs(said, target, np.array(rows), AXES, sample_shape)


def test_curves_come_back_with_their_axes(tmp_path):
    outputs = curve_outputs(sample_shape=(2, 1, 3))
    save_rows(tmp_path / "rows.npz", outputs, sample_id=np.array(["a", "b"]))
    again = load_rows(tmp_path / "rows.npz")
    assert isinstance(again, CurveOutputs)
    assert (again.axes, again.sample_shape) == (AXES, (2, 1, 3))
    assert list(again.predictions) == ["final", "some model / other"]
    for name in outputs.predictions:
        assert np.array_equal(again.row(name), outputs.row(name))
    assert np.array_equal(again.target, outputs.target)
    assert again.rows.tolist() == [4, 0]
    with np.load(tmp_path / "rows.npz") as archive:
        assert archive["sample_id"].tolist() == ["a", "b"]


def test_probabilities_come_back_and_a_file_of_an_earlier_version_is_read(tmp_path):
    probs, target = np.array([[0.25, 0.75], [1.0, 0.0]]), np.array([1, 0])
    save_rows(tmp_path / "rows.npz", TestOutputs({"final": probs, "last": probs[::-1]}, target, np.array([5, 2])))
    # The keys as they were written before curves had a file of the same name.
    arrays = {"probs/final": probs, "probs/last": probs[::-1], "target": target, "rows": np.array([5, 2])}
    np.savez(tmp_path / "old.npz", **arrays)
    for name in ("rows", "old"):
        again = load_rows(tmp_path / f"{name}.npz")
        assert isinstance(again, TestOutputs)
        assert np.array_equal(again.row("final"), probs)
        assert np.array_equal(again.row("last"), probs[::-1])
        assert (again.target.tolist(), again.rows.tolist()) == ([1, 0], [5, 2])


def test_a_missing_or_damaged_file_is_named(tmp_path):
    path = tmp_path / "rows.npz"
    with pytest.raises(DataError, match=r"rows\.npz is missing or damaged .*; remove its run"):
        load_rows(path)
    save_rows(path, curve_outputs())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="is missing or damaged"):
        load_rows(path)


def test_the_datamodule_says_how_many_rounds_there_are():
    plain = {"data": {"_target_": "projects.battery.data.datamodule.ElpvDataModule"}}
    assert num_rounds(SimpleNamespace(plain=plain)) == 5


def test_only_the_first_round_audits():
    config = composed("battery", "+experiment=elpv_late_fusion", "stages=[audit,fit,test]")
    first, second = round_config(config, 0), round_config(config, 1)
    assert (first.experiment, first.data.cross_validation_fold) == ("elpv_late_fusion-round0", 0)
    assert list(first.stages) == ["audit", "fit", "test"]
    assert (second.experiment, second.data.cross_validation_fold) == ("elpv_late_fusion-round1", 1)
    assert list(second.stages) == ["fit", "test"]
    assert config.data.cross_validation_fold is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data": {"_target_": "a.B"}}, r"data\._target_ is a\.B, which has no rounds .*; use data=c or d"),
        ({"data": {"_target_": "a.B", "cross_validation_fold": 2}}, r"data\.cross_validation_fold is 2; cross_valid"),
        ({"resume": "auto"}, "resume is auto; cross_validate finds its rounds by itself"),
        ({"stages": ("audit",)}, "stages lacks fit and test"),
    ],
)
def test_what_makes_no_cross_validation_is_refused(change, sentence):
    data = {"data": change.pop("data", {"_target_": "a.B", "cross_validation_fold": None})}
    settings = SimpleNamespace(**{"plain": data, "resume": None, "stages": ("fit", "test")} | change)
    with pytest.raises(ConfigError, match=sentence):
        check_usage(settings, "data=c or d")
