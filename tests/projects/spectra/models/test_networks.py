import inspect

import pytest
import torch
import torch.nn.functional as F

from projects.spectra.models import BUILDERS, build_network
from projects.spectra.models.cross_attention import Attention
from projects.spectra.models.curve_network import CurveHead, CurveNetwork, sinusoids
from shared.module_groups import ModuleGroups

NAMES = sorted(BUILDERS)
NO_DROPOUT = {"dropout": 0.0, "head_dropout": 0.0, "cnn_dropout": 0.0}
GROUPS = ["stem", "stage1", "stage2", "stage3", "stage4", "decoder", "head"]


def small(name: str, output_shape: tuple[int, ...] = (2, 2, 30), side: int = 32, **parameters):
    return build_network(name, output_shape=output_shape, image_side_px=side, width=0.125, **parameters)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_shape", [(2, 2, 30), (2, 43), (1, 1), (3, 2, 2, 7)])
def test_curves_have_the_shape_asked_for(name: str, output_shape: tuple[int, ...]) -> None:
    assert small(name, output_shape)(torch.randn(3, 1, 32, 32)).shape == (3, *output_shape)


@pytest.mark.parametrize(("name", "parameters"), [("cnn_xattn", 9_793_220), ("cnn_gru", 6_101_956)])
def test_size_of_the_reference(name: str, parameters: int) -> None:
    """Golden: own count of 2026-11-21; a change of it is a change of the architecture."""
    network = build_network(name, output_shape=(2, 2, 30), image_side_px=128)
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters
    assert (network.d_model, network.num_tokens) == (256, 16)


@pytest.mark.parametrize("name", NAMES)
def test_each_tensor_is_in_exactly_one_group_and_gets_a_gradient(name: str) -> None:
    network = small(name, side=64)  # 2 x 2 tokens: among one alone there is nothing for attention to choose
    groups = network.module_groups()
    assert list(groups) == GROUPS
    for tensor in network.state_dict():
        owners = [group for group, prefixes in groups.items() if tensor.startswith(prefixes)]
        assert len(owners) == 1, tensor
    ModuleGroups.of(network, groups)  # as the snapshots take them
    network(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_sample_is_answered_alone(name: str) -> None:
    network = small(name).eval()
    pictures = torch.randn(3, 1, 32, 32)
    alone = torch.cat([network(picture[None]) for picture in pictures])
    torch.testing.assert_close(network(pictures), alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1])


