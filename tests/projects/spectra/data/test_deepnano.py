"""The table and the images of DeepNano: what is read, what is refused, and geometries that share an image."""

import gzip

import numpy as np
import pandas as pd
import pytest

from projects.spectra.data.deepnano import (
    IMAGES,
    TABLE,
    WAVELENGTHS_NM,
    DeepNanoDataModule,
    joined_groups,
    read_deepnano,
)
from shared.errors import ConfigError, DataError

NUM, SIDE = 40, 16
SETTINGS = {
    "shares": {"train": 0.6, "val": 0.1, "accept": 0.1, "calibrate": 0.1, "test": 0.1},
    "cross_validation_fold": None,
    "symmetry": "none",
    "symmetry_epoch": "random",
    "store_device": None,
    "batch_size": 4,
    "eval_batch_size": 4,
    "num_workers": 0,
    "seed": 0,
}


@pytest.fixture
def table():
    """Two metals in turn, 20 geometries; curve values are row + 0.01 * band, y after x."""
    columns = {f"T{axis}_{nm}": 0.0 for axis in "xy" for nm in WAVELENGTHS_NM}
    table = pd.DataFrame({"row": range(NUM), "geom_id": np.arange(NUM) // 2, "mat_id": np.arange(NUM) % 2, **columns})
    table.insert(3, "eps_host", 1.0)
    table.iloc[:, 4:] = np.arange(NUM)[:, None] + 0.01 * np.arange(2 * len(WAVELENGTHS_NM))
    return table


@pytest.fixture
def arrays(table):
    """One random image a geometry."""
    images = np.random.default_rng(0).integers(0, 2, (NUM // 2, SIDE, SIDE), dtype=np.uint8)
    geometry = table["geom_id"].to_numpy()
    return {"images": images[geometry], "geom_id": geometry.astype(np.int32), "row": np.arange(NUM, dtype=np.int32)}


def write(folder, table, arrays):
    table.to_csv(folder / TABLE, index=False)
    np.savez_compressed(folder / IMAGES, **arrays)
    return folder


def module(folder, **changes):
    arguments = {"root": str(folder), "mat_id": 1, "eps_host": 1.0, "cache_folder": str(folder / "cache"), **SETTINGS}
    return DeepNanoDataModule(**(arguments | changes))


def test_one_metal_is_read_with_its_images_and_both_polarisations(tmp_path, table, arrays):
    data = module(write(tmp_path, table, arrays))
    assert len(data.index) == NUM // 2
    np.testing.assert_array_equal(data.pictures(np.arange(20)), arrays["images"][1::2])
    bands = len(WAVELENGTHS_NM)
    expected = 7 + 0.01 * np.arange(2 * bands).reshape(2, bands)  # sample 3 is row 7 of the table
    np.testing.assert_allclose(data.store.target[3], expected, rtol=1e-6)
    assert data.index.ids[3] == "row 7"
    assert data.channels_and_axis()[1]["values"][::42] == [600.0, 1650.0]
    assert data.findings()[1] == []


def test_geometries_with_one_image_stay_together_and_that_is_said(tmp_path, table, arrays):
    arrays["images"][10:12] = arrays["images"][0]  # geometry 5 looks like geometry 0
    data = module(write(tmp_path, table, arrays))
    assert data.index.group[5] == data.index.group[0]
    assert data.fold[5] == data.fold[0]
    assert "20 geometries have 19 distinct images" in data.findings()[1][0]
    assert "19 groups" in data.findings()[1][0]


def test_a_changed_file_is_read_again(tmp_path, table, arrays):
    first = module(write(tmp_path, table, arrays)).store.folder
    assert module(tmp_path).store.folder == first
    table.loc[1, "Tx_600"] = 0.125
    changed = module(write(tmp_path, table, arrays)).store
    assert changed.folder != first
    assert changed.target[0, 0, 0] == 0.125


@pytest.mark.parametrize("name", [TABLE, IMAGES])
def test_a_missing_file_is_named(tmp_path, table, arrays, name):
    (write(tmp_path, table, arrays) / name).unlink()
    with pytest.raises(DataError, match=rf"{name} does not exist; data.root must hold {TABLE} and {IMAGES}"):
        _ = module(tmp_path).index


@pytest.mark.parametrize("column", ["geom_id", "eps_host", "Ty_1650"])
def test_a_missing_column_is_named(tmp_path, table, arrays, column):
    write(tmp_path, table.drop(columns=column), arrays)
    with pytest.raises(DataError, match=rf"{TABLE} lacks 1 column\(s\), first '{column}'"):
        read_deepnano(tmp_path)


@pytest.mark.parametrize("value", ["", "nan", "inf", "much"])
def test_what_is_no_number_is_named_with_its_line(tmp_path, table, arrays, value):
    table["Tx_625"] = table["Tx_625"].astype(object)
    table.loc[3, "Tx_625"] = value
    write(tmp_path, table, arrays)
    with pytest.raises(DataError, match=rf"{TABLE}, line 5: Tx_625 is .*, not a finite number"):
        read_deepnano(tmp_path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((NUM, 16, 32), np.uint8), r"are uint8 \(40, 16, 32\); allowed: uint8 \(N, S, S\), 16 \| S"),
        (np.zeros((NUM, 20, 20), np.uint8), r"are uint8 \(40, 20, 20\)"),
        (np.zeros((NUM, 256), np.uint8), r"are uint8 \(40, 256\)"),
        (np.zeros((NUM, 16, 16), np.float32), r"are float32 \(40, 16, 16\)"),
        (np.full((NUM, 16, 16), 255, np.uint8), r"hold 255; allowed are 0 and 1"),
        (np.zeros((NUM - 1, 16, 16), np.uint8), r"has 39 images, .* 40 rows"),
    ],
)
def test_images_of_another_shape_or_kind_are_refused(tmp_path, table, arrays, images, message):
    write(tmp_path, table, arrays | {"images": images})
    with pytest.raises(DataError, match=rf"{IMAGES} {message}"):
        read_deepnano(tmp_path)


def test_images_in_another_order_are_refused(tmp_path, table, arrays):
    write(tmp_path, table, arrays | {"row": arrays["row"][::-1]})
    with pytest.raises(DataError, match=rf"row in .*{IMAGES} is not that of .*{TABLE}; .* in the same order"):
        read_deepnano(tmp_path)


def test_a_foreign_archive_and_a_plain_array_are_refused(tmp_path, table, arrays):
    np.savez(write(tmp_path, table, arrays) / IMAGES, weights=np.zeros(3))
    with pytest.raises(DataError, match=rf"{IMAGES} lacks an array: .*images, geom_id, row are needed"):
        read_deepnano(tmp_path)
    with (tmp_path / IMAGES).open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(DataError, match=r"cannot be read \(TypeError"):
        read_deepnano(tmp_path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (TABLE, lambda content: content[: len(content) // 2]),
        (TABLE, lambda content: content[:30] + bytes(20) + content[50:]),
        (TABLE, lambda content: b"row,geom_id\n1,2\n"),
        (TABLE, lambda content: gzip.compress(b"")),
        (IMAGES, lambda content: content[: len(content) // 2]),
        (IMAGES, lambda content: b""),
        (IMAGES, lambda content: content[:80] + bytes(20) + content[100:]),
    ],
    ids=["cut gz", "damaged gz", "not gz", "empty gz", "cut npz", "no bytes", "damaged npz"],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path, table, arrays, name, damage):
    path = write(tmp_path, table, arrays) / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"{TABLE} or .*{IMAGES} cannot be read \(\w+: "):
        read_deepnano(tmp_path)


def test_a_metal_or_host_that_is_not_there_and_a_symmetry_are_refused(tmp_path, table, arrays):
    write(tmp_path, table, arrays)
    for changes in ({"mat_id": 3}, {"eps_host": 2.5}):
        with pytest.raises(DataError, match=r"no row has data.mat_id=.*; the pairs there are: \(0, 1\), \(1, 1\)\."):
            _ = module(tmp_path, **changes).index
    with pytest.raises(
        ConfigError, match=r"data.symmetry is 'full'; for this set, whose curves are no cells, only none"
    ):
        module(tmp_path, symmetry="full")


def test_chains_of_geometries_and_images_are_one_group():
    assert joined_groups(np.array([5, 6, 6, 7, 8]), np.array([0, 0, 1, 1, 2])).tolist() == [0, 0, 0, 0, 1]
