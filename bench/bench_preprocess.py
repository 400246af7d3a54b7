"""What preparing one photo for the network costs on one core, against the form that everybody writes first.

The reference makes a CLAHE object for each image and normalises in float64. Both forms get the same images in turn, in
processor time of one thread, OpenCV held to one thread as well. A photo of 512 x 512 is what the client sends; for a
larger one the two resize differently (ours averages where it shrinks, the reference does not), so that row compares the
cost of two different results. The ONNX form of the same preprocessing is timed with 1 thread in processor time too, and
with 2 by the clock, of which the fastest run is the one that a busy machine disturbs least.
"""

import time
from collections.abc import Callable

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bench.record import Record, run_benchmark
from projects.pillsnap.onnx_graph import preprocessing_model
from projects.pillsnap.preprocess import UnifiedPreprocessor

NUM_IMAGES, ROUNDS, GRAPH_ROUNDS = 16, 9, 40
PHOTO_HEIGHT, PHOTO_WIDTH = 1512, 2016

Image = NDArray[np.uint8]


def photo_like(height: int, width: int, seed: int) -> Image:
    """Smooth blobs with a little noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + rng.integers(-6, 7, smooth.shape, dtype=np.int16), 0, 255).astype(np.uint8)


def reference(image: Image, preprocessor: UnifiedPreprocessor) -> NDArray[np.float32]:
    """Centre crop and everything behind it, in the plain form."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side]
    pixels = cv2.resize(square, (preprocessor.size_px,) * 2, interpolation=cv2.INTER_LINEAR)
    return reference_normalise(reference_enhance(pixels, preprocessor), preprocessor)


def reference_enhance(pixels: Image, preprocessor: UnifiedPreprocessor) -> Image:
    """CLAHE with an object of its own."""
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    clahe = cv2.createCLAHE(clipLimit=preprocessor.clip_limit, tileGridSize=(preprocessor.grid,) * 2)
    lab[..., 0] = clahe.apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)


def reference_normalise(pixels: Image, preprocessor: UnifiedPreprocessor) -> NDArray[np.float32]:
    """Normalise in float64."""
    planes = (pixels / 255.0 - np.array(preprocessor.mean)) / np.array(preprocessor.std)
    return planes.transpose(2, 0, 1).astype(np.float32)


def measure(record: Record) -> None:
    """The parts and the whole at 512 px, the whole at 128 px and from a large photo, the ONNX form."""
    cv2.setNumThreads(1)
    full = UnifiedPreprocessor()
    squares = [photo_like(512, 512, seed) for seed in range(NUM_IMAGES)]
    enhanced = [full.enhance(square) for square in squares]
    worst = max(float(np.abs(full(image) - reference(image, full)).max()) for image in squares)
    assert worst <= 1e-6, f"the two forms differ by {worst}"
    record.add("512 px: largest difference to the reference", worst, "standardised levels")
    compare(record, "512 px: CLAHE", full.enhance, lambda image: reference_enhance(image, full), squares)
    compare(record, "512 px: normalise", full.normalise, lambda image: reference_normalise(image, full), enhanced)
    compare(record, "512 px: whole", full, lambda image: reference(image, full), squares)
    small = UnifiedPreprocessor(size_px=128)
    tiny = [photo_like(128, 128, seed) for seed in range(NUM_IMAGES)]
    compare(record, "128 px: whole", small, lambda image: reference(image, small), tiny)
    photos = [photo_like(PHOTO_HEIGHT, PHOTO_WIDTH, seed) for seed in range(4)]
    compare(record, "photo of 3 Mpx to 512 px: whole", full, lambda image: reference(image, full), photos)
    for preprocessor, images in ((full, squares), (small, tiny)):
        for threads in (1, 2):
            measure_graph(record, preprocessor, images, threads)


def compare(
    record: Record, what: str, ours: Callable[[Image], object], theirs: Callable[[Image], object], images: list[Image]
) -> None:
    """Milliseconds an image of both, in turn, and their quotient in each round."""
    rounds = [(thread_ms(ours, images), thread_ms(theirs, images)) for _ in range(1 + ROUNDS)][1:]
    record.add_samples(f"{what}, ours", [mine for mine, _ in rounds], "ms")
    record.add_samples(f"{what}, reference", [other for _, other in rounds], "ms")
    record.add_samples(f"{what}, reference / ours", [other / mine for mine, other in rounds], "ratio")


def thread_ms(function: Callable[[Image], object], images: list[Image]) -> float:
    """Milliseconds of this thread's processor time an image."""
    began = time.thread_time()
    for image in images:
        function(image)
    return 1000 * (time.thread_time() - began) / len(images)


def measure_graph(record: Record, preprocessor: UnifiedPreprocessor, images: list[Image], threads: int) -> None:
    """Milliseconds of the ONNX form, one image at a time; the first run is checked against the preprocessor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    content = preprocessing_model(preprocessor).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"photo": images[0][None]})[0], preprocessor(images[0][None]))
    clock = time.thread_time if threads == 1 else time.perf_counter
    times = []
    for turn in range(GRAPH_ROUNDS):
        feed = {"photo": images[turn % len(images)][None]}
        began = clock()
        session.run(None, feed)
        times.append(1000 * (clock() - began))
    if threads == 1:
        record.add_samples(f"{preprocessor.size_px} px: as ONNX, 1 thread", times, "ms")
    else:
        record.add(f"{preprocessor.size_px} px: as ONNX, {threads} threads, fastest by the clock", min(times), "ms")


if __name__ == "__main__":
    run_benchmark("bench_preprocess", measure)
