"""Speed of training and of predicting spectra on the CPU, against a plain torch loop, both in float32.

Ours: batches unpacked from bits, channels-last, our own periodic padding; its step without the engine around it. The
plain loop is `bench.plain_curves`. Blocks of steps of the two take turns and meet the same neighbours on the machine;
each ratio is of two blocks side by side. `--compile` sets the compiled network beside the one that is not, in minutes.
"""

import argparse
import functools
import os
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from bench.curve_demo import CurveLoop, curve_data, curve_module, curve_settings, float_pairs, plain_twin
from bench.plain_curves import PlainLoop
from bench.record import Record, run_benchmark
from projects.spectra.module import SpectraRegressor

WIDTHS = (0.25, 0.5)
BLOCKS, BLOCK_STEPS = 8, 2
PREDICT_BATCH, SINGLE_CALLS = 128, 100
CPU = torch.device("cpu")

Loop = CurveLoop | PlainLoop


def measure(record: Record, compiled: bool) -> None:
    """Each width in turn."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for width in WIDTHS:
        measure_width(record, width, compiled)


def measure_width(record: Record, width: float, compiled: bool) -> None:
    """Training beside the plain loop, then predicting."""
    settings = curve_settings(f"model.parameters.width={width}")
    datamodule = curve_data(settings)
    module, data = curve_module(settings, datamodule), float_pairs(datamodule)
    plain = plain_twin(module, data)
    size, threads = datamodule.batch_size, torch.get_num_threads()
    where = f"width {width:g}, {threads} threads"
    measure_predicting(record, where, module, plain, torch.from_numpy(data.image[:PREDICT_BATCH]))
    loops: list[Loop] = [CurveLoop(module, datamodule, settings, CPU, autocast=False)]
    loops.append(PlainLoop(plain, data, size, CPU, autocast=False))
    if compiled:
        other = curve_settings(f"model.parameters.width={width}", "model.compile=true")
        loops.append(CurveLoop(curve_module(other, datamodule), datamodule, other, CPU, autocast=False))
    wall, processor = in_turns(loops)
    record.add_samples(f"training, {where}", list(size * BLOCK_STEPS / wall[:, 0]), "samples/s")
    record.add_samples(f"training by hand, {where}", list(size * BLOCK_STEPS / wall[:, 1]), "samples/s")
    record.add_samples(f"training: speed / by hand, {where}", list(wall[:, 1] / wall[:, 0]), "ratio")
    name = f"training: processor time by hand / ours, {where}"
    record.add_samples(name, list(processor[:, 1] / processor[:, 0]), "ratio")
    if compiled:
        record.add_samples(f"training: speed compiled / not, {where}", list(wall[:, 0] / wall[:, 2]), "ratio")


def in_turns(loops: Sequence[Loop]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and seconds of the processor, (blocks, loops) each; a block before them warms up."""
    wall, processor = np.empty((2, BLOCKS + 1, len(loops)))
    for block in range(BLOCKS + 1):
        for number, loop in enumerate(loops):
            began = time.process_time()
            wall[block, number] = loop.run(BLOCK_STEPS)
            processor[block, number] = time.process_time() - began
    return wall[1:], processor[1:]


@torch.inference_mode()
def measure_predicting(
    record: Record, where: str, module: SpectraRegressor, plain: torch.nn.Module, image: torch.Tensor
) -> None:
    """Structures a second of a batch, beside the plain network; and how long the answer to one takes."""
    ours, theirs = module.network.eval(), plain.eval()
    pairs = np.array([[seconds(ours, image), seconds(theirs, image)] for _ in range(BLOCKS + 1)])[1:]
    batch = f"predicting, batch of {len(image)}"
    record.add_samples(f"{batch}, {where}", list(len(image) / pairs[:, 0]), "structures/s")
    record.add_samples(f"{batch}: speed / plain, {where}", list(pairs[:, 1] / pairs[:, 0]), "ratio")
    single = [1000 * seconds(ours, image[:1]) for _ in range(SINGLE_CALLS + 5)][5:]
    for share in (50, 95):
        record.add(f"predicting one structure, p{share}, {where}", float(np.percentile(single, share)), "ms")


def seconds(function: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> float:
    """Of one call."""
    began = time.perf_counter()
    function(image)
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--compile", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    run_benchmark("bench_curve_training", functools.partial(measure, compiled=options.compile), rest)


if __name__ == "__main__":
    main()
