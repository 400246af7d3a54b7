import copy

import pytest

from projects.pillsnap.evaluation.pages import markdown, verdicts


def estimate(value: float, lo: float | None = None, hi: float | None = None) -> dict:
    return {"value": value, "lo": lo, "hi": hi, "n_groups": 4 if lo is None else 40, "method": "no interval: 4 groups"}


def scores(top1: dict, top5: dict, number: int = 200) -> dict:
    return {"n": number, "groups": 40, "top1": top1, "top5": top5}


def row(name: str, words: str, change: float) -> dict:
    part = {
        "n": 200, "groups": 40, "top1": estimate(0.8 + change), "top1_change": estimate(change, change - 0.1, change),
        "top5": estimate(0.9), "top5_change": estimate(change / 2, -0.2, 0.1),
    }  # fmt: skip
    return {"name": name, "kind": name, "level": "", "unit": "", "words": words, "parts": {"all": part, "real": part}}


@pytest.fixture
def content() -> dict:
    weak = {
        "class": "K-7", "label": "Ardol | 5 mg", "n": 12, "accuracy": estimate(0.5),
        "taken_for": [{"class": "K-8", "label": "Bexil", "n": 4, "share": 1 / 3}],
        "look_alikes": ["K-8"], "taken_for_look_alike": 1 / 3,
    }  # fmt: skip
    good = {"class": "K-8", "label": "Bexil", "n": 12, "accuracy": estimate(1.0), "taken_for": []}
    measured = {"auroc": estimate(0.9, 0.8, 0.95), "fpr95": estimate(0.4, 0.2, 0.6)}
    metrics = {name: estimate(0.5, 0.4, 0.6) for name in ("recall@1", "recall@5", "mrr")}
    return {
        "experiment": "pills", "run": "20260101-aa", "has_targets": True,
        "clean": {
            "scores": {
                "all": scores(estimate(0.83, 0.80, 0.86), estimate(0.96, 0.94, 0.98)),
                "real": scores(estimate(0.70, 0.6, 0.8), estimate(0.9, 0.8, 0.95)),
            },
            "classes": [weak, good], "weak_classes": ["K-7"],
            "look_alikes": {"classes": 2, "n": 24, "wrong": 6, "wrong_for_look_alike": 4},
        },
        "stress": [row("JPEG_85", "JPEG 85 quality", -0.01), row("blur_2", "blur 2 %", -0.3)],
        "agreement": {"n": 200, "missing": 0, "share": 1.0},
        "open_set": {
            "domain": "real", "n_known": 120, "n_unknown": 80, "unknown_classes": 10, "base_rate": 0.1,
            "chosen": {"score": "energy", "slope": 1.5, "offset": 2.0, "threshold": 0.25},
            "scores": {kind: measured for kind in ("msp", "max_logit", "energy")},
            "decisions": {"known_answered": estimate(0.94, 0.9, 0.97), "unknown_declined": estimate(0.6, 0.5, 0.7)},
            "calibration": {"ece": estimate(0.02, 0.01, 0.03), "brier": estimate(0.06, 0.05, 0.07)},
        },
        "tuning": {"auroc": {"msp": 0.8, "max_logit": 0.85, "energy": 0.9}},
        "attributes": {
            "shape": {
                "n": 100, "unlabelled": 0, "values": 3, "accuracy": estimate(0.97, 0.95, 0.99), "most_common": "round",
                "floor": estimate(0.6, 0.5, 0.7), "head_minus_floor": estimate(0.37, 0.3, 0.4),
            },
            "color": {"n": 0, "unlabelled": 100},
        },
        "retrieval": {
            "studio": {
                "queries": 50, "gallery": 50, "gallery_domain": "studio", "features": metrics, "pixels": metrics,
                "chance": {"recall@1": 0.02, "recall@5": 0.1, "mrr": 0.09},
            }
        },
        "floor": {
            "what": "forest",
            "scores": {"all": {"top1": estimate(0.5, 0.4, 0.6)}},
            "network_minus_floor": {"all": {"top1_change": estimate(0.33, 0.25, 0.4)}},
        },
        "notes": ["Stand-in data."],
    }  # fmt: skip


