"""Passes of the final network over photos, each kept on disk: a killed evaluation goes on where it stopped."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from projects.pillsnap.evaluation.conditions import VERSION
from projects.pillsnap.module import PillClassifier
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.atomic import replacing
from shared.base_data import Progress
from shared.errors import DataError, TrainingError

Outputs = dict[str, NDArray[np.float32]]
"""`logits` (N, K), `features` (N, F), and `attribute/<name>` (N, V) of each head."""

_MAX_READERS = 8


@torch.inference_mode()
def network_outputs(module: PillClassifier, images: NDArray[np.float32], device: torch.device) -> Outputs:
    """What the network says about one batch.

    Args:
        module: On `device`, in evaluation mode.
        images: (B, 3, S, S), as the preprocessor gives them.
        device: Where to compute.

    Raises:
        TrainingError: If a logit is not finite.
    """
    batch = torch.from_numpy(images).to(device).contiguous(memory_format=torch.channels_last)
    features = module.network.features(batch)
    found = {"logits": module.network.head(features), "features": features}
    found |= {f"attribute/{name}": values for name, values in module.network.attributes(features).items()}
    outputs = {name: values.float().cpu().numpy() for name, values in found.items()}
    if not np.isfinite(outputs["logits"]).all():
        raise TrainingError("the network's logits are not finite")
    return outputs


def predict_photos(
    module: PillClassifier,
    preprocess: UnifiedPreprocessor,
    photo: Callable[[int], NDArray[np.uint8]],
    count: int,
    *,
    batch_size: int,
    device: torch.device,
    advance: Callable[[int], None],
) -> Outputs:
    """Outputs of all photos, in their order.

    Args:
        module: On `device`, in evaluation mode.
        preprocess: From pixels to the network's input.
        photo: Position in 0 .. count - 1 to RGB pixels (H, W, 3) uint8; called from several threads.
        count: Number of photos, >= 1.
        batch_size: Photos in one pass of the network, >= 1.
        device: Where to compute.
        advance: Called with the number of photos done.
    """
    parts: list[Outputs] = []
    with ThreadPoolExecutor(min(_MAX_READERS, len(os.sched_getaffinity(0)))) as readers:
        for start in range(0, count, batch_size):
            places = range(start, min(start + batch_size, count))
            images = np.stack(list(readers.map(lambda place: preprocess(photo(place)), places)))
            parts.append(network_outputs(module, images, device))
            advance(places.stop)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class KeptPasses:
    """Passes of one final network, each in a file of its own.

    A file is named after all that its content depends on: the weights with their calibrator, the preprocessing, the
    photos, the condition and the version of the conditions. So none is ever taken for another, and files of weights
    that no longer exist do no harm.

    Args:
        folder: Where the files are, made where missing.
        final_sha256: Of the network.
        preprocess: The preprocessor.
        progress: Shown for the pass at hand.
    """

    def __init__(self, folder: Path, final_sha256: str, preprocess: UnifiedPreprocessor, progress: Progress) -> None:
        self._folder = folder
        self._subject = [final_sha256, preprocess.digest(), VERSION]
        self._progress = progress

    def path(self, name: str, ids: Sequence[str]) -> Path:
        """File of a pass.

        Args:
            name: Of photos and condition, fit for a file name.
            ids: Ids of the photos, in their order.
        """
        text = json.dumps([self._subject, name, list(ids)])
        return self._folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"

    def get(self, name: str, ids: Sequence[str], make: Callable[[Callable[[int], None]], Outputs]) -> Outputs:
        """The pass of that name: read where it is kept, otherwise made and kept.

        Args:
            name: Of photos and condition, fit for a file name.
            ids: Ids of the photos, in their order.
            make: Gives the outputs; is called with a function that takes the number of photos done.

        Raises:
            DataError: If a kept file is damaged.
        """
        path, total = self.path(name, ids), len(ids)
        if path.is_file():
            return _read(path, total)
        outputs = make(lambda done: self._progress("photos of this pass", done, total))
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **outputs)
        return outputs


def _read(path: Path, total: int) -> Outputs:
    try:
        with np.load(path, allow_pickle=False) as stored:
            outputs = {name: stored[name] for name in stored.files}
        if any(len(values) != total for values in outputs.values()) or "logits" not in outputs:
            raise ValueError(f"it does not hold logits of {total} photos")
    except Exception as error:  # a damaged file surfaces as nearly any exception of zipfile, zlib and numpy
        raise DataError(f"{path} is damaged ({error}); delete it and evaluate again") from error
    return outputs
