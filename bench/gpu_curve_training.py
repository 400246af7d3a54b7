"""Speed of the reference run on one GPU: `python -m bench.gpu_curve_training [options] [overrides]`.

The recipe is conf/experiment/reference.yaml: bf16-mixed, channels-last, compiled, bits on the device. Beside it, in
turns, the plain loop at the same precision. An epoch of the reference's 200,640 samples is reckoned from the steps that
were timed. Model FLOP utilisation: floating-point operations of the network's forward and backward pass, counted by
torch, a second, over what the device can do at best in dense bfloat16.
"""

import argparse
import copy
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.curve_demo import CurveLoop, curve_data, curve_module, curve_settings, float_pairs, plain_twin
from bench.plain_curves import PlainLoop
from bench.record import HISTORY, Record, run_benchmark
from projects.spectra.models import CurveNetwork

EPOCH_SAMPLES = 200_640
DENSE_BF16_TFLOPS = {"H200": 989.4, "H100 PCIe": 756.5, "H100 NVL": 835.5, "H100": 989.4}
"""Part of the device's name -> dense bfloat16, by NVIDIA's data sheets (which print twice that, with sparsity)."""


def flops_per_sample(network: CurveNetwork) -> float:
    """Floating-point operations of one forward and backward pass; a multiplication and an addition are two.

    Convolutions and matrix products only. The weights' gradients are counted, that of the picture is not needed.
    """
    network, batch = copy.deepcopy(network).cpu().float().train(), 2
    image = torch.zeros(batch, 1, network.image_side_px, network.image_side_px)
    # The fused kernels of attention are not all known to the counter; the plain one is made of matrix products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(image).sum().backward()
    return counter.get_total_flops() / batch


def peak_tflops(name: str, given: float | None) -> float | None:
    """What was given, or the table's value for a device; None if it is in neither."""
    if given is not None:
        return given
    return next((peak for part, peak in DENSE_BF16_TFLOPS.items() if part in name), None)


def measure(record: Record, options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Warm up, which compiles; then blocks of steps in turns."""
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    record.machine = f"{name}, {record.machine}"
    settings = curve_settings(
        "+experiment=reference", "data.standin.num_samples=20000", f"data.store_device={device.type}", *overrides
    )
    datamodule = curve_data(settings)
    module, data = curve_module(settings, datamodule), float_pairs(datamodule)
    plain, flops = plain_twin(module, data), flops_per_sample(module.network)
    size, autocast = datamodule.batch_size, settings.plain["trainer"]["precision"] == "bf16-mixed"
    loops = (
        CurveLoop(module, datamodule, settings, device, autocast),
        PlainLoop(plain, data, size, device, autocast, workers=options.plain_workers),
    )
    for loop in loops:
        loop.run(options.warmup_steps)
    pairs = [(loops[0].run(options.steps), loops[1].run(options.steps)) for _ in range(options.blocks)]
    speeds = [size * options.steps / ours for ours, _ in pairs]
    record.add("floating-point operations a sample, forward and backward", flops / 1e9, "GFLOP")
    record.add_samples(f"training, batch of {size}", speeds, "samples/s")
    record.add_samples(f"epoch of {EPOCH_SAMPLES} samples, reckoned", [EPOCH_SAMPLES / speed for speed in speeds], "s")
    record.add_samples("training by hand", [size * options.steps / by_hand for _, by_hand in pairs], "samples/s")
    record.add_samples("training: speed / by hand", [by_hand / ours for ours, by_hand in pairs], "ratio")
    peak = peak_tflops(name, options.peak_tflops)
    if peak is None:
        print(f"the peak of {name!r} is not known, so no utilisation is given; say it with --peak-tflops")
    else:
        used = [flops * speed / (peak * 1e12) for speed in speeds]
        record.add_samples(f"model FLOP utilisation of {peak:g} TFLOP/s", used, "ratio")
    if device.type == "cuda":
        record.add("most memory in use", torch.cuda.max_memory_allocated(device) / 2**30, "GiB")


def main(arguments: Sequence[str] | None = None, history: Path = HISTORY) -> Record:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_curve_training", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16 of a device that is not in the table")
    parser.add_argument("--warmup-steps", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50, help="steps of a block (%(default)s)")
    parser.add_argument("--blocks", type=int, default=6, help="blocks (%(default)s)")
    parser.add_argument("--plain-workers", type=int, default=4, help="loader processes of the plain loop")
    parser.add_argument("--no-record", action="store_true", help="print only")
    parser.add_argument("overrides", nargs="*", help="as for projects.spectra.train")
    options = parser.parse_args(arguments)
    rest = ["--no-record"] if options.no_record else []
    fill = functools.partial(measure, options=options, overrides=options.overrides)
    return run_benchmark("gpu_curve_training", fill, rest, history)


if __name__ == "__main__":
    main()
