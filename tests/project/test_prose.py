"""The how-to pages keep the rules of prose: short sentences, short paragraphs, the field's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))
MOST_WORDS = 25  # of a sentence
MOST_WORDS_TOGETHER = 80  # of a paragraph
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CODE = re.compile(r"`+[^`]+`+")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
LIST_ITEM = re.compile(r"^(?:[-*]|\d+\.) ", re.MULTILINE)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^a-z])")
# words that the project's prose replaces with the field's own, or with plain ones
OLD_WORDS = re.compile(
    r"\b(?:anew|beside|whoever|strangers?|kin|is told|shall|for ever|hold(?:s)? good"
    r"|what is called so|of what is so)\b",
    re.IGNORECASE,
)


def _paragraphs(page: str) -> Iterator[str]:
    """Yield headings, paragraphs, list items and cells of tables; code is one word."""
    text = LINK.sub(r"\1", CODE.sub("CODE", COMMENT.sub("", FENCE.sub("\n\n", page))))
    for block in re.split(r"\n\s*\n", LIST_ITEM.sub("\n\n", text)):
        if block.lstrip().startswith("|"):
            yield from (cell for line in block.splitlines() for cell in line.split("|"))
        else:
            yield block


def _too_long(page: str) -> list[str]:
    """Return sentences and paragraphs of too many words."""
    found = []
    for paragraph in _paragraphs(page):
        if len(paragraph.split()) > MOST_WORDS_TOGETHER:
            found.append(f"paragraph: {paragraph.strip()}")
        sentences = [" ".join(words.split()) for words in SENTENCE_END.split(paragraph)]
        found += [f"sentence: {one}" for one in sentences if len(one.split()) > MOST_WORDS]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_sentences_and_paragraphs_are_short(page: Path) -> None:
    assert _too_long(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_words_are_plain(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert OLD_WORDS.findall(text) == []


def test_the_checks_notice_what_is_too_long() -> None:
    long_sentence = " ".join(["word"] * (MOST_WORDS + 1))
    assert len(_too_long(f"# Title\n\n{long_sentence}.\n")) == 1
    assert len(_too_long("\n".join(["Six words stand in this sentence."] * 14))) == 1
    assert _too_long(f"Short.\n\n```\n{long_sentence}\n```\n") == []
