"""Which texts a tokenizer can't read: it sees single letters, bytes or unknown tokens of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mismatch.data.audit.writing_systems import WHOLE, UnreadShare, unread_line
from mismatch.errors import InputError
from mismatch.io.text import plural

if TYPE_CHECKING:
    import tokenizers

__all__ = [
    "ENGLISH",
    "UNKNOWN",
    "Fertility",
    "UnreadTexts",
    "fertility",
    "reads",
    "scripts_read",
    "unread_warning",
]

ENGLISH = "a woman in a red dress and a man with striped shirts near their small wooden house"
SAMPLES = {  # a sentence in each script, as captions and titles have them
    "Latin": ENGLISH,
    "Cyrillic": "женщина в красном платье и мужчина в полосатой рубашке у деревянного дома",
    "Greek": "μια γυναίκα με κόκκινο φόρεμα και ένας άντρας με ριγέ πουκάμισο μπροστά στο σπίτι",
    "Arabic": "امرأة ترتدي فستانا أحمر ورجل يرتدي قميصا مخططا أمام منزل خشبي صغير",
    "Hebrew": "אישה בשמלה אדומה וגבר בחולצה מפוספסת ליד בית עץ קטן",
    "Devanagari": "लाल पोशाक में एक महिला और धारीदार कमीज में एक आदमी लकड़ी के घर के पास",
    "Tamil": "சிவப்பு உடையில் ஒரு பெண் மற்றும் கோடிட்ட சட்டையில் ஒரு ஆண்",
    "Thai": "ผู้หญิงในชุดสีแดงและผู้ชายในเสื้อเชิ้ตลายทางหน้าบ้านไม้หลังเล็ก",
    "Han": "一位穿红色连衣裙的女士和一位穿条纹衬衫的男士站在小木屋旁边",
    "Kana": "あかいドレスのおんなのひととストライプのシャツをきたおとこのひと",
    "Hangul": "빨간 드레스를 입은 여자와 줄무늬 셔츠를 입은 남자가 작은 나무 집 앞에 있다",
}
SPACE = "\u2581"  # SentencePiece's
UNKNOWN = ("[UNK]", "<unk>")  # tokens for what a tokenizer doesn't know
FEW = 0.2  # share of unknown tokens that tells little of a text
MOST_LONE = 0.85  # of the tokens: in languages that are read, 0.1 to 0.5 are single letters
MOST_TOKENS = 0.75  # a letter: languages that are read have 0.2 to 0.6, others 0.9 to 3.3
TIMES_OWN = 1.5  # of the tokens a letter that the tokenizer makes of English, if that is more
PART_OF_WORD = 1.6  # letters of an alphabet, which a letter of Han or Hangul stands for
TESTED = 1000  # texts that are looked at
LEAST_SHARE = 0.01  # of the rows, which are worth a warning


class Fertility(NamedTuple):
    """Into how much a tokenizer breaks a text."""

    tokens: float  # a letter
    lone: float  # share of the tokens that are one letter or less of an alphabet
    unknown: float  # share of the tokens, or of the letters in them if that is more


def fertility(
    letters: str, encodings: Sequence[tokenizers.Encoding], unknown_ids: Collection[int | None]
) -> Fertility:
    """Return into how much a tokenizer broke what `letters_to_read` gave. `unknown_ids`: of tokens
    that stand for what it doesn't know; SentencePiece's are not to be told by their text.
    """
    tokens = [
        (letters[start:end].strip(), token in unknown_ids)
        for encoding in encodings
        for token, text, (start, end) in zip(
            encoding.ids, encoding.tokens, encoding.offsets, strict=True
        )
        if text != SPACE
    ]
    parts = [part for part, _ in tokens if part]
    unknown = [part for part, is_unknown in tokens if part and is_unknown]
    of_alphabet = [
        part for part, is_unknown in tokens if part and not (is_unknown or WHOLE.search(part))
    ]
    lone = sum(len(part) == 1 for part in of_alphabet)
    count = max(1, sum(map(len, letters.split())))
    whole = len(WHOLE.findall(letters))
    return Fertility(
        tokens=len(parts) / (count + (PART_OF_WORD - 1) * whole),
        lone=lone / max(1, len(of_alphabet)),
        unknown=max(len(unknown) / max(1, len(parts)), sum(map(len, unknown)) / count),
    )


def reads(text: Fertility, english: Fertility) -> bool:
    """Return whether a tokenizer reads a text, by what it makes of it and of `ENGLISH`. One whose
    tokens are letters reads every language in letters.
    """
    if text.unknown > FEW:
        return False
    if english.unknown > FEW:  # its own language is another
        english = Fertility(0.0, 0.0, 0.0)
    if text.lone > MOST_LONE and english.lone <= MOST_LONE:
        return False
    return text.tokens <= max(MOST_TOKENS, TIMES_OWN * english.tokens)


class Reader(Protocol):
    """A tokenizer, as far as it is asked here."""

    def knows(self, text: str) -> bool:
        """Return whether it reads a text; InputError for a text that can't be tokenized."""


class UnreadTexts:
    """Counts rows whose texts a tokenizer can't read, by the first `TESTED` different ones that are
    not in plain English letters.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._rows = 0
        self._foreign = 0  # rows
        self._seen: set[str] = set()
        self._share = UnreadShare()

    def add(self, text: str) -> None:
        """Count a row."""
        self._rows += 1
        if text.isascii():
            return
        self._foreign += 1
        if len(self._seen) == TESTED or text in self._seen:
            return
        self._seen.add(text)
        with suppress(InputError):  # the row has no score, and its status says why
            self._share.add(text, self._reader.knows(text))

    def warning(self) -> str | None:
        """Return what to say of texts that are not read; None where there are hardly any."""
        unread = self._share.unread()
        count = unread.total()
        if not count or count / self._share.total * self._foreign < LEAST_SHARE * self._rows:
            return None
        texts = plural(count, "text")
        if len(self._seen) == TESTED:
            texts = f"{count:,} of {TESTED:,} texts with other letters than English"
        [(script, _)] = unread.most_common(1)
        return f"{texts} {unread_line(script, count)}"


def scripts_read(reader: Reader) -> list[str]:
    """Return the scripts whose sample a tokenizer reads: Latin, Cyrillic, …"""
    scripts = []
    for script, sample in SAMPLES.items():
        with suppress(InputError):
            if reader.knows(sample):
                scripts.append(script)
    return scripts


def unread_warning(reader: Reader, texts: Iterable[str]) -> str | None:
    """Return what to say of texts that are not read; None where there are hardly any."""
    unread = UnreadTexts(reader)
    for text in texts:
        unread.add(text)
    return unread.warning()
