"""Write, test, time and certify all variants of one network; needs no run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.onnx_export.assemble import assemble, save_model
from projects.pillsnap.onnx_export.certificate import write_certificate
from projects.pillsnap.onnx_export.description import ModelDescription, PillClass
from projects.pillsnap.onnx_export.network import calibration_model, describe_calibration, network_model
from projects.pillsnap.onnx_export.parity import BATCHES, Outputs, compare, file_outputs, grey_levels, torch_outputs
from projects.pillsnap.onnx_export.speed import time_in_turns
from projects.pillsnap.onnx_export.variants import VARIANTS, Variant, halve, quantised_variant
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.served_model import session_options
from shared.atomic import write_bytes
from shared.calibrators import Calibrator

Squares = NDArray[np.uint8]

TOLERANCES = {
    "fp32": {"max_abs_probability": 1e-3, "top1_agreement": 0.99, "accuracy_loss": 0.005},
    "fp16": {"max_abs_probability": 0.05, "top1_agreement": 0.99, "accuracy_loss": 0.005},
    "int8": {"max_abs_probability": 1.0, "top1_agreement": 0.99, "accuracy_loss": 0.005},
}
"""What a variant must keep to on the photos it is tested with; 8 bits may shift a probability, not the answers."""

GREY_LEVELS = 1
"""Allowed difference of the preprocessing in the file from the preprocessor, on squares of the right size."""

_WORTHWHILE = 0.9  # share of float32's time that a variant must undercut to be served in its place


@dataclass(frozen=True)
class Photos:
    """Photos of one fold.

    Attributes:
        squares: (N, S, S, 3) uint8, cut and resized by the preprocessor.
        target: (N,) int64.
        raw: A few of them as they were decoded, of any size.
    """

    squares: Squares
    target: NDArray[np.int64]
    raw: Sequence[Squares] = ()


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        network: From (N, 3, S, S) to logits (N, K), in evaluation mode, on the CPU.
        calibrator: Behind it, None for none.
        preprocess: What it was trained on.
        classes: K classes in the order of the logits.
        none_of_these: Head of the open set.
        run: Name of the run.
        final_sha256: Of weights and calibrator.
    """

    network: nn.Module
    calibrator: Calibrator | None
    preprocess: UnifiedPreprocessor
    classes: tuple[PillClass, ...]
    none_of_these: NoneOfThese
    run: str
    final_sha256: str

    def outputs(self, squares: Squares) -> Outputs:
        """The PyTorch path."""
        return torch_outputs(self.network, self.calibrator, self.none_of_these, self.preprocess, squares)


def export_model(
    source: Source,
    folder: Path,
    *,
    train: Photos,
    val: Photos,
    test: Photos | None = None,
    variants: Sequence[str] = VARIANTS,
    form: str = "photo",
    threads: int = 1,
    rounds: int = 30,
    say: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Write `model_<variant>.onnx` and its certificate for each variant, and `model.onnx`, the one to be served.

    Served is the fastest of those that keep to their tolerances on val, if it takes at most 0.9 of float32's time.

    Args:
        source: The network and what belongs to it.
        folder: Where the files go.
        train: Photos from which 8-bit ranges are taken.
        val: Photos for the tests and the choice.
        test: Photos on which the table is repeated; nothing is chosen on them.
        variants: Some of `VARIANTS`; "fp32" is always made.
        form: "photo" or "pixels", see `ModelDescription`.
        threads: For the timing.
        rounds: Timed calls of each variant.
        say: Shown what is being done.

    Returns:
        Content of export.json, without date and command.

    Raises:
        ValueError: On an unknown variant.
    """
    unknown = sorted(set(variants) - set(VARIANTS))
    if unknown:
        raise ValueError(f"variants are {', '.join(variants)}, allowed: {', '.join(VARIANTS)}")
    say("writing the network down")
    network = network_model(source.network, source.preprocess.size_px)
    calibration = calibration_model(source.calibrator, len(source.classes))
    agreement = _preprocessing_agreement(source.preprocess, val, form)
    folds = {"val": val} | ({} if test is None else {"test": test})
    expected = {fold: source.outputs(photos.squares) for fold, photos in folds.items()}
    rows = []
    for name in [variant for variant in VARIANTS if variant in (*variants, "fp32")]:
        say(f"making {name}")
        rows.append(
            _made(source, name, network, calibration, folder, {"train": train, **folds}, expected, agreement, form)
        )
    say("timing")
    speed = _time(folder, rows, network, source.preprocess, val.squares[:1], threads, rounds)
    for row in rows:
        row["chain"] = speed[row["variant"]]
    chosen = choose(rows)
    _certify(_copied(folder / chosen["file"], folder / "model.onnx"), source, chosen, agreement)
    return {
        "run": source.run, "final_sha256": source.final_sha256, "form": form, "size_px": source.preprocess.size_px,
        "threads": threads, "rounds": rounds, "served": chosen["variant"], "preprocessing_agreement": agreement,
        "chain_with_preprocessor_outside": speed["outside"], "preprocessor_alone": speed["preprocessor"],
        "variants": rows, "versions": _versions(),
    }  # fmt: skip


def _made(
    source: Source, name: str, network: onnx.ModelProto, calibration: onnx.ModelProto, folder: Path,
    folds: dict[str, Photos], expected: dict[str, Outputs], agreement: dict[str, Any], form: str,
) -> dict[str, Any]:  # fmt: skip
    """Write, test and certify one variant; its row of the report."""
    variant = _variant(name, network, source.preprocess, folds["train"], folds["val"])
    model = assemble(variant.model, calibration, _describe(source, name, form))
    path = save_model(model, folder / f"model_{name}.onnx")
    session = _session(path, 1)
    row: dict[str, Any] = {"variant": name, "file": path.name, "bytes": path.stat().st_size, **variant.notes}
    row |= {fold: _measure(session, source, folds[fold], expected[fold]) for fold in expected}
    row["within"] = _within(row["val"], agreement, TOLERANCES[name])
    _certify(path, source, row, agreement)
    return row


def choose(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of the variant to be served: the fastest within its tolerances, float32 if none is worth the change."""
    fits = [row for row in rows if row["within"] and row["chain"]["ratio"] <= _WORTHWHILE]
    return min(fits, key=lambda row: row["chain"]["ratio"], default=rows[0])


def _variant(
    name: str, network: onnx.ModelProto, preprocess: UnifiedPreprocessor, train: Photos, val: Photos
) -> Variant:
    if name == "fp32":
        return Variant(network)
    if name == "fp16":
        return Variant(halve(network))
    calibration, choice = (
        [preprocess(fold.squares[i : i + 4]) for i in range(0, len(fold.squares), 4)] for fold in (train, val)
    )
    found = quantised_variant(network, calibration, choice, least_agreement=TOLERANCES[name]["top1_agreement"])
    return replace(found, notes={"quantisation": found.notes})


def _describe(source: Source, variant: str, form: str) -> ModelDescription:
    return ModelDescription(
        form=form, classes=source.classes, preprocessing=source.preprocess.get_config(),
        preprocessing_digest=source.preprocess.digest(), calibration=describe_calibration(source.calibrator),
        none_of_these=source.none_of_these, version=f"{source.run}-{source.final_sha256[:8]}", run=source.run,
        variant=variant,
    )  # fmt: skip


def _session(path: Path, threads: int) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])


