import hashlib

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from shared.errors import ConfigError, DataError, LeakError
from shared.folds import FOLDS
from shared.splits import (
    check_folds,
    cut_published,
    iterate_splits,
    kfold_groups,
    read_splits,
    split_groups,
    write_splits,
)
from tests.fabricate.sample_index import make_index

SHARES = {"train": 0.5, "val": 0.1, "accept": 0.15, "calibrate": 0.05, "test": 0.2}
PUBLISHED = np.array(["train", "dev", "validation", "val", "test"])


def batteries():
    """320 groups of two kinds with three slices of each class they hold; 30 of them hold the rare class 4."""
    label, group = [], []
    for code in range(320):
        classes = ([0] if code % 3 == 0 else [0, 1]) if code < 160 else [2, 3]
        for class_code in classes + ([4] if 200 <= code < 230 else []):
            label += [class_code] * 3
            group += [code] * 3
    return np.array(label), np.array(group)


def groups_per_fold(fold, label, group, class_code=None):
    rows = np.ones(len(label), dtype=bool) if class_code is None else label == class_code
    return [len(np.unique(group[rows & (fold == code)])) for code in range(len(FOLDS))]


def random_table(seed):
    """Return labels, groups and shares: any number of classes per group, any class frequencies, any subset of folds."""
    rng = np.random.default_rng(seed)
    num_groups, num_classes = int(rng.integers(1, 60)), int(rng.integers(1, 7))
    weight = rng.dirichlet(np.full(num_classes, 0.5))
    label, group = [], []
    for code in rng.permutation(1000)[:num_groups]:
        for class_code in rng.choice(num_classes, size=int(rng.integers(1, 4)), p=weight):
            label += [class_code]
            group += [code]
    names = ["train", "val", *rng.permutation(FOLDS[2:])[: rng.integers(0, 4)]]
    shares = dict(zip(names, rng.dirichlet(np.full(len(names), 3.0)), strict=True))
    return np.array(label), np.array(group), shares


@pytest.mark.parametrize("num_tables", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_tables(num_tables):
    outcomes = {"split": 0, "few groups": 0, "small train": 0}
    for seed in range(num_tables):
        label, group, shares = random_table(seed)
        num_groups = len(np.unique(group))
        try:
            fold = split_groups(label, group, shares, seed)
        except DataError as error:
            reason = str(error)
        else:
            reason = ""
        if reason:
            outcomes["few groups" if num_groups < len(shares) else "small train"] += 1
            assert ("groups are needed" if num_groups < len(shares) else "too few to hold all") in reason
            continue
        outcomes["split"] += 1
        assert len(np.unique(np.stack([group, fold]), axis=1).T) == num_groups  # one fold a group
        assert set(label[fold == 0]) == set(label)
        sizes = groups_per_fold(fold, label, group)
        exact = np.array([shares.get(name, 0.0) * num_groups for name in FOLDS])
        # Within one group of the share; a fold is topped up to one group at the expense of the others.
        slack = 1 + np.maximum(1 - exact, 0)[exact > 0].sum()
        assert np.abs(sizes - exact).max() <= slack
        assert all(size >= 1 for size, share in zip(sizes, exact, strict=True) if share > 0)
        for class_code in np.unique(label):
            counts = np.array(groups_per_fold(fold, label, group, class_code))
            assert counts.sum() == len(np.unique(group[label == class_code]))
    assert outcomes["split"] > 0.7 * num_tables
    assert outcomes["few groups"] > 0.01 * num_tables
    assert outcomes["small train"] > 0.005 * num_tables


def test_batteries_with_a_rare_class_spread_in_proportion():
    label, group = batteries()
    fold = split_groups(label, group, SHARES, seed=0)
    assert groups_per_fold(fold, label, group) == [160, 32, 48, 16, 64]
    assert groups_per_fold(fold, label, group, 4) == [15, 3, 5, 1, 6]
    for class_code in range(4):
        counts = np.array(groups_per_fold(fold, label, group, class_code))
        assert np.abs(counts - counts.sum() * np.array(list(SHARES.values()))).max() <= 1


def test_every_class_with_enough_groups_reaches_every_fold():
    # 60 groups, each with a random set of four classes: calibrate has three groups and must still show all classes.
    missing = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        pairs = [(group, code) for group in range(60) for code in range(4) if rng.random() < 0.5 or code == group % 4]
        group, label = np.array(pairs).T
        fold = split_groups(label, group, SHARES, seed)
        missing += sum(0 in groups_per_fold(fold, label, group, code) for code in range(4))
    assert missing == 0


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    label, group = batteries()
    fold = split_groups(label, group, SHARES, seed=5)
    order = np.random.default_rng(0).permutation(len(label))
    np.testing.assert_array_equal(split_groups(label[order], group[order], SHARES, seed=5), fold[order])
    np.testing.assert_array_equal(split_groups(label, group, dict(reversed(SHARES.items())), seed=5), fold)
    assert (split_groups(label, group, SHARES, seed=6) != fold).any()


def test_every_group_can_come_into_test():
    group = np.arange(40)
    tested = [set(group[split_groups(group * 0, group, SHARES, seed) == 4].tolist()) for seed in range(60)]
    assert set().union(*tested) == set(range(40))  # eight of forty each time; one left out sixty times: 1e-6


def test_too_few_groups_says_how_many():
    label, group = np.array([0, 1, 1]), np.array([4, 4, 4])
    with pytest.raises(DataError, match=r"5 groups are needed, one for each of train, .*, found 1: add groups"):
        split_groups(label, group, SHARES, 0)
    with pytest.raises(DataError, match="flat and equally long"):
        split_groups(label, group[:2], SHARES, 0)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.5, "dev": 0.5}, "name the fold 'dev'; allowed are train"),
        ({"train": 50, "val": 50}, "share of fold 'train' is 50"),
        ({"train": 0.5, "val": 0.4}, "sum to 0.9; they must sum to 1"),
        ({"val": 0.5, "test": 0.5}, "'train' has no share"),
        ({"train": 1.2, "val": -0.2}, "allowed is 0 to 1"),
        ({"train": float("nan"), "val": 0.5}, "is nan"),
    ],
)
def test_shares_that_are_no_distribution_are_refused(shares, message):
    with pytest.raises(ConfigError, match=message):
        split_groups(np.zeros(9, int), np.arange(9), shares, 0)


