from dataclasses import replace

import numpy as np
import pytest

from projects.pillsnap.standin.config import StandinConfig
from projects.pillsnap.standin.drugs import plan_drugs
from projects.pillsnap.standin.specimen import make_specimen, shade

TABLET = replace(
    plan_drugs(StandinConfig()).known[0],
    shape="round",
    colors=("white",),
    rgb=((230, 230, 230),),
    parts=("A8",),
    score="none",
    profile="domed",
    printed=False,
    gloss=0.1,
    speckle=0.0,
)
UP = np.float32([0, 0, 1])


def specimen(drug=TABLET, seed=0, size_px=120):
    return make_specimen(drug, np.random.default_rng(seed), size_px)


def test_maps_are_a_pill_of_unit_normals():
    pill = specimen()
    assert pill.albedo.shape == pill.normal.shape == (120, 120, 3)
    np.testing.assert_allclose(np.linalg.norm(pill.normal, axis=2), 1, atol=1e-5)
    area = pill.alpha.sum() / (np.pi * pill.half_extent_px**2)
    assert area == pytest.approx(1, abs=0.03)
    assert pill.alpha[0].max() == pill.alpha[:, 0].max() == 0
    assert pill.thickness == pytest.approx(0.4, abs=0.02)
    # A dome leans outwards on each side.
    assert pill.normal[60, 14, 0] < -0.1
    assert pill.normal[60, 105, 0] > 0.1


def test_two_specimens_differ_a_little_and_one_repeats():
    np.testing.assert_array_equal(specimen(seed=1).albedo, specimen(seed=1).albedo)
    first, second = shade(specimen(seed=1), UP, 0.4, 0.5), shade(specimen(seed=2), UP, 0.4, 0.5)
    difference = np.abs(first - second)[..., :3][(first[..., 3] == 1) & (second[..., 3] == 1)].mean()
    assert 0.001 < difference < 0.1


def test_a_pressed_imprint_shows_by_its_slopes_and_a_printed_one_by_its_ink():
    pressed, blank = specimen(), specimen(replace(TABLET, parts=("A3",)))
    assert np.abs(pressed.normal - blank.normal).max() > 0.2
    printed = specimen(replace(TABLET, printed=True, ink=(20, 20, 20)))
    assert printed.albedo[printed.alpha == 1].min() < 0.1 < 0.4 < pressed.albedo[pressed.alpha == 1].min()


def test_score_lines_and_two_colours_are_where_they_belong():
    scored, plain = specimen(replace(TABLET, score="line")), specimen()
    middle = slice(58, 62)
    assert scored.albedo[middle, 15:105].mean() < 0.9 * plain.albedo[middle, 15:105].mean()
    notched = specimen(replace(TABLET, score="notch"))
    assert notched.albedo[59:61, 12:16].mean() < 0.9 * plain.albedo[59:61, 12:16].mean()
    look = {"shape": "capsule", "profile": "capsule", "colors": ("red", "white"), "printed": True}
    capsule = specimen(replace(TABLET, **look, rgb=((200, 20, 20), (240, 240, 240)), parts=("A", "8"), aspect=0.4))
    assert capsule.albedo[60, 20, 1] < 0.05
    assert capsule.albedo[60, 112, 1] > 0.7


def test_light_from_a_side_brightens_that_side_and_gloss_adds_a_highlight():
    pill = specimen()
    left = shade(pill, np.float32([-0.7, 0, 0.714]), 0.3, 0.5)
    assert left.shape == (120, 120, 4)
    assert left[45:75, 12:30, :3].mean() > 1.3 * left[45:75, 90:108, :3].mean()
    np.testing.assert_array_equal(left[..., 3], pill.alpha)
    shiny = shade(replace(pill, gloss=0.9), np.float32([-0.5, 0, 0.866]), 0.3, 0.2)
    dull = shade(replace(pill, gloss=0.0), np.float32([-0.5, 0, 0.866]), 0.3, 0.2)
    assert (shiny - dull).max() > 0.2
    assert (shiny - dull).min() >= 0
