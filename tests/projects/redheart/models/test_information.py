"""Gaussian information against closed forms and numpy; its shares by hand."""

import math

import numpy as np
import pytest
import torch

from projects.redheart.models.information import SHARES, decompose, gaussian_information


def shares(information: list[float]) -> dict[str, float]:
    """Shares of one row by name, those that are not 0."""
    values = decompose(torch.tensor([information], dtype=torch.float64))[0].tolist()
    return {name: value for name, value in zip(SHARES, values, strict=True) if abs(value) > 1e-12}


def test_two_numbers_with_a_known_correlation() -> None:
    """x = a z + e, t = a z + e: I = -log(1 - rho^2) / 2 with rho = a^2 / (a^2 + 1)."""
    factors = torch.zeros(1, 4, 1, 2)
    factors[0, 0, 0, 0] = factors[0, 3, 0, 0] = 2.0

    information = gaussian_information(factors)[0]

    expected = -0.5 * math.log(1 - (4 / 5) ** 2)
    assert information.tolist() == pytest.approx([expected if code & 1 else 0.0 for code in range(1, 8)], abs=1e-6)


def test_equals_the_determinants_of_the_covariance() -> None:
    generator = np.random.default_rng(0)
    factors = generator.normal(size=(4, 3, 5))
    rows = factors.reshape(12, 5)
    covariance = rows @ rows.T + np.eye(12)

    found = gaussian_information(torch.tensor(factors)[None])[0]

    def half(places: list[int]) -> float:
        return float(np.linalg.slogdet(covariance[np.ix_(places, places)])[1]) / 2

    target = [9, 10, 11]
    for code in range(1, 8):
        places = [3 * source + k for source in range(3) if code >> source & 1 for k in range(3)]
        assert found[code - 1].item() == pytest.approx(half(places) + half(target) - half(places + target))


def test_three_copies_are_all_redundant() -> None:
    assert shares([2.0] * 7) == pytest.approx({"redundant_012": 2.0})


def test_one_source_alone_is_unique() -> None:
    """Codes 1 to 7: those with bit 1 set carry 1.5 nats."""
    assert shares([1.5 if code & 2 else 0.0 for code in range(1, 8)]) == pytest.approx({"unique_1": 1.5})


def test_exclusive_or_of_two_sources_is_synergy() -> None:
    assert shares([1.0 if code & 5 == 5 else 0.0 for code in range(1, 8)]) == pytest.approx({"synergistic_02": 1.0})


def test_parity_of_three_is_synergy_of_all() -> None:
    assert shares([0.0] * 6 + [0.7]) == pytest.approx({"synergistic_012": 0.7})


def test_a_mixed_case_of_hand() -> None:
    """Singles 1, 3, 2; pairs 01: 3.5, 02: 2.5 (less than the greatest single, so nothing), 12: 4; all: 4.25."""
    assert shares([1.0, 3.0, 3.5, 2.0, 2.5, 4.0, 4.25]) == pytest.approx(
        {
            "redundant_012": 1.0,
            "redundant_12": 1.0,
            "unique_1": 1.0,
            "synergistic_01": 0.5,
            "synergistic_12": 0.5,
            "synergistic_012": 0.25,
        }
    )


def test_shares_are_not_negative_and_sum_to_the_whole() -> None:
    factors = torch.randn(200, 4, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    information = gaussian_information(factors)
    found = decompose(information)

    assert found.min() >= 0
    torch.testing.assert_close(found.sum(dim=1), information[:, -1])


def test_gradients_are_right() -> None:
    factors = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    assert torch.autograd.gradcheck(lambda given: decompose(gaussian_information(given)), factors.requires_grad_())
