"""Headers against files as NumPy writes them, rows against the array, and what is no array file."""

import numpy as np
import pytest
from numpy.lib import format as npy_format

from projects.spectra.data.npy_file import open_npy
from shared.errors import DataError

ARRAY = np.arange(5 * 3 * 4, dtype=np.float32).reshape(5, 3, 4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "array.npy"


@pytest.mark.parametrize("dtype", ["u1", "?", "<f2", "<f4", ">f4", ">i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_those_of_the_array_in_any_byte_and_axis_order(path, dtype, order):
    array = np.asarray(ARRAY, dtype=dtype, order=order)
    np.save(path, array)
    file = open_npy(path)
    assert (file.shape, file.dtype, len(file)) == (array.shape, array.dtype, 5)
    for start, stop in ((0, 5), (1, 3), (4, 5), (2, 2)):
        rows = file.rows(start, stop)
        np.testing.assert_array_equal(rows, array[start:stop])
        assert rows.dtype.isnative


def test_the_second_version_of_the_header_is_read_and_the_third_is_not(path):
    for version in ((2, 0), (3, 0)):
        with path.open("wb") as stream:
            npy_format.write_array(stream, ARRAY, version=version)
        if version == (2, 0):
            np.testing.assert_array_equal(open_npy(path).rows(0, 5), ARRAY)
            continue
        with pytest.raises(DataError, match=r"version \(3, 0\) of the format is for field names"):
            open_npy(path)


def test_bytes_after_the_array_do_no_harm(path):
    np.save(path, ARRAY)
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(open_npy(path).rows(0, 5), ARRAY)


def test_a_missing_file_and_a_folder_are_named(tmp_path, path):
    for absent in (path, tmp_path):
        with pytest.raises(DataError, match=rf"{absent} does not exist or is no file"):
            open_npy(absent)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 something else", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x04\x00[[[["]
)
def test_what_is_no_array_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"array.npy is no .npy file, or its header is damaged"):
        open_npy(path)


@pytest.mark.parametrize("left", [1, 100, 239])
def test_a_cut_file_is_refused_by_its_header(path, left):
    np.save(path, ARRAY)
    header = path.stat().st_size - ARRAY.nbytes
    path.write_bytes(path.read_bytes()[: header + left])
    with pytest.raises(
        DataError, match=rf"cut off: its header says shape \(5, 3, 4\) .* but the file has {header + left}"
    ):
        open_npy(path)


def test_pickled_objects_are_never_loaded(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled Python objects, which are never loaded"):
        open_npy(path)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(path):
    np.save(path, ARRAY)
    file = open_npy(path)
    path.write_bytes(path.read_bytes()[:-60])  # a row is 48 bytes
    with pytest.raises(DataError, match=r"array.npy ends within row 3; it has been cut off"):
        file.rows(2, 5)
    np.testing.assert_array_equal(file.rows(0, 3), ARRAY[:3])