@pytest.mark.parametrize("name", NAMES)
def test_where_things_are_in_the_cell_matters(name: str) -> None:
    """Without places the tokens are a bag, and a pattern moved by half a cell would get the same answer."""
    network = small(name, side=64, stem_stride=1).eval()
    picture = torch.randn(1, 1, 64, 64)
    assert not torch.allclose(network(picture), network(picture.roll(32, 2)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_it_can_learn_a_handful_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network = small(name, (2, 2, 8), **NO_DROPOUT)
    pictures = torch.randint(0, 2, (8, 1, 32, 32)).float() * 2 - 1
    phase = 6 * torch.rand(8, 2, 2, 1) + torch.arange(8) / 4
    target = torch.rand(8, 2, 2, 1) * phase.cos()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.mse_loss(network(pictures), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.25 * target.var().item()


def cells(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return patterns of 32 px, (B, 1, 32, 32) of -1 and 1, and curves that mix with the fill of each quadrant."""
    noise = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    pattern = (F.interpolate(noise, 32) > 0).float()
    fill = F.avg_pool2d(pattern, 16)[:, 0, :, :, None]  # (B, 2, 2, 1)
    angle = torch.arange(6) / 2
    return 2 * pattern - 1, fill * angle.cos() + (1 - fill) * angle.sin()


def r2_behind(network: CurveNetwork, steps: int) -> float:
    """Train on some cells and return R2 over all values on others."""
    (image, target), (other, expected) = cells(256, 1), cells(64, 2)
    spread = (target - target.mean(dim=0)).square().mean().sqrt().item()
    network.head.set_units(target.mean(dim=0), spread)
    optimizer = torch.optim.AdamW([tensor for tensor in network.parameters() if tensor.requires_grad], 1e-3)
    for _ in range(steps):
        rows = torch.randint(256, (32,))
        optimizer.zero_grad()
        (F.mse_loss(network(image[rows]), target[rows]) / spread**2).backward()
        optimizer.step()
    with torch.no_grad():
        error = (network.eval()(other) - expected).square().mean()
    return 1 - (error / (expected - expected.mean(dim=0)).square().mean()).item()


def test_attention_learns_because_its_queries_begin_with_a_summary() -> None:
    """The same network with queries that are equal for all pictures has learnt nothing by then, nor by step 100."""
    found = []
    for blind in (False, True):
        torch.manual_seed(0)
        network = small("cnn_xattn", (2, 2, 6), stem_stride=1, heads=2, **NO_DROPOUT)
        if blind:
            for parameter in network.squeeze_norm.parameters():
                torch.nn.init.zeros_(parameter).requires_grad_(False)
        found.append(r2_behind(network, 40))
    assert found[0] > 0.25
    assert found[1] < 0.1


def test_head_counts_in_units_of_the_targets() -> None:
    head, features = CurveHead(8, (2, 2, 5), 0.0), torch.randn(3, 5, 8)
    mean = torch.rand(2, 2, 5)
    bare = head(features)
    head.set_units(mean, 0.06)
    torch.testing.assert_close(head(features), mean + 0.06 * bare)
    assert {"centre", "spread"} <= set(head.state_dict())  # they travel with the weights
    assert head(features).requires_grad
    assert not {"centre", "spread"} & {name for name, _ in head.named_parameters()}


def test_head_adds_the_mean_in_float32() -> None:
    """In bfloat16 the numbers about 0.25 are 0.001 apart, and powers differ by less."""
    head, features = CurveHead(8, (1, 5), 0.0), torch.randn(3, 5, 8)
    head.set_units(torch.full((1, 5), 0.25), 1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        curves = head(features)
    assert curves.dtype == torch.float32
    assert len(curves.unique()) > 10
    assert curves.sub(0.25).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("mean", "spread", "message"),
    [
        (torch.zeros(4, 5), 1.0, r"the mean has shape \(4, 5\), allowed: finite numbers of shape \(2, 2, 5\)"),
        (torch.full((2, 2, 5), torch.nan), 1.0, "the mean has .*allowed: finite numbers"),
        (torch.zeros(2, 2, 5), 0.0, "the spread is 0.0, allowed: above 0"),
        (torch.zeros(2, 2, 5), float("inf"), "the spread is inf, allowed: above 0"),
    ],
)
def test_units_that_are_none_are_refused(mean: torch.Tensor, spread: float, message: str) -> None:
    head = CurveHead(8, (2, 2, 5), 0.0)
    with pytest.raises(ValueError, match=message):
        head.set_units(mean, spread)
    assert not head.centre.any()
    assert head.spread.item() == 1.0


def test_dropouts_act_in_training_only() -> None:
    pictures = torch.randn(2, 1, 32, 32)
    for name in NO_DROPOUT:
        network = small("cnn_xattn", **(NO_DROPOUT | {name: 0.5}))
        assert not torch.equal(network(pictures), network(pictures)), name
        network.eval()
        assert torch.equal(network(pictures), network(pictures)), name


def test_attention_equals_torchs_multi_head_attention() -> None:
    ours, theirs = Attention(16, 4), torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.to_query.weight, ours.to_key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.to_query.bias, ours.to_key_value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x, memory = torch.randn(3, 7, 16), torch.randn(3, 5, 16)
    torch.testing.assert_close(ours(x, memory), theirs(x, memory, memory)[0])


def test_sinusoids_turn_at_different_rates() -> None:
    table = sinusoids(5, 4)
    expected = torch.tensor([[torch.tensor(k).sin(), torch.tensor(k / 100).sin()] for k in map(float, range(5))])
    torch.testing.assert_close(table[:, :2], expected)
    torch.testing.assert_close(table[:, :2].square() + table[:, 2:].square(), torch.ones(5, 2))
    with pytest.raises(ValueError, match="dim is 3, allowed: even numbers"):
        sinusoids(5, 3)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cnn_xatn", {}, "network is 'cnn_xatn', allowed: cnn_gru, cnn_xattn; did you mean 'cnn_xattn'?"),
        ("cnn_gru", {"head_dropuot": 0.1}, "has no parameter 'head_dropuot', .*did you mean 'head_dropout'"),
        ("cnn_gru", {"image_side_px": 100}, "image_side_px is 100, allowed with stem_stride 2: multiples of 32"),
        ("cnn_gru", {"output_shape": (30,)}, r"output_shape is \[30\], allowed: \(channels..., points of the axis\)"),
        ("cnn_gru", {"gru_layers": 0}, "gru_layers is 0, allowed: 1 or more"),
        ("cnn_gru", {"dropout": -0.1}, "dropout is -0.1, allowed: 0 up to, but not, 1"),
        ("cnn_xattn", {"heads": 0}, "decoder_layers is 4 and heads 0, allowed: 1 or more each"),
        ("cnn_xattn", {"head_dropout": 1.5}, "head_dropout is 1.5"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(name, **({"output_shape": (2, 2, 30), "image_side_px": 128} | arguments))


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image has shape \(2, 1, 64, 64\), allowed: \(batch, 1, 32, 32\)"):
        small("cnn_gru")(torch.zeros(2, 1, 64, 64))


def test_defaults_are_those_of_the_specification() -> None:
    defaults = {key: item.default for key, item in inspect.signature(BUILDERS["cnn_xattn"]).parameters.items()}
    expected = {"decoder_layers": 4, "heads": 8, "dropout": 0.1, "head_dropout": 0.2, "cnn_dropout": 0.05, "width": 1.0}
    assert expected.items() <= defaults.items()
