"""The group of a periodic pattern: closure, what it does to a cell, against diffraction, and the groups of patterns."""

from itertools import product

import numpy as np
import pytest

from projects.spectra.symmetry import GROUPS, pattern_groups, variant_group
from tests.fabricate.spectra_npy import quadrant_curves, random_patterns

SIDE = 32


def asymmetric(num, seed=0, side=SIDE):
    return (np.random.default_rng(seed).random((num, side, side)) < 0.5).astype(np.uint8)


def packed(patterns):
    return np.packbits(patterns.reshape(len(patterns), -1), axis=1)


@pytest.mark.parametrize(("name", "size"), [("none", 1), ("rotation_180", 2), ("diagonal", 4), ("full", 32)])
def test_each_group_is_closed_and_has_its_size_on_a_pattern_without_symmetry(name, size):
    pattern = asymmetric(1)[0]
    variants = variant_group(name)
    images = {each.apply_to_structure(pattern).tobytes() for each in variants}
    assert len(variants) == len(images) == len({each.name for each in variants}) == size
    assert variants[0].name == "identity"
    for one, other in product(variants, repeat=2):
        assert one.apply_to_structure(other.apply_to_structure(pattern)).tobytes() in images


def test_products_act_on_cells_as_on_patterns():
    pattern, cell = asymmetric(1)[0], np.arange(12.0).reshape(2, 2, 3)
    action = {each.apply_to_structure(pattern).tobytes(): each.apply_to_cell(cell) for each in GROUPS["full"]}
    for one, other in product(GROUPS["full"], repeat=2):
        image = one.apply_to_structure(other.apply_to_structure(pattern))
        np.testing.assert_array_equal(one.apply_to_cell(other.apply_to_cell(cell)), action[image.tobytes()])


def test_the_rotation_swaps_the_blue_and_the_red_corner_of_a_diagonal_symmetric_cell():
    rotation = variant_group("rotation_180")[1]
    pattern = random_patterns(1)[0]
    rotated = rotation.apply_to_structure(pattern)
    np.testing.assert_array_equal(rotated, np.rot90(pattern, 2))
    np.testing.assert_array_equal(rotated, rotated.T)  # still symmetric about the main diagonal
    blue, green, red = 0.3, 0.2, 0.1
    cell = np.array([[[blue], [green]], [[green], [red]]])
    np.testing.assert_array_equal(rotation.apply_to_cell(cell)[..., 0], [[red, green], [green, blue]])
    labelled = np.array([[["B"], ["G1"]], [["G2"], ["R"]]])
    assert rotation.apply_to_cell(labelled)[..., 0].tolist() == [["R", "G2"], ["G1", "B"]]


def test_the_diagonal_group_holds_exactly_what_keeps_the_diagonal_symmetry():
    pattern = random_patterns(1, seed=3)[0]
    for each in GROUPS["full"]:
        image = each.apply_to_structure(pattern)
        keeps = each.flip_y == each.flip_x and each.shift_y == each.shift_x
        assert np.array_equal(image, image.T) == keeps
    kept = {each.apply_to_structure(pattern).tobytes() for each in GROUPS["diagonal"]}
    symmetric = [each.apply_to_structure(pattern) for each in GROUPS["full"]]
    assert kept == {image.tobytes() for image in symmetric if np.array_equal(image, image.T)}


@pytest.mark.parametrize("variant", GROUPS["full"], ids=lambda each: each.name)
def test_cells_of_variants_are_the_cells_of_their_diffraction(variant):
    from projects.spectra.standin import StandinConfig
    from projects.spectra.standin.diffraction import quadrant_power_reference

    config = StandinConfig(side_px=SIDE, sigma_px=3.0)
    patterns = asymmetric(3, seed=1)
    wavelengths = np.array([420.0, 550.0, 690.0])
    cells = np.asarray(quadrant_power_reference(patterns, config, wavelengths))
    turned = np.asarray(quadrant_power_reference(variant.apply_to_structure(patterns), config, wavelengths))
    np.testing.assert_allclose(turned, variant.apply_to_cell(cells), rtol=0, atol=1e-9)
    assert np.abs(cells - cells.mean(axis=(1, 2), keepdims=True)).max() > 1e-3  # the quadrants differ to begin with


@pytest.mark.parametrize("variant", GROUPS["full"], ids=lambda each: each.name)
def test_the_fabricated_rule_respects_the_group(variant):
    patterns = asymmetric(2)
    expected = variant.apply_to_cell(quadrant_curves(patterns))
    np.testing.assert_allclose(quadrant_curves(variant.apply_to_structure(patterns)), expected, atol=1e-12)


def test_wrong_shapes_and_names_are_refused():
    variant = GROUPS["full"][-1]
    with pytest.raises(ValueError, match="square of even side, got 4 x 6"):
        variant.apply_to_structure(np.zeros((4, 6)))
    with pytest.raises(ValueError, match=r"\(\.\.\., 2, 2, L\), got \(2, 3, 5\)"):
        variant.apply_to_cell(np.zeros((2, 3, 5)))
    with pytest.raises(ValueError, match="'mirror' does not exist; allowed are none, rotation_180, diagonal, full"):
        variant_group("mirror")


@pytest.mark.parametrize("make", [asymmetric, lambda num: random_patterns(num, SIDE)])
def test_all_variants_of_a_pattern_share_its_group_and_no_other_pattern_does(make):
    patterns = make(40)
    variants = np.concatenate([each.apply_to_structure(patterns) for each in GROUPS["full"]])
    assert pattern_groups(packed(variants), SIDE).tolist() == list(range(40)) * 32


def test_one_changed_pixel_makes_another_pattern():
    pattern = random_patterns(1)[0]
    changed = np.repeat(pattern[None], SIDE * SIDE + 1, axis=0)
    for place in range(SIDE * SIDE):
        changed[place + 1].flat[place] ^= 1
    group = pattern_groups(packed(changed), SIDE)
    assert (group[1:] != group[0]).all()
    # A pixel and its image at the diagonal give the same pattern but for a transposition.
    assert group[1 + 3 * SIDE + 5] == group[1 + 5 * SIDE + 3]


def test_blank_patterns_are_one_group_and_filled_ones_another():
    patterns = random_patterns(6)
    patterns[[1, 4]], patterns[3] = 0, 1
    assert pattern_groups(packed(patterns), SIDE).tolist() == [0, 1, 2, 3, 1, 4]


def test_groups_do_not_depend_on_chunks(monkeypatch):
    bits = packed(np.concatenate([random_patterns(9), random_patterns(9)[::-1]]))
    whole = pattern_groups(bits, SIDE)
    monkeypatch.setattr("projects.spectra.symmetry._CHUNK", 4)
    np.testing.assert_array_equal(pattern_groups(bits, SIDE), whole)


def test_bits_of_another_side_are_refused():
    with pytest.raises(ValueError, match=r"32 x 32 pixels must be \(N, 128\), got \(2, 100\)"):
        pattern_groups(np.zeros((2, 100), np.uint8), 32)
