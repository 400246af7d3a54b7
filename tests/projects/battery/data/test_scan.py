import hashlib
import re
import shutil
import tracemalloc

import numpy as np
import pytest

from projects.battery.data.labels import CLASSES
from projects.battery.data.scan import scan_ct
from shared.errors import ConfigError, DataError


def test_the_index_holds_what_was_written(slices, tmp_path):
    seen = []
    result = scan_ct(tmp_path / "data", source="stand-in", on_progress=lambda done, total: seen.append((done, total)))
    index = result.index
    assert (result.skipped, result.findings, seen) == ([], [], [(36, 36)])
    assert index.ids.to_list() == [f"images/{each.image_path.name}" for each in slices]
    assert [index.group_name(row) for row in range(36)] == [f"{each.kind}_{each.battery}" for each in slices]
    assert index.group_names.to_list() == sorted(index.group_names.to_list())
    assert [CLASSES[code] for code in index.label] == [each.class_name for each in slices]
    assert index.classes == CLASSES
    assert index.source == "stand-in"
    for row, each in enumerate(slices):
        content = each.image_path.read_bytes()
        assert index.digest[row].tobytes() == hashlib.blake2b(content, digest_size=16).digest()
        for key, value in (("kind", each.kind), ("form", each.form), ("axis", each.axis)):
            assert index.meta_names[key][index.meta[key][row]] == value
        numbers = {key: float(column[row]) for key, column in index.numbers.items()}
        assert (numbers["width_px"], numbers["height_px"], numbers["slice"]) == (64, 48, each.number)
        assert numbers["file_bytes"] == len(content)
        box = [numbers[key] for key in ("box_x_px", "box_y_px", "box_width_px", "box_height_px")]
        if each.label["defects"] is None:
            assert np.isnan(box).all()
            assert numbers["num_defects"] == 0
        else:
            assert box == [12, 8, 2, 20]
            assert numbers["num_defects"] == 2


def test_the_result_does_not_depend_on_workers_or_layout(battery_ct, tmp_path):
    for folder, images, labels in (("flat", "", ""), ("deep", "a/images/b", "a/labels/b"), ("beside", "x/y", "x/y")):
        battery_ct.write_ct(tmp_path / folder, images=images, labels=labels)
    one = scan_ct(tmp_path / "flat", workers=1).index
    for folder in ("flat", "deep", "beside"):
        other = scan_ct(tmp_path / folder, workers=4).index
        assert np.array_equal(other.digest, one.digest)
        assert np.array_equal(other.label, one.label)
        assert np.array_equal(other.group, one.group)


def test_a_missing_form_is_a_missing_code(slices, tmp_path):
    each = slices[-1]
    name = each.image_path.name.replace("_pouch", "").replace("_prismatic", "")
    each.image_path.rename(each.image_path.with_name(name))
    each.rewrite_label(file_name=name)
    each.label_path.rename(each.label_path.with_name(name.replace(".png", ".json")))
    index = scan_ct(tmp_path / "data").index
    row = index.ids.to_list().index(f"images/{name}")
    assert index.meta["form"][row] == -1
    assert (index.meta["form"] == -1).sum() == 1


def damage_cut(each):
    each.image_path.write_bytes(each.image_path.read_bytes()[:-20])


def damage_text(each):
    each.image_path.write_bytes(b"GIF89a...")


def damage_size(each, battery_ct):
    each.image_path.write_bytes(battery_ct.png_bytes(each.pixels[:24, :32].copy()))


