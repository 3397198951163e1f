"""mismatch.data.audit.writing_systems: which script a text is written in, and what reads it."""

from __future__ import annotations

import pytest

from mismatch.data.audit.writing_systems import (
    UnreadShare,
    letters_to_read,
    main_script,
    unread_line,
)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("red shirt 42", "latin"),
        ("Größe für Mädchen", "latin"),
        ("красная рубашка Nike", "cyrillic"),
        ("赤いシャツ、女性用", "cjk"),
        ("红色衬衫", "cjk"),
        ("빨간 셔츠", "hangul"),
        ("قميص أحمر", "arabic"),
        ("लाल कमीज", "devanagari"),
        ("Ｒｅｄ", "latin"),
        ("42 – 7½ ☃", None),
        ("12345", None),
        ("", None),
        ("µ ª", None),
    ],
)
def test_the_script_of_most_letters(text: str, script: str | None) -> None:
    assert main_script(text) == script


@pytest.mark.parametrize("script", ["arabic", "cyrillic", "cjk", "devanagari", "latin", ""])
@pytest.mark.parametrize(("count", "verb"), [(1, "is"), (7, "are")])
def test_what_reads_a_script_is_said(script: str, count: int, verb: str) -> None:
    line = unread_line(script, count)
    assert line.startswith(f"{verb} in a language that the model can't read")
    assert "SigLIP 2" in line
    assert ("Chinese-CLIP" in line) == (script == "cjk")


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("", ""),
        ("☃ 42 – XL", ""),
        ("я", ""),
        ("Färöer", ""),  # a name alone tells nothing
        ("été à Köln-Süd, 3 Stück", "été Köln Süd Stück"),
        ("a red shirt for women", "red shirt for women"),
        ("Nike красная майка", "красная майка"),
        ("red shirt made of cotton, 红", "red shirt made of cotton 红"),
        ("Nike майка", ""),
        ("红裙", ""),
        ("红色连衣裙", "红色连衣裙"),
    ],
)
def test_the_letters_that_tell(text: str, letters: str) -> None:
    assert letters_to_read(text) == letters


def test_scripts_most_of_whose_texts_are_unread() -> None:
    share = UnreadShare()
    for text, is_read in [
        ("красная рубашка", False),
        ("синяя рубашка", True),
        ("قميص أحمر للرجال", False),
        ("قميص أزرق للرجال", True),
        ("قميص أخضر للرجال", True),
        ("я", False),
    ]:
        share.add(text, is_read)
    assert (share.total, share.unread()) == (5, {"cyrillic": 1})
