"""Words that messages share."""

from __future__ import annotations

from mismatch.io.text import did_you_mean, one_line, plural, printable


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


def test_what_a_terminal_would_obey_is_shown_by_its_code() -> None:
    assert printable("größe 👩‍👧 می‌خواهم") == "größe 👩‍👧 می‌خواهم"
    assert printable("a\x1b[2J\n\u202e\x00\ud800") == "a\\x1b[2J\\n\\u202e\\x00\\ud800"
