"""mismatch.runtime.long_text: pieces that fit, lose no word and end where sentences do; whatever the
tokenizer and the language.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from tokenizers import Tokenizer as Fast
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer, Metaspace, Whitespace
from tokenizers.processors import TemplateProcessing

from mismatch.errors import InputError
from mismatch.runtime.long_text import (
    MAX_LETTERS,
    cutting_problem,
    estimated_pieces,
    long_texts_line,
    split_text,
)
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import TextSpec

BAG = (
    "The handbag is made of soft red leather. It has gold hardware, two handles and a zip! Does it"
    " hold a laptop? Yes."
)
TEXTS = {
    "paragraph": " ".join([BAG] * 5),
    "one-sentence": "a red leather bag with " * 80,
    "clauses": "red leather, gold hardware, two handles; " * 30,
    "list": "Features:\n- soft leather\n- gold hardware\r\n\r\n- 2 handles\n" * 12,
    "specs": " | ".join(f"Size {i}: {i}.5 cm" for i in range(60)),
    "chinese": "这款红色皮革手提包采用柔软的皮革制成，配有金色五金件。它有两个手柄和一个拉链！" * 8,
    "japanese": "「赤いバッグです。」と彼女は言った。軽くて丈夫、毎日使えます！" * 10,
    "thai": "กระเป๋าถือหนังสีแดงพร้อมฮาร์ดแวร์สีทอง" * 12,
    "hindi": "यह लाल चमड़े का हैंडबैग है। इसमें दो हैंडल हैं॥ " * 10,
    "arabic": "حقيبة يد من الجلد الأحمر، بمقبضين؛ هل هي كبيرة؟ نعم. " * 10,
    "emoji": "👟👜🇩🇪👩‍👩‍👧 " * 60,
    "long-word": "x" * 500,
    "long-word-among-others": f"A bag. {'Donaudampfschifffahrt' * 25} and a shoe.",
    "accents": ("e" + "\u0301" * 3) * 200,
    "dots": "good" + "." * 300 + " bag " + "…" * 200,
    "entities": "salt &amp; pepper; R&amp;B &lt;3, " * 40,
    "spaces": "   " + "red \t  bag \u3000 \n" * 60 + "  ",
    "half-a-surrogate": "red \ud800 bag. " * 50,
    "quotes": 'He said: "It is red." (It is not.) “Really?” ' * 20,
    "special-tokens": "before <|endoftext|> after <s> x. " * 30,
}
CORPUS = [BAG, *TEXTS.values()]


def made(model: str) -> str:
    """A small tokenizer.json with special tokens at both ends: whole words and marks, plain
    letters, word pieces, or a unigram model.
    """
    special = ["<unk>", "<s>", "</s>"]
    letters = sorted({char for text in CORPUS for char in text.encode("utf-8", "replace").decode()})
    words = sorted({word.lower() for word in BAG.replace(".", " ").split()})
    if model == "words":
        tokenizer = Fast(
            WordLevel({token: i for i, token in enumerate(special)}, unk_token="<unk>")
        )
        tokenizer.pre_tokenizer = Whitespace()
    # no pre-tokenizer: a space between two sentences is a token of its own, which neither of them
    # has
    elif model == "letters":
        tokenizer = Fast(
            BPE({token: i for i, token in enumerate([*special, *letters])}, [], unk_token="<unk>")
        )
    elif model == "word-pieces":
        pieces = [*special, *letters, *(f"##{char}" for char in letters), *words]
        tokenizer = Fast(
            WordPiece(
                {token: i for i, token in enumerate(dict.fromkeys(pieces))}, unk_token="<unk>"
            )
        )
        tokenizer.pre_tokenizer = BertPreTokenizer()
    else:
        scores = (
            [(token, 0.0) for token in special]
            + [(char, -9.0) for char in ["▁", *letters]]
            + [(f"▁{word}", -5.0) for word in words]
        )
        tokenizer = Fast(Unigram(scores, unk_id=0))
        tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return str(tokenizer.to_str())


@cache
def tokenizer_for(kind: str, context_length: int) -> Tokenizer:
    if kind in ("hf-clip", "openclip"):
        from mismatch.backbones.registry import load_backbone

        spec = load_backbone(f"{kind}:tiny").text_spec
        return Tokenizer(
            TextSpec(context_length, spec.pad_id, "longest", spec.cleaning, spec.tokenizer_json)
        )
    return Tokenizer(
        TextSpec(
            context_length,
            pad_id=0,
            padding="longest",
            cleaning="canonicalize" if kind == "unigram" else "none",
            tokenizer_json=made(kind),
        )
    )


@pytest.fixture(
    params=[
        ("words", 6),
        ("letters", 12),
        ("letters", 77),
        ("word-pieces", 16),
        ("unigram", 64),
        ("hf-clip", 77),
        ("openclip", 12),
    ],
    ids=str,
)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """A model's tokenizer and context."""
    return tokenizer_for(*request.param)


