import os

import pytest

from projects.battery.data.listing import DEFAULT_PATTERN, compile_pattern, label_candidates, list_folder
from shared.errors import ConfigError, DataError


def test_the_spec_s_example_and_a_module_without_a_form_match():
    pattern = compile_pattern(DEFAULT_PATTERN)
    found = pattern.fullmatch("CT_cell_pouch_0109_x_0123.png")
    assert found.groupdict() == {"kind": "cell", "form": "pouch", "battery": "0109", "axis": "x", "slice": "0123"}
    assert pattern.fullmatch("CT_module_0301_z_0012.png")["form"] is None
    assert pattern.fullmatch("RGB_cell_cylindrical_0301_007.png") is None


def test_a_pattern_must_compile_and_have_all_groups():
    with pytest.raises(ConfigError, match=r"data.file_pattern .* is no regular expression"):
        compile_pattern("CT_(")
    with pytest.raises(ConfigError, match="lacks the named groups form, axis;"):
        compile_pattern(r"(?P<kind>\w)(?P<battery>\d)(?P<slice>\d)")


def test_images_at_any_depth_are_listed_in_order(slices, tmp_path):
    root = tmp_path / "data"
    deep = root / "images" / "deep" / "er"
    deep.mkdir(parents=True)
    slices[0].image_path.rename(deep / slices[0].image_path.name)
    (root / "images" / "._CT_cell_pouch_0101_x_0010.png").write_bytes(b"left by a Mac")
    (root / "images" / "RGB_cell_pouch_0101_001.png").write_bytes(b"a photo")
    (root / "notes.txt").write_text("not data")
    listing = list_folder(root, DEFAULT_PATTERN)
    names = [each.image_path.name for each in slices]
    expected = [f"images/{name}" for name in names[1:]] + [f"images/deep/er/{names[0]}"]
    assert listing.images.to_list() == expected
    assert (listing.num_unmatched, listing.unmatched_example) == (1, "images/RGB_cell_pouch_0101_001.png")
    assert listing.label_folders == {"labels"}
    assert (listing.num_labels, listing.num_files) == (36, 73)


def test_links_are_followed_and_a_loop_ends(slices, tmp_path):
    root = tmp_path / "linked"
    root.mkdir()
    (root / "battery").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "images" / "again").symlink_to(tmp_path / "data")
    assert len(list_folder(root, DEFAULT_PATTERN).images) == len(slices)


def test_any_change_of_a_file_changes_the_digest(slices, tmp_path):
    root = tmp_path / "data"
    before = list_folder(root, DEFAULT_PATTERN)
    assert list_folder(root, DEFAULT_PATTERN).digest == before.digest
    stat = slices[3].label_path.stat()
    os.utime(slices[3].label_path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 1_000_000))
    after = list_folder(root, DEFAULT_PATTERN)
    assert (after.num_files, after.num_bytes) == (before.num_files, before.num_bytes)
    assert after.digest != before.digest


def test_missing_empty_and_unmatched_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere is not a folder \(nothing is there\); set data.root"):
        list_folder(tmp_path / "nowhere", DEFAULT_PATTERN)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"is not a folder \(a file is there\)"):
        list_folder(tmp_path / "file", DEFAULT_PATTERN)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="empty holds no PNG image at any depth"):
        list_folder(empty, DEFAULT_PATTERN)
    (empty / "scan7.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 1 PNG images .* an example is 'scan7.png', the pattern is 'CT_"):
        list_folder(empty, DEFAULT_PATTERN)


def test_a_dead_link_is_named(slices, tmp_path):
    (tmp_path / "data" / "images" / "CT_cell_pouch_0109_x_0123.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"CT_cell_pouch_0109_x_0123.png cannot be read"):
        list_folder(tmp_path / "data", DEFAULT_PATTERN)


@pytest.mark.parametrize(
    ("image", "folders", "expected"),
    [
        ("X.png", {""}, ["X.json"]),
        ("a/X.png", {"a", "labels"}, ["a/X.json", "labels/X.json"]),
        ("a/images/b/X.png", {"a/labels/b"}, ["a/labels/b/X.json"]),
        ("a/images/b/X.png", {"a/labels", "a/images/labels"}, ["a/images/labels/X.json", "a/labels/X.json"]),
        ("images/X.png", {"labels"}, ["labels/X.json"]),
        ("images/X.png", {"elsewhere"}, []),
    ],
)
def test_labels_are_looked_for_beside_and_in_parallel_folders(image, folders, expected):
    assert list(label_candidates(image, frozenset(folders))) == expected
