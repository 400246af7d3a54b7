"""`python -m projects.pillsnap.export RUN`: a finished run as certified ONNX files, in RUN/export."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.evaluation.procedure import NONE_OF_THESE_FILE
from projects.pillsnap.evaluation.run_access import OpenedRun, class_labels, open_run
from projects.pillsnap.onnx_export.description import FORMS, UNFITTED, pill_classes
from projects.pillsnap.onnx_export.export_model import SERVED_FILE, Photos, Source, export_model
from projects.pillsnap.onnx_export.pages import markdown
from projects.pillsnap.onnx_export.variants import VARIANTS
from shared.atomic import write_json, write_text
from shared.entry import exit_codes
from shared.errors import ConfigError, DataError
from shared.session import progress_bars

DEFAULT_RUN = "outputs/pillsnap/latest"
USES = {"train": "fit", "val": "select", "accept": "accept", "test": "test"}
"""Folds that an export reads, and what for: 8-bit ranges, the way to 8 bits, the certificates, the report."""

_RAW = 20  # photos that are also put in as they were decoded


def fold_photos(opened: OpenedRun, fold: str, most: int) -> Photos:
    """Photos of a fold, evenly spread over it, after the ledger has recorded the use.

    Args:
        opened: The run.
        fold: A key of `USES`.
        most: Photos at most, >= 1.

    Raises:
        DataError: If the fold has none, or a photo cannot be read.
    """
    rows = opened.datamodule.rows(fold)
    if not len(rows):
        raise DataError(f"fold {fold} has no photos, so nothing can be exported from it: check data.shares")
    opened.ledger.record(USES[fold], fold, "export")
    kept = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64))]
    square = opened.datamodule.preprocess.square
    squares = np.stack([square(opened.datamodule.photo(int(row))) for row in kept])
    raw = [opened.datamodule.photo(int(row)) for row in kept[:_RAW]]
    return Photos(squares, opened.datamodule.index.label[kept].astype(np.int64), raw)


def none_of_these_of(opened: OpenedRun) -> tuple[NoneOfThese, str]:
    """The head of the open set that the evaluation fitted for this very network, and a sentence about it.

    Without an evaluation, or with one whose data held no other pills, it is `UNFITTED`, and the sentence says so.

    Raises:
        DataError: If the file is damaged or was fitted for another network.
    """
    path = opened.folder / NONE_OF_THESE_FILE
    if not path.is_file():
        return UNFITTED, f"'None of these' is NOT fitted and never decides: {_why_unfitted(opened)}."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        fitted, of = NoneOfThese.from_dict(content), content["final_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be used ({error}); run projects.pillsnap.evaluate again") from error
    if of != opened.final_sha256:
        raise DataError(
            f"{path} was fitted for the weights {str(of)[:12]}, the run's are {opened.final_sha256[:12]}; run "
            "projects.pillsnap.evaluate again"
        )
    return fitted, f"'None of these': {fitted.score}, decided above {fitted.threshold:.3f}."


def _why_unfitted(opened: OpenedRun) -> str:
    """What the evaluation, if there is one, says about the head that it did not fit."""
    path = opened.folder / "evaluation.json"
    if not path.is_file():
        return "the run has no evaluation; run projects.pillsnap.evaluate first"
    return str(json.loads(path.read_text(encoding="utf-8")).get("open_set_missing", f"{path} has no word on it"))


def export_run(path: Path, options: argparse.Namespace, console: Console) -> tuple[Path, dict[str, Any]]:
    """Export a finished run.

    Args:
        path: Run directory or a link to it.
        options: variants, images, calibration_images, threads, rounds, form.
        console: Where the progress is shown.

    Returns:
        The folder, and the content of export.json.

    Raises:
        UserError: One sentence on what must change, see `open_run`, `fold_photos`, `none_of_these_of`.
    """
    with progress_bars(console) as progress:
        opened = open_run(path, progress)
    none_of_these, about = none_of_these_of(opened)
    datamodule, loaded = opened.datamodule, opened.loaded
    source = Source(
        network=opened.module.network.eval(),
        calibrator=None if loaded.calibrator is None else loaded.calibrator.module,
        preprocess=datamodule.preprocess,
        classes=pill_classes(datamodule.index.classes, class_labels(datamodule)),
        none_of_these=none_of_these,
        run=loaded.run.path.name,
        final_sha256=opened.final_sha256,
    )
    photos = {
        fold: fold_photos(opened, fold, options.calibration_images if fold == "train" else options.images)
        for fold in USES
    }
    folder = loaded.run.path / "export"
    content = export_model(
        source, folder, **photos, variants=options.variants, form=options.form, threads=options.threads,
        rounds=options.rounds, say=lambda sentence: console.print(sentence, highlight=False),
    )  # fmt: skip
    content |= {"none_of_these": about, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    write_json(folder / "export.json", content)
    write_text(folder / "export.md", markdown(content))
    return folder, content


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.pillsnap.export", description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=Path(DEFAULT_RUN), help="run directory (%(default)s)")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="comma-separated (%(default)s)")
    parser.add_argument("--images", type=int, default=500, help="photos of val, accept and test each (%(default)s)")
    parser.add_argument(
        "--calibration-images", type=int, default=128, help="photos of train for 8-bit ranges (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of the timing (%(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="timed calls of each variant (%(default)s)")
    parser.add_argument("--form", choices=FORMS, default="photo", help="photo: all in one file (%(default)s)")
    options = parser.parse_args(argv)
    with exit_codes():
        _check(options)
        folder, content = export_run(options.run, options, Console(file=sys.stderr))
    print(markdown(content))
    for row in content["variants"]:
        if not row["within"]:
            reasons = "; ".join(row["reasons_against"])
            print(f"warning: no server takes {row['variant']}: {reasons}", file=sys.stderr)
    print(f"export: {folder}", flush=True)
    if content["served"] is None:
        print(f"error: no variant is within its tolerance, so {folder / SERVED_FILE} is not written", file=sys.stderr)
        raise SystemExit(1)


def _check(options: argparse.Namespace) -> None:
    """Refuse options before a run is opened.

    Raises:
        ConfigError: If a value is not allowed.
    """
    options.variants = [name for name in options.variants.split(",") if name]
    unknown = [name for name in options.variants if name not in VARIANTS]
    if unknown or not options.variants:
        raise ConfigError(f"--variants is {','.join(options.variants)!r}, allowed: some of {','.join(VARIANTS)}")
    for key in ("images", "calibration_images", "threads", "rounds"):
        if getattr(options, key) < 1:
            raise ConfigError(f"--{key.replace('_', '-')} is {getattr(options, key)}, allowed: 1 or more")


if __name__ == "__main__":
    main()
