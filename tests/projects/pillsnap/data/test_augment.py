import numpy as np
import pytest

from projects.pillsnap.data.augment import build_augmentation
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.errors import ConfigError


@pytest.fixture
def photo():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)


def test_it_gives_pixels_of_the_networks_size_so_that_the_preprocessor_neither_crops_nor_resizes(photo):
    preprocess = UnifiedPreprocessor(size_px=64)
    augmented = build_augmentation(64, blur_kernel_px=3)(photo, 1)
    assert augmented.shape == (64, 64, 3)
    assert augmented.dtype == np.uint8
    np.testing.assert_array_equal(preprocess.square(augmented), augmented)


def test_it_depends_on_the_seed_alone(photo):
    augment = build_augmentation(64)
    first = [augment(photo, seed) for seed in range(5)]
    again = [build_augmentation(64)(photo, seed) for seed in range(5)]
    np.testing.assert_array_equal(first, again)
    assert len({picture.tobytes() for picture in first}) == 5


def test_switched_off_it_only_resizes(photo):
    square = photo[:, 15:105]
    off = build_augmentation(
        90, rotation_degrees=0, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), brightness=0, contrast=0, saturation=0,
        hue=0, blur_probability=0, erasing_probability=0,
    )  # fmt: skip
    np.testing.assert_array_equal(off(square, 3), square)


def test_erasing_fills_a_rectangle_with_grey():
    black = np.zeros((64, 64, 3), np.uint8)
    only = build_augmentation(
        64, rotation_degrees=0, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), brightness=0, contrast=0, saturation=0,
        hue=0, blur_probability=0, erasing_probability=1,
    )  # fmt: skip
    shares = [(only(black, seed) == 124).mean() for seed in range(30)]
    assert 0.015 <= min(shares) <= max(shares) <= 0.21


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"brightness": 2}, r"augmentation\.brightness is 2; allowed are 0 to 1"),
        ({"rotation_degrees": 200}, r"rotation_degrees is 200; allowed are 0 to 180"),
        ({"erasing_probability": -1}, r"erasing_probability is -1; allowed are 0 to 1"),
        ({"hue": 0.7}, r"hue is 0\.7; allowed are 0 to 0\.5"),
        ({"blur_kernel_px": 4}, r"blur_kernel_px is 4; allowed are odd"),
        ({"crop_scale": (0.9, 0.5)}, r"crop_scale is \(0\.9, 0\.5\); it must be"),
    ],
)
def test_values_out_of_range_are_refused(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_augmentation(64, **change)
