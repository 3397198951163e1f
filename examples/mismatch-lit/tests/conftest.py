"""Random towers on disk, as timm and transformers save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from timm.models import save_for_hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    *"abcdefghijklmnopqrstuvwxyz0123456789.,",
    "red",
    "blue",
    "dress",
    "shoes",
    "with",
    "men",
    "women",
]


@pytest.fixture(scope="session")
def save_image_tower() -> Callable[..., Path]:
    """(directory, timm's name, preprocessing) → the directory of a timm model without its
    classifier.
    """

    def save(directory: Path, name: str, **preprocessing: Any) -> Path:
        torch.manual_seed(1)
        save_for_hf(
            timm.create_model(name, num_classes=0, pretrained_cfg_overlay=preprocessing),
            str(directory),
            safe_serialization=True,
        )
        return directory

    return save


@pytest.fixture(scope="session")
def save_text_tower(word_tokenizer: Callable[[], Any]) -> Callable[..., Path]:
    """(directory, config) → the directory of a text encoder, by default an XLM-RoBERTa of 34
    positions, with a tokenizer of WORDS.
    """

    def save(directory: Path, config: Any = None) -> Path:
        torch.manual_seed(2)
        shape: dict[str, Any] = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        }
        config = config or transformers.XLMRobertaConfig(
            vocab_size=len(WORDS), max_position_embeddings=34, **shape
        )
        transformers.AutoModel.from_config(config).save_pretrained(directory)
        word_tokenizer().save_pretrained(directory)
        return directory

    return save


@pytest.fixture(scope="session")
def word_tokenizer() -> Callable[[], Any]:
    """() → a tokenizer of WORDS."""

    def make() -> Any:
        tokenizer = Tokenizer(
            models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
        )
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
        special = {
            "bos_token": "<s>",
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
        }
        return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)

    return make


@pytest.fixture(scope="session")
def image_directory(
    save_image_tower: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A ViT, 64 wide, on 160 pixels."""
    return save_image_tower(tmp_path_factory.mktemp("towers") / "vit", "test_vit")


@pytest.fixture(scope="session")
def text_directory(
    save_text_tower: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An XLM-RoBERTa, 32 wide."""
    return save_text_tower(tmp_path_factory.mktemp("towers") / "xlm-r")
