import numpy as np
import pytest

from shared.cross_validation.pooling import pool_rounds
from shared.cross_validation.rounds import ROWS_FILE, save_rows
from shared.curve_scores import CurveAxes
from shared.errors import DataError
from shared.ledger import Ledger
from shared.report.outputs import CurveOutputs, TestOutputs
from shared.run_dir import RunDirectory
from shared.splits import write_splits
from tests.fabricate.sample_index import make_index

AXES = CurveAxes(("up", "down"), "frequency", "Hz", (1.0, 2.0, 4.0))
TESTED = ([4, 0], [1, 5], [2, 3])  # in the order in which a loader happened to give them
INDEX = make_index([0, 1, 2, 3, 4, 5])
CURVES = np.random.default_rng(0).random((3, 6, 2, 3))  # target, final, last


def curves_of(rows, names=("final", "last"), axes=AXES, sample_shape=(2, 3)):
    said = {name: CURVES[1 + (name != "final"), rows] for name in names}
    return CurveOutputs(said, CURVES[0, rows], np.array(rows), axes, sample_shape)


def finished_round(root, tested, outputs, index=INDEX):
    fold = np.zeros(len(INDEX), dtype=np.int8)
    fold[tested] = 4
    run = RunDirectory.create(root, "p", "e")
    Ledger(run.path).bind(index, fold, write_splits(run.path / "splits.csv", index, fold))
    save_rows(run.path / ROWS_FILE, outputs)
    run.mark_done("check", {"data_hash": index.data_hash()})
    run.finish()
    return run


def test_curves_are_put_together_in_the_order_of_the_index(tmp_path):
    runs = [finished_round(tmp_path, rows, curves_of(rows)) for rows in TESTED]
    pooled = pool_rounds(INDEX, runs, CurveOutputs)
    assert np.array_equal(pooled.outputs.target, CURVES[0])
    assert np.array_equal(pooled.outputs.row("final"), CURVES[1])
    assert np.array_equal(pooled.outputs.row("last"), CURVES[2])
    assert pooled.outputs.rows.tolist() == list(range(6))
    assert (pooled.outputs.axes, pooled.outputs.sample_shape) == (AXES, (2, 3))
    assert pooled.round_of.tolist() == [0, 1, 2, 2, 0, 1]
    assert pooled.tested(1).nonzero()[0].tolist() == [1, 5]
    assert pooled.folds.shape == (3, 6)
    assert pooled.partial == ()


def test_a_row_that_a_round_lacks_is_refused_or_left_out_by_name(tmp_path):
    names = (("final", "last"), ("final",), ("final", "lawa", "last"))
    runs = [finished_round(tmp_path, rows, curves_of(rows, own)) for rows, own in zip(TESTED, names, strict=True)]
    with pytest.raises(DataError, match="has the rows final; the first round has final, last"):
        pool_rounds(INDEX, runs, CurveOutputs)
    pooled = pool_rounds(INDEX, runs, CurveOutputs, leave_out_partial=True)
    assert list(pooled.outputs.predictions) == ["final"]
    assert pooled.partial == ("last", "lawa")


def test_rounds_that_do_not_fit_together_are_refused(tmp_path):
    runs = [finished_round(tmp_path, rows, curves_of(rows)) for rows in TESTED]
    with pytest.raises(DataError, match=r"2 of 6 samples are not tested exactly once in 2 rounds, first g2/s2\.png"):
        pool_rounds(INDEX, runs[:2], CurveOutputs)
    with pytest.raises(DataError, match="holds CurveOutputs; TestOutputs are needed"):
        pool_rounds(INDEX, runs, TestOutputs)
    other = finished_round(tmp_path, TESTED[2], curves_of(TESTED[2], sample_shape=(1, 2, 3)))
    with pytest.raises(DataError, match=r"round 3 predicts \(1, 2, 3\) over the frequency and the first round"):
        pool_rounds(INDEX, [*runs[:2], other], CurveOutputs)
    other = finished_round(tmp_path, TESTED[2], curves_of([2, 4]))
    with pytest.raises(DataError, match="is not about the test fold"):
        pool_rounds(INDEX, [*runs[:2], other], CurveOutputs)
    other = finished_round(tmp_path, TESTED[2], curves_of(TESTED[2]), make_index([0, 1, 2, 3, 4, 4]))
    with pytest.raises(DataError, match="round 3 was made on other data"):
        pool_rounds(INDEX, [*runs[:2], other], CurveOutputs)
    runs[0].set_state("interrupted")
    with pytest.raises(DataError, match="round 1 is interrupted, not done"):
        pool_rounds(INDEX, runs, CurveOutputs)


def test_probabilities_are_put_together_and_held_against_the_labels(tmp_path):
    index = make_index([0, 1, 2, 3, 4, 5], [0, 1, 0, 1, 0, 1])
    probs = np.random.default_rng(1).dirichlet([1, 1], 6)
    runs = [
        finished_round(tmp_path, rows, TestOutputs({"final": probs[rows]}, np.array(rows) % 2, np.array(rows)), index)
        for rows in TESTED
    ]
    pooled = pool_rounds(index, runs, TestOutputs)
    assert np.array_equal(pooled.outputs.row("final"), probs)
    assert pooled.outputs.target.tolist() == [0, 1, 0, 1, 0, 1]
    wrong = TestOutputs({"final": probs[TESTED[0]]}, np.array([1, 1]), np.array(TESTED[0]))
    with pytest.raises(DataError, match="not their label in the sample index"):
        pool_rounds(index, [finished_round(tmp_path, TESTED[0], wrong, index), *runs[1:]], TestOutputs)
