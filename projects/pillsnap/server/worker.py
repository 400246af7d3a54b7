"""A worker process: photos' bytes in, answers out. It decodes and runs the model, and may die without harm.

Decoding is done here and not in the server, since decoders of images are what strangers' bytes attack: one that crashes
takes one worker with it, which is started again, and the photo that did it is tried once more, alone.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from projects.pillsnap.gateway import PhotoError, read_photo
from projects.pillsnap.served_model import Answer, ServedModel
from projects.pillsnap.server.frames import pack, read
from shared.errors import UserError

NUM_CANDIDATES = 5


def main() -> int:
    """Load the model that the first frame names, then answer frame after frame until the server ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group; the server ends its workers when it is done
    stdin = sys.stdin.buffer
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not get between the frames
    cv2.setNumThreads(1)
    ort.disable_telemetry_events()  # what strangers photograph is nobody else's business
    order = read(stdin)
    if order is None:
        return 0
    try:
        model = ServedModel.load(Path(order[0]["model"]), threads=order[0]["threads"])
    except UserError as error:
        _write(stdout, {"refused": str(error)})
        return 1
    size_px = model.preprocess.size_px
    model.run(np.full((1, size_px, size_px, 3), 128, np.uint8))  # the first pass is slow; and one that fails shows now
    _write(stdout, describe(model))
    while (frame := read(stdin)) is not None:
        try:
            _write(stdout, answer_photos(frame[1], model))
        except BrokenPipeError:
            return 0
    return 0


def describe(model: ServedModel) -> dict[str, Any]:
    """What the server must know of the model, as plain values."""
    return {
        "classes": [[pill.kcode, pill.name] for pill in model.classes],
        "version": model.version,
        "variant": model.variant,
        "threshold": model.threshold,
        "preprocessing": model.preprocess.get_config(),
        "digest": model.preprocess.digest(),
    }


def answer_photos(photos: Sequence[bytes], model: ServedModel) -> dict[str, Any]:
    """Answer a batch.

    Args:
        photos: Files as they were sent.
        model: The model.

    Returns:
        {"photos": [...], "model_ms": float}. Of each photo: "photo" (the gateway's report) and "decode_ms" and either
        "top" ([[class index, probability], ...]) and "none", or "refused" ([status, error, detail]).
    """
    said: list[dict[str, Any]] = []
    squares: list[NDArray[np.uint8]] = []
    rows: list[dict[str, Any]] = []
    for data in photos:
        entry, square = _decode(data, model)
        said.append(entry)
        if square is not None:
            squares.append(square)
            rows.append(entry)
    start = time.perf_counter()
    for entry, words in zip(rows, _infer(squares, model), strict=True):
        entry.update(words)
    return {"photos": said, "model_ms": 1000 * (time.perf_counter() - start)}


def _decode(data: bytes, model: ServedModel) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
    start = time.perf_counter()
    entry: dict[str, Any] = {"photo": None}
    square = None
    try:
        pixels, check = read_photo(data)
        entry["photo"] = check.as_dict()
        square = model.preprocess.square(pixels)
    except PhotoError as error:
        name = {400: "empty", 413: "too_large", 415: "not_an_image"}.get(error.status_hint, "bad_photo")
        entry["photo"] = error.check.as_dict()
        entry["refused"] = [error.status_hint, name, error.sentence]
    except Exception:  # a stranger's bytes; the worker goes on, and the log tells what happened
        traceback.print_exc()
        entry["refused"] = [500, "internal", "the photo could not be worked on"]
    entry["decode_ms"] = 1000 * (time.perf_counter() - start)
    return entry, square


def _infer(squares: Sequence[NDArray[np.uint8]], model: ServedModel) -> list[dict[str, Any]]:
    if not squares:
        return []
    try:
        answer = model.run(np.stack(squares))
    except Exception:  # onnxruntime's errors have no class in common below it
        if len(squares) > 1:  # one photo must not cost its neighbours their answers
            return [words for square in squares for words in _infer([square], model)]
        traceback.print_exc()
        return [{"refused": [500, "model_failed", "the model could not answer for this photo"]}]
    return [_words(answer, row) for row in range(len(squares))]


def _words(answer: Answer, row: int) -> dict[str, Any]:
    probabilities = answer.probabilities[row]
    if not (np.isfinite(probabilities).all() and np.isfinite(answer.none_of_these[row])):
        return {"refused": [500, "model_failed", "the model gave no numbers for this photo"]}
    top = np.argsort(-probabilities, kind="stable")[:NUM_CANDIDATES]
    return {
        "top": [[int(index), float(probabilities[index])] for index in top],
        "none": float(answer.none_of_these[row]),
    }


def _write(stream: BinaryIO, head: dict[str, Any]) -> None:
    for piece in pack(head, []):
        stream.write(piece)
    stream.flush()
