import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

from projects.spectra.cross_validation.comparison import compare, uniform_r2
from shared.curve_scores import CurveAxes

AXES = CurveAxes(("B", "R"), "wavelength", "nm", (400.0, 450.0, 500.0))
GROUP = np.repeat(np.arange(40), 2).astype(np.int32)
ROUND = np.repeat(np.arange(5), 16)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    target = rng.random((80, 2, 3)) * np.array([1.0, 0.2, 0.01])
    noise = rng.normal(0, 0.05, (80, 2, 3))
    rows = {"last": target + 2 * noise, "final": target + noise, "best_single": target + noise}
    return target, rows | {"floor: mean": np.broadcast_to(target.mean(axis=0), target.shape)}


def flat(curves):
    return curves.reshape(len(curves), -1)


def test_the_uniform_r2_is_scikit_learns_with_any_weights(data):
    target, rows = data
    statistic = uniform_r2(rows["final"], target, GROUP)
    weights = np.random.default_rng(0).integers(0, 4, (3, 40)).astype(float)
    expected = [r2_score(flat(target), flat(rows["final"]), sample_weight=draw[GROUP]) for draw in weights]
    assert statistic(weights) == pytest.approx(expected)


def test_an_output_that_does_not_vary_leaves_the_uniform_r2_undefined(data):
    target, rows = data
    flat_target = target.copy()
    flat_target[:, 0, 0] = 0.5
    assert np.isnan(uniform_r2(rows["final"], flat_target, GROUP)(np.ones((1, 40))))[0]


def test_every_number_agrees_with_scikit_learn(data):
    target, rows = data
    found = compare(rows, target, GROUP, ROUND, AXES, detailed=["floor: mean"], seed=0, draws=200)
    assert list(found["rows"]) == ["final", "last", "floor: mean"]
    assert found["same_as_final"] == ["best_single"]
    r2 = {name: r2_score(flat(target), flat(rows[name]), multioutput="variance_weighted") for name in found["rows"]}
    for name, row in found["rows"].items():
        assert row["r2"]["value"] == pytest.approx(r2[name])
        assert row["r2_uniform"]["value"] == pytest.approx(r2_score(flat(target), flat(rows[name])))
        assert row["mae"]["value"] == pytest.approx(mean_absolute_error(flat(target), flat(rows[name])))
        assert row["r2"]["n_groups"] == 40
    gap = found["differences"]["last"]["r2"]
    assert gap["value"] == pytest.approx(r2["final"] - r2["last"])
    assert gap["lo"] < gap["value"] < gap["hi"]
    assert found["per_channel"]["R"]["final"]["value"] == pytest.approx(
        r2_score(target[:, 1], rows["final"][:, 1], multioutput="variance_weighted")
    )
    rmse = np.sqrt(np.square(rows["final"] - target).mean(axis=(0, 1)))
    assert [entry["value"] for entry in found["per_point"]["rmse"]["final"]] == pytest.approx(rmse)
    rmse = np.sqrt(np.square(rows["floor: mean"] - target).mean(axis=(0, 1)))
    assert [entry["value"] for entry in found["per_point"]["rmse"]["floor: mean"]] == pytest.approx(rmse)
    assert found["per_point"]["rmse"]["final"][0]["lo"] is not None
    assert list(found["per_point"]["rmse"]) == ["final", "floor: mean"]


def test_a_round_is_scored_on_what_it_tested(data):
    target, rows = data
    found = compare(rows, target, GROUP, ROUND, AXES, detailed=[], seed=0, draws=200)
    assert [(part["round"], part["tested"]) for part in found["rounds"]] == [(k, 16) for k in range(5)]
    mask = ROUND == 2
    expected = r2_score(flat(target[mask]), flat(rows["last"][mask]), multioutput="variance_weighted")
    assert found["rounds"][2]["rows"]["last"]["r2"] == pytest.approx(expected)
