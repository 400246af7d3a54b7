import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from projects.spectra.baselines import nearest_neighbour, ridge_fourier
from projects.spectra.cross_validation import floors
from projects.spectra.data.deepnano import CHANNELS, WAVELENGTHS_NM, DeepNanoDataModule
from shared.errors import DataError
from shared.instantiate import instantiate
from tests.fabricate.spectra_run import tiny_run

SIDE, NUM = 16, 30


@pytest.fixture
def few_trees(monkeypatch):
    monkeypatch.setattr(floors, "NUM_TREES", 5)


@pytest.fixture
def table():
    """30 rows of the set's table, every third of another metal; the curves follow from the leg's length."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"row": np.arange(NUM) + 7, "geom_id": np.arange(NUM)})
    for column in floors.GEOMETRY_COLUMNS:
        frame[column] = rng.integers(0, 5, NUM).astype(float)
    frame["mat_id"], frame["eps_host"] = np.where(np.arange(NUM) % 3 == 0, 2, 1), 1.0
    curves = {
        f"T{axis}_{nm}": np.round(frame["L0_nm"] / 5 + rng.random(NUM) / 10, 5)
        for axis in "xy"
        for nm in WAVELENGTHS_NM
    }
    return pd.concat([frame, pd.DataFrame(curves)], axis=1)


@pytest.fixture
def deepnano(table, tmp_path):
    images = np.random.default_rng(6).integers(0, 2, (NUM, SIDE, SIDE)).astype(np.uint8)
    images[:, 0] = 0  # pixels that never vary
    table.to_csv(tmp_path / "geometry_spectra.csv.gz", index=False)
    np.savez(tmp_path / "structures.npz", images=images, geom_id=table["geom_id"], row=table["row"])
    module = DeepNanoDataModule(
        root=str(tmp_path), mat_id=1, eps_host=1.0, shares={"train": 1.0}, cross_validation_fold=0, symmetry="none",
        symmetry_epoch="random", store_device=None, batch_size=8, eval_batch_size=8, num_workers=0, seed=0,
        cache_folder=str(tmp_path / "cache"),
    )  # fmt: skip
    return module, images[table["mat_id"] == 1]


def test_the_trees_are_scikit_learns_on_the_same_folds(deepnano, table, few_trees):
    module, images = deepnano
    round_of = np.arange(20) % 5
    steps = []
    found = floors.fit_floors(module, round_of, 3, lambda done, total: steps.append((done, total)))
    assert list(found) == ["floor: extra trees from pixels", "floor: extra trees from geometry"]
    assert steps == [(k, 5) for k in range(1, 6)]
    gold = table[table["mat_id"] == 1]
    features = {
        "floor: extra trees from pixels": images.reshape(20, -1)[:, SIDE:],
        "floor: extra trees from geometry": gold[list(floors.GEOMETRY_COLUMNS)].to_numpy(),
    }
    target = gold.filter(regex="^T[xy]_").to_numpy(np.float32)
    for name, values in features.items():
        for number in range(5):
            train, test = round_of != number, round_of == number
            varying = np.ptp(values[train], axis=0) > 0
            trees = ExtraTreesRegressor(5, random_state=3).fit(values[train][:, varying], target[train])
            expected = trees.predict(values[test][:, varying]).reshape(-1, len(CHANNELS), len(WAVELENGTHS_NM))
            assert found[name][test] == pytest.approx(expected)


def test_geometry_of_a_changed_table_is_refused(deepnano, table):
    module, _ = deepnano
    _ = module.index  # the store has the curves as they were
    path = module.root / "geometry_spectra.csv.gz"
    table.assign(Tx_600=table["Tx_600"] + 0.5).to_csv(path, index=False)
    with pytest.raises(DataError, match="are not those of the data set that was tested"):
        floors.geometry_numbers(module)
    table.drop(columns="theta_deg").to_csv(path, index=False)
    with pytest.raises(DataError, match="lacks the column 'theta_deg'"):
        floors.geometry_numbers(module)


def test_features_that_never_vary_are_refused():
    with pytest.raises(DataError, match="have the same features"):
        floors.extra_trees(np.ones((4, 3)), np.zeros((4, 2)), np.ones((1, 3)), 0)


def test_cells_are_judged_by_ridge_and_nearest_neighbour_on_all_that_is_not_tested(tmp_path):
    config = tiny_run(tmp_path, tmp_path, "data.standin.num_samples=60")
    module = instantiate(dict(config.data), "data", seed=0, cache_folder=str(tmp_path))
    round_of = np.arange(len(module.index)) % 5
    found = floors.fit_floors(module, round_of, 0, lambda done, total: None)
    store, test = module.store, round_of == 4
    arguments = (store.bits[~test], store.target[~test], store.bits[test], store.side_px)
    assert found["floor: ridge on Fourier orders"][test] == pytest.approx(ridge_fourier(*arguments))
    assert found["floor: nearest neighbour"][test] == pytest.approx(nearest_neighbour(*arguments))
    assert not any(np.isnan(values).any() for values in found.values())
