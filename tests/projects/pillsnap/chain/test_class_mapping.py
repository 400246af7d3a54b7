import json

import pytest

from projects.pillsnap.chain.class_mapping import map_classes, read_mapping
from shared.errors import DataError
from tests.fabricate.pill_tree import write_drugs


def drug(**changes):
    return {"kcode": "K-1", "name": "A", "manufacturer": "M", "form": "tablet", "weight": 1.0} | changes


def write(path, entries):
    path.write_text(json.dumps(entries))
    return path


def test_classes_are_numbered_by_sorted_kcode_whatever_the_order_of_the_list(tmp_path):
    mapping = map_classes(write_drugs(tmp_path / "a.json", ["K-2", "K-10", "K-1"]), tmp_path / "one")
    assert mapping.classes == ("K-1", "K-10", "K-2")
    assert mapping.class_to_idx == {"K-1": 0, "K-10": 1, "K-2": 2}
    assert mapping.names == ("Drug K-1", "Drug K-10", "Drug K-2")
    map_classes(write_drugs(tmp_path / "b.json", ["K-10", "K-1", "K-2"]), tmp_path / "two")
    one, two = (tmp_path / name / "class_mapping.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    found = json.loads(one.read_text())
    assert found["idx_to_class"] == {"0": "K-1", "1": "K-10", "2": "K-2"}
    assert found["version"] == 1
    assert found["metadata"]["K-2"] == {"name": "Drug K-2", "manufacturer": "Maker", "form": "tablet", "weight": 1.0}


def test_further_keys_stay(tmp_path):
    path = write(tmp_path / "d.json", [drug(), drug(kcode="K-2", imprint="AB", colors=["red"])])
    assert map_classes(path, tmp_path).metadata["K-2"]["colors"] == ["red"]


def test_a_second_run_leaves_the_file_and_another_list_says_what_changed(tmp_path):
    map_classes(write_drugs(tmp_path / "d.json", ["K-1", "K-3", "K-4"]), tmp_path)
    stamp = (tmp_path / "class_mapping.json").stat().st_mtime_ns
    assert map_classes(tmp_path / "d.json", tmp_path).changes == ()
    assert (tmp_path / "class_mapping.json").stat().st_mtime_ns == stamp
    changes = map_classes(write_drugs(tmp_path / "d.json", ["K-1", "K-2", "K-3"]), tmp_path).changes
    assert changes[0] == "1 class(es) added, first K-2"
    assert changes[1] == "1 class(es) removed, first K-4"
    assert changes[2].startswith("1 class(es) have another index: networks trained before")
    (tmp_path / "class_mapping.json").write_text("{")
    assert "could not be read" in map_classes(tmp_path / "d.json", tmp_path).changes[0]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({}, r"holds a JSON dict; it must be a list of 2 to 32,767 drugs"),
        ([drug()], "holds a list of 1"),
        ([drug(), "x"], r"entry 1 is 'x'; it must be an object with kcode, name, manufacturer, form and weight"),
        ([drug(), drug(name=" ")], "entry 1: name is ' '; it must be a text"),
        ([drug(), drug(kcode=7)], "entry 1: kcode is 7; it must be a text"),
        ([drug(), drug(kcode="../K-2")], r"entry 1: kcode is '\.\./K-2'; allowed are letters, digits"),
        ([drug(), drug(kcode="a..b")], r"entry 1: kcode is 'a\.\.b'; allowed are"),
        ([drug(), drug(kcode=".K")], r"entry 1: kcode is '\.K'"),
        ([drug(), drug(kcode="K" * 65)], "entry 1: kcode is"),
        ([drug(), drug()], "entry 1: the kcode 'K-1' stands there already as 'K-1'"),
        ([drug(), drug(kcode="k-1")], "entry 1: the kcode 'k-1' stands there already as 'K-1'"),
        ([drug(), drug(kcode="K-2", weight=0)], "entry 1: weight is 0; it must be a number above 0"),
        ([drug(), drug(kcode="K-2", weight=True)], "entry 1: weight is True"),
        ([drug(), drug(kcode="K-2", weight=float("inf"))], "entry 1: weight is inf"),
    ],
)
def test_wrong_lists_are_one_sentence(tmp_path, entries, sentence):
    with pytest.raises(DataError, match=sentence):
        map_classes(write(tmp_path / "d.json", entries), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_broken_and_ambiguous_lists_are_named(tmp_path):
    with pytest.raises(DataError, match=r"the list of drugs .*no\.json does not exist"):
        map_classes(tmp_path / "no.json", tmp_path)
    (tmp_path / "d.json").write_text('[{"kcode": "a", "kcode": "b"}]')
    with pytest.raises(DataError, match=r"d\.json is no readable JSON in UTF-8 \(the key 'kcode' stands twice"):
        map_classes(tmp_path / "d.json", tmp_path)
    (tmp_path / "d.json").write_bytes(b"[\xff]")
    with pytest.raises(DataError, match=r"d\.json is no readable JSON"):
        map_classes(tmp_path / "d.json", tmp_path)


def test_a_mapping_that_contradicts_itself_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"class_mapping\.json does not exist; run `python -m projects\.pillsnap\.map_"):
        read_mapping(tmp_path)
    map_classes(write_drugs(tmp_path / "d.json", ["K-1", "K-2"]), tmp_path)
    path = tmp_path / "class_mapping.json"
    sound = json.loads(path.read_text())
    for key, value, sentence in (
        ("version", 2, "has version 2, this code reads 1"),
        ("class_to_idx", None, "lacks class_to_idx, idx_to_class or metadata"),
        ("class_to_idx", {"K-1": 0, "K-2": 2}, "must number the same classes from 0 on"),
        ("class_to_idx", {"K-1": 1, "K-2": 0}, "must number the same classes from 0 on"),
        ("metadata", {"K-1": {"name": "A"}}, "class 'K-2' has no sound K-code, metadata or name"),
        ("metadata", sound["metadata"] | {"K-3": {}}, "class 'K-3' has no sound"),
    ):
        path.write_text(json.dumps(sound | {key: value}))
        with pytest.raises(DataError, match=sentence):
            read_mapping(tmp_path)
