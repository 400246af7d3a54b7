import numpy as np
import pytest

from projects.pillsnap.onnx_export.description import UNFITTED
from projects.pillsnap.onnx_export.parity import Outputs, compare, grey_levels, torch_outputs
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.calibrators import TemperatureCalibrator
from tests.fabricate.pill_network import SmallPillNetwork, plain_photos

PREPROCESS = UnifiedPreprocessor(size_px=64)


def outputs(rows, none=(0.5, 0.5)):
    return Outputs(np.array(rows, np.float32), np.array(none, np.float32))


def test_differences_by_hand():
    found = compare(outputs([[0.7, 0.3], [0.4, 0.6]]), outputs([[0.6, 0.4], [0.55, 0.45]], (0.5, 0.2)), 0.4)
    assert found == {
        "images": 2, "max_abs_probability": pytest.approx(0.15), "mean_abs_probability": pytest.approx(0.25),
        "max_abs_none_of_these": pytest.approx(0.3), "top1_agreement": 0.5, "none_of_these_agreement": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("threshold", "agreement"),
    [
        (0.1, 1.0),
        (0.3, 0.75),
        (0.45, 0.5),
        (0.5, 0.75),
        (0.8, 1.0),
    ],  # at 0.5 the first photo is not above it either way
)
def test_decisions_are_compared_above_the_threshold(threshold, agreement):
    same = [[1.0, 0.0]] * 4
    reference, found = outputs(same, (0.5, 0.2, 0.6, 0.7)), outputs(same, (0.4, 0.2, 0.7, 0.25))
    assert compare(reference, found, threshold)["none_of_these_agreement"] == agreement


def test_a_decision_on_nan_agrees_with_nothing():
    same = [[1.0, 0.0]] * 2
    nan = outputs(same, (np.nan, 0.2))
    assert compare(nan, nan, 0.5)["none_of_these_agreement"] == 0.5


def test_accuracy_by_hand():
    assert outputs([[0.7, 0.3], [0.4, 0.6]]).accuracy(np.array([0, 0])) == 0.5


def test_the_torch_path_does_not_depend_on_the_batch():
    photos, network = plain_photos(5), SmallPillNetwork()
    one, all_ = (
        torch_outputs(network, TemperatureCalibrator(2.0), UNFITTED, PREPROCESS, photos, batch) for batch in (1, 5)
    )
    np.testing.assert_allclose(one.probabilities, all_.probabilities, atol=1e-5)
    np.testing.assert_allclose(all_.probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        all_.none_of_these, UNFITTED.probability(np.log(all_.probabilities.astype(np.float64))), atol=1e-4
    )


def test_grey_levels_see_another_preprocessing(monkeypatch):
    photos = list(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    assert grey_levels(PREPROCESS, photos) == {"images": 2, "max_grey_levels": 0, "differing_share": 0.0}
    call = UnifiedPreprocessor.__call__
    brighter = np.float32(3 / 255 / PREPROCESS.std[1])

    def other(self, photo):
        pixels = call(self, photo)
        pixels[1] += brighter
        return pixels

    monkeypatch.setattr(UnifiedPreprocessor, "__call__", other)
    found = grey_levels(PREPROCESS, photos)
    assert found["max_grey_levels"] == 3
    assert found["differing_share"] == pytest.approx(1 / 3)
