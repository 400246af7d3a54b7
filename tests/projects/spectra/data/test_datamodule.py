"""From files to loaders: folds by pattern and variant, cache, refusals, and DeepNano's groups."""

import numpy as np
import pytest
import torch

from projects.spectra.data.datamodule import SpectraDataModule, standin_files
from projects.spectra.data.deepnano import DeepNanoDataModule, joined_groups
from projects.spectra.symmetry import variant_group
from shared.errors import ConfigError, DataError
from shared.leakage import check_leakage
from tests.fabricate.spectra_npy import write_pair

SHARES = {"train": 0.6, "val": 0.1, "accept": 0.1, "calibrate": 0.1, "test": 0.1}
COMMON = {
    "shares": SHARES,
    "cross_validation_fold": None,
    "symmetry": "diagonal",
    "symmetry_epoch": "random",
    "store_device": None,
    "batch_size": 4,
    "eval_batch_size": 5,
    "num_workers": 0,
    "seed": 0,
}


def module(folder, **changes):
    arguments = {
        "struct_files": [str(folder / "struct_0.npy")],
        "spectra_files": [str(folder / "spectra_0.npy")],
        "standin": {},
        "standin_workers": 1,
        "sign": "auto",
        "allow_asymmetric": False,
        "num_wavelengths": 30,
        "cache_folder": str(folder / "cache"),
        **COMMON,
    }
    return SpectraDataModule(**(arguments | changes))


def test_files_become_batches_and_the_second_time_come_from_the_store(tmp_path):
    pair = write_pair(tmp_path)
    data = module(tmp_path)
    batch = next(iter(data.loader("val", "validate")))
    row = int(batch["sample_index"][0])
    np.testing.assert_array_equal(batch["image"][0, 0], pair.structures[row])
    again = module(tmp_path)
    seen = []
    again.progress = lambda *args: seen.append(args)
    assert again.index.data_hash() == data.index.data_hash()
    assert seen == []
    (data.store.folder / "target.npy").write_bytes(b"damaged")
    again = module(tmp_path)
    again.progress = lambda *args: seen.append(args)
    assert len(again.index) == 22
    assert seen == [("structures", 24, 24)]
    np.save(pair.spectra_path, -pair.spectra[::-1])  # another time stamp: another store
    assert module(tmp_path).store.folder != data.store.folder


def test_train_batches_and_the_symmetry_finding(tmp_path):
    write_pair(tmp_path, num=120)
    data = module(tmp_path)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 1, 32, 32)
    assert batch["target"].shape == (4, 2, 2, 30)
    assert any("data.symmetry=diagonal held against" in each for each in data.findings()[1])


def test_a_broken_symmetry_stops_before_the_first_batch(tmp_path):
    pair = write_pair(tmp_path, num=150)
    pair.spectra[:, 2] *= 0.6
    np.save(pair.spectra_path, -pair.spectra)
    with pytest.raises(DataError, match=r"data.symmetry=rotation_180 does not hold"):
        module(tmp_path, symmetry="rotation_180").train_dataloader()
    assert len(module(tmp_path, symmetry="none").train_dataloader()) > 0


def test_a_symmetry_that_cannot_be_checked_is_not_used(tmp_path):
    write_pair(tmp_path, num=30)
    data = module(tmp_path, symmetry="rotation_180", symmetry_epoch="all")
    assert len(data.build_dataset("train", data.rows("train"))) == len(data.rows("train"))
    (sentence,) = [each for each in data.findings()[1] if "undecidable" in each]
    assert sentence.endswith("training samples do not vary")


@pytest.mark.parametrize(("symmetry", "times"), [("none", 1), ("rotation_180", 2), ("diagonal", 4)])
def test_the_baselines_see_the_variants_that_the_network_sees(tmp_path, symmetry, times, monkeypatch):
    pair = write_pair(tmp_path, num=120, num_padding=0)
    data = module(tmp_path, symmetry=symmetry)
    given = {}

    def keep(bits, target, test, side):
        given["bits"], given["target"] = bits, target
        return np.zeros((len(test), *target.shape[1:]))

    monkeypatch.setattr("projects.spectra.baselines.ridge_fourier", keep)
    rows = data.rows("train")
    found = data.baselines(rows, data.rows("test"))
    assert found["nearest neighbour"].shape == (len(data.rows("test")), 2, 2, 30)
    assert len(given["bits"]) == len(given["target"]) == times * len(rows)
    last = variant_group(symmetry)[-1]
    pixels = np.unpackbits(given["bits"][-1]).reshape(32, 32)
    np.testing.assert_array_equal(pixels, last.apply_to_structure(pair.structures[rows[-1]]))
    np.testing.assert_array_equal(given["target"][-1], last.apply_to_cell(data.store.target[rows[-1]]))


