import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from shared.curve_scores import CurveAxes, CurveScores, peaks
from shared.statistics import estimate

AXIS = np.linspace(400.0, 700.0, 7)


def curves(seed: int = 0, samples: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, targets (N, 2, 7) and groups of two samples each."""
    rng = np.random.default_rng(seed)
    target = rng.random((samples, 2, 7))
    return target + 0.2 * rng.normal(size=target.shape), target, np.arange(samples) // 2


def value(statistic, num_groups: int) -> float:
    return float(statistic(np.ones((1, num_groups)))[0])


def test_scores_agree_with_sklearn_and_scipy() -> None:
    prediction, target, group = curves()
    scores = CurveScores(prediction, target, group, AXIS)
    found = {name: value(statistic, scores.num_groups) for name, statistic in scores.all().items()}
    flat = prediction.reshape(len(target), -1), target.reshape(len(target), -1)
    assert found["r2"] == pytest.approx(r2_score(flat[1], flat[0], multioutput="variance_weighted"))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(target.ravel(), prediction.ravel()))
    assert found["mae"] == pytest.approx(mean_absolute_error(target.ravel(), prediction.ravel()))
    expected = np.mean([pearsonr(target[n, c], prediction[n, c])[0] for n in range(len(target)) for c in range(2)])
    assert found["pearson"] == pytest.approx(expected)


def test_a_weight_of_two_is_the_sample_twice() -> None:
    prediction, target, group = curves()
    weights = np.random.default_rng(1).integers(0, 4, size=(1, 20)).astype(float)
    repeated = np.repeat(np.arange(len(target)), weights[0, group].astype(int))
    scores = CurveScores(prediction, target, group, AXIS)
    other = CurveScores(prediction[repeated], target[repeated], np.zeros(len(repeated), dtype=int), AXIS)
    for name, statistic in scores.all().items():
        assert float(statistic(weights)[0]) == pytest.approx(value(other.all()[name], 1)), name


def test_every_score_has_an_interval_around_it() -> None:
    prediction, target, group = curves(samples=80)
    scores = CurveScores(prediction, target, group, AXIS)
    for statistic in scores.all().values():
        found = estimate(statistic, scores.num_groups, draws=200)
        assert found.lo is not None
        assert found.lo < found.value < found.hi


def test_a_perfect_prediction() -> None:
    _, target, group = curves()
    scores = CurveScores(target, target, group, AXIS)
    found = {name: value(statistic, scores.num_groups) for name, statistic in scores.all().items()}
    assert found == pytest.approx({"r2": 1.0, "rmse": 0.0, "mae": 0.0, "pearson": 1.0, "peak_shift": 0.0})


def test_the_peak_lies_between_the_points_of_the_axis() -> None:
    axis = np.linspace(0.0, 10.0, 11)
    for centre in (2.0, 3.3, 7.75):
        parabola = 5.0 - (axis - centre) ** 2
        assert peaks(parabola, axis) == pytest.approx(centre)
    assert peaks(axis, axis) == 10.0  # a rising curve has its highest point at the end
    assert peaks(-axis, axis) == 0.0
    # Points that are not equally far apart: the highest one itself.
    assert peaks(np.array([0.0, 3.0, 2.9]), np.array([0.0, 1.0, 5.0])) == 1.0


def test_peak_shift_is_the_mean_distance_of_the_peaks() -> None:
    axis = np.linspace(0.0, 10.0, 11)
    curve = [5.0 - (axis - centre) ** 2 for centre in (2.0, 4.0, 6.0)]
    scores = CurveScores(np.array([[curve[1]], [curve[1]]]), np.array([[curve[0]], [curve[2]]]), np.arange(2), axis)
    assert value(scores.peak_shift(), 2) == pytest.approx(2.0)


def test_flat_curves_have_neither_shape_nor_peak() -> None:
    prediction, target, group = curves()
    target[3] = 0.25
    scores = CurveScores(prediction, target, group, AXIS)
    without = np.arange(len(target)) != 3
    other = CurveScores(prediction[without], target[without], group[without], AXIS)
    for name in ("pearson", "peak_shift"):
        expected = value(other.all()[name], other.num_groups)
        assert value(scores.all()[name], scores.num_groups) == pytest.approx(expected)
    prediction[:] = 0.25  # a flat prediction of a curve with a shape
    dead = CurveScores(prediction, target, group, AXIS)
    assert value(dead.pearson(), dead.num_groups) == 0.0
    target[:] = 0.25
    nothing = CurveScores(prediction, target, group, AXIS)
    assert np.isnan(value(nothing.pearson(), nothing.num_groups))
    assert np.isnan(value(nothing.r2(), nothing.num_groups))


def test_an_output_that_hardly_varies_does_not_rule_r2() -> None:
    prediction, target, group = curves()
    before = value(CurveScores(prediction, target, group, AXIS).r2(), 20)
    target[:, 0, 0] = 0.5 + 1e-6 * target[:, 0, 0]
    after = value(CurveScores(prediction, target, group, AXIS).r2(), 20)
    flat = [x.reshape(len(x), -1) for x in (target, prediction)]
    assert r2_score(*flat) < -1e6
    assert after == pytest.approx(r2_score(*flat, multioutput="variance_weighted"))
    assert abs(after - before) < 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((4, 2, 6))}, "do not fit"),
        ({"values": [1.0]}, "do not fit"),
        ({"group": np.zeros(4)}, "group is float64"),
        ({"target": np.full((4, 2, 7), np.nan)}, "NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    arguments = {
        "prediction": np.zeros((4, 2, 7)), "target": np.zeros((4, 2, 7)), "group": np.arange(4), "values": AXIS,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        CurveScores(**(arguments | change))


def test_axes_survive_json_and_must_rise() -> None:
    node = {"channels": ["a", "b"], "axis": {"name": "wavelength", "unit": "nm", "values": [400, 500]}}
    axes = CurveAxes.from_dict(node)
    assert axes == CurveAxes(("a", "b"), "wavelength", "nm", (400.0, 500.0))
    assert axes.axis_dict() == node["axis"]
    with pytest.raises(ValueError, match="must rise"):
        CurveAxes(("a",), "wavelength", "nm", (500.0, 400.0))
    with pytest.raises(ValueError, match="own name"):
        CurveAxes(("a", "a"), "wavelength", "nm", (400.0,))
