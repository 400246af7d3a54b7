import math
import warnings

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LRScheduler, OneCycleLR

from shared.errors import ConfigError, TrainingError
from shared.optim import build_optimizer, build_scheduler, check_parameter_groups


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def sgd(lr: float = 1.0) -> torch.optim.Optimizer:
    return build_optimizer([nn.Parameter(torch.ones(2, 2))], {"name": "sgd", "lr": lr})


def rates(optimizer: torch.optim.Optimizer, scheduler: LRScheduler, steps: int) -> list[float]:
    """The rate that each of the next `steps` updates uses, and the one after the last."""
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def build(config: dict, total_steps: float = 40, steps_per_epoch: int = 4, lr: float = 1.0):
    optimizer = sgd(lr)
    built = build_scheduler(optimizer, config, total_steps, steps_per_epoch)
    assert built.keys() == {"scheduler", "interval"}
    assert built["interval"] == "step"
    assert isinstance(built["scheduler"], LRScheduler)
    return optimizer, built["scheduler"]


def test_norms_and_biases_go_without_decay(network: nn.Module) -> None:
    config = {"name": "adamw", "lr": 5e-5, "weight_decay": 0.03, "betas": [0.9, 0.99]}
    decay, spared = build_optimizer(network.named_parameters(), config).param_groups
    assert [p.shape for p in decay["params"]] == [network[0].weight.shape, network[3].weight.shape]
    assert (decay["weight_decay"], spared["weight_decay"]) == (0.03, 0.0)
    assert len(spared["params"]) == 4
    assert decay["betas"] == (0.9, 0.99)
    (everything,) = build_optimizer(network.parameters(), config | {"decay_norm_and_bias": True}).param_groups
    assert len(everything["params"]) == 6
    assert everything["weight_decay"] == 0.03


def test_a_bias_of_two_dimensions_is_known_by_its_name() -> None:
    tensor = nn.Parameter(torch.ones(1, 3))
    config = {"name": "sgd", "lr": 0.1, "weight_decay": 0.5}
    assert build_optimizer([("attention.bias", tensor)], config).param_groups[0]["weight_decay"] == 0.0
    assert build_optimizer([("attention.weight", tensor)], config).param_groups[0]["weight_decay"] == 0.5


def test_frozen_parameters_are_left_out(network: nn.Module) -> None:
    network[0].requires_grad_(False)
    optimizer = build_optimizer(network.named_parameters(), {"name": "sgd", "lr": 0.1})
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
    with pytest.raises(ValueError, match="nothing to optimise"):
        build_optimizer(network[0].parameters(), {"name": "sgd", "lr": 0.1})


def test_sgd_is_torchs_own_and_not_nesterov() -> None:
    group = sgd().param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0, False)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lion", "adan", "nadamw"])
def test_one_step_equals_the_library(name: str) -> None:
    steps = []
    for ours in (True, False):
        torch.manual_seed(3)
        layer = nn.Linear(3, 2)
        layer(torch.ones(1, 3)).square().sum().backward()
        if ours:
            optimizer = build_optimizer(layer.named_parameters(), {"name": name, "lr": 0.01, "weight_decay": 0.1})
        elif name == "sgd":
            no_decay = [{"params": [layer.weight]}, {"params": [layer.bias], "weight_decay": 0.0}]
            optimizer = torch.optim.SGD(no_decay, lr=0.01, weight_decay=0.1)
        else:
            optimizer = create_optimizer_v2(layer, opt=name, lr=0.01, weight_decay=0.1)
        optimizer.step()
        steps.append(torch.cat([layer.weight.detach().flatten(), layer.bias.detach()]))
    torch.testing.assert_close(steps[0], steps[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "adamx", "lr": 0.1}, "optimizer.name is 'adamx', which is unknown; nearest: .*adam"),
        ({"lr": 0.1}, "optimizer.name is None"),
        ({"name": "adamw", "lr": 0.1, "weight_deccay": 0.1}, "optimizer.weight_deccay .* nearest: weight_decay"),
        ({"name": "adamw", "lr": 0.1, "momentum": 0.9}, "optimizer.momentum is not read by optimizer 'adamw'"),
        ({"name": "adamw"}, "optimizer.lr is missing, allowed: a number, above 0"),
        ({"name": "adamw", "lr": "5e-5"}, "optimizer.lr is '5e-5'"),
        ({"name": "adamw", "lr": 0.0}, "optimizer.lr is 0.0"),
        ({"name": "adamw", "lr": math.inf}, "optimizer.lr is inf"),
        ({"name": "adamw", "lr": True}, "optimizer.lr is True"),
        ({"name": "adamw", "lr": 0.1, "weight_decay": -1}, "optimizer.weight_decay is -1, allowed: a number, 0 or"),
        ({"name": "adamw", "lr": 0.1, "decay_norm_and_bias": "no"}, "allowed: true or false"),
        ({"name": "adamw", "lr": 0.1, "betas": [0.9, 1.5]}, "optimizer 'adamw' refuses .*[Ii]nvalid beta"),
    ],
)
def test_a_wrong_optimizer_config_is_one_sentence(config: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_optimizer([nn.Parameter(torch.ones(2))], config)


def test_constant_stays() -> None:
    assert rates(*build({"name": "constant"}, total_steps=math.inf, lr=0.25), 9) == [0.25] * 10


def test_warm_restarts_equal_the_epochwise_schedule_at_each_epoch() -> None:
    config = {"name": "cosine_warm_restarts", "T_0": 2, "T_mult": 2, "eta_min": 0.01}
    ours = rates(*build(config, steps_per_epoch=5), 5 * 14)
    epochwise = sgd()
    reference = CosineAnnealingWarmRestarts(epochwise, T_0=2, T_mult=2, eta_min=0.01)
    assert ours[::5] == pytest.approx(rates(epochwise, reference, 14))
    # By hand: half of the first period, its restart, half of the second, its restart.
    assert [ours[5], ours[10], ours[20], ours[30]] == pytest.approx([0.505, 1.0, 0.505, 1.0])
    assert ours[9] == pytest.approx(0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * 0.9)))


