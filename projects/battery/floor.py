"""The floor that a network on ELPV must clear: a random forest on small pixels, without any training of features.

It follows the recipe that came with the subset: 48 x 48 pixels, a forest of scikit-learn's default size, fitted on
everything that is not tested. On the set's own split it gives an AUROC of 0.809 (2026-11-21; the set's page says 0.81).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from projects.battery.data.decode import decode_grey
from shared.errors import DataError
from shared.readers import ImageReader
from shared.sample_index import SampleIndex

SIZE_PX = 48
NUM_TREES = 100


def floor_pixels(
    index: SampleIndex, reader: ImageReader, on_progress: Callable[[int, int], None] | None = None
) -> NDArray[np.uint8]:
    """Return the pixels of every image at 48 x 48, (N, 2304) uint8.

    Pillow's bicubic filter, which widens where it shrinks: the one that gave the published floor.

    Args:
        index: N samples.
        reader: Gives the bytes of a sample id.
        on_progress: Called with the number of images done and N.
    """
    pixels = np.empty((len(index), SIZE_PX * SIZE_PX), dtype=np.uint8)
    for row, sample_id in enumerate(index.ids.to_list()):
        image = Image.fromarray(decode_grey(reader.read(sample_id), sample_id))
        pixels[row] = np.asarray(image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)).ravel()
        if on_progress is not None:
            on_progress(row + 1, len(index))
    return pixels


def with_metadata(pixels: NDArray[np.uint8], index: SampleIndex, column: str) -> NDArray[np.float32]:
    """Return the pixels (N, P) with a metadata code as one more feature, (N, P + 1); -1 where it is missing."""
    code = index.meta[column].astype(np.float32)[:, None]
    return np.concatenate([pixels.astype(np.float32), code], axis=1)


def fit_floor(
    features: NDArray[np.generic],
    label: NDArray[np.integer],
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    seed: int,
) -> NDArray[np.float64]:
    """Fit the forest on some samples and return its probabilities on others.

    Args:
        features: (N, P).
        label: (N,) class codes 0 .. C - 1, each of which `train` must hold.
        train: (N,) samples to fit on.
        test: (N,) samples to predict.
        seed: Of the forest.

    Returns:
        (M, C) probabilities of the M test samples, in the order of the rows.

    Raises:
        DataError: If train and test overlap, or a class is absent from train.
    """
    if (train & test).any():
        raise DataError(f"{int((train & test).sum())} samples stand in both parts of the floor; they must be disjoint")
    num_classes = int(label.max()) + 1
    absent = sorted(set(range(num_classes)) - set(label[train].tolist()))
    if absent:
        raise DataError(f"the floor's training part has no sample of class {absent[0]}; each class needs one")
    forest = RandomForestClassifier(NUM_TREES, random_state=seed)
    forest.fit(features[train], label[train])
    return np.asarray(forest.predict_proba(features[test]), dtype=np.float64)
