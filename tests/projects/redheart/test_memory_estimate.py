import pytest
import torch
from torch import nn

from projects.redheart.memory_estimate import breakdown, estimate, kept_by_autograd, main, state_bytes, step_room
from projects.redheart.models.network import StoryNetwork
from shared.errors import ConfigError
from shared.optim import build_optimizer
from tests.fabricate.story_network import tiny_sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["adamw", "adamw_factored"])
def test_states_are_as_large_as_the_optimisers_own(name: str, dtype: torch.dtype) -> None:
    network = StoryNetwork(16, tiny_sizes()).to(dtype)
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer = build_optimizer(network.named_parameters(), {"name": name, "lr": 0.1})
    optimizer.step()
    kept = sum(
        value.nbytes
        for state in optimizer.state.values()
        for key, value in state.items()
        if isinstance(value, torch.Tensor) and key != "step"
    )
    assert state_bytes(list(network.parameters()), name) == kept


def test_bytes_of_states_and_of_a_step_by_hand() -> None:
    weights = [nn.Parameter(torch.zeros(4, 6, dtype=torch.bfloat16)), nn.Parameter(torch.zeros(5))]
    own = 2 * 24 + 4 * 5
    assert {name: state_bytes(weights, name) for name in ("adamw", "adan", "sgd", "adamw_factored")} == {
        "adamw": 2 * own, "adan": 2 * own, "sgd": own, "adamw_factored": 2 * (24 + 5) + 4 * (4 + 6 + 5),
    }  # fmt: skip
    assert state_bytes(weights, "adamw_8bit") == pytest.approx(2 * 29 * (1 + 4 / 256))
    assert {name: step_room(weights, name) for name in ("adamw", "sgd", "adamw_8bit", "adamw_factored")} == {
        "adamw": own, "sgd": own, "adamw_8bit": 5 * 4 * 24, "adamw_factored": 5 * 4 * 24,
    }  # fmt: skip


def test_what_autograd_keeps_by_hand() -> None:
    layer = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2))
    x = torch.ones(5, 4)
    with kept_by_autograd(layer) as kept:
        layer(x)
    # The input, and the sigmoid's answer once although two operations keep it; no weights.
    assert sum(storage.nbytes() for storage in kept.values()) == 4 * (5 * 4 + 5 * 8)


def test_the_parts_and_what_makes_them_smaller() -> None:
    given = {"embedding_dim": 16, "parts": 6}
    plain = estimate(tiny_sizes(), **given)
    count = sum(weight.numel() for weight in StoryNetwork(16, tiny_sizes()).parameters())
    assert plain["weights"] == plain["gradients"] == 4 * count
    assert plain["states"] == 8 * count
    assert plain["peak"] == 16 * count + max(plain["activations"], plain["step"])
    half = estimate(tiny_sizes(), **given, weights="bfloat16", optimizer="adamw_8bit")
    assert half["weights"] == plain["weights"] / 2
    assert half["states"] == pytest.approx(2 * count * (1 + 4 / 256))
    again = estimate(tiny_sizes(), **given, checkpointing=True)
    assert again["activations"] < 0.5 * plain["activations"]
    rows = {n: estimate(tiny_sizes(), **given, micro_batch=n)["activations"] for n in (2, 8)}
    assert rows[8] == pytest.approx(estimate(tiny_sizes(), **given, micro_batch=4, passes=2)["activations"])
    assert rows[8] > 3 * rows[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "float16"}, "weights is 'float16', allowed: float32, bfloat16"),
        ({"optimizer": "lion"}, "optimizer is 'lion', allowed: adamw, adamw_8bit, adamw_factored"),
        ({"micro_batch": 0}, "micro_batch, parts and passes are 0, 16 and 1"),
    ],
)
def test_a_wrong_setting_is_one_sentence(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimate(tiny_sizes(), embedding_dim=16, **changes)


def test_the_command_prints_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    main(["redheart_tiny", "--weights", "float32", "--optimizer", "adamw", "--parts", "4"])
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == [
        "weights", "gradients", "states", "activations", "step", "peak",
    ]  # fmt: skip
    assert breakdown({"peak": 2.5e9}) == "peak           2.500 GB"
