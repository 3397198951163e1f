"""What users write stays what it is in Markdown."""

from __future__ import annotations

import pytest

from mismatch.reports.markdown import code_span, plain_words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("train.csv", "`train.csv`"),
        ("a`b", "``a`b``"),
        ("`a``b", "``` `a``b ```"),
        ("", "`?`"),
        ("a\n\n# b\r\n<!-- c", "`a\\n\\n# b\\r\\n<!-- c`"),
        ("a  \t b", "`a \\t b`"),
        ("\u202egnp.exe", "`\\u202egnp.exe`"),
        ("größe 尺寸", "`größe 尺寸`"),
        ("a\u2028b", "`a\\u2028b`"),
    ],
)
def test_a_text_is_one_line_of_code(text: str, shown: str) -> None:
    assert code_span(text) == shown


def test_a_long_text_is_cut_short() -> None:
    assert code_span("x" * 1000) == f"`{'x' * 200}…`"


def test_plain_words_stay_plain_and_others_are_code() -> None:
    assert plain_words("best accuracy, at 0.95") == "best accuracy, at 0.95"
    assert plain_words("_a_") == "`_a_`"
    assert plain_words("https://a.example") == "`https://a.example`"
    assert plain_words("see www.a.example") == "`see www.a.example`"
    assert plain_words("a|b") == "`a|b`"
    assert plain_words("<b>") == "`<b>`"
    assert plain_words("[a](b)") == "`[a](b)`"
    assert plain_words("a\n") == "`a\\n`"
