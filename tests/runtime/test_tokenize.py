"""Texts to ids: cut, padded and cleaned as a TextSpec says."""

from __future__ import annotations

import html
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import ftfy
import numpy as np
import pytest
from tokenizers import Tokenizer as Upstream
from tokenizers import models, normalizers, pre_tokenizers, processors

from mismatch.backbones.registry import load_backbone
from mismatch.errors import CheckpointError, InputError
from mismatch.runtime.tokenize import (
    Encoded,
    Tokenizer,
    clean_canonicalize,
    clean_clip,
    clean_whitespace,
)
from mismatch.specs import TextSpec

WORDS = ["<s>", "</s>", "[PAD]", "[UNK]", "a", "red", "bag", "shoe", "&", "lower"]
START, END, PAD, UNKNOWN = range(4)


def upstream() -> Upstream:
    """Words between a start and an end token."""
    tokenizer = Upstream(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", START), ("</s>", END)]
    )
    return tokenizer


def spec(**changes: Any) -> TextSpec:
    values: dict[str, Any] = {
        "context_length": 6,
        "pad_id": PAD,
        "padding": "longest",
        "tokenizer_json": upstream().to_str(),
    }
    return TextSpec(**(values | changes))


def test_a_batch_is_padded_to_its_longest_text() -> None:
    batch = Tokenizer(spec())(["a red bag", "shoe", ""])
    assert batch.input_ids.tolist() == [[0, 4, 5, 6, 1], [0, 7, 1, PAD, PAD], [0, 1, PAD, PAD, PAD]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert batch.truncated.tolist() == [False, False, False]
    assert batch.input_ids.dtype == np.int64
    assert batch.attention_mask.dtype == np.int64
    assert batch.truncated.dtype == np.bool_


def test_padding_context_is_always_the_context_length() -> None:
    batch = Tokenizer(spec(padding="context", pad_id=END))(["shoe"])
    assert batch.input_ids.tolist() == [[0, 7, END, END, END, END]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("cleaning", "text", "empty"),
    [
        ("none", "", True),
        ("none", " \n", True),
        ("none", "&nbsp;", False),
        ("clip", "&nbsp;&#32;", True),
        ("clip", "\0\x7f\ufeff\x1b[0m", True),
        ("clip", "!", False),
        ("clip", "\u200b", True),
        ("none", "\u2060\u200d ", True),
        ("none", "\u200b\u3042", False),
        ("whitespace", "\u00a0\u2003", True),
        ("canonicalize", "-- !", True),
        ("canonicalize", "a!", False),
    ],
)
def test_a_text_is_empty_where_cleaning_leaves_nothing(
    cleaning: Any, text: str, empty: bool
) -> None:
    tokenizer = Tokenizer(spec(cleaning=cleaning))
    assert tokenizer.is_empty(text) == empty
    [encoded] = tokenizer.encode_each([text])
    assert isinstance(encoded, InputError) == empty
    assert tokenizer.encode([""])[0] == [[START, END]], "which tells what every text has"


def test_what_a_tokenizer_drops_itself_is_empty_too() -> None:
    words = upstream()
    words.normalizer = normalizers.BertNormalizer(clean_text=True)
    tokenizer = Tokenizer(spec(tokenizer_json=words.to_str()))
    assert [tokenizer.is_empty(text) for text in ("\0\0", "a\0")] == [True, False]


def test_a_long_text_keeps_its_end_token_and_says_so() -> None:
    batch = Tokenizer(spec())(["a red bag shoe", "a red bag shoe a", "a " * 5000])
    assert batch.input_ids.tolist() == [[0, 4, 5, 6, 7, 1], [0, 4, 5, 6, 7, 1], [0, 4, 4, 4, 4, 1]]
    assert batch.truncated.tolist() == [False, True, True]


def test_what_is_cut_off() -> None:
    tokenizer = Tokenizer(spec())
    assert tokenizer.beyond("a red bag shoe") == (6, "")
    assert tokenizer.beyond("a red bag shoe a red") == (8, "a red")
    assert tokenizer.beyond("a " * 5000) == (5002, " ".join(["a"] * 4996))


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("a red shirt for women", True),
        ("Damenschuhe aus echtem Leder, Größe 42, für Mädchen", True),
        ("chemise rouge à manches longues pour été", True),
        ("EOSS-1234 XKCD 99 é", True),
        ("красная рубашка", False),
        ("红色衬衫女装", False),
        ("लाल कमीज महिलाओं के लिए", False),
        ("قميص أحمر للنساء", False),
        ("☃ 42", True),
        ("я", True),
    ],
)
def test_an_english_tokenizer_does_not_know_other_scripts(text: str, known: bool) -> None:
    from mismatch_openclip.tokenizer import tokenizer_json

    assert Tokenizer(TextSpec(77, 0, "longest", "clip", tokenizer_json())).knows(text) == known


