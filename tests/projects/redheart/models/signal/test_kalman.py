import numpy as np
import pytest
import torch
from filterpy.kalman import KalmanFilter

from projects.redheart.models.signal.kalman import (
    DynamicKalmanFilter,
    KalmanModel,
    contraction,
    gains,
    kalman_filter,
    positive_definite,
)
from projects.redheart.models.signal.trajectory import sentences
from tests.fabricate import analyzer_contract as contract
from tests.fabricate.story_network import fabricated_context, sizes

NUMBERS = {"hidden": 14}


def random_model(seed, states=4, seen=3, dtype=torch.float64, spread=1.0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    def covariance(size):
        return positive_definite(spread * draw(size * (size + 1) // 2), size)

    return KalmanModel(
        contraction(draw(states, states)), draw(seen, states), covariance(states), covariance(seen), draw(states),
        covariance(states),
    )  # fmt: skip


def filterpy_of(model):
    states, seen = len(model.transition), len(model.observation)
    other = KalmanFilter(dim_x=states, dim_z=seen)
    other.F, other.H, other.Q, other.R, other.x, other.P = (part.numpy().copy() for part in model)
    return other


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
def test_contract(check):
    check(DynamicKalmanFilter, **NUMBERS)


@pytest.mark.parametrize("seed", range(5))
def test_each_step_is_that_of_filterpy(seed):
    model, parts = random_model(seed), 20
    values = torch.randn(2, parts, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    states, innovations, covariances = kalman_filter(model, values)
    for row in range(2):
        other = filterpy_of(model)
        for step in range(parts):
            other.predict()
            other.update(values[row, step].numpy())
            np.testing.assert_allclose(states[row, step], other.x, atol=1e-9)
            np.testing.assert_allclose(innovations[row, step], other.y, atol=1e-9)
            np.testing.assert_allclose(covariances[step], other.P, atol=1e-9)


def test_the_answer_is_read_from_filterpys_state_and_what_is_no_sentence_is_skipped():
    analyzer = contract.built(DynamicKalmanFilter, **NUMBERS).double()
    context = contract.cast(fabricated_context(3, 8, contract.WIDTH), torch.float64)
    context.mask[0, [1, 4]] = False
    seen = sentences(context)
    answer = analyzer(context)["emotion"].detach()
    model = KalmanModel(*(part.detach() for part in analyzer.model(torch.float64)))
    for row in range(3):
        other = filterpy_of(model)
        for sample in context.trajectory[row][seen[row]]:
            other.predict()
            other.update(sample.numpy())
        read = torch.from_numpy(np.concatenate([other.x, other.y]))
        torch.testing.assert_close(answer[row], analyzer.answer(read).detach(), atol=1e-8, rtol=0)


def test_a_story_without_parts_is_answered_from_the_start():
    analyzer = contract.built(DynamicKalmanFilter, **NUMBERS)
    context = fabricated_context(1, 8, contract.WIDTH)._replace(mask=torch.zeros(1, 8, dtype=torch.bool))
    read = torch.cat([analyzer.initial_state, torch.zeros(7)])
    torch.testing.assert_close(analyzer(context)["emotion"][0], analyzer.answer(read))
    assert kalman_filter(random_model(0), torch.zeros(2, 0, 3, dtype=torch.float64)).states.shape == (2, 0, 4)


def test_the_gradient_of_everything():
    generator = torch.Generator().manual_seed(3)
    shapes = ((3, 3), (2, 3), (6,), (3,), (3,), (6,), (2, 5, 2))
    inputs = tuple(torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)

    def filtered(generator, observation, process, noise, state, covariance, values):
        model = KalmanModel(
            contraction(generator), observation, positive_definite(process, 3), positive_definite(noise, 2), state,
            positive_definite(covariance, 3),
        )  # fmt: skip
        return kalman_filter(model, values)

    assert torch.autograd.gradcheck(filtered, inputs)


def test_covariances_stay_positive_definite_in_float32():
    """1,000 random problems of 64 steps, with noises whose variances differ a thousandfold within a problem."""
    problems = [random_model(seed, states=5, seen=3, dtype=torch.float32, spread=3.0) for seed in range(1000)]
    stacked = KalmanModel(*(torch.stack(parts) for parts in zip(*problems, strict=True)))
    noise = torch.linalg.eigvalsh(stacked.observation_noise)
    assert (noise[:, -1] / noise[:, 0]).median() > 1000

    def steps(*model):
        return gains(KalmanModel(*model), 64)

    gain, covariances = torch.func.vmap(steps)(*stacked)
    exact, _ = torch.func.vmap(steps)(*(part.double() for part in stacked))
    assert torch.equal(covariances, covariances.mT)
    assert torch.linalg.eigvalsh(covariances.double()).min() > 0
    assert (gain - exact).abs().max() < 1e-3 * exact.abs().max()


def test_nothing_grows_by_itself():
    for seed in range(200):
        numbers = 3 * torch.randn(14, 14, generator=torch.Generator().manual_seed(seed))
        assert torch.linalg.matrix_norm(contraction(numbers), 2) < 1 + 1e-4
    rotation = contraction(torch.tensor([[0.0, torch.pi / 2], [0.0, 0.0]]))
    torch.testing.assert_close(rotation, torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), atol=1e-6, rtol=0)
    decay = contraction(torch.tensor([[2.0]]))
    assert decay.item() == pytest.approx(np.exp(-4))


def test_a_positive_definite_matrix_by_hand():
    one = float(np.log(np.expm1(1)))  # softplus(one) = 1
    found = positive_definite(torch.tensor([one, 2.0, one], dtype=torch.float64), 2)
    torch.testing.assert_close(found, torch.tensor([[1.01, 2.0], [2.0, 5.01]], dtype=torch.float64))


def test_it_has_700_parameters_at_any_width():
    assert contract.parameters(DynamicKalmanFilter, 768, **sizes("full")["analyzers"]["kalman"]) == 700
    assert contract.parameters(DynamicKalmanFilter, 64, hidden=14) == 700


def test_fewer_states_than_emotions_are_refused():
    with pytest.raises(ValueError, match="hidden is 6; allowed: at least 7"):
        DynamicKalmanFilter(64, hidden=6)


def test_seven_states_work():
    contract.check_shapes(DynamicKalmanFilter, hidden=7)


def test_the_order_of_the_parts_matters():
    analyzer = contract.built(DynamicKalmanFilter, **NUMBERS)
    context = fabricated_context(4, 8, contract.WIDTH)._replace(mask=torch.ones(4, 8, dtype=torch.bool))
    flipped = context._replace(trajectory=context.trajectory.flip(1))
    assert (analyzer(flipped)["emotion"] - analyzer(context)["emotion"]).abs().max() > 0.1
