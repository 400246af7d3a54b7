"""An objective without torch: a bowl over the learning rate, in epochs with a checkpoint; it fails where it is told to.

TOY_EPOCH_S is how long an epoch takes. TOY_MODES is JSON, {"<key>=<value>" or "*": mode} with the modes "fail" (each
time), "fail_once", "crash" (the process ends as by a segmentation fault), "vanish" (as if killed from outside), "hang",
"diverge" (its loss is not finite) and "bad_config". TOY_LOG is a file that gets a line for each epoch.
"""

import json
import math
import os
import signal
import time
from pathlib import Path

from shared.atomic import write_json
from shared.errors import ConfigError, DataError, RunInterrupted, TrainingError
from shared.sweep.objective import Outcome, PointWork

BEST_RATE = 7e-5
DEFAULT_EPOCHS = 3


def run(work: PointWork) -> Outcome:
    """Measure a point; what it gives is a function of its values alone."""
    run_folder = work.resume or Path(str(work.config.paths.outputs)).resolve() / "toy" / f"{work.folder.name}-{work.id}"
    run_folder.mkdir(parents=True, exist_ok=True)
    work.claim.opened(str(run_folder), initial_weights="0" * 64)
    epochs = saved(run_folder)
    for epoch in range(len(epochs), int(work.settings["epochs"] or DEFAULT_EPOCHS)):
        _misbehave(work, run_folder, epoch)
        _sleep(run_folder, epochs)
        loss = bowl(float(work.config.optimizer.lr)) + 1.0 / (1 + epoch)
        epochs.append({"epoch": epoch, "train_loss": loss * 0.9, "val_loss": loss, "gradient_norm": 1.0})
        write_json(run_folder / "checkpoint.json", epochs)
        work.claim.note(epoch=epoch)
        _log(work, epoch)
    last = epochs[-1]["val_loss"]
    return {
        "score": last, "value": last, "epochs": epochs, "metrics": {"val/loss": last}, "run": str(run_folder),
        "seconds": 1.0, "samples": 10 * len(epochs), "initial_weights": "0" * 64, "data_hash": "1" * 64,
        "fingerprint": None, "stopped_at": None, "peak_rss_mb": 1.0,
    }  # fmt: skip


def bowl(rate: float) -> float:
    """Smallest at BEST_RATE."""
    return 0.1 + (math.log10(rate) - math.log10(BEST_RATE)) ** 2


def saved(run_folder: Path) -> list[dict]:
    """Epochs of the checkpoint."""
    path = run_folder / "checkpoint.json"
    return json.loads(path.read_text()) if path.is_file() else []


def _sleep(run_folder: Path, epochs: list[dict]) -> None:
    try:
        time.sleep(float(os.environ.get("TOY_EPOCH_S", "0.01")))
    except RunInterrupted:
        write_json(run_folder / "checkpoint.json", epochs)
        raise


def _log(work: PointWork, epoch: int) -> None:
    """One write in append mode: lines of several processes do not mix."""
    if "TOY_LOG" not in os.environ:
        return
    line = json.dumps({"point": work.id, "epoch": epoch, "pid": os.getpid(), "t": time.time()}) + "\n"
    descriptor = os.open(os.environ["TOY_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def _misbehave(work: PointWork, run_folder: Path, epoch: int) -> None:
    """Do in the second epoch what TOY_MODES says of this point."""
    modes = json.loads(os.environ.get("TOY_MODES", "{}"))
    named = [f"{key}={value}" for key, value in work.values.items()]
    mode = next((modes[name] for name in (*named, "*") if name in modes), None)
    marker = run_folder / "failed-once"
    if mode is None or epoch != 1 or (mode == "fail_once" and marker.exists()):
        return
    marker.touch()
    if mode in ("fail", "fail_once"):
        raise DataError("the toy was told to fail")
    if mode == "diverge":
        raise TrainingError("train/loss is not finite in step 7")
    if mode == "bad_config":
        raise ConfigError("toy.size is 0; allowed are numbers from 1 on")
    if mode in ("crash", "vanish"):
        os.kill(os.getpid(), signal.SIGSEGV if mode == "crash" else signal.SIGKILL)
    while mode == "hang":
        time.sleep(0.1)
