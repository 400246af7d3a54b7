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
from projects.pillsnap.onnx_export.certificate import remove_pair, write_certificate
from projects.pillsnap.onnx_export.description import ModelDescription, PillClass
from projects.pillsnap.onnx_export.judgement import (
    GREY_LEVELS,
    JUDGED_ON,
    TOLERANCES,
    agreement_lower_bound,
    reasons_against,
)
from projects.pillsnap.onnx_export.network import calibration_model, describe_calibration, network_model
from projects.pillsnap.onnx_export.parity import BATCHES, Outputs, compare, file_outputs, grey_levels, torch_outputs
from projects.pillsnap.onnx_export.speed import time_in_turns
from projects.pillsnap.onnx_export.variants import VARIANTS, Variant, halve, quantised_variant
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.served_model import session_options
from shared.atomic import write_bytes
from shared.calibrators import Calibrator

Squares = NDArray[np.uint8]

SERVED_FILE = "model.onnx"
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


@dataclass(frozen=True)
class _Job:
    """What all variants of one export have in common.

    Attributes:
        source: The network and what belongs to it.
        folder: Where the files go.
        form: See `ModelDescription`.
        network: From `pixels` to `logits`, float32.
        calibration: From `logits` to `calibrated`.
        photos: By fold: train, val, accept and, where it is given, test.
        expected: What PyTorch says about the folds that are measured.
        preprocessing: Agreement of the preprocessing in the file.
    """

    source: Source
    folder: Path
    form: str
    network: onnx.ModelProto
    calibration: onnx.ModelProto
    photos: dict[str, Photos]
    expected: dict[str, Outputs]
    preprocessing: dict[str, Any]

    @classmethod
    def prepare(cls, source: Source, folder: Path, form: str, photos: dict[str, Photos]) -> "_Job":
        """Write the network down and ask PyTorch."""
        return cls(
            source, folder, form, network_model(source.network, source.preprocess.size_px),
            calibration_model(source.calibrator, len(source.classes)), photos,
            {fold: source.outputs(photos[fold].squares) for fold in (JUDGED_ON, "test") if fold in photos},
            _preprocessing_agreement(source.preprocess, photos[JUDGED_ON], form),
        )  # fmt: skip