def test_a_published_test_part_stays_and_dev_is_cut_by_group():
    group = np.arange(200).repeat(2)
    label = group % 4
    published = np.array(["train", "validation", "test", "train"])[(group // 4) % 4]
    fold = cut_published(published, label, group, seed=1)
    np.testing.assert_array_equal(fold == FOLDS.index("test"), published == "test")
    np.testing.assert_array_equal(fold == FOLDS.index("train"), published == "train")
    assert groups_per_fold(fold, label, group)[1:4] == [21, 16, 15]  # of 52: 20.8, 15.6, 15.6
    assert check_folds(make_index(group, label), fold) == []


def test_val_dev_and_validation_mean_the_same():
    names = np.array(["train", "test", *["val", "dev", "validation"] * 10])
    rows = np.arange(len(names))
    other = np.where(np.isin(names, ["dev", "validation"]), "val", names)
    np.testing.assert_array_equal(cut_published(names, rows % 2, rows, 0), cut_published(other, rows % 2, rows, 0))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train", "eval", "test"], "says 'eval'; allowed are train, val, dev, validation, test"),
        (["train", "test", "test"], "no 'val' part"),
        (["train", "val", "val"], "no 'test' part"),
        (["val", "val", "test"], "no 'train' part"),
        (["train", "val", "test"], "cannot be cut into val, accept and calibrate: 3 groups are needed.*found 1"),
        ([], "no 'train' part"),
    ],
)
def test_a_published_split_of_another_form_is_refused(names, message):
    rows = np.arange(len(names))
    with pytest.raises(DataError, match=message):
        cut_published(np.array(names, dtype=np.str_), rows * 0, rows, 0)


def test_kfold_is_that_of_sklearn_and_independent_of_row_order():
    label, group = batteries()
    part = kfold_groups(label, group, 5, seed=2)
    reference = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=2).split(label, label, group)
    for number, (_, held_out) in enumerate(reference):
        np.testing.assert_array_equal(np.flatnonzero(part == number), held_out)
    order = np.random.default_rng(0).permutation(len(label))
    np.testing.assert_array_equal(kfold_groups(label[order], group[order], 5, seed=2), part[order])


def test_kfold_that_cannot_be_is_refused():
    with pytest.raises(DataError, match="5 folds need at least 5 groups, found 2"):
        kfold_groups(np.zeros(9, int), np.arange(9) % 2, 5, 0)
    with pytest.raises(ConfigError, match="num_folds is 1; allowed are 2 to 127"):
        kfold_groups(np.zeros(9, int), np.arange(9), 1, 0)
    with pytest.raises(DataError, match="in 3 folds is not possible: n_splits=3"):
        kfold_groups(np.arange(4), np.arange(4), 3, 0)


def codes(*names):
    return np.array([FOLDS.index(name) for name in names], dtype=np.int8)


def test_sound_folds_pass_without_a_warning():
    index = make_index(range(10), [0, 1] * 5)
    assert check_folds(index, codes(*np.repeat(FOLDS, 2))) == []


