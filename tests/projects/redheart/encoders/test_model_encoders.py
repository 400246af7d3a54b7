"""Sentence vectors, token vectors and token numbers from a folder, compared with transformers used directly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from projects.redheart.encoders.model_folder import fingerprint
from projects.redheart.encoders.sentence import SentenceEncoder
from projects.redheart.encoders.tokens import TokenEncoder, TokenNumbers
from shared.errors import CheckpointError, ConfigError
from tests.fabricate.text_model import HIDDEN, write_text_model

TEXTS = ["a dog ran", "no", "the quick brown fox jumps over the lazy dog and then some more of it"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text_model") / "tiny")


def reference(folder: Path, max_tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", truncation=True, max_length=max_tokens, return_tensors="pt"
    )
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state.numpy()
    return states, tokens["attention_mask"].numpy().astype(bool), tokens["input_ids"].numpy()


def test_mean_is_the_mean_over_tokens(folder: Path) -> None:
    states, mask, _ = reference(folder, 16)
    expected = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    encoder = SentenceEncoder(folder, "tiny", normalise=False, max_tokens=16, batch_size=2)
    assert encoder.shape == (HIDDEN,)
    found = encoder.encode(TEXTS)
    np.testing.assert_allclose(found.values, expected, atol=2e-3)
    unit = SentenceEncoder(folder, "tiny", normalise=True, max_tokens=16, batch_size=2).encode(TEXTS).values
    np.testing.assert_allclose(unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=2e-3)


def test_tokens_are_the_last_layers_outputs_with_zeros_behind_the_end(folder: Path) -> None:
    states, mask, _ = reference(folder, 12)
    encoder = TokenEncoder(folder, "tiny", normalise=False, max_tokens=12, batch_size=2)
    values, counts = encoder.encode(TEXTS)
    assert encoder.shape == values.shape[1:] == (12, HIDDEN)
    np.testing.assert_allclose(values, states * mask[..., None], atol=4e-3)
    assert counts.tolist() == mask.sum(1).tolist()
    assert counts[1] < 12 == counts[2]


def test_short_texts_are_padded_to_the_full_row(folder: Path) -> None:
    values, counts = TokenEncoder(folder, "tiny", normalise=True, max_tokens=12, batch_size=2).encode(["no"])
    assert values.shape == (1, 12, HIDDEN)
    assert not values[0, counts[0] :].any()
    np.testing.assert_allclose(np.linalg.norm(values[0, : counts[0]].astype(float), axis=1), 1, atol=2e-3)


def test_token_numbers_are_the_tokenizers(folder: Path) -> None:
    _, mask, ids = reference(folder, 10)
    values, counts = TokenNumbers(folder, "tiny", max_tokens=10).encode(TEXTS)
    assert values.dtype == np.int32
    np.testing.assert_array_equal(values, ids)
    assert counts.tolist() == mask.sum(1).tolist()


def test_more_tokens_than_the_model_has_positions_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.encoder.max_tokens is 65; tiny allows 4 to 64"):
        TokenEncoder(folder, "tiny", normalise=True, max_tokens=65, batch_size=2)
    with pytest.raises(ConfigError, match=r"data.encoder.max_tokens is 65; tiny reads up to 64"):
        _ = SentenceEncoder(folder, "tiny", normalise=True, max_tokens=65, batch_size=2).shape
    with pytest.raises(ConfigError, match="max_tokens is 1; allowed is 2 or more"):
        SentenceEncoder(folder, "tiny", normalise=True, max_tokens=1, batch_size=2)


def test_identity_tells_weights_pooling_scale_and_length_apart(folder: Path, tmp_path: Path) -> None:
    other = write_text_model(tmp_path / "other", seed=1)
    assert fingerprint(other) != fingerprint(folder)
    identities = [
        SentenceEncoder(folder, "tiny", normalise=True, max_tokens=16, batch_size=2).identity,
        SentenceEncoder(other, "tiny", normalise=True, max_tokens=16, batch_size=2).identity,
        SentenceEncoder(folder, "tiny", normalise=False, max_tokens=16, batch_size=2).identity,
        SentenceEncoder(folder, "tiny", normalise=True, max_tokens=17, batch_size=2).identity,
        TokenEncoder(folder, "tiny", normalise=True, max_tokens=16, batch_size=2).identity,
        TokenNumbers(folder, "tiny", max_tokens=16).identity,
    ]
    assert len({identity.key() for identity in identities}) == len(identities)
    again = SentenceEncoder(folder, "tiny", normalise=True, max_tokens=16, batch_size=99).identity
    assert again.key() == identities[0].key()
    assert "tiny (mean of 16 tokens, unit length; weights " in again.describe()


def test_a_folder_without_a_tokenizer_or_with_damaged_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    damaged = write_text_model(tmp_path / "damaged")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged cannot be loaded"):
        TokenEncoder(damaged, "tiny", normalise=True, max_tokens=8, batch_size=2).encode(TEXTS)
    with pytest.raises(CheckpointError, match="damaged cannot be loaded by sentence-transformers"):
        SentenceEncoder(damaged, "tiny", normalise=True, max_tokens=8, batch_size=2).encode(TEXTS)
    for path in damaged.glob("token*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="damaged has no usable tokenizer"):
        TokenNumbers(damaged, "tiny", max_tokens=8).encode(TEXTS)
