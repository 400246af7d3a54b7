"""The floor that a network must clear: a random forest on 24 x 24 pixels, the recipe that came with the NIH subset."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.errors import DataError

SIZE_PX = 24
NUM_TREES = 100
SMALL = UnifiedPreprocessor(size_px=SIZE_PX, clahe=False, grid=1)


def floor_pixels(
    rows: NDArray[np.int64],
    photo: Callable[[int], NDArray[np.uint8]],
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Return the photos of M rows at 24 x 24, (M, 1728) uint8.

    Args:
        rows: (M,) rows of the index.
        photo: Row -> RGB pixels, (H, W, 3) uint8.
        on_progress: Called with the number of photos done and M.
    """
    pixels = np.empty((len(rows), SIZE_PX * SIZE_PX * 3), dtype=np.uint8)
    for place, row in enumerate(rows):
        pixels[place] = SMALL.square(photo(int(row))).ravel()
        if on_progress is not None:
            on_progress(place + 1, len(rows))
    return pixels


def fit_floor(
    train: NDArray[np.uint8], label: NDArray[np.integer], test: NDArray[np.uint8], num_classes: int, seed: int
) -> NDArray[np.float64]:
    """Fit the forest and return its probabilities.

    Args:
        train: (N, P) pixels.
        label: (N,) class codes, below `num_classes`.
        test: (M, P) pixels.
        num_classes: K.
        seed: Of the forest.

    Returns:
        (M, K); 0 for a class that `label` lacks.

    Raises:
        DataError: If there is nothing to fit on.
    """
    if len(train) == 0:
        raise DataError("the floor has no photo to fit on; the train fold is empty")
    forest = RandomForestClassifier(NUM_TREES, random_state=seed, n_jobs=1)
    forest.fit(train, label)
    probs = np.zeros((len(test), num_classes))
    probs[:, forest.classes_] = forest.predict_proba(test)
    return probs
