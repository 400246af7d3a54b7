import dataclasses

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from projects.pillsnap.evaluation.accuracy import (
    class_table,
    confusion_counts,
    look_alikes,
    paired_scores,
    rank_of_target,
    top_scores,
    weak_classes,
)
from shared.report.evaluation import Intervals
from tests.fabricate.pill_fold import fold_photos, logits_for

INTERVALS = Intervals(seed=0, draws=200)


def test_top_scores_are_sklearns_overall_and_by_domain() -> None:
    photos = fold_photos()
    logits = logits_for(photos, strength=1.0)
    found = top_scores(logits, photos, INTERVALS)
    assert list(found) == ["all", "studio", "real"]
    for name, mask in (("all", photos.domain >= 0), ("studio", photos.domain == 0), ("real", photos.domain == 1)):
        for top in (1, 5):
            expected = top_k_accuracy_score(photos.target[mask], logits[mask], k=top, labels=np.arange(8))
            assert found[name][f"top{top}"]["value"] == pytest.approx(expected)
        assert (found[name]["n"], found[name]["groups"]) == (mask.sum(), len(set(photos.group[mask])))
        assert found[name]["top1"]["lo"] < found[name]["top1"]["value"] < found[name]["top1"]["hi"]


def test_one_domain_stands_alone_and_five_classes_have_no_top5() -> None:
    photos = dataclasses.replace(fold_photos(classes=5), domain=np.zeros(90, np.int64))
    found = top_scores(logits_for(photos), photos, INTERVALS)
    assert list(found) == ["all"]
    assert "top5" not in found["all"]


def test_among_equal_logits_the_first_class_comes_first() -> None:
    rank = rank_of_target(np.zeros((3, 4)), np.array([0, 2, 3]))
    assert rank.tolist() == [0, 2, 3]
    np.testing.assert_array_equal(rank == 0, np.zeros((3, 4)).argmax(axis=1) == [0, 2, 3])


def test_changes_are_paired_by_group() -> None:
    photos = fold_photos()
    clean = logits_for(photos, strength=2.0)
    changed = clean.copy()
    real = photos.domain == 1
    changed[real] = np.random.default_rng(1).normal(size=(real.sum(), 8))
    found = paired_scores(clean, changed, photos, INTERVALS)
    before, after = clean.argmax(axis=1) == photos.target, changed.argmax(axis=1) == photos.target
    assert found["all"]["top1"]["value"] == pytest.approx(after.mean())
    assert found["all"]["top1_change"]["value"] == pytest.approx(after.mean() - before.mean())
    assert found["real"]["top1_change"]["hi"] < 0
    # What does not change at all has no spread: an unpaired difference would.
    assert found["studio"]["top1_change"]["lo"] == found["studio"]["top1_change"]["hi"] == 0.0
    assert found["studio"]["top1_change"]["method"].endswith("no variation between groups")


def test_classes_are_listed_weakest_first_with_what_they_are_taken_for() -> None:
    photos = fold_photos(classes=6)
    logits = np.eye(6)[photos.target]
    logits[photos.target == 2] = 0.0
    of_two = np.flatnonzero(photos.target == 2)
    logits[of_two[:9], 4] = logits[of_two[9:13], 1] = logits[of_two[13:], 2] = 1.0
    table = class_table(logits, photos, {2: (4,), 4: (2,)}, INTERVALS)
    assert [row["class"] for row in table] == ["K-2", "K-0", "K-1", "K-3", "K-4", "K-5"]
    worst = table[0]
    assert worst["accuracy"]["value"] == pytest.approx(5 / 18)
    assert worst["accuracy"]["n_groups"] == 6
    assert worst["taken_for"] == [
        {"class": "K-4", "label": "Drug 4", "n": 9, "share": 0.5},
        {"class": "K-1", "label": "Drug 1", "n": 4, "share": pytest.approx(4 / 18)},
    ]
    assert worst["look_alikes"] == ["K-4"]
    assert worst["taken_for_look_alike"] == 0.5
    assert "look_alikes" not in table[1]
    assert weak_classes(table) == [worst]


def test_confusion_is_sklearns() -> None:
    photos = fold_photos()
    logits = logits_for(photos, strength=1.0)
    expected = confusion_matrix(photos.target, logits.argmax(axis=1), labels=range(8))
    np.testing.assert_array_equal(confusion_counts(logits, photos), expected)


def test_classes_without_a_photo_are_not_in_the_table() -> None:
    photos = fold_photos()
    photos = dataclasses.replace(photos, classes=(*photos.classes, "K-8"), labels=(*photos.labels, "Drug 8"))
    logits = np.concatenate([logits_for(fold_photos()), np.full((len(photos), 1), -9.0)], axis=1)
    assert "K-8" not in {row["class"] for row in class_table(logits, photos, {}, INTERVALS)}


def test_look_alikes_share_form_shape_and_colours() -> None:
    white = {"form": "tablet", "shape": "round", "colors": ["white"]}
    metadata = {
        "a": white | {"imprint": "A1"}, "b": white | {"colors": ["white", "red"]}, "c": white | {"imprint": "A2"},
        "d": white | {"form": "capsule"}, "e": {"form": "tablet"}, "f": {"form": "tablet"},
    }  # fmt: skip
    assert look_alikes(metadata, ["f", "a", "b", "c", "d", "e", "unknown"]) == {1: (3,), 3: (1,)}


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"have the lengths \[2, 144\], with 8 classes and 8 labels"):
        dataclasses.replace(fold_photos(), ids=["a", "b"])
