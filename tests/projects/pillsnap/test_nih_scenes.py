import csv
import io
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from projects.pillsnap.nih_scenes import pill_mask, render_nih
from projects.pillsnap.standin import BACKGROUNDS
from shared.errors import DataError


def pictured(color=(200, 60, 40), ink=(0, 0, 0), half=(100, 40), quality=90):
    """Return a picture like those of the NIH, an oval on black with black print and a JPEG's ringing, and the oval."""
    image, oval = np.zeros((224, 224, 3), np.uint8), np.zeros((224, 224), np.uint8)
    cv2.ellipse(oval, (112, 112), half, 0, 0, 360, 1, cv2.FILLED)
    image[oval == 1] = color
    image[100:124, 90:140] = ink
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as picture:
        return np.asarray(picture), oval == 1


@pytest.mark.parametrize("color", [(200, 60, 40), (240, 240, 235), (38, 22, 18), (14, 16, 44)], ids=str)
def test_mask_covers_the_pill_with_its_black_print_and_nothing_else(color):
    image, oval = pictured(color)
    mask = pill_mask(image)
    assert (mask.shape, mask.dtype) == ((224, 224), np.float32)
    inner = cv2.erode(oval.astype(np.uint8), np.ones((9, 9), np.uint8)) == 1
    outer = cv2.dilate(oval.astype(np.uint8), np.ones((3, 3), np.uint8)) == 1
    assert mask[inner].min() == 1
    assert mask[~outer].max() == 0
    assert np.unique(mask).size > 3  # a soft rim


def test_a_pill_that_touches_the_border_is_covered_up_to_it():
    mask = pill_mask(pictured(half=(112, 50))[0])
    assert mask[112, 4] == mask[112, 219] == 1
    assert mask[112, 0] < 0.5


def test_pictures_without_a_pill_on_black_are_refused():
    speck = np.zeros((64, 64, 3), np.uint8)
    speck[3:6, 3:6] = 255
    for image, share in (
        (np.zeros((64, 64, 3), np.uint8), "0%"),
        (speck, "0%"),
        (np.full((64, 64, 3), 200, np.uint8), "100%"),
    ):
        with pytest.raises(DataError, match=rf"shows no pill on black: {share} of it .* allowed: 2% to below 100%"):
            pill_mask(image)


def test_a_photo_repeats_by_seed_and_differs_between_seeds():
    image, _ = pictured()
    first = render_nih(image, 5, size_px=96)
    assert (first.shape, first.dtype) == ((96, 96, 3), np.uint8)
    np.testing.assert_array_equal(first, render_nih(image, 5, size_px=96))
    assert np.abs(first.astype(int) - render_nih(image, 6, size_px=96)).mean() > 8


def test_the_pill_has_its_colour_and_fills_the_promised_share():
    image, _ = pictured((40, 60, 210), ink=(40, 60, 210))
    shares = []
    for seed in range(20):
        photo = render_nih(image, seed, size_px=128, background="black").astype(int)
        blue = (photo[..., 2] > 50) & (photo[..., 2] > 1.4 * photo[..., 0])
        points = cv2.findNonZero(cv2.morphologyEx(blue.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
        shares.append(max(cv2.minAreaRect(points)[1]) / 128)
    assert min(shares) > 0.35  # tilted away and in half shade at the rim
    assert max(shares) < 0.80
    assert 0.48 < np.median(shares) < 0.66


def test_no_black_rim_of_the_studio_is_left_on_white():
    image, _ = pictured((225, 225, 225), ink=(225, 225, 225))
    for seed in range(8):
        photo = render_nih(image, seed, size_px=128, background="white")
        assert np.percentile(photo.max(axis=2), 0.5) > 35


def test_a_swapped_background_leaves_the_pill():
    image, _ = pictured(half=(100, 80))
    black, white = (render_nih(image, 3, size_px=96, background=name).astype(int) for name in ("black", "white"))
    changed = np.abs(black - white).max(axis=2)
    assert np.median(changed[:6]) > 80
    assert np.sort(changed.ravel())[int(0.08 * changed.size)] < 12
    assert len({render_nih(image, 3, size_px=48, background=name).tobytes() for name in BACKGROUNDS}) == len(
        BACKGROUNDS
    )


def test_wrong_arguments_are_named():
    image, _ = pictured()
    with pytest.raises(ValueError, match=r"image is float64 of shape \(224, 224, 3\); allowed: uint8"):
        render_nih(image.astype(float), 0, size_px=64)
    with pytest.raises(ValueError, match=r"image is uint8 of shape \(224, 224\)"):
        render_nih(image[..., 0], 0, size_px=64)
    with pytest.raises(ValueError, match="seed is -1; allowed: 0 or more"):
        render_nih(image, -1, size_px=64)
    with pytest.raises(ValueError, match="background is 'sea'; allowed: grey"):
        render_nih(image, 0, size_px=64, background="sea")


def test_masks_of_the_real_photographs_are_whole_pills(real_data):
    with zipfile.ZipFile(real_data / "nih_pills" / "nih_pills.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))[::13]
        for row in rows:
            with Image.open(archive.open(row["file"])) as picture:
                image = np.asarray(picture.convert("RGB"))
            mask = pill_mask(image) > 0.5
            assert image[mask].max(axis=1).mean() > 20, row["file"]
            beside = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
            assert image[beside].max(axis=1).mean() < 4, row["file"]
            outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            assert len(outlines) == 1, row["file"]
            # Nearly all pills are convex: a bite out of the mask would show here.
            hull = cv2.contourArea(cv2.convexHull(outlines[0]))
            assert hull < 1.12 * cv2.contourArea(outlines[0]), row["file"]
            assert max(cv2.boundingRect(outlines[0])[2:]) > 200, row["file"]
