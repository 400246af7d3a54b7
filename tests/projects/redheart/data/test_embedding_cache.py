"""The embedding cache: partial hits, kills at the worst moments, two processes at once, and files that are not ours."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from projects.redheart.data import embedding_cache
from projects.redheart.data.embedding_cache import ENTRY, EmbeddingCache, header_bytes, text_digests
from projects.redheart.encoders.base import Encoded, Encoder, Identity
from shared.errors import DataError

WIDTH = 3


class DigestEncoder(Encoder):
    """Three numbers that follow from the text alone; counts what it is asked."""

    def __init__(self, model: str = "digest", batch_size: int = 4, width: int = WIDTH) -> None:
        super().__init__(Identity(model, "none", "mean", False, None), batch_size)
        self.asked, self.width = list[str](), width

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.asked += texts
        values = np.array([[len(text), ord(text[0]), sum(map(ord, text)) % 997] for text in texts], dtype=self.dtype)
        return Encoded(values, np.arange(len(texts), dtype=np.uint16))


TEXTS = [f"{'story ' * (number % 5)}{number}" for number in range(30)]


def expected(texts: Sequence[str]) -> np.ndarray:
    return DigestEncoder().encode(texts).values


def cache_in(folder: Path, **options: int) -> tuple[EmbeddingCache, DigestEncoder]:
    encoder = DigestEncoder()
    return EmbeddingCache(folder / "stories", encoder, **options), encoder


def check_whole(folder: Path, texts: Sequence[str] = TEXTS) -> None:
    stored = cache_in(folder)[0].read()
    np.testing.assert_array_equal(stored.vectors[stored.rows(texts)], expected(texts))


def test_rows_come_back_whatever_the_order(tmp_path: Path) -> None:
    cache, encoder = cache_in(tmp_path)
    filled = cache.fill([*TEXTS, TEXTS[3]])
    assert (filled.num_texts, filled.num_distinct, filled.num_encoded, filled.num_halvings) == (31, 30, 30, 0)
    assert sorted(encoder.asked) == sorted(TEXTS)
    check_whole(tmp_path, TEXTS[::-1])
    stored = cache.read()
    assert isinstance(stored.vectors, np.memmap)
    assert not stored.vectors.flags.writeable
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"stories.embedded.{encoder.identity.key()}.{suffix}" for suffix in ("index", "json", "npy")
    ]


def test_numpy_opens_the_rows_as_they_are(tmp_path: Path) -> None:
    cache, _ = cache_in(tmp_path, flush_bytes=40)
    cache.fill(TEXTS)
    rows = np.load(cache.rows_path)
    assert (rows.shape, rows.dtype) == ((30, WIDTH), np.float16)


def test_partial_hits_fill_only_what_is_missing(tmp_path: Path) -> None:
    cache_in(tmp_path)[0].fill(TEXTS[:20])
    before = cache_in(tmp_path)[0].rows_path.read_bytes()
    cache, encoder = cache_in(tmp_path)
    told: list[tuple[int, int]] = []
    assert cache.fill(TEXTS, lambda what, done, total: told.append((done, total))).num_encoded == 10
    assert sorted(encoder.asked) == sorted(TEXTS[20:])
    assert told == [(0, 10), (4, 10), (8, 10), (10, 10)]
    start = len(header_bytes((1, WIDTH), encoder.dtype))
    assert cache.rows_path.read_bytes()[start : len(before)] == before[start:]
    check_whole(tmp_path)


def test_a_full_cache_is_not_written_and_needs_no_model(tmp_path: Path) -> None:
    cache_in(tmp_path)[0].fill(TEXTS)

    class Unloaded(DigestEncoder):
        @property
        def shape(self) -> tuple[int, ...]:
            raise AssertionError("the model was loaded")

    for path in tmp_path.iterdir():
        path.chmod(0o444)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    cache = EmbeddingCache(tmp_path / "stories", Unloaded())
    assert cache.fill(TEXTS).num_encoded == 0
    assert len(cache.read()) == 30
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_counts_are_kept_with_their_rows(tmp_path: Path) -> None:
    cache, _ = cache_in(tmp_path)
    cache.fill(TEXTS[:4])
    by_length = sorted(range(4), key=lambda place: -len(TEXTS[place]))
    stored = cache.read()
    assert stored.counts[stored.rows([TEXTS[place] for place in by_length])].tolist() == [0, 1, 2, 3]


def test_a_text_that_was_never_embedded_is_no_row(tmp_path: Path) -> None:
    cache, _ = cache_in(tmp_path)
    cache.fill(TEXTS)
    with pytest.raises(KeyError, match="text 1 has no row"):
        cache.read().rows([TEXTS[0], "unknown"])


KILLED = """
import os, signal, sys
from pathlib import Path
from projects.redheart.data import embedding_cache
from tests.projects.redheart.data.test_embedding_cache import TEXTS, DigestEncoder

