"""The test: opened once, after the final weights are hashed; every row of the table comes from this one opening."""

from collections.abc import Mapping
from typing import Any

from lightning import Callback
from torch import Tensor

from shared.callbacks.collect import CollectOutputs
from shared.checkpoint_io import load_checkpoint
from shared.errors import CheckpointError
from shared.report.evaluation import TestOutputs
from shared.report.predictions import write_predictions
from shared.session import Session
from shared.weights import weights_sha256


def predict_test(session: Session, states: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
    """Predict the test fold with the last and the best weights and score nothing yet.

    Args:
        session: The run.
        states: Row name -> weights, "best_single" the last of them; None: the run's own last.ckpt and best.ckpt.

    Raises:
        CheckpointError: If best.ckpt or last.ckpt cannot be used.
        LeakError: If the run has opened test before with other weights.
    """
    assert session.module is not None
    if states is None:
        files = {"last": "last.ckpt", "best_single": "best.ckpt"}
        states = {name: _weights(session, file) for name, file in files.items()}
    final_hash = weights_sha256(states["best_single"])
    session.ledger.open_test(final_hash)
    probs = {}
    for name, state in states.items():  # best_single comes last: its weights and baselines stay
        session.module.load_weights(state)
        outputs = _predict(session)
        probs[name] = outputs.probabilities()
    best = probs["best_single"]
    rows = {name: values[""] for name, values in probs.items()} | {"final": best[""]}
    baselines = {name: values for name, values in best.items() if name}
    session.outputs = TestOutputs(probs=rows | baselines, target=outputs.target, rows=outputs.rows)
    write_predictions(session.run.path / "predictions.csv", session.datamodule.index, session.outputs, "test")
    session.run.mark_done("test", {"final_sha256": final_hash})


def _weights(session: Session, file: str) -> dict[str, Any]:
    path = session.run.checkpoints / file
    content = load_checkpoint(path)
    if "state_dict" not in content:
        raise CheckpointError(f"checkpoint {path} has no state_dict")
    return dict(content["state_dict"])


def _predict(session: Session) -> CollectOutputs:
    collect = CollectOutputs()
    assert session.trainer is not None
    callbacks: list[Callback] = session.trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    callbacks.append(collect)
    try:
        session.trainer.test(session.module, datamodule=session.datamodule, verbose=False)
    finally:
        callbacks.remove(collect)
    return collect