def _preprocessing_agreement(preprocess: UnifiedPreprocessor, val: Photos, form: str) -> dict[str, Any]:
    """Of the squares, which must agree; of photos of other sizes for information, since CLAHE can widen a rounding."""
    if form == "pixels":
        return {"images": 0, "max_grey_levels": 0, "tolerance": GREY_LEVELS, "inside": False}
    found = grey_levels(preprocess, list(val.squares[:50]))
    resized = [photo for photo in val.raw if photo.shape != val.squares.shape[1:]]
    return {
        **found, "tolerance": GREY_LEVELS, "inside": True,
        "resized_in_file": grey_levels(preprocess, resized) if resized else None,
    }  # fmt: skip


def _measure(session: ort.InferenceSession, source: Source, photos: Photos, expected: Outputs) -> dict[str, Any]:
    """Agreement with PyTorch at every batch size, the worst of them, and the accuracy of both."""
    found = [file_outputs(session, source.preprocess, photos.squares, batch) for batch in BATCHES]
    by_batch = [compare(expected, one) for one in found]
    worst = {key: (min if key == "top1_agreement" else max)(one[key] for one in by_batch) for key in by_batch[0]}
    accuracy, before = found[0].accuracy(photos.target), expected.accuracy(photos.target)
    return {
        **worst, "batches": list(BATCHES), "accuracy": accuracy, "pytorch_accuracy": before,
        "accuracy_loss": before - accuracy,
    }  # fmt: skip


def _within(measured: dict[str, Any], preprocessing: dict[str, Any], tolerances: dict[str, float]) -> bool:
    return bool(
        measured["max_abs_probability"] <= tolerances["max_abs_probability"]
        and measured["top1_agreement"] >= tolerances["top1_agreement"]
        and measured["accuracy_loss"] <= tolerances["accuracy_loss"]
        and preprocessing["max_grey_levels"] <= preprocessing["tolerance"]
    )


def _copied(path: Path, to: Path) -> Path:
    write_bytes(to, path.read_bytes())
    return to


def _certify(path: Path, source: Source, row: dict[str, Any], agreement: dict[str, Any]) -> Path:
    return write_certificate(
        path, source={"run": source.run, "final_sha256": source.final_sha256},
        preprocessing_digest=source.preprocess.digest(), versions=_versions(), provider="CPUExecutionProvider",
        preprocessing_agreement=agreement,
        network_agreement={**row["val"], "fold": "val", "tolerances": TOLERANCES[row["variant"]]}, passed=row["within"],
    )  # fmt: skip


def _time(
    folder: Path, rows: Sequence[dict[str, Any]], network: onnx.ModelProto, preprocess: UnifiedPreprocessor,
    photo: Squares, threads: int, rounds: int,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Photo to probabilities: each variant, float32 with the preprocessor outside, and the preprocessor alone."""
    bare = ort.InferenceSession(
        network.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    calls: dict[str, Callable[[], object]] = {}
    for row in rows:
        session = _session(folder / row["file"], threads)
        calls[row["variant"]] = _call(session, preprocess, photo)
    calls["outside"] = lambda: bare.run(None, {"pixels": preprocess(photo)})
    calls["preprocessor"] = lambda: preprocess(photo)
    return {
        name: {k: v for k, v in found.items() if k != "samples_ms"}
        for name, found in time_in_turns(calls, rounds).items()
    }


def _call(session: ort.InferenceSession, preprocess: UnifiedPreprocessor, photo: Squares) -> Callable[[], object]:
    return lambda: file_outputs(session, preprocess, photo, 1)


def _versions() -> dict[str, str]:
    return {
        "onnxruntime": ort.__version__,
        "onnx": onnx.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