def test_unknown_words_are_not_known() -> None:
    tokenizer = Tokenizer(spec())
    assert tokenizer.knows("a red bag shoe")
    assert not tokenizer.knows("a shiny blue umbrella")


def test_truncation_and_padding_stored_in_the_file_are_not_obeyed() -> None:
    tokenizer = upstream()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50, pad_id=9)
    assert Tokenizer(spec(tokenizer_json=tokenizer.to_str()))(["a red bag"]).input_ids.tolist() == [
        [0, 4, 5, 6, 1]
    ]


def test_the_dropout_of_pieces_is_for_training() -> None:
    """A text with a BPE's dropout would have other tokens each time."""
    spec = load_backbone("openclip", "tiny").text_spec
    data = json.loads(spec.tokenizer_json)
    data["model"]["dropout"] = 0.5
    drawn = Tokenizer(replace(spec, tokenizer_json=json.dumps(data)))
    texts = ["red shoes with stripes"] * 8
    assert drawn.encode(texts) == Tokenizer(spec).encode(texts)


def test_encode_and_pad_are_the_two_halves() -> None:
    tokenizer = Tokenizer(spec())
    ids, cut = tokenizer.encode(["shoe", "a red bag shoe a"])
    assert (ids, cut) == ([[0, 7, 1], [0, 4, 5, 6, 7, 1]], [False, True])
    assert tokenizer.pad(ids[:1]).input_ids.tolist() == [[0, 7, 1]]
    assert tokenizer.pad(ids[:1]).truncated.tolist() == [False]
    assert tokenizer.pad(ids, cut).truncated.tolist() == [False, True]


@pytest.mark.parametrize(("padding", "shape"), [("longest", (0, 1)), ("context", (0, 6))])
def test_no_texts_at_all(padding: Any, shape: tuple[int, int]) -> None:
    batch = Tokenizer(spec(padding=padding))([])
    assert (batch.input_ids.shape, batch.attention_mask.shape, batch.truncated.shape) == (
        shape,
        shape,
        (0,),
    )


def test_half_a_surrogate_pair_is_no_character() -> None:
    assert Tokenizer(spec())(["a \ud800 red \udfff"]).input_ids.tolist() == [
        [0, 4, UNKNOWN, 5, UNKNOWN, 1]
    ]


def test_cleaning_is_the_specs() -> None:
    assert Tokenizer(spec(cleaning="clip"))(["  LOWER &amp;amp;\n a "]).input_ids.tolist() == [
        [0, 9, 8, 4, 1]
    ]
    assert Tokenizer(spec(cleaning="none"))(["LOWER &amp; a"]).input_ids.tolist() == [
        [0, UNKNOWN, UNKNOWN, 4, 1]
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A  Red\tBag\r\n", "a red bag"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("&lt;b&gt;5 &euro;", "<b>5 €"),
        ("cafÃ©", "café"),
        ("“curly” ‘single’", "\"curly\" 'single'"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x00b\x07c", "abc"),
        ("ﬁne", "fine"),
        ("e\u0301", "é"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("İ", "i̇"),
        ("", ""),
        (" \u00a0\u3000\n", ""),
    ],
)
def test_clip_cleaning(text: str, expected: str) -> None:
    assert clean_clip(text) == expected


def test_plain_ascii_needs_no_mending() -> None:
    """The short cut gives what the long way gives, for every printable pair of characters."""
    characters = [chr(point) for point in range(32, 127)]
    for text in [f"X{a}{b} {a}y" for a in characters for b in characters if "&" not in (a, b)][::7]:
        assert (
            clean_clip(text)
            == " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
        )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_damaged_tokenizer_file_is_one_line(content: str) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json can't be read") as caught:
        Tokenizer(spec(tokenizer_json=content))
    assert "\n" not in str(caught.value)


def test_eight_threads_give_the_same() -> None:
    tokenizer = Tokenizer(spec())
    texts = [" ".join(WORDS[4 : 5 + i % 5]) for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: tokenizer([text]).input_ids.tolist(), texts))
    assert together == [tokenizer([text]).input_ids.tolist() for text in texts]


