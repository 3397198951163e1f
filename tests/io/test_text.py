"""Words that messages share."""

from __future__ import annotations

from mismatch.io.text import did_you_mean, one_line, plural, printable, with_option_names


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


def test_options_in_a_message_have_another_surfaces_names() -> None:
    names = {"top": "--top", "resume": "--resume"}
    message = "pass `top=10` or `resume=True`, not `rows`"
    assert with_option_names(message, names) == "pass --top 10 or --resume, not `rows`"
    assert with_option_names("`top='a b'`", names) == '--top "a b"'
    assert with_option_names(message, {}) == message
