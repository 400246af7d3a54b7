"""Sweet spots: which epoch each module group votes for, from the metrics of the fit alone."""

from shared.callbacks.sweet_spot import SWEET_SPOTS_FILE, SweetSpotCheckpoint
from shared.checkpoint_io import load_checkpoint
from shared.session import Session


def select_epochs(session: Session) -> None:
    """Let the five analyses vote and write sweet_spots.json; nothing to do without the callback."""
    callback = session.callback(SweetSpotCheckpoint)
    if callback is None or session.run.done("select") is not None:
        return
    assert session.module is not None
    # From the file and not from memory: a run that goes on behind its fit has nothing else, and must find the same.
    saved = load_checkpoint(session.run.checkpoints / "last.ckpt")["callbacks"]
    callback.load_state_dict(saved[callback.state_key])
    found = callback.select(session.run.path / SWEET_SPOTS_FILE, session.module).as_dict()
    session.say(f"sweet spots: {_in_words(found)}")
    session.run.mark_done("select", {key: found[key] for key in ("decision", "reason", "epochs")})


def _in_words(found: dict[str, object]) -> str:
    epochs = found["epochs"]
    if found["decision"] != "chosen" or not isinstance(epochs, dict):
        return str(found["reason"])
    return ", ".join(f"{group} epoch {epoch}" for group, epoch in epochs.items())
