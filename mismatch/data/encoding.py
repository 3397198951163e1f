"""The encoding of files of text: UTF-8, or the one that a user names. Guesses are only shown."""

from __future__ import annotations

import codecs
import io
from encodings.aliases import aliases
from typing import IO

from mismatch.errors import InputError
from mismatch.io.text import did_you_mean

__all__ = ["Utf8Bytes", "check_encoding", "codec_name", "guess_encoding", "is_utf8"]

BLOCK = 2**16  # characters that are converted at a time
ASCII = "image_path,text\n"  # what every encoding of a table can say
WRONG = "wrong-bytes"  # name of the error handler below
# encodings that programs for spreadsheets and databases write → the letters beyond ASCII that their
# languages use most; where two say as much, the first one is meant
RUSSIAN = "оеаинтсрвлкмдпуяы"
WESTERN = "éàèêâîôûùëïçœäöüßáíóúñãõåøæòì"
LETTERS = {
    "cp1252": WESTERN,
    "cp1254": "çğıöşüâîûi̇",
    "cp1250": "ąćęłńóśźżáčďéěíňřšťúůýžőűöüäăâîôşţëç",
    "cp1257": "āčēģīķļņšūžąęėįųäöõüåæøó",
    "cp1251": RUSSIAN,
    "koi8_r": RUSSIAN,
    "cp1253": "αειοςστνηρκπλάέίό",
    "cp1255": "יולתהרמאבשנקם",
    "cp1256": "اليمنتربةدسوعقحأ",
    "cp874": "กานรอเงมลยวสตทดคบปพหขแสะำัิีึืุู็่้์",
    "mac_roman": WESTERN,
}
# the same of encodings with two bytes a character → first bytes of their common ones, the least
# second byte, and the first bytes of signs, which tell nothing
PAIRS = {
    "cp949": ((0xB0, 0xC8), 0xA1, (0xA1, 0xAC)),
    "gb18030": ((0xB0, 0xD7), 0xA1, (0xA1, 0xA3)),
    "big5hkscs": ((0xA4, 0xC6), 0x40, (0xA1, 0xA3)),
    "euc_jp": ((0xA4, 0xCF), 0xA1, (0xA1, 0xA3)),
    "cp932": ((0x82, 0x97), 0x40, (0x81, 0x81)),
}
LATIN = ("cp1252", "cp1254", "cp1250", "cp1257", "mac_roman")
GUESSED = (*LETTERS, *PAIRS)
SIGNS = {*"“”‘’„‚«»–—…•·°€£©®™×½¼²¡\xa0\u200e\u200f،؛؟"}
IN_CAPITALS = 0.75  # weight of a letter in a word of capitals, which are rarer
FEW = 3  # bytes beyond ASCII; fewer don't tell scripts apart
MAX_CHAOS = 0.5  # that charset_normalizer sees in a text; short ones and tabs look worse
MIN_SHARE = 0.5  # of common letters; below it a guess is none


def check_encoding(name: object) -> None:
    """Raise InputError for what names no encoding of text."""
    try:
        if isinstance(name, str) and ASCII.encode(name).decode(name) == ASCII:
            return
    except (LookupError, ValueError):  # not known; not one of text, or not able to say that
        pass
    hint = (
        did_you_mean(name, {*aliases, *aliases.values()} - {name}) if isinstance(name, str) else ""
    )
    raise InputError(
        f"`encoding` is {name!r}; the name of an encoding such as 'gb18030', 'shift_jis',"
        f" 'cp1252' or 'utf-16' is needed{hint}"
    )


def codec_name(encoding: str | None) -> str:
    """Return what Python calls an encoding; utf-8 where none is named."""
    name = "utf-8" if encoding is None else codecs.lookup(encoding).name
    return "utf-8" if name == "utf-8-sig" else name


def is_utf8(encoding: str | None) -> bool:
    """Return whether a file needs no conversion."""
    return codec_name(encoding) == "utf-8"