def telling(text: str) -> str:
    """Without spaces and punctuation."""
    return "".join(
        char
        for char in text
        if not char.isspace() and not unicodedata.category(char).startswith("P")
    )


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_every_piece_fits_and_no_word_is_lost(tokenizer: Tokenizer, text: str) -> None:
    pieces = split_text(text, tokenizer)
    if not tokenizer.encode([text])[1][0]:
        assert pieces == [text]
        return
    assert tokenizer.encode(pieces)[1] == [False] * len(pieces)
    assert all(piece.strip() for piece in pieces)
    assert telling("".join(pieces)) == telling(text), (
        "only a piece of nothing but punctuation may be left out"
    )
    if not any(tokenizer.encode(text.split())[1]):
        assert set(" ".join(pieces).split()) <= set(text.split()), "no word is cut that fits"


@pytest.mark.parametrize("text", ["", " ", "red", "red shirt. blue bag", "\n\nred  shirt "])
def test_a_text_that_fits_is_itself_to_the_letter(text: str) -> None:
    assert split_text(text, tokenizer_for("words", 8)) == [text]


@pytest.mark.parametrize(
    ("room", "text", "pieces"),
    [
        # a dot is a token
        (6, "red shirt. blue bag. grey shoe.", ["red shirt. blue bag.", "grey shoe."]),
        (
            6,
            "red shirt\nblue bag\ngreen shoe\nred bag",
            ["red shirt\nblue bag", "green shoe\nred bag"],
        ),
        (
            4,
            "red shirt , blue bag , grey shoe . red",
            ["red shirt ,", "blue bag ,", "grey shoe . red"],
        ),
        (4, "red shirt blue bag green shoe", ["red shirt blue", "bag green shoe"]),
        (4, "red shirt。blue bag。green。", ["red shirt。", "blue bag。", "green。"]),
        (6, 'red shirt "grey bag." blue shoe', ['red shirt "grey bag."', "blue shoe"]),
        (8, "a 3.5 cm bag. a 10.5 cm shoe", ["a 3.5 cm bag.", "a 10.5 cm shoe"]),
        # 10 words: five and five, not nine and one
        (
            9,
            "red bag red bag red bag red bag red bag",
            ["red bag red bag red", "bag red bag red bag"],
        ),
        # four dashes would stand alone and are left out
        (4, "red bag. - - - - - blue bag.", ["red bag.", "- blue bag."]),
        (4, "red bag. - - - - - - - - blue bag.", ["red bag.", "blue bag."]),
    ],
)
def test_where_it_is_cut(room: int, text: str, pieces: list[str]) -> None:
    assert split_text(text, tokenizer_for("words", room + 2)) == pieces


def test_a_piece_that_says_nothing_is_left_out_and_a_picture_stays() -> None:
    tokenizer = tokenizer_for("openclip", 12)
    pieces = split_text(f"a red bag {'- ' * 40} a blue bag {'👜' * 20}", tokenizer)
    assert all(any(map(str.isalnum, piece)) or "👜" in piece for piece in pieces)
    assert "".join(pieces).count("👜") == 20
    only = split_text("! ? " * 40, tokenizer)
    assert " ".join(only).split() == ["!", "?"] * 40, "a text of nothing else is kept"


def test_a_word_is_cut_between_letters_but_before_no_accent() -> None:
    pieces = split_text(TEXTS["accents"], tokenizer_for("letters", 30))
    assert {piece[0] for piece in pieces} == {"e"}
    assert max(map(len, pieces)) <= 28
    [piled] = split_text("e" + "\u0301" * 300, tokenizer_for("letters", 30))
    assert piled.startswith("e\u0301"), "more accents than there is room for say nothing"


