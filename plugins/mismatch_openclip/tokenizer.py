"""open_clip's tokenizers as TextSpecs, so that nobody needs torch or transformers to tokenize."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import open_clip
from open_clip.tokenizer import HFTokenizer, default_bpe
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor

from mismatch.errors import BackboneError
from mismatch.runtime.tokenize import Tokenizer as SpecTokenizer
from mismatch.specs import Cleaning, TextSpec

__all__ = [
    "CONTEXT_LENGTH",
    "VOCAB_SIZE",
    "TextSource",
    "clip_vocabulary",
    "own_vocabulary",
    "tokenizer_json",
]

VOCAB_SIZE = 49408  # 256 bytes, twice; 48,894 merges; start and end
CONTEXT_LENGTH = 77  # tokens, where a configuration names no length
START = "<start_of_text>"
END = "<end_of_text>"
_MERGES = VOCAB_SIZE - 2 * 256 - 2
# On text in lower case SimpleTokenizer's IGNORECASE adds 'ſ (long s) to 's, and drops U+0345 (its
# upper case is a letter)
_WORDS = (
    rf"{START}|{END}|'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}\u0345]+"
)
_WORDS_IN_ANY_CASE = (
    rf"(?i:{START}|{END})|'[sSſ]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\u0345]+"
)
# by open_clip's names
_CLEANING: dict[str, Cleaning] = {
    "lower": "clip",
    "whitespace": "whitespace",
    "canonicalize": "canonicalize",
}
_SAMPLES = [
    "a photo of two red bags, 42 cm",
    "",
    "Größe M – 红色手提包 👍",
    "many words that never end " * 100,
]


@dataclass(frozen=True)
class TextSource:
    """What open_clip does to a text: its own tokenizer, and the same as a TextSpec."""

    upstream: Callable[[list[str]], Tensor]  # open_clip's own: N texts → (N, context_length)
    spec: TextSpec  # its padding is for the tower to settle
    always: frozenset[int]  # ids that every text has, pads apart
    # what writes them; CLIP's vocabulary comes with open_clip and needs none
    files: HFTokenizer | None = None
    # CLIPS: what upstream appends after the padding, and the spec does not
    class_id: int | None = None


def clip_vocabulary(options: dict[str, Any]) -> TextSource:
    """Return CLIP's own vocabulary, by a configuration's `text_cfg`."""
    length = options.get("context_length", CONTEXT_LENGTH)
    clean = (options.get("tokenizer_kwargs") or {}).get("clean", "lower")
    spec = TextSpec(
        context_length=length,
        pad_id=0,
        padding="context",
        cleaning=_CLEANING[clean],
        tokenizer_json=tokenizer_json(any_case=clean == "whitespace"),
    )
    return TextSource(
        partial(_ids, length, clean), spec, frozenset((VOCAB_SIZE - 2, VOCAB_SIZE - 1))
    )


def _ids(length: int, clean: str, texts: list[str]) -> Tensor:
    """Return SimpleTokenizer's ids, (N, length)."""
    ids: Tensor = _simple_tokenizer(length, clean)(texts)
    return ids


@cache
def _simple_tokenizer(length: int, clean: str) -> Any:
    """Make it only where it is asked for, and once: reading its merges takes 0.1 s."""
    return open_clip.SimpleTokenizer(context_length=length, clean=clean)


def own_vocabulary(upstream: HFTokenizer, options: dict[str, Any], model_id: str) -> TextSource:
    """Return a tokenizer of transformers as open_clip wraps it; `options` is the configuration's
    `text_cfg`.

    Raises BackboneError where a tokenizer.json can't say what it does.
    """
    inner = upstream.tokenizer
    more = options.get("tokenizer_kwargs") or {}
    if getattr(inner, "backend_tokenizer", None) is None:
        raise _unlike(
            model_id, f"{type(inner).__name__} is written in Python and has no tokenizer.json"
        )
    if inner.pad_token_id is None:
        raise _unlike(model_id, "it has no padding token")
    clips = options.get("tokenizer_mode") == "clips"
    # (N, context_length); before its file is read, as NLLB's chooses its language in the call
    ids = upstream(_SAMPLES)
    data = _file_of(inner)
    if more.get("strip_sep_token"):
        _zero_separator(data, inner, model_id)
    if clips:
        data["post_processor"] = _between(inner)
    spec = TextSpec(
        context_length=upstream.context_length - clips,
        pad_id=int(inner.pad_token_id),
        padding="context",
        cleaning=_CLEANING[more.get("clean", "whitespace")],
        tokenizer_json=json.dumps(data, ensure_ascii=False),
    )
    always = ids[1, : len(inner("").input_ids)].tolist()  # those of the empty text
    _compare(spec, ids[:, : spec.context_length].tolist(), model_id)
    return TextSource(
        upstream, spec, frozenset(always), upstream, int(inner.cls_token_id) if clips else None
    )


