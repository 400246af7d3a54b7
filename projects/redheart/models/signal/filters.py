"""Differentiable filters with learned cut-offs: one-pole low-passes and band-passes of second order.

A signal has at most some dozens of samples here, so a filter is its impulse response in closed form, laid out as a
lower triangular Toeplitz matrix: one matrix product filters all samples at once, and no step waits for the one before.
"""

import math

import torch
from torch import Tensor, nn

from projects.redheart.models.signal.trajectory import Signal

MAX_RADIUS = 0.98
"""Largest distance of a pole from zero: an impulse has fallen to 1 / e after 50 samples at the latest."""


def low_pass_response(pole: Tensor, length: int) -> Tensor:
    """Impulse response of y[t] = pole * y[t - 1] + (1 - pole) * x[t], whose gain is 1 at frequency 0.

    Args:
        pole: (...) in (0, 1).
        length: Number of samples, >= 0.

    Returns:
        (..., length).
    """
    step = torch.arange(length, device=pole.device, dtype=pole.dtype)
    return (1 - pole)[..., None] * pole[..., None] ** step


def band_pass_response(radius: Tensor, angle: Tensor, length: int) -> Tensor:
    """Impulse response of the filter with poles radius * exp(+-i angle), zeros at 1 and -1, and peak gain exactly 1.

    y[t] = (1 - radius^2) / 2 * (x[t] - x[t - 2]) + 2 radius cos(angle) y[t - 1] - radius^2 y[t - 2]. The peak stands at
    the frequency w with cos(w) = 2 radius cos(angle) / (1 + radius^2).

    Args:
        radius: (...) in (0, 1).
        angle: (...) in (0, pi), radians a sample.
        length: Number of samples, >= 0.

    Returns:
        (..., length).

    Source: Smith and Angell, "A Constant-Gain Digital Resonator Tuned by a Single Coefficient", Computer Music Journal
        6 (1982). The all-pole part in closed form is radius^t sin((t + 1) angle) / sin(angle).
    """
    step = torch.arange(length, device=radius.device, dtype=radius.dtype)
    radius, angle = radius[..., None], angle[..., None]
    poles = radius**step * torch.sin((step + 1) * angle) / torch.sin(angle)
    delayed = nn.functional.pad(poles, (2, 0))[..., :length]
    return (1 - radius**2) / 2 * (poles - delayed)


def toeplitz(response: Tensor) -> Tensor:
    """(..., S) -> (..., S, S): the matrix that convolves a signal of S samples with the response, past only."""
    length = response.shape[-1]
    step = torch.arange(length, device=response.device)
    lag = step[:, None] - step[None, :]
    return torch.where(lag >= 0, response[..., lag.clamp(min=0)], 0.0)


class FilterBank(nn.Module):
    """Some low-passes and as many band-passes for each channel, each with its own learned place.

    Poles are sigmoids of free numbers, so that no step of an optimiser can make a filter unstable. Each filter starts
    as though the first sample had stood there for ever: a story does not begin with a jump from zero.

    Args:
        channels: Channels C of the signal.
        filters: Filters of each kind, F.
    """

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        # Time constants from about half a sample to ten, spread evenly in the logit; centres over the open half circle.
        pole = torch.linspace(-2.0, 2.2, filters)
        centre = torch.linspace(-1.5, 1.5, filters)
        self.pole_logit = nn.Parameter(pole.repeat(channels, 1))
        self.radius_logit = nn.Parameter(torch.full((channels, filters), 0.5))
        self.angle_logit = nn.Parameter(centre.repeat(channels, 1))

    def responses(self, length: int, dtype: torch.dtype) -> Tensor:
        """Return (C, 2 F, length): the low-passes' impulse responses, then the band-passes'."""
        pole, radius = (MAX_RADIUS * logit.to(dtype).sigmoid() for logit in (self.pole_logit, self.radius_logit))
        angle = math.pi * (0.02 + 0.96 * self.angle_logit.to(dtype).sigmoid())
        return torch.cat([low_pass_response(pole, length), band_pass_response(radius, angle, length)], dim=1)

    def forward(self, signal: Signal) -> Tensor:
        """Filter each channel.

        Args:
            signal: Values (B, S, C).

        Returns:
            (B, S, C, 2 F), zero where there is no sample.
        """
        values, present, _ = signal
        if values.shape[1] == 0:
            return values.new_zeros(*values.shape, 2 * self.pole_logit.shape[1])
        first = values[:, :1]
        matrices = toeplitz(self.responses(values.shape[1], values.dtype))  # (C, 2 F, S, S)
        filtered = torch.einsum("cfts,bsc->btcf", matrices, values - first)
        # A low-pass lets a constant through, a band-pass nothing of it.
        low, band = filtered.chunk(2, dim=-1)
        filtered = torch.cat([low + first[..., None], band], dim=-1)
        return filtered * present[..., None, None].to(filtered.dtype)


def spectral_energies(signal: Signal, transform_length: int) -> Tensor:
    """Share of the fluctuation at each frequency: a periodogram over the samples that exist, their mean removed.

    Args:
        signal: Values (B, S, C).
        transform_length: Even length N of the transform, >= S; the frequencies are 0 to N / 2 cycles in N samples,
            whatever the padding.

    Returns:
        (B, N / 2 + 1, C), >= 0; summed over the frequencies it is the variance of the signal. Zero without samples.

    Raises:
        ValueError: If a signal is longer than the transform.
    """
    values, present, length = signal
    if values.shape[1] > transform_length:
        raise ValueError(f"signals have {values.shape[1]} samples; the transform takes at most {transform_length}")
    if values.shape[1] == 0:
        return values.new_zeros(values.shape[0], transform_length // 2 + 1, values.shape[2])
    number = length.clamp(min=1).to(values.dtype)[:, None, None]
    centred = (values - values.sum(1, keepdim=True) / number) * present[..., None].to(values.dtype)
    spectrum = torch.view_as_real(torch.fft.rfft(centred, n=transform_length, dim=1)).square().sum(-1)
    # Each frequency but the first and the last stands for itself and its mirror image.
    twice = torch.full((transform_length // 2 + 1,), 2.0, device=values.device, dtype=values.dtype)
    twice[0] = twice[-1] = 1.0
    return spectrum * twice[None, :, None] / (number * transform_length)
