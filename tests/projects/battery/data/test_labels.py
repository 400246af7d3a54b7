import json

import pytest

from projects.battery.data.labels import (
    CLASSES,
    Defect,
    LabelError,
    check_label,
    class_code,
    largest_defect,
    parse_label,
)

GOOD = {
    "file_name": "a.png",
    "width": 100,
    "height": 50,
    "is_normal": False,
    "defects": [{"class": "porosity", "box": [10, 20, 5, 30]}],
    "battery_outline": [[0, 0], [99, 0], [99, 49]],
}


def encode(**changes):
    return json.dumps(GOOD | changes).encode()


def test_a_good_label_is_read_as_written():
    label = parse_label(b"\xef\xbb\xbf" + encode(), "a.json")
    assert (label.file_name, label.width, label.height, label.is_normal) == ("a.png", 100, 50, False)
    assert label.defects == (Defect("porosity", (10.0, 20.0, 5.0, 30.0)),)
    assert label.defects[0].area == 150
    assert label.battery_outline == ((0.0, 0.0), (99.0, 0.0), (99.0, 49.0))
    check_label(label, "a.png", 100, 50, "a.json")


@pytest.mark.parametrize("defects", [None, []])
def test_null_and_an_empty_list_mean_no_defect(defects):
    label = parse_label(encode(is_normal=True, defects=defects), "a.json")
    assert label.defects == ()
    check_label(label, "a.png", 100, 50, "a.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", r"label a\.json is no valid JSON .*write or copy it again"),
        (b"\xff\xfe{}", "no valid JSON"),
        (b"[" * 100_000, "no valid JSON"),
        (b"[1]", "holds a list, not a JSON object"),
        (b"{}", "lacks the field 'file_name'; it holds nothing"),
        (encode(width="100"), "has width '100'; it must be a positive whole number of pixels"),
        (encode(height=0), "has height 0"),
        (encode(width=True), "has width True"),
        (encode(file_name=3), "has file_name 3; it must be a string"),
        (encode(is_normal="no"), "has is_normal 'no'; it must be true or false"),
        (encode(defects={}), "has defects {}; it must be null or a list"),
        (encode(defects=["porosity"]), "a list of objects with class and box"),
        (encode(defects=[{"class": "crack", "box": [1, 1, 1, 1]}]), "class 'crack'; allowed are porosity, resin_over"),
        (encode(defects=[{"box": [1, 1, 1, 1]}]), "lacks the field 'class'"),
        (encode(defects=[{"class": "porosity", "box": [1, 1, 1]}]), r"\[x, y, width, height\] as four numbers"),
        (encode(defects=[{"class": "porosity", "box": [1, 1, 1, "2"]}]), "as four numbers"),
        (encode(defects=[{"class": "porosity", "box": [1, 1, 1, float("nan")]}]), "NaN is not a JSON number"),
        (encode(battery_outline=[[1, 2, 3]]), r"has battery_outline .* a list of \[x, y\] points"),
    ],
)
def test_a_broken_label_is_refused_in_one_sentence(content, sentence):
    with pytest.raises(LabelError, match=sentence):
        parse_label(content, "a.json")


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"file_name": "b.png"}, "other image", "says file_name 'b.png', but it lies beside 'a.png'"),
        ({"width": 400, "height": 200}, "other size", "made for 400 x 200 pixels, but the image has 100 x 50"),
        ({"is_normal": True}, "contradiction", "is_normal true but lists 1 defects"),
        ({"defects": None}, "contradiction", "is_normal false but lists no defect"),
        ({"defects": [{"class": "porosity", "box": [10, 20, 0, 30]}]}, "empty box", "box of 0 x 30 pixels"),
        ({"defects": [{"class": "porosity", "box": [10, 20, 5, -3]}]}, "empty box", "box of 5 x -3 pixels"),
        ({"defects": [{"class": "porosity", "box": [90, 20, 12, 9]}]}, "box outside", r"to \(102, 29\), outside"),
        ({"defects": [{"class": "porosity", "box": [0, -2, 5, 9]}]}, "box outside", r"from \(0, -2\)"),
    ],
)
def test_a_label_that_does_not_fit_its_image_is_refused(changes, kind, sentence):
    label = parse_label(encode(**changes), "a.json")
    with pytest.raises(LabelError, match=sentence) as caught:
        check_label(label, "a.png", 100, 50, "a.json")
    assert caught.value.kind == kind


def test_a_box_on_the_edge_or_rounded_over_it_is_allowed():
    for box in ([90, 40, 10, 10], [-0.5, 0, 5, 5], [95, 45, 6, 6]):
        label = parse_label(encode(defects=[{"class": "porosity", "box": box}]), "a.json")
        check_label(label, "a.png", 100, 50, "a.json")


def test_the_class_joins_kind_and_defect_and_resin_overflow_wins():
    porosity, overflow = Defect("porosity", (0, 0, 9, 9)), Defect("resin_overflow", (0, 0, 2, 2))
    expected = {
        ("cell", ()): "cell_normal",
        ("cell", (porosity,)): "cell_porosity",
        ("module", ()): "module_normal",
        ("module", (porosity,)): "module_porosity",
        ("module", (porosity, overflow)): "module_resin_overflow",
    }
    for (kind, defects), name in expected.items():
        assert CLASSES[class_code(kind, defects, "a.png")] == name


def test_a_cell_with_resin_overflow_and_an_unknown_kind_have_no_class():
    with pytest.raises(LabelError, match=r"a.png is a cell with resin_overflow, which is none of the classes"):
        class_code("cell", (Defect("resin_overflow", (0, 0, 2, 2)),), "a.png")
    with pytest.raises(LabelError, match=r"a.png is of kind 'pack'; allowed are cell, module"):
        class_code("pack", (), "a.png")


def test_the_largest_box_is_one_of_the_defect_that_gives_the_class():
    small, large = Defect("porosity", (0, 0, 2, 3)), Defect("porosity", (5, 5, 1, 9))
    overflow = Defect("resin_overflow", (0, 0, 1, 1))
    assert largest_defect([small, large]) is large
    assert largest_defect([small, overflow, large]) is overflow
    assert largest_defect([]) is None
