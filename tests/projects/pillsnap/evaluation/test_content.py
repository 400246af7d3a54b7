import dataclasses

import numpy as np
import pytest

from projects.pillsnap.evaluation.conditions import standard_conditions
from projects.pillsnap.evaluation.content import (
    agreement,
    clean_part,
    part_named,
    retrieval_part,
    stress_part,
    too_few_to_tune,
    tuned,
)
from projects.pillsnap.evaluation.open_set import score_aurocs
from shared.report.evaluation import Intervals
from tests.fabricate.pill_fold import fold_photos, logits_for

INTERVALS = Intervals(seed=0, draws=100)


def test_clean_part_counts_wrong_answers_among_look_alikes() -> None:
    photos = fold_photos()
    logits = np.eye(8)[photos.target]
    of_two = np.flatnonzero(photos.target == 2)
    logits[of_two[:10]] = np.eye(8)[3]
    logits[of_two[10:14]] = np.eye(8)[6]
    part = clean_part(logits, photos, {2: (3,), 3: (2,)}, INTERVALS)
    assert part["weak_classes"] == ["K-2"]
    assert part["look_alikes"] == {"classes": 2, "n": 36, "wrong": 14, "wrong_for_look_alike": 10}
    assert "look_alikes" not in clean_part(logits, photos, {}, INTERVALS)


def test_stress_rows_follow_the_conditions_without_the_clean_one() -> None:
    photos = fold_photos()
    rows = standard_conditions(["wood"])
    outputs = {row.name: logits_for(photos, seed=number) for number, row in enumerate(rows)}
    table = stress_part(outputs, rows, photos, INTERVALS)
    assert [row["name"] for row in table] == [row.name for row in rows[1:]]
    row = table[-1]
    assert (row["kind"], row["level"], row["unit"], row["words"]) == ("background", "wood", "", "background wood")
    right = [(outputs[name].argmax(axis=1) == photos.target).mean() for name in (rows[-1].name, "clean")]
    assert row["parts"]["all"]["top1_change"]["value"] == pytest.approx(right[0] - right[1])


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ((10, 10, 10), None),
        ((99, 99, 0), r"hold no photos of other classes"),
        ((9, 10, 10), r"9 photos of the classes in calibrate, 10 in accept and 10 of other classes"),
        ((10, 9, 10), r"9 in accept"),
        ((10, 10, 9), r"10, 10 and 10 are needed"),
    ],
)
def test_too_few_photos_decline_by_name(sizes: tuple[int, int, int], reason: str | None) -> None:
    found = too_few_to_tune(*sizes)
    assert (found is None) if reason is None else (reason in str(found))


def test_tuning_says_what_it_was_fitted_on() -> None:
    photos = fold_photos()
    known, unknown = logits_for(photos), np.random.default_rng(5).normal(size=(30, 8))
    fitted, areas, told = tuned(known[:80], known[80:], unknown, base_rate=0.2, accept_known=0.9)
    assert areas == score_aurocs(known[:80], unknown)
    assert fitted.score == max(areas, key=lambda kind: areas[kind])
    assert told == {
        "base_rate": 0.2, "accept_known": 0.9, "photos": {"calibrate": 80, "accept": 64, "others": 30}
    }  # fmt: skip
    assert (~fitted.decide(known[80:])).sum() == 58  # the smallest number that is 0.9 of 64


def pill_photos():
    """Return 8 pills: front and back in the studio, two rendered fronts; the last has no back."""
    pill = np.repeat(np.arange(8), 4)
    surface = ["front", "back", "front", "front"] * 8
    surface[-3] = "front"
    base = fold_photos(classes=8, groups_per_class=1, per_group=4)
    photos = dataclasses.replace(
        base, domain=np.tile([1, 1, 0, 0], 8).astype(np.int64), domains=("rendered", "studio")
    )  # fmt: skip
    return photos, [f"pill{number}" for number in pill], surface, pill


def test_retrieval_searches_studio_backs_for_the_fronts_of_each_domain() -> None:
    photos, pills, surface, pill = pill_photos()
    features = np.eye(8)[pill]
    features[2] = np.eye(8)[5]  # one rendered front looks like another pill
    squares = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    found = retrieval_part(features, lambda place: squares[pill[place]], photos, pills, surface, INTERVALS)
    assert list(found) == ["rendered", "studio"]
    studio, rendered = found["studio"], found["rendered"]
    assert (studio["queries"], studio["pills"], studio["gallery"], studio["without_back"]) == (7, 7, 7, 2)
    assert (rendered["queries"], rendered["pills"], rendered["gallery_domain"]) == (14, 7, "studio")
    assert studio["features"]["recall@1"]["value"] == studio["pixels"]["recall@1"]["value"] == 1.0
    assert rendered["features"]["recall@1"]["value"] == pytest.approx(13 / 14)
    assert rendered["features"]["recall@1"]["n_groups"] == 7
    assert rendered["mrr_difference"]["value"] < 0
    assert studio["chance"]["recall@1"] == pytest.approx(1 / 7)


def test_retrieval_is_empty_where_no_pill_has_both_sides() -> None:
    photos, pills, _, pill = pill_photos()
    found = retrieval_part(np.eye(8)[pill], lambda place: pytest.fail("read"), photos, pills, ["front"] * 32, INTERVALS)
    assert found == {}


def test_agreement_counts_photos_that_the_test_lacks() -> None:
    photos = fold_photos(classes=2, groups_per_class=1, per_group=2)
    logits = np.eye(2)[[0, 0, 1, 0]]
    predicted = {"photo_0": "K-0", "photo_1": "K-1", "photo_2": "K-1"}
    assert agreement(logits, photos, predicted) == {"n": 3, "missing": 1, "share": pytest.approx(2 / 3)}
    assert agreement(logits, photos, {})["share"] is None


def test_retrieval_counts_the_groups_of_the_fronts() -> None:
    photos, pills, surface, pill = pill_photos()
    by_labeler = dataclasses.replace(photos, group=(pill // 2).astype(np.int32))
    squares = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    features = np.random.default_rng(1).normal(size=(32, 4))
    for whose, groups in ((photos, 7), (by_labeler, 4)):
        studio = retrieval_part(features, lambda place: squares[pill[place]], whose, pills, surface, INTERVALS)[
            "studio"
        ]
        counted = {studio[key]["mrr"]["n_groups"] for key in ("features", "pixels")}
        assert counted == {studio["mrr_difference"]["n_groups"], studio["groups"]} == {groups}
        assert studio["pills"] == 7


def test_a_domain_that_is_not_there_has_no_photo() -> None:
    photos = fold_photos()
    np.testing.assert_array_equal(part_named(photos, "real"), photos.domain == 1)
    assert not part_named(photos, "kitchen").any()
    only = dataclasses.replace(photos, domain=np.ones_like(photos.domain))
    assert part_named(only, "real").all()
