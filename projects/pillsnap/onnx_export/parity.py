"""How far a model file is from the network it was made of, on the same photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.onnx_graph import preprocessing_model
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.served_model import session_options
from shared.calibrators import Calibrator

BATCHES = (1, 3)
"""Batch sizes that a file is tested with."""

Squares = NDArray[np.uint8]


@dataclass(frozen=True)
class Outputs:
    """What a network says about N photos.

    Attributes:
        probabilities: (N, K) float32, calibrated.
        none_of_these: (N,) float32.
    """

    probabilities: NDArray[np.float32]
    none_of_these: NDArray[np.float32]

    def accuracy(self, target: NDArray[np.int64]) -> float:
        """Share of the photos whose most probable class is the true one."""
        return float((self.probabilities.argmax(axis=1) == target).mean())


def torch_outputs(
    network: nn.Module,
    calibrator: Calibrator | None,
    none_of_these: NoneOfThese,
    preprocess: UnifiedPreprocessor,
    squares: Squares,
    batch: int = 16,
) -> Outputs:
    """The PyTorch path: preprocessor, network, calibrator, softmax.

    Args:
        network: In evaluation mode.
        calibrator: Behind it, None for none.
        none_of_these: Head of the open set.
        preprocess: The one preprocessor.
        squares: (N, S, S, 3) uint8.
        batch: Photos in one pass.
    """
    probabilities, none = [], []
    for start in range(0, len(squares), batch):
        with torch.inference_mode():
            logits = network(torch.from_numpy(preprocess(squares[start : start + batch]))).float()
            calibrated = logits if calibrator is None else calibrator(logits, None)
        probabilities.append(calibrated.softmax(dim=1).float().numpy())
        none.append(none_of_these.probability(calibrated.double().numpy()).astype(np.float32))
    return Outputs(np.concatenate(probabilities), np.concatenate(none))


def file_outputs(
    session: ort.InferenceSession, preprocess: UnifiedPreprocessor, squares: Squares, batch: int
) -> Outputs:
    """The file's answers; a file of the form "pixels" gets them from the preprocessor."""
    given = session.get_inputs()[0].name
    found = []
    for start in range(0, len(squares), batch):
        part = squares[start : start + batch]
        fed = part if given == "photo" else preprocess(part)
        found.append(session.run(["probabilities", "none_of_these"], {given: fed}))
    return Outputs(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def compare(reference: Outputs, found: Outputs, threshold: float) -> dict[str, Any]:
    """Differences between two answers about the same photos.

    Args:
        reference: The one.
        found: The other.
        threshold: Above it `none_of_these` decides, in [0, 1].

    Returns:
        {"images", "max_abs_probability", "mean_abs_probability", "max_abs_none_of_these", "top1_agreement",
        "none_of_these_agreement"}; `mean_abs_probability` is the mean over photos of the sum over classes, the last is
        of the decisions. NaN anywhere decides nothing, so it agrees with nothing.
    """
    difference = np.abs(reference.probabilities - found.probabilities)
    none = np.abs(reference.none_of_these - found.none_of_these)
    # In double precision, as the server compares: the threshold must not be rounded to float32.
    decided, decided_too = (one.none_of_these.astype(np.float64) > threshold for one in (reference, found))
    same = reference.probabilities.argmax(axis=1) == found.probabilities.argmax(axis=1)
    return {
        "images": len(same),
        "max_abs_probability": float(difference.max()),
        "mean_abs_probability": float(difference.sum(axis=1).mean()),
        "max_abs_none_of_these": float(none.max()),
        "top1_agreement": float(same.mean()),
        "none_of_these_agreement": float(((decided == decided_too) & np.isfinite(none)).mean()),
    }


def grey_levels(preprocess: UnifiedPreprocessor, photos: Sequence[Squares]) -> dict[str, Any]:
    """How far the preprocessing in operators is from the preprocessor, photo by photo, in grey levels of 255.

    Args:
        preprocess: The one preprocessor.
        photos: (H, W, 3) uint8 each, of any size.

    Returns:
        {"images", "max_grey_levels", "differing_share"}.
    """
    session = ort.InferenceSession(
        preprocessing_model(preprocess).SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
    )
    std = np.array(preprocess.std, np.float64)[:, None, None]
    worst, differing = 0, []
    for photo in photos:
        (pixels,) = session.run(["pixels"], {"photo": photo[None]})
        levels = np.abs(np.rint((pixels[0].astype(np.float64) - preprocess(photo)) * std * 255))
        worst = max(worst, int(levels.max()))
        differing.append(float((levels > 0).mean()))
    return {"images": len(photos), "max_grey_levels": worst, "differing_share": float(np.mean(differing))}
