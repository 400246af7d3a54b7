"""A true symmetry passes, a planted break does not, on fabricated cells and on the stand-in's physics."""

import numpy as np
import pytest

from projects.spectra.data.symmetry_check import check_symmetry
from projects.spectra.symmetry import GROUPS
from shared.errors import DataError
from tests.fabricate.spectra_npy import quadrant_curves, random_patterns


def data(num=150, noise=0.003, seed=0):
    patterns = random_patterns(num, 32, seed)
    cells = quadrant_curves(patterns)[..., ::30]
    cells += np.random.default_rng(seed).normal(scale=noise, size=cells.shape)
    bits = np.packbits(patterns.reshape(num, -1), axis=1)
    return bits, cells.astype(np.float32), np.arange(num), np.arange(num, dtype=np.int32)


@pytest.mark.parametrize("symmetry", ["rotation_180", "diagonal", "full"])
@pytest.mark.parametrize("seed", range(3))
def test_a_true_symmetry_passes_and_says_what_was_measured(symmetry, seed):
    check = check_symmetry(*data(seed=seed), symmetry)
    assert check.verdict == "holds"
    assert f"data.symmetry={symmetry} held against 150 training patterns" in check.sentence


@pytest.mark.parametrize("symmetry", ["rotation_180", "diagonal", "full"])
def test_a_colour_filter_over_one_quadrant_is_refused(symmetry):
    bits, cells, rows, group = data()
    cells[:, 0, 0] *= 0.7
    with pytest.raises(DataError, match=rf"data.symmetry={symmetry} does not hold .* larger \(t = .*=none"):
        check_symmetry(bits, cells, rows, group, symmetry)


def test_the_physics_of_the_stand_in_passes_and_a_filter_over_it_does_not():
    from projects.spectra.standin import StandinConfig
    from projects.spectra.standin.diffraction import quadrant_power
    from projects.spectra.standin.patterns import random_patterns as standin_patterns

    config = StandinConfig(side_px=32, sigma_px=2.75)
    patterns = standin_patterns(0, 0, 200, config)
    cells = np.asarray(quadrant_power(patterns, config, np.linspace(400, 700, 10)), dtype=np.float32)
    arguments = np.packbits(patterns.reshape(200, -1), axis=1), cells, np.arange(200), np.arange(200, dtype=np.int32)
    assert check_symmetry(*arguments, "full").verdict == "holds"
    cells[:, 0, 0] *= np.linspace(0.6, 1.0, 10, dtype=np.float32)
    with pytest.raises(DataError, match="does not hold"):
        check_symmetry(*arguments, "rotation_180")


@pytest.mark.slow
@pytest.mark.parametrize(("share", "num_refused"), [(1.0, 0), (0.95, 0), (0.7, 8)])
def test_refusals_on_fresh_patterns_are_those_that_the_table_says(share, num_refused):
    from projects.spectra.standin import StandinConfig
    from projects.spectra.standin.diffraction import quadrant_power
    from projects.spectra.standin.patterns import random_patterns as standin_patterns

    config = StandinConfig(side_px=32, sigma_px=2.75)
    refused, rows = 0, np.arange(60)
    for seed in range(50_000, 50_008):
        patterns = standin_patterns(seed, 0, 60, config)
        cells = np.asarray(quadrant_power(patterns, config, np.linspace(400, 700, 10)), dtype=np.float32)
        cells[:, 0, 0] *= share
        try:
            check_symmetry(
                np.packbits(patterns.reshape(60, -1), axis=1), cells, rows, rows.astype(np.int32), "diagonal"
            )
        except DataError:
            refused += 1
    assert refused == num_refused


def test_too_few_patterns_are_undecidable():
    bits, cells, rows, group = data(59)
    check = check_symmetry(bits, cells, rows, group, "diagonal")
    assert check.verdict == "undecidable"
    assert "is undecidable: 59 training patterns, 60 are needed" in check.sentence


def test_only_the_rows_given_are_looked_at():
    bits, cells, _, group = data(300)
    cells[150:, 0, 0] *= 0.5
    assert check_symmetry(bits, cells, np.arange(150), group, "diagonal").verdict == "holds"
    with pytest.raises(DataError, match="does not hold"):
        check_symmetry(bits, cells, np.arange(150, 300), group, "diagonal")


@pytest.mark.parametrize("is_broken", [False, True])
def test_twins_in_the_data_must_agree(is_broken):
    patterns = random_patterns(10)
    rotation = GROUPS["rotation_180"][1]
    cells = quadrant_curves(patterns)
    cells[:, 0, 0] += 0.3 * is_broken
    both = np.concatenate([patterns, rotation.apply_to_structure(patterns)])
    turned = quadrant_curves(both[10:])
    turned[:, 0, 0] += 0.3 * is_broken
    bits = np.packbits(both.reshape(20, -1), axis=1)
    arguments = (bits, np.concatenate([cells, turned]).astype(np.float32), np.arange(20), np.tile(np.arange(10), 2))
    if is_broken:
        with pytest.raises(DataError, match="10 pairs of a pattern and its variant have cells that differ by"):
            check_symmetry(*arguments, "rotation_180")
        return
    check = check_symmetry(*arguments, "rotation_180")
    assert check.num_twins == 10
    assert "10 twins differ by" in check.sentence


def test_samples_of_a_real_solver_pass(real_data):
    from projects.spectra.spectrum import cells_from_rgb

    folder = real_data / "spectra_rcwa"
    structures, spectra = np.load(folder / "coarse_0_struct.npy"), -np.load(folder / "coarse_0_spectra.npy")
    kept = spectra.any(axis=(1, 2))
    bits = np.packbits(structures[kept].reshape(kept.sum(), -1) > 0, axis=1)
    cells = cells_from_rgb(spectra[kept], 30)
    rows = np.arange(len(bits))
    assert check_symmetry(bits, cells, rows, rows.astype(np.int32), "diagonal").verdict == "holds"
