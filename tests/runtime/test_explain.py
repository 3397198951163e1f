"""The wrong part of a text is named in any script. What an explanation has else: jobs/test_explain."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers.decoders import ByteLevel

from mismatch.runtime.explain import explain
from mismatch.runtime.explanation import Explanation
from mismatch.runtime.predictor import Predictor
from mismatch.words import word_spans
from tests.support.engines import ColourEngine, bytes_spec

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)


class Reader(ColourEngine):
    """An engine that reads: a text is red, and blue too where one of these words stands in it."""

    def __init__(self, *blue: str) -> None:
        super().__init__()
        self.text_spec = bytes_spec(800)
        self.blue = blue
        self.decoder = tokenizers.Tokenizer.from_str(self.text_spec.tokenizer_json)
        self.decoder.decoder = ByteLevel()

    def encode_texts(self, input_ids: Any, attention_mask: Any) -> Any:
        self.text_shapes.append(input_ids.shape)
        rows = zip(input_ids.tolist(), attention_mask.sum(axis=1).tolist(), strict=True)
        texts = [self.decoder.decode(ids[:length]) for ids, length in rows]
        return np.array(
            [[1, 0, any(word in text for word in self.blue)] for text in texts], np.float32
        )


def explained(text: str, *blue: str) -> Explanation:
    return explain(Predictor(Reader(*blue)), RED, text, heat_map=False)


def named(found: Explanation) -> list[str]:
    return [word.text for word in found.named]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("une chemise bleue délavée", "bleue"),
        ("ein blaues Hemd für Männer", "blaues"),
        ("पुरुषों की नीली सूती कमीज़", "नीली"),
        ("நீல பருத்தி சட்டை", "நீல"),
        ("قَمِيصٌ أَزْرَقُ قُطْنِيٌّ", "أَزْرَقُ"),
        ("قميص أزرق، قطن", "أزرق"),
        ("חולצה כְּחֻלָּה מכותנה", "כְּחֻלָּה"),
        ("синяя хлопковая рубашка", "синяя"),
        ("파란색 면 셔츠", "파란색"),
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_word_is_whole_with_its_marks(text: str, wrong: str, form: Any) -> None:
    text = unicodedata.normalize(form, text)
    wrong = unicodedata.normalize(form, wrong)
    found = explained(text, wrong)
    assert named(found) == [wrong]
    assert [word.text for word in found.words] == text.replace("،", "").split()
    assert [text[word.start : word.end] for word in found.words] == text.replace("،", "").split()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("男士蓝色棉衬衫，圆领", "蓝"),
        ("一件蓝色的衬衫", "蓝"),
        ("綿の青いシャツを着た人", "青"),
        ("เสื้อเชิ้ตสีฟ้าผ้าฝ้าย", "ฟ้"),
        ("男士T恤，蓝色，XL", "蓝"),
    ],
)
def test_without_blanks_the_wrong_letter_is_named(text: str, wrong: str) -> None:
    found = explained(text, wrong)
    assert named(found) == [wrong]
    assert found.named[0].effect == pytest.approx(2)
    start = text.index(wrong)
    assert (found.named[0].start, found.named[0].end) == (start, start + len(wrong))
    assert [(word.start, word.end) for word in found.words] == word_spans(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("男士青蓝棉衬衫，圆领", ["青", "蓝"]),
        ("綿の藍青のシャツを着た人", ["藍", "青"]),
        ("海军T蓝的衬衫和裤子", ["T", "蓝"]),
    ],
)
def test_several_letters_that_are_wrong_only_together_are_named(
    text: str, wrong: list[str]
) -> None:
    found = explained(text, *wrong)
    assert named(found) == ["".join(wrong)]
    assert all(word.effect == pytest.approx(0) for word in found.words)


def test_two_places_are_named_apart() -> None:
    class Two(Reader):
        def encode_texts(self, input_ids: Any, attention_mask: Any) -> Any:
            found = super().encode_texts(input_ids, attention_mask)
            rows = [self.decoder.decode(ids) for ids in input_ids.tolist()]
            found[:, 1] = ["绿" in text for text in rows]
            return found

    found = explain(Predictor(Two("蓝")), RED, "蓝色衬衫，配有绿色长裤", heat_map=False)
    assert sorted(named(found)) == ["绿", "蓝"]


def test_a_text_of_one_letter_is_named_and_a_match_has_no_names() -> None:
    assert named(explained("蓝", "蓝")) == ["蓝"]
    assert named(explained("红色衬衫", "蓝")) == []


def test_the_pieces_of_the_tokenizer_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(Reader("蓝色"))
    text = "男士蓝色棉衬衫"
    places = [(0, 2), (2, 4), (4, 5), (5, 7)]
    monkeypatch.setattr(predictor.pipeline.tokenizer, "_pieces", lambda run: places)
    found = explain(predictor, RED, text, heat_map=False)
    assert [word.text for word in found.words] == ["男士", "蓝色", "棉", "衬衫"]
    assert named(found) == ["蓝色"]


@pytest.mark.parametrize("text", ["蓝色" * 40, "蓝色" * 3000, "สีฟ้า" * 100])
def test_long_texts_stay_within_the_bounds(text: str) -> None:
    found = explained(text, "x")
    assert found.texts_encoded <= 257
    assert len(found.words) + len(found.phrases) <= 256
    assert found.left_out > 0


def test_of_a_text_with_too_many_phrases_the_short_ones_are_tried() -> None:
    found = explained("红" * 80 + "青蓝" + "红" * 10, "青", "蓝")
    assert len(found.words) == 92
    assert {len(phrase.text) for phrase in found.phrases} == {2, 3}
    assert named(found) == ["青蓝"]
