"""Size and time of the pill network's forms: float32, weights in float16, 8 bits, a smaller input, the whole chain.

tf_efficientnetv2_s with 100 classes and random weights, batch 1; how the answers suffer is measured by the export of a
trained run, not here. All forms with the same number of threads are timed in turns, one call each a round, and compared
with the first of their table in the same round. The whole chain takes a photo of 512 x 512 uint8 to probabilities.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from bench.record import Record, run_benchmark
from projects.pillsnap.models import build_network
from projects.pillsnap.onnx_export.assemble import assemble, save_model
from projects.pillsnap.onnx_export.description import UNFITTED, ModelDescription, pill_classes
from projects.pillsnap.onnx_export.network import calibration_model, describe_calibration, network_model
from projects.pillsnap.onnx_export.quantise import quantise
from projects.pillsnap.onnx_export.ranges import choose_ranges, collect_values
from projects.pillsnap.onnx_export.speed import time_in_turns
from projects.pillsnap.onnx_export.variants import halve
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.served_model import session_options

BACKBONE, CLASSES = "tf_efficientnetv2_s", 100
SIZE_PX, SMALL_PX = 512, 384
CALIBRATION_PHOTOS = 4
ROUNDS = 21


def noise_photos(count: int, size_px: int) -> np.ndarray:
    """Smooth coloured noise, (count, S, S, 3) uint8: what the network computes on it takes as long as on a photo."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, size_px // 16, size_px // 16, 3))
    fine = rng.integers(-20, 21, (count, size_px, size_px, 3))
    return np.clip(np.kron(coarse, np.ones((1, 16, 16, 1), np.int64)) + fine, 0, 255).astype(np.uint8)


def networks(size_px: int) -> dict[str, onnx.ModelProto]:
    """The network in float32, with float16 weights and in 8 bits."""
    torch.manual_seed(0)
    plain = network_model(build_network("timm", num_classes=CLASSES, backbone=BACKBONE), size_px)
    preprocess = UnifiedPreprocessor(size_px=size_px)
    pixels = [preprocess(photo[None]) for photo in noise_photos(CALIBRATION_PHOTOS, size_px)]
    ranges = choose_ranges(plain, collect_values(plain, pixels, len(pixels)), "minmax")
    return {"fp32": plain, "fp16": halve(plain), "int8": quantise(plain, ranges)}


def call(path: Path, threads: int, given: np.ndarray) -> Callable[[], object]:
    """One call of a model file."""
    session = ort.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: given})


def chain(network: onnx.ModelProto, variant: str, size_px: int) -> onnx.ModelProto:
    """The whole file around a network."""
    preprocess = UnifiedPreprocessor(size_px=size_px)
    names = [str(number) for number in range(CLASSES)]
    description = ModelDescription(
        form="photo", classes=pill_classes(names, names), preprocessing=preprocess.get_config(),
        preprocessing_digest=preprocess.digest(), calibration=describe_calibration(None), none_of_these=UNFITTED,
        version="bench", run="bench", variant=variant,
    )  # fmt: skip
    return assemble(network, calibration_model(None, CLASSES), description)


def write_files(folder: Path) -> dict[str, Path]:
    """All models as files, by what they are."""
    files = {}
    for size_px in (SIZE_PX, SMALL_PX):
        for variant, network in networks(size_px).items():
            if size_px == SMALL_PX and variant == "fp16":
                continue
            files[f"network {variant} {size_px}"] = save_model(network, folder / f"network_{variant}_{size_px}.onnx")
            if size_px == SIZE_PX and variant != "fp16":
                whole = chain(network, variant, size_px)
                files[f"chain {variant} {size_px}"] = save_model(whole, folder / f"chain_{variant}.onnx")
    return files


def compare(record: Record, what: str, calls: dict[str, Callable[[], object]]) -> None:
    """Time calls in turns, keep the medians and the shares of the first one's time."""
    found = time_in_turns(calls, ROUNDS)
    first = np.array(next(iter(found.values()))["samples_ms"])
    for name, row in found.items():
        record.add_samples(f"{name}, {what}", row["samples_ms"], "ms")
        record.add(f"{name}, {what}, 95th percentile", row["p95_ms"], "ms")
        record.add_samples(f"{name} / first, {what}", np.array(row["samples_ms"]) / first, "ratio")


def measure(record: Record) -> None:
    """Sizes, the networks with one and two threads, then the chains."""
    preprocess = UnifiedPreprocessor(size_px=SIZE_PX)
    photo = noise_photos(1, SIZE_PX)
    pixels = {
        size_px: UnifiedPreprocessor(size_px=size_px)(noise_photos(1, size_px)) for size_px in (SIZE_PX, SMALL_PX)
    }
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder))
        for name, path in files.items():
            record.add(f"{name}: file", path.stat().st_size / 1e6, "MB")
        for threads in (1, 2):
            bare = {
                name: call(path, threads, pixels[int(name.split()[-1])])
                for name, path in files.items()
                if name.startswith("network")
            }
            compare(record, f"{threads} thread(s)", bare)
            whole = {name: call(path, threads, photo) for name, path in files.items() if name.startswith("chain")}
            outside = call(files[f"network fp32 {SIZE_PX}"], threads, pixels[SIZE_PX])
            whole["preprocessor, then network fp32"] = lambda outside=outside: (preprocess(photo), outside())
            whole["preprocessor alone"] = lambda: preprocess(photo)
            compare(record, f"{threads} thread(s)", whole)


if __name__ == "__main__":
    run_benchmark("bench_pill_variants", measure)
