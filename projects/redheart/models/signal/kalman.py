"""A differentiable Kalman filter over the emotion trajectory: a dozen states behind seven noisy emotions."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.layers import initialise
from projects.redheart.models.signal.trajectory import as_signal, full_precision, last_sample, sentences
from projects.redheart.tasks import EMOTION, TASKS

SMALLEST_DEVIATION = 0.1
"""Least standard deviation of a learned noise in any direction, in logits. It bounds every filtered covariance from
below as well, far above the rounding of float32. A floor of 0.01 under the Cholesky diagonal alone does not: 153 of
1,000 random problems turned indefinite within 64 steps, in Joseph's form too; with this one none (2026-11)."""


class KalmanModel(NamedTuple):
    """A linear Gaussian state space model: x' = F x + N(0, Q), z = H x + N(0, R), x before the first step N(x0, P0).

    Attributes:
        transition: F, (n, n).
        observation: H, (m, n).
        process_noise: Q, (n, n) symmetric positive definite.
        observation_noise: R, (m, m) symmetric positive definite.
        initial_state: x0, (n,).
        initial_covariance: P0, (n, n) symmetric positive definite.
    """

    transition: Tensor
    observation: Tensor
    process_noise: Tensor
    observation_noise: Tensor
    initial_state: Tensor
    initial_covariance: Tensor


class Filtered(NamedTuple):
    """What the filter knows after each sample.

    Attributes:
        states: (B, S, n) filtered states x_{t|t}.
        innovations: (B, S, m) z_t - H x_{t|t-1}.
        covariances: (S, n, n) P_{t|t}; the same for all rows, since it depends on the number of samples alone.
    """

    states: Tensor
    innovations: Tensor
    covariances: Tensor


def gains(model: KalmanModel, steps: int) -> tuple[Tensor, Tensor]:
    """Gains and covariances of the first steps.

    They depend on no sample, so that they are computed once for all rows: matrices without a batch dimension. Joseph's
    form of the update keeps the covariance positive definite under rounding for any gain.

    Args:
        model: The model.
        steps: Number of samples, >= 0.

    Returns:
        (steps, n, m) gains and (steps, n, n) filtered covariances.

    Source: Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking and Navigation" (2001), section
        5.2.3; Joseph's form stands there as well.
    """
    transition, observation, process, noise, _, covariance = model
    identity = torch.eye(len(transition), dtype=transition.dtype, device=transition.device)
    found: list[Tensor] = []
    covariances: list[Tensor] = []
    for _ in range(steps):
        covariance = transition @ covariance @ transition.T + process
        seen = observation @ covariance  # H P, (m, n)
        # cholesky_ex does not wait for the device to report an error; R keeps the matrix positive definite.
        factor, _ = torch.linalg.cholesky_ex(seen @ observation.T + noise)
        gain = torch.cholesky_solve(seen, factor).T
        kept = identity - gain @ observation
        covariance = kept @ covariance @ kept.T + gain @ noise @ gain.T
        covariance = (covariance + covariance.T) / 2
        found.append(gain)
        covariances.append(covariance)
    if not found:
        return transition.new_zeros(0, *observation.T.shape), transition.new_zeros(0, *transition.shape)
    return torch.stack(found), torch.stack(covariances)


def kalman_filter(model: KalmanModel, values: Tensor) -> Filtered:
    """Predict and update once for each sample; what stands after a row's last sample changes nothing before it.

    Args:
        model: The model, in the dtype of the values.
        values: (B, S, m) samples, the first at position 0.

    Returns:
        States, innovations and covariances after each of the S updates.
    """
    gain, covariances = gains(model, values.shape[1])
    state = model.initial_state.expand(len(values), -1)
    states, innovations = [], []
    for step, sample in enumerate(values.unbind(1)):
        predicted = state @ model.transition.T
        innovation = sample - predicted @ model.observation.T
        state = predicted + innovation @ gain[step].T
        states.append(state)
        innovations.append(innovation)
    if not states:
        return Filtered(state.new_zeros(len(values), 0, state.shape[1]), values, covariances)
    return Filtered(torch.stack(states, 1), torch.stack(innovations, 1), covariances)


