"""mismatch.runtime.tokenizer_file: what tokenizers in use are made of passes, and what grows or
searches without end doesn't.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError
from mismatch.runtime.tokenizer_file import check_tokenizer_file

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CLIP = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{M}]*[\p{Ll}\p{Lm}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+"
)
GROUPS_OF_THREE = r"\p{N}{1,3}(?=(?:\p{N}{3})*\b)"
SETS = r"[[a-z]+&&[^(a|b)*]]+"
ESCAPED = r"\(a+\)+"


def split(pattern: Any) -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def table(*replacements: bytes) -> str:
    """A SentencePiece table with an empty trie."""
    return base64.b64encode(b"\4\0\0\0" + b"trie" + b"\0".join(replacements)).decode()


def sequence(*parts: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(parts)}


def check(**parts: Any) -> None:
    check_tokenizer_file(
        json.dumps({"version": "1.0", "normalizer": None, "pre_tokenizer": None} | parts)
    )


@pytest.mark.parametrize(
    "pattern",
    [
        GPT2,
        CLIP,
        LLAMA3,
        O200K,
        GROUPS_OF_THREE,
        SETS,
        ESCAPED,
        r"\s+",
        " {2,}",
        "(?:ab)+",
        "a++b*+",
        "(a*|b*|c*)(?!d+)",
        "a*b+?c?(?:de)?",
        "a*b+|c*d*|e",
        "(?:a|b)c?d{1,3}e",
        "",
        "[",
        "(",
        "\\",
        ")",
    ],
)
def test_patterns_in_use_pass(pattern: str) -> None:
    """Those that can't be parsed too: what they are is for the library to say."""
    check(pre_tokenizer=split({"Regex": pattern}))


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*",
        "(?:a|a)*b",
        "((a+)b?)+",
        "(a{1,}){1,}",
        "(a{1,99}){1,99}",
        "(x+x+)+y",
        "(?:(?:a|b)c?)+",
        r"(a)\1",
        r"(?<n>a\g<n>?)",
        "a" * 6000,
        "a*a*a*(?!.)(?<=X)",
        "a*a*(?!.)(?<=X)",
        "a*a*$",
        r"a+(?:a+|b)\b",
        "a*(a*x)",
        "(?:.|..)" * 20 + r"(?=\w)(?=\W)",
        "a?" * 30 + "b",
        "a{1,8}" * 10 + "b",
        "a*a{1,99}b",
        "(?:q{1,8}){0,7}(?!q)",
        "(?:q{1,8}){7}(?!q)",
        "((q{1,3}){1,3}){1,3}b",
        "(?:q?q?q?){8}b",
        r"x|[ab]*\w+(?:c|d*)",
        "a*(?=a*a*b)",
    ],
)
def test_patterns_that_could_search_without_end_are_refused(pattern: str) -> None:
    for part in (
        {"pre_tokenizer": split({"Regex": pattern})},
        {"normalizer": sequence(replace({"Regex": pattern}, "x"))},
    ):
        with pytest.raises(CheckpointError, match=r"tokenizer\.json can't be used: "):
            check(**part)


@pytest.mark.parametrize(("letters", "passes"), [(100, True), (1000, True), (10**5, False)])
def test_words_that_are_taken_apart_are_bounded(letters: int, passes: bool) -> None:
    """WordPiece tries all pieces of a word."""
    model = {"type": "WordPiece", "vocab": {}, "max_input_chars_per_word": letters}
    if passes:
        check(model=model)
        return
    with pytest.raises(CheckpointError, match=r"it takes words of up to 100,000 letters apart"):
        check(model=model)


@pytest.mark.parametrize("name", ["continuing_subword_prefix", "end_of_word_suffix"])
def test_what_each_piece_begins_or_ends_with_is_short(name: str) -> None:
    check(model={"type": "BPE", "vocab": {}, "merges": [], name: "</w>"})
    with pytest.raises(CheckpointError, match=rf"its {name} has 9,999 letters"):
        check(model={"type": "BPE", "vocab": {}, "merges": [], name: "#" * 9_999})


def test_pieces_are_bounded() -> None:
    """Unigram tries all pieces at each letter."""
    check(model={"type": "Unigram", "vocab": [["\u2581red", -1.5], ["x" * 256, -2.0], 5, []]})
    with pytest.raises(CheckpointError, match=r"pieces of up to 3,000 letters"):
        check(model={"type": "Unigram", "vocab": [["a", -1.0], ["a" * 3000, -2.0]]})


def test_a_pattern_that_is_a_text_is_none() -> None:
    check(pre_tokenizer=split({"String": "(a+)+"}))


def test_replacements_in_use_pass() -> None:
    check(
        normalizer=sequence(
            {"type": "Prepend", "prepend": "\u2581"},
            replace({"String": " "}, "\u2581"),
            {"type": "Lowercase"},
        )
    )
    check(normalizer=sequence(replace({"Regex": " {2,}"}, " "), replace({"String": "``"}, '"')))
    check(normalizer={"type": "Precompiled", "precompiled_charsmap": table(b"fi", b"1/2")})
    check(normalizer={"type": "Precompiled", "precompiled_charsmap": "no base64"})
    check(
        normalizer=sequence(
            {"type": "Precompiled", "precompiled_charsmap": table(b"x" * 54)},
            {"type": "NFKC"},
            replace({"Regex": " {2,}"}, "\u2581"),
        ),
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False},
    )


@pytest.mark.parametrize(
    "normalizer",
    [
        sequence(*[replace({"String": "a"}, "aa")] * 11),
        sequence(*[sequence(replace({"String": "a"}, "aaaa"))] * 6),
        replace({"Regex": "."}, "a" * 2000),
        sequence(*[{"type": "Lowercase"}] * 65),
        {"type": "Prepend", "prepend": "a" * 2000},
        {"type": "Precompiled", "precompiled_charsmap": table(b"a" * 2000)},
        sequence(*[{"type": "ByteLevel"}] * 20),
        sequence(*[replace({"Regex": "(?=[^ -~])"}, "x")] * 20),
        sequence(*[replace({"Regex": "."}, "\ufdfa"), {"type": "NFKD"}] * 6),
    ],
)
def test_texts_that_grow_without_end_are_refused(normalizer: Any) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json can't be used: "):
        check(normalizer=normalizer)


@pytest.mark.parametrize("text", ["", "[]", "5", "{", '{"a": Infinity}', "[" * 100_000])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json can't be read"):
        check_tokenizer_file(text)


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": 5},
        {"normalizer": {"type": "Sequence", "normalizers": 5}},
        {"pre_tokenizer": [split(5)]},
        {"normalizer": replace({}, "a")},
    ],
)
def test_parts_of_another_kind_are_left_to_the_library(parts: Any) -> None:
    check(**parts)


def test_tokenizers_of_bundles_pass(tiny_bundles: dict[str, Path]) -> None:
    for folder in tiny_bundles.values():
        check_tokenizer_file((folder / "tokenizer.json").read_text(encoding="utf-8"))
