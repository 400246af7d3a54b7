import multiprocessing
import pickle
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from shared.errors import DataError
from shared.readers import FolderReader, ZipReader


@pytest.fixture
def contents():
    generator = np.random.default_rng(3)
    return {f"images/{n:02d}.png": generator.bytes(20_000) for n in range(16)}


@pytest.fixture
def archive(contents, tmp_path):
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, content in contents.items():
            stream.writestr(name, content)
    return path


def test_folder_and_zip_give_the_same_bytes(archive, contents, tmp_path):
    zipfile.ZipFile(archive).extractall(tmp_path / "out")
    folder, packed = FolderReader(tmp_path / "out"), ZipReader(archive)
    assert packed.names() == list(contents)
    for name, content in contents.items():
        assert folder.read(name) == packed.read(name) == content
    packed.close()
    assert packed.read("images/00.png") == contents["images/00.png"]
    packed.close()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_an_archive_that_the_parent_has_open(archive, contents, start):
    reader = ZipReader(archive)
    first, *rest = contents
    assert reader.read(first) == contents[first]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(start)) as pool:
        futures = {name: pool.submit(reader.read, name) for name in rest * 3}
        # The parent reads at the same time: with a shared file position both sides would get garbage.
        for name in rest * 3:
            assert reader.read(name) == contents[name]
        assert {name: future.result() for name, future in futures.items()} == {name: contents[name] for name in rest}
    reader.close()


def test_threads_share_one_archive(archive, contents):
    reader = ZipReader(archive)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(reader.read, list(contents) * 4)) == list(contents.values()) * 4
    reader.close()


def test_a_pickled_reader_holds_no_handle(archive, contents):
    reader = ZipReader(archive)
    reader.read("images/00.png")
    copy = pickle.loads(pickle.dumps(reader))
    reader.close()
    assert copy.read("images/01.png") == contents["images/01.png"]
    copy.close()


def test_missing_and_broken_files_are_named(archive, tmp_path):
    with pytest.raises(DataError, match=r"gone.png cannot be read \(No such file or directory\)"):
        FolderReader(tmp_path).read("gone.png")
    reader = ZipReader(archive)
    with pytest.raises(DataError, match=r"all.zip holds no member 'gone.png'"):
        reader.read("gone.png")
    reader.close()
    broken = bytearray(archive.read_bytes())
    broken[5_000:5_100] = bytes(100)
    (tmp_path / "broken.zip").write_bytes(broken)
    reader = ZipReader(tmp_path / "broken.zip")
    with pytest.raises(DataError, match=r"member 'images/00.png' of .*broken.zip cannot be read"):
        reader.read("images/00.png")
    reader.close()
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cut.zip is no readable zip file .* copy it again"):
        ZipReader(tmp_path / "cut.zip").names()