@pytest.mark.parametrize(
    ("text", "whitespace", "canonical"),
    [
        ("  A Red\n shirt,\tsize_L! ", "A Red shirt, size_L!", "a red shirt size l"),
        ("salt &amp;amp; pepper (2-pack)", "salt & pepper (2-pack)", "salt pepper 2pack"),
        ("ÀÉ “quoted” — dash", 'ÀÉ "quoted" — dash', "àé quoted — dash"),
        ("...", "...", ""),
    ],
)
def test_the_other_cleanings(text: str, whitespace: str, canonical: str) -> None:
    assert (clean_whitespace(text), clean_canonicalize(text)) == (whitespace, canonical)


def test_cleanings_are_open_clips() -> None:
    from open_clip.tokenizer import get_clean_fn

    ours = {"whitespace": clean_whitespace, "lower": clean_clip, "canonicalize": clean_canonicalize}
    texts = [
        "Größe_42 &lt;b&gt; it's",
        "\u00a0x\u2003Y  z",
        "cafÃ© !?",
        "a\x00B",
        "_ _",
        "ΟΔΥΣΣΕΥΣ İ",
        "“a” ‘b’",
    ]
    for name, clean in ours.items():
        assert [clean(text) for text in texts] == [get_clean_fn(name)(text) for text in texts]


LONG_REFERENCES = [
    "&#" + "1" * 4301 + ";",
    "&#" + "9" * 100_000,
    "&#x" + "f" * 100_000 + ";",
    "&#" + "0" * 5000 + "65;",
    "&#" + "0" * 9000 + ";",
]


@pytest.mark.parametrize("clean", [clean_clip, clean_whitespace, clean_canonicalize])
def test_references_of_any_number_of_digits_are_cleaned(clean: Any) -> None:
    cleaned = [clean(f"red {reference} bag") for reference in LONG_REFERENCES]
    assert [text.casefold() for text in cleaned] == [
        "red \ufffd bag",
        "red \ufffd bag",
        "red \ufffd bag",
        "red a bag",
        "red \ufffd bag",
    ]
    assert clean("red &amp;#" + "1" * 4301 + "; bag") == "red \ufffd bag", (
        "what comes out of the first unescaping too"
    )


@pytest.mark.parametrize(
    "number",
    [
        0,
        9,
        38,
        65,
        128,
        159,
        0xD800,
        0xFDD0,
        999_999,
        9_999_999,
        0x10FFFE,
        0x10FFFF,
        0x110000,
        10**8,
        10**4000,
    ],
)
@pytest.mark.parametrize("zeros", [0, 1, 7, 200])
def test_references_mean_what_they_mean_upstream(number: int, zeros: int) -> None:
    text = f"red &#{'0' * zeros}{number}; bag &#{number}x"
    assert clean_whitespace(text) == " ".join(html.unescape(html.unescape(text)).split())


HOSTILE = [
    "\ud800",
    "red \udc00 bag",
    "\x00",
    "red\x00bag",
    "".join(map(chr, range(32))),
    "\x7f\x80\x9f",
    "\ufffe\uffff",
    "\u202e\u200b\ufeff",
    "e" + "\u0301" * 3000,
]
HOSTILE += [
    "<|endoftext|>",
    "<|startoftext|> red <|endoftext|> bag",
    "<s>",
    "</s>",
    "[PAD]",
    "<pad>",
    "a" * 300_000,
    "🏳️‍🌈" * 3000,
    "ﷺ" * 1000,
    *LONG_REFERENCES,
]


@pytest.mark.parametrize("cleaning", ["none", "clip", "whitespace", "canonicalize"])
def test_every_text_can_be_encoded(cleaning: Any) -> None:
    from mismatch_openclip.tokenizer import tokenizer_json

    tokenizer = Tokenizer(TextSpec(77, 0, "longest", cleaning, tokenizer_json()))
    for text in HOSTILE:
        [ids], _ = tokenizer.encode([text])
        assert 2 <= len(ids) <= 77
        [encoded] = tokenizer.encode_each([text])
        assert isinstance(encoded, InputError) == tokenizer.is_empty(text)
        tokenizer.beyond(text)
        tokenizer.knows(text)


def failing_on(monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer, *words: str) -> None:
    real = tokenizer._clean

    def clean(text: str) -> str:
        if any(word in text for word in words):
            raise ValueError("a bug")
        return real(text)

    monkeypatch.setattr(tokenizer, "_clean", clean)


def test_a_text_that_cannot_be_encoded_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(spec())
    failing_on(monkeypatch, tokenizer, "shoe")
    first, bad, last = tokenizer.encode_each(["a red bag", "shoe", "red"])
    assert isinstance(bad, InputError)
    assert "a bug" not in str(bad)
    assert first == Encoded([0, 4, 5, 6, 1], cut=False)
    assert last == Encoded([0, 5, 1], cut=False)
    for ask in (tokenizer.beyond, tokenizer.knows, lambda text: tokenizer.encode(["red", text])):
        with pytest.raises(InputError, match="tokenized"):
            ask("shoe")
    with pytest.raises(InputError, match=r"'shoe x{54}…'"):
        tokenizer.encode(["shoe " + "x" * 10_000])


