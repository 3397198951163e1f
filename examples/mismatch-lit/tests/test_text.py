"""Text towers: sentence-transformers' pooling and lengths, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mismatch import BackboneError
from mismatch_lit import text

MEAN, CLS = (
    {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
)
VOCABULARY = 49  # tokens of the word tokenizer in conftest.py
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def xlm_roberta(**changes: Any) -> Any:
    return transformers.XLMRobertaConfig(
        **{"vocab_size": VOCABULARY, "max_position_embeddings": 34, **SHAPE, "num_hidden_layers": 2}
        | changes
    )


def write(folder: Path, name: str, data: Any) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, "mean"),
        (MEAN, "mean"),
        (CLS, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean", "include_prompt": True}, "mean"),
    ],
)
def test_pooling_is_what_sentence_transformers_says(
    config: dict[str, Any] | None,
    expected: str,
    tmp_path: Path,
    save_text_tower: Callable[..., Path],
) -> None:
    folder = save_text_tower(tmp_path)
    if config:
        write(folder, "1_Pooling/config.json", config)
    tower = text.load(str(folder)).eval()
    ids = torch.tensor([[0, 42, 43, 2, 1, 1]])
    with torch.inference_mode():
        hidden = transformers.AutoModel.from_pretrained(folder)(ids[:, :4]).last_hidden_state[0]
        embedding = tower(ids, (ids != 1).long())[0]
    assert tower.pooling == expected
    torch.testing.assert_close(
        embedding, hidden[0] if expected == "cls" else hidden.mean(0), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("config", "sentence", "expected"),
    [
        (xlm_roberta(), None, 32),  # 34 positions, counted on from the padding id 1
        (xlm_roberta(), {"max_seq_length": 16}, 16),
        (xlm_roberta(), {"max_seq_length": 512}, 32),
        (xlm_roberta(), {"max_seq_length": None}, 32),
        (
            transformers.BertConfig(
                vocab_size=VOCABULARY, max_position_embeddings=40, pad_token_id=1, **SHAPE
            ),
            None,
            40,
        ),
        (
            transformers.MPNetConfig(
                vocab_size=VOCABULARY, max_position_embeddings=50, pad_token_id=1, **SHAPE
            ),
            None,
            48,
        ),
        (
            transformers.DistilBertConfig(
                vocab_size=VOCABULARY,
                max_position_embeddings=40,
                dim=32,
                hidden_dim=64,
                n_layers=1,
                n_heads=2,
            ),
            None,
            40,
        ),
    ],
)
def test_the_longest_text_that_fits(
    config: transformers.PretrainedConfig,
    sentence: dict[str, Any] | None,
    expected: int,
    tmp_path: Path,
    save_text_tower: Callable[..., Path],
) -> None:
    folder = save_text_tower(tmp_path, config)
    if sentence:
        write(folder, "sentence_bert_config.json", sentence)
    tower = text.load(str(folder)).eval()
    assert tower.spec.context_length == expected
    ids = torch.full((1, expected), 42)
    with torch.inference_mode():
        assert tower(ids, torch.ones_like(ids)).shape == (1, 32)


def test_what_is_saved_says_its_pooling_and_length(
    tmp_path: Path, save_text_tower: Callable[..., Path]
) -> None:
    folder = save_text_tower(tmp_path / "a")
    write(folder, "1_Pooling/config.json", CLS)
    write(folder, "sentence_bert_config.json", {"max_seq_length": 12})
    text.load(str(folder)).save(tmp_path / "b")
    again = text.load(str(tmp_path / "b"))
    assert (again.pooling, again.spec.context_length) == ("cls", 12)
    assert [
        module["path"] for module in json.loads((tmp_path / "b" / "modules.json").read_text())
    ] == ["", "1_Pooling"]


def test_a_pooler_without_weights_is_left_out(
    tmp_path: Path, save_text_tower: Callable[..., Path]
) -> None:
    folder = save_text_tower(tmp_path)
    names = set(text.load(str(folder)).state_dict())
    assert names
    assert not any("pooler" in name for name in names)


def modules(*kinds: str) -> list[dict[str, str]]:
    return [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        (
            "modules.json",
            modules("Transformer", "Pooling", "Dense"),
            "has a module Dense after its pooling",
        ),
        ("modules.json", {"type": 1}, "modules.json is damaged"),
        (
            "sentence_bert_config.json",
            {"do_lower_case": True},
            "lowers the case outside of its tokenizer",
        ),
        (
            "1_Pooling/config.json",
            {"pooling_mode": "lasttoken"},
            "pools by lasttoken; the mean or the first token is supported",
        ),
        (
            "1_Pooling/config.json",
            MEAN | {"pooling_mode_max_tokens": True},
            "pools by mean and pooling_mode_max_tokens",
        ),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "pools by nothing"),
        ("1_Pooling/config.json", [], "holds no JSON object"),
        ("config.json", {"model_type": "unheard of"}, "config.json can't be read"),
        (
            "config.json",
            xlm_roberta(num_hidden_layers=3).to_dict(),
            "lack 16 tensors (encoder.layer.2.",
        ),
        ("config.json", xlm_roberta().to_dict() | {"vocab_size": 400}, "can't be read"),
    ],
)
def test_a_model_that_would_be_computed_wrongly_is_refused(
    file: str, data: Any, said: str, tmp_path: Path, save_text_tower: Callable[..., Path]
) -> None:
    folder = save_text_tower(tmp_path)
    write(folder, file, data)
    with pytest.raises(BackboneError) as caught:
        text.load(str(folder))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_models_tokenizer_is_refused(
    tmp_path: Path, save_text_tower: Callable[..., Path]
) -> None:
    folder = save_text_tower(
        tmp_path, transformers.BertConfig(vocab_size=1000, pad_token_id=1, **SHAPE)
    )
    with pytest.raises(BackboneError, match=f"a tokenizer of {VOCABULARY} tokens, but knows 1,000"):
        text.load(str(folder))


def test_an_encoder_with_a_decoder_is_refused(
    tmp_path: Path, save_text_tower: Callable[..., Path]
) -> None:
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2
    )
    folder = save_text_tower(tmp_path, config)
    with pytest.raises(BackboneError, match="is a 't5' model; an encoder such as BERT"):
        text.load(str(folder))


def test_a_tokenizer_without_padding_is_refused(
    tmp_path: Path, save_text_tower: Callable[..., Path], word_tokenizer: Callable[[], Any]
) -> None:
    folder = save_text_tower(tmp_path)
    tokenizer = word_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(BackboneError, match="without a padding token"):
        text.load(str(folder))
