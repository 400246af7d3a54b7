import functools
import math
import sys

import pytest
import torch
from torch import nn

from shared import low_memory_optim
from shared.errors import ConfigError
from shared.low_memory_optim import FactoredAdamW, bytes_of_states, offload_states, prepare_offload, store
from shared.optim import build_optimizer, build_scheduler


def test_rounding_keeps_the_mean_and_never_leaves_the_two_neighbours() -> None:
    value = 1.0 + 0.3 / 128  # bfloat16 has 1 and 1 + 1/128 around it
    for sign in (1.0, -1.0):
        into = torch.empty(100_000, dtype=torch.bfloat16)
        store(torch.full((100_000,), sign * value), into)
        found = into.double().unique()
        assert sorted(found.abs().tolist()) == [1.0, 1.0 + 1 / 128]
        assert float(into.double().mean()) == pytest.approx(sign * value, abs=4 * 0.46 / 128 / 100_000**0.5)


def test_rounding_leaves_what_fits_and_the_special_values() -> None:
    values = torch.tensor([0.0, 1.5, -2.0, math.inf, -math.inf, math.nan])
    into = torch.empty(6, dtype=torch.bfloat16)
    store(values, into)
    torch.testing.assert_close(into.float(), values, equal_nan=True, rtol=0, atol=0)
    exact = torch.empty(1)
    store(torch.tensor([1.00001]), exact)
    assert exact.item() == torch.tensor(1.00001).item()


def test_updates_that_rounding_to_nearest_would_swallow_arrive() -> None:
    moved = {}
    for name in ("adamw", "adamw_factored"):
        weight = nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
        optimizer = build_optimizer([weight], {"name": name, "lr": 1e-4})
        for _ in range(50):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        moved[name] = float(1 - weight.detach().double().mean())
    assert moved["adamw"] == 0.0
    assert moved["adamw_factored"] == pytest.approx(50 * 1e-4, rel=0.25)


def test_a_vector_in_float32_follows_adamw() -> None:
    """Only the first moment is rounded, by up to 1/256, so the paths stay close."""
    paths = []
    for name in ("adamw", "adamw_factored"):
        torch.manual_seed(1)
        weight = nn.Parameter(torch.randn(64))
        optimizer = build_optimizer(
            [weight], {"name": name, "lr": 1e-2, "weight_decay": 0.1, "decay_norm_and_bias": True}
        )
        for _ in range(30):
            weight.grad = 2 * (weight.detach() - 3)
            optimizer.step()
        paths.append(weight.detach().clone())
    torch.testing.assert_close(paths[1], paths[0], rtol=0, atol=2e-3)


def test_a_matrix_of_rank_one_squares_is_factored_exactly() -> None:
    rows, columns = torch.rand(5, 1) + 0.5, torch.rand(1, 7) + 0.5
    weights = [nn.Parameter(torch.zeros(5, 7)) for _ in range(2)]
    optimizers = [torch.optim.AdamW([weights[0]], lr=1e-2, weight_decay=0), FactoredAdamW([weights[1]], lr=1e-2)]
    for _ in range(3):
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = rows * columns
            optimizer.step()
    torch.testing.assert_close(weights[1], weights[0], rtol=0.01, atol=0)


def test_gradients_are_left_as_they_are_and_the_states_are_small() -> None:
    weight = nn.Parameter(torch.randn(32, 64))
    weight.grad = torch.randn(32, 64)
    before = weight.grad.clone()
    optimizer = FactoredAdamW([weight], lr=1e-3)
    optimizer.step()
    assert torch.equal(weight.grad, before)
    state = optimizer.state[weight]
    assert state["momentum"].dtype == torch.bfloat16
    assert sum(t.nbytes for t in state.values() if isinstance(t, torch.Tensor)) == 2 * 32 * 64 + 4 * (32 + 64)


