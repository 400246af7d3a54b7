import pickle
from collections import Counter

import numpy as np
import pytest

from projects.battery.data.augment import build_augmentation

OFF = {
    "flip_probability": 0.0,
    "rotation_degrees": 0.0,
    "shift": 0.0,
    "scale": (1.0, 1.0),
    "brightness": 0.0,
    "contrast": 0.0,
    "blur_probability": 0.0,
}


@pytest.fixture
def image():
    return np.random.default_rng(2).integers(40, 200, (32, 32), dtype=np.uint8)


def test_the_result_is_a_function_of_image_and_seed(image):
    first, second = build_augmentation(32), build_augmentation(32)
    for seed in (5, 0, 2**32 - 1, 5):
        changed = first(image, seed)
        second(image, seed + 1)  # another history must not matter
        assert np.array_equal(second(image, seed), changed)
        assert changed.dtype == np.uint8
        assert changed.shape == image.shape
        assert changed.flags.c_contiguous
    assert len({first(image, seed).tobytes() for seed in range(50)}) == 50


def test_a_pickled_copy_gives_the_same(image):
    augment = build_augmentation(32, elastic_probability=0.5, clahe_probability=0.5, sharpen_probability=0.5)
    copy = pickle.loads(pickle.dumps(augment))
    for seed in range(20):
        assert np.array_equal(copy(image, seed), augment(image, seed))


def test_the_input_is_left_as_it_was(image):
    before = image.copy()
    augment = build_augmentation(32)
    for seed in range(20):
        augment(image, seed)
    assert np.array_equal(image, before)


def test_the_two_flips_are_independent(image):
    """Seeding Albumentations by `set_random_seed` makes both flips happen together; each of four must be a quarter."""
    augment = build_augmentation(32, **OFF | {"flip_probability": 0.5})
    wanted = {
        each.tobytes(): name
        for name, each in (("none", image), ("up", image[::-1]), ("left", image[:, ::-1]), ("both", image[::-1, ::-1]))
    }
    counts = Counter(wanted[augment(image, seed).tobytes()] for seed in range(400))
    # 100 +- 8.7 expected of each; five standard deviations.
    assert all(abs(counts[name] - 100) < 44 for name in ("none", "up", "left", "both"))


def test_everything_off_changes_nothing(image):
    assert np.array_equal(build_augmentation(32, **OFF)(image, 3), image)


def test_brightness_and_contrast_stay_within_their_ranges():
    flat = np.full((16, 16), 100, np.uint8)
    bright = build_augmentation(16, **OFF | {"brightness": 0.3})
    values = [int(bright(flat, seed)[0, 0]) for seed in range(300)]
    assert min(values) >= 100 - 0.3 * 255 - 1
    assert max(values) <= 100 + 0.3 * 255 + 1
    assert np.ptp(values) > 0.5 * 255  # the range is used
    contrast = build_augmentation(16, **OFF | {"contrast": 0.3})
    values = [int(contrast(flat, seed)[0, 0]) for seed in range(300)]
    assert (min(values) >= 69, max(values) <= 131, np.ptp(values) > 50) == (True, True, True)


def moments(image):
    """Centre and second moments of the bright pixels, in pixels from the middle of the image."""
    weight = image.astype(float) / image.sum()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] - (image.shape[0] - 1) / 2
    cx, cy = (weight * x).sum(), (weight * y).sum()
    sxx, syy, sxy = (
        (weight * (a - ca) * (b - cb)).sum() for a, ca, b, cb in ((x, cx, x, cx), (y, cy, y, cy), (x, cx, y, cy))
    )
    return cx, cy, sxx, syy, sxy


def test_geometry_stays_within_its_ranges():
    bar = np.zeros((64, 64), np.uint8)
    bar[28:36, 16:48] = 255
    _, _, sxx, syy, _ = moments(bar)
    turned, shifted, sized = [], [], []
    for seed in range(150):
        cx, cy, txx, tyy, txy = moments(build_augmentation(64, **OFF | {"rotation_degrees": 30.0})(bar, seed))
        turned.append(np.degrees(0.5 * np.arctan2(2 * txy, txx - tyy)))
        assert max(abs(cx), abs(cy)) < 1
        cx, cy, *_ = moments(build_augmentation(64, **OFF | {"shift": 0.1})(bar, seed))
        shifted.append((cx, cy))
        _, _, txx, tyy, _ = moments(build_augmentation(64, **OFF | {"scale": (0.9, 1.1)})(bar, seed))
        sized.append(np.sqrt((txx + tyy) / (sxx + syy)))
    assert 25 < np.abs(turned).max() < 31
    assert min(turned) < -20
    assert 5 < np.abs(shifted).max() < 7
    assert abs(np.corrcoef(np.transpose(shifted))[0, 1]) < 0.4  # the axes move independently
    assert (0.88 < min(sized) < 0.93, 1.07 < max(sized) < 1.12) == (True, True)


def test_blur_happens_in_its_share_of_cases(image):
    augment = build_augmentation(32, **OFF | {"blur_probability": 0.3})
    changed = sum(not np.array_equal(augment(image, seed), image) for seed in range(400))
    assert 80 < changed < 160  # 120 expected, less the faintest kernels that change nothing


@pytest.mark.parametrize("name", ["clahe_probability", "sharpen_probability", "elastic_probability"])
def test_the_optional_steps_work_alone(image, name):
    augment = build_augmentation(32, **OFF | {name: 1.0})
    assert not np.array_equal(augment(image, 1), image)
    assert np.array_equal(augment(image, 1), augment(image, 1))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"flip_probability": 1.5}, r"flip_probability must be in \[0, 1\], got 1.5"),
        ({"brightness": -0.1}, r"brightness must be in \[0, 1\], got -0.1"),
        ({"rotation_degrees": 270}, r"rotation_degrees must be in \[0, 180\], got 270"),
        ({"scale": (1.1, 0.9)}, r"scale must be \(smallest, largest\)"),
        ({"blur_kernel_px": 4}, "blur_kernel_px must be odd and at least 3, got 4"),
    ],
)
def test_values_out_of_range_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_augmentation(32, **arguments)


def test_a_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="image_size_px must be positive, got 0"):
        build_augmentation(0)
