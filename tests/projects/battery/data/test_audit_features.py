import numpy as np
import pytest

from projects.battery.data.audit_features import (
    IMAGE_STATISTICS,
    audit_table,
    compute_features,
    image_statistics,
    slice_position,
)
from projects.battery.data.scan import scan_ct
from shared.audit import audit_shortcuts
from shared.errors import DataError
from shared.readers import FolderReader


@pytest.fixture
def index(slices, tmp_path):
    return scan_ct(tmp_path / "data").index


def test_statistics_of_a_small_image_are_those_of_numpy():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60), dtype=np.uint8)
    found = dict(zip(IMAGE_STATISTICS, image_statistics(pixels, 1234), strict=True))
    grey = pixels / 255
    lengths = [np.hypot(grey[y + 1, x] - grey[y, x], grey[y, x + 1] - grey[y, x]) for y in range(39) for x in range(59)]
    expected = {
        "brightness_mean": grey.mean(),
        "brightness_std": grey.std(),
        "black_share": (pixels < 13).mean(),
        "sharpness": np.mean(lengths),
        "aspect_ratio": 1.5,
        "width_px": 60,
        "height_px": 40,
        "file_bytes": 1234,
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_large_image_is_shrunk_eight_times_by_block_means():
    pixels = np.random.default_rng(1).integers(0, 256, (256, 512), dtype=np.uint8)
    found = dict(zip(IMAGE_STATISTICS, image_statistics(pixels, 1), strict=True))
    blocks = pixels.reshape(32, 8, 64, 8).mean(axis=(1, 3)) / 255
    assert found["brightness_mean"] == pytest.approx(blocks.mean(), abs=0.002)
    assert found["brightness_std"] == pytest.approx(blocks.std(), rel=0.02)
    assert found["width_px"] == 512


def test_a_flat_and_a_tiny_image_have_no_sharpness():
    assert image_statistics(np.full((50, 50), 7, np.uint8), 1)[:4] == pytest.approx((7 / 255, 0, 1, 0), abs=1e-6)
    assert image_statistics(np.zeros((1, 1), np.uint8), 1)[3] == 0


def test_features_follow_the_index_and_report_progress(slices, index, tmp_path):
    seen = []
    reader = FolderReader(tmp_path / "data")
    features = compute_features(index, reader, workers=3, on_progress=lambda done, total: seen.append((done, total)))
    assert tuple(features) == IMAGE_STATISTICS
    assert seen == [(36, 36)]
    expected = [each.pixels.mean() / 255 for each in slices]
    assert features["brightness_mean"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        compute_features(index, reader, workers=0)
    slices[3].image_path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=slices[3].image_path.name):
        compute_features(index, reader)


def test_the_table_audits_defect_given_kind(slices, index, tmp_path):
    features = compute_features(index, FolderReader(tmp_path / "data"))
    table = audit_table(index, features)
    assert table.target.tolist() == [each.label["defects"] is not None for each in slices]
    assert [index.meta_names["kind"][code] for code in table.stratum] == [each.kind for each in slices]
    assert np.array_equal(table.group, index.group)
    assert table.bundles == {"metadata": ("axis", "form", "slice_position"), "image statistics": IMAGE_STATISTICS}
    assert table.categorical == {"axis", "form"}
    assert "kind" not in table.features


def test_the_audit_finds_the_planted_slice_position(index, tmp_path):
    """Only slice 20 ever shows a defect in the fabricated set, never slice 10."""
    features = compute_features(index, FolderReader(tmp_path / "data"))
    rows = {row.feature: row for row in audit_shortcuts(audit_table(index, features), permutations=19)}
    assert rows["slice_position"].auroc > 0.7
    assert rows["slice_position"].p_value == pytest.approx(0.05)
    assert rows["width_px"].auroc == 0.5
    assert rows["metadata"].auroc > 0.9


def test_slice_position_is_relative_to_the_stack(slices, index):
    index.numbers["slice"][:] = 10
    assert np.isnan(slice_position(index)).all()
    members = [row for row, each in enumerate(slices) if (each.battery, each.axis) == ("0102", "y")]
    index.numbers["slice"][members] = (100, 300)
    assert slice_position(index)[members] == pytest.approx([0.05, 0.95])
