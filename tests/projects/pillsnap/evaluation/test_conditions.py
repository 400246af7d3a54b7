import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from projects.pillsnap.evaluation import conditions
from projects.pillsnap.evaluation.conditions import CLEAN, standard_conditions


@pytest.fixture
def photo() -> np.ndarray:
    """Return a bright disc on a dark, slightly uneven ground, 96 x 128 px."""
    y, x = np.mgrid[:96, :128]
    image = np.stack([40 + x // 4, 50 + y // 4, np.full_like(x, 60)], axis=2)
    image[(x - 63.5) ** 2 + (y - 47.5) ** 2 < 30**2] = (200, 160, 120)
    return image.astype(np.uint8)


def test_every_condition_is_pure_seeded_and_stays_a_photo(photo: np.ndarray) -> None:
    before = photo.copy()
    rows = standard_conditions()
    assert rows[0].name == CLEAN
    for row in rows:
        assert row.change is not None
        changed = row.change(photo, 7)
        assert changed.dtype == np.uint8, row.name
        assert changed.ndim == 3, row.name
        np.testing.assert_array_equal(changed, row.change(photo, 7), err_msg=row.name)
        np.testing.assert_array_equal(photo, before, err_msg=row.name)
        assert row.name == CLEAN or not np.array_equal(changed, photo), row.name


def test_names_are_unique_and_fit_for_files() -> None:
    rows = standard_conditions(["wood", "skin"])
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_.]+", name) for name in names)
    assert names[-2:] == ["background_wood", "background_skin"]
    assert rows[-1].change is None
    words = {row.words() for row in rows}
    assert {
        "clean", "exposure -2 EV", "exposure +2 EV", "blur 0.5 % of the side", "JPEG 85 quality (the client's)",
        "colour cast cool 30 % of red and blue", "small pill 0.6 x", "background skin",
    } <= words  # fmt: skip


@pytest.mark.parametrize("stops", [-2, -1, 1, 2])
def test_a_stop_is_a_factor_of_two_in_light(stops: int) -> None:
    grey = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3)
    changed = conditions.exposure(grey, stops=stops) / 255.0
    # Independent form of the sRGB curve: a pure power close to it; exact at mid grey by the standard's own numbers.
    light = ((grey / 255.0 + 0.055) / 1.055) ** 2.4
    expected = 1.055 * np.clip(light * 2.0**stops, 0, 1) ** (1 / 2.4) - 0.055
    away_from_black = slice(60, None)
    np.testing.assert_allclose(changed[0, away_from_black], expected[0, away_from_black], atol=0.6 / 255)


def test_no_change_of_light_gives_every_value_back() -> None:
    grey = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3)
    np.testing.assert_array_equal(conditions.exposure(grey, stops=0), grey)


def test_a_cast_moves_red_and_blue_apart(photo: np.ndarray) -> None:
    warm, cool = (conditions.colour_cast(photo, warmth=warmth).mean(axis=(0, 1)) for warmth in (0.3, -0.3))
    plain = photo.mean(axis=(0, 1))
    assert warm[0] > plain[0] > cool[0]
    assert warm[2] < plain[2] < cool[2]
    assert warm[1] == cool[1] == plain[1]


def test_contrast_shrinks_about_the_mean(photo: np.ndarray) -> None:
    changed = conditions.low_contrast(photo, factor=0.25)
    assert changed.std() == pytest.approx(0.25 * photo.std(), rel=0.02)
    assert changed.mean() == pytest.approx(photo.mean(), abs=0.5)


def test_blur_is_scipys_gaussian_of_a_share_of_the_side(photo: np.ndarray) -> None:
    changed = conditions.gaussian_blur(photo, percent=2.0)
    expected = gaussian_filter(photo.astype(float), (1.92, 1.92, 0), mode="mirror")
    assert np.abs(changed - expected).max() < 2.0


def test_motion_blur_smears_a_point_along_a_line() -> None:
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 50] = 255
    changed = conditions.motion_blur(image, 3, percent=10.0)[..., 0].astype(float)
    y, x = np.nonzero(changed)
    angle = np.random.default_rng(3).uniform(0, np.pi)
    off_line = np.abs((x - 50) * np.sin(angle) - (y - 50) * np.cos(angle))
    along = np.abs((x - 50) * np.cos(angle) + (y - 50) * np.sin(angle))
    assert off_line.max() < 1.5
    assert 4.5 < along.max() < 6.5
    assert changed.sum() == pytest.approx(255, rel=0.05)
    assert not np.array_equal(changed, conditions.motion_blur(image, 4, percent=10.0)[..., 0])


def test_quarter_turns_are_exact(photo: np.ndarray) -> None:
    np.testing.assert_array_equal(conditions.rotation(photo, degrees=180.0), photo[::-1, ::-1])
    np.testing.assert_array_equal(conditions.rotation(photo, degrees=90.0), np.rot90(photo))


def test_other_turns_are_pillows(photo: np.ndarray) -> None:
    changed = conditions.rotation(photo, degrees=15.0).astype(float)
    expected = np.asarray(Image.fromarray(photo).rotate(15.0, Image.Resampling.BILINEAR)).astype(float)
    centre = np.s_[20:76, 20:108]
    assert np.abs(changed[centre] - expected[centre]).mean() < 1.0
    assert changed.min() > 0  # the uncovered corners repeat the border


@pytest.mark.parametrize("quality", [85, 10])
def test_jpeg_is_the_clients_square_through_a_file(photo: np.ndarray, quality: int) -> None:
    changed = conditions.client_jpeg(photo, quality=quality)
    stream = BytesIO()
    Image.fromarray(photo[:, 16:112]).save(stream, "JPEG", quality=quality)
    np.testing.assert_array_equal(changed, np.asarray(Image.open(stream)))


def test_jpeg_shrinks_large_photos_and_enlarges_none() -> None:
    large = np.full((700, 900, 3), 90, np.uint8)
    assert conditions.client_jpeg(large, quality=85).shape == (512, 512, 3)
    assert conditions.client_jpeg(large[:80], quality=85).shape == (80, 80, 3)


def test_noise_has_its_sigma_and_its_seed() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    changed = conditions.noise(grey, 1, sigma=15.0)
    assert changed.std() == pytest.approx(15.0, rel=0.02)
    assert not np.array_equal(changed, conditions.noise(grey, 2, sigma=15.0))
    dark = conditions.darkness(grey, 1, stops=-3, sigma=12.0)
    assert dark.mean() < 64
    assert dark.std() == pytest.approx(12.0, rel=0.05)


def test_a_small_pill_has_its_share_of_the_area(photo: np.ndarray) -> None:
    changed = conditions.small_pill(photo, scale=0.6)
    assert changed.shape == photo.shape
    disc = (changed[..., 0] > 150).sum() / (photo[..., 0] > 150).sum()
    assert disc == pytest.approx(0.36, abs=0.02)
    assert (changed[0, 0] == changed[10, 10]).all()