def test_a_zero_gradient_changes_nothing_but_by_decay() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    FactoredAdamW([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


@pytest.mark.parametrize(("change", "message"), [({"betas": (0.9, 1.0)}, "betas are"), ({"eps": 0.0}, "eps is 0.0")])
def test_a_wrong_value_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FactoredAdamW([nn.Parameter(torch.ones(1))], lr=0.1, **change)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resuming_from_the_state_is_exact_and_keeps_its_precision(dtype: torch.dtype) -> None:
    weights = [nn.Parameter(torch.ones(4, 6, dtype=dtype)) for _ in range(2)]
    first, second = (FactoredAdamW([weight], lr=0.1) for weight in weights)
    for step in range(4):
        if step == 2:
            weights[1].data.copy_(weights[0].data)
            second.load_state_dict(first.state_dict())
        for weight, optimizer in list(zip(weights, (first, second), strict=True))[: 1 if step < 2 else 2]:
            torch.manual_seed(step)
            weight.grad = torch.full((4, 6), 0.3 + step, dtype=dtype)
            optimizer.step()
    state = second.state[weights[1]]
    assert (state["momentum"].dtype, state["rows"].dtype) == (torch.bfloat16, torch.float32)
    assert state["rows"].data_ptr() != first.state[weights[0]]["rows"].data_ptr()
    assert torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("name", ["adamw", "adamw_factored", "sgd", "adan"])
def test_offloaded_states_give_the_same_weights(name: str) -> None:
    results = []
    for offloaded in (False, True):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        optimizer = build_optimizer(network.named_parameters(), {"name": name, "lr": 0.01, "weight_decay": 0.1})
        if offloaded:
            assert offload_states(optimizer)
            assert not offload_states(optimizer)
        for step in range(4):
            network.zero_grad()
            network(torch.full((3, 4), float(step))).square().sum().backward()
            torch.manual_seed(step)
            assert optimizer.step(lambda: torch.tensor(7.0)) == 7.0
        results.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    # Kernels over many tensors at once round otherwise than over one.
    torch.testing.assert_close(results[1], results[0], rtol=2e-5, atol=1e-6)


def three_steps(name: str, offload_in: int | None) -> tuple[list[torch.Tensor], torch.optim.Optimizer]:
    """Weights after three steps whose closures compute the gradients; one of them offloads after that."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    optimizer = build_optimizer(network.named_parameters(), {"name": name, "lr": 0.01, "weight_decay": 0.1})
    build_scheduler(optimizer, {"name": "constant"}, 10, 1)  # which wraps the step as well
    prepare_offload(optimizer)

    def closure(number: int) -> float:
        network.zero_grad()
        network(torch.full((3, 4), float(number))).square().sum().backward()
        if number == offload_in:
            assert offload_states(optimizer)
            # Gone before the closure's next attempt.
            assert all(state.device == low_memory_optim.MAIN_MEMORY for state in states_of(optimizer))
        torch.manual_seed(number)
        return float(number)

    for number in range(3):
        assert optimizer.step(functools.partial(closure, number)) == number
    return [weight.detach() for weight in network.parameters()], optimizer


def states_of(optimizer) -> list[torch.Tensor]:
    return [
        value
        for state in optimizer.state.values()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and key != "step"
    ]


@pytest.mark.parametrize("name", ["adamw", "adamw_factored", "adan"])
@pytest.mark.parametrize("step", [0, 1])
def test_offloading_inside_a_steps_closure_gives_the_same_weights(name: str, step: int) -> None:
    plain, _ = three_steps(name, None)
    offloaded, optimizer = three_steps(name, step)
    assert optimizer.states_are_offloaded
    for mine, theirs in zip(offloaded, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-5, atol=1e-6)


class SecondMemory:
    """Plays main memory by the meta device: what lies there cannot be computed with, and comes back by `fetch`."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, str], torch.Tensor] = {}
        self.moves: list[str] = []

    def __call__(self, optimizer, weight: torch.Tensor, device: torch.device) -> None:
        state = optimizer.state.get(weight, {})
        for key, value in state.items():
            if not isinstance(value, torch.Tensor) or key == "step":
                continue
            if device.type == "meta" and value.device.type != "meta":
                self.kept[id(weight), key] = value
                state[key] = torch.empty_like(value, device="meta")
                self.moves.append("away")
            elif device.type != "meta" and value.device.type == "meta":
                state[key] = self.kept.pop((id(weight), key))
                self.moves.append("back")


@pytest.mark.parametrize("name", ["adamw", "adamw_factored"])
def test_a_step_whose_closure_offloads_fetches_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = three_steps(name, None)
    memory = SecondMemory()
    monkeypatch.setattr(low_memory_optim, "MAIN_MEMORY", torch.device("meta"))
    monkeypatch.setattr(low_memory_optim, "_move_state", memory)
    weights, optimizer = three_steps(name, 1)
    count = len(states_of(optimizer))
    assert memory.moves == ["away"] * count + memory.moves[count:]
    assert memory.moves.count("back") == 2 * count  # fetched in the step that offloaded and in the one after it
    assert {t.device.type for t in states_of(optimizer)} == {"meta"}
    for mine, theirs in zip(weights, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-5, atol=1e-6)


def test_the_bytes_of_states_are_those_of_their_tensors() -> None:
    weight = nn.Parameter(torch.ones(4, 6))
    optimizer = FactoredAdamW([weight], lr=0.1)
    assert bytes_of_states(optimizer) == 0
    weight.grad = torch.ones(4, 6)
    optimizer.step()
    assert bytes_of_states(optimizer) == 2 * 24 + 4 * (4 + 6)


def test_without_torchao_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(ConfigError, match=r"needs the package torchao.*run `make extras`, or take .*adamw_factored"):
        build_optimizer([nn.Parameter(torch.ones(2))], {"name": "adamw_8bit", "lr": 0.1})


def test_states_of_one_byte() -> None:
    pytest.importorskip("torchao", reason="`make extras` was not run")
    weight = nn.Parameter(torch.ones(64, 128, dtype=torch.bfloat16))
    optimizer = build_optimizer([weight], {"name": "adamw_8bit", "lr": 1e-4})
    torch.compiler.set_stance("force_eager")
    try:
        for _ in range(20):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
    finally:
        torch.compiler.set_stance("default")
    assert optimizer.param_groups[0]["lr"] == 1e-4
    assert isinstance(optimizer.param_groups[0]["lr"], float)
    assert float(1 - weight.detach().double().mean()) == pytest.approx(20e-4, rel=0.2)
