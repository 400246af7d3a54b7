"""Batches against the plain definition of each variant, on every path; order, workers, refusals."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from projects.spectra.data.dataset import CurveDataset
from projects.spectra.data.gather import variant_codes
from projects.spectra.data.pairs_store import pairs_store
from projects.spectra.symmetry import GROUPS
from shared.sampler import SampleKey
from tests.fabricate.spectra_npy import write_pair

SIDE = 32


@pytest.fixture
def data(tmp_path):
    pair = write_pair(tmp_path)
    return pairs_store(
        [pair.struct_path],
        [pair.spectra_path],
        tmp_path / "indices",
        sign="auto",
        allow_asymmetric=False,
        num_wavelengths=30,
        source="real",
    )[:2]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_batch_has_the_rows_asked_for_in_their_order(data):
    store, index = data
    rows = np.array([9, 3, 17, 5])
    batch = CurveDataset(store, index, rows).__getitems__([2, 0, 2, 3])
    assert batch["sample_index"].tolist() == [17, 9, 17, 5]
    assert batch["group_index"].tolist() == index.group[[17, 9, 17, 5]].tolist()
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (4, 1, SIDE, SIDE)
    np.testing.assert_array_equal(batch["image"][:, 0], store.pictures(np.array([17, 9, 17, 5])))
    np.testing.assert_array_equal(batch["target"], store.target[[17, 9, 17, 5]])
    assert batch["domain"].tolist() == [0] * 4


def test_only_a_draw_in_train_varies_a_sample(data):
    store, index = data
    rows = np.arange(20)
    keys = [SampleKey(position, 7 * position) for position in range(20)]
    plain = CurveDataset(store, index, rows).__getitems__(list(range(20)))
    train = CurveDataset(store, index, rows, variants="full", train=True, seed=1)
    assert equal(train.__getitems__(list(range(20))), plain)
    assert equal(CurveDataset(store, index, rows, variants="full", train=False).__getitems__(keys), plain)
    assert not torch.equal(train.__getitems__(keys)["image"], plain["image"])


@pytest.mark.parametrize("group", ["rotation_180", "diagonal", "full"])
def test_a_varied_sample_is_a_variant_of_itself_with_its_cell(data, group):
    store, index = data
    dataset = CurveDataset(store, index, np.arange(20), variants=group, train=True, seed=1)
    keys = [SampleKey(position % 20, position) for position in range(200)]
    batch = dataset.__getitems__(keys)
    seen = set()
    codes = variant_codes(dataset._seed, np.arange(200), len(GROUPS[group]))
    for key, image, target, code in zip(keys, batch["image"], batch["target"], codes, strict=True):
        variant = GROUPS[group][code]
        seen.add(variant.name)
        pattern = store.pictures(np.array([key.position]))[0]
        np.testing.assert_array_equal(image[0], variant.apply_to_structure(pattern))
        np.testing.assert_array_equal(target, variant.apply_to_cell(np.asarray(store.target[key.position])))
    assert seen == {each.name for each in GROUPS[group]}


def test_all_variants_of_all_samples_are_shown_once(data):
    store, index = data
    dataset = CurveDataset(store, index, np.arange(5), variants="diagonal", train=True, epoch_variants="all")
    assert len(dataset) == 20
    batch = dataset.__getitems__([SampleKey(position, 0) for position in range(20)])
    assert batch["sample_index"].tolist() == [*range(5)] * 4
    for code, variant in enumerate(GROUPS["diagonal"]):
        expected = variant.apply_to_structure(store.pictures(np.arange(5)))
        np.testing.assert_array_equal(batch["image"][5 * code : 5 * code + 5, 0], expected)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_batches_on_a_device_are_the_same(data, device):
    store, index = data
    keys = [SampleKey(position, 3 * position) for position in range(20)]
    arguments = dict(variants="full", train=True, seed=4)
    mapped = CurveDataset(store, index, np.arange(20), **arguments).__getitems__(keys)
    resident = CurveDataset(store, index, np.arange(20), device=device, **arguments).__getitems__(keys)
    assert resident["image"].device.type == device
    assert equal(mapped, {key: value.cpu() for key, value in resident.items()})


def test_a_pickled_dataset_carries_no_data_and_makes_the_same_batches(data):
    store, index = data
    dataset = CurveDataset(store, index, np.arange(20))
    first = dataset.__getitems__([1, 2])
    packed = pickle.dumps(dataset.store)
    assert len(packed) < 2000
    assert equal(pickle.loads(pickle.dumps(dataset)).__getitems__([1, 2]), first)


def test_loader_workers_make_the_batches_of_the_main_process(data):
    dataset = CurveDataset(*data, np.arange(20))
    loaders = [DataLoader(dataset, 6, num_workers=num, collate_fn=lambda batch: batch) for num in (0, 2)]
    for one, other in zip(*loaders, strict=True):
        assert equal(one, other)


def test_positions_that_do_not_exist_are_refused(data):
    dataset = CurveDataset(*data, np.arange(20))
    for position in (-1, 20):
        with pytest.raises(IndexError, match=f"{position} or {position} is outside a dataset of 20 samples"):
            dataset.__getitems__([position])
    assert dataset[3]["image"].shape == (1, 1, SIDE, SIDE)


def test_wrong_arguments_are_refused(data):
    store, index = data
    with pytest.raises(ValueError, match="epoch_variants is 'some'; allowed are random, all"):
        CurveDataset(store, index, np.arange(2), epoch_variants="some")
    with pytest.raises(ValueError, match="the store has 22 rows, the index 3"):
        CurveDataset(store, index.take(np.arange(3)), np.arange(2))
    store.output_shape = (2, 43)
    with pytest.raises(ValueError, match=r"curves of shape \(2, 43\) are no cell"):
        CurveDataset(store, index, np.arange(2), variants="full", train=True)
