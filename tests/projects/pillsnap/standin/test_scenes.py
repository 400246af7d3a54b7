from dataclasses import replace

import numpy as np
import pytest

from projects.pillsnap.standin.conditions import Camera, Light, Pose, Scene
from projects.pillsnap.standin.scenes import composite, develop, jpeg_bytes, through_jpeg

SIZE = 100
STILL = Camera(tilt_deg=(0, 0), blur=0, motion=0, motion_deg=0, noise=0, jpeg_quality=90)
ABOVE = Light(np.float32([0, 0, 1]), 0.5, 0.5, np.ones(3, np.float32), np.ones((8, 8), np.float32))
SCENE = Scene(np.full((160, 160, 3), 0.25, np.float32), ABOVE, STILL, SIZE, 0.0)
POSE = Pose(angle_deg=0, fill=0.5, shift=(0, 0), exposure=1)


def bar(side=81, half=36, thick=8, value=1.0):
    """Return a white bar along x whose right third is red, and its half extent."""
    pill = np.zeros((side, side, 4), np.float32)
    rows, columns = slice(side // 2 - thick, side // 2 + thick + 1), slice(side // 2 - half, side // 2 + half + 1)
    pill[rows, columns] = value
    pill[:, side // 2 + half // 3 :, 1:3] = 0
    return pill, half + 0.5


def photo(scene=SCENE, pose=POSE, thickness=0.0, **changes):
    pill, half = bar(**changes)
    return composite(pill, half, thickness, scene, pose, np.random.default_rng(0))


def extent(image, row=None):
    white = image.max(axis=2) > 200
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    return columns[0], columns[-1], rows[0], rows[-1]


def test_a_pill_has_the_asked_size_and_place():
    left, right, top, bottom = extent(photo())
    assert right - left + 1 == pytest.approx(50, abs=1)
    assert (left + right) / 2 == pytest.approx(49.5, abs=0.6)
    assert (top + bottom) / 2 == pytest.approx(49.5, abs=0.6)
    left, right, top, bottom = extent(photo(pose=replace(POSE, shift=(0.1, -0.2), fill=0.4)))
    assert right - left + 1 == pytest.approx(40, abs=1)
    assert (left + right) / 2 == pytest.approx(59.5, abs=0.6)
    assert (top + bottom) / 2 == pytest.approx(29.5, abs=0.6)


def test_rotation_is_clockwise():
    image = photo(pose=replace(POSE, angle_deg=90))
    left, right, top, bottom = extent(image)
    assert bottom - top > 2 * (right - left)
    assert image[bottom - 4, 50, 1] < 60  # the red end points down
    assert image[top + 4, 50, 1] > 200


def test_tilt_makes_the_far_side_smaller():
    scene = replace(SCENE, camera=replace(STILL, tilt_deg=(0, 20)))
    white = photo(scene, replace(POSE, fill=0.7), thick=28).max(axis=2) > 200
    columns = np.flatnonzero(white.any(axis=0))
    heights = white[:, [columns[0] + 3, columns[-1] - 3]].sum(axis=0)
    assert abs(int(heights[0]) - int(heights[1])) >= 2


def test_shadow_falls_away_from_the_light_and_is_dark():
    side = replace(ABOVE, toward=np.float32([-0.6, 0, 0.8]), softness=0.2)
    image = photo(replace(SCENE, light=side), thickness=0.6).astype(int)
    lit, shaded = image[50, 20, 0], image[50, 79, 0]
    assert shaded < 0.85 * lit
    assert lit > 0.9 * image[5, 5, 0]


def test_light_exposure_and_colour_are_gains():
    assert abs(int(photo()[5, 5, 0]) - 128) <= 1  # a quarter of the light, half of the tone
    brighter = photo(pose=replace(POSE, exposure=2.25))
    assert abs(int(brighter[5, 5, 0]) - 192) <= 1
    warm = photo(replace(SCENE, light=replace(ABOVE, gains=np.float32([1, 0.64, 0.25]))))
    np.testing.assert_allclose(warm[5, 5], [127.5, 102, 63.75], atol=1)


def test_blur_motion_and_noise_do_what_they_say():
    edge = np.zeros((64, 64, 3), np.float32)
    edge[:, 32:] = 1
    rng = np.random.default_rng(0)
    assert set(np.unique(develop(edge.copy(), STILL, rng))) == {0, 255}
    soft = develop(edge.copy(), replace(STILL, blur=3 / 64), rng)[32, :, 0]
    assert 8 < np.sum((soft > 5) & (soft < 250)) < 24
    along = develop(edge.copy(), replace(STILL, motion=9 / 64, motion_deg=90), rng)
    assert set(np.unique(along)) == {0, 255}  # a motion along the edge does not show
    across = develop(edge.copy(), replace(STILL, motion=9 / 64, motion_deg=0), rng)[32, :, 0]
    assert 6 <= np.sum((across > 5) & (across < 250)) <= 10
    noisy = develop(np.full((64, 64, 3), 0.25, np.float32), replace(STILL, noise=0.02), rng)
    assert noisy.std() == pytest.approx(0.02 * 255, rel=0.05)


def test_jpeg_bytes_are_what_any_reader_sees():
    image = photo()
    data = jpeg_bytes(image, 90)
    assert data[:2] == b"\xff\xd8"
    assert np.abs(through_jpeg(data).astype(int) - image).mean() < 3
    assert len(jpeg_bytes(image, 60)) < len(data)
