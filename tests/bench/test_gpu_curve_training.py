import csv

import pytest
import torch

from bench import gpu_curve_training
from projects.spectra.models import build_network
from projects.spectra.models.encoder import PeriodicConv2d
from tests.fabricate.spectra_run import TINY


def by_hand(network: torch.nn.Module, side: int, points: int) -> float:
    """Return the operations of a forward pass from the sizes of the layers alone."""
    total, sides = 0.0, {}
    hooks = [
        layer.register_forward_hook(lambda layer, given, out: sides.update({layer: out.shape[-1]}))
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    network(torch.zeros(1, 1, side, side))
    for hook in hooks:
        hook.remove()
    for layer, out in sides.items():
        total += 2 * layer.weight.numel() * out * out
    tokens, d_model = network.num_tokens, network.d_model
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Linear):
            memory = name == "to_memory" or name.endswith("cross_attention.to_key_value")
            own = 1 if name == "squeeze" else points
            total += 2 * layer.weight.numel() * (tokens if memory else own)
    for _ in network.decoder:
        total += 2 * 2 * points * points * d_model + 2 * 2 * points * tokens * d_model
    return total


def test_operations_are_those_of_the_layers() -> None:
    network = build_network(
        "cnn_xattn", output_shape=(2, 2, 8), image_side_px=64, stem_stride=1, width=0.125, heads=2, decoder_layers=2
    )
    stem = next(layer for layer in network.modules() if isinstance(layer, PeriodicConv2d))
    forward, first = by_hand(network, 64, 8), 2 * stem.weight.numel() * 64 * 64
    # The backward pass costs each layer twice its forward pass; the first one needs no gradient of its input.
    assert gpu_curve_training.flops_per_sample(network) == pytest.approx(3 * forward - first, rel=0.01)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", None, 989.4),
        ("NVIDIA H100 PCIe", None, 756.5),
        ("NVIDIA H200", None, 989.4),
        ("CPU", None, None),
        ("CPU", 0.1, 0.1),
        ("NVIDIA H200", 500.0, 500.0),
    ],
)
def test_peak_is_the_given_one_or_the_tables(name: str, given: float | None, expected: float | None) -> None:
    assert gpu_curve_training.peak_tflops(name, given) == expected


def test_the_whole_of_it_on_the_cpu_at_a_tiny_size(tmp_path, capsys) -> None:
    sizes = [line for line in TINY if not line.startswith("trainer.")]
    options = ["--device=cpu", "--warmup-steps=1", "--steps=2", "--blocks=3", "--plain-workers=0", "--peak-tflops=0.5"]
    overrides = [*sizes, "model.compile=false", f"paths.cache={tmp_path}", f"paths.outputs={tmp_path}"]
    history = tmp_path / "history.csv"
    record = gpu_curve_training.main([*options, *overrides], history)
    found = {measurement.what: measurement.value for measurement in record.measurements}
    speed = found["training, batch of 16"]
    assert found["epoch of 200640 samples, reckoned"] == pytest.approx(200_640 / speed, rel=1e-6)
    flops = found["floating-point operations a sample, forward and backward"] * 1e9
    assert found["model FLOP utilisation of 0.5 TFLOP/s"] == pytest.approx(flops * speed / 0.5e12, rel=1e-6)
    assert found["training: speed / by hand"] > 0
    with history.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(found)
    assert all(row["machine"].startswith("CPU, ") for row in rows)
    assert "samples/s" in capsys.readouterr().out
