from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
    top_k_accuracy_score,
)

from shared.calibration import adaptive_calibration_error, classwise_calibration_error
from shared.errors import DataError
from shared.report import wording
from shared.report.evaluation import Evaluation, TestOutputs, calibration_scores, evaluate_classification
from shared.sample_index import SampleIndex
from tests.fabricate.sample_index import make_index

ROWS = ("last", "best_single", "final")


def by_name(rows: list[dict], name: str) -> dict:
    return next(row for row in rows if row["name"] == name)


def test_metrics_agree_with_sklearn(evaluation: Evaluation, outputs: TestOutputs) -> None:
    for row in (*evaluation.models, *evaluation.baselines):
        probs, target = outputs.probs[row["name"]], outputs.target
        predicted = probs.argmax(axis=1)
        values = {name: entry["value"] for name, entry in row["metrics"].items()}
        assert set(values) == {"accuracy", "f1_macro", "auroc_macro", "ece", "brier", "nll"}
        assert values["accuracy"] == pytest.approx(accuracy_score(target, predicted))
        assert values["f1_macro"] == pytest.approx(f1_score(target, predicted, average="macro"))
        expected = np.mean([roc_auc_score(target == code, probs[:, code]) for code in range(5)])
        assert values["auroc_macro"] == pytest.approx(expected)
        assert values["nll"] == pytest.approx(log_loss(target, probs))
        assert values["brier"] == pytest.approx(np.mean(np.sum((probs - np.eye(5)[target]) ** 2, axis=1)))


def test_rows_are_split_into_models_and_baselines(evaluation: Evaluation) -> None:
    assert [row["name"] for row in evaluation.models] == list(ROWS)
    assert [row["name"] for row in evaluation.baselines] == ["image_only", "metadata_only", "fused_metadata_permuted"]
    assert all(row["metrics"]["accuracy"]["n_groups"] == 36 for row in evaluation.models)


def test_differences_have_the_stated_sign(evaluation: Evaluation) -> None:
    f1 = {row["name"]: row["metrics"]["f1_macro"]["value"] for row in (*evaluation.models, *evaluation.baselines)}
    final, best = by_name(evaluation.models, "final"), by_name(evaluation.models, "best_single")
    assert "diff_to_best_single" not in best
    assert set(final["diff_to_best_single"]) == {"f1_macro", "auroc_macro", "nll"}
    assert final["diff_to_best_single"]["f1_macro"]["value"] == pytest.approx(f1["final"] - f1["best_single"])
    for row in evaluation.baselines:
        assert row["diff_to_final"]["f1_macro"]["value"] == pytest.approx(f1["final"] - f1[row["name"]])


def test_differences_are_paired(evaluation: Evaluation) -> None:
    """final and image_only are the same off axis x, so what is common to a battery must cancel."""
    row = by_name(evaluation.baselines, "image_only")
    paired, alone = row["diff_to_final"]["f1_macro"], row["metrics"]["f1_macro"]
    assert paired["hi"] - paired["lo"] < 0.7 * (alone["hi"] - alone["lo"])


def test_per_class_agrees_with_sklearn(evaluation: Evaluation, outputs: TestOutputs, index: SampleIndex) -> None:
    expected = precision_recall_fscore_support(outputs.target, outputs.probs["final"].argmax(axis=1))
    for code, name in enumerate(index.classes):
        entry = evaluation.per_class[name]
        found = [entry[key]["value"] for key in ("precision", "recall", "f1")] + [entry["support"]]
        assert found == pytest.approx([column[code] for column in expected])


def test_parts_cover_columns_and_subsets(evaluation: Evaluation, outputs: TestOutputs, index: SampleIndex) -> None:
    assert set(evaluation.per_group) == {
        "all", "y/z only", "kind=cell", "kind=module", "axis=x", "axis=y", "axis=z",
    }  # fmt: skip
    part = evaluation.per_group["y/z only"]
    mask = index.meta["axis"] != 0
    assert (part["n"], part["groups"]) == (mask.sum(), 36)
    assert "column" not in part
    assert evaluation.per_group["axis=y"]["column"] == "axis"
    for name in ("final", "image_only", "metadata_only", "fused_metadata_permuted"):
        predicted = outputs.probs[name][mask].argmax(axis=1)
        expected = f1_score(outputs.target[mask], predicted, average="macro")
        assert part["rows"][name]["f1_macro"]["value"] == pytest.approx(expected)


