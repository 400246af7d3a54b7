"""The test: opened once, after weights and calibrator are hashed; all rows of the table come from this opening."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared.base_data import FoldedDataModule
from shared.calibration import ROW_SUM_TOLERANCE
from shared.callbacks.collect import CollectOutputs, collecting
from shared.callbacks.ema import ema_of_checkpoint
from shared.crossover.files import load_state
from shared.curve_scores import CurveAxes
from shared.errors import DataError, TrainingError
from shared.final import checkpoint_content, checkpoint_state, final_calibrator, final_sha256, final_state
from shared.report.outputs import CurveOutputs, HeadOutputs, TestOutputs
from shared.report.predictions import write_curve_predictions, write_predictions
from shared.session import Session
from shared.table_rows import ENSEMBLE, members_of_ensemble, model_rows
from shared.weights import weights_sha256

FINAL = "final"


def predict_test(session: Session, states: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
    """Predict the test fold with all rows of the table and score nothing yet.

    Only final is calibrated: the other rows say what their weights are worth as they are.

    Args:
        session: The run.
        states: Row name -> weights, "final" among them; None: those that the run's own stages have left.

    Raises:
        CheckpointError: If a file of weights cannot be used.
        LeakError: If the run has opened test before with other weights or another calibrator.
    """
    assert session.module is not None
    rows = dict(states or table_states(session))
    final_hash = final_sha256(rows[FINAL], session.calibrator)
    session.ledger.open_test(final_hash)
    passes: dict[str, CollectOutputs] = {}
    of_row = {name: weights_sha256(state) for name, state in rows.items()}
    for name in [*(name for name in rows if name != FINAL), FINAL]:  # final comes last: its weights stay in the module
        if of_row[name] not in passes or name == FINAL:
            session.module.load_weights(rows[name])
        if of_row[name] not in passes:  # a declined crossover leaves final equal to the best single checkpoint
            passes[of_row[name]] = _predict(session)
    of_name = {name: passes[key] for name, key in of_row.items()}
    path, index = session.run.path / "predictions.csv", session.datamodule.index
    if of_name[FINAL].is_curves:
        session.outputs = _curve_outputs(session, of_name)
        write_curve_predictions(path, index, session.outputs, "test")
    else:
        session.outputs = _outputs(session, of_name)
        write_predictions(path, index, session.outputs, "test")
    session.test_ms_per_sample = 1000 * of_name[FINAL].seconds / len(session.outputs.rows)
    session.run.mark_done("test", {"final_sha256": final_hash})


def table_states(session: Session) -> dict[str, dict[str, Tensor]]:
    """Weights of every row that the run's stages have left, in the order of the table."""
    run = session.run
    session.calibrator = final_calibrator(run)
    last = checkpoint_content(run, "last.ckpt")
    rows = {"last": dict(last["state_dict"]), "best_single": checkpoint_state(run, "best.ckpt")}
    average = ema_of_checkpoint(last)
    if average is not None:
        rows["ema"] = average
    crossed = run.done("crossover") or {"files": {}}
    rows |= {name: load_state(run.path / file) for name, file in crossed["files"].items()}
    return rows | {FINAL: final_state(run)}


def _outputs(session: Session, passes: Mapping[str, CollectOutputs]) -> TestOutputs:
    """Probabilities of every row, of the baselines of final's own pass, and of simple models fitted on train."""
    final = passes[FINAL]
    probs = {name: collected.probabilities()[""] for name, collected in passes.items()}
    _add_ensemble(probs)
    uncalibrated = None
    if session.calibrator is not None:
        uncalibrated = probs[FINAL]
        names = session.datamodule.domain_names()
        probs[FINAL] = session.calibrator.probabilities(final.logits()[""], final.domain, names).numpy()
    probs |= {name: values for name, values in final.probabilities().items() if name}
    for name, values in _simple_models(session, final.rows, probs).items():
        probs[name] = _checked_probabilities(name, values, probs[FINAL].shape)
    heads = _heads(session, passes)
    return TestOutputs(probs=probs, target=final.target, rows=final.rows, uncalibrated=uncalibrated, heads=heads)


def _add_ensemble(predictions: dict[str, NDArray[np.float64]]) -> None:
    """Add the mean of what the shifted sweet spots predict, where these are rows: a network has no such weights."""
    members = members_of_ensemble(predictions)
    if len(members) > 1:
        predictions[ENSEMBLE] = np.mean([predictions[name] for name in members], axis=0)


def _heads(session: Session, passes: Mapping[str, CollectOutputs]) -> dict[str, HeadOutputs]:
    """What the other heads say, of every row; a head without any target on the fold is left out."""
    assert session.module is not None
    known = session.module.head_names()
    of_pass = {id(collected): collected.heads() for collected in passes.values()}  # rows of equal weights share a pass
    found = {}
    for head, final in of_pass[id(passes[FINAL])].items():
        if len(known.get(head, ())) != final.prediction.shape[1]:
            raise TrainingError(
                f"{type(session.module).__name__} returns {final.prediction.shape[1]} numbers of the head {head!r}; "
                f"head_names() names {len(known.get(head, ()))}"
            )
        if not final.mask.any():
            continue
        predictions = {name: of_pass[id(collected)][head].prediction for name, collected in passes.items()}
        _add_ensemble(predictions)
        found[head] = HeadOutputs(tuple(known[head]), predictions, final.target, final.mask)
    return found


def _simple_models(session: Session, rows: NDArray[np.int64], taken: Collection[str]) -> dict[str, NDArray[np.float64]]:
    """Predictions of the datamodule's simple models; train is recorded as used only where it has any."""
    data = session.datamodule
    fit_rows = data.rows("train")
    if type(data).baselines is FoldedDataModule.baselines or not len(fit_rows):
        return {}
    session.ledger.record("fit", "train", "baselines")
    found = {name: np.asarray(values, dtype=np.float64) for name, values in data.baselines(fit_rows, rows).items()}
    if clash := [name for name in found if name in taken or model_rows([name])]:
        raise DataError(f"the baseline {clash[0]!r} has the name of another row of the table")
    return found


def _checked_probabilities(name: str, values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The values, if they are probabilities of classes."""
    fits = values.shape == shape and np.isfinite(values).all() and (values >= 0.0).all()
    if not fits or not np.allclose(values.sum(axis=1), 1.0, atol=ROW_SUM_TOLERANCE):
        raise DataError(
            f"the baseline {name!r} gives an array {values.shape}; probabilities {shape} whose rows sum to 1 are needed"
        )
    return values


def _curve_outputs(session: Session, passes: Mapping[str, CollectOutputs]) -> CurveOutputs:
    """Curves of every row, of the baselines of final's own pass, and of simple models fitted on train."""
    assert session.module is not None
    described = session.module.curve_axes()
    if described is None:
        raise TrainingError(
            f"{type(session.module).__name__} returns a prediction but no curve_axes(), which say what it is of"
        )
    axes = CurveAxes.from_dict(described)
    final, count = passes[FINAL], len(axes.channels)
    predictions = {name: collected.curves(count)[0][""] for name, collected in passes.items()}
    _add_ensemble(predictions)
    own, target = final.curves(count)
    predictions |= {name: values for name, values in own.items() if name}
    for name, values in _simple_models(session, final.rows, predictions).items():
        predictions[name] = values.reshape(target.shape)
    return CurveOutputs(predictions, target, final.rows, axes, final.sample_shape)


def _predict(session: Session) -> CollectOutputs:
    assert session.trainer is not None
    with collecting(session.trainer) as collected:
        session.trainer.test(session.module, datamodule=session.datamodule, verbose=False)
    return collected
