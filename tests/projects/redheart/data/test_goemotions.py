import numpy as np
import pytest

from projects.redheart.data.goemotions import EKMAN, TO_OURS, read_comments, read_goemotions
from projects.redheart.tasks import EMOTIONS
from shared.errors import DataError
from shared.folds import FOLDS
from shared.leakage import check_leakage
from shared.splits import check_folds

HEADER = "split\tid\tlabels\tekman\ttext"


def write(folder, lines):
    folder.mkdir(exist_ok=True)
    (folder / "goemotions.tsv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return folder


def comments():
    lines = []
    for part, count in (("train", 70), ("dev", 70), ("test", 21)):
        lines += [f"{part}\t{part}{row}\t3\t{row % 7}\tcomment {row} of {part}" for row in range(count)]
    return lines


def test_labels_are_mapped_by_name():
    assert [EMOTIONS[code] for code in TO_OURS] == list(EKMAN)
    assert TO_OURS == (2, 4, 3, 0, 6, 1, 5)


def test_parts_become_folds_and_several_labels_are_left_out(tmp_path):
    lines = [*comments(), "train\tmany\t3,4\t0,3\ttwo feelings", 'test\tquote\t17\t3\the said "no']
    data = read_goemotions(write(tmp_path / "go", lines))
    assert data.facts["rows"] == {"train": 71, "dev": 70, "test": 22}
    assert data.facts["several_labels"] == {"train": 1, "dev": 0, "test": 0}
    assert data.facts["used"] == {"train": 70, "val": 28, "accept": 21, "calibrate": 21, "test": 22}
    assert check_folds(data.index, data.fold) == []
    assert data.index.ids[0] == "go/train0"
    assert data.stories.label[-1] == EMOTIONS.index("joy")
    assert data.stories.text[-1] == 'he said "no'
    assert np.isnan(data.stories.targets["surd"]).all()
    assert data.index.source == "real"
    assert data.warnings == ["1 comments carry several Ekman labels and are left out: 1 of train."]


def test_no_text_stands_in_two_folds(tmp_path):
    lines = comments()
    lines += [
        "train\tx1\t3\t0\tCOMMENT 3 of  test",
        "dev\tx2\t3\t0\tComment 4 of test",
        "train\tx3\t3\t1\tcomment 5 of DEV",
    ]
    lines += ["dev\tx4\t3\t1\tcomment 6 of train", "dev\tx5\t3\t2\tCOMMENT 9 of dev"]
    data = read_goemotions(write(tmp_path, lines))
    assert data.facts["repeated_text"] == {"train": 3, "dev": 1, "test": 0}
    assert check_leakage(data.index, data.fold).ok
    kept = set(data.stories.ids)
    assert {"x1", "x2", "x3", "train6"}.isdisjoint(kept)
    assert {"x4", "x5"} <= kept
    rows = {name: row for row, name in enumerate(data.stories.ids)}
    assert data.fold[rows["x5"]] == data.fold[rows["dev9"]]
    assert "4 comments have a text that also stands in test (or, for train, in dev)" in data.warnings[0]


def test_the_seed_cuts_dev_only(tmp_path):
    folder = write(tmp_path, comments())
    first, again, other = (read_goemotions(folder, seed).fold for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    moved = first != other
    assert moved.any()
    assert not np.isin(first[moved], [FOLDS.index("train"), FOLDS.index("test")]).any()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train\ta\t3\t0", "line 2 has 4 values separated by tabs, not 5"),
        ("valid\ta\t3\t0\tx", "line 2 has split 'valid'; allowed are train, dev, test"),
        ("train\t\t3\t0\tx", "line 2 has no id"),
        ("train\ta\t3\t0\t ", "line 2 has no text"),
        ("train\ta\t28\t0\tx", "line 2 has labels '28'; allowed are numbers from 0 to 27"),
        ("train\ta\t3\t0,7\tx", "line 2 has ekman '0,7'; allowed are numbers from 0 to 6"),
        ("train\ta\t3\t\tx", "line 2 has ekman ''"),
        ("train\ta\t3\t0\tx\ndev\ta\t3\t0\ty", "line 3 has the id 'a' of an earlier line"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, sentence):
    with pytest.raises(DataError, match=sentence):
        read_comments(write(tmp_path, [line]))


def test_a_wrong_table_is_told(tmp_path):
    with pytest.raises(DataError, match=r"goemotions\.tsv does not exist; set data\.root"):
        read_comments(tmp_path)
    with pytest.raises(DataError, match="has no line below its header"):
        read_comments(write(tmp_path, []))
    (tmp_path / "goemotions.tsv").write_text("a\tb\n")
    with pytest.raises(DataError, match=r"has the columns a, b; expected are split, id"):
        read_comments(tmp_path)
    (tmp_path / "goemotions.tsv").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"is not UTF-8 text: byte 0"):
        read_comments(tmp_path)


def test_the_real_set_has_the_figures_of_its_page(real_data):
    data = read_goemotions(real_data / "goemotions")
    rows = data.facts["rows"]
    assert rows == {"train": 43_410, "dev": 5_426, "test": 5_427}
    assert sum(rows.values()) - sum(data.facts["several_labels"].values()) == 49_469
    assert data.facts["repeated_text"]["test"] == 0
    assert sum(data.facts["used"].values()) == 49_469 - sum(data.facts["repeated_text"].values())
    assert check_leakage(data.index, data.fold).ok
    assert check_folds(data.index, data.fold) == []
