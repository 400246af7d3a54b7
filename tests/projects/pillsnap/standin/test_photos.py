import io

import cv2
import numpy as np
import pytest
from PIL import Image

from projects.pillsnap.standin import BACKGROUNDS, photos, render_photo
from projects.pillsnap.standin.config import StandinConfig
from projects.pillsnap.standin.drugs import plan_drugs
from projects.pillsnap.standin.imprint import imprint_mask
from projects.pillsnap.standin.photos import photo_bytes
from projects.pillsnap.standin.specimen import make_specimen
from tests.fabricate.pill_standin import tiny_config

CONFIG = tiny_config(size_px=80)
CATALOGUE = plan_drugs(CONFIG)
KCODE = CATALOGUE.known[0].kcode


def forget():
    photos._scene.cache_clear()
    photos._specimen.cache_clear()


def difference(first, second):
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def test_a_photo_depends_on_its_names_alone():
    wanted = render_photo(CONFIG, "real", KCODE, "r01", 1)
    assert (wanted.shape, wanted.dtype) == ((80, 80, 3), np.uint8)
    forget()
    render_photo(CONFIG, "real", KCODE, "r03", 0)
    render_photo(CONFIG, "studio", KCODE, "s01", 1)
    np.testing.assert_array_equal(render_photo(CONFIG, "real", KCODE, "r01", 1), wanted)
    more = tiny_config(size_px=80, real_sittings=9, studio_per_sitting=7)
    np.testing.assert_array_equal(render_photo(more, "real", KCODE, "r01", 1), wanted)
    other = StandinConfig(**{**CONFIG.as_dict(), "seed": 1})
    assert KCODE not in {drug.kcode for drug in plan_drugs(other).known}


def test_pixels_are_those_of_the_file():
    data = photo_bytes(CONFIG, "others", CATALOGUE.unknown[0].kcode, "r02", 0)
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (80, 80))
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels, render_photo(CONFIG, "others", CATALOGUE.unknown[0].kcode, "r02", 0))


def test_shots_of_a_sitting_are_alike_and_sittings_are_not():
    def color(sitting, shot):
        frame = render_photo(CONFIG, "real", KCODE, sitting, shot).astype(float)
        rim = np.concatenate([frame[:6].reshape(-1, 3), frame[-6:].reshape(-1, 3)])
        return rim.mean(axis=0)

    sittings = [f"r{number:02d}" for number in range(8)]
    colors = np.array([[color(sitting, shot) for shot in range(3)] for sitting in sittings])
    within = colors.std(axis=1).mean()
    between = colors.mean(axis=1).std(axis=0).mean()
    assert between > 2 * within
    assert difference(render_photo(CONFIG, "real", KCODE, "r00", 0), render_photo(CONFIG, "real", KCODE, "r00", 1)) > 2


def test_domains_differ():
    studio = [render_photo(CONFIG, "studio", KCODE, f"s{number:02d}", 0) for number in range(6)]
    real = [render_photo(CONFIG, "real", KCODE, f"r{number:02d}", 0) for number in range(6)]

    def rim_spread(images):
        return np.mean([image[:10].reshape(-1, 3).std(axis=0).mean() for image in images])

    def between(images):
        return np.mean([difference(first, second) for first in images for second in images if first is not second])

    assert rim_spread(real) > 2 * rim_spread(studio)
    assert between(real) > 1.2 * between(studio)


def test_a_swapped_background_changes_the_surroundings_and_not_the_pill():
    own = render_photo(CONFIG, "real", KCODE, "r02", 0)
    images = {name: render_photo(CONFIG, "real", KCODE, "r02", 0, background=name) for name in BACKGROUNDS}
    black, white = images["black"].astype(int), images["white"].astype(int)
    changed = np.abs(black - white).max(axis=2)
    assert np.median(changed[:8]) > 80
    assert np.median(changed[34:46, 34:46]) < 12
    assert black[:8].mean() < 50 < 120 < white[:8].mean()
    assert sum(difference(own, image) < 1 for image in images.values()) <= 1
    # The photo that names its own surface is the photo itself.
    assert any(np.array_equal(own, image) for image in images.values())


def test_pills_stay_inside_the_photo():
    for number in range(40):
        frame = render_photo(CONFIG, "real", KCODE, f"r{number:02d}", 0, background="black").astype(int)
        edges = np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]]).max(axis=1)
        assert np.percentile(edges, 90) < 90, number


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("field", KCODE, "r00", 0), "domain is 'field'; allowed: studio, real, others"),
        (("real", "K-1", "r00", 0), "kcode is 'K-1'; allowed in real: one of its 6"),
        (("real", KCODE, "s00", 0), "sitting is 's00'; allowed for real"),
        (("real", KCODE, "r00", -1), "shot is -1; allowed: 0 or more"),
    ],
)
def test_wrong_names_are_told(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        render_photo(CONFIG, *arguments)
    with pytest.raises(ValueError, match="background is 'sea'; allowed: grey"):
        render_photo(CONFIG, "real", KCODE, "r00", 0, background="sea")


def test_look_alikes_are_one_pill_with_two_imprints_in_the_same_light():
    by_code = {drug.kcode: drug for drug in CATALOGUE.known}
    first, second = (by_code[kcode] for kcode in CATALOGUE.pairs[0])
    one, two = (make_specimen(drug, np.random.default_rng(4), 96) for drug in (first, second))
    np.testing.assert_array_equal(one.alpha, two.alpha)
    assert (one.gloss, one.thickness) == (two.gloss, two.thickness)
    letters = imprint_mask(first, 96, one.half_extent_px) + imprint_mask(second, 96, two.half_extent_px)
    around = cv2.dilate((letters > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) == 1
    different = np.abs(one.normal - two.normal).max(axis=2) + np.abs(one.albedo - two.albedo).max(axis=2) > 1e-4
    assert different[around].any()
    assert not different[~around].any()
    assert (~around & (one.alpha == 1)).mean() > 0.05
