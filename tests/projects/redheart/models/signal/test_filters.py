import math

import numpy as np
import pytest
import torch
from scipy import signal as reference

from projects.redheart.models.signal.filters import (
    MAX_RADIUS,
    FilterBank,
    band_pass_response,
    low_pass_response,
    spectral_energies,
    toeplitz,
)
from projects.redheart.models.signal.trajectory import Signal, as_signal

PLACES = [(0.3, 0.2), (0.9, 1.0), (0.97, 3.0), (0.5, 1.57)]


def band_pass_coefficients(radius, angle):
    gain = (1 - radius**2) / 2
    return [gain, 0, -gain], [1, -2 * radius * math.cos(angle), radius**2]


def signal_of(seed=0, batch=3, parts=12, channels=2, lengths=(12, 5, 1)):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(batch, parts, channels, generator=generator, dtype=torch.float64)
    return as_signal(values, torch.arange(parts) < torch.tensor(lengths)[:, None])


@pytest.mark.parametrize("pole", [0.01, 0.4, 0.98])
def test_the_low_pass_is_that_of_scipy(pole):
    impulse = np.eye(1, 64)[0]
    expected = reference.lfilter([1 - pole], [1, -pole], impulse)
    np.testing.assert_allclose(low_pass_response(torch.tensor(pole, dtype=torch.float64), 64), expected, atol=1e-12)


@pytest.mark.parametrize(("radius", "angle"), PLACES)
def test_the_band_pass_is_that_of_scipy(radius, angle):
    numbers = (torch.tensor(number, dtype=torch.float64) for number in (radius, angle))
    expected = reference.lfilter(*band_pass_coefficients(radius, angle), np.eye(1, 64)[0])
    np.testing.assert_allclose(band_pass_response(*numbers, 64), expected, atol=1e-12)


@pytest.mark.parametrize(("radius", "angle"), PLACES)
def test_the_band_pass_peaks_at_one_where_it_says(radius, angle):
    numbers = (torch.tensor(number, dtype=torch.float64) for number in (radius, angle))
    response = band_pass_response(*numbers, 4096).numpy()
    peak = math.acos(2 * radius * math.cos(angle) / (1 + radius**2))
    _, at = reference.freqz(response, worN=[0.0, peak - 0.05, peak, peak + 0.05, math.pi])
    nothing, below, one, above, end = abs(at)
    assert one == pytest.approx(1, abs=1e-9)
    assert max(nothing, end) < 1e-9
    assert max(below, above) < 1


def test_a_toeplitz_matrix_convolves():
    response, values = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([3.0, 5.0, 7.0])
    assert toeplitz(response).tolist() == [[1, 0, 0], [2, 1, 0], [4, 2, 1]]
    assert (toeplitz(response) @ values).tolist() == np.convolve(response, values)[:3].tolist()


def test_the_bank_is_scipy_started_in_its_steady_state():
    torch.manual_seed(0)
    bank = FilterBank(2, 3).double()
    values, _, _ = signal = signal_of()
    filtered = bank(signal).detach().numpy()
    poles, radii = (MAX_RADIUS * logit.sigmoid().detach().numpy() for logit in (bank.pole_logit, bank.radius_logit))
    angles = math.pi * (0.02 + 0.96 * bank.angle_logit.sigmoid().detach().numpy())
    for row, length in enumerate((12, 5, 1)):
        for channel in range(2):
            x = values[row, :length, channel].numpy()
            for k in range(3):
                low = [1 - poles[channel, k]], [1, -poles[channel, k]]
                expected, _ = reference.lfilter(*low, x, zi=reference.lfilter_zi(*low) * x[0])
                np.testing.assert_allclose(filtered[row, :length, channel, k], expected, atol=1e-10)
                sos = reference.tf2sos(*band_pass_coefficients(radii[channel, k], angles[channel, k]))
                expected, _ = reference.sosfilt(sos, x, zi=reference.sosfilt_zi(sos) * x[0])
                np.testing.assert_allclose(filtered[row, :length, channel, 3 + k], expected, atol=1e-10)
        assert not filtered[row, length:].any()


def test_no_parameter_makes_a_filter_unstable():
    bank = FilterBank(7, 4)
    for extreme in (-80.0, 80.0):
        with torch.no_grad():
            for parameter in bank.parameters():
                parameter.fill_(extreme)
        responses = bank.responses(2000, torch.float32)
        assert responses.isfinite().all()
        assert responses[..., -200:].abs().max() < 1e-6 < responses[..., :200].abs().max()


def test_the_gradient_of_the_bank():
    bank = FilterBank(2, 2).double()
    _, present, length = signal_of()

    def filtered(values, *parameters):
        named = dict(zip(("pole_logit", "radius_logit", "angle_logit"), parameters, strict=True))
        return torch.func.functional_call(bank, named, (Signal(values, present, length),))

    values = signal_of().values.requires_grad_()
    assert torch.autograd.gradcheck(filtered, (values, *bank.parameters()))


def test_signals_of_one_sample_and_of_none():
    bank = FilterBank(7, 4)
    one = bank(as_signal(torch.full((1, 1, 7), 3.0), torch.ones(1, 1, dtype=torch.bool)))
    torch.testing.assert_close(one[..., :4], torch.full((1, 1, 7, 4), 3.0))
    assert not one[..., 4:].any()
    none = as_signal(torch.zeros(2, 0, 7), torch.zeros(2, 0, dtype=torch.bool))
    assert bank(none).shape == (2, 0, 7, 8)
    assert spectral_energies(none, 64).tolist() == torch.zeros(2, 33, 7).tolist()


def test_the_spectrum_is_the_periodogram_and_sums_to_the_variance():
    values, _, _ = signal = signal_of()
    energies = spectral_energies(signal, 64)
    for row, length in enumerate((12, 5, 1)):
        x = values[row, :length].numpy()
        np.testing.assert_allclose(energies[row].sum(0), x.var(0), atol=1e-12)
        _, density = reference.periodogram(x - x.mean(0), nfft=64, axis=0, detrend=False, scaling="density")
        np.testing.assert_allclose(energies[row], density / 64, atol=1e-12)


def test_a_signal_longer_than_the_transform_is_refused():
    with pytest.raises(ValueError, match="signals have 12 samples; the transform takes at most 8"):
        spectral_energies(signal_of(), 8)
