import pytest
import torch
import torch.nn.functional as F

from projects.spectra.models.encoder import Encoder, PeriodicConv2d, ResidualBlock, map_side, scaled, wrap


@pytest.mark.parametrize("margin", [1, 2, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_wrap_equals_torchs_circular_padding_with_its_gradient(margin: int, layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(2, 3, 4 + 2 * margin, 6 + 2 * margin, dtype=torch.float64)
    ours, theirs = wrap(x, margin), F.pad(x, (margin,) * 4, mode="circular")
    assert torch.equal(ours, theirs)
    assert ours.is_contiguous(memory_format=layout)
    expected = torch.autograd.grad((theirs * weight).sum(), x)[0]
    torch.testing.assert_close(torch.autograd.grad((ours * weight).sum(), x)[0], expected)
    assert torch.equal(wrap(x.detach(), margin), theirs)


def test_wrap_has_a_second_derivative() -> None:
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda picture: wrap(picture, 1).square(), (x,))


@pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (5, 1), (3, 2), (3, 1)])
def test_convolution_pads_as_torchs_own_layer_does(kernel: int, stride: int) -> None:
    x = torch.randn(2, 3, 8, 8)
    for periodic, mode in ((True, "circular"), (False, "zeros")):
        ours = PeriodicConv2d(3, 4, kernel, stride, periodic)
        theirs = torch.nn.Conv2d(3, 4, kernel, stride, kernel // 2, bias=False, padding_mode=mode)
        theirs.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x), theirs(x))


def encoder(periodic: bool, stem_stride: int = 2) -> Encoder:
    return Encoder(0.125, stem_stride, periodic, 0.0).double().eval()


@pytest.mark.parametrize(("side", "stem_stride"), [(128, 2), (64, 1)])
def test_a_shift_of_the_cell_shifts_the_map_only_if_padding_is_periodic(side: int, stem_stride: int) -> None:
    """The periodic cell has no border, so where the picture begins is arbitrary up to the strides."""
    picture = torch.randn(2, 1, side, side, dtype=torch.float64)
    moved = picture.roll((side // 4, side // 2), (2, 3))
    for periodic in (True, False):
        network = encoder(periodic, stem_stride)
        shifted, expected = network(moved), network(picture).roll((1, 2), (2, 3))
        assert torch.allclose(shifted, expected, atol=1e-10) == periodic


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_a_tile_of_four_cells_gives_the_map_four_times(stem_stride: int) -> None:
    side = 32
    picture = torch.randn(1, 1, side, side, dtype=torch.float64)
    network = encoder(True, stem_stride)
    one, four = network(picture), network(picture.tile(1, 1, 2, 2))
    torch.testing.assert_close(four, one.tile(1, 1, 2, 2))


def test_widths_are_those_of_the_reference() -> None:
    network = Encoder(1.0, 2, True, 0.05)
    convolutions = [network.stem, *(network.get_submodule(f"stage{n}")[0].conv1 for n in (1, 2, 3, 4))]
    assert [layer.out_channels for layer in convolutions] == [64, 96, 128, 192, 256]
    assert network.out_channels == 256
    assert [len(network.get_submodule(f"stage{n}")) for n in (1, 2, 3, 4)] == [2, 2, 2, 2]
    assert Encoder(0.01, 2, True, 0.0).out_channels == 8


def test_map_keeps_the_channels_last_layout() -> None:
    network = Encoder(0.125, 1, True, 0.0).to(memory_format=torch.channels_last)
    layouts: list[bool] = []
    hooks = [
        module.register_forward_hook(
            lambda *args: layouts.append(args[2].is_contiguous(memory_format=torch.channels_last))
        )
        for module in network.modules()
        if isinstance(module, ResidualBlock)
    ]
    network(torch.randn(2, 1, 64, 64))
    assert layouts == [True] * 8
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("width", [0.0625, 0.125, 0.25, 0.5])
@pytest.mark.parametrize("side", [32, 64])
def test_backward_pass_survives_few_channels(width: float, side: int) -> None:
    """A strided 1 x 1 convolution over 8 channels would end the process here (torch 2.15 on the CPU)."""
    network = Encoder(width, 1, True, 0.0).to(memory_format=torch.channels_last)
    network(torch.randn(4, 1, side, side)).square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize(("side", "stride", "expected"), [(128, 2, 4), (64, 1, 4), (32, 2, 1), (16, 1, 1), (256, 2, 8)])
def test_map_side(side: int, stride: int, expected: int) -> None:
    assert map_side(side, stride) == expected
    assert encoder(True, stride)(torch.zeros(1, 1, side, side, dtype=torch.float64)).shape[-1] == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: map_side(48, 2), r"image_side_px is 48, allowed with stem_stride 2: multiples of 32 \(128 with"),
        (lambda: map_side(0, 1), "image_side_px is 0, allowed with stem_stride 1: multiples of 16"),
        (lambda: map_side(128, 3), "stem_stride is 3, allowed: 1 or 2"),
        (lambda: Encoder(0.0, 2, True, 0.0), "width is 0.0, allowed: above 0"),
        (lambda: Encoder(1.0, 2, True, 1.0), "cnn_dropout is 1.0, allowed: 0 up to, but not, 1"),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_scaled_rounds_to_the_multiple() -> None:
    assert [scaled(count, 0.5) for count in (64, 96, 192)] == [32, 48, 96]
    assert scaled(256, 0.1, 16) == 32