def test_warmup_cosine_by_hand_and_against_torch() -> None:
    ours = rates(*build({"name": "warmup_cosine", "warmup": 0.1, "eta_min": 0.2}, lr=2.0), 45)
    assert ours[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert ours[22] == pytest.approx(1.1)  # half-way down: (2 + 0.2) / 2
    assert ours[40:] == pytest.approx([0.2] * 6)  # and it stays there
    tail = sgd(2.0)
    assert ours[4:41] == pytest.approx(rates(tail, CosineAnnealingLR(tail, T_max=36, eta_min=0.2), 36))


def test_warmup_cosine_keeps_the_ratio_of_group_rates_and_meets_one_floor() -> None:
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [first], "lr": 1.0}, {"params": [second], "lr": 0.1}])
    scheduler = build_scheduler(optimizer, {"name": "warmup_cosine", "warmup": 0.5, "eta_min": 0.01}, 8, 4)["scheduler"]
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.2, 0.02])
    rates(optimizer, scheduler, 8)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.01, 0.01])


def test_one_cycle_is_torchs_and_lasts_exactly_as_long_as_the_fit() -> None:
    ours = rates(*build({"name": "one_cycle", "pct_start": 0.5, "cycle_momentum": False}, total_steps=20, lr=0.5), 20)
    reference = sgd(0.5)
    theirs = rates(reference, OneCycleLR(reference, 0.5, 20, pct_start=0.5, cycle_momentum=False), 20)
    assert ours == pytest.approx(theirs)
    assert max(ours) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["constant", "cosine_warm_restarts", "warmup_cosine", "one_cycle"])
def test_a_resumed_schedule_goes_on_as_the_uninterrupted_one(name: str) -> None:
    config = {"name": name} | ({"T_0": 3} if name.startswith("cosine") else {})
    config |= {"cycle_momentum": False} if name == "one_cycle" else {}
    whole = rates(*build(config), 30)
    optimizer, scheduler = build(config)
    rates(optimizer, scheduler, 13)
    states = optimizer.state_dict(), scheduler.state_dict()
    optimizer, scheduler = build(config)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert rates(optimizer, scheduler, 17) == whole[13:]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "cosine"}, "scheduler.name is 'cosine', which is unknown; nearest: .*cosine"),
        ({"name": "warmup_cosine", "warm_up": 0.1}, "scheduler.warm_up is not read .*; nearest: warmup"),
        ({"name": "constant", "eta_min": 0.1}, "scheduler.eta_min is not read by scheduler 'constant'"),
        ({"name": "cosine_warm_restarts"}, "scheduler.T_0 is missing, allowed: a whole number, 1 or more"),
        ({"name": "cosine_warm_restarts", "T_0": 2.5}, "scheduler.T_0 is 2.5"),
        ({"name": "cosine_warm_restarts", "T_0": 2, "eta_min": 2.0}, "eta_min is 2, allowed: at most the learning"),
        ({"name": "warmup_cosine", "warmup": 1.0}, "scheduler.warmup is 1.0"),
        ({"name": "one_cycle", "pct_start": 3.0, "cycle_momentum": False}, "'one_cycle' refuses .*pct_start"),
        ({"name": "one_cycle"}, "'one_cycle' refuses .*momentum"),
    ],
)
def test_a_wrong_scheduler_config_is_one_sentence(config: dict, message: str) -> None:
    optimizer = sgd()
    if config == {"name": "one_cycle"}:  # torch cycles momentum by default, Adagrad has none
        optimizer = torch.optim.Adagrad([nn.Parameter(torch.ones(2))], lr=1.0)
    with pytest.raises(ConfigError, match=message):
        build_scheduler(optimizer, config, 40, 4)


