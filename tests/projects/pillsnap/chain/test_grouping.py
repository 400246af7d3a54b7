import re
from pathlib import Path

import pytest

from projects.pillsnap.chain.captures import DEFAULT_PATTERN
from projects.pillsnap.chain.grouping import join_captures, name_captures
from projects.pillsnap.chain.photo_tree import SourcePhoto
from shared.errors import DataError

PATTERN = re.compile(DEFAULT_PATTERN)


def photo(path, sha256=None):
    domain, kcode, name = path.split("/")
    return SourcePhoto(domain, kcode, name, Path(path), 1, sha256 or path)


def test_captures_are_named_by_domain_class_and_sitting():
    photos = [photo(path) for path in ("real/K-1/r0_1.jpg", "real/K-1/r0_2.jpg", "real/K-2/r0_1.jpg", "real/K-1/x.jpg")]
    names, unmatched = name_captures(photos, PATTERN, shared=False)
    assert list(names.values()) == ["real/K-1/r0", "real/K-1/r0", "real/K-2/r0", "real/K-1/x.jpg"]
    assert unmatched == 1


def test_shared_captures_join_classes_but_not_domains_and_not_photos_without_one():
    paths = ("real/K-1/r0_1.jpg", "real/K-2/r0_1.jpg", "studio/K-1/r0_1.jpg", "real/K-1/x.jpg", "real/K-2/x.jpg")
    names, _ = name_captures([photo(path) for path in paths], PATTERN, shared=True)
    assert list(names.values()) == ["real/r0", "real/r0", "studio/r0", "real/K-1/x.jpg", "real/K-2/x.jpg"]


def test_captures_with_the_same_bytes_are_joined_over_domains_and_steps():
    photos = [
        photo("real/K-1/a_1.jpg"), photo("real/K-1/b_1.jpg", "same"), photo("real/K-1/a_2.jpg", "same"),
        photo("studio/K-1/s_1.jpg", "too"), photo("real/K-1/b_2.jpg", "too"), photo("real/K-1/c_1.jpg"),
    ]  # fmt: skip
    names, _ = name_captures(photos, PATTERN, shared=False)
    groups, counts = join_captures(photos, names)
    assert set(list(groups.values())[:5]) == {"real/K-1/a"}
    assert groups[Path("real/K-1/c_1.jpg")] == "real/K-1/c"
    assert counts == {"photos": 2, "captures_joined": 2}


def test_the_same_bytes_under_two_drugs_are_refused_with_both_files():
    photos = [photo("real/K-1/a_1.jpg", "same"), photo("other/K-9/b_1.jpg", "same")]
    names, _ = name_captures(photos, PATTERN, shared=False)
    with pytest.raises(
        DataError, match=r"real/K-1/a_1\.jpg and other/K-9/b_1\.jpg hold the same bytes under two drugs"
    ):
        join_captures(photos, names)