DAMAGES = {
    "cut": (damage_cut, "bad image", "is cut off: .* without a PNG end mark; copy it again"),
    "no PNG": (damage_text, "bad image", "is no PNG"),
    "empty": (lambda each: each.image_path.write_bytes(b""), "bad image", r"is empty \(0 bytes\)"),
    "no label": (lambda each: each.label_path.unlink(), "no label", "has no label: put its JSON beside it"),
    "broken": (lambda each: each.label_path.write_text('{"file_name": "CT'), "broken label", "no valid JSON"),
    "two": (
        lambda each: shutil.copy(each.label_path, each.image_path.with_suffix(".json")),
        "two labels",
        "has two labels, .* and .*; remove one",
    ),
    "other size": (lambda each: each.rewrite_label(width=4000, height=4000), "other size", "made for 4000 x 4000"),
    "outside": (
        lambda each: each.rewrite_label(is_normal=False, defects=[{"class": "porosity", "box": [60, 0, 9, 9]}]),
        "box outside",
        "outside the image of 64 x 48",
    ),
    "zero box": (
        lambda each: each.rewrite_label(is_normal=False, defects=[{"class": "porosity", "box": [6, 0, 0, 9]}]),
        "empty box",
        "box of 0 x 9 pixels; draw it again",
    ),
    "class": (
        lambda each: each.rewrite_label(is_normal=False, defects=[{"class": "dent", "box": [6, 0, 1, 9]}]),
        "unknown class",
        "class 'dent'; allowed are porosity, resin_overflow",
    ),
    "contradiction": (lambda each: each.rewrite_label(is_normal=False, defects=None), "contradiction", "no defect"),
    "cell overflow": (
        lambda each: each.rewrite_label(is_normal=False, defects=[{"class": "resin_overflow", "box": [6, 0, 1, 9]}]),
        "unknown class",
        "is a cell with resin_overflow",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_bad_file_stops_the_scan_or_is_skipped_and_listed(slices, tmp_path, name):
    damage, kind, sentence = DAMAGES[name]
    damage(slices[5])
    with pytest.raises(DataError, match=sentence) as caught:
        scan_ct(tmp_path / "data")
    message = str(caught.value)
    assert re.search(r", or leave such files out with data.on_bad_file=skip\.$", message)
    assert slices[5].image_path.stem in message
    assert "\n" not in message
    result = scan_ct(tmp_path / "data", on_bad_file="skip")
    assert [(file.path, file.kind) for file in result.skipped] == [(f"images/{slices[5].image_path.name}", kind)]
    assert re.search(sentence, result.skipped[0].reason)
    assert len(result.index) == 35
    assert f"1 of 36 images were skipped ({kind}: 1)." in result.findings


def test_an_image_shrunk_after_labelling_is_found(slices, battery_ct, tmp_path):
    damage_size(slices[0], battery_ct)
    with pytest.raises(DataError, match="was made for 64 x 48 pixels, but the image has 32 x 24"):
        scan_ct(tmp_path / "data")


def test_only_bad_files_are_an_error_even_when_skipping(slices, tmp_path):
    for each in slices:
        each.label_path.unlink()
    with pytest.raises(DataError, match=r"all 36 images below .* are bad; the first: .* has no label"):
        scan_ct(tmp_path / "data", on_bad_file="skip")


def test_findings_name_what_is_odd_about_the_whole(slices, battery_ct, tmp_path):
    root = tmp_path / "data"
    (root / "images" / "RGB_cell_pouch_0101_001.png").write_bytes(b"a photo")
    slices[1].image_path.unlink()
    slices[2].image_path.write_bytes(battery_ct.png_bytes(slices[2].pixels.astype(np.uint16) * 256))
    for each in slices[-6:]:  # the last battery, a module, gets the number of a cell
        name = each.image_path.name.replace(each.battery, "0101")
        each.image_path.rename(each.image_path.with_name(name))
        each.label_path.unlink()
        each.label_path = each.label_path.with_name(name.replace(".png", ".json"))
        each.rewrite_label(file_name=name)
    findings = "\n".join(scan_ct(root).findings)
    assert "1 PNG images do not match data.file_pattern and were left out, for example 'images/RGB_" in findings
    assert "1 JSON labels have no image" in findings
    assert "1 images have 16 bits a pixel" in findings
    assert "battery number 0101 occurs as cell and as module" in findings


def test_settings_out_of_range_are_config_errors(slices, tmp_path):
    with pytest.raises(ConfigError, match=r"data.on_bad_file is 'ignore'; allowed are raise, skip"):
        scan_ct(tmp_path / "data", on_bad_file="ignore")
    with pytest.raises(ConfigError, match=r"data.scan_workers is 0; it must be at least 1"):
        scan_ct(tmp_path / "data", workers=0)


def test_memory_for_an_image_stays_in_the_arrays(battery_ct, slices, tmp_path):
    """800 images may keep about 170 bytes each: columns and id; a Python object per image would cost far more."""
    root = tmp_path / "many"
    (root / "images").mkdir(parents=True)
    each, content = slices[0], slices[0].image_path.read_bytes()
    for number in range(800):
        name = f"CT_cell_pouch_0101_x_{number:04d}"
        (root / "images" / f"{name}.png").write_bytes(content)
        each.label_path = root / "images" / f"{name}.json"
        each.rewrite_label(file_name=f"{name}.png")
    scan_ct(root)  # fills caches of the interpreter
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = scan_ct(root)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(result.index) == 800
    assert kept / 800 < 250