folder, moment = Path(sys.argv[1]), sys.argv[2]
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
encoder, whole_encode, whole_flush = DigestEncoder(), DigestEncoder.encode, embedding_cache.flush
calls, encoded = [0], [0]

def encode(self, texts):
    encoded[0] += 1
    if moment == "encoding" and encoded[0] == 4:
        kill()
    return whole_encode(self, texts)

def flush(stream):
    calls[0] += 1
    if moment == "between" and stream.name.endswith(".npy") and calls[0] > 2:
        whole_flush(stream)
        kill()  # rows are on the disk, their entries are not
    if moment == "index" and stream.name.endswith(".index") and calls[0] > 2:
        stream.flush()
        os.truncate(stream.name, os.path.getsize(stream.name) - 7)
        kill()  # in the middle of an entry
    whole_flush(stream)

DigestEncoder.encode, embedding_cache.flush = encode, flush
embedding_cache.EmbeddingCache(folder / "stories", encoder, flush_bytes=30).fill(TEXTS)
"""


@pytest.mark.parametrize("moment", ["encoding", "between", "index"])
def test_a_killed_process_leaves_no_bad_row(tmp_path: Path, repo_root: Path, moment: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), moment], cwd=repo_root, check=False)
    assert done.returncode == -signal.SIGKILL
    cache, encoder = cache_in(tmp_path)
    valid = cache.index_path.stat().st_size // ENTRY.itemsize
    assert 0 < valid < 30
    survived = cache.read()
    found = survived.find(text_digests(TEXTS))
    kept = [text for text, row in zip(TEXTS, found, strict=True) if row >= 0]
    assert len(kept) == len(survived) == valid
    check_whole(tmp_path, kept)
    assert cache.fill(TEXTS).num_encoded == 30 - valid
    assert not set(encoder.asked) & set(kept)
    check_whole(tmp_path)
    assert np.load(cache.rows_path).shape == (30, WIDTH)


SLOW = """
import sys, time
from pathlib import Path
from projects.redheart.data.embedding_cache import EmbeddingCache
from tests.projects.redheart.data.test_embedding_cache import TEXTS, DigestEncoder

class Slow(DigestEncoder):
    def encode(self, texts):
        time.sleep(0.05)
        return super().encode(texts)

Path(sys.argv[2]).touch()
while not Path(sys.argv[3]).exists():
    time.sleep(0.005)
