import json
import shutil

import numpy as np
import pytest

from projects.pillsnap.chain.dataset import read_dataset
from projects.pillsnap.chain.manifest import write_manifest
from shared.errors import DataError
from shared.folds import FOLDS


def test_rows_are_those_of_the_splits(finished):
    found = read_dataset(finished, check_bytes=True)
    assert len(found) == 200
    assert found.classes == tuple(f"K-00000{number}" for number in range(1, 5))
    assert found.names[0] == "Drug K-000001"
    assert found.metadata["K-000002"]["weight"] == 1.0
    assert (found.label.dtype, found.fold.dtype, found.size.dtype) == (np.int16, np.int8, np.int64)
    assert found.paths == sorted(found.paths)
    splits = json.loads((finished / "splits.json").read_text())
    rows = {row["path"]: (name, row) for name in FOLDS for row in splits["folds"][name]}
    for number, path in enumerate(found.paths):
        name, row = rows[path]
        assert FOLDS[found.fold[number]] == name
        assert found.label[number] == row["label"]
        assert (found.kcode[number], found.group[number], found.domain[number]) == (
            row["kcode"], row["group"], row["domain"],
        )  # fmt: skip
        assert found.manifest["files"][path] == found.sha256[number]
        assert (finished / path).stat().st_size == found.size[number]
    for part in ("tune", "test"):
        assert found.others[part] == [(row["path"], row["kcode"]) for row in splits["others"][part]]
    assert found.manifest["preprocessing"]["size_px"] == 64


def test_the_data_set_and_its_roots_can_be_moved_together(finished, tmp_path):
    before = read_dataset(finished)
    (tmp_path / "moved").mkdir()
    for name in ("raw", "dataset"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    after = read_dataset(tmp_path / "moved" / "dataset", check_bytes=True)
    assert after.sha256 == before.sha256


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("class_mapping.json", "map_classes"),
        ("captures.csv", "integrate"),
        ("integration_stats.json", "integrate"),
        ("splits.json", "split"),
        ("manifest.json", "manifest"),
    ],
)
def test_a_missing_file_names_its_command(finished, name, step):
    (finished / name).unlink()
    with pytest.raises(DataError, match=rf"{name} does not exist; run `python -m projects\.pillsnap\.{step}` first"):
        read_dataset(finished)


@pytest.mark.parametrize("name", ["class_mapping.json", "captures.csv", "integration_stats.json", "splits.json"])
def test_a_file_that_the_manifest_did_not_hash_is_refused(finished, name):
    path = finished / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(
        DataError,
        match=rf"{name} has sha256 \w{{12}}, but manifest\.json expects \w{{12}}: it changed since; if that is mea",
    ):
        read_dataset(finished)


def test_a_split_swapped_together_with_its_hash_is_still_checked_against_the_captures(finished):
    path = finished / "splits.json"
    found = json.loads(path.read_text())
    found["folds"]["train"].append(found["folds"]["test"].pop())
    path.write_text(json.dumps(found))
    with pytest.raises(DataError, match=r"has the group .* in the folds .* a group must stay in one"):
        write_manifest(finished)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "x"}, r"has format 'x', not 'pillsnap-manifest-1'"),
        ({"hashes": {}}, "must hash class_mapping.json, captures.csv"),
        ({"hashes": None}, "must hash class_mapping.json, captures.csv"),
    ],
)
def test_a_strange_manifest_is_refused(finished, change, sentence):
    path = finished / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=sentence):
        read_dataset(finished)
    path.write_text('{"format": "pillsnap-manifest-1"}')
    with pytest.raises(DataError, match="lacks augmentation, created_date, files, hashes"):
        read_dataset(finished)


def test_missing_and_altered_photos_are_named_with_the_commands(finished, raw):
    path = next((finished / "combined" / "K-000001").glob("real_*"))
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    remedy = r"run `python -m projects\.pillsnap\.integrate` again, then split and manifest"
    with pytest.raises(
        DataError, match=rf"real_.* has {len(content) + 1} bytes, {len(content)} were integrated; {remedy}"
    ):
        read_dataset(finished)
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    read_dataset(finished)  # the size is all that is compared, unless one asks
    with pytest.raises(DataError, match=r"real_.* has sha256 \w{12}, \w{12} was integrated: its bytes changed"):
        read_dataset(finished, check_bytes=True)
    path.unlink()
    with pytest.raises(DataError, match=rf"the photo .*real_.* is missing \(No such file or directory\); {remedy}"):
        read_dataset(finished)
    path.write_bytes(content)
    shutil.rmtree(raw / "studio")
    with pytest.raises(
        DataError, match=r"studio_.* links to \.\./\.\./\.\./raw/studio/.*, which is not there: studio photos"
    ):
        read_dataset(finished)