def test_verdicts_say_the_result_first(content: dict) -> None:
    found = verdicts(content)
    assert found[0] == (
        "All test photos (200 photos, 40 groups): top-1 0.830 [0.800, 0.860], top-5 0.960 [0.940, 0.980]."
    )
    assert "Target top-1 0.85 (least 0.80): least value reached, aim not, 0.830." in found
    assert "Target top-5 0.95 (least 0.92): reached, 0.960." in found
    assert "Target top-1 on real photos 0.80 (least 0.75): not reached, 0.700." in found
    assert "What the client's JPEG costs: top-1 -0.010 [-0.110, -0.010]." in found
    assert "Hardest conditions, change of top-1: blur 2 % -0.300; JPEG 85 quality -0.010." in found
    assert "1 of 2 classes are below 0.70 on the test photos." in found
    assert any("of their 6 wrong answers on 24 photos 4 name such a look-alike" in sentence for sentence in found)
    assert any(sentence.startswith("None of these (energy): AUROC 0.900 [0.800, 0.950] on 10") for sentence in found)
    assert (
        "Head shape: accuracy 0.970 [0.950, 0.990] on 100 photos; always saying round, the most common value in train, "
        "gives 0.600 [0.500, 0.700], the head minus that +0.370 [+0.300, +0.400]."
    ) in found
    assert (
        "The probability of none of these is for 10 % of photos of none of the classes; that share is an assumption, "
        "nobody has measured it."
    ) in found
    assert any("recall@1 0.500 [0.400, 0.600] among 50 pills (pixels 0.500, chance 0.020)" in s for s in found)
    assert not any("Warning" in sentence for sentence in found)


def test_targets_are_for_the_drugs_only(content: dict) -> None:
    content["has_targets"] = False
    assert not any(sentence.startswith("Target") for sentence in verdicts(content))


def test_the_floor_stands_beside_the_network(content: dict) -> None:
    assert (
        "All test photos: floor (forest) top-1 0.500 [0.400, 0.600]; "
        "the network minus the floor +0.330 [+0.250, +0.400]."
    ) in verdicts(content)


def test_disagreement_with_the_runs_own_test_is_a_warning(content: dict) -> None:
    content["agreement"] = {"n": 200, "missing": 3, "share": 0.985}
    assert verdicts(content)[-1] == (
        "Warning: this pass and the run's own test name the same class on 0.9850 of 200 photos "
        "(3 are not in predictions.csv)."
    )
    content["agreement"] = {"n": 0, "missing": 3, "share": None}
    assert "on none of 0 photos" in verdicts(content)[-1]


def test_the_page_has_every_part_and_sound_tables(content: dict) -> None:
    page = markdown(content, {"Stress": "stress.png"})
    assert page.startswith("# pills: evaluation of run 20260101-aa\n")
    assert "![Stress](stress.png)" in page
    assert "Score energy, slope 1.5, offset 2, threshold 0.2500." in page
    assert "| K-7 | Ardol / 5 mg | 12 | 0.500 (no interval: 4 groups) | Bexil (4) | 33 % |" in page
    assert "| shape | 100 | 0.970 [0.950, 0.990] | round | 0.600 [0.500, 0.700] | +0.370 [+0.300, +0.400] |" in page
    assert "| color | 0 | n/a | n/a | n/a | n/a |" in page
    section = page.split("## None of these")[1].split("##")[0]
    assert "that share is an assumption, nobody has measured it. Its calibration at that share:" in section
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("| ")]
    assert len(tables) == 8
    for table in tables:
        assert len({line.count("|") for line in table}) == 1


def test_parts_that_did_not_run_are_absent(content: dict) -> None:
    bare = {key: copy.deepcopy(content[key]) for key in content if key not in ("open_set", "attributes", "retrieval")}
    bare |= {"open_set_missing": "these data hold no photos of other classes to tune on"}
    bare |= {"retrieval_missing": "these data do not say which side a photo shows"}
    bare["clean"]["weak_classes"] = []
    page = markdown(bare, {})
    assert "None of these: not measured, these data hold no photos of other classes to tune on." in page
    assert "No class is below 0.70." in page
    assert "- Front to back: not measured, these data do not say which side a photo shows." in page
    assert "## Front to back" not in page
    assert "## Shape" not in page


def test_a_head_without_a_floor_says_so(content: dict) -> None:
    for key in ("most_common", "floor", "head_minus_floor"):
        del content["attributes"]["shape"][key]
    assert (
        "Head shape: accuracy 0.970 [0.950, 0.990] on 100 photos; no train photo has the label, so there is no floor."
    ) in verdicts(content)
    assert "| shape | 100 | 0.970 [0.950, 0.990] | n/a | n/a | n/a |" in markdown(content, {})
