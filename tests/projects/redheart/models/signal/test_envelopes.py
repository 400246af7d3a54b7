import pytest
import torch

from projects.redheart.models.signal.envelopes import adsr, enveloped_mean, positions

SHARES = [torch.tensor(number) for number in (0.2, 0.3, 0.6, 0.1)]  # attack, decay, sustain level, release


@pytest.mark.parametrize(
    ("position", "level"),
    [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.35, 0.8), (0.5, 0.6), (0.7, 0.6), (0.9, 0.6), (0.95, 0.3), (1.0, 0.0)],
)
def test_the_envelope_by_hand(position, level):
    assert adsr(torch.tensor(position), *SHARES).item() == pytest.approx(level, abs=1e-6)


def test_the_envelope_stays_between_zero_and_one():
    place = torch.linspace(0, 1, 201)
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        attack, decay, _, release = torch.randn(4, generator=generator).softmax(0)
        level = adsr(place, attack, decay, torch.rand((), generator=generator), release)
        assert level.min() > -1e-5
        assert level.max() < 1 + 1e-5


def test_positions_are_the_middles_of_the_samples():
    present = torch.tensor([[True, True, False, False], [True] * 4, [False] * 4])
    assert positions(present, torch.float32)[0, :2].tolist() == [0.25, 0.75]
    assert positions(present, torch.float32)[1].tolist() == [0.125, 0.375, 0.625, 0.875]


def test_the_mean_under_an_even_envelope_by_hand():
    # Shares of a quarter, sustain 1/2: levels at 1/8, 3/8, 5/8, 7/8 of the story are 1/2, 3/4, 1/2, 1/4.
    values = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])[None]
    present = torch.ones(1, 4, dtype=torch.bool)
    mean = enveloped_mean(values, present, torch.zeros(1, 1, 4), torch.zeros(1, 1))
    assert mean.item() == pytest.approx((0.5 + 7.5 + 50 + 250) / 2)


def test_the_mean_of_nothing_is_zero_and_of_one_sample_itself():
    values = torch.tensor([[[5.0], [9.0]], [[5.0], [9.0]]])
    present = torch.tensor([[True, False], [False, False]])
    mean = enveloped_mean(values, present, torch.zeros(2, 1, 4), torch.zeros(2, 1))
    assert mean[:, 0].tolist() == [5.0, 0.0]


def test_the_gradient_of_times_and_level():
    generator = torch.Generator().manual_seed(0)
    values, segments, level = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((2, 9, 3), (2, 3, 4), (2, 3))
    )
    present = torch.arange(9) < torch.tensor([9, 6])[:, None]
    assert torch.autograd.gradcheck(lambda v, s, n: enveloped_mean(v, present, s, n), (values, segments, level))