print(EmbeddingCache(Path(sys.argv[1]) / "stories", Slow(), flush_bytes=30).fill(TEXTS).num_encoded)
"""


def test_two_processes_at_once_write_each_row_once(tmp_path: Path, repo_root: Path) -> None:
    folder, begin = tmp_path / "data", tmp_path / "begin"
    ready = [tmp_path / "ready0", tmp_path / "ready1"]
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", SLOW, str(folder), str(path), str(begin)],
            cwd=repo_root, stdout=subprocess.PIPE, text=True,
        )
        for path in ready
    ]  # fmt: skip
    while not all(path.exists() for path in ready):
        assert all(process.poll() is None for process in pair)
    begin.touch()
    encoded = [int(process.communicate(timeout=60)[0]) for process in pair]
    assert sorted(encoded) == [0, 30]
    check_whole(folder)
    assert len(cache_in(folder)[0].read()) == 30


def test_a_file_of_another_encoder_is_refused(tmp_path: Path) -> None:
    other = EmbeddingCache(tmp_path / "stories", DigestEncoder("other"))
    other.fill(TEXTS)
    cache, _ = cache_in(tmp_path)
    assert cache.rows_path != other.rows_path
    for found, wanted in zip(paths_of(other), paths_of(cache), strict=True):
        found.rename(wanted)
    for call in (cache.read, lambda: cache.fill(TEXTS)):
        with pytest.raises(
            DataError, match=r"are of another encoder: identity\.model is 'other', needed is '[^{]*'; remove"
        ):
            call()


def test_rows_of_another_width_are_refused(tmp_path: Path) -> None:
    cache, encoder = cache_in(tmp_path)
    cache.fill(TEXTS)
    content = cache.rows_path.read_bytes()
    start = len(header_bytes((1, WIDTH), encoder.dtype))
    cache.rows_path.write_bytes(header_bytes((30, 5), encoder.dtype) + content[start:])
    with pytest.raises(DataError, match=r"it holds rows float16 of \(5,\), float16 of \(3,\) are needed; remove"):
        cache_in(tmp_path)[0].read()


def test_a_truncated_file_is_refused_by_reading_and_filling(tmp_path: Path) -> None:
    cache, _ = cache_in(tmp_path)
    cache.fill(TEXTS)
    os.truncate(cache.rows_path, cache.rows_path.stat().st_size - 1)
    for call in (cache.read, lambda: cache.fill([*TEXTS, "one more"])):
        with pytest.raises(DataError, match=r"it is truncated: \d+ bytes, \d+ were written; remove the files"):
            call()


@pytest.mark.parametrize("rows_at_once", [1, 4, 1000])
def test_a_flipped_bit_is_refused_and_the_row_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(embedding_cache, "_READ_BYTES", rows_at_once * WIDTH * 2)
    cache, encoder = cache_in(tmp_path)
    cache.fill(TEXTS)
    content = bytearray(cache.rows_path.read_bytes())
    content[len(header_bytes((1, WIDTH), encoder.dtype)) + 17 * WIDTH * 2 + 1] ^= 4
    cache.rows_path.write_bytes(content)
    with pytest.raises(DataError, match="row 17 is not what was written; remove the files"):
        cache.read()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not numpy at all" * 20])
def test_a_damaged_header_is_refused(tmp_path: Path, content: bytes) -> None:
    cache, _ = cache_in(tmp_path)
    cache.fill(TEXTS)
    cache.rows_path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be used: its header cannot be read"):
        cache.read()


def test_a_missing_or_damaged_description_is_refused(tmp_path: Path) -> None:
    cache, _ = cache_in(tmp_path)
    cache.fill(TEXTS)
    cache.description_path.write_text("{")
    with pytest.raises(DataError, match=r"\.json cannot be read"):
        cache.read()
    cache.description_path.write_text(json.dumps({"format": "embedded-texts-1"}))
    with pytest.raises(DataError, match=r"\.json cannot be read \('identity'\)"):
        cache.read()
    cache.description_path.unlink()
    with pytest.raises(DataError, match=r"\.json is missing"):
        cache_in(tmp_path)[0].fill(TEXTS)


def test_reading_before_filling_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not exist yet; fill the cache first"):
        cache_in(tmp_path)[0].read()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written .*; what is there stays valid"):
        EmbeddingCache(tmp_path / "file" / "stories", DigestEncoder()).fill(TEXTS)


def paths_of(cache: EmbeddingCache) -> list[Path]:
    return [cache.rows_path, cache.index_path, cache.description_path]
