"""The encoder without weights: the same everywhere, near for near texts, honest about what it cannot do."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from projects.redheart.encoders.hashing import SPREAD, HashingEncoder, mixed, sparse_projection
from shared.errors import ConfigError

TEXTS = ["The dog ran home.", "The dogs ran home!", "Quantum chromodynamics puzzles physicists.", "...", "Größe 東京"]
# splitmix64 with state 0: the first outputs of the published C code (Vigna, splitmix64.c).
SPLITMIX_OF_ZERO = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
GAMMA = 0x9E3779B97F4A7C15


@pytest.fixture(scope="module")
def encoder() -> HashingEncoder:
    return HashingEncoder()


def test_splitmix_gives_the_published_numbers() -> None:
    state = np.array([number * GAMMA % 2**64 for number in range(3)], dtype=np.uint64)
    assert mixed(state).tolist() == list(SPLITMIX_OF_ZERO)


def test_projection_keeps_lengths_and_right_angles_on_average() -> None:
    projection = sparse_projection(2000, 384, seed=1).toarray()
    gram = projection @ projection.T
    np.testing.assert_allclose(np.abs(projection).sum(axis=1).max(), np.sqrt(SPREAD), atol=1e-9)
    assert abs(np.diag(gram).mean() - 1) < 0.03
    off = gram[~np.eye(2000, dtype=bool)]
    assert abs(off.mean()) < 1e-3
    assert off.std() < 1.1 / np.sqrt(384)


def test_vectors_are_of_unit_length_and_near_for_near_texts(encoder: HashingEncoder) -> None:
    values, counts = encoder.encode(TEXTS)
    assert values.shape == (5, 384)
    assert values.dtype == np.float16
    assert counts.tolist() == [1] * 5
    vectors = values.astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 1, 1], atol=2e-3)
    assert vectors[0] @ vectors[1] > 0.5 > 0.3 > abs(vectors[0] @ vectors[2])


def test_rows_do_not_depend_on_the_batch(encoder: HashingEncoder) -> None:
    whole = encoder.encode(TEXTS).values
    single = np.concatenate([encoder.encode([text]).values for text in TEXTS])
    assert whole.tobytes() == single.tobytes()


def test_another_process_with_another_hash_seed_gives_the_same_bytes(encoder: HashingEncoder) -> None:
    here = hashlib.sha256(encoder.encode(TEXTS).values.tobytes()).hexdigest()
    script = (
        "import hashlib\nfrom projects.redheart.encoders.hashing import HashingEncoder\n"
        f"print(hashlib.sha256(HashingEncoder().encode({TEXTS!r}).values.tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == here


def test_other_parameters_are_another_encoder() -> None:
    keys = {HashingEncoder(*change[:1], **change[1]).identity.key() for change in
            [(384, {}), (64, {}), (384, {"seed": 1}), (384, {"normalise": False})]}  # fmt: skip
    assert len(keys) == 4


@pytest.mark.parametrize("dim", [7, 5000])
def test_a_dimension_out_of_range_is_refused(dim: int) -> None:
    with pytest.raises(ConfigError, match=f"data.encoder.dim is {dim}; allowed is 8 to 4096"):
        HashingEncoder(dim)