def export_model(
    source: Source,
    folder: Path,
    *,
    train: Photos,
    val: Photos,
    accept: Photos,
    test: Photos | None = None,
    variants: Sequence[str] = VARIANTS,
    form: str = "photo",
    threads: int = 1,
    rounds: int = 30,
    say: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Write `model_<variant>.onnx` and its certificate for each variant, and `model.onnx`, the one to be served.

    Served is the fastest of those that keep to their tolerances on accept, if it takes at most 0.9 of float32's time. A
    `model.onnx` of an earlier export is removed first; where no variant keeps to its tolerances, none is written.

    Args:
        source: The network and what belongs to it.
        folder: Where the files go.
        train: Photos from which 8-bit ranges are taken.
        val: Photos on which the way to 8 bits is chosen.
        accept: Photos that the certificates are about, one or more; only float32 can pass with fewer than 100.
        test: Photos on which the table is repeated; nothing is chosen on them.
        variants: Some of `VARIANTS`; "fp32" is always made.
        form: "photo" or "pixels", see `ModelDescription`.
        threads: For the timing.
        rounds: Timed calls of each variant.
        say: Shown what is being done.

    Returns:
        Content of export.json, without date and command; "served" is None where no variant may be.

    Raises:
        ValueError: On an unknown variant, or if accept has no photo.
    """
    names = _in_order(variants)
    if not len(accept.squares):
        raise ValueError("accept has no photo; one or more are needed to certify a file")
    remove_pair(folder / SERVED_FILE)
    say("writing the network down")
    folds = {"train": train, "val": val, JUDGED_ON: accept} | ({} if test is None else {"test": test})
    job = _Job.prepare(source, folder, form, folds)
    rows = []
    for name in names:
        say(f"making {name}")
        rows.append(_made(job, name))
    say("timing")
    speed = _time(job, rows, threads, rounds)
    for row in rows:
        row["chain"] = speed[row["variant"]]
    chosen = _serve(job, rows)
    return {
        "run": source.run, "final_sha256": source.final_sha256, "form": form, "size_px": source.preprocess.size_px,
        "threads": threads, "rounds": rounds, "served": chosen, "preprocessing_agreement": job.preprocessing,
        "chain_with_preprocessor_outside": speed["outside"], "preprocessor_alone": speed["preprocessor"],
        "variants": rows, "versions": _versions(),
    }  # fmt: skip


def _in_order(variants: Sequence[str]) -> list[str]:
    unknown = sorted(set(variants) - set(VARIANTS))
    if unknown:
        raise ValueError(f"variants are {', '.join(variants)}, allowed: {', '.join(VARIANTS)}")
    return [name for name in VARIANTS if name in (*variants, "fp32")]


def _made(job: _Job, name: str) -> dict[str, Any]:
    """Write, test and certify one variant; its row of the report."""
    variant = _variant(name, job.network, job.source.preprocess, job.photos["train"], job.photos["val"])
    model = assemble(variant.model, job.calibration, _describe(job.source, name, job.form))
    path = job.folder / f"model_{name}.onnx"
    remove_pair(path)
    save_model(model, path)
    session = _session(path, 1)
    row: dict[str, Any] = {"variant": name, "file": path.name, "bytes": path.stat().st_size, **variant.notes}
    row |= {fold: _measure(session, job.source, job.photos[fold], job.expected[fold]) for fold in job.expected}
    row["reasons_against"] = reasons_against(name, row[JUDGED_ON], job.preprocessing)
    row["within"] = not row["reasons_against"]
    _certify(job, path, row)
    return row


def choose(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the variant to be served, of those within their tolerances; None if there is none.

    It is the fastest that is worth the change from float32, or else the first, which is float32 where that is within.
    """
    within = [row for row in rows if row["within"]]
    fits = [row for row in within if row["chain"]["ratio"] <= _WORTHWHILE]
    return min(fits, key=lambda row: row["chain"]["ratio"], default=next(iter(within), None))


def _serve(job: _Job, rows: Sequence[dict[str, Any]]) -> str | None:
    """Write model.onnx, then its certificate; the name of the variant, None where none may be served."""
    row = choose(rows)
    if row is None:
        return None
    path = job.folder / SERVED_FILE
    write_bytes(path, (job.folder / row["file"]).read_bytes())
    _certify(job, path, row)
    return str(row["variant"])


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


def _preprocessing_agreement(preprocess: UnifiedPreprocessor, photos: Photos, form: str) -> dict[str, Any]:
    """Of the squares, which must agree; of photos of other sizes for information, since CLAHE can widen a rounding."""
    if form == "pixels":
        return {"images": 0, "max_grey_levels": 0, "tolerance": GREY_LEVELS, "inside": False}
    found = grey_levels(preprocess, list(photos.squares[:50]))
    resized = [photo for photo in photos.raw if photo.shape != photos.squares.shape[1:]]
    return {
        **found, "tolerance": GREY_LEVELS, "inside": True,
        "resized_in_file": grey_levels(preprocess, resized) if resized else None,
    }  # fmt: skip


def _measure(session: ort.InferenceSession, source: Source, photos: Photos, expected: Outputs) -> dict[str, Any]:
    """Agreement with PyTorch at every batch size, the worst of them, and the accuracy of both."""
    found = [file_outputs(session, source.preprocess, photos.squares, batch) for batch in BATCHES]
    by_batch = [compare(expected, one, source.none_of_these.threshold) for one in found]
    worst = {key: (min if key.endswith("_agreement") else max)(one[key] for one in by_batch) for key in by_batch[0]}
    accuracy, before = found[0].accuracy(photos.target), expected.accuracy(photos.target)
    return {
        **worst, "top1_agreement_lower_95": agreement_lower_bound(worst["top1_agreement"], worst["images"]),
        "batches": list(BATCHES), "accuracy": accuracy, "pytorch_accuracy": before,
        "accuracy_loss": before - accuracy,
    }  # fmt: skip


def _certify(job: _Job, path: Path, row: dict[str, Any]) -> Path:
    return write_certificate(
        path, source={"run": job.source.run, "final_sha256": job.source.final_sha256},
        preprocessing_digest=job.source.preprocess.digest(), versions=_versions(), provider="CPUExecutionProvider",
        preprocessing_agreement=job.preprocessing,
        network_agreement={
            **row[JUDGED_ON], "fold": JUDGED_ON, "tolerances": dict(TOLERANCES[row["variant"]]),
            "reasons_against": row["reasons_against"],
        },
        passed=row["within"],
    )  # fmt: skip


def _time(job: _Job, rows: Sequence[dict[str, Any]], threads: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Photo to probabilities: each variant, float32 with the preprocessor outside, and the preprocessor alone."""
    preprocess, photo = job.source.preprocess, job.photos[JUDGED_ON].squares[:1]
    bare = ort.InferenceSession(
        job.network.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )
    calls: dict[str, Callable[[], object]] = {}
    for row in rows:
        session = _session(job.folder / row["file"], threads)
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
