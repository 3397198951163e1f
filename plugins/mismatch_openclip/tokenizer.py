"""open_clip's SimpleTokenizer as a tokenizer.json, so that nobody needs torch to tokenize."""

from __future__ import annotations

import gzip
from functools import cache

from open_clip.tokenizer import default_bpe
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

__all__ = ["VOCAB_SIZE", "tokenizer_json"]

VOCAB_SIZE = 49408  # 256 bytes, twice; 48,894 merges; start and end
START, END = "<start_of_text>", "<end_of_text>"
_MERGES = VOCAB_SIZE - 2 * 256 - 2
# On text in lower case SimpleTokenizer's IGNORECASE adds 'ſ (long s) to 's, and drops U+0345 (its upper case is a letter)
_WORDS = rf"{START}|{END}|'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}\u0345]+"


@cache
def tokenizer_json() -> str:
    """Text of the file; the cleaning before it is TextSpec.cleaning = "clip"."""
    vocabulary, merges = _vocabulary()
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token=END))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])])
    tokenizer.add_special_tokens([AddedToken(START, normalized=False), AddedToken(END, normalized=False)])
    return str(tokenizer.to_str())


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token → id, and the merges in order."""
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = [(left, right) for left, right in (line.split() for line in lines[1 : _MERGES + 1])]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges
