import dataclasses

import numpy as np
import pytest

from projects.pillsnap.data.augment import build_augmentation
from projects.pillsnap.data.dataset import PhotoDataset
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.sampler import SampleKey
from tests.fabricate.sample_index import make_index

SIDE, SIZE = 96, 32


def wide(row):
    """A 4:3 photo: white left and right of the centre square, in which a ramp runs from black to grey."""
    photo = np.full((SIDE, SIDE * 4 // 3, 3), 255, np.uint8)
    photo[:, 16 : 16 + SIDE] = np.linspace(0, 180, SIDE).astype(np.uint8)[None, :, None]
    return photo


def dataset(augment):
    index = make_index([0, 1])
    index = dataclasses.replace(index, meta={"domain": np.zeros(2, np.int16)}, meta_names={"domain": ("real",)})
    preprocess = UnifiedPreprocessor(size_px=SIZE, clahe=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return PhotoDataset(index, np.arange(2), wide, preprocess, augment=augment, seed=0, attributes=())


def test_augmentation_sees_the_square_that_serving_sees_whatever_the_photos_shape():
    crop = build_augmentation(
        SIZE, rotation_degrees=0, brightness=0, contrast=0, saturation=0, hue=0, blur_probability=0,
        erasing_probability=0,
    )  # fmt: skip
    samples = [dataset(crop)[SampleKey(0, draw)]["image"].numpy() for draw in range(40)]
    assert max(sample.max() for sample in samples) <= 180 / 255  # nothing from beside the square
    assert len({sample.tobytes() for sample in samples}) >= 20  # random; where it lies vertically, a ramp does not show
    # Half the ramp's slope would be a picture squeezed by two; area 0.8 to 1 and ratio 0.9 to 1.1 stay within this.
    slopes = [(sample[0, 0, -1] - sample[0, 0, 0]) * 255 / 180 for sample in samples]
    assert 0.78 <= min(slopes) <= max(slopes) <= 1.0


def test_without_a_draw_nothing_is_random():
    plain, augmented = dataset(None), dataset(build_augmentation(SIZE))
    np.testing.assert_array_equal(plain[0]["image"], augmented[0]["image"])
    np.testing.assert_array_equal(plain[0]["image"], plain[SampleKey(0, 5)]["image"])
    with pytest.raises(IndexError, match="position 2 does not exist in a dataset of 2"):
        plain[2]