def test_a_cleaning_that_fails_on_all_texts_is_no_texts_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = Tokenizer(spec())
    failing_on(monkeypatch, tokenizer, "")
    with pytest.raises(ValueError, match="a bug"):
        tokenizer.encode_each(["a red bag", "shoe"])


@pytest.mark.parametrize("clean", [clean_clip, clean_whitespace, clean_canonicalize])
def test_accents_without_end_take_no_time_without_end(clean: Any) -> None:
    # as they are, as references, as garbled UTF-8
    for marks in (
        "\u0301\u0323" * 150_000,
        "&#769;&#803;" * 100_000,
        "\u00cc\u0081\u00cc\u00a3" * 100_000,
    ):
        # a minute and more where they are sorted as they come
        assert len(clean(f"e{marks} bag")) < 1000
    short = "e" + "\u0301\u0323" * 1000 + " bag"
    assert clean_whitespace(short) == " ".join(
        html.unescape(html.unescape(ftfy.fix_text(short))).split()
    )


def test_long_texts_are_mended_as_short_ones() -> None:
    text = "Ã©t&eacute; e\u0301 a\u0323\u0301 ﬁ â€œhighâ€\x9d &amp;lt; ﷺ \ud83d\ude00 ₂ 한글 "
    for long in (text * 200, text * 3000):
        assert clean_whitespace(long) == " ".join(
            html.unescape(html.unescape(ftfy.fix_text(long))).split()
        )


HIDDEN = [
    "<|endoftext|>",
    "<|startoftext|>",
    "<end_of_text>",
    "<start_of_text>",
    " <|endoftext|> ",
    "&lt;|endoftext|&gt;",
]


@pytest.mark.parametrize("token", HIDDEN)
@pytest.mark.parametrize("family", ["hf-clip", "openclip"])
def test_a_text_hides_nothing_behind_a_special_token(family: str, token: str) -> None:
    """CLIP's towers read no further than the first end token."""
    tokenizer = Tokenizer(load_backbone(f"{family}:tiny").text_spec)
    [plain, spelt], _ = tokenizer.encode(["a red square", f"a red square {token} which is blue"])
    assert spelt[: len(plain) - 1] == plain[:-1]
    assert [spelt.count(number) for number in (plain[0], plain[-1])] == [1, 1]
    assert len(spelt) > len(plain) + 3


@pytest.mark.parametrize("family", ["hf-clip", "openclip"])
def test_the_embedding_depends_on_what_follows_a_special_token(family: str) -> None:
    torch = pytest.importorskip("torch")
    backbone = load_backbone(f"{family}:tiny")
    texts = ["a red square", *(f"a red square {token} which is blue" for token in HIDDEN)]
    batch = Tokenizer(backbone.text_spec)(texts)
    with torch.no_grad():
        plain, *spelt = backbone.encode_text(
            torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
        )
    assert all((one - plain).norm() > 1e-3 * plain.norm() for one in spelt)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("model", ["words", "pieces"])
def test_a_special_token_that_stays_one_is_an_error_of_its_text(model: str, special: bool) -> None:
    """A vocabulary that holds "</s>" as a word or piece finds it there, however added tokens are
    read.
    """
    if model == "words":
        inner = Upstream(
            models.WordLevel({"</s>": 0, "<unk>": 1, "red": 2, "bag": 3}, unk_token="<unk>")
        )
    else:
        inner = Upstream(
            models.Unigram([("</s>", 0.0), ("<unk>", 0.0), ("red", -1.0), ("bag", -1.0)], 1)
        )
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    if special:
        inner.add_special_tokens(["</s>", "<unk>"])
    else:
        inner.add_tokens(["</s>"])
    tokenizer = Tokenizer(TextSpec(8, 0, "longest", "none", inner.to_str()))
    plain, hidden, unknown = tokenizer.encode_each(["red bag", "red </s> bag", "red \u7ea2 <unk>"])
    assert isinstance(plain, Encoded)
    assert plain.ids == [2, 3, 0]
    assert isinstance(hidden, InputError)
    assert "'</s>', a special token of the model" in str(hidden)
    assert isinstance(unknown, Encoded)
    assert 1 in unknown.ids
    with pytest.raises(InputError, match="red </s> bag"):
        tokenizer.encode(["red", "red </s> bag"])
