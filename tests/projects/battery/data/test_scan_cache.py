import numpy as np
import pytest

import projects.battery.data.scan_cache as scan_cache
from projects.battery.data.scan_cache import load_or_scan
from shared.errors import DataError


@pytest.fixture
def calls(monkeypatch):
    """Count the real scans."""
    seen = []
    scan_ct = scan_cache.scan_ct

    def counting(*args, **kwargs):
        seen.append(args)
        return scan_ct(*args, **kwargs)

    monkeypatch.setattr(scan_cache, "scan_ct", counting)
    return seen


def test_an_unchanged_folder_is_not_scanned_again(slices, tmp_path, calls):
    slices[4].rewrite_label(is_normal=False, defects=None)
    first = load_or_scan(tmp_path / "data", tmp_path / "cache", on_bad_file="skip")
    second = load_or_scan(tmp_path / "data", tmp_path / "cache", on_bad_file="skip")
    assert len(calls) == 1
    assert second.index.data_hash() == first.index.data_hash()
    assert (second.skipped, second.findings) == (first.skipped, first.findings)
    for key, column in first.index.numbers.items():
        assert np.array_equal(second.index.numbers[key], column, equal_nan=True)


def test_another_file_setting_or_source_is_scanned_again(slices, tmp_path, calls):
    root, cache = tmp_path / "data", tmp_path / "cache"
    load_or_scan(root, cache)
    load_or_scan(root, cache, on_bad_file="skip")
    load_or_scan(root, cache, source="stand-in")
    assert len(calls) == 3
    slices[0].image_path.unlink()
    slices[0].label_path.unlink()
    assert len(load_or_scan(root, cache).index) == 35
    assert len(calls) == 4


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_cache_is_made_again(slices, tmp_path, calls, suffix, damage):
    root, cache = tmp_path / "data", tmp_path / "cache"
    whole = load_or_scan(root, cache)
    (path,) = cache.glob(f"*{suffix}")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        path.unlink()
    assert load_or_scan(root, cache).index.data_hash() == whole.index.data_hash()
    assert len(calls) == 2
    load_or_scan(root, cache)
    assert len(calls) == 2


def test_a_failed_scan_leaves_no_cache(slices, tmp_path):
    slices[0].label_path.unlink()
    with pytest.raises(DataError, match="has no label"):
        load_or_scan(tmp_path / "data", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