def positive_definite(numbers: Tensor, size: int) -> Tensor:
    """L L^T + SMALLEST_DEVIATION^2 I, with L lower triangular of size (size + 1) / 2 free numbers, row by row.

    The diagonal of L goes through a softplus, so that no two values of the numbers mean the same matrix.
    """
    rows, columns = torch.tril_indices(size, size, device=numbers.device)
    entries = torch.where(rows == columns, F.softplus(numbers), numbers)
    factor = numbers.new_zeros(size, size).index_put((rows, columns), entries)
    return factor @ factor.T + SMALLEST_DEVIATION**2 * torch.eye(size, dtype=numbers.dtype, device=numbers.device)


def contraction(numbers: Tensor) -> Tensor:
    """exp((U - U^T) - L L^T) of norm <= 1, with U and L the upper and lower triangles of a free matrix (n, n).

    The generator's symmetric part is never positive, so that no state grows by itself, whatever is learned.
    """
    upper, lower = numbers.triu(1), numbers.tril()
    return torch.linalg.matrix_exp(upper - upper.T - lower @ lower.T)


class DynamicKalmanFilter(Analyzer):
    """Filtered emotions at the end of a story, and how much the last part departs from what was expected.

    The hidden states are a level and a velocity for each emotion, coupled at first as a damped oscillator; everything
    is learned: transition, observation, both noises, the start. Absent parts are skipped: they take no time. With 14
    states there are 700 parameters at any width: 196 + 98 + 105 + 28 + 14 + 105 for the model and 154 for the answer.

    Args:
        width: Size H of the story's states, which this module does not read.
        hidden: Number n of hidden states, at least 7.
        dropout: Share dropped of what the answer reads.

    Raises:
        ValueError: If there are fewer hidden states than emotions.

    Source: Kalman, "A New Approach to Linear Filtering and Prediction Problems" (1960); emotions as damped
        oscillators: Chow, Ram, Boker, Fujita and Clore, "Emotion as a Thermostat", Emotion 5 (2005).
    """

    tasks: ClassVar[tuple[str, ...]] = (EMOTION,)

    def __init__(self, width: int, *, hidden: int = 14, dropout: float = 0.0) -> None:
        super().__init__()
        seen = TASKS[EMOTION]
        if hidden < seen:
            raise ValueError(f"hidden is {hidden}; allowed: at least {seen}, one state for each emotion")
        generator = 0.3 * torch.eye(hidden) + 0.02 * torch.randn(hidden, hidden)
        generator += 0.3 * torch.eye(hidden).roll(seen, 1).triu(1)
        self.generator = nn.Parameter(generator)
        self.observation = nn.Parameter(torch.eye(seen, hidden) + 0.02 * torch.randn(seen, hidden))
        self.process_noise = nn.Parameter(_first_factor(hidden, 0.3))
        self.observation_noise = nn.Parameter(_first_factor(seen, 0.7))
        self.initial_state = nn.Parameter(torch.zeros(hidden))
        self.initial_covariance = nn.Parameter(_first_factor(hidden, 1.0))
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.Linear(hidden + seen, seen)
        self.apply(initialise)

    def model(self, dtype: torch.dtype) -> KalmanModel:
        """Return the model that the parameters stand for."""
        seen, hidden = self.observation.shape
        return KalmanModel(
            transition=contraction(self.generator.to(dtype)),
            observation=self.observation.to(dtype),
            process_noise=positive_definite(self.process_noise.to(dtype), hidden),
            observation_noise=positive_definite(self.observation_noise.to(dtype), seen),
            initial_state=self.initial_state.to(dtype),
            initial_covariance=positive_definite(self.initial_covariance.to(dtype), hidden),
        )

    def forward(self, context: Context) -> Contribution:
        """Contribute to emotion; a story without parts is answered from the initial state."""
        with full_precision(context.trajectory.device):
            values, _, length = as_signal(context.trajectory, sentences(context))
            model = self.model(values.dtype)
            states, innovations, _ = kalman_filter(model, values)
            state = torch.where(length[:, None] > 0, last_sample(states, length), model.initial_state)
            read = self.dropout(torch.cat([state, last_sample(innovations, length)], dim=-1))
            emotion = F.linear(read, self.answer.weight.to(read.dtype), self.answer.bias.to(read.dtype))
        return {EMOTION: emotion.to(context.trajectory.dtype)}


def _first_factor(size: int, deviation: float) -> Tensor:
    """Numbers for which `positive_definite` gives about deviation^2 times the identity."""
    rows, columns = torch.tril_indices(size, size)
    diagonal = torch.tensor(deviation**2 - SMALLEST_DEVIATION**2).sqrt().expm1().log()
    return torch.where(rows == columns, diagonal, 0.02 * torch.randn(len(rows)))
