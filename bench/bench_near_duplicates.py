"""What finding near-duplicates costs: 10,460 stand-in stories, longer texts, and the growth to 150,000 with `--full`.

`make bench` takes the sizes up to 40,000; `python -m bench.bench_near_duplicates --full` also the 80,000 and 150,000,
some minutes on 2 cores. Texts are stand-in stories (about 600 characters), in which 6 % are near-duplicates and whose
templates make strangers more alike than real stories are; `long` joins two of them.
"""

import sys
import time
from itertools import pairwise

import psutil

from bench.record import Record, run_benchmark
from projects.redheart.data.near_duplicates import find_near_duplicates
from projects.redheart.standin import StandinConfig, make_stories

REFERENCE = 10_460
QUICK, FULL = (REFERENCE, 20_000, 40_000), (80_000, 150_000)
GOAL_S = 10.0
FULL_OPTION = "--full"


def measure(record: Record, sizes: tuple[int, ...] = QUICK) -> None:
    """The time at each size, and at the reference's size with texts twice as long."""
    texts = [story["text"] for story in make_stories(StandinConfig(num_stories=max(sizes)))[0]]
    find_near_duplicates(texts[:500])  # thread pools and pages
    for size in sizes:
        goal = f", goal {GOAL_S:.0f} s" if size == REFERENCE else ""
        record.add(f"{size:,} stories{goal}", seconds(texts[:size]), "s")
    double = [f"{one} {other}" for one, other in pairwise(texts[: REFERENCE + 1])]
    record.add(f"{REFERENCE:,} stories, long", seconds(double), "s")
    record.add("resident memory after it", psutil.Process().memory_info().rss / 2**20, "MB")


def seconds(texts: list[str]) -> float:
    """Time of one search."""
    began = time.perf_counter()
    find_near_duplicates(texts)
    return time.perf_counter() - began


if __name__ == "__main__":
    chosen = QUICK + FULL if FULL_OPTION in sys.argv[1:] else QUICK
    rest = [argument for argument in sys.argv[1:] if argument != FULL_OPTION]
    run_benchmark("bench_near_duplicates", lambda record: measure(record, chosen), rest)
