import hashlib

import pytest

from projects.pillsnap.chain.files import checked_path, is_kcode, json_bytes, sha256_files, write_if_changed
from shared.errors import DataError


def test_hashes_are_in_the_order_of_the_files_and_progress_reaches_the_end(tmp_path):
    paths = [tmp_path / str(number) for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * number)
    seen = []
    found = sha256_files(paths, lambda done, total: seen.append((done, total)))
    assert found == [(hashlib.sha256(bytes([n]) * n).hexdigest(), n) for n in range(20)]
    assert seen == [(n, 20) for n in range(1, 21)]
    with pytest.raises(DataError, match=r"none cannot be read \(No such file or directory\)"):
        sha256_files([tmp_path / "none"])


def test_an_equal_file_is_not_written_again(tmp_path):
    path = tmp_path / "a.json"
    assert write_if_changed(path, b"one")
    stamp = path.stat().st_mtime_ns
    assert not write_if_changed(path, b"one")
    assert path.stat().st_mtime_ns == stamp
    assert write_if_changed(path, b"two")


def test_json_has_no_nan_and_keeps_letters():
    assert json_bytes({"b": "é", "a": 1}) == '{\n  "b": "é",\n  "a": 1\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes({"a": float("nan")})


@pytest.mark.parametrize("text", ["K-000123", "a", "9", "K.1_b-2"])
def test_sound_kcodes(text):
    assert is_kcode(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a\\b", "-a", "a..b", "a.", "K 1", "é", "a\n", "K" * 65])
def test_kcodes_that_are_no_folder_names(text):
    assert not is_kcode(text)


def test_paths_of_photos():
    assert checked_path("combined/K-1/real_a b.jpg", "x") == "combined/K-1/real_a b.jpg"
    for text in (
        "combined/K-1",
        "combined/K-1/a/b",
        "combined/K-1/..",
        "combined//a",
        "combined/K-1/",
        "x/K-1/a",
        None,
        3,
        "combined/K-1/./a",
        "/combined/K-1/a",
        "combined/../a",
        "others/K-1/..",
    ):
        with pytest.raises(DataError, match=r"the table names the photo .*; allowed are combined/<kcode>/<name> and"):
            checked_path(text, "the table")
