"""One .npy array on disk, checked before use and read a stretch of rows at a time: never whole."""

from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from shared.errors import DataError


@dataclass(frozen=True)
class NpyFile:
    """What the header of an .npy file says; its size on disk agrees.

    Attributes:
        path: The file.
        shape: Shape of the array.
        dtype: Type of its elements, in the byte order of the file.
        fortran_order: Whether the first axis runs fastest.
        offset: Where the elements begin, in bytes.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows start .. stop - 1 in the byte order of the machine.

        Raises:
            DataError: The file has become shorter since its header was read.
        """
        if self.fortran_order:  # a row is spread over the whole file: only a map can pick it out
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order="F")
            part: NDArray[Any] = np.ascontiguousarray(mapped[start:stop])
        else:
            # Read, not mapped: mapped pages would count as this process's memory, all 3.3 GB of them in the end.
            per_row = int(np.prod(self.shape[1:], dtype=np.int64))
            offset = self.offset + start * per_row * self.dtype.itemsize
            part = np.fromfile(self.path, self.dtype, (stop - start) * per_row, offset=offset)
            if len(part) != (stop - start) * per_row:
                raise DataError(f"{self.path} ends within row {start + len(part) // per_row}; it has been cut off.")
            part = part.reshape(stop - start, *self.shape[1:])
        return part.astype(self.dtype.newbyteorder("="), copy=False)


def open_npy(path: Path) -> NpyFile:
    """Read the header of an .npy file and compare it with the file's size.

    Raises:
        DataError: The file is missing, is no .npy file, holds Python objects or is shorter than its header says.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file.")
    try:
        with path.open("rb") as stream:
            shape, fortran_order, dtype = _read_header(stream)
            offset = stream.tell()
    except (ValueError, EOFError, OSError, SyntaxError, TokenError) as error:
        raise DataError(f"{path} is no .npy file, or its header is damaged ({error}).") from error
    if dtype.hasobject:
        raise DataError(f"{path} holds pickled Python objects, which are never loaded; save a plain array of numbers.")
    expected = offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    found = path.stat().st_size
    if found < expected:
        raise DataError(
            f"{path} is cut off: its header says shape {shape} of {dtype}, {expected:,} bytes, "
            f"but the file has {found:,}; copy it again."
        )
    return NpyFile(path, shape, dtype, fortran_order, offset)


def _read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy_format.read_array_header_2_0(stream)
    raise ValueError(f"version {version} of the format is for field names, which an array of numbers has not")