def test_a_torn_group_is_named_with_its_folds():
    index = make_index([0, 1, 1, 2, 2], group_names=["B7", "B8", "B9"])
    with pytest.raises(LeakError, match=r"group 'B8' is in the folds train and test \(2 group\(s\)"):
        check_folds(index, codes("val", "test", "train", "accept", "val"))


def test_a_class_absent_from_train_is_an_error():
    index = make_index([0, 1, 2], [0, 1, 0], classes=("ok", "crack", "never"))
    with pytest.raises(DataError, match="class 'crack' is absent from train and stands only in val"):
        check_folds(index, codes("train", "val", "test"))
    with pytest.raises(DataError, match="class 'never' is absent from train and stands in no sample at all"):
        check_folds(index, codes("val", "train", "train"))


def test_an_empty_train_or_val_is_an_error_and_another_empty_fold_a_warning():
    index = make_index([0, 1, 2])
    with pytest.raises(DataError, match="fold 'train' holds no sample of the 3"):
        check_folds(index, codes("val", "val", "test"))
    with pytest.raises(DataError, match="fold 'val' holds no sample"):
        check_folds(index, codes("train", "train", "test"))
    assert check_folds(index, codes("train", "val", "test")) == [
        "fold 'accept' is empty: what it is for will decline.",
        "fold 'calibrate' is empty: what it is for will decline.",
    ]


def test_a_class_absent_from_another_fold_is_named():
    index = make_index(range(7), [0, 1, 0, 0, 0, 1, 0], classes=("ok", "crack"))
    warnings = check_folds(index, codes("train", "train", "val", "accept", "calibrate", "calibrate", "test"))
    assert len(warnings) == 3
    assert warnings[0] == (
        "class 'crack' is absent from fold 'val' (2 group(s) hold it in all): no interval for it there."
    )
    assert [name for name in ("accept", "test") if not any(name in text for text in warnings)] == []


@pytest.mark.parametrize("fold", [np.zeros(2, np.int8), np.zeros(3, np.int64), np.array([0, 1, 5], np.int8)])
def test_fold_codes_of_another_form_are_refused(fold):
    with pytest.raises(DataError, match="fold codes"):
        check_folds(make_index([0, 1, 2]), fold)


@pytest.fixture
def written(tmp_path):
    index = make_index(
        [0, 1, 2], [0, 1, 0], ids=["a,b.png", 'quote".png', "line\nbreak.png"], group_names=["B1", "B2", "전지"]
    )
    path = tmp_path / "run" / "splits.csv"
    return path, index, write_splits(path, index, codes("train", "val", "test"))


def test_the_file_is_what_it_says_and_its_hash(written):
    path, _, sha256 = written
    content = path.read_bytes()
    assert content.decode() == (
        'sample_id,group,label,fold\n"a,b.png",B1,c0,train\n"quote"".png",B2,c1,val\n"line\nbreak.png",전지,c0,test\n'
    )
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert [row[3] for row in iterate_splits(path)] == ["train", "val", "test"]


def test_folds_come_back_in_the_order_of_the_index(written):
    path, index, _ = written
    assert read_splits(path, index).tolist() == [0, 1, 4]
    assert read_splits(path, index.take(np.array([2, 0, 1]))).tolist() == [4, 0, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("line\nbreak.png", "other.png", r"holds sample 'other\.png', which is not in the data set"),
        ('"line\nbreak.png",전지,c0,test\n', "", r"lacks 1 of 3 samples, first 'line\\nbreak\.png'"),
        ('"line\nbreak.png",전지,c0,test', '"a,b.png",B1,c0,val', r"holds sample 'a,b\.png' twice"),
        ("val", "dev", "line 3 names the fold 'dev'; allowed are train"),
        ("B2,c1", "B1,c1", "says group 'B1' and label 'c1' .* the data set says 'B2' and 'c1'"),
        ("B2,c1", "B2,c0", "says group 'B2' and label 'c0'"),
        ("B2,c1,val", "B2,c1", "line 3 has 3 values, not 4"),
        ("sample_id", "path", r"has the columns \['path'"),
        ('"line', '"line"x', "is no readable CSV file"),
    ],
)
def test_a_file_that_contradicts_the_index_is_refused(written, old, new, message):
    path, index, _ = written
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        read_splits(path, index)
    assert str(path) in str(error.value)


def test_a_missing_or_binary_file_is_named(tmp_path):
    index = make_index([0])
    with pytest.raises(DataError, match=r"splits\.csv does not exist"):
        read_splits(tmp_path / "splits.csv", index)
    (tmp_path / "splits.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="no readable CSV file"):
        read_splits(tmp_path / "splits.csv", index)
