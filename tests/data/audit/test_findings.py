"""mismatch.data.audit.findings: what is doubtful about rows that could be trained on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.audit import findings
from mismatch.data.audit.findings import (
    Sampled,
    TextCheck,
    blind_images,
    common_images,
    near_duplicates,
    text_key,
)
from mismatch.data.near_duplicates import Fingerprint
from mismatch.data.pairs import Row
from mismatch.errors import InputError


def found(rows: list[tuple[str, str, int]]) -> dict[str, Any]:
    check = TextCheck()
    for line, (image, text, label) in enumerate(rows, start=2):
        check.add(Row(line, image, text, label, {}))
    return {finding.kind: finding for finding in check.findings()}


def clean(count: int) -> list[tuple[str, str, int]]:
    draw = random.Random(0)
    words = ["red", "blue", "green", "shirt", "shoe", "bag", "cotton", "summer", "large", "small"]
    return [
        (f"{number // 2}.jpg", f"{' '.join(draw.sample(words, 4))} {number}", draw.randrange(2))
        for number in range(count)
    ]


def test_clean_texts_raise_no_doubt() -> None:
    assert (
        found([*clean(500), ("a.jpg", "size < 40 & more > 3, R&D, AT&T; Café Zürich №5", 1)]) == {}
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a <b>red</b> shirt", "markup"),
        ("a red<br/>shirt", "markup"),
        ("Johnson &amp; Johnson", "markup"),
        ("it&#39;s red", "markup"),
        ("a cafÃ© in ZÃ¼rich", "garbled"),
        ("donâ€™t", "garbled"),
    ],
)
def test_left_overs_are_named_with_their_lines(text: str, kind: str) -> None:
    [finding] = found([*clean(50), ("a.jpg", text, 1), ("b.jpg", text + " too", 0)]).values()
    assert (finding.kind, finding.count, finding.lines) == (kind, 2, [52, 53])
    assert finding.message.startswith("2 texts ")
    assert f"(lines 52, 53: {text!r})" in finding.message


def test_one_text_everywhere_is_named() -> None:
    rows = [*clean(300), *((f"x{number}.jpg", "Product image", 1) for number in range(30))]
    finding = found(rows)["boilerplate"]
    assert (finding.count, finding.lines) == (30, [303])
    assert finding.message.startswith(
        "the text 'Product image' stands in 30 of 330 rows, as in line 303"
    )
    assert "boilerplate" not in found(
        [*clean(300), *((f"x{number}.jpg", "Product image", 1) for number in range(12))]
    )


def test_texts_that_tell_the_labels_are_named() -> None:
    rows = [
        (image, f"{text} copy" if not label else text, label) for image, text, label in clean(600)
    ]
    finding = found(rows)["blind"]
    assert finding.message.startswith(
        "texts alone tell the labels (AUROC 1.00), so that a model could ignore the images; words"
        " as 'copy' (100% of "
    )


class Reader:
    """A tokenizer of whole words, which knows Latin letters."""

    context_length = 12

    def beyond(self, text: str) -> tuple[int, str]:
        words = text.split()
        return len(words) + 2, " ".join(words[10:])

    def knows(self, text: str) -> bool:
        return "к" not in text


def test_what_a_backbone_can_not_read_is_named() -> None:
    check = TextCheck(Reader())
    for line, text in enumerate(
        [
            "red shirt",
            "one two three four five six seven eight nine ten eleven twelve",
            "красная рубашка",
        ],
        start=2,
    ):
        check.add(Row(line, "a.jpg", text, 1, {}))
    long, unread, script = sorted(
        check.findings(), key=lambda finding: finding.kind.replace("script", "z")
    )
    assert (
        long.message
        == "1 text is longer than the backbone's 12 tokens, up to 14; what is lost (line 3: '…"
        " eleven twelve')"
    )
    assert "1 text is in a language that the model can't read" in unread.message
    assert "XLM-RoBERTa" in unread.message
    assert unread.message.endswith("(line 4: 'красная рубашка')")
    assert script.message.startswith("1 text is written in Cyrillic letters, most are in Latin; ")


class Failing(Reader):
    """A tokenizer that can't encode what is green."""

    def beyond(self, text: str) -> tuple[int, str]:
        if "green" in text:
            raise InputError("the text can't be tokenized")
        return super().beyond(text)