def test_a_letter_that_is_longer_than_the_context_stays_as_it_is() -> None:
    tokenizer = tokenizer_for("openclip", 3)  # one token of text; this hieroglyph takes more
    pieces = split_text("𓀀𓀀a", tokenizer)
    assert pieces == ["𓀀", "𓀀", "a"]
    assert tokenizer.encode(pieces)[1] == [True, True, False]


@pytest.mark.parametrize(
    "text",
    ["e" + "\u0301" * 4000, "e" + "\u0301" * 4000 + "x" * 50, "a red bag. " + "\u0e34" * 4000],
    ids=["all", "before", "after"],
)
def test_the_work_grows_in_a_line_with_a_run_of_accents(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = unicodedata.category

    def category(char: str) -> str:
        looked.append(char)
        return real(char)

    monkeypatch.setattr("mismatch.runtime.long_text.unicodedata.category", category)
    pieces = split_text(text, tokenizer_for("letters", 77))
    assert len(looked) < 20 * len(text), (
        "each place walking to the end of the run would look at 250 letters for each of the text"
    )
    assert tokenizer_for("letters", 77).encode(pieces)[1] == [False] * len(pieces)


class Counting(Tokenizer):
    """Counts the letters that it is given."""

    letters = 0

    def encode(self, texts: Sequence[str]) -> Any:
        self.letters += sum(map(len, texts))
        return super().encode(texts)


@pytest.mark.parametrize("name", ["paragraph", "one-sentence", "chinese", "long-word"])
def test_the_work_grows_in_a_line_with_the_text(name: str) -> None:
    spec, seen = tokenizer_for("openclip", 77).spec, []
    for length in (5_000, 50_000):
        counting = Counting(spec)
        pieces = split_text((TEXTS[name] * (1 + length // len(TEXTS[name])))[:length], counting)
        assert len(pieces) > length / 400
        seen.append(counting.letters / length)
    assert seen[1] < 1.5 * seen[0] < 12


def test_a_text_that_fits_is_tokenized_once() -> None:
    counting = Counting(tokenizer_for("words", 6).spec)
    split_text("red shirt", counting)
    assert counting.letters == len("red shirt")


@pytest.mark.parametrize(
    ("arguments", "options", "line"),
    [
        (
            (1, 77, "truncate"),
            {},
            "1 text was longer than the backbone's 77 tokens and was scored without its end",
        ),
        (
            (3, 64, "truncate"),
            {"advise": True},
            (
                "3 texts were longer than the backbone's 64 tokens and were scored without their"
                " end; `long_text='chunk'` scores them piece by piece"
            ),
        ),
        (
            (1234, 77, "chunk"),
            {"advise": True},
            (
                "1,234 texts were longer than the backbone's 77 tokens and were scored in pieces,"
                " the worst of which decides"
            ),
        ),
        (
            (2, 77, "chunk-mean"),
            {"now": True},
            (
                "2 texts are longer than the backbone's 77 tokens and are scored in pieces, whose"
                " mean decides"
            ),
        ),
    ],
)
def test_how_reports_speak_of_long_texts(arguments: Any, options: Any, line: str) -> None:
    assert long_texts_line(*arguments, **options) == line


@pytest.mark.parametrize(
    "text",
    [
        "a " * (MAX_LETTERS // 2 + 1),
        "x" * (MAX_LETTERS + 1),
        "。" * (MAX_LETTERS + 1),
        "e" + "\u0301" * MAX_LETTERS,
    ],
)
def test_a_text_of_too_many_letters_is_not_cut(text: str) -> None:
    with pytest.raises(
        InputError,
        match=f"{MAX_LETTERS + 1:,} characters; at most {MAX_LETTERS:,} are scored in pieces",
    ):
        split_text(text, tokenizer_for("letters", 12))


def test_white_space_is_no_letter() -> None:
    assert cutting_problem("a" + " \n" * MAX_LETTERS + "b") is None
    assert cutting_problem("red " * (MAX_LETTERS // 4)) is None


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", 1),
        ("a red bag", 1),
        ("a" * 225, 1),
        ("a" * 226, 2),
        ("红" * 75, 3),
        ("\U00020000" * 75, 4),
    ],
)
def test_pieces_are_estimated_without_a_tokenizer(text: str, pieces: int) -> None:
    assert estimated_pieces(text, 77) == pieces
