import hashlib
import os
import shutil

import pytest

from projects.pillsnap.chain.photo_tree import scan_root
from shared.errors import DataError
from tests.fabricate.pill_tree import jpeg, write_photos


@pytest.fixture
def root(tmp_path):
    write_photos(tmp_path / "real", "K-1", {"r00": 2})
    write_photos(tmp_path / "real", "K-2", {"r00": 1})
    return tmp_path / "real"


def test_photos_are_found_in_order_and_hashed(root):
    photos, skipped = scan_root(root, "real", ["K-1", "K-2", "K-3"])
    assert [(photo.kcode, photo.name) for photo in photos] == [
        ("K-1", "r00_00.jpg"), ("K-1", "r00_01.jpg"), ("K-2", "r00_00.jpg"),
    ]  # fmt: skip
    content = (root / "K-1" / "r00_01.jpg").read_bytes()
    assert photos[1].sha256 == hashlib.sha256(content).hexdigest()
    assert photos[1].size == len(content)
    assert not skipped.counts
    assert not skipped.unknown_folders


def test_what_is_no_photo_is_skipped_and_counted(root):
    (root / "SOURCE.txt").write_text("where it is from")
    (root / ".DS_Store").write_text("x")
    (root / "K-1" / "._r00_00.jpg").write_bytes(jpeg(0))
    (root / "K-1" / "notes.txt").write_text("x")
    (root / "K-1" / "page.jpg").write_text("<html>")
    (root / "K-1" / "empty.jpg").touch()
    (root / "K-1" / "more").mkdir()
    (root / "K-7").mkdir()
    os.mkfifo(root / "K-2" / "pipe.jpg")
    photos, skipped = scan_root(root, "real", ["K-1", "K-2"])
    assert len(photos) == 3
    assert skipped.counts == {
        "hidden": 2,
        "beside the class folders": 1,
        "no image by its name": 2,
        "no image by its first bytes": 2,
        "folder inside a class folder": 1,
    }
    assert skipped.unknown_folders == ["K-7"]
    assert "K-1/page.jpg" in skipped.examples


def test_suffixes_count_in_any_case(root):
    (root / "K-1" / "X_1.JPG").write_bytes(jpeg(9))
    assert len(scan_root(root, "real", ["K-1"])[0]) == 3


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(DataError, match=r"the studio root .*none is no folder; it must hold one folder a K-code"):
        scan_root(tmp_path / "none", "studio", [])


def test_links_inside_the_root_are_followed_and_others_refused(root, tmp_path):
    (root / "K-2" / "link_1.jpg").symlink_to("../K-2/r00_00.jpg")
    assert len(scan_root(root, "real", ["K-1", "K-2"])[0]) == 4
    (root / "K-2" / "gone_1.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(DataError, match=r"gone_1\.jpg is a link to .*nowhere\.jpg, which does not exist; remove or"):
        scan_root(root, "real", ["K-1", "K-2"])
    (root / "K-2" / "gone_1.jpg").unlink()
    (root / "K-2" / "loop_1.jpg").symlink_to("loop_1.jpg")
    with pytest.raises(DataError, match=r"loop_1\.jpg is a link to .*, which does not exist"):
        scan_root(root, "real", ["K-1", "K-2"])
    (root / "K-2" / "loop_1.jpg").unlink()
    outside = tmp_path / "outside"
    shutil.copytree(root / "K-1", outside)
    (root / "K-2" / "out_1.jpg").symlink_to(outside / "r00_00.jpg")
    with pytest.raises(DataError, match=r"out_1\.jpg is a link to .*r00_00\.jpg, outside .*real; put the photos there"):
        scan_root(root, "real", ["K-1", "K-2"])
    (root / "K-2" / "out_1.jpg").unlink()
    (root / "K-3").symlink_to(outside)
    with pytest.raises(DataError, match=r"K-3 is a link to .*outside, outside"):
        scan_root(root, "real", ["K-1", "K-2", "K-3"])


def test_the_root_itself_may_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    photos, _ = scan_root(tmp_path / "link", "real", ["K-1"])
    assert photos[0].file == root.resolve() / "K-1" / "r00_00.jpg"


def test_names_that_no_table_can_hold_are_refused(root):
    (root / "K-1" / "a\nb_1.jpg").write_bytes(jpeg(1))
    with pytest.raises(DataError, match=r"the name 'a\\nb_1\.jpg' in .*K-1 holds characters that cannot be printed"):
        scan_root(root, "real", ["K-1"])
    (root / "K-1" / "a\nb_1.jpg").unlink()
    (root / "K-1" / os.fsdecode(b"\xff_1.jpg")).write_bytes(jpeg(1))
    with pytest.raises(DataError, match=r"the name '\\udcff_1\.jpg'"):
        scan_root(root, "real", ["K-1"])


def test_other_drugs_are_all_folders_but_none_of_the_classes(root):
    assert {photo.kcode for photo in scan_root(root, "other", ["K-9"])[0]} == {"K-1", "K-2"}
    with pytest.raises(DataError, match=r"real/K-2 is the class K-2 of the mapping; the root of others holds drugs"):
        scan_root(root, "other", ["K-2"])
    (root / "two words").mkdir()
    with pytest.raises(DataError, match=r"the folder .*two words cannot be a K-code"):
        scan_root(root, "other", ["K-9"])