def test_an_endless_fit_is_refused_only_where_the_end_matters() -> None:
    with pytest.raises(ConfigError, match="needs the number of steps, found inf"):
        build({"name": "warmup_cosine"}, total_steps=math.inf)
    with pytest.raises(ConfigError, match="0 optimiser steps an epoch"):
        build({"name": "constant"}, steps_per_epoch=0)
    build({"name": "cosine_warm_restarts", "T_0": 1}, total_steps=math.inf)


def test_building_a_schedule_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("constant", "warmup_cosine", "one_cycle"):
            rates(*build({"name": name}), 5)


SCALES = {"0.weight": 0.5, "0.bias": 0.5, "3.weight": 1.5}


def scaled(network: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    config = {"name": "sgd", "lr": lr, "weight_decay": 0.2}
    return build_optimizer(network.named_parameters(), config, lambda name: SCALES.get(name, 1.0))


def test_each_parameter_at_its_multiple_of_the_rate(network: nn.Module) -> None:
    optimizer = scaled(network)
    names = {id(tensor): name for name, tensor in network.named_parameters()}
    found = {
        names[id(tensor)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for tensor in group["params"]
    }
    assert found == {
        "0.weight": (0.05, 0.2), "0.bias": (0.05, 0.0), "1.weight": (0.1, 0.0), "1.bias": (0.1, 0.0),
        "3.weight": (pytest.approx(0.15), 0.2), "3.bias": (0.1, 0.0),
    }  # fmt: skip
    assert optimizer.param_groups[0]["lr"] == 0.1  # what logs show
    plain = build_optimizer(network.named_parameters(), {"name": "sgd", "lr": 0.1, "weight_decay": 0.2}, lambda _: 1.0)
    assert len(plain.param_groups) == 2


@pytest.mark.parametrize(
    "config",
    [
        {"name": "cosine_warm_restarts", "T_0": 2, "T_mult": 2, "eta_min": 0.01},
        {"name": "warmup_cosine", "warmup": 0.2, "eta_min": 0.01},
        {"name": "one_cycle", "cycle_momentum": False},
        {"name": "constant"},
    ],
    ids=lambda config: config["name"],
)
def test_every_schedule_keeps_the_ratios_of_the_rates(network: nn.Module, config: dict) -> None:
    optimizer = scaled(network)
    scheduler = build_scheduler(optimizer, config, 20, 4)["scheduler"]
    for _ in range(19):
        optimizer.step()
        scheduler.step()
        base = optimizer.param_groups[0]["lr"]
        ratios = [group["lr"] / base for group in optimizer.param_groups]
        assert ratios == pytest.approx([group["lr_scale"] for group in optimizer.param_groups], rel=1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf])
def test_a_multiple_that_is_none_is_refused(network: nn.Module, scale: float) -> None:
    with pytest.raises(ValueError, match=r"multiple for 0.weight is .*, allowed: above 0"):
        build_optimizer(network.named_parameters(), {"name": "sgd", "lr": 0.1}, lambda _: scale)


def test_a_parameter_outside_of_the_groups_or_in_two_is_named(network: nn.Module) -> None:
    check_parameter_groups(scaled(network), network.named_parameters())
    optimizer = torch.optim.SGD([p for name, p in network.named_parameters() if name != "3.bias"], lr=0.1)
    with pytest.raises(TrainingError, match=r"parameter 3.bias is trainable and stands in 0 groups"):
        check_parameter_groups(optimizer, network.named_parameters())
    optimizer.param_groups[0]["params"] += [network[3].bias, network[3].bias]
    with pytest.raises(TrainingError, match=r"parameter 3.bias is trainable and stands in 2 groups"):
        check_parameter_groups(optimizer, network.named_parameters())
    stray = torch.optim.SGD([*network.parameters(), nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(TrainingError, match="1 trainable parameters that the module does not have"):
        check_parameter_groups(stray, network.named_parameters())
