"""A tiny BERT with random weights as a sentence-transformers folder: what tests encode with, without any network."""

import string
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

HIDDEN = 16
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def write_text_model(folder: Path, seed: int = 0, max_positions: int = 64) -> Path:
    """Write a model that reads letters: 2 layers, 16 numbers a token, `max_positions` tokens."""
    pieces = [*SPECIAL, *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase), ".", "!", "?"]
    tokenizer = Tokenizer(WordPiece({piece: code for code, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=max_positions,
    )  # fmt: skip
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=max_positions, pad_token_id=0,
    )  # fmt: skip
    source = folder.with_name(f"{folder.name}-source")
    BertModel(config).save_pretrained(source)
    fast.save_pretrained(source)
    transformer = modules.Transformer(str(source))
    SentenceTransformer(modules=[transformer, modules.Pooling(HIDDEN, "mean")], device="cpu").save(str(folder))
    return folder
