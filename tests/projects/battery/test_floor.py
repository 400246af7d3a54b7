import io

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from projects.battery.data.elpv import load_elpv
from projects.battery.floor import fit_floor, floor_pixels, with_metadata
from shared.errors import DataError


class FakeReader:
    """Grey PNG files of 60 x 90 pixels, made from the sample id."""

    def read(self, sample_id):
        stream = io.BytesIO()
        pixels = np.random.default_rng(int(sample_id)).integers(0, 256, (60, 90), dtype=np.uint8)
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()


class FakeIndex:
    """What the floor asks of an index."""

    def __init__(self, count):
        self.ids = self
        self.meta = {"kind": np.array([row % 2 for row in range(count - 1)] + [-1], dtype=np.int16)}
        self.count = count

    def __len__(self):
        return self.count

    def to_list(self):
        return [str(row) for row in range(self.count)]


def test_pixels_are_pillows_bicubic_ones_and_the_type_is_one_more_feature():
    index, reader, seen = FakeIndex(3), FakeReader(), []
    pixels = floor_pixels(index, reader, lambda done, total: seen.append((done, total)))
    with Image.open(io.BytesIO(reader.read("2"))) as image:
        assert np.array_equal(pixels[2], np.asarray(image.resize((48, 48))).ravel())  # bicubic is Pillow's default
    assert seen == [(1, 3), (2, 3), (3, 3)]
    features = with_metadata(pixels, index, "kind")
    assert np.array_equal(features[:, :-1], pixels)
    assert features[:, -1].tolist() == [0.0, 1.0, -1.0]


def test_the_forest_is_scikit_learns_and_sees_the_training_part_only():
    generator = np.random.default_rng(4)
    features, label = generator.normal(size=(60, 5)), generator.integers(0, 2, 60)
    test = np.arange(60) % 3 == 0
    found = fit_floor(features, label, ~test, test, seed=9)
    forest = RandomForestClassifier(random_state=9).fit(features[~test], label[~test])
    assert np.array_equal(found, forest.predict_proba(features[test]))
    features[test, 0] += 100.0  # other test samples, same forest: rows stay independent of each other
    assert fit_floor(features, label, ~test, test, seed=9).shape == (20, 2)


def test_overlap_and_a_missing_class_are_refused():
    features, label, everything = np.zeros((4, 1)), np.array([0, 0, 1, 1]), np.ones(4, dtype=bool)
    with pytest.raises(DataError, match="4 samples stand in both parts"):
        fit_floor(features, label, everything, everything, seed=0)
    with pytest.raises(DataError, match="no sample of class 1"):
        fit_floor(features, label, label == 0, label == 1, seed=0)


@pytest.mark.slow
def test_the_published_floor_is_met_on_the_sets_own_split(real_data):
    data = load_elpv(real_data / "elpv")
    test = data.published == "test"
    probs = fit_floor(floor_pixels(data.index, data.reader), data.index.label, ~test, test, seed=0)
    data.reader.close()
    assert roc_auc_score(data.index.label[test], probs[:, 1]) == pytest.approx(0.808, abs=0.002)