@pytest.mark.parametrize("fold", [None, 0, 4])
def test_a_pattern_and_its_variants_never_part(tmp_path, fold):
    pair = write_pair(tmp_path, num=60, num_padding=0)
    rotated = variant_group("rotation_180")[1].apply_to_structure(pair.structures)
    np.save(pair.struct_path, np.concatenate([pair.structures, rotated])[:, None] * np.uint8(255))
    np.save(pair.spectra_path, -np.concatenate([pair.spectra, pair.spectra[:, ::-1]]))
    data = module(tmp_path, cross_validation_fold=fold)
    np.testing.assert_array_equal(data.fold[:60], data.fold[60:])
    # A round of a cross-validation keeps nothing to calibrate.
    assert np.unique(data.fold).tolist() == ([0, 1, 2, 3, 4] if fold is None else [0, 1, 2, 4])
    assert check_leakage(data.index, data.fold).ok


def test_the_five_parts_cover_all_samples_once(tmp_path):
    write_pair(tmp_path, num=60)
    tests = [module(tmp_path, cross_validation_fold=fold).rows("test") for fold in range(5)]
    assert sorted(np.concatenate(tests).tolist()) == list(range(58))


def test_what_a_network_must_know_and_a_network_for_something_else(tmp_path):
    write_pair(tmp_path)
    arguments = module(tmp_path).module_arguments()
    assert arguments["output_shape"] == [2, 2, 30]
    assert arguments["channels"] == ["B", "G upper right", "G lower left", "R"]
    assert arguments["axis"]["values"][0] == 400.0
    assert arguments["image_side_px"] == 32
    module(tmp_path).align(arguments)
    with pytest.raises(DataError, match=r"the data set has output_shape \[2, 2, 12\]; the network \[2, 2, 30\]"):
        module(tmp_path, num_wavelengths=12).align(arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symmetry": "mirror"}, "data.symmetry is 'mirror'; allowed are none, rotation_180, diagonal, full"),
        ({"symmetry_epoch": "some"}, "data.symmetry_epoch is 'some'; allowed are random, all"),
        ({"cross_validation_fold": 5}, "data.cross_validation_fold is 5; allowed: null, 0 to 4"),
        ({"num_wavelengths": 1}, "data.num_wavelengths is 1; allowed are 2 to 301"),
        ({"spectra_files": None}, "data.spectra_files is null but its partner is not"),
        ({"store_device": "cpu", "num_workers": 1}, "data.num_workers must be 0 with it, not 1"),
        ({"store_device": "tpu9"}, "data.store_device is 'tpu9'; allowed are null, cpu, cuda"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        module(tmp_path, **changes)


def test_the_stand_in_is_made_read_and_named_so(tmp_path):
    standin = {"num_samples": 40, "side_px": 32, "sigma_px": 3.0}
    data = module(tmp_path, struct_files=None, spectra_files=None, standin=standin)
    assert data.index.source == "stand-in"
    assert 30 < len(data.index) <= 40
    with pytest.raises(DataError, match=r"holds no struct_<k>.npy"):
        standin_files(tmp_path)


def test_equal_images_join_geometries():
    assert joined_groups(np.array([5, 6, 6, 7, 8]), np.array([0, 0, 1, 1, 2])).tolist() == [0, 0, 0, 0, 1]


def test_deepnano_is_read_split_by_geometry_and_leak_free(real_data, tmp_path):
    folder = {"root": str(real_data / "deepnano"), "cache_folder": str(tmp_path)}
    common = COMMON | {"symmetry": "none", "cross_validation_fold": 0}
    data = DeepNanoDataModule(mat_id=1, eps_host=1.0, **folder, **common)
    assert len(data.index) == 1265
    assert data.module_arguments()["output_shape"] == [2, 43]
    assert data.module_arguments()["image_side_px"] == 64
    assert check_leakage(data.index, data.fold).ok
    assert "1,253 geometries have 1,231 distinct images" in data.findings()[1][0]
    assert next(iter(data.train_dataloader()))["target"].dtype == torch.float32
    with pytest.raises(
        DataError, match=r"no row has data.mat_id=9 and data.eps_host=1.0; the pairs there are: \(0, 1\)"
    ):
        _ = DeepNanoDataModule(mat_id=9, eps_host=1.0, **folder, **common).index
    with pytest.raises(
        ConfigError, match=r"data.symmetry is 'full'; for this set, whose curves are no cells, only none"
    ):
        DeepNanoDataModule(mat_id=1, eps_host=1.0, **folder, **(common | {"symmetry": "full"}))


def test_missing_deepnano_files_are_named(tmp_path):
    arguments = COMMON | {"symmetry": "none", "cache_folder": str(tmp_path)}
    with pytest.raises(DataError, match=r"geometry_spectra.csv.gz does not exist; data.root must hold"):
        _ = DeepNanoDataModule(root=str(tmp_path), mat_id=1, eps_host=1.0, **arguments).index
