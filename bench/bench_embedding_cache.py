"""The embedding cache at 150,000 short texts: time, memory, hits; what MiniLM embeds a second; batches of stories.

The cache is filled by a fresh process with the hashing encoder, which has no weights: what it holds beyond the texts is
the cache's own. The peak is the kernel's high-water mark of resident memory above what the process held with the texts
made and the encoder built. MiniLM is left out where its package is not installed (`make extras`).
"""

import importlib.util
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from bench.record import Record, run_benchmark
from projects.redheart.data.dataset import StoryDataset, StoryTargets
from projects.redheart.data.embedding_cache import EmbeddingCache
from projects.redheart.data.index import story_index
from projects.redheart.data.parts import StoryParts
from projects.redheart.data.sequences import PartSequences
from projects.redheart.data.stories import texts_only
from projects.redheart.encoders import EncoderOptions, build_encoder
from projects.redheart.encoders.model_folder import MINILM_PACKAGE

NUM_TEXTS, NUM_WORDS, WORDS_EACH = 150_000, 5_000, 12
PARTS_EACH, BATCH_SIZE, BATCHES = 10, 64, 200
MINILM_TEXTS, MINILM_ROUNDS = 512, 3
MB = 1e6


def measure(record: Record) -> None:
    """The large cache in a process of its own, then batches and MiniLM here."""
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            for what, value, unit in pool.submit(measure_large, Path(folder)).result():
                record.add(what, value, unit)
        measure_batches(record, Path(folder))
    if importlib.util.find_spec(MINILM_PACKAGE) is None:
        print(f"{MINILM_PACKAGE} is not installed: its speed is not measured")
        return
    measure_minilm(record)


def make_texts(count: int) -> list[str]:
    """Seeded texts of 12 words, all different."""
    generator = np.random.default_rng(0)
    letters = generator.integers(97, 123, (NUM_WORDS, 6)).astype(np.uint8)
    words = [bytes(row[: 2 + number % 5]).decode() for number, row in enumerate(letters)]
    picks = generator.integers(0, NUM_WORDS, (count, WORDS_EACH))
    return [f"{' '.join(words[pick] for pick in row)} {number}" for number, row in enumerate(picks.tolist())]


def measure_large(folder: Path) -> list[tuple[str, float, str]]:
    """Fill, fill again with 1 % new, open and look up."""
    texts = make_texts(NUM_TEXTS + NUM_TEXTS // 100)
    encoder = build_encoder(EncoderOptions("hashing", batch_size=512))
    encoder.encode(texts[:512])
    cache, found = EmbeddingCache(folder / "stories", encoder), list[tuple[str, float, str]]()
    held = psutil.Process().memory_info().rss / MB
    reset_peak()
    seconds = timed(lambda: cache.fill(texts[:NUM_TEXTS]))
    found.append(("hashing: texts embedded and stored", NUM_TEXTS / seconds, "texts/s"))
    found.append(("peak above texts and encoder while filling", peak_mb() - held, "MB"))
    found.append(("nothing missing: fill again", timed(lambda: cache.fill(texts[:NUM_TEXTS])), "s"))
    found.append(("1 % missing: fill", timed(lambda: cache.fill(texts)), "s"))
    reset_peak()
    found.append(("check every row and map", timed(cache.read), "s"))
    stored = cache.read()
    found.append(("look up all texts", timed(lambda: stored.rows(texts)), "s"))
    found.append(("peak above texts and encoder while reading", peak_mb() - held, "MB"))
    found.append(("files on the disk", sum(path.stat().st_size for path in folder.iterdir()) / MB, "MB"))
    return found


def measure_batches(record: Record, folder: Path) -> None:
    """Stories a second as batches of 64 with 10 parts each, in random order from the map."""
    texts = make_texts(NUM_TEXTS)
    num_stories = NUM_TEXTS // PARTS_EACH
    offsets = np.arange(0, NUM_TEXTS + 1, PARTS_EACH)
    parts = StoryParts(texts, np.zeros(NUM_TEXTS, dtype=np.int8), offsets, 0, 0)
    stored = EmbeddingCache(folder / "stories", build_encoder(EncoderOptions("hashing"))).read()
    stories = texts_only(
        [f"s{row}" for row in range(num_stories)], texts[:num_stories], np.zeros(num_stories, np.int16)
    )
    index = story_index(stories, "stand-in", "bench")
    dataset = StoryDataset(PartSequences(stored, parts), StoryTargets(stories), index, np.arange(num_stories))
    order = np.random.default_rng(1).integers(0, num_stories, (6, BATCHES, BATCH_SIZE)).tolist()
    rates = [BATCHES * BATCH_SIZE / timed(lambda batches=batches: [dataset.__getitems__(b) for b in batches])
             for batches in order]  # fmt: skip
    record.add_samples("stories as batches of 64 with 10 parts", rates[1:], "samples/s")


def measure_minilm(record: Record) -> None:
    """Short texts a second through the packaged MiniLM, in each of its forms."""
    texts = make_texts(MINILM_TEXTS)
    forms = {"mean": {}, "tokens": {"pooling": "tokens"}, "token numbers": {"finetune": True}}
    for name, change in forms.items():
        encoder = build_encoder(EncoderOptions.read({"name": "minilm_packaged", **change}))
        encoder.encode(texts[:64])
        batches = [texts[begin : begin + 64] for begin in range(0, MINILM_TEXTS, 64)]
        rates = [MINILM_TEXTS / timed(lambda: [encoder.encode(b) for b in batches]) for _ in range(MINILM_ROUNDS)]  # noqa: B023
        record.add_samples(f"MiniLM, {name}", rates, "texts/s")


def timed(function) -> float:  # noqa: ANN001
    """Seconds of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def reset_peak() -> None:
    """Let the kernel's high-water mark of this process begin anew (Linux, proc(5): clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """The kernel's high-water mark of resident memory since `reset_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MB


if __name__ == "__main__":
    run_benchmark("bench_embedding_cache", measure)
