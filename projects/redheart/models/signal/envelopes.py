"""Envelopes with attack, decay, sustain and release: how an emotion rises, settles, stays and dies away in a story."""

import torch
from torch import Tensor


def adsr(position: Tensor, attack: Tensor, decay: Tensor, sustain: Tensor, release: Tensor) -> Tensor:
    """Level of the envelope: 0 -> 1 in the attack, 1 -> sustain in the decay, then level, then -> 0 in the release.

    Differentiable in all times and the level, but at the four corners.

    Args:
        position: Place in the story, in [0, 1].
        attack: Share of the story it takes to rise, > 0.
        decay: Share it takes to settle, > 0.
        sustain: Level it settles at, in [0, 1].
        release: Share at the end in which it dies away, > 0; attack + decay + release <= 1.

    Returns:
        Level in [0, 1], of the shape that the arguments broadcast to.

    Source: the four-segment envelope generator of analogue synthesizers (Pinch and Trocco, "Analog Days", 2002).

    Example:
        >>> share = torch.tensor(0.25)
        >>> adsr(torch.tensor([0.125, 0.25, 0.5, 0.75, 1.0]), share, share, torch.tensor(0.5), share)
        tensor([0.5000, 1.0000, 0.5000, 0.5000, 0.0000])
    """
    rise = (position / attack).clamp(0, 1)
    settle = ((position - attack) / decay).clamp(0, 1)
    fade = ((position - (1 - release)) / release).clamp(0, 1)
    return rise - (1 - sustain) * settle - sustain * fade


def positions(present: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, S) bool, samples first -> (B, S): the middle of each sample's place in its story, (t + 1/2) / count."""
    count = present.sum(1, keepdim=True).clamp(min=1).to(dtype)
    step = torch.arange(present.shape[1], device=present.device, dtype=dtype)
    return (step + 0.5) / count


def enveloped_mean(values: Tensor, present: Tensor, segments: Tensor, level: Tensor) -> Tensor:
    """Mean of each channel under its own envelope.

    Args:
        values: (B, S, C), samples first.
        present: (B, S) bool.
        segments: (B, C, 4) logits of the shares attack, decay, hold, release; they sum to 1 by a softmax.
        level: (B, C) logit of the sustain level.

    Returns:
        (B, C); zero without samples.
    """
    shares = segments.softmax(-1)[:, None]  # (B, 1, C, 4)
    place = positions(present, values.dtype)[..., None]
    weight = adsr(place, shares[..., 0], shares[..., 1], level.sigmoid()[:, None], shares[..., 3])
    weight = weight * present[..., None].to(values.dtype)  # (B, S, C)
    # The middle of a place is never 0 or 1, where the envelope vanishes: the sum is positive where there is a sample.
    return (weight * values).sum(1) / weight.sum(1).clamp(min=1e-6)
