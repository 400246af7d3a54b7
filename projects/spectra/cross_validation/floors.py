"""What a network must beat on the same folds: simple models that see everything a round does not test.

Cells have the two baselines of every run. The DeepNanoDesign set came with extra trees, from the pixels and from the
numbers of the geometry. scikit-learn's default, a hundred trees without a limit, gives the numbers of the set's page:
R^2 0.965 from geometry and 0.891 from pixels for gold in vacuum in five folds by geometry (2026-11-21; the page says
0.966 and 0.892, MAE 0.011 and 0.021), where R^2 is over all outputs together; the mean over outputs is 0.896 and 0.771.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from projects.spectra.data.datamodule import CurveDataModule
from projects.spectra.data.deepnano import TABLE, DeepNanoDataModule, read_deepnano
from shared.errors import DataError

NUM_TREES = 100
TRAINED_ON = "all that the round does not test (train, val, accept, calibrate): a floor chooses nothing on them"
GEOMETRY_COLUMNS = ("leg_a", "leg_b", "leg_c", "leg_d", "L0_nm", "bar", "L1_nm", "theta_deg")

TREES_PIXELS, TREES_GEOMETRY = "floor: extra trees from pixels", "floor: extra trees from geometry"

Progress = Callable[[int, int], None]


def fit_floors(
    datamodule: CurveDataModule, round_of: NDArray[np.int64], seed: int, on_progress: Progress
) -> dict[str, NDArray[np.float64]]:
    """Fit the floors of a data set in every round and return their out-of-fold curves.

    Args:
        datamodule: The data set.
        round_of: (N,) the round that tests a sample.
        seed: Of the trees.
        on_progress: Called with the number of rounds done and of all.

    Returns:
        Name -> (N, *output_shape) float64, all names beginning with "floor: ".
    """
    rounds = np.unique(round_of)
    floors: dict[str, NDArray[np.float64]] = {}
    for done, number in enumerate(rounds, start=1):
        train, test = np.flatnonzero(round_of != number), np.flatnonzero(round_of == number)
        for name, predicted in _one_round(datamodule, train, test, seed):
            shape = (len(round_of), *datamodule.store.output_shape)
            floors.setdefault(name, np.full(shape, np.nan))[test] = predicted
        on_progress(done, len(rounds))
    return floors


def _one_round(
    datamodule: CurveDataModule, train: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    if not isinstance(datamodule, DeepNanoDataModule):
        for name, predicted in datamodule.baselines(train, test).items():
            yield f"floor: {name}", predicted
        return
    target = np.asarray(datamodule.store.target)
    pixels = datamodule.pictures(np.arange(len(target))).reshape(len(target), -1)
    for name, features in ((TREES_PIXELS, pixels), (TREES_GEOMETRY, geometry_numbers(datamodule))):
        yield name, extra_trees(features[train], target[train], features[test], seed)


def extra_trees(
    train: NDArray[np.generic], target: NDArray[np.floating], test: NDArray[np.generic], seed: int
) -> NDArray[np.float64]:
    """Extra trees from features to all points of all curves at once.

    Args:
        train: (N, P) features.
        target: (N, *output_shape).
        test: (M, P) features.
        seed: Of the trees.

    Returns:
        (M, *output_shape) float64.

    Raises:
        DataError: If no feature varies.
    """
    varying = (train != train[0]).any(axis=0)  # a pixel that is always empty splits nothing, but each split tries it
    if not varying.any():
        raise DataError(
            "all training samples of the extra trees have the same features; there is nothing to learn from"
        )
    trees = ExtraTreesRegressor(NUM_TREES, random_state=seed)
    trees.fit(train[:, varying], target.reshape(len(target), -1))
    predicted = np.asarray(trees.predict(test[:, varying]), dtype=np.float64)
    return predicted.reshape(len(test), *target.shape[1:])


def geometry_numbers(datamodule: DeepNanoDataModule) -> NDArray[np.float64]:
    """Return the geometry of every sample in the order of the index, (N, 8): `GEOMETRY_COLUMNS`.

    Raises:
        DataError: If the table lacks a column, or its curves are not those of the store: the files have changed.
    """
    table, _ = read_deepnano(datamodule.root)
    path = datamodule.root / TABLE
    lacking = [column for column in GEOMETRY_COLUMNS if column not in table]
    if lacking:
        raise DataError(f"{path} lacks the column {lacking[0]!r}, which the floor from geometry needs")
    rows = np.flatnonzero((table["mat_id"] == datamodule.mat_id) & np.isclose(table["eps_host"], datamodule.eps_host))
    curves = [column for column in table if str(column).startswith(("Tx_", "Ty_"))]
    target = np.asarray(datamodule.store.target)
    found = table.iloc[rows][curves].to_numpy(np.float32)
    if found.shape != (len(target), target[0].size) or not np.array_equal(found, target.reshape(len(target), -1)):
        raise DataError(f"the curves in {path} are not those of the data set that was tested; was the file replaced?")
    return table.iloc[rows][list(GEOMETRY_COLUMNS)].to_numpy(np.float64)
