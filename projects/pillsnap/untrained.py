"""`python -m projects.pillsnap.untrained OUT`: a certified model file with random weights, to try server and page with.

Its version begins with "untrained", which the page shows in words: the answers mean nothing.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from projects.pillsnap.models import build_network
from projects.pillsnap.onnx_export.description import UNFITTED, pill_classes
from projects.pillsnap.onnx_export.export_model import SERVED_FILE, Photos, Source, export_model
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.standin import StandinConfig, render_photo
from projects.pillsnap.standin.drugs import plan_drugs
from shared.entry import exit_codes

RUN = "untrained"
NUM_PHOTOS = 4
SIZE_PX = 128


def write_untrained(folder: Path, console: Console) -> Path:
    """Export a small network with seeded random weights over the stand-in's hundred drugs.

    Args:
        folder: Where model.onnx and its certificate go.
        console: Where it is said what is being done.

    Returns:
        Path of model.onnx.
    """
    config = StandinConfig(size_px=SIZE_PX)
    drugs = plan_drugs(config).known
    preprocess = UnifiedPreprocessor(size_px=SIZE_PX)
    torch.manual_seed(0)
    network = build_network("timm", num_classes=len(drugs), backbone="resnet10t", dropout=0.0, drop_path_rate=0.0)
    source = Source(
        network=network.eval(),
        calibrator=None,
        preprocess=preprocess,
        classes=pill_classes([drug.kcode for drug in drugs], [drug.name for drug in drugs]),
        none_of_these=UNFITTED,
        run=RUN,
        final_sha256="0" * 64,
    )
    squares = np.stack(
        [preprocess.square(render_photo(config, "studio", drug.kcode, "s00", 0)) for drug in drugs[:NUM_PHOTOS]]
    )
    photos = Photos(squares, np.arange(NUM_PHOTOS, dtype=np.int64))
    export_model(
        source, folder, train=photos, val=photos, accept=photos, variants=("fp32",), rounds=1, say=console.print
    )
    return folder / SERVED_FILE


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.pillsnap.untrained", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the model file")
    options = parser.parse_args(argv)
    with exit_codes():
        path = write_untrained(options.out, Console(file=sys.stderr))
    print(f"model: {path}", flush=True)


if __name__ == "__main__":
    main()
