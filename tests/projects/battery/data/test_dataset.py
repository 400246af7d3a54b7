import hashlib

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from projects.battery.data.augment import build_augmentation
from projects.battery.data.batch import IMAGE_MEAN, IMAGE_STD, BatteryBatch
from projects.battery.data.dataset import SliceDataset, meta_table, normalise, permute_within
from projects.battery.data.scan import scan_ct
from shared.errors import DataError
from shared.readers import FolderReader
from shared.sampler import EpochSampler, SampleKey


@pytest.fixture
def index(slices, tmp_path):
    return scan_ct(tmp_path / "data").index


@pytest.fixture
def make(index, tmp_path):
    def build(rows=None, **arguments):
        rows = np.arange(len(index)) if rows is None else np.asarray(rows)
        arguments = {"image_size_px": 32} | arguments
        return SliceDataset(index, rows, FolderReader(tmp_path / "data"), **arguments)

    return build


def test_a_sample_holds_what_was_written(slices, index, make):
    rows = np.array([7, 30, 2])
    dataset = make(rows, image_size_px=48, meta_columns=("axis", "kind"), domain_column="kind")
    assert len(dataset) == 3
    for position, row in enumerate(rows):
        each, sample = slices[row], dataset[position]
        assert set(sample) == set(BatteryBatch.__annotations__) - {"meta_permuted"}
        assert sample["image"].shape == (1, 48, 48)
        assert sample["image"].dtype == torch.float32
        assert [sample[key].dtype for key in sample if key != "image"] == [torch.int64] * 5
        assert index.classes[sample["target"]] == each.class_name
        assert sample["sample_index"] == row
        assert index.group_names[sample["group_index"]] == f"{each.kind}_{each.battery}"
        axis, kind = sample["meta"].tolist()
        assert (index.meta_names["axis"][axis], index.meta_names["kind"][kind]) == (each.axis, each.kind)
        assert sample["domain"] == kind


def test_pixels_are_normalised_as_documented(slices, make, battery_ct):
    each = slices[0]
    pixels = np.random.default_rng(8).integers(0, 256, (48, 64), dtype=np.uint8)
    each.image_path.write_bytes(battery_ct.png_bytes(pixels))
    found = make([0], image_size_px=48).pixels(0)
    assert found.shape == (48, 48)
    # Shrinking the width by 4/3: each output pixel covers one and a third input pixels.
    weights = np.zeros((64, 48))
    for column in range(48):
        left, right = column * 4 / 3, (column + 1) * 4 / 3
        for source in range(64):
            weights[source, column] = max(0.0, min(right, source + 1) - max(left, source)) * 3 / 4
    assert np.abs(found - pixels @ weights).max() <= 0.51
    image = make([0], image_size_px=48)[0]["image"]
    expected = (torch.from_numpy(found).double() / 255 - IMAGE_MEAN) / IMAGE_STD
    torch.testing.assert_close(image[0].double(), expected, atol=1e-6, rtol=0)
    assert normalise(np.zeros((2, 3), np.uint8)).shape == (1, 2, 3)


def test_a_plain_position_is_never_random(make):
    train = make(train=True, transform=build_augmentation(32), seed=3)
    plain = make()
    for position in (0, 11):
        assert torch.equal(train[position]["image"], plain[position]["image"])
    assert torch.equal(make(train=False, transform=build_augmentation(32))[SampleKey(4, 9)]["image"], plain[4]["image"])


def test_a_draw_seeds_the_augmentation(make):
    def image(seed, position, draw):
        return make(train=True, transform=build_augmentation(32), seed=seed)[SampleKey(position, draw)]["image"]

    reference = image(3, 5, 100)
    assert torch.equal(image(3, 5, 100), reference)
    assert not torch.equal(image(3, 5, 101), reference)
    assert not torch.equal(image(4, 5, 100), reference)


def test_batches_do_not_depend_on_the_number_of_workers(make):
    dataset = make(train=True, transform=build_augmentation(32), seed=1)

    def hashes(num_workers, epoch):
        sampler = EpochSampler(len(dataset), seed=1)
        sampler.set_epoch(epoch)
        loader = DataLoader(dataset, batch_size=5, sampler=sampler, num_workers=num_workers)
        return [hashlib.sha256(batch["image"].numpy().tobytes()).hexdigest() for batch in loader]

    alone = hashes(0, 2)
    assert hashes(2, 2) == alone
    assert len(set(alone) | set(hashes(0, 3))) == 2 * len(alone)


def test_a_batch_has_the_shapes_of_the_vocabulary(make, index):
    permuted = np.zeros((len(index), 2), np.int64)
    batch = next(iter(DataLoader(make(meta_permuted=permuted), batch_size=4)))
    shapes = {key: tuple(value.shape) for key, value in batch.items()}
    assert shapes == {
        "image": (4, 1, 32, 32),
        "meta": (4, 2),
        "target": (4,),
        "sample_index": (4,),
        "group_index": (4,),
        "domain": (4,),
        "meta_permuted": (4, 2),
    }
    assert batch["domain"].tolist() == [0] * 4


def test_dropped_columns_are_missing_everywhere(make, index):
    permuted = meta_table(index, np.arange(len(index)), ("kind", "axis"))[::-1].copy()
    sample = make(dropped_columns=("axis",), meta_permuted=permuted)[0]
    assert sample["meta"][1] == sample["meta_permuted"][1] == -1
    assert sample["meta"][0] == index.meta["kind"][0]
    assert sample["meta_permuted"][0] == permuted[0, 0]


def test_permuted_metadata_comes_from_another_sample_of_the_stratum():
    strata = np.array([0, 1, 0, 0, 1, 2, 0])
    meta = np.arange(14).reshape(7, 2)
    permuted = permute_within(strata, meta, seed=4)
    source = permuted[:, 0] // 2
    assert np.array_equal(meta[source], permuted)
    assert np.array_equal(strata[source], strata)
    assert sorted(source) == list(range(7))
    assert [row for row in range(7) if source[row] == row] == [5]
    assert np.array_equal(permute_within(strata, meta, seed=4), permuted)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_damaged_after_the_scan_is_named(slices, make, damage, num_workers):
    each, dataset = slices[1], make([0, 1])
    content = bytearray(each.image_path.read_bytes())
    if damage == "gone":
        each.image_path.unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        each.image_path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    batches = iter(DataLoader(dataset, num_workers=num_workers))
    with pytest.raises(DataError, match=each.image_path.name):
        list(batches)
    if num_workers:
        batches._shutdown_workers()  # the traceback keeps the iterator, and with it the worker, alive


def test_wrong_arguments_are_refused(make, index):
    with pytest.raises(
        ValueError, match=r"columns \['colour'\] do not exist; the index has \['axis', 'form', 'kind'\]"
    ):
        make(meta_columns=("kind", "colour"))
    with pytest.raises(ValueError, match=r"columns \['hue'\] do not exist"):
        make(domain_column="hue")
    with pytest.raises(ValueError, match=r"dropped columns \['form'\] are not among"):
        make(dropped_columns=("form",))
    with pytest.raises(ValueError, match=r"meta_permuted must be of shape \(36, 2\), got \(35, 2\)"):
        make(meta_permuted=np.zeros((35, 2), np.int64))
    with pytest.raises(ValueError, match="image_size_px must be positive, got 0"):
        make(image_size_px=0)
    with pytest.raises(IndexError, match="position 36 does not exist in a dataset of 36 samples"):
        make()[36]
