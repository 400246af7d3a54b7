from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared.errors import DataError
from shared.report.evaluation import TestOutputs
from shared.report.outputs import HeadOutputs
from shared.report.predictions import write_predictions
from shared.sample_index import SampleIndex


def test_file_gives_back_the_probabilities(tmp_path: Path, index: SampleIndex, outputs: TestOutputs) -> None:
    order = np.random.default_rng(0).permutation(len(index))[:100]
    mixed = TestOutputs({k: v[order] for k, v in outputs.probs.items()}, outputs.target[order], outputs.rows[order])
    path = tmp_path / "predictions.csv"
    write_predictions(path, index, mixed, "test")
    table = pd.read_csv(path)
    names = [f"prob_{name}" for name in index.classes]
    assert list(table) == ["sample_id", "group", "fold", "kind", "axis", "label", "predicted", *names]
    rows = np.sort(order)
    assert list(table.sample_id) == index.ids.take(rows).to_list()
    assert set(table.fold) == {"test"}
    np.testing.assert_array_equal(table[names].to_numpy(), outputs.probs["final"][rows])
    assert list(table.predicted) == [index.classes[code] for code in outputs.probs["final"][rows].argmax(axis=1)]
    assert list(table.label) == [index.classes[code] for code in index.label[rows]]
    assert list(table.group) == [index.group_name(int(row)) for row in rows]
    assert list(table.axis) == [index.meta_names["axis"][code] for code in index.meta["axis"][rows]]


def test_other_heads_stand_behind_the_classes_and_are_empty_where_there_is_no_target(
    tmp_path: Path, index: SampleIndex, outputs: TestOutputs
) -> None:
    order = np.random.default_rng(0).permutation(len(index))
    wear = outputs.heads["wear"]
    said = {name: values[order] for name, values in wear.predictions.items()}
    mixed = TestOutputs(
        {name: values[order] for name, values in outputs.probs.items()}, outputs.target[order], outputs.rows[order],
        heads={"wear": HeadOutputs(wear.names, said, wear.target[order], wear.mask[order])},
    )  # fmt: skip
    write_predictions(tmp_path / "p.csv", index, mixed, "test")
    table = pd.read_csv(tmp_path / "p.csv")
    names = ["true_wear_edge", "predicted_wear_edge", "true_wear_face", "predicted_wear_face"]
    assert list(table)[-4:] == names
    for number in range(2):
        there = wear.mask[:, number]
        true, predicted = table[names[2 * number]].to_numpy(), table[names[2 * number + 1]].to_numpy()
        assert (np.isnan(true) == ~there).all()
        assert (np.isnan(predicted) == ~there).all()
        np.testing.assert_allclose(true[there], wear.target[there, number], rtol=1e-8)
        np.testing.assert_allclose(predicted[there], wear.predictions["final"][there, number], rtol=1e-8)


def test_missing_metadata_is_empty(tmp_path: Path, index: SampleIndex, outputs: TestOutputs) -> None:
    torn = replace(index, meta=index.meta | {"axis": np.full(len(index), -1, dtype=np.int16)})
    write_predictions(tmp_path / "p.csv", torn, outputs, "test")
    assert pd.read_csv(tmp_path / "p.csv").axis.isna().all()


def test_wrong_use_writes_nothing(tmp_path: Path, index: SampleIndex, outputs: TestOutputs) -> None:
    path = tmp_path / "predictions.csv"
    with pytest.raises(DataError, match=r"fold 'holdout'.*train, val, accept, calibrate, test"):
        write_predictions(path, index, outputs, "holdout")
    with pytest.raises(DataError, match="no row 'final'"):
        write_predictions(path, index, replace(outputs, probs={"last": outputs.probs["last"]}), "test")
    assert list(tmp_path.iterdir()) == []
