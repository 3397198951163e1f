"""Words that messages share."""

from __future__ import annotations

from mismatch.io.text import did_you_mean, one_line, plural, visible


def test_words() -> None:
    assert did_you_mean("openclop", ["openclip", "hf-clip"]) == "; did you mean 'openclip'?"
    assert did_you_mean("x", ["openclip"]) == ""
    assert [plural(1, "row"), plural(0, "row"), plural(1024, "row")] == [
        "1 row",
        "0 rows",
        "1,024 rows",
    ]
    assert one_line(ValueError("one\n  two")) == "ValueError: one two"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_a_text_of_anybodys_stays_one_line() -> None:
    assert visible("a\nb\x1b[2J\u2028\u202e\x85") == r"a\nb\x1b[2J\u2028\u202e\x85"
    assert visible("größe, 赤い, 👩‍🚀") == "größe, 赤い, 👩‍🚀"