class Utf8Bytes(io.RawIOBase):
    """A file of text in another encoding, as the bytes that it would have in UTF-8.

    Bytes that say nothing in that encoding become 0xff, which says nothing in UTF-8 either.
    """

    def __init__(self, file: IO[bytes], encoding: str, name: object) -> None:
        """Take `name`: what errors call the file."""
        self._text = io.TextIOWrapper(file, encoding, errors=WRONG, newline="")
        self._about = f"{name} can't be read as {encoding}"
        self._waiting = memoryview(b"")  # converted, not yet read
        self._position = 0  # bytes of UTF-8

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as a block goes, and return how far; 0 at the end."""
        if not self._waiting:
            self._waiting = memoryview(self._block())
        part = self._waiting[: len(buffer)]
        buffer[: len(part)] = part
        self._waiting = self._waiting[len(part) :]
        self._position += len(part)
        return len(part)

    def _block(self) -> bytes:
        try:
            return self._text.read(BLOCK).encode("utf-8", WRONG)
        except UnicodeError as error:  # no mark at the beginning of UTF-16
            raise InputError(f"{self._about}: {error}; pass another `encoding`") from error

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to the beginning, or stay: nowhere else."""
        if (offset, whence) == (0, io.SEEK_CUR):
            return self._position
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation("only the beginning can be found again")
        self._text.seek(0)
        self._waiting = memoryview(b"")
        self._position = 0
        return 0

    def close(self) -> None:
        self._text.close()
        super().close()


def _wrong_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Stand for what can't be decoded by half of a character, and for that by a byte."""
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    if isinstance(error, UnicodeEncodeError):
        return b"\xff" * (error.end - error.start), error.end
    raise error


codecs.register_error(WRONG, _wrong_bytes)


def guess_encoding(sample: bytes) -> str | None:
    """Return which encoding lines that are not UTF-8 are probably in; None where nothing fits."""
    from charset_normalizer import from_bytes

    matches = from_bytes(
        sample, cp_isolation=list(GUESSED), preemptive_behaviour=False, threshold=MAX_CHAOS
    )
    names = {name for match in matches for name in match.could_be_from_charset}
    if sum(byte > 0x7F for byte in sample) < FEW:
        names &= {*LATIN}  # an accent in a word, if anything
    shares = {name: _common_share(sample, name) for name in GUESSED if name in names}
    best = max(shares, key=lambda name: shares[name], default=None)
    return best if best is not None and shares[best] >= MIN_SHARE else None


def _common_share(sample: bytes, encoding: str) -> float:
    """Return which share of the letters beyond ASCII are common ones of an encoding, 0..1."""
    text = sample.decode(encoding, "replace")
    weigh = _letters if encoding in LETTERS else _pairs
    weights = weigh(text, encoding)
    return sum(weights) / max(1, len(weights))


def _letters(text: str, encoding: str) -> list[float]:
    """Return 1 for each letter beyond ASCII that is common, else 0; less for a capital in a word,
    and where Latin letters stand next to each other, or other ones next to those of ASCII.
    """
    weights = []
    for before, letter in zip(" " + text, text, strict=False):
        if letter.isascii() or letter in SIGNS:
            continue
        weight = 1.0
        if letter.isupper() and before.isalpha():
            weight = IN_CAPITALS if before.isupper() else 0.0
        if before.isalpha() and before.isascii() != (encoding in LATIN):
            weight /= 2
        weights.append(weight if letter.lower() in LETTERS[encoding] else 0.0)
    return weights


def _pairs(text: str, encoding: str) -> list[float]:
    """Return 1 for each character beyond ASCII, but signs, that is common, else 0."""
    (low, high), lowest_second, (first_sign, last_sign) = PAIRS[encoding]
    codes = [letter.encode(encoding, "replace") for letter in text if not letter.isascii()]
    return [
        float(len(code) == 2 and low <= code[0] <= high and code[1] >= lowest_second)
        for code in codes
        if not first_sign <= code[0] <= last_sign
    ]
