"""The transformer that is trained along: the folder's answer, plain configuration, padding without effect."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from projects.redheart.models.text_encoder import TextEncoder, initial_text_encoder, plain_config
from tests.fabricate.text_model import HIDDEN, write_text_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("text_model") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TextEncoder:
    return initial_text_encoder(json.loads((folder / "config.json").read_text()), str(folder)).eval()


IDS = torch.tensor([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]])
MASK = IDS != 0


def test_it_answers_as_the_folders_model_with_zeros_where_nothing_is(folder: Path, encoder: TextEncoder) -> None:
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder)(input_ids=IDS, attention_mask=MASK.long()).last_hidden_state
        found = encoder(IDS, MASK)
    assert encoder.embedding_dim == HIDDEN
    torch.testing.assert_close(found.embedding[MASK], expected[MASK])
    assert not found.embedding[~MASK].any()
    assert torch.equal(found.mask, MASK)
    assert torch.equal(found.part, torch.zeros(2, 5, dtype=torch.int64))


def test_longer_padding_changes_nothing_and_no_token_is_no_nan(encoder: TextEncoder) -> None:
    wide = torch.nn.functional.pad(IDS, (0, 4))
    with torch.inference_mode():
        torch.testing.assert_close(encoder(wide, wide != 0).embedding[:, :5], encoder(IDS, MASK).embedding)
        nothing = encoder(IDS, torch.stack([MASK[0], torch.zeros(5, dtype=torch.bool)]))
    assert torch.isfinite(nothing.embedding).all()
    assert not nothing.embedding[1].any()


def test_every_weight_gets_a_gradient(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    encoder = initial_text_encoder(config, str(folder))
    (encoder(IDS, MASK).embedding ** 2).sum().backward()
    assert [name for name, weight in encoder.named_parameters() if weight.grad is None] == []


def test_a_checkpoint_needs_the_plain_config_only(folder: Path, encoder: TextEncoder) -> None:
    config = json.loads(json.dumps(plain_config(json.loads((folder / "config.json").read_text()))))
    again = TextEncoder(config).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        assert torch.equal(again(IDS, MASK).embedding, encoder(IDS, MASK).embedding)


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    with pytest.raises(ValueError, match=r"the weights in .* do not fit the text encoder"):
        initial_text_encoder(config, str(folder))


def test_a_config_without_an_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="has no model_type"):
        TextEncoder({"hidden_size": 8})


def test_nothing_that_loads_code_or_names_a_machine_is_kept() -> None:
    config = {"model_type": "bert", "auto_map": {"AutoModel": "x.py"}, "_name_or_path": "somewhere", "hidden_size": 8}
    assert plain_config(config) == {"model_type": "bert", "hidden_size": 8}
