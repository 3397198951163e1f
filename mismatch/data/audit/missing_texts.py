"""What programs and people write in place of a text that is missing."""

from __future__ import annotations

import unicodedata

__all__ = ["is_missing_text"]

MAX_MARKS = 10  # characters of a text that is nothing but punctuation
OF_PROGRAMS = frozenset(
    {"nan", "none", "null", "nil", "n/a", "na", "<na>", "nat", "undefined", "(null)", "unknown"}
    | {"#n/a", "#na", "#null!", "#value!", "#ref!", "#name?", "#div/0!", "#num!", "#error!"}
)
OF_PEOPLE = frozenset(
    {"无", "無", "暂无", "暫無", "空", "なし", "無し", "없음", "нет", "لا يوجد", "غير متوفر"}
    | {"कोई नहीं", "उपलब्ध नहीं", "aucun", "aucune", "néant", "keine", "ninguno", "nessuno"}
    | {"no text", "no title", "no description", "no caption", "not available", "untitled", "tbd"}
)


def is_missing_text(text: str) -> bool:
    """Return whether a text stands for none: `nan`, `#N/A`, a dash. Emoji say something."""
    plain = unicodedata.normalize("NFC", text.strip().casefold())
    if plain in OF_PROGRAMS or plain in OF_PEOPLE:
        return True
    # punctuation, blanks, and characters that can't be seen
    return len(plain) <= MAX_MARKS and all(unicodedata.category(char)[0] in "PZC" for char in plain)
