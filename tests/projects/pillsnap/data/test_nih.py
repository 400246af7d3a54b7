import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from projects.pillsnap.data.nih import load_nih
from shared.errors import DataError

HEADER = "file,pill_id,labeler,surface,shape,color,n_colors,shape_color,split\n"
LINE = "images/a_0.jpg,a,1,front,ROUND,WHITE,1,ROUND__WHITE,train\n"


def fill(folder, lines=LINE, header=HEADER, files=("images/a_0.jpg",), zipped=True):
    folder.mkdir()
    (folder / "labels.csv").write_text(header + lines)
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(stream, "JPEG")
    if zipped:
        with zipfile.ZipFile(folder / "nih_pills.zip", "w") as archive:
            for file in files:
                archive.writestr(file, stream.getvalue())
    else:
        for file in files:
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(stream.getvalue())
    return folder


@pytest.mark.parametrize("zipped", [True, False])
def test_table_and_bytes(tmp_path, zipped):
    photos, reader = load_nih(fill(tmp_path / "nih", zipped=zipped))
    assert photos[0].shape_color == "ROUND__WHITE"
    assert reader.read(photos[0].file)[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lines": ""}, "has no line below its header"),
        ({"header": HEADER.replace("surface,", "")}, "lacks the columns surface"),
        ({"lines": LINE * 2}, "names 1 files twice"),
        ({"lines": LINE.replace("train", "dev")}, r"line 2 has split 'dev'; allowed are train, val, test"),
        ({"lines": LINE.replace("front", "top")}, r"line 2 has surface 'top'; allowed are front, back"),
        ({"lines": LINE.replace(",ROUND,", ",,")}, "line 2 has no shape"),
        ({"files": ("images/b.jpg",)}, r"names 1 photographs that are not there, the first 'images/a_0.jpg'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, options, sentence):
    with pytest.raises(DataError, match=sentence):
        load_nih(fill(tmp_path / "nih", **options))


def test_a_missing_folder_or_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none does not exist; set data\.root"):
        load_nih(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no labels\.csv"):
        load_nih(tmp_path / "empty")
