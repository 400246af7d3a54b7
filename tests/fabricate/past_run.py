"""Run directories as a finished fit leaves them, with curves and settings of one's choice, made in milliseconds."""

import csv
import json
import os
import socket
import time

import psutil
import yaml

from shared.config import check_config
from tests.fabricate.battery_run import composed


def past_run(outputs, name, train, val, *overrides, f1=None, state="done", primary="battery", **status):
    """Write a run below `outputs` and return its folder.

    Args:
        outputs: Root of all outputs; also kept as paths.outputs.
        name: Name of the folder.
        train: Training loss of each epoch.
        val: Validation loss of each epoch.
        overrides: What was typed.
        f1: Monitored metric of each epoch, by default 1 / (1 + val).
        state: State in status.json.
        primary: Primary configuration.
        status: More of status.json.
    """
    typed = (*overrides, f"paths.outputs={outputs}", f"trainer.max_epochs={len(train)}")
    plain = check_config(composed(primary, *typed)).plain
    folder = outputs / primary / plain["experiment"] / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    (folder / "overrides.txt").write_text("".join(f"{text}\n" for text in typed))
    this = psutil.Process()
    alive = {"pid": os.getpid(), "started_by": this.create_time(), "host": socket.gethostname()}
    content = {"schema": 1, "state": state, "stage": "report", "heartbeat": time.time(), "parents": [], "stages": {}}
    (folder / "status.json").write_text(json.dumps(content | alive | status))
    scores = [1 / (1 + value) for value in val] if f1 is None else f1
    with (folder / "metrics.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["epoch", "step", "val/loss", "val/f1_macro", "train/loss", "lr"])
        rate = plain["optimizer"]["lr"]
        for epoch, (a, b, c) in enumerate(zip(train, val, scores, strict=True)):
            writer.writerow([epoch, 10 * (epoch + 1), b, c, a, rate])
    return folder
