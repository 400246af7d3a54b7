import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from projects.pillsnap.floor import fit_floor, floor_pixels
from shared.errors import DataError


def photo(row):
    return np.random.default_rng(row).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_pixels_are_those_of_the_centre_square_by_pillows_bilinear_filter():
    seen = []
    pixels = floor_pixels(np.array([3, 1]), photo, lambda done, total: seen.append((done, total)))
    square = Image.fromarray(photo(1)[:, 10:50])
    np.testing.assert_array_equal(pixels[1], np.asarray(square.resize((24, 24), Image.Resampling.BILINEAR)).ravel())
    assert seen == [(1, 2), (2, 2)]


def test_the_forest_is_scikit_learns_and_unseen_classes_get_nothing():
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (60, 9), dtype=np.uint8), rng.integers(0, 256, (7, 9), dtype=np.uint8)
    label = rng.choice([0, 2, 3], 60)
    probs = fit_floor(train, label, test, 5, seed=4)
    expected = RandomForestClassifier(random_state=4).fit(train, label).predict_proba(test)
    np.testing.assert_array_equal(probs[:, [0, 2, 3]], expected)
    assert not probs[:, [1, 4]].any()
    with pytest.raises(DataError, match="has no photo to fit on"):
        fit_floor(train[:0], label[:0], test, 5, seed=0)