def test_the_trap_shows(evaluation: Evaluation) -> None:
    """The fused gain holds over all axes and vanishes off the trap."""
    overall = by_name(evaluation.baselines, "image_only")["diff_to_final"]["f1_macro"]
    without = evaluation.per_group["y/z only"]["diff_to_final"]["image_only"]["f1_macro"]
    assert overall["lo"] > 0.02
    assert without["value"] == pytest.approx(0.0, abs=1e-9)


def test_macro_f1_of_a_part_is_over_its_classes(
    evaluation: Evaluation, outputs: TestOutputs, index: SampleIndex
) -> None:
    mask = index.meta["kind"] == 0
    predicted = outputs.probs["final"][mask].argmax(axis=1)
    expected = f1_score(outputs.target[mask], predicted, average="macro", labels=[0, 1])
    assert evaluation.per_group["kind=cell"]["rows"]["final"]["f1_macro"]["value"] == pytest.approx(expected)


def test_confidence_right_and_wrong(evaluation: Evaluation, outputs: TestOutputs) -> None:
    probs = outputs.probs["final"]
    hit = probs.argmax(axis=1) == outputs.target
    confidence = evaluation.per_group["all"]["confidence"]
    assert confidence["right"]["value"] == pytest.approx(probs.max(axis=1)[hit].mean())
    assert confidence["wrong"]["value"] == pytest.approx(probs.max(axis=1)[~hit].mean())
    assert confidence["wrong"]["lo"] < confidence["wrong"]["value"] < confidence["wrong"]["hi"]


def test_never_wrong_has_no_confidence_of_wrong_answers(index: SampleIndex, outputs: TestOutputs) -> None:
    perfect = replace(outputs, probs={"final": np.eye(5)[outputs.target]})
    found = evaluate_classification(perfect, index, model_rows=("final",), seed=0, draws=100)
    wrong = found.per_group["all"]["confidence"]["wrong"]
    assert (wrong["value"], wrong["lo"], wrong["method"]) == (None, None, "no interval: no sample")
    assert found.as_dict().keys() == {"models", "per_class", "per_group", "risk_coverage", "tasks"}


def only(outputs: TestOutputs, mask: np.ndarray) -> TestOutputs:
    probs = {name: values[mask] for name, values in outputs.probs.items()}
    return TestOutputs(probs=probs, target=outputs.target[mask], rows=outputs.rows[mask])


def test_absent_class_has_no_number(index: SampleIndex, outputs: TestOutputs) -> None:
    found = evaluate_classification(only(outputs, outputs.target != 4), index, model_rows=ROWS, seed=0, draws=100)
    entry = found.per_class["module_resin_overflow"]
    assert entry["support"] == 0
    for key in ("f1", "recall"):
        assert (entry[key]["value"], entry[key]["lo"], entry[key]["hi"]) == (None, None, None)
        assert entry[key]["method"].startswith("no interval")
    assert len(found.warnings) == 1
    assert "module_resin_overflow has no sample in the test fold" in found.warnings[0]
    assert found.models[0]["metrics"]["f1_macro"]["value"] is not None


def test_few_groups_have_no_interval(index: SampleIndex, outputs: TestOutputs) -> None:
    found = evaluate_classification(only(outputs, index.group < 5), index, model_rows=ROWS, seed=0, draws=100)
    entry = found.models[0]["metrics"]["accuracy"]
    assert (entry["lo"], entry["hi"], entry["method"]) == (None, None, "no interval: 5 groups")
    assert entry["value"] is not None


def test_missing_metadata_is_a_part_of_its_own(index: SampleIndex, outputs: TestOutputs) -> None:
    codes = index.meta["axis"].copy()
    codes[:40] = -1
    torn = replace(index, meta=index.meta | {"axis": codes})
    found = evaluate_classification(outputs, torn, model_rows=ROWS, seed=0, draws=100)
    assert found.per_group["axis=(missing)"]["n"] == 40


