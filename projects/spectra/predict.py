"""`python -m projects.spectra.predict STRUCT.npy OUT.npy [--run RUN]`: the curves of structures, by a finished run."""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from rich.console import Console

from projects.spectra.data.npy_file import NpyFile, open_npy
from projects.spectra.module import SpectraRegressor
from shared.atomic import replacing
from shared.entry import exit_codes
from shared.errors import CheckpointError, ConfigError, DataError
from shared.loading import LoadedRun, load_run
from shared.session import progress_bars

DEFAULT_RUN = "outputs/spectra/latest"
CHUNK = 2048
"""Structures that are read and checked at once: 34 MB at 128 x 128."""


def open_structures(path: Path, side: int) -> NpyFile:
    """Check a structure file by its header.

    Args:
        path: .npy file of (N, 1, side, side) bool or integer, two levels: 0 and 1, or 0 and 255.
        side: What the network was trained on, in pixels.

    Raises:
        DataError: If the file is missing, damaged, cut off, empty, or of another shape or type.
    """
    file = open_npy(path)
    if file.shape[1:] != (1, side, side) or not len(file):
        raise DataError(f"{path} has shape {file.shape}; this run needs structures (N, 1, {side}, {side}), N >= 1.")
    if file.dtype.kind not in "bui":
        raise DataError(f"{path} holds {file.dtype}; structures must be uint8 (bool and other integers will do).")
    return file


def count_asymmetric(file: NpyFile) -> int:
    """Check every pixel of a structure file and count the patterns that are not symmetric about the main diagonal.

    Raises:
        DataError: If a value is neither 0 nor the file's one other level, which must be 1 or 255.
    """
    high: int | None = None
    asymmetric = 0
    for start in range(0, len(file), CHUNK):
        values = file.rows(start, min(start + CHUNK, len(file)))[:, 0]
        levels = {int(value) for value in np.unique(values)}
        others = levels - {0} | ({high} if high is not None else set())
        if len(others) > 1 or not others <= {1, 255}:
            shown = ", ".join(str(value) for value in sorted(levels | others)[:6])
            raise DataError(
                f"{file.path} holds the values {shown} in or before rows {start} to {start + len(values) - 1}; "
                "allowed are 0 and 1, or 0 and 255, in the whole file."
            )
        high = next(iter(others), None)
        asymmetric += int((values != values.swapaxes(1, 2)).any(axis=(1, 2)).sum())
    return asymmetric


def load_regressor(path: Path) -> tuple[LoadedRun, SpectraRegressor]:
    """The final network of a finished run of this project.

    Raises:
        ConfigError: If the folder is not a run directory.
        CheckpointError: If the run is not finished, or its network is of another project.
    """
    loaded = load_run(path)
    if not isinstance(loaded.module, SpectraRegressor):
        raise CheckpointError(f"{path} holds a {type(loaded.module).__name__}, allowed: runs of the spectra project")
    return loaded, loaded.module


def predict_file(loaded: LoadedRun, file: NpyFile, out: Path, batch_size: int, console: Console) -> float:
    """Write the curves of all structures of a file, (N, *output_shape) float32; `out` appears whole or not at all.

    Args:
        loaded: The run.
        file: Structures that have passed `open_structures` and `count_asymmetric`.
        out: File to write.
        batch_size: Structures in one pass, >= 1.
        console: Where the progress is shown.

    Returns:
        Seconds of the network alone, without reading and writing.

    Raises:
        OSError: If `out` cannot be written.
    """
    shape = (len(file), *loaded.module.hparams["output_shape"])
    seconds = 0.0
    with replacing(out) as temporary, progress_bars(console) as advance:
        curves = open_memmap(temporary, "w+", np.float32, shape)
        for start in range(0, len(file), batch_size):
            stop = min(start + batch_size, len(file))
            image = torch.from_numpy((file.rows(start, stop) != 0).astype(np.uint8))
            began = time.perf_counter()
            predicted = loaded.predict({"image": image})
            seconds += time.perf_counter() - began
            curves[start:stop] = predicted.numpy()
            advance("structures", stop, len(file))
        curves.flush()
        del curves
    return seconds


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.spectra.predict", description=__doc__)
    parser.add_argument("structures", type=Path, help=".npy of (N, 1, S, S), values 0 and 1 or 0 and 255")
    parser.add_argument("out", type=Path, help=".npy to write: (N, *output_shape) float32, positive power")
    parser.add_argument("--run", type=Path, default=Path(DEFAULT_RUN), help="run directory (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, help="structures in one pass (%(default)s)")
    given = parser.parse_args(argv)
    with exit_codes():
        _predict(given.structures, given.out, given.run, given.batch_size)


def _predict(structures: Path, out: Path, run: Path, batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"--batch-size is {batch_size}, allowed: 1 or more")
    if out.suffix != ".npy":
        raise ConfigError(f"the output is {out}, allowed: a file name that ends in .npy")
    if out.resolve() == structures.resolve():
        raise ConfigError(f"{out} is the structure file itself; give another name for the output")
    loaded, module = load_regressor(run)
    file = open_structures(structures, int(module.hparams["image_side_px"]))
    asymmetric = count_asymmetric(file)
    if asymmetric:
        print(
            f"warning: {asymmetric} of {len(file)} patterns are not symmetric about the main diagonal; a network that "
            "has seen symmetric ones only may be wrong about them",
            file=sys.stderr,
        )
    try:
        seconds = predict_file(loaded, file, out, batch_size, Console(stderr=True))
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error}).") from error
    values = module.axis["values"]
    print(f"run: {loaded.run.path}")
    print(f"channels: {', '.join(module.channels)}")
    print(f"{module.axis['name']}: {len(values)} points, {values[0]:g} to {values[-1]:g} {module.axis['unit']}")
    print(f"{len(file):,} structures, {1000 * seconds / len(file):.3g} ms each in the network")
    print(f"predictions: {out}", flush=True)


if __name__ == "__main__":
    main()
