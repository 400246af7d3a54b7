"""Packed variants against the plain definition, bit by bit; the draw of variants."""

import numpy as np
import pytest
import torch

from projects.spectra.data.gather import _unpack_in_torch, transform, unpack, variant_codes, variant_table
from projects.spectra.symmetry import GROUPS


def patterns_and_cells(num, side):
    generator = np.random.default_rng(side)
    patterns = generator.integers(0, 2, (num, side, side), dtype=np.uint8)
    bits = torch.from_numpy(np.packbits(patterns.reshape(num, -1), axis=1))
    return patterns, bits, torch.from_numpy(generator.random((num, 2, 2, 5), dtype=np.float32))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("side", [16, 32, 48, 128])
def test_packed_variants_equal_those_of_the_definition(side, device):
    patterns, bits, cells = patterns_and_cells(64, side)
    codes = np.arange(64) % 32
    image, target = transform(bits.to(device), cells.to(device), side, variant_table(GROUPS["full"])[codes])
    assert image.dtype == torch.uint8
    for row, code in enumerate(codes):
        variant = GROUPS["full"][code]
        expected = variant.apply_to_structure(patterns[row]), variant.apply_to_cell(cells[row].numpy())
        np.testing.assert_array_equal(image[row].cpu(), expected[0], err_msg=variant.name)
        np.testing.assert_array_equal(target[row].cpu(), expected[1], err_msg=variant.name)


def test_each_variant_alone_and_the_arguments_stay_as_they_are():
    patterns, bits, cells = patterns_and_cells(3, 32)
    before = bits.clone(), cells.clone()
    for variant, switches in zip(GROUPS["full"], variant_table(GROUPS["full"]), strict=True):
        image, target = transform(bits, cells, 32, np.tile(switches, (3, 1)))
        np.testing.assert_array_equal(image, variant.apply_to_structure(patterns), err_msg=variant.name)
        np.testing.assert_array_equal(target, variant.apply_to_cell(cells.numpy()), err_msg=variant.name)
    assert torch.equal(bits, before[0])
    assert torch.equal(cells, before[1])


def test_both_ways_to_unpack_agree_with_numpy():
    patterns, bits, _ = patterns_and_cells(4, 16)
    np.testing.assert_array_equal(unpack(bits, 16), patterns)
    np.testing.assert_array_equal(_unpack_in_torch(bits), patterns.reshape(4, -1))


def test_variants_come_up_equally_often_and_depend_on_seed_and_draw():
    codes = variant_codes(0, np.arange(64_000), 32)
    counts = np.bincount(codes, minlength=32)
    assert ((counts - 2000) ** 2 / 2000).sum() < 61.1  # chi square with 31 degrees of freedom at 0.1 %
    assert np.array_equal(codes[100:200], variant_codes(0, np.arange(100, 200), 32))
    assert (variant_codes(1, np.arange(64_000), 32) == codes).mean() < 0.05
