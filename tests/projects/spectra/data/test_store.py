"""A store is whole or made again, whatever was killed or damaged; a copy in another process opens the files itself."""

import hashlib
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch

from projects.spectra.data.store import digests, load_or_build, unpack_bits
from shared.errors import DataError
from tests.fabricate.sample_index import make_index

SIDE, NUM = 16, 6
KEY = {"format": "test-1", "files": [["a.npy", 3, 4]]}
BITS = np.random.default_rng(0).integers(0, 256, (NUM, SIDE * SIDE // 8), dtype=np.uint8)
TARGET = np.arange(NUM * 8, dtype=np.float32).reshape(NUM, 2, 2, 2)


class Source:
    """Fills a folder and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self, folder):
        self.calls += 1
        np.save(folder / "bits.npy", BITS)
        np.save(folder / "target.npy", TARGET)
        return make_index(range(NUM)), ["a finding"]


@pytest.fixture
def source():
    return Source()


def test_the_second_call_reads_nothing_and_returns_the_same(tmp_path, source):
    for _ in range(2):
        store, index, findings = load_or_build(tmp_path, KEY, source)
        np.testing.assert_array_equal(store.bits, BITS)
        np.testing.assert_array_equal(store.target, TARGET)
        assert (store.side_px, store.output_shape, len(store)) == (SIDE, (2, 2, 2), NUM)
        assert index.data_hash() == make_index(range(NUM)).data_hash()
        assert findings == ["a finding"]
    assert source.calls == 1


def test_another_key_is_another_store(tmp_path, source):
    one = load_or_build(tmp_path, KEY, source)[0]
    other = load_or_build(tmp_path, KEY | {"files": [["a.npy", 3, 5]]}, source)[0]
    assert one.folder != other.folder
    assert source.calls == 2


def test_a_making_that_fails_leaves_nothing_and_is_not_taken_for_a_store(tmp_path, source):
    def killed(folder):
        source(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_build(tmp_path, KEY, killed)
    assert list(tmp_path.iterdir()) == []
    load_or_build(tmp_path, KEY, source)
    assert source.calls == 2


def test_what_a_killed_process_left_is_not_used_and_goes_after_a_day(tmp_path, source):
    folder = load_or_build(tmp_path, KEY, source)[0].folder
    old, fresh = (tmp_path / f".{folder.name}-{name}" for name in ("old", "fresh"))
    for leftover in (old, fresh):
        folder.rename(leftover) if leftover is old else leftover.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    load_or_build(tmp_path, KEY, source)
    assert source.calls == 2
    assert fresh.exists()
    assert not old.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "facts.json").unlink(),
        lambda folder: (folder / "facts.json").write_text("{}"),
        lambda folder: (folder / "index.npz").write_bytes(b"rubbish"),
        lambda folder: (folder / "bits.npy").write_bytes(b""),
        lambda folder: (folder / "bits.npy").write_bytes(b"\x93NUMPY\x01\x00\x04\x00[[[["),
        lambda folder: (folder / "target.npy").write_bytes((folder / "target.npy").read_bytes()[:-1]),
        lambda folder: np.save(folder / "target.npy", TARGET[:-1]),
        lambda folder: np.save(folder / "bits.npy", BITS[:, :-1]),
    ],
    ids=["no facts", "empty facts", "index", "no bytes", "header", "cut off", "a row less", "no square"],
)
def test_a_damaged_store_is_made_again(tmp_path, source, damage):
    damage(load_or_build(tmp_path, KEY, source)[0].folder)
    store, _, _ = load_or_build(tmp_path, KEY, source)
    assert source.calls == 2
    np.testing.assert_array_equal(store.target, TARGET)


def test_of_two_processes_that_make_one_store_the_first_one_stays(tmp_path, source):
    def slow(folder):
        first = load_or_build(tmp_path, KEY, source)[0].folder  # another process is done meanwhile
        (first / "mark").touch()
        return source(folder)

    store, _, _ = load_or_build(tmp_path, KEY, slow)
    assert (store.folder / "mark").exists()
    assert [path.name for path in tmp_path.iterdir()] == [store.folder.name]


def test_errors_of_the_files_are_passed_on(tmp_path):
    def broken(folder):
        raise DataError("struct_0.npy does not exist.")

    with pytest.raises(DataError, match=r"struct_0.npy does not exist\."):
        load_or_build(tmp_path, KEY, broken)


def total(store):
    """Sum in another process; with it, whether the maps came along."""
    return len(store._maps), int(store.bits.sum(dtype=np.int64)), float(store.target.sum())


def test_a_worker_opens_the_files_itself(tmp_path, source):
    store, _, _ = load_or_build(tmp_path, KEY, source)
    expected = total(store)[1:]
    assert len(store._maps) == 2
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(total, store).result() == (0, *expected)


def test_tensors_on_a_device_are_made_once(tmp_path, source):
    store, _, _ = load_or_build(tmp_path, KEY, source)
    bits, target = store.on_device("cpu")
    np.testing.assert_array_equal(bits, BITS)
    assert store.on_device("cpu")[1] is target
    assert target.dtype == torch.float32


def test_pictures_and_digests_against_their_definitions(tmp_path, source):
    store, _, _ = load_or_build(tmp_path, KEY, source)
    expected = [[(byte >> place) & 1 for byte in row for place in range(7, -1, -1)] for row in BITS[[4, 1]].tolist()]
    assert store.pictures(np.array([4, 1])).reshape(2, -1).tolist() == expected
    assert unpack_bits(BITS[:0], SIDE).shape == (0, SIDE, SIDE)
    assert digests(BITS)[2].tobytes() == hashlib.blake2b(BITS[2].tobytes(), digest_size=16).digest()