def _file_of(inner: Any) -> dict[str, Any]:
    """Return its tokenizer.json, without what the last call left behind and what only decoding
    needs.
    """
    data: dict[str, Any] = json.loads(inner.backend_tokenizer.to_str())
    return data | {"truncation": None, "padding": None, "decoder": None}


def _zero_separator(data: dict[str, Any], inner: Any, model_id: str) -> None:
    """Give the separator id 0 from the start, where `strip_sep_token` writes 0 over it."""
    vocabulary = data["model"]["vocab"]
    token = inner.sep_token
    number = inner.sep_token_id
    if number is None:
        raise _unlike(model_id, "strip_sep_token is set, but it has no separator token")
    if not isinstance(vocabulary, dict):
        raise _unlike(
            model_id,
            "strip_sep_token is set, but its vocabulary is no dictionary in which the separator"
            " could be given the id 0",
        )
    vocabulary[token] = 0
    for added in data["added_tokens"]:
        if added["content"] == token:
            added["id"] = 0
    data["post_processor"] = _replaced(data["post_processor"], number, 0)


def _replaced(node: Any, old: int, new: int) -> Any:
    """Return a post-processor with one id replaced, wherever it stands."""
    if isinstance(node, dict):
        return {
            key: value if key == "type_id" else _replaced(value, old, new)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_replaced(value, old, new) for value in node]
    return new if node == old and not isinstance(node, bool) else node


def _between(inner: Any) -> dict[str, Any]:
    """Return the post-processor of CLIPS: a start token, the text, an end token."""
    ends = [(inner.bos_token, inner.bos_token_id), (inner.eos_token, inner.eos_token_id)]
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token, _ in ends)
    return {
        "type": "TemplateProcessing",
        "single": [start, {"Sequence": {"id": "A", "type_id": 0}}, end],
        "pair": [
            start,
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 0}},
            end,
        ],
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]} for token, number in ends
        },
    }


def _compare(spec: TextSpec, expected: list[list[int]], model_id: str) -> None:
    """See that the TextSpec gives upstream's ids; what it can't say, such as padding on the left,
    shows here.
    """
    ours = SpecTokenizer(spec)(_SAMPLES).input_ids.tolist()
    for text, ids, theirs in zip(_SAMPLES, ours, expected, strict=True):
        if ids != theirs:
            raise _unlike(
                model_id,
                f"of {text[:40]!r} it makes other ids than its tokenizer.json does; padding or"
                " truncation on the left would do that",
            )


def _unlike(model_id: str, reason: str) -> BackboneError:
    return BackboneError(
        f"openclip: the tokenizer of '{model_id}' is not supported: {reason}; give a model whose"
        " tokenizer is a tokenizer.json"
    )


@cache
def tokenizer_json(*, any_case: bool = False) -> str:
    """Return open_clip's SimpleTokenizer as the text of a file; what cleans a text before it is
    TextSpec.cleaning. `any_case`: upper case is kept.
    """
    vocabulary, merges = _vocabulary()
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=merges,
            end_of_word_suffix="</w>",
            continuing_subword_prefix="",
            unk_token=END,
        )
    )
    if not any_case:
        tokenizer.normalizer = normalizers.Lowercase()
    words = Regex(_WORDS_IN_ANY_CASE if any_case else _WORDS)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])],
    )
    tokenizer.add_special_tokens(
        [AddedToken(START, normalized=False), AddedToken(END, normalized=False)]
    )
    return str(tokenizer.to_str())


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return token → id, and the merges in order."""
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = [(left, right) for left, right in (line.split() for line in lines[1 : _MERGES + 1])]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges
