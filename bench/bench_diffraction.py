"""What a stand-in row costs on one core: its pattern, its 301 wavelengths by the fast form, and by plain transforms.

The plain form is that of the tests: one Fourier transform and its inverse a wavelength, in double precision. Both are
timed in turn over patterns of 128 px, in processor time, which a busy machine changes little. The whole set is timed in
wall time: drawn, diffracted, written and checked, with one process and with two.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from bench.record import Record, run_benchmark
from projects.spectra.standin import StandinConfig, generate_standin
from projects.spectra.standin.config import WAVELENGTHS_NM
from projects.spectra.standin.diffraction import quadrant_power, quadrant_power_reference
from projects.spectra.standin.patterns import random_patterns

ROUNDS, BATCH, PLAIN_BATCH = 7, 256, 2  # the plain form needs more than a second for two patterns
SET_SAMPLES, WHOLE_SET = 5000, 100_000


def measure(record: Record) -> None:
    """Pattern and both forms in turn, then whole sets."""
    config = StandinConfig(num_samples=SET_SAMPLES)
    patterns = random_patterns(0, 0, BATCH, config)
    quadrant_power(patterns, config, WAVELENGTHS_NM)  # the tables of the physics are made once
    rounds: dict[str, list[float]] = {"pattern": [], "fast form": [], "plain transforms": []}
    with threadpool_limits(1):
        for number in range(ROUNDS):
            first = number * BATCH
            rounds["pattern"].append(sample_ms(random_patterns, BATCH, 0, first, BATCH, config))
            rounds["fast form"].append(sample_ms(quadrant_power, BATCH, patterns, config, WAVELENGTHS_NM))
            few = patterns[:PLAIN_BATCH]
            plain = sample_ms(quadrant_power_reference, PLAIN_BATCH, few, config, WAVELENGTHS_NM)
            rounds["plain transforms"].append(plain)
    for name, values in rounds.items():
        record.add_samples(f"{name}, one core", values, "ms/structure")
    record.add_samples("fast form: speed, one core", [1000 / value for value in rounds["fast form"]], "structures/s")
    ratios = [plain / fast for plain, fast in zip(rounds["plain transforms"], rounds["fast form"], strict=True)]
    record.add_samples("fast form: speed / plain transforms", ratios, "ratio")
    for workers in (1, 2):
        measure_set(record, config, workers)


def sample_ms(function: Callable[..., Any], samples: int, *arguments: Any) -> float:
    """Milliseconds of processor time a sample."""
    began = time.process_time()
    function(*arguments)
    return 1000 * (time.process_time() - began) / samples


def measure_set(record: Record, config: StandinConfig, workers: int) -> None:
    """A set from nothing to its marker, and the rows a second between its first block and its last."""
    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        root = Path(folder) / "set"
        generate_standin(
            root, config, workers=workers, on_progress=lambda done, _: seen.append((time.perf_counter(), done))
        )
        record.add(f"{workers} processes: {SET_SAMPLES} rows on disk", time.perf_counter() - began, "s")
    (first_time, first_done), (last_time, last_done) = seen[1], seen[-1]
    speed = (last_done - first_done) / (last_time - first_time)
    record.add(f"{workers} processes: rows once all run", speed, "rows/s")
    record.add(f"{workers} processes: {WHOLE_SET} rows would take", (first_time - began) + WHOLE_SET / speed, "s")


if __name__ == "__main__":
    run_benchmark("bench_diffraction", measure)
