import csv
import hashlib
import zipfile

import numpy as np
import pytest

from projects.battery.data.audit_features import audit_table, compute_features
from projects.battery.data.decode import decode_grey
from projects.battery.data.elpv import load_elpv
from shared.errors import DataError

ROWS = [
    {"file": f"images/cell{place:04d}.png", "defect_probability": probability, "module_type": kind, "split": split}
    for place, (probability, kind, split) in enumerate(
        [
            ("0.0", "mono", "train"),
            ("1.0", "poly", "train"),
            ("0.3333333", "poly", "val"),
            ("0.6666667", "mono", "test"),
        ]
    )
]


def csv_text(rows):
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n"


@pytest.fixture
def folder(battery_ct, tmp_path):
    """Return an unpacked folder of four images."""
    (tmp_path / "elpv" / "images").mkdir(parents=True)
    generator = np.random.default_rng(6)
    for row in ROWS:
        pixels = generator.integers(0, 256, (32, 40), dtype=np.uint8)
        (tmp_path / "elpv" / row["file"]).write_bytes(battery_ct.png_bytes(pixels))
    (tmp_path / "elpv" / "labels.csv").write_text(csv_text(ROWS))
    return tmp_path / "elpv"


@pytest.fixture
def packed(folder, tmp_path):
    """Return a folder with the same four images in a zip file that holds labels.csv too."""
    (tmp_path / "packed").mkdir()
    with zipfile.ZipFile(tmp_path / "packed" / "elpv_subset.zip", "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(folder).as_posix())
    return tmp_path / "packed"


@pytest.mark.parametrize("form", ["folder", "packed"])
def test_both_forms_give_the_same_index(form, folder, packed, request):
    data = load_elpv(request.getfixturevalue(form))
    index = data.index
    assert index.ids.to_list() == [row["file"] for row in ROWS]
    assert [index.classes[code] for code in index.label] == ["functional", "defective", "functional", "defective"]
    assert [index.meta_names["kind"][code] for code in index.meta["kind"]] == ["mono", "poly", "poly", "mono"]
    assert data.published.tolist() == ["train", "train", "val", "test"]
    assert index.group.tolist() == [0, 1, 2, 3]
    assert index.source == "real"
    assert index.numbers["width_px"].tolist() == [40.0] * 4
    for row, sample_id in enumerate(index.ids.to_list()):
        content = (folder / sample_id).read_bytes()
        assert data.reader.read(sample_id) == content
        assert index.digest[row].tobytes() == hashlib.blake2b(content, digest_size=16).digest()


def changed(place, **changes):
    return csv_text([row | changes if place == number else row for number, row in enumerate(ROWS)])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (changed(1, defect_probability="2"), "line 3 has defect_probability '2'; it must be a number from 0 to 1"),
        (changed(1, defect_probability=""), "line 3 has defect_probability ''"),
        (changed(0, module_type="thin"), "line 2 has module_type 'thin'; allowed are mono, poly"),
        (changed(3, split="dev"), "line 5 has split 'dev'; allowed are train, val, test"),
        (changed(3, file=""), "line 5 names no file"),
        (changed(3, file="../secret.png"), "line 5 has file '../secret.png'; it must be a path below"),
        (changed(3, file="images/gone.png"), "names 1 images that are not there, the first 'images/gone.png'"),
        (changed(3, file="images/cell0000.png"), "names 'images/cell0000.png' twice"),
        (csv_text(ROWS[:3]), "1 images have no line in .*labels.csv, the first 'images/cell0003.png'"),
        ("file,split\n", "lacks the columns defect_probability, module_type; it has file, split"),
        (csv_text(ROWS).splitlines()[0] + "\n", "has no line below its header"),
    ],
)
def test_a_wrong_table_is_refused(folder, text, sentence):
    (folder / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=sentence):
        load_elpv(folder)


def test_missing_and_broken_files_are_refused(folder, packed, tmp_path):
    with pytest.raises(DataError, match=r"ELPV folder .*nowhere does not exist; set data.root"):
        load_elpv(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"holds neither elpv_subset.zip nor PNG images"):
        load_elpv(tmp_path / "bare")
    image = folder / ROWS[2]["file"]
    image.write_bytes(image.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"images/cell0002.png is cut off"):
        load_elpv(folder)
    (folder / "labels.csv").write_bytes(b"file\xff")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        load_elpv(folder)
    (folder / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"holds no labels.csv; copy it beside the images"):
        load_elpv(folder)
    archive = packed / "elpv_subset.zip"
    archive.write_bytes(archive.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"elpv_subset.zip is no readable zip file"):
        load_elpv(packed)


def test_the_real_set_has_the_published_counts(real_data):
    data = load_elpv(real_data / "elpv")
    index = data.index
    assert len(index) == 856
    # SOURCE.txt: 330 functional, 140 possibly, 76 likely, 310 defective; the threshold lies between 1/3 and 2/3.
    assert np.bincount(index.label).tolist() == [330 + 140, 76 + 310]
    with (real_data / "elpv" / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert data.published.tolist() == [row["split"] for row in rows]
    assert set(data.published) == {"train", "val", "test"}
    assert (index.numbers["width_px"] == 300).all()
    assert len(np.unique(index.digest, axis=0)) == 856
    pixels = decode_grey(data.reader.read(index.ids[0]), index.ids[0])
    assert pixels.shape == (300, 300)
    some = index.take(np.arange(0, 856, 20))
    table = audit_table(some, compute_features(some, data.reader))
    assert set(table.bundles) == {"image statistics"}
    assert "kind" not in table.features
    data.reader.close()
