import csv

import numpy as np
import pytest

from projects.battery.data.labels import CLASSES
from projects.battery.data.scan import scan_ct
from projects.battery.data.split_csv import apply_split_csv
from shared.errors import ConfigError, DataError, LeakError
from shared.folds import FOLDS

FOLD_OF = {"0101": "train", "0201": "train", "0102": "val", "0202": "accept", "0103": "test", "0203": "test"}


def line_of(each, **changes):
    return {
        "path": f"images/{each.image_path.name}",
        "label": each.class_name,
        "battery_type": each.kind,
        "axis": each.axis,
        "battery_id": each.battery,
    } | changes


def write(path, lines):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


@pytest.fixture
def index(slices, tmp_path):
    return scan_ct(tmp_path / "data").index


def expected(slices):
    return [FOLDS.index(FOLD_OF[each.battery]) for each in slices]


@pytest.mark.parametrize("column", ["fold", "split"])
def test_one_file_with_a_fold_column(slices, index, tmp_path, column):
    lines = [line_of(each, **{column: FOLD_OF[each.battery]}) for each in slices]
    fold = apply_split_csv(index, {"all": write(tmp_path / "split.csv", lines)})
    assert fold.dtype == np.int8
    assert fold.tolist() == expected(slices)


def test_one_file_a_fold_and_unnamed_samples_are_left_out(slices, index, tmp_path):
    files = {}
    for fold in ("train", "val", "test"):
        lines = [line_of(each) for each in slices if FOLD_OF[each.battery] == fold]
        files[fold] = write(tmp_path / f"{fold}.csv", lines)
    found = apply_split_csv(index, files)
    wanted = [
        -1 if FOLD_OF[each.battery] == "accept" else code for each, code in zip(slices, expected(slices), strict=True)
    ]
    assert found.tolist() == wanted


def test_other_machines_paths_codes_and_spreadsheet_numbers_are_understood(slices, index, tmp_path):
    lines = [
        line_of(
            each,
            path=f"D:\\scans\\2024\\{each.image_path.name}" if place % 2 else f"Z:/disk/{each.image_path.name}",
            label=CLASSES.index(each.class_name),
            battery_id=int(each.battery) if place % 3 else f"{each.kind}_{each.battery}",
            fold=FOLD_OF[each.battery],
        )
        for place, each in enumerate(slices)
    ]
    assert apply_split_csv(index, {"all": write(tmp_path / "split.csv", lines)}).tolist() == expected(slices)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"path": "images/CT_cell_pouch_9999_x_0001.png"}, "is not among the 36 scanned images; copy the file"),
        ({"path": ""}, "names '', which is not among"),
        ({"label": "cell_scratch"}, "has label 'cell_scratch'; allowed are 0 cell_normal, 1 cell_porosity"),
        ({"label": "5"}, "has label '5'; allowed are 0 cell_normal"),
        ({"label": "cell_porosity"}, "cell_porosity, its JSON label says cell_normal; correct one of the two"),
        ({"battery_type": "module"}, "battery_type 'module', its file name says 'cell'"),
        ({"axis": "y"}, "axis 'y', its file name says 'x'"),
        ({"battery_id": "0102"}, "battery_id '0102', its file name says 'cell_0101'"),
    ],
)
def test_a_line_that_contradicts_the_data_is_named(slices, index, tmp_path, changes, sentence):
    first = next(each for each in slices if (each.battery, each.axis) == ("0101", "x"))
    path = write(tmp_path / "train.csv", [line_of(slices[1]), line_of(first, **changes)])
    with pytest.raises(DataError, match=rf"train\.csv line 3 .*{sentence}"):
        apply_split_csv(index, {"train": path})


def test_a_battery_in_two_folds_is_a_leak(slices, index, tmp_path):
    first, second = [each for each in slices if each.battery == "0202"][:2]
    files = {"train": write(tmp_path / "a.csv", [line_of(first)]), "test": write(tmp_path / "b.csv", [line_of(second)])}
    sentence = r"battery module_0202 is in train \(.*a.csv line 2\) and in test \(.*b.csv line 2\); move all"
    with pytest.raises(LeakError, match=sentence):
        apply_split_csv(index, files)
    files["test"] = write(tmp_path / "b.csv", [line_of(first)])
    with pytest.raises(LeakError, match="module_0202 is in train"):
        apply_split_csv(index, files)


def test_a_line_twice_a_fold_or_a_name_that_is_none_are_refused(slices, index, tmp_path):
    path = write(tmp_path / "train.csv", [line_of(slices[0])] * 2)
    with pytest.raises(DataError, match=r"line 3 names .* a second time"):
        apply_split_csv(index, {"train": path})
    path = write(tmp_path / "all.csv", [line_of(slices[0], fold="valid")])
    with pytest.raises(DataError, match="line 2 has fold 'valid'; allowed are train, val, accept, calibrate, test"):
        apply_split_csv(index, {"all": path})


def test_files_and_columns_must_be_there(slices, index, tmp_path):
    with pytest.raises(ConfigError, match=r"data.split_csv names no file"):
        apply_split_csv(index, {})
    with pytest.raises(ConfigError, match=r"data.split_csv has the key 'dev'; allowed are train, val"):
        apply_split_csv(index, {"dev": tmp_path})
    with pytest.raises(DataError, match=r"gone.csv \(data.split_csv.val\) does not exist"):
        apply_split_csv(index, {"val": tmp_path / "gone.csv"})
    lines = [{key: value for key, value in line_of(slices[0]).items() if key not in ("axis", "label")}]
    with pytest.raises(DataError, match="lacks the columns label, axis; it has path, battery_type, battery_id"):
        apply_split_csv(index, {"val": write(tmp_path / "few.csv", lines)})
    with pytest.raises(DataError, match="must have exactly one of the columns fold and split, it has neither"):
        apply_split_csv(index, {"all": write(tmp_path / "none.csv", [line_of(slices[0])])})
    (tmp_path / "empty.csv").write_text("path,label,battery_type,axis,battery_id\n")
    with pytest.raises(DataError, match=r"empty.csv has no line below its header"):
        apply_split_csv(index, {"val": tmp_path / "empty.csv"})
    (tmp_path / "binary.csv").write_bytes(b"path,label\xff\xfe\n")
    with pytest.raises(DataError, match=r"binary.csv is no readable CSV"):
        apply_split_csv(index, {"val": tmp_path / "binary.csv"})


def test_a_file_name_in_two_folders_needs_its_path(battery_ct, tmp_path):
    battery_ct.write_ct(tmp_path / "data" / "one")
    slices = battery_ct.write_ct(tmp_path / "data" / "two")
    index = scan_ct(tmp_path / "data").index
    with pytest.raises(
        DataError, match=r"several scanned images are called 'CT_.*; write the path below the data root"
    ):
        apply_split_csv(index, {"train": write(tmp_path / "a.csv", [line_of(slices[0])])})
    name = f"two/images/{slices[0].image_path.name}"
    fold = apply_split_csv(index, {"train": write(tmp_path / "a.csv", [line_of(slices[0], path=name)])})
    assert index.ids[int(np.flatnonzero(fold == 0)[0])] == name