def test_same_seed_same_numbers(index: SampleIndex, outputs: TestOutputs) -> None:
    small = replace(outputs, probs={"final": outputs.probs["final"]})
    first, again, other = (
        evaluate_classification(small, index, model_rows=("final",), seed=seed, draws=100) for seed in (3, 3, 4)
    )
    assert first == again
    assert first.models != other.models


def test_calibration_scores_are_the_row_s_own(evaluation: Evaluation, outputs: TestOutputs, index: SampleIndex) -> None:
    found = calibration_scores(outputs.probs["final"], outputs, index, seed=1, draws=200)
    metrics = by_name(evaluation.models, "final")["metrics"]
    assert {name: found[name] for name in ("ece", "brier", "nll")} == {
        name: metrics[name] for name in ("ece", "brier", "nll")
    }
    probs = outputs.probs["final"]
    assert found["classwise_ece"]["value"] == pytest.approx(classwise_calibration_error(probs, outputs.target))
    assert found["adaptive_ece"]["value"] == pytest.approx(adaptive_calibration_error(probs, outputs.target))
    assert all(entry["lo"] < entry["hi"] for entry in found.values())


def test_wrong_inputs_are_named(index: SampleIndex, outputs: TestOutputs) -> None:
    def run(given: TestOutputs = outputs, rows: tuple[str, ...] = ROWS, **settings: object) -> None:
        evaluate_classification(given, index, model_rows=rows, seed=0, draws=100, **settings)

    with pytest.raises(DataError, match="must include 'final'"):
        run(rows=("last",))
    with pytest.raises(DataError, match=r"ema.*outputs, which exist for last"):
        run(rows=("ema", "final"))
    with pytest.raises(DataError, match="subset 'none' is bool"):
        run(subsets={"none": np.zeros(len(index), dtype=bool)})
    with pytest.raises(DataError, match="name of another part"):
        run(subsets={"axis=x": np.ones(len(index), dtype=bool)})
    with pytest.raises(DataError, match="belong to another index"):
        run(given=replace(outputs, target=np.roll(outputs.target, 1)))
    with pytest.raises(DataError, match="has 648 rows"):
        run(given=replace(outputs, rows=outputs.rows + 1))
    with pytest.raises(DataError, match="hold 1 samples twice"):
        replace(outputs, rows=np.concatenate([outputs.rows[:1], outputs.rows[:-1]]))
    with pytest.raises(DataError, match="there are last, best_single"):
        outputs.row("crossover")
    with pytest.raises(DataError, match="'final' have 4 columns; the index has 5 classes"):
        run(given=replace(outputs, probs={"final": np.full((len(index), 4), 0.25)}), rows=("final",))


def test_of_many_classes_rows_are_set_against_each_other_by_accuracy() -> None:
    """Two groups a class, as in a hundred classes of twenty: nearly every draw of groups lacks a class altogether."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(24), 4)
    group = np.arange(len(label)) // 2
    index = make_index(group.tolist(), label.tolist())
    index = replace(index, meta={}, meta_names={})
    probs = {name: rng.dirichlet(np.ones(24), len(label)) for name in ("best_single", "final", "floor")}
    probs["final"][np.arange(len(label)), label] += 1.0
    probs["final"] /= probs["final"].sum(axis=1, keepdims=True)
    outputs = TestOutputs(probs=probs, target=label.astype(np.int64), rows=np.arange(len(label)))
    found = evaluate_classification(outputs, index, model_rows=("best_single", "final"), seed=0, draws=200)
    final = by_name(found.models, "final")
    assert final["metrics"]["f1_macro"]["lo"] is None
    expected = top_k_accuracy_score(label, probs["final"], k=5)
    assert final["metrics"]["accuracy_top5"]["value"] == pytest.approx(expected)
    assert final["diff_to_best_single"]["accuracy"]["lo"] > 0
    assert found.baselines[0]["diff_to_final"]["accuracy"]["lo"] > 0
    assert found.per_group["all"]["diff_to_final"]["floor"]["accuracy"]["lo"] > 0
    assert wording.main_metric({"models": found.models}) == "accuracy"