def test_a_text_that_a_tokenizer_fails_on_is_named_and_ends_nothing() -> None:
    check = TextCheck(Failing())
    for line, text in enumerate(
        ["a red shirt for men", "a green shirt for men", "a blue shirt for men"], start=2
    ):
        check.add(Row(line, "a.jpg", text, 1, {}))
    [finding] = [finding for finding in check.findings() if finding.kind == "untokenized"]
    assert (finding.count, finding.lines) == (1, [3])


def test_one_script_alone_is_no_doubt() -> None:
    assert (
        found([(f"{number}.jpg", f"красная рубашка {number}", number % 2) for number in range(50)])
        == {}
    )


def test_the_same_words_have_the_same_key() -> None:
    assert text_key("Red shirt, size 4") == text_key("size 4: RED SHIRT")
    assert text_key("red shirt") != text_key("red shirts")
    assert text_key("☃") != text_key("☂")


def test_images_that_stand_oddly_often() -> None:
    images = {
        "none.png": list(range(2, 32)),
        **{f"{number}.jpg": [number] for number in range(40, 340)},
    }
    [finding] = common_images(images)
    assert (finding.kind, finding.count) == ("common-image", 30)
    assert list(common_images({name: lines[:19] for name, lines in images.items()})) == []
    assert list(common_images({f"{number}.jpg": list(range(30)) for number in range(100)})) == []


def test_images_without_a_fingerprint_say_nothing_of_labels() -> None:
    rows = [Sampled(f"t{number}", number % 2, f"{number}.jpg") for number in range(300)]
    assert blind_images(rows, [None] * 300) == (None, [])
    made = [Fingerprint(0, bytes([200 if number % 2 else 50]) * 192) for number in range(300)]
    auroc, [finding] = blind_images(rows, [*made[:250], *[None] * 50])
    assert auroc == pytest.approx(1)
    assert (finding.kind, finding.count) == ("blind-image", 250)


def test_a_sample_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "SAMPLE", 200)
    check = TextCheck()
    for line, (image, text, label) in enumerate(clean(2000)):
        check.add(Row(line, image, f"{text} copy" if not label else text, label, {}))
    assert len(check.sample) == 200
    assert (
        len(
            {text for text, *_ in check.sample}
            & {f"{text} copy" if not label else text for _, text, label in clean(2000)[:200]}
        )
        < 60
    )
    assert [finding.kind for finding in check.findings()] == ["blind"]


def test_near_duplicates_within_and_between_files() -> None:
    one, two, three = (
        Fingerprint(value, bytes([value % 251]) * 192)
        for value in (0, 2**64 - 1, 0x5555555555555555)
    )
    prints = {"a": one, "a2": one, "b": two, "c": three, "c2": three}
    files = [{"a": [2, 3], "a2": [4], "b": [5], "c": [6]}, {"b": [2], "c2": [3, 4]}]
    within, leaks = near_duplicates(files, prints)
    [finding] = within[0]
    assert (finding.kind, finding.count, finding.lines) == ("near-duplicates", 1, [4])
    assert finding.message == "1 image is a near-duplicate of another one, as in line 4"
    assert within[1] == []
    assert leaks == {(0, 1): {"c"}}, "b is the same file in both, which is said elsewhere"


def test_images_without_a_fingerprint_are_left_out(tmp_path: Path) -> None:
    assert near_duplicates([{"a": [2]}, {"a": [2], "b": [3]}], {}) == ([[], []], {})
